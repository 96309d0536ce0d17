//! Drives the session of one proxy: between its stream, the mesh, the registry and its status.

use super::{Shared, limits};
use crate::{Nack, ProxyCommand, ProxyProblem, ProxyRole, ProxySession, ProxyStatus, ResourceStatus, mesh_watch::MeshWatch};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use weft_compile::{ProxyIdentity, RegisteredPort};
use weft_model::{Inbound, ModelValue, Origin, Protocol, ResourceName, Root, RootState, View, Workload};
use weft_pki::Peer;
use weft_proto::v1;
use weft_std::clock::{self, Instant};
use weft_xds::{Hello, Projected, ResourceState, ServerEvent, ServerOutput, ServerSession, limits::SILENCE_MAX};

/// One proxy's session.
pub(crate) struct Session {
    shared: Arc<Shared>,
    peer: Peer,
    machine: ServerSession,
    responses: mpsc::Sender<Result<v1::DeltaResponse, Status>>,
    mesh: MeshWatch,
    proxy: Option<Proxy>,
    /// Changes are waiting to be sent together until then.
    push_at: Option<Instant>,
    /// Generation and roots of the last projection.
    projected: Option<(u64, BTreeSet<Root>)>,
}

/// A proxy that has said who it is, and may be it.
struct Proxy {
    workload: Workload,
    role: ProxyRole,
    registered_at: Instant,
    status: ProxySession,
    left: bool,
}

/// Why a session ends.
enum End {
    /// The stream did, or a newer session took over, or the proxy left.
    Quiet,
    /// This side ends it, and says so.
    Refused(Box<Status>),
}

fn refused(status: Status) -> End {
    End::Refused(Box::new(status))
}

/// What woke the session.
enum Wake {
    Request(Box<v1::DeltaRequest>),
    Mesh,
    Command(ProxyCommand),
    Time,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, peer: Peer, responses: mpsc::Sender<Result<v1::DeltaResponse, Status>>) -> Self {
        let mesh = shared.parts.mesh.clone();
        let machine = ServerSession::new(clock::now());
        Self { shared, peer, machine, responses, mesh, proxy: None, push_at: None, projected: None }
    }

    /// Until the stream ends.
    pub(crate) async fn run(mut self, mut requests: Streaming<v1::DeltaRequest>) {
        let end = loop {
            let woken = match self.wait(&mut requests).await {
                Ok(woken) => woken,
                Err(end) => break end,
            };
            if let Err(end) = self.wake(woken).await {
                break end;
            }
        };
        if let End::Refused(status) = end {
            let workload = self.proxy.as_ref().map_or("", |proxy| &proxy.workload.id);
            tracing::info!(identity = %self.peer.id, workload, reason = status.message(), "a session was ended");
            // The proxy may be gone already.
            self.responses.send_timeout(Err(*status), SILENCE_MAX).await.ok();
        }
        self.end().await;
    }

    async fn wait(&mut self, requests: &mut Streaming<v1::DeltaRequest>) -> Result<Wake, End> {
        let at = self.machine.next_timeout().into_iter().chain(self.push_at).min();
        let commands = async {
            match &mut self.proxy {
                Some(proxy) => proxy.status.commands.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Each arm is cancel safe: a message, a generation or a command is taken whole or not at all.
            request = requests.message() => match request {
                Ok(Some(request)) => Ok(Wake::Request(Box::new(request))),
                Ok(None) | Err(_) => Err(End::Quiet),
            },
            mesh = self.mesh.changed() => mesh.map(|_| Wake::Mesh).ok_or(End::Quiet),
            // The sender is gone when a newer session of the same workload took over.
            command = commands => command.map(Wake::Command).ok_or(End::Quiet),
            () = sleep_until(at) => Ok(Wake::Time),
        }
    }

    async fn wake(&mut self, woken: Wake) -> Result<(), End> {
        let now = clock::now();
        match woken {
            Wake::Request(request) => self.machine.input(now, ServerEvent::Request(request)),
            // The earlier of the two: the wait for the workload's own generation ends with it.
            Wake::Mesh => self.push_at = self.push_at.into_iter().chain([now + limits::DEBOUNCE]).min(),
            Wake::Command(ProxyCommand::Tap(tap)) => self.machine.input(now, ServerEvent::Tap(tap)),
            Wake::Command(ProxyCommand::LogLevel(level)) => self.machine.input(now, ServerEvent::LogLevel(level)),
            Wake::Time => {
                self.machine.timeout(now);
                self.check_expiry()?;
            }
        }
        if self.push_at.is_some_and(|at| at <= now) {
            self.push_at = None;
            self.project(now);
        }
        self.outputs(now).await
    }

    async fn outputs(&mut self, now: Instant) -> Result<(), End> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                ServerOutput::Send(response) => {
                    let sent = self.responses.send_timeout(Ok(response), SILENCE_MAX).await;
                    sent.map_err(|_| End::Quiet)?;
                }
                ServerOutput::Hello(hello) => self.hello(now, *hello).await?,
                ServerOutput::Project => self.project(now),
                ServerOutput::Health(healthy) => {
                    if let Some(proxy) = &self.proxy {
                        let saved = self.shared.parts.registry.set_health(&proxy.workload.id, healthy, clock::unix_ms()).await;
                        if let Err(error) = saved {
                            tracing::error!(workload = proxy.workload.id, %error, "a workload's health could not be saved");
                        }
                    }
                }
                ServerOutput::Problems(problems) => {
                    if let Some(proxy) = &self.proxy {
                        proxy.status.update(clock::unix_ms(), |status| status.problems = problems.into_iter().map(problem).collect());
                    }
                }
                ServerOutput::Leases(wants) => {
                    if let Some(proxy) = &self.proxy {
                        let mesh = self.mesh.current();
                        let grants = self.shared.leases.answer(now, &proxy.workload.id, self.machine.resources(), &mesh.mesh, wants);
                        self.machine.input(now, ServerEvent::Leases(grants));
                    }
                }
                ServerOutput::Status => self.tell_status(),
                ServerOutput::Left => {
                    if let Some(proxy) = &mut self.proxy {
                        proxy.left = true;
                    }
                    return Err(End::Quiet);
                }
                ServerOutput::Close(error) => return Err(refused(Status::aborted(error.to_string()))),
            }
        }
        Ok(())
    }

    /// The proxy says who it is; the certificate says whether it may be.
    async fn hello(&mut self, now: Instant, hello: Hello) -> Result<(), End> {
        let registry = &self.shared.parts.registry;
        let workload = match registry.enrolled(&hello.workload_id) {
            Some(workload) => workload,
            None => self.unknown_workload(&hello)?,
        };
        if workload.identity != self.peer.id {
            let text = format!("workload {} is not {}: join again with a token of its own", workload.id, self.peer.id);
            return Err(refused(Status::permission_denied(text)));
        }
        let ports = hello.ports.iter().map(registered_port).collect::<Result<Vec<_>, _>>()?;
        let claimed = if hello.gateway { ProxyRole::Gateway } else { ProxyRole::Sidecar };
        let role = registry.granted_role(&workload.id).unwrap_or(ProxyRole::Sidecar);
        if claimed != role {
            let text = format!("workload {} was not granted the role of a {claimed:?}: join with a token for it", workload.id);
            return Err(refused(Status::permission_denied(text)));
        }
        let now_ms = clock::unix_ms();
        let registered = registry.register(workload.clone(), ports, hello.healthy, role, now_ms).await;
        if let Err(error) = registered {
            // The workload is in the catalogue all the same; only a restart of the control plane would forget it.
            tracing::error!(workload = workload.id, %error, "a workload could not be saved");
        }
        let status = ProxyStatus {
            id: workload.id.clone(),
            namespace: workload.namespace.clone(),
            workload: workload.name.clone(),
            identity: self.peer.id.to_string(),
            role,
            version: hello.program_version,
            generation: hello.generation,
            roots: self.machine.roots().clone(),
            resources: resources(self.machine.resources()),
            admin: hello.admin,
            certificate_not_after_unix_s: self.valid_until_s(),
            ..ProxyStatus::default()
        };
        let status = self.shared.parts.proxies.connect(status, now_ms);
        tracing::info!(workload = workload.id, identity = %self.peer.id, "a proxy is connected");
        self.proxy = Some(Proxy { workload, role, registered_at: now, status, left: false });
        Ok(())
    }

    /// A workload that was enrolled before the store was lost: its certificate still proves its namespace and account, and what
    /// it was granted beside that it tells itself. Never a gateway, which is sent private keys.
    fn unknown_workload(&self, hello: &Hello) -> Result<Workload, End> {
        let id = &hello.workload_id;
        let namespace = id.split_once('/').map_or("", |(namespace, _)| namespace);
        if namespace != self.peer.id.namespace() || hello.workload_name.is_empty() || id.len() > 512 {
            let text = format!("no workload {id:?} has joined here: join again with a new token");
            return Err(refused(Status::not_found(text)));
        }
        tracing::warn!(workload = %id, identity = %self.peer.id, "a workload that this control plane does not know was taken back");
        let origin =
            Origin { kind: "Workload".into(), namespace: namespace.into(), name: hello.workload_name.clone(), ..Origin::default() };
        Ok(Workload {
            id: id.clone(),
            name: hello.workload_name.clone(),
            namespace: namespace.into(),
            identity: self.peer.id.clone(),
            labels: hello.labels.clone(),
            locality: String::new(),
            origin,
        })
    }

    /// Hands the machine the view of the newest mesh.
    fn project(&mut self, now: Instant) {
        let Some(proxy) = &self.proxy else { return };
        let mesh = self.mesh.current();
        if mesh.generation == 0 {
            // Nothing is loaded yet: an empty view would take everything away.
            return;
        }
        let compiled = proxy.role == ProxyRole::Gateway || mesh.mesh.workloads.contains_key(&proxy.workload.id);
        if !compiled && now < proxy.registered_at + limits::COMPILE_WAIT {
            // The generation with this workload is being made; its change wakes the session, or at the latest this does.
            self.push_at = Some(proxy.registered_at + limits::COMPILE_WAIT);
            return;
        }
        let roots = self.machine.roots().clone();
        if self.projected.as_ref().is_some_and(|(generation, projected)| (*generation, projected) == (mesh.generation, &roots)) {
            return;
        }
        let mut projection = weft_compile::project(&mesh.mesh, &identity_of(proxy), &roots);
        if !mesh.mesh.workloads.contains_key(&proxy.workload.id) {
            // A gateway is in no catalogue: who it is, only its grant says.
            name_workload(&mut projection.view, &proxy.workload);
        }
        let states = projection.roots.into_iter().map(|(root, state)| (root, root_state(state))).collect();
        let projected = Projected { generation: mesh.generation, view: projection.view, roots: states };
        self.projected = Some((mesh.generation, roots));
        self.machine.input(now, ServerEvent::Projected(Arc::new(projected)));
    }

    fn tell_status(&self) {
        let Some(proxy) = &self.proxy else { return };
        let until_s = self.valid_until_s();
        proxy.status.update(clock::unix_ms(), |status| {
            status.generation = self.machine.generation();
            status.roots.clone_from(self.machine.roots());
            status.resources = resources(self.machine.resources());
            status.certificate_not_after_unix_s = until_s;
        });
    }

    fn valid_until_s(&self) -> i64 {
        self.shared.valid_until_s(&self.peer).try_into().unwrap_or(i64::MAX)
    }

    /// A stream may outlive the certificate that opened it, but not the last one of its identity.
    fn check_expiry(&self) -> Result<(), End> {
        if let Some(proxy) = &self.proxy {
            proxy.status.update(clock::unix_ms(), |status| status.certificate_not_after_unix_s = self.valid_until_s());
        }
        match clock::unix_s() > self.shared.valid_until_s(&self.peer) + limits::EXPIRY_GRACE_S {
            true => Err(refused(Status::unauthenticated("the certificate of this proxy has expired and was not renewed"))),
            false => Ok(()),
        }
    }

    async fn end(self) {
        let Some(proxy) = self.proxy else { return };
        let (id, now_ms, parts) = (&proxy.workload.id, clock::unix_ms(), &self.shared.parts);
        if !proxy.status.is_current() {
            return;
        }
        if proxy.left {
            tracing::info!(workload = %id, "a proxy left");
            if let Err(error) = parts.registry.leave(id).await {
                tracing::error!(workload = %id, %error, "a workload that left could not be removed from the store");
            }
            parts.proxies.forget(id);
        } else {
            tracing::info!(workload = %id, "the session of a proxy broke");
            parts.registry.session_lost(id, now_ms);
            proxy.status.end(now_ms);
        }
    }
}

/// Puts the workload, as it was granted, into its own side of the view.
fn name_workload(view: &mut View, workload: &Workload) {
    let own = view.values.get(&ResourceName::Inbound).map(|versioned| versioned.value.clone());
    if let Some(ModelValue::Inbound(inbound)) = own.as_deref() {
        view.insert(ModelValue::Inbound(Inbound { workload: workload.clone(), ..inbound.clone() }));
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => tokio::time::sleep(Duration::from_secs(3600)).await,
    }
}

fn identity_of(proxy: &Proxy) -> ProxyIdentity {
    ProxyIdentity {
        workload_id: proxy.workload.id.clone(),
        namespace: proxy.workload.namespace.clone(),
        labels: proxy.workload.labels.clone(),
        identity: proxy.workload.identity.clone(),
        role: match proxy.role {
            ProxyRole::Sidecar => weft_compile::ProxyRole::Sidecar,
            ProxyRole::Gateway => weft_compile::ProxyRole::Gateway,
        },
    }
}

fn root_state(state: weft_compile::RootState) -> RootState {
    match state {
        weft_compile::RootState::Resolved(host) => RootState::Resolved(host),
        weft_compile::RootState::Unknown => RootState::Unknown,
    }
}

fn registered_port(wire: &v1::WorkloadPort) -> Result<RegisteredPort, End> {
    let wrong = |what: &str| refused(Status::invalid_argument(format!("port {} is registered with {what}", wire.port)));
    Ok(RegisteredPort {
        port: u16::try_from(wire.port).ok().filter(|port| *port > 0).ok_or_else(|| wrong("a number that is no port"))?,
        address: wire.address.parse().map_err(|_| wrong(&format!("{:?}, which is no socket address", wire.address)))?,
        protocol: Protocol::from_name(&wire.protocol).unwrap_or_else(|| Protocol::select(None, &wire.name, 0, "TCP")),
        name: wire.name.clone(),
    })
}

fn problem(said: weft_xds::Problem) -> ProxyProblem {
    let weft_xds::Problem { resource, field, message, fix, origin } = said;
    ProxyProblem { resource, field, message, fix, origin }
}

fn resources(states: &BTreeMap<ResourceName, ResourceState>) -> BTreeMap<String, ResourceStatus> {
    let status = |state: &ResourceState| ResourceStatus {
        sent: state.sent.clone(),
        acked: state.running.clone(),
        nack: state.refused.as_ref().map(|refused| Nack {
            version: refused.version.clone(),
            field: refused.field.clone(),
            message: refused.message.clone(),
        }),
    };
    states.iter().map(|(name, state)| (name.to_string(), status(state))).collect()
}
