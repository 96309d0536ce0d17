//! `weft up --demo`: a small shop inside the mesh, a load generator and one planted fault.

mod apps;
mod echo;
mod http;
mod load;

pub(crate) use echo::{DemoAppArgs, app};
