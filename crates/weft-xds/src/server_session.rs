//! The control plane's end of one proxy's stream: what the proxy has, what is under way, and the difference to what it should have.

use crate::{
    Problem, SessionError,
    codec::{Refusal, encode, encode_root},
    limits::{HEARTBEAT_INTERVAL, PORTS_MAX, REFUSALS_MAX, RESOURCES_MAX, ROOTS_MAX, SILENCE_MAX},
    problem::{cut, decode_problems},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use weft_model::{Labels, ResourceName, Root, RootState, View};
use weft_proto::{
    PROTOCOL,
    v1::{self, delta_request, delta_response},
};
use weft_std::clock::Instant;

/// The view of one proxy at one generation, as the compiler projects it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projected {
    /// Generation of the mesh.
    pub generation: u64,
    /// What the proxy should have.
    pub view: View,
    /// What became of each of its roots.
    pub roots: BTreeMap<Root, RootState>,
}

/// What happened.
#[derive(Debug)]
pub enum ServerEvent {
    /// The proxy sent a message.
    Request(Box<v1::DeltaRequest>),
    /// Its view was projected for [`ServerSession::roots`]. Never hand in a projection of a mesh that is not loaded.
    Projected(Arc<Projected>),
    /// Somebody wants its log at another level.
    LogLevel(String),
    /// Somebody wants to see its exchanges, or no more.
    Tap(v1::Tap),
    /// Tokens for the proxy.
    Leases(Vec<v1::LeaseGrant>),
}

/// What the driver must do.
#[derive(Debug, PartialEq)]
pub enum ServerOutput {
    /// Send it.
    Send(v1::DeltaResponse),
    /// The proxy said who it is: check it against the certificate, then register the workload.
    Hello(Box<Hello>),
    /// Its roots changed: project again.
    Project,
    /// The workload's health changed.
    Health(bool),
    /// All that it took over and cannot carry out now.
    Problems(Vec<Problem>),
    /// Tokens of global rate limits are wanted: answer with [`ServerEvent::Leases`].
    Leases(Vec<v1::LeaseWant>),
    /// What it acknowledged or refused changed.
    Status,
    /// It goes away in order.
    Left,
    /// End the stream.
    Close(SessionError),
}

/// What a proxy says about itself. All of it is a claim, but for what the certificate proves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// The workload it was joined as.
    pub workload_id: String,
    /// Version of the program.
    pub program_version: String,
    /// Is it a gateway?
    pub gateway: bool,
    /// Ports of the workload with the listeners of the proxy.
    pub ports: Vec<v1::WorkloadPort>,
    /// Health of the workload.
    pub healthy: bool,
    /// Generation that it runs.
    pub generation: u64,
    /// Address of its admin endpoint.
    pub admin: String,
    /// Name that it was joined with, for a control plane that has lost what it knew.
    pub workload_name: String,
    /// Labels that it was joined with, likewise.
    pub labels: Labels,
}

/// What the proxy made of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceState {
    /// Version that it runs; empty when none.
    pub running: String,
    /// Version that was sent last, or that it came with.
    pub sent: String,
    /// The version that it refused, while that is the one it should have.
    pub refused: Option<RefusedVersion>,
}

/// A refusal of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedVersion {
    /// Version.
    pub version: String,
    /// Field, empty for the whole.
    pub field: String,
    /// Why.
    pub message: String,
}

/// The machine.
#[derive(Debug)]
pub struct ServerSession {
    phase: Phase,
    roots: BTreeSet<Root>,
    resources: BTreeMap<ResourceName, ResourceState>,
    told: BTreeMap<Root, RootState>,
    generation: u64,
    nonce: u64,
    /// The newest projection that was not taken into an update yet.
    offered: Option<Arc<Projected>>,
    heard_at: Instant,
    sent_at: Instant,
    outputs: VecDeque<ServerOutput>,
}

#[derive(Debug)]
enum Phase {
    /// The first message has not come.
    Greeting,
    /// Greeted; the first update, sent even when it is empty, has not gone out.
    Fresh,
    /// Nothing is under way.
    Idle,
    /// An update is under way.
    Waiting(Update),
    /// Ended.
    Closed,
}

#[derive(Debug)]
struct Update {
    nonce: u64,
    generation: u64,
    /// Versions that were sent; `None` for a removal.
    versions: BTreeMap<ResourceName, Option<String>>,
}

impl ServerSession {
    /// For a stream that was opened at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Greeting,
            roots: [Root::Own].into(),
            resources: BTreeMap::new(),
            told: BTreeMap::new(),
            generation: 0,
            nonce: 0,
            offered: None,
            heard_at: now,
            sent_at: now,
            outputs: VecDeque::new(),
        }
    }

    /// Takes note of an event.
    pub fn input(&mut self, now: Instant, event: ServerEvent) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        match event {
            ServerEvent::Request(request) => {
                self.heard_at = now;
                if let Err(error) = self.request(now, *request) {
                    self.close(error);
                }
            }
            ServerEvent::Projected(projected) => {
                self.offered = Some(projected);
                self.flush(now);
            }
            ServerEvent::Tap(tap) => self.send(now, delta_response::Message::Tap(tap)),
            ServerEvent::LogLevel(level) => self.send(now, delta_response::Message::LogLevel(v1::LogLevel { level })),
            ServerEvent::Leases(grants) => self.send(now, delta_response::Message::Leases(v1::LeaseGrants { grants })),
        }
    }

    /// When [`ServerSession::timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            _ => Some((self.heard_at + SILENCE_MAX).min(self.sent_at + HEARTBEAT_INTERVAL)),
        }
    }

    /// Does what is due: a heartbeat, or giving up.
    pub fn timeout(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        if now >= self.heard_at + SILENCE_MAX {
            self.close(SessionError::Silent);
        } else if now >= self.sent_at + HEARTBEAT_INTERVAL {
            self.send(now, delta_response::Message::Heartbeat(v1::Heartbeat {}));
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        self.outputs.pop_front()
    }

    /// What the proxy subscribes to; `Own` is always in it.
    pub fn roots(&self) -> &BTreeSet<Root> {
        &self.roots
    }

    /// The generation whose view the proxy runs in full, but for what it refused.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What the proxy made of each resource.
    pub fn resources(&self) -> &BTreeMap<ResourceName, ResourceState> {
        &self.resources
    }

    fn request(&mut self, now: Instant, request: v1::DeltaRequest) -> Result<(), SessionError> {
        use delta_request::Message;
        let broken = |text: &str| Err(SessionError::Protocol(text.into()));
        match (request.message, &self.phase) {
            (Some(Message::Hello(hello)), Phase::Greeting) => self.hello(now, hello),
            (Some(Message::Hello(_)), _) => broken("a second Hello"),
            (Some(_), Phase::Greeting) => broken("the first message is not Hello"),
            (Some(Message::Subscribe(subscribe)), _) => self.subscribe(&subscribe),
            (Some(Message::Ack(ack)), _) => self.answered(now, ack.nonce, Vec::new()),
            (Some(Message::Nack(nack)), _) => self.answered(now, nack.nonce, nack.errors),
            (Some(Message::Health(health)), _) => {
                self.outputs.push_back(ServerOutput::Health(health.healthy));
                Ok(())
            }
            (Some(Message::Problems(problems)), _) => {
                self.outputs.push_back(ServerOutput::Problems(decode_problems(problems)));
                Ok(())
            }
            (Some(Message::Leases(mut leases)), _) => {
                leases.wants.truncate(crate::limits::LEASES_MAX);
                self.outputs.push_back(ServerOutput::Leases(leases.wants));
                Ok(())
            }
            (Some(Message::Leave(_)), _) => {
                self.outputs.push_back(ServerOutput::Left);
                self.phase = Phase::Closed;
                Ok(())
            }
            // An unknown message is one of a newer proxy: to hear it is all that can be done.
            (Some(Message::Heartbeat(_)) | None, _) => Ok(()),
        }
    }

    fn hello(&mut self, now: Instant, hello: v1::Hello) -> Result<(), SessionError> {
        if hello.protocol != PROTOCOL {
            return Err(SessionError::Version { theirs: hello.protocol, ours: PROTOCOL });
        }
        if hello.have.len() > RESOURCES_MAX || hello.ports.len() > PORTS_MAX {
            return Err(SessionError::Protocol(format!("more than {RESOURCES_MAX} resources or {PORTS_MAX} ports in Hello")));
        }
        for have in hello.have {
            // A name that this version does not know is one that it cannot take back either: it is not looked at.
            if let Ok(name) = have.name.parse() {
                let state = ResourceState { running: have.version.clone(), sent: have.version, refused: None };
                self.resources.insert(name, state);
            }
        }
        self.add_roots(&hello.roots)?;
        self.phase = Phase::Fresh;
        let said = Hello {
            workload_id: hello.workload_id.clone(),
            program_version: hello.program_version,
            gateway: hello.role == "gateway",
            ports: hello.ports,
            healthy: hello.healthy,
            generation: hello.generation,
            admin: hello.admin,
            workload_name: hello.workload_name,
            labels: hello.labels.into_iter().collect(),
        };
        let heartbeat_ms = HEARTBEAT_INTERVAL.as_millis().try_into().unwrap_or(u32::MAX);
        let welcome = v1::Welcome { protocol: PROTOCOL, workload_id: hello.workload_id, heartbeat_ms };
        self.outputs.push_back(ServerOutput::Hello(Box::new(said)));
        self.send(now, delta_response::Message::Welcome(welcome));
        self.outputs.push_back(ServerOutput::Project);
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &v1::Subscribe) -> Result<(), SessionError> {
        for text in &subscribe.remove {
            if let Ok(root @ Root::Host(_)) = text.parse() {
                self.roots.remove(&root);
                self.told.remove(&root);
            }
        }
        self.add_roots(&subscribe.add)?;
        self.outputs.push_back(ServerOutput::Project);
        Ok(())
    }

    fn add_roots(&mut self, texts: &[String]) -> Result<(), SessionError> {
        for text in texts {
            let root = text.parse().map_err(|error: weft_model::NameError| SessionError::Protocol(error.to_string()))?;
            self.roots.insert(root);
        }
        match self.roots.len() > ROOTS_MAX {
            true => Err(SessionError::Protocol(format!("more than {ROOTS_MAX} roots"))),
            false => Ok(()),
        }
    }

    /// The proxy took over the update under way, but for `errors`.
    fn answered(&mut self, now: Instant, nonce: u64, errors: Vec<v1::ResourceError>) -> Result<(), SessionError> {
        let Phase::Waiting(update) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Err(SessionError::Protocol(format!("an answer to update {nonce}, which is not under way")));
        };
        if update.nonce != nonce {
            return Err(SessionError::Protocol(format!("an answer to update {nonce} while {} is under way", update.nonce)));
        }
        let refusals: BTreeMap<ResourceName, Refusal> = errors.into_iter().take(REFUSALS_MAX).filter_map(refusal).collect();
        self.generation = update.generation;
        for (name, version) in update.versions {
            match version {
                None => drop(self.resources.remove(&name)),
                Some(version) if !refusals.contains_key(&name) => {
                    self.resources.insert(name, ResourceState { running: version.clone(), sent: version, refused: None });
                }
                Some(_) => {}
            }
        }
        // What it runs and complained about, it tells again with each answer while that lasts.
        for state in self.resources.values_mut() {
            if state.refused.as_ref().is_some_and(|refused| refused.version == state.running) {
                state.refused = None;
            }
        }
        for (name, Refusal { field, message, .. }) in refusals {
            if let Some(state) = self.resources.get_mut(&name) {
                state.refused = Some(RefusedVersion { version: state.sent.clone(), field, message });
            }
        }
        self.outputs.push_back(ServerOutput::Status);
        self.flush(now);
        Ok(())
    }

    /// Sends the difference to the newest projection, if nothing is under way.
    fn flush(&mut self, now: Instant) {
        let fresh = match self.phase {
            Phase::Fresh => true,
            Phase::Idle => false,
            Phase::Greeting | Phase::Waiting(_) | Phase::Closed => return,
        };
        let Some(projected) = self.offered.take() else { return };
        let (message, versions) = self.difference(&projected);
        if !fresh && message.resources.is_empty() && message.removed.is_empty() && message.roots.is_empty() {
            // The proxy runs this generation already: nothing in its view is different.
            self.generation = projected.generation;
            self.outputs.push_back(ServerOutput::Status);
            return;
        }
        self.nonce += 1;
        self.phase = Phase::Waiting(Update { nonce: self.nonce, generation: projected.generation, versions });
        self.send(now, delta_response::Message::Update(v1::Update { nonce: self.nonce, ..message }));
        self.outputs.push_back(ServerOutput::Status);
    }

    fn difference(&mut self, projected: &Projected) -> (v1::Update, BTreeMap<ResourceName, Option<String>>) {
        let mut update = v1::Update { generation: projected.generation, ..v1::Update::default() };
        let mut versions = BTreeMap::new();
        for (name, wanted) in &projected.view.values {
            let state = self.resources.entry(name.clone()).or_default();
            if state.running == wanted.version {
                if state.refused.as_ref().is_some_and(|refused| refused.version != wanted.version) {
                    // What was refused has been taken back.
                    state.refused = None;
                }
                state.sent.clone_from(&wanted.version);
                continue;
            }
            if state.refused.as_ref().is_some_and(|refused| refused.version == wanted.version) {
                continue;
            }
            state.sent.clone_from(&wanted.version);
            versions.insert(name.clone(), Some(wanted.version.clone()));
            update.resources.push(encode(name, wanted));
        }
        let gone: Vec<ResourceName> = self.resources.keys().filter(|name| !projected.view.values.contains_key(name)).cloned().collect();
        for name in gone {
            update.removed.push(name.to_string());
            versions.insert(name, None);
        }
        for (root, state) in &projected.roots {
            // A projection may be older than an unsubscription.
            if self.roots.contains(root) && self.told.get(root) != Some(state) {
                update.roots.push(encode_root(root, state));
                self.told.insert(root.clone(), state.clone());
            }
        }
        (update, versions)
    }

    fn send(&mut self, now: Instant, message: delta_response::Message) {
        self.sent_at = now;
        self.outputs.push_back(ServerOutput::Send(v1::DeltaResponse { message: Some(message) }));
    }

    fn close(&mut self, error: SessionError) {
        self.phase = Phase::Closed;
        self.outputs.push_back(ServerOutput::Close(error));
    }
}

/// A refusal from the wire, bounded. One whose resource has no name of ours concerns nothing that was sent.
fn refusal(error: v1::ResourceError) -> Option<(ResourceName, Refusal)> {
    let name = error.resource.parse().ok()?;
    Some((name, Refusal { resource: error.resource, field: cut(error.field), message: cut(error.message) }))
}
