//! Bounds on configuration text. Each has a name, a unit and a reason.

/// Largest text accepted at once, in bytes: some thousands of objects, and well below what would hurt the control plane.
pub const TEXT_BYTES_MAX: usize = 32 << 20;
/// Largest single document, in bytes. Kubernetes stores at most 1.5 MiB per object; a `List` may hold many.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// Most YAML nodes in one document after aliases are expanded: what stops a "billion laughs".
pub const DOCUMENT_NODES_MAX: usize = 1_000_000;
/// Most nodes that aliases and merge keys may add to one document.
pub const ALIAS_NODES_MAX: usize = 100_000;
/// Deepest nesting of lists and objects. The deepest legal resource has about 20 levels.
pub const NESTING_LEVELS_MAX: usize = 64;
/// Most diagnostics reported for one document; the rest is counted, not listed.
pub const DOCUMENT_DIAGNOSTICS_MAX: usize = 100;
/// Longest piece of user text quoted in a message, in characters.
pub const QUOTE_CHARS_MAX: usize = 60;
/// Most documents (and most findings) of one text.
pub const DOCUMENTS_MAX: usize = 100_000;
