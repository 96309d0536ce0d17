//! Gateway API.
use crate::link::Linker;
pub(crate) fn link(_linker: &mut Linker<'_>) {}
