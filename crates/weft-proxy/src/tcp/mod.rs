//! Opaque bytes: the same way as HTTP, one level down. Accept, identify, route, authorise, connect, copy.

mod serve;
mod server_name;

pub(crate) use serve::{inbound, outbound, refused};
pub(crate) use server_name::server_name;
