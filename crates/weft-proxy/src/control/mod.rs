//! The proxy's side of the control plane: what the request path asks of it, and the client that speaks to it.
//!
//! The request path knows only the two handles below: [`Needs`] asks for something that the snapshot lacks, and
//! `reports` carries telemetry away. The client itself (join, delta stream, renewal, reports, last-good file) lives in
//! the other files of this folder and runs on one control thread; it owns the receivers.
//!
//! Contract between the two sides:
//! * The client keeps the `View`, calls [`crate::snapshot::build`] with each change and stores the result with
//!   [`crate::Shared::publish`]; the returned rejections go back as a NACK.
//! * A [`NeedRequest`] is answered *after* the snapshot that holds the answer has been published.

mod client;
mod connect;
mod last_good;
mod leases;
mod limits;
mod membership;
mod problems;

use crate::{PortStates, SetLogLevel, Shared};
use client::{Client, Command, Queues};
pub use leases::Leases;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};
use weft_model::{Protocol, Root, SpiffeId};
use weft_pki::{SvidState, TrustBundle, files};
use weft_proto::v1;
use weft_telemetry::Report;

/// Where the control plane is and how it is known.
#[derive(Debug, Clone)]
pub struct ControlEndpoint {
    /// Its address for proxies.
    pub address: SocketAddr,
    /// Roots of the trust domain, PEM. They name it.
    pub bundle_pem: String,
    /// Needed once; good for one use. Without it the proxy must have joined before, with the same state folder.
    pub join_token: Option<String>,
}

/// What the control client tells about this proxy, and where it keeps its own.
#[derive(Clone)]
pub struct ClientConfig {
    /// The control plane.
    pub endpoint: ControlEndpoint,
    /// Folder for certificate, key and last good configuration; made with mode 0700.
    pub state_dir: PathBuf,
    /// Is this a gateway?
    pub gateway: bool,
    /// Ports of the workload: see [`workload_port`].
    pub ports: Vec<v1::WorkloadPort>,
    /// May callers be sent here from the first moment? Else not before [`ControlHandle::set_health`] says so.
    pub healthy: bool,
    /// Where the admin endpoint is.
    pub admin: Option<SocketAddr>,
    /// Called when the control plane wants another log level.
    pub set_log_level: Option<SetLogLevel>,
    /// Ports of a gateway: those that cannot be opened are told to the control plane.
    pub gateway_ports: Option<watch::Receiver<PortStates>>,
}

/// How things stand with the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlStatus {
    /// The workload, once joined.
    pub workload_id: Option<String>,
    /// Its identity.
    pub identity: Option<String>,
    /// Is there a stream?
    pub connected: bool,
    /// Has the control plane sent the state of things on this stream?
    pub synced: bool,
    /// Is there a configuration to serve with, of now or of the last good file?
    pub ready: bool,
    /// Its generation.
    pub generation: u64,
    /// End of the certificate, seconds since 1970.
    pub certificate_not_after_s: u64,
    /// Renewals since the start.
    pub renewals: u64,
    /// What went wrong last, while it does.
    pub last_error: Option<String>,
    /// Why this proxy can never join as it was started.
    pub refused: Option<String>,
}

/// Why there is no control client, or no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] files::FileError),
    /// The bundle cannot be used.
    #[error("the trust bundle that this proxy was given cannot be used: {0}")]
    Bundle(String),
    /// No thread or runtime.
    #[error("the control client cannot start: {0}")]
    Start(#[from] std::io::Error),
    /// The proxy may not join.
    #[error("{0}")]
    Refused(String),
    /// Nothing came in time.
    #[error("no configuration came from the control plane in time{}", last.as_ref().map_or(String::new(), |text| format!(": {text}")))]
    Late {
        /// What went wrong last.
        last: Option<String>,
    },
}

/// A running control client. Dropping it ends the client without a good-bye: the workload stays in the catalogue for a grace.
#[derive(Debug)]
pub struct ControlHandle {
    commands: Option<mpsc::Sender<Command>>,
    status: watch::Receiver<ControlStatus>,
    thread: Option<JoinHandle<()>>,
}

/// The identity cell of a new proxy: it trusts the roots of `endpoint`, and has no certificate before it joins.
///
/// # Errors
/// When the bundle is no PEM of roots of one trust domain.
pub fn identity(endpoint: &ControlEndpoint) -> Result<SvidState, ControlError> {
    Ok(SvidState::new(trust(endpoint)?.0))
}

fn trust(endpoint: &ControlEndpoint) -> Result<(TrustBundle, SpiffeId), ControlError> {
    let bundle = TrustBundle::from_roots(&endpoint.bundle_pem).map_err(|error| ControlError::Bundle(error.to_string()))?;
    let domain = bundle.trust_domains().next().unwrap_or_default().to_owned();
    let control = SpiffeId::new(&domain, "weft-system", "control").map_err(|error| ControlError::Bundle(error.to_string()))?;
    Ok((bundle, control))
}

/// A port of the workload, as it is told to the control plane.
pub fn workload_port(port: u16, advertise: SocketAddr, protocol: Protocol) -> v1::WorkloadPort {
    let name = match protocol {
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tls => "tls",
        Protocol::Https => "https",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Auto => "",
    };
    v1::WorkloadPort { port: port.into(), name: String::new(), protocol: name.into(), address: advertise.to_string() }
}

/// Starts the client on a thread of its own. It publishes into `shared` and installs certificates in `shared.svid`.
///
/// # Errors
/// When the state folder or the bundle cannot be used. That the control plane is away is none: see [`ControlStatus`].
pub fn start(
    config: ClientConfig,
    shared: Arc<Shared>,
    needs: mpsc::Receiver<NeedRequest>,
    reports: mpsc::Receiver<Report>,
) -> Result<ControlHandle, ControlError> {
    files::private_dir(&config.state_dir)?;
    let (trust, identity) = trust(&config.endpoint)?;
    let target = connect::Target { address: config.endpoint.address, identity };
    let (commands, receiver) = mpsc::channel(8);
    let (sender, status) = watch::channel(ControlStatus::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let queues = Queues { needs, reports, commands: receiver, status: sender };
    let run = move || {
        let client = Client::new(config, target, trust, shared, queues);
        runtime.block_on(client.run());
    };
    let thread = std::thread::Builder::new().name("weft-control".into()).spawn(run)?;
    Ok(ControlHandle { commands: Some(commands), status, thread: Some(thread) })
}

impl ControlHandle {
    /// How things stand.
    pub fn status(&self) -> ControlStatus {
        self.status.borrow().clone()
    }

    /// Follows how things stand.
    pub fn watch(&self) -> watch::Receiver<ControlStatus> {
        self.status.clone()
    }

    /// Waits until there is a configuration to serve with: of the control plane, or of the last good file.
    ///
    /// # Errors
    /// When this proxy was refused, or nothing came within `deadline`.
    pub async fn ready(&self, deadline: Duration) -> Result<(), ControlError> {
        let mut status = self.status.clone();
        let decided = status.wait_for(|status| status.ready || status.refused.is_some());
        let refused = match tokio::time::timeout(deadline, decided).await {
            Ok(Ok(status)) => status.refused.clone(),
            // The thread ended: only a panic does that while the handle is there, and it was logged.
            Ok(Err(_)) => Some("the control client ended".into()),
            Err(_) => return Err(ControlError::Late { last: self.status().last_error }),
        };
        refused.map_or(Ok(()), |reason| Err(ControlError::Refused(reason)))
    }

    /// The workload's health changed.
    pub fn set_health(&self, healthy: bool) {
        if let Some(commands) = &self.commands {
            // A full queue means that the client is busy with newer health already, or gone.
            commands.try_send(Command::Health(healthy)).ok();
        }
    }

    /// Says good-bye, so that callers go elsewhere, and ends the client. Call it before the listeners are drained.
    pub async fn leave(mut self) {
        if let Some(commands) = self.commands.take() {
            let (answer, left) = oneshot::channel();
            if commands.send(Command::Leave(answer)).await.is_ok() {
                left.await.ok();
            }
        }
    }
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        // The loop ends when its queue does, after it has kept the last good configuration.
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was logged by its hook.
            thread.join().ok();
        }
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig").field("address", &self.endpoint.address).field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// The answer to a cold miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed {
    /// The snapshot now holds the service with this fully qualified host.
    Resolved(String),
    /// The mesh does not know it.
    Unknown,
    /// No answer in time: the control plane is slow or away.
    Timeout,
}

/// One question, as the control client receives it.
#[derive(Debug)]
pub struct NeedRequest {
    /// What is missing.
    pub root: Root,
    /// Where the answer goes. The asker may have left.
    pub answer: oneshot::Sender<Needed>,
}

/// Asks the control plane for what the snapshot lacks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Needs {
    requests: mpsc::Sender<NeedRequest>,
}

impl Needs {
    /// The handle and the queue that the control client serves. When the queue is full or gone, every need times out at once.
    pub fn channel() -> (Self, mpsc::Receiver<NeedRequest>) {
        let (requests, receiver) = mpsc::channel(crate::limits::NEEDS_QUEUED_MAX);
        (Self { requests }, receiver)
    }

    /// Asks for `root` and waits at most `deadline`. Cancellation forgets the answer only.
    pub async fn need(&self, root: Root, deadline: Duration) -> Needed {
        let (answer, receiver) = oneshot::channel();
        if self.requests.try_send(NeedRequest { root, answer }).is_err() {
            return Needed::Timeout;
        }
        match tokio::time::timeout(deadline, receiver).await {
            Ok(Ok(needed)) => needed,
            Ok(Err(_)) | Err(_) => Needed::Timeout,
        }
    }
}
