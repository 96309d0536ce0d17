//! The HTTP/2 engine over byte pipes: against itself, against other implementations, and against peers that break rules.

mod peer;
mod roundtrip;

mod conformance;
mod corpus;
mod interleaving;
mod interop;
mod malformed;
