//! The proxy's end: what it wants, what it has, and what it makes of each update. It outlives streams: a new one goes on where
//! the last one broke.

use crate::{
    Problem, SessionError,
    codec::{Refusal, decode, decode_root},
    limits::{HEARTBEAT_INTERVAL, ROOTS_MAX, SILENCE_MAX},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weft_model::{Labels, ResourceName, Root, RootState, View};
use weft_proto::{
    PROTOCOL,
    v1::{self, delta_request, delta_response},
};
use weft_std::clock::Instant;

/// What this proxy says about itself in each Hello.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// The workload that it was joined as.
    pub workload_id: String,
    /// Version of the program.
    pub program_version: String,
    /// Is it a gateway?
    pub gateway: bool,
    /// Ports of the workload with the listeners of the proxy.
    pub ports: Vec<v1::WorkloadPort>,
    /// Health of the workload.
    pub healthy: bool,
    /// Address of its admin endpoint, or empty.
    pub admin: String,
    /// Name that it was joined with.
    pub workload_name: String,
    /// Labels that it was joined with.
    pub labels: Labels,
}

/// What happened.
#[derive(Debug)]
pub enum ClientEvent {
    /// A stream was opened.
    Connected,
    /// It ended, for whatever reason.
    Disconnected,
    /// The control plane sent a message.
    Response(v1::DeltaResponse),
    /// The driver has done [`ClientOutput::Build`]; these values were refused and left in their last good form.
    Built(Vec<Refusal>),
    /// The workload calls this, and the snapshot lacks it. Answered by [`ClientOutput::Answer`], if ever.
    Want(Root),
    /// The workload's health changed.
    Health(bool),
    /// All that this proxy took over and cannot carry out now: it replaces what was said before.
    Problems(Vec<Problem>),
    /// Tokens of global rate limits are wanted.
    Leases(Vec<v1::LeaseWant>),
    /// The workload goes away in order.
    Leave,
}

/// What the driver must do.
#[derive(Debug, PartialEq)]
pub enum ClientOutput {
    /// Send it.
    Send(v1::DeltaRequest),
    /// Make a snapshot of this view, then hand in [`ClientEvent::Built`]. A value that does not pass stays in its last good form.
    Build(View),
    /// Put that snapshot in place and keep the view: [`ClientSession::view`], [`ClientSession::generation`].
    Publish,
    /// What became of a root, now that the snapshot holds it.
    Answer(Root, RootState),
    /// Log at this level from now on.
    LogLevel(String),
    /// Show exchanges, or stop.
    Tap(v1::Tap),
    /// Tokens came.
    Leases(Vec<v1::LeaseGrant>),
    /// End the stream; then hand in [`ClientEvent::Disconnected`].
    Close(SessionError),
}

/// The machine.
#[derive(Debug)]
pub struct ClientSession {
    registration: Registration,
    problems: Vec<Problem>,
    view: View,
    generation: u64,
    roots: BTreeMap<Root, Wanted>,
    /// Counts wants, to know which root was wanted longest ago.
    wants: u64,
    link: Link,
    outputs: VecDeque<ClientOutput>,
}

#[derive(Debug)]
enum Link {
    Down,
    Up { heard_at: Instant, sent_at: Instant, nonce: u64, synced: bool, update: Option<Update> },
}

/// An update that the driver is building.
#[derive(Debug)]
struct Update {
    nonce: u64,
    generation: u64,
    candidate: View,
    garbled: Vec<Refusal>,
    roots: Vec<(Root, RootState)>,
}

#[derive(Debug, Default)]
struct Wanted {
    state: Option<RootState>,
    /// Somebody waits for the answer.
    asked: bool,
    wanted_at: u64,
}

impl ClientSession {
    /// With what was kept of an earlier life: the last good view, its generation, and the roots it was projected for.
    pub fn new(registration: Registration, view: View, generation: u64, roots: impl IntoIterator<Item = (Root, RootState)>) -> Self {
        let known = |(root, state)| (root, Wanted { state: Some(state), ..Wanted::default() });
        Self {
            registration,
            problems: Vec::new(),
            view,
            generation,
            roots: roots.into_iter().map(known).collect(),
            wants: 0,
            link: Link::Down,
            outputs: VecDeque::new(),
        }
    }

    /// Takes note of an event.
    pub fn input(&mut self, now: Instant, event: ClientEvent) {
        match event {
            ClientEvent::Connected => self.connected(now),
            ClientEvent::Disconnected => self.link = Link::Down,
            ClientEvent::Response(response) => self.response(now, response),
            ClientEvent::Built(refusals) => self.built(now, refusals),
            ClientEvent::Want(root) => self.want(now, root),
            ClientEvent::Health(healthy) => {
                if std::mem::replace(&mut self.registration.healthy, healthy) != healthy {
                    self.send(now, delta_request::Message::Health(v1::Health { healthy }));
                }
            }
            ClientEvent::Problems(problems) => {
                if self.problems != problems {
                    self.problems = problems;
                    self.send_problems(now);
                }
            }
            ClientEvent::Leases(wants) => self.send(now, delta_request::Message::Leases(v1::LeaseWants { wants })),
            ClientEvent::Leave => self.send(now, delta_request::Message::Leave(v1::Leave {})),
        }
    }

    /// When [`ClientSession::timeout`] wants to be called; `None` without a stream.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.link {
            Link::Down => None,
            Link::Up { heard_at, sent_at, .. } => Some((*heard_at + SILENCE_MAX).min(*sent_at + HEARTBEAT_INTERVAL)),
        }
    }

    /// Does what is due: a heartbeat, or giving up.
    pub fn timeout(&mut self, now: Instant) {
        match self.link {
            Link::Up { heard_at, .. } if now >= heard_at + SILENCE_MAX => self.close(SessionError::Silent),
            Link::Up { sent_at, .. } if now >= sent_at + HEARTBEAT_INTERVAL => {
                self.send(now, delta_request::Message::Heartbeat(v1::Heartbeat {}));
            }
            Link::Up { .. } | Link::Down => {}
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// The view in use: all of it was taken over.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Generation of that view.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The roots that it was projected for.
    pub fn roots(&self) -> impl Iterator<Item = (&Root, &RootState)> {
        self.roots.iter().filter_map(|(root, wanted)| Some((root, wanted.state.as_ref()?)))
    }

    /// Has the control plane sent the state of things on this stream?
    pub fn is_synced(&self) -> bool {
        matches!(self.link, Link::Up { synced: true, .. })
    }

    /// What it says about itself, for the next Hello.
    pub fn registration_mut(&mut self) -> &mut Registration {
        &mut self.registration
    }

    fn connected(&mut self, now: Instant) {
        self.link = Link::Up { heard_at: now, sent_at: now, nonce: 0, synced: false, update: None };
        let said = self.registration.clone();
        let have = self.view.values.iter().map(|(name, v)| v1::ResourceVersion { name: name.to_string(), version: v.version.clone() });
        let hello = v1::Hello {
            protocol: PROTOCOL,
            program_version: said.program_version,
            workload_id: said.workload_id,
            role: if said.gateway { "gateway".into() } else { "sidecar".into() },
            ports: said.ports,
            healthy: said.healthy,
            generation: self.generation,
            have: have.collect(),
            roots: self.roots.keys().map(ToString::to_string).collect(),
            admin: said.admin,
            workload_name: said.workload_name,
            labels: said.labels.into_iter().collect(),
        };
        self.send(now, delta_request::Message::Hello(hello));
        if !self.problems.is_empty() {
            self.send_problems(now);
        }
    }

    fn send_problems(&mut self, now: Instant) {
        let problems = self.problems.iter().map(Into::into).collect();
        self.send(now, delta_request::Message::Problems(v1::Problems { problems }));
    }

    fn response(&mut self, now: Instant, response: v1::DeltaResponse) {
        use delta_response::Message;
        let Link::Up { heard_at, .. } = &mut self.link else { return };
        *heard_at = now;
        match response.message {
            Some(Message::Welcome(welcome)) if welcome.protocol != PROTOCOL => {
                self.close(SessionError::Version { theirs: welcome.protocol, ours: PROTOCOL });
            }
            Some(Message::Update(update)) => self.update(update),
            Some(Message::Tap(tap)) => self.outputs.push_back(ClientOutput::Tap(tap)),
            Some(Message::LogLevel(wanted)) => self.outputs.push_back(ClientOutput::LogLevel(wanted.level)),
            Some(Message::Leases(leases)) => self.outputs.push_back(ClientOutput::Leases(leases.grants)),
            // An unknown message is one of a newer control plane: to hear it is all that can be done.
            Some(Message::Welcome(_) | Message::Heartbeat(_)) | None => {}
        }
    }

    fn update(&mut self, wire: v1::Update) {
        let Link::Up { nonce, update, .. } = &mut self.link else { return };
        if wire.nonce <= *nonce || update.is_some() {
            let text = format!("update {} came after {nonce}, or while that was not answered", wire.nonce);
            return self.close(SessionError::Protocol(text));
        }
        *nonce = wire.nonce;
        let (mut candidate, mut garbled) = (self.view.clone(), Vec::new());
        for resource in &wire.resources {
            match decode(resource) {
                Ok((name, versioned)) => drop(candidate.values.insert(name, versioned)),
                Err(refusal) => garbled.push(refusal),
            }
        }
        for name in wire.removed {
            // A name that is not ours cannot be in the view.
            if let Ok(name) = name.parse::<ResourceName>() {
                candidate.values.remove(&name);
            }
        }
        let roots = wire.roots.iter().filter_map(decode_root).collect();
        *update = Some(Update { nonce: wire.nonce, generation: wire.generation, candidate: candidate.clone(), garbled, roots });
        self.outputs.push_back(ClientOutput::Build(candidate));
    }

    fn built(&mut self, now: Instant, refusals: Vec<Refusal>) {
        let Link::Up { update: slot, synced, .. } = &mut self.link else { return };
        let Some(mut update) = slot.take() else { return };
        *synced = true;
        let refused: BTreeSet<ResourceName> = refusals.iter().filter_map(|refusal| refusal.resource.parse().ok()).collect();
        for name in refused {
            match self.view.values.get(&name) {
                Some(last_good) => drop(update.candidate.values.insert(name, last_good.clone())),
                None => drop(update.candidate.values.remove(&name)),
            }
        }
        self.view = update.candidate;
        self.generation = update.generation;
        let mut answers = Vec::new();
        for (root, state) in update.roots {
            if let Some(wanted) = self.roots.get_mut(&root) {
                wanted.state = Some(state.clone());
                if std::mem::take(&mut wanted.asked) {
                    answers.push(ClientOutput::Answer(root, state));
                }
            }
        }
        self.outputs.push_back(ClientOutput::Publish);
        self.outputs.extend(answers);
        let errors: Vec<v1::ResourceError> = update.garbled.iter().chain(&refusals).map(Into::into).collect();
        self.send(
            now,
            match errors.is_empty() {
                true => delta_request::Message::Ack(v1::Ack { nonce: update.nonce }),
                false => delta_request::Message::Nack(v1::Nack { nonce: update.nonce, errors }),
            },
        );
    }

    fn want(&mut self, now: Instant, root: Root) {
        self.wants += 1;
        if let Some(wanted) = self.roots.get_mut(&root) {
            wanted.wanted_at = self.wants;
            match &wanted.state {
                Some(state) => self.outputs.push_back(ClientOutput::Answer(root, state.clone())),
                None => wanted.asked = true,
            }
            return;
        }
        let mut remove = Vec::new();
        if self.roots.len() >= ROOTS_MAX {
            remove.extend(self.forget_one());
        }
        let add = vec![root.to_string()];
        self.roots.insert(root, Wanted { state: None, asked: true, wanted_at: self.wants });
        self.send(now, delta_request::Message::Subscribe(v1::Subscribe { add, remove }));
    }

    /// Makes room for a root: one that the mesh does not know goes first, then the one that was wanted longest ago.
    fn forget_one(&mut self) -> Option<String> {
        let hosts = self.roots.iter().filter(|(root, _)| **root != Root::Own);
        let victim = hosts.min_by_key(|(_, wanted)| (wanted.state != Some(RootState::Unknown), wanted.wanted_at))?.0.clone();
        self.roots.remove(&victim);
        Some(victim.to_string())
    }

    /// Sends if there is a stream; what is said without one is in the next Hello.
    fn send(&mut self, now: Instant, message: delta_request::Message) {
        if let Link::Up { sent_at, .. } = &mut self.link {
            *sent_at = now;
            self.outputs.push_back(ClientOutput::Send(v1::DeltaRequest { message: Some(message) }));
        }
    }

    fn close(&mut self, error: SessionError) {
        self.link = Link::Down;
        self.outputs.push_back(ClientOutput::Close(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use weft_model::Versioned;

    fn outputs(session: &mut ClientSession) -> Vec<ClientOutput> {
        std::iter::from_fn(|| session.poll_output()).collect()
    }
    fn host(name: &str) -> Root {
        Root::Host(name.into())
    }
    fn update(nonce: u64, body: v1::Update) -> ClientEvent {
        ClientEvent::Response(v1::DeltaResponse { message: Some(delta_response::Message::Update(v1::Update { nonce, ..body })) })
    }
    fn connected(now: Instant) -> ClientSession {
        let mut session = ClientSession::new(Registration::default(), View::default(), 0, []);
        session.input(now, ClientEvent::Connected);
        assert!(matches!(&outputs(&mut session)[..], [ClientOutput::Send(_)]));
        session
    }

    #[test]
    fn a_garbled_resource_is_refused_with_its_field_and_harms_no_other() {
        let now = Instant::now();
        let mut session = connected(now);
        let good = samples::service("a", 1);
        let mut bad = crate::encode(&ResourceName::Inbound, &Versioned { version: "1".into(), value: samples::inbound(1).into() });
        bad.body = String::from_utf8(bad.body.to_vec()).expect("UTF-8").replace("STRICT", "STRICTLY").into_bytes().into();
        let encoded = crate::encode(&good.name(), &Versioned { version: good.version(), value: good.into() });
        session.input(now, update(1, v1::Update { generation: 5, resources: vec![bad, encoded], ..v1::Update::default() }));
        assert!(matches!(&outputs(&mut session)[..], [ClientOutput::Build(view)] if view.values.len() == 1));
        session.input(now, ClientEvent::Built(Vec::new()));
        let sent = outputs(&mut session);
        let [ClientOutput::Publish, ClientOutput::Send(v1::DeltaRequest { message: Some(delta_request::Message::Nack(nack)) })] = &sent[..]
        else {
            unreachable!("expected a publication and a NACK, got {sent:?}")
        };
        assert_eq!((nack.nonce, nack.errors[0].resource.as_str(), nack.errors[0].field.as_str()), (1, "inbound", "ports[0].mtls"));
    }

    #[test]
    fn answers_come_after_the_publication_and_known_roots_at_once() {
        let now = Instant::now();
        let mut session = connected(now);
        session.input(now, ClientEvent::Want(host("a")));
        session.input(now, ClientEvent::Want(host("a")));
        assert!(matches!(&outputs(&mut session)[..], [ClientOutput::Send(_)]), "one subscription");
        let state = RootState::Resolved("a.default".into());
        let roots = vec![crate::encode_root(&host("a"), &state)];
        session.input(now, update(1, v1::Update { roots, ..v1::Update::default() }));
        assert!(matches!(&outputs(&mut session)[..], [ClientOutput::Build(_)]));
        session.input(now, ClientEvent::Built(Vec::new()));
        let answer = ClientOutput::Answer(host("a"), state);
        assert!(matches!(&outputs(&mut session)[..], [ClientOutput::Publish, first, ClientOutput::Send(_)] if *first == answer));
        session.input(now, ClientEvent::Want(host("a")));
        assert_eq!(outputs(&mut session), [answer]);
    }

    #[test]
    fn silence_ends_the_stream_and_heartbeats_are_sent() {
        let start = Instant::now();
        let mut session = connected(start);
        let mut heartbeats = 0;
        while let Some(at) = session.next_timeout() {
            session.timeout(at);
            for output in outputs(&mut session) {
                match output {
                    ClientOutput::Send(_) => heartbeats += 1,
                    other => assert_eq!((other, at - start), (ClientOutput::Close(SessionError::Silent), SILENCE_MAX)),
                }
            }
        }
        assert_eq!(heartbeats, 2);
    }

    #[test]
    fn problems_are_told_when_they_change_and_on_each_stream() {
        let now = Instant::now();
        let told = |session: &mut ClientSession| -> Vec<usize> {
            let problems = |output| match output {
                ClientOutput::Send(v1::DeltaRequest { message: Some(delta_request::Message::Problems(said)) }) => Some(said.problems.len()),
                _ => None,
            };
            outputs(session).into_iter().filter_map(problems).collect()
        };
        let taken = || ClientEvent::Problems(vec![Problem { field: "listeners[port=81]".into(), ..Problem::default() }]);
        let mut session = connected(now);
        session.input(now, taken());
        session.input(now, taken());
        assert_eq!(told(&mut session), [1], "once");
        session.input(now, ClientEvent::Disconnected);
        session.input(now, ClientEvent::Connected);
        assert_eq!(told(&mut session), [1], "after the Hello of the next stream");
        session.input(now, ClientEvent::Problems(Vec::new()));
        assert_eq!(told(&mut session), [0], "gone");
        session.input(now, ClientEvent::Disconnected);
        session.input(now, ClientEvent::Connected);
        assert!(told(&mut session).is_empty(), "a new stream begins without problems");
    }

    #[test]
    fn repeated_or_unasked_updates_end_the_stream() {
        let now = Instant::now();
        for second in [1, 2] {
            let mut session = connected(now);
            session.input(now, update(1, v1::Update::default()));
            session.input(now, update(second, v1::Update::default()));
            assert!(matches!(outputs(&mut session).last(), Some(ClientOutput::Close(SessionError::Protocol(_)))));
        }
    }

    #[test]
    fn roots_are_bounded_and_unknown_ones_go_first() {
        let now = Instant::now();
        let known =
            (0..ROOTS_MAX).map(|n| (host(&format!("h{n}")), if n == 7 { RootState::Unknown } else { RootState::Resolved("x".into()) }));
        let mut session = ClientSession::new(Registration::default(), View::default(), 0, known);
        session.input(now, ClientEvent::Connected);
        outputs(&mut session);
        session.input(now, ClientEvent::Want(host("new")));
        let sent = outputs(&mut session);
        let [ClientOutput::Send(v1::DeltaRequest { message: Some(delta_request::Message::Subscribe(subscribe)) })] = &sent[..] else {
            unreachable!("expected a subscription, got {sent:?}")
        };
        assert_eq!((&subscribe.add[..], &subscribe.remove[..]), (&["host/new".to_owned()][..], &["host/h7".to_owned()][..]));
    }
}
