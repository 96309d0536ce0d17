//! Opaque bytes: the same way as HTTP, one level down. Accept, identify, route, authorise, connect, copy.

mod serve;

pub(crate) use serve::{inbound, outbound, refused};
