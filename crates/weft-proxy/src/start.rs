//! A whole proxy: workers and control client, started and ended together.

use crate::{
    Program, ProxyConfig, ProxyHandle, Role, Shared,
    control::{self, ClientConfig, ControlEndpoint, ControlError, ControlHandle, ControlStatus, Needs},
    limits, otlp,
};
use std::{io, time::Duration};
use tokio::sync::mpsc;

/// A running proxy with its control client. Dropping it stops both at once; [`Proxy::drain`] lets requests finish.
#[derive(Debug)]
pub struct Proxy {
    control: ControlHandle,
    workers: ProxyHandle,
    programs: Vec<(u16, Program)>,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Its side of the control plane.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Threads or sockets.
    #[error("the proxy's workers cannot start: {0}")]
    Workers(#[from] io::Error),
}

impl Proxy {
    /// Starts the workers on the sockets of `config`, and the client that joins the control plane at `endpoint`.
    ///
    /// # Errors
    /// When the state folder, the bundle or the sockets cannot be used. That the control plane is away is no error.
    pub fn start(config: ProxyConfig, endpoint: ControlEndpoint) -> Result<Self, ProxyError> {
        let (needs, need_requests) = Needs::channel();
        let (reports, report_queue) = mpsc::channel(limits::REPORTS_QUEUED_MAX);
        let report_queue = match &config.otlp {
            Some(collector) => otlp::start(collector, &config.name, report_queue)?,
            None => report_queue,
        };
        let shared = Shared::new(control::identity(&endpoint)?, needs, reports);
        let mut client = ClientConfig {
            endpoint,
            state_dir: config.state_dir.clone(),
            gateway: config.role == Role::Gateway,
            ports: config.inbound.iter().map(|i| control::workload_port(i.workload_port, i.advertise, i.protocol)).collect(),
            // Without a configuration everything would be refused: callers come when `ready` or `follow_health` has said so.
            healthy: false,
            admin: config.admin.as_ref().and_then(|listener| listener.local_addr().ok()),
            set_log_level: config.set_log_level.clone(),
            gateway_ports: None,
        };
        let programs = config.inbound.iter().map(|i| (i.workload_port, i.program.clone())).collect();
        let workers = crate::serve(config, shared.clone())?;
        client.gateway_ports = Some(workers.follow_gateway_ports());
        let control = control::start(client, shared, need_requests, report_queue)?;
        Ok(Self { control, workers, programs })
    }

    /// Waits until it has joined and has a configuration to serve with; answers its identity. A program that accepts connections
    /// by then is healthy from here on; [`Proxy::follow_health`] watches one that may start later or stop.
    ///
    /// # Errors
    /// When the control plane refuses it, or nothing came within `deadline`.
    pub async fn ready(&self, deadline: Duration) -> Result<String, ControlError> {
        self.control.ready(deadline).await?;
        if self.program_accepts().await {
            self.control.set_health(true);
        }
        Ok(self.control.status().identity.unwrap_or_default())
    }

    /// How things stand with the control plane.
    pub fn status(&self) -> ControlStatus {
        self.control.status()
    }

    /// The workers.
    pub fn workers(&self) -> &ProxyHandle {
        &self.workers
    }

    /// Tells the control plane whether the program accepts connections on all of its ports, for as long as this future is polled:
    /// callers are not sent to a program that has not started or has stopped to listen.
    pub async fn follow_health(&self) -> std::convert::Infallible {
        let mut told = None;
        let mut wait = limits::HEALTH_INTERVAL_MIN;
        loop {
            let healthy = self.program_accepts().await;
            if told != Some(healthy) {
                self.control.set_health(healthy);
                told = Some(healthy);
            }
            // Quick while the program starts, rare once it runs.
            wait = if healthy { (wait * 2).min(limits::HEALTH_INTERVAL_MAX) } else { limits::HEALTH_INTERVAL_MIN };
            tokio::time::sleep(wait).await;
        }
    }

    async fn program_accepts(&self) -> bool {
        for (port, program) in &self.programs {
            if program.connect(*port, limits::HEALTH_TIMEOUT).await.is_err() {
                return false;
            }
        }
        true
    }

    /// A successor serves on the same sockets, as the same workload: lets requests in flight finish until `deadline`, and ends. It stays
    /// in the catalogue.
    pub async fn retire(self, deadline: Duration) {
        self.workers.begin_drain();
        drop(self.control);
        self.workers.drain(deadline).await;
    }

    /// Leaves the catalogue, lets requests in flight finish until `deadline`, and ends.
    pub async fn drain(self, deadline: Duration) {
        // Who asks for readiness hears of it before the control plane does, which may be away.
        self.workers.begin_drain();
        self.control.leave().await;
        self.workers.drain(deadline).await;
    }
}
