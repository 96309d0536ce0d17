//! `PeerAuthentication`: who may connect without mutual TLS.

use super::WorkloadSelector;
use crate::diag;
use crate::node::Node;
use crate::read::{Path, Read, Reader, Spanned};
use std::collections::BTreeMap;

object! {
    /// `security.istio.io PeerAuthentication`: what mutual TLS some workloads ask for.
    pub struct PeerAuthentication {
        /// Workloads; absent: all of the namespace (all of the mesh in the root namespace).
        selector: Option<WorkloadSelector> = "selector",
        /// The mode; absent: inherited.
        mtls: Option<Spanned<MutualTls>> = "mtls",
        /// Modes of single workload ports.
        port_level_mtls: PortModes = "portLevelMtls",
    }
}

object! {
    /// A mode.
    pub struct MutualTls {
        /// The mode; absent: inherited.
        mode: Option<PeerTlsMode> = "mode",
    }
}

choice! {
    /// What a port accepts.
    pub enum PeerTlsMode {
        /// Inherited.
        Unset = "UNSET",
        /// Plain text only.
        Disable = "DISABLE",
        /// Both.
        Permissive = "PERMISSIVE",
        /// Mutual TLS only.
        Strict = "STRICT",
    }
}

/// Modes by workload port.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortModes(pub BTreeMap<u16, Spanned<MutualTls>>);

impl Read for PortModes {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let fields = reader.fields(node, at)?;
        let mut modes = Some(BTreeMap::new());
        for field in fields {
            let path = Path::Name(at, &field.name);
            let mode = Spanned::<MutualTls>::read(&field.node, &path, reader);
            let port = field.name.parse::<u16>().ok().filter(|p| *p != 0);
            if port.is_none() {
                let place = reader.place(field.line, &path);
                reader.report(diag::bad_value(place, &format!("{} is not a port", diag::quote(&field.name))));
            }
            modes = modes.zip(port.zip(mode)).map(|(mut modes, (port, mode))| {
                modes.insert(port, Spanned { line: field.line, ..mode });
                modes
            });
        }
        modes.map(Self)
    }
    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}
