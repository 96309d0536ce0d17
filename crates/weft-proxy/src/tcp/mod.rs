//! Opaque bytes: the same way as HTTP, one level down. Accept, identify, route, authorise, connect, copy.

mod serve;

mod tunnel;

pub(crate) use serve::{gateway, inbound, outbound, refused};
