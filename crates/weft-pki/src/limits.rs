//! Limits on what others feed to this crate.

/// Bytes of a certificate signing request.
pub const CSR_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a PEM or key file that is read.
pub const PEM_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Certificates that a peer may send.
pub const CHAIN_LENGTH_MAX: usize = 8;

/// Client configurations kept, one per expected identity and ALPN. Beyond it all are dropped and made again when asked for.
pub const CLIENT_CONFIGS_MAX: usize = 4096;

/// The shortest life of a leaf, in seconds.
pub const LEAF_TTL_S_MIN: u64 = 2;
