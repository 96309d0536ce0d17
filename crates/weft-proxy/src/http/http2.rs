//! The options that this proxy's HTTP/2 connections are served with: made once per worker, shared by its connections.

use super::connection::MESH_IDLE;
use crate::{limits, worker::Settings};
use std::{rc::Rc, sync::Arc, time::Duration};
use weft_model::ConnectionLimits;
use weft_wire::http2::Options;

pub(crate) struct Http2 {
    /// From another proxy.
    mesh: Rc<Options>,
    /// From anybody else.
    edge: Rc<Options>,
    client: Options,
}

impl Http2 {
    pub(crate) fn new(settings: &Arc<Settings>) -> Self {
        let told = settings.clone();
        let common = Options {
            streams_max: limits::H2_STREAMS_MAX,
            stream_window_bytes: limits::H2_STREAM_WINDOW_BYTES,
            connection_window_bytes: limits::H2_CONNECTION_WINDOW_BYTES,
            header_bytes_max: limits::HEADER_BYTES_MAX,
            headers_max: limits::HEADERS_MAX,
            head_timeout: settings.header_timeout,
            ping_interval: Some(limits::H2_PING_INTERVAL),
            ping_timeout: limits::H2_PING_TIMEOUT,
            on_limit: Rc::new(move |limit| told.registry.limit(limit).inc()),
            ..Options::default()
        };
        Self {
            mesh: Rc::new(Options { idle: Some(MESH_IDLE), ..common.clone() }),
            edge: Rc::new(Options { idle: Some(limits::DOWNSTREAM_IDLE_TIMEOUT), ..common.clone() }),
            client: Options { streams_max: limits::H2_UPSTREAM_STREAMS_MAX, headers_max: limits::RESPONSE_HEADERS_MAX, ..common },
        }
    }

    /// For a connection that came in.
    pub(crate) fn server(&self, mesh: bool) -> Rc<Options> {
        if mesh { self.mesh.clone() } else { self.edge.clone() }
    }

    /// For a connection to an upstream within these limits, which is kept so long while it is idle; zero: for ever.
    pub(crate) fn client(&self, idle: Duration, limits: &ConnectionLimits) -> Rc<Options> {
        let pings = limits.http2_keepalive.as_ref();
        Rc::new(Options {
            idle: Some(idle).filter(|idle| !idle.is_zero()),
            streams_max: limits.streams_max.map_or(self.client.streams_max, |most| most.max(1)),
            ping_interval: pings.map(|p| Duration::from_millis(p.interval_ms)).or(self.client.ping_interval),
            ping_timeout: pings.map_or(self.client.ping_timeout, |p| Duration::from_millis(p.timeout_ms)),
            ..self.client.clone()
        })
    }
}
