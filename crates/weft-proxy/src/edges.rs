//! Who calls whom, resolved once per connection and endpoint, so that counting a request copies no name.

use crate::{
    http::{Connection, peer_of},
    upstream::Upstream,
    worker::{Config, Worker},
};
use http::HeaderValue;
use std::{cell::RefCell, rc::Rc};
use weft_model::Endpoint;
use weft_telemetry::{Edge, EdgeName, Party, ProtocolKind, Reporter};

/// Edges kept at one place: a few, because protocol and introduction hardly change there.
const KEPT_MAX: usize = 8;

/// The edges that a connection or an endpoint has had.
#[derive(Debug, Default)]
pub(crate) struct EdgeCache {
    kept: RefCell<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    own: Rc<Party>,
    peer_said: Option<HeaderValue>,
    kind: ProtocolKind,
    mtls: bool,
    edge: Rc<Edge>,
}

/// What tells the edges of one connection or endpoint apart.
pub(crate) struct Asked<'a> {
    /// Names this proxy's workload.
    pub config: &'a Config,
    /// `x-weft-peer` of the other end.
    pub peer_said: Option<&'a HeaderValue>,
    /// What is spoken.
    pub kind: ProtocolKind,
    /// Over mutual TLS?
    pub mtls: bool,
}

impl EdgeCache {
    /// The edge of a request that came in at `port`.
    pub(crate) fn inbound(&self, worker: &Worker, conn: &Connection, port: u16, asked: &Asked<'_>) -> Rc<Edge> {
        self.find(asked).unwrap_or_else(|| {
            let source = conn.caller(asked.peer_said);
            let ports = asked.config.snapshot.inbound.as_ref().map(|i| i.ports.as_slice()).unwrap_or_default();
            let service = ports.iter().find(|p| p.port == port).map(|p| p.service.as_str()).unwrap_or_default();
            self.keep(asked, resolve(worker, Reporter::Destination, &source, &asked.config.own, service, asked))
        })
    }

    /// The edge of a request to `endpoint`, whose certificate is `principal`'s.
    pub(crate) fn outbound(
        &self,
        worker: &Worker,
        endpoint: &Endpoint,
        upstream: &Upstream,
        principal: &str,
        asked: &Asked<'_>,
    ) -> Rc<Edge> {
        self.find(asked).unwrap_or_else(|| {
            let host = upstream.entry().cluster.name.host.clone();
            let destination = asked.peer_said.and_then(|said| peer_of(said, principal.to_owned())).unwrap_or_else(|| Party {
                workload: endpoint.workload_name.clone(),
                namespace: endpoint.namespace.clone(),
                service: host.split('.').next().unwrap_or_default().to_owned(),
                version: endpoint.version.clone(),
                principal: endpoint.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
            });
            self.keep(asked, resolve(worker, Reporter::Source, &asked.config.own, &destination, &host, asked))
        })
    }

    fn find(&self, asked: &Asked<'_>) -> Option<Rc<Edge>> {
        let kept = self.kept.borrow();
        let same = |k: &&Kept| {
            k.kind == asked.kind && k.mtls == asked.mtls && Rc::ptr_eq(&k.own, &asked.config.own) && k.peer_said.as_ref() == asked.peer_said
        };
        kept.iter().find(same).map(|k| k.edge.clone())
    }

    fn keep(&self, asked: &Asked<'_>, edge: Rc<Edge>) -> Rc<Edge> {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        let (own, peer_said) = (asked.config.own.clone(), asked.peer_said.cloned());
        kept.push(Kept { own, peer_said, kind: asked.kind, mtls: asked.mtls, edge: edge.clone() });
        edge
    }
}

/// The edge of a request that reached no endpoint.
pub(crate) fn unreached(worker: &Worker, host: &str, asked: &Asked<'_>) -> Rc<Edge> {
    resolve(worker, Reporter::Source, &asked.config.own, &Party::default(), host, asked)
}

fn resolve(worker: &Worker, reporter: Reporter, source: &Party, destination: &Party, service: &str, asked: &Asked<'_>) -> Rc<Edge> {
    worker.metrics(|metrics| {
        let (source, destination, service) = (metrics.party(source), metrics.party(destination), metrics.service(service));
        metrics.edge(EdgeName { reporter, source, destination, service, kind: asked.kind, mtls: asked.mtls })
    })
}
