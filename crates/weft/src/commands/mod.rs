//! The commands over the REST API, one file each. Every command prints a table for people, and what the API said with `-o json|yaml`.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod get;
pub(crate) mod proxy;
pub(crate) mod status;
pub(crate) mod tap;
pub(crate) mod top;
pub(crate) mod value;
pub(crate) mod why;
