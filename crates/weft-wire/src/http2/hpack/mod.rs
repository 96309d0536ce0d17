//! HPACK, the compression of headers (RFC 7541).
//!
//! Table entries hold parsed values (`http`'s names and values, methods, paths), so that an indexed field costs a reference count
//! and neither a check nor an allocation. A field that is not legal HTTP is an entry like any other, because both ends' tables
//! must stay in step; it is [`Field::Bad`] wherever it is used.

mod decode;
mod encode;
mod huffman;
mod table;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;
pub(crate) use table::Field;

/// What an entry costs beside its name and value (RFC 7541 §4.1).
pub(crate) const ENTRY_OVERHEAD: usize = 32;
/// Size of both tables. A peer may lower the one that we send with, never raise it above this.
pub(crate) const TABLE_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
