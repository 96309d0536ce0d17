//! The PROXY protocol (haproxy.org, version 2.3 of the text): whether a connection begins by saying for whom it is.

use serde::{Deserialize, Serialize};

/// The form that is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyProtocol {
    /// One line of text.
    #[default]
    V1,
    /// Binary.
    V2,
}
