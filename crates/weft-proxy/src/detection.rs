//! What the ports of destinations turned out to speak, where nothing is declared: so that a connection to a port on which the server
//! speaks first does not wait for bytes that never come.
//!
//! Only the wait is saved. Bytes that are there at once are looked at all the same, and whatever is concluded, the connection is
//! judged: as HTTP by requests, otherwise as bytes, for which rules about requests never allow and always may deny.

use crate::{
    http::{Connection, Scope},
    limits::{DETECTED_KEPT, DETECTED_MAX},
};
use foldhash::HashMap;
use std::cell::RefCell;
use weft_std::clock::Instant;
use weft_telemetry::Registry;

/// Which destination: a service and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Connection {
    /// Where a connection of the own program goes; `None` when it is of no service. What comes in is not learnt about: its first bytes
    /// tell whether it is a peer of the mesh, and are always waited for.
    pub(crate) fn place(&self) -> Option<Place> {
        match &self.scope {
            Scope::Outbound { port, service: Some(service), proxy: false } => Some(Place { host: service.host.to_string(), port: *port }),
            Scope::Outbound { .. } | Scope::Inbound { .. } | Scope::Gateway { .. } => None,
        }
    }
}

/// Learnt on one worker.
#[derive(Debug, Default)]
pub(crate) struct Detection {
    server_first: RefCell<HashMap<Place, Instant>>,
}

impl Detection {
    /// Does the server speak first there, as far as was seen?
    pub(crate) fn is_server_first(&self, place: &Place, now: Instant) -> bool {
        self.server_first.borrow().get(place).is_some_and(|until| *until > now)
    }

    /// A connection on which the client was silent got its first bytes from the server.
    pub(crate) fn server_spoke_first(&self, place: &Place, now: Instant, registry: &Registry) {
        let mut known = self.server_first.borrow_mut();
        if known.len() >= DETECTED_MAX && !known.contains_key(place) {
            known.clear();
            registry.limit("DETECTED_MAX").inc();
        }
        if known.insert(place.clone(), now + DETECTED_KEPT).is_none() {
            tracing::info!(
                host = place.host,
                port = place.port,
                "the server speaks first on this port: connections to it are not looked at any more"
            );
            registry
                .counter("weft_protocols_learned_total", "Ports found to speak a protocol in which the server speaks first.", &[])
                .inc();
        }
    }

    /// A client spoke first: what was learnt was wrong, or is not so any more.
    pub(crate) fn client_spoke_first(&self, place: &Place) {
        if !self.server_first.borrow().is_empty() {
            self.server_first.borrow_mut().remove(place);
        }
    }

    /// For `/config`.
    pub(crate) fn describe(&self, now: Instant) -> serde_json::Value {
        let known = self.server_first.borrow();
        let mut places: Vec<&Place> = known.iter().filter(|(_, until)| **until > now).map(|(place, _)| place).collect();
        places.sort();
        places.iter().map(|p| serde_json::json!({ "host": p.host, "port": p.port, "speaksFirst": "server" })).collect()
    }
}
