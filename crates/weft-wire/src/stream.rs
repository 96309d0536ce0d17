//! One type for any byte stream: an indirect call per read or write is nothing beside the system call, and what is built on it is compiled once.

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Any stream.
pub type Io = Box<dyn Stream>;
