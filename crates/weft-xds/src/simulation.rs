//! Both ends against each other, over a link that breaks, with a mesh that changes and values that the proxy refuses.

use crate::{
    ClientEvent, ClientOutput, ClientSession, Projected, Refusal, Registration, ServerEvent, ServerOutput, ServerSession, samples::TinyMesh,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use weft_model::{ModelValue, ResourceName, Root, RootState, View};
use weft_proto::v1;
use weft_std::clock::Instant;

/// Editions of endpoints that the proxy refuses.
fn is_poison(value: &ModelValue) -> bool {
    matches!(value, ModelValue::Endpoints(e) if e.endpoints[0].address.to_string().ends_with('7'))
}

struct World {
    now: Instant,
    mesh: TinyMesh,
    /// The control plane has read its configuration.
    loaded: bool,
    server: Option<ServerSession>,
    client: ClientSession,
    up: VecDeque<v1::DeltaRequest>,
    down: VecDeque<v1::DeltaResponse>,
    /// What the data plane runs: the last publication, and what waits to be one.
    running: View,
    building: View,
    sent_resources: usize,
    answers: BTreeMap<Root, RootState>,
    rng: SmallRng,
}

impl World {
    fn new(seed: u64) -> Self {
        let client = ClientSession::new(Registration::default(), View::default(), 0, []);
        Self {
            now: Instant::now(),
            mesh: TinyMesh { generation: 1, ..TinyMesh::default() },
            loaded: true,
            server: None,
            client,
            up: VecDeque::new(),
            down: VecDeque::new(),
            running: View::default(),
            building: View::default(),
            sent_resources: 0,
            answers: BTreeMap::new(),
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    fn random_host(&mut self) -> String {
        format!("host{}", self.rng.random_range(0..6))
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.random_range(0..400));
        match self.rng.random_range(0..100) {
            0..15 => {
                let host = self.random_host();
                let edition = self.rng.random_range(0..40);
                self.mesh.hosts.insert(host, edition);
                self.changed();
            }
            15..20 => {
                let host = self.random_host();
                self.mesh.hosts.remove(&host);
                self.changed();
            }
            20..24 => {
                self.mesh.own += 1;
                self.changed();
            }
            24..32 => {
                let root = Root::Host(self.random_host());
                self.client_input(ClientEvent::Want(root));
            }
            32..36 => self.disconnect(),
            36..38 => {
                // The control plane restarts and has to load first.
                self.disconnect();
                self.loaded = false;
            }
            38..40 => self.restart_proxy(),
            40..50 => self.finish_loading(),
            50..60 => self.connect(),
            60..80 => self.deliver_up(),
            _ => self.deliver_down(),
        }
    }

    fn changed(&mut self) {
        self.mesh.generation += 1;
        self.project();
    }

    fn finish_loading(&mut self) {
        self.loaded = true;
        self.project();
    }

    fn project(&mut self) {
        if let Some(server) = self.server.as_ref().filter(|_| self.loaded) {
            let projected = Arc::new(self.mesh.project(server.roots()));
            self.server_input(ServerEvent::Projected(projected));
        }
    }

    fn connect(&mut self) {
        if self.server.is_none() {
            self.server = Some(ServerSession::new(self.now));
            self.client_input(ClientEvent::Connected);
        }
    }

    fn disconnect(&mut self) {
        self.server = None;
        self.up.clear();
        self.down.clear();
        self.client_input(ClientEvent::Disconnected);
    }

    /// The proxy starts again from its last good file.
    fn restart_proxy(&mut self) {
        self.disconnect();
        let roots: Vec<_> = self.client.roots().map(|(root, state)| (root.clone(), state.clone())).collect();
        self.client = ClientSession::new(Registration::default(), self.running.clone(), self.client.generation(), roots);
    }

    fn deliver_up(&mut self) {
        if let Some(request) = self.up.pop_front() {
            self.server_input(ServerEvent::Request(Box::new(request)));
        }
    }

    fn deliver_down(&mut self) {
        if let Some(response) = self.down.pop_front() {
            self.client_input(ClientEvent::Response(response));
        }
    }

    fn server_input(&mut self, event: ServerEvent) {
        let Some(server) = &mut self.server else { return };
        server.input(self.now, event);
        let mut project = false;
        while let Some(output) = server.poll_output() {
            match output {
                ServerOutput::Send(response) => {
                    if let Some(v1::delta_response::Message::Update(update)) = &response.message {
                        self.sent_resources += update.resources.len();
                    }
                    self.down.push_back(response);
                }
                ServerOutput::Project => project = true,
                ServerOutput::Close(error) => unreachable!("the server gave up: {error}"),
                ServerOutput::Hello(_)
                | ServerOutput::Health(_)
                | ServerOutput::Problems(_)
                | ServerOutput::Leases(_)
                | ServerOutput::Status
                | ServerOutput::Left => {}
            }
        }
        if project {
            self.project();
        }
    }

    fn client_input(&mut self, event: ClientEvent) {
        self.client.input(self.now, event);
        while let Some(output) = self.client.poll_output() {
            match output {
                ClientOutput::Send(request) => self.up.push_back(request),
                ClientOutput::Build(view) => {
                    let (built, refusals) = build(&view, &self.running);
                    self.building = built;
                    self.client.input(self.now, ClientEvent::Built(refusals));
                }
                ClientOutput::Publish => {
                    self.running = std::mem::take(&mut self.building);
                    assert_eq!(&self.running, self.client.view(), "machine and data plane agree on what runs");
                }
                ClientOutput::Answer(root, state) => {
                    if let RootState::Resolved(host) = &state {
                        assert!(self.running.values.contains_key(&ResourceName::Service(host.clone())), "answered before it is there");
                    }
                    self.answers.insert(root, state);
                }
                ClientOutput::Close(error) => unreachable!("the client gave up: {error}"),
                ClientOutput::LogLevel(_) | ClientOutput::Tap(_) | ClientOutput::Leases(_) => {}
            }
        }
    }

    /// Nothing changes any more: everything is delivered.
    fn settle(&mut self) {
        self.loaded = true;
        self.connect();
        self.project();
        while !(self.up.is_empty() && self.down.is_empty()) {
            self.deliver_up();
            self.deliver_down();
        }
    }

    fn wanted(&self) -> Projected {
        self.mesh.project(self.server.as_ref().expect("connected").roots())
    }
}

/// As the proxy's: a value that does not pass stays in its last good form, or out.
fn build(view: &View, previous: &View) -> (View, Vec<Refusal>) {
    let (mut built, mut refusals) = (view.clone(), Vec::new());
    for (name, versioned) in &view.values {
        if previous.values.get(name) != Some(versioned) && is_poison(&versioned.value) {
            refusals.push(Refusal { resource: name.to_string(), field: "endpoints[0].address".into(), message: "poison".into() });
            match previous.values.get(name) {
                Some(last_good) => drop(built.values.insert(name.clone(), last_good.clone())),
                None => drop(built.values.remove(name)),
            }
        }
    }
    (built, refusals)
}

#[test]
fn always_ends_at_the_mesh_with_refused_values_in_their_last_good_form() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step();
        }
        world.settle();
        let wanted = world.wanted();
        let server = world.server.as_ref().expect("connected");
        for (name, versioned) in &wanted.view.values {
            let (running, state) = (world.running.values.get(name), &server.resources()[name]);
            if is_poison(&versioned.value) {
                assert!(running.is_none_or(|good| !is_poison(&good.value)), "seed {seed}: poison runs");
                let refused = state.refused.as_ref().expect("the refusal is shown");
                assert_eq!((refused.field.as_str(), &refused.version), ("endpoints[0].address", &versioned.version), "seed {seed}");
                assert_eq!(running.map_or("", |good| good.version.as_str()), state.running, "seed {seed}");
            } else {
                assert_eq!(running, Some(versioned), "seed {seed}");
                assert_eq!((state.running.as_str(), &state.refused), (versioned.version.as_str(), &None), "seed {seed}");
            }
        }
        let extra: Vec<_> = world.running.values.keys().filter(|name| !wanted.view.values.contains_key(name)).collect();
        assert!(extra.is_empty(), "seed {seed}: {extra:?} should be gone");
        assert_eq!(server.generation(), world.mesh.generation, "seed {seed}");
        for (root, state) in world.client.roots() {
            assert_eq!(Some(state), wanted.roots.get(root), "seed {seed}: {root}");
        }
    }
}

#[test]
fn a_restart_of_the_control_plane_takes_nothing_away_and_sends_nothing_again() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        for n in 0..5 {
            world.mesh.hosts.insert(format!("host{n}"), n);
            world.client_input(ClientEvent::Want(Root::Host(format!("host{n}"))));
        }
        world.settle();
        let before = world.running.clone();
        assert_eq!((before.values.len(), world.answers.len()), (11, 5));

        world.disconnect();
        world.loaded = false;
        world.sent_resources = 0;
        world.connect();
        for _ in 0..10 {
            world.deliver_up();
            world.deliver_down();
            assert_eq!(world.running, before, "nothing is taken away while the control plane loads");
        }
        world.mesh.hosts.insert("host2".into(), 20);
        world.settle();
        assert_eq!(world.sent_resources, 2, "only what changed meanwhile travels");
    }
}

#[test]
fn an_edit_sends_only_what_it_changed_and_a_refused_version_is_not_sent_again() {
    let mut world = World::new(1);
    world.mesh.hosts.insert("a".into(), 1);
    world.mesh.hosts.insert("b".into(), 1);
    world.client_input(ClientEvent::Want(Root::Host("a".into())));
    world.client_input(ClientEvent::Want(Root::Host("b".into())));
    world.settle();
    let mut check = |edition: usize, sent: usize| {
        world.sent_resources = 0;
        world.mesh.hosts.insert("a".into(), edition);
        world.changed();
        world.settle();
        world.changed();
        world.settle();
        assert_eq!(world.sent_resources, sent, "edition {edition}");
    };
    check(2, 1);
    check(2, 0);
    // Another service, and endpoints that are refused: both travel once.
    check(7, 2);
    check(7, 0);
    // Back: its endpoints it runs still, so that only the service travels, and the refusal is no longer shown.
    check(2, 1);
    let server = world.server.as_ref().expect("connected");
    assert!(server.resources().values().all(|state| state.refused.is_none()));
    assert!(world.client.is_synced());
}

#[test]
fn a_proxy_that_breaks_the_rules_is_closed_and_never_harms_the_server() {
    use v1::delta_request::Message;
    let hello = || Message::Hello(v1::Hello { protocol: 1, ..v1::Hello::default() });
    let breaches: [Vec<Message>; 6] = [
        vec![Message::Ack(v1::Ack { nonce: 1 })],
        vec![hello(), hello()],
        vec![hello(), Message::Ack(v1::Ack { nonce: 1 })],
        vec![hello(), Message::Subscribe(v1::Subscribe { add: vec!["nonsense".into()], remove: Vec::new() })],
        vec![Message::Hello(v1::Hello { protocol: 9, ..v1::Hello::default() })],
        vec![hello(), Message::Subscribe(v1::Subscribe { add: (0..5000).map(|n| format!("host/{n}")).collect(), remove: Vec::new() })],
    ];
    for breach in breaches {
        let now = Instant::now();
        let mut server = ServerSession::new(now);
        for message in breach.clone() {
            server.input(now, ServerEvent::Request(Box::new(v1::DeltaRequest { message: Some(message) })));
        }
        let outputs: Vec<_> = std::iter::from_fn(|| server.poll_output()).collect();
        assert!(matches!(outputs.last(), Some(ServerOutput::Close(_))), "{breach:?} → {outputs:?}");
        assert_eq!(server.next_timeout(), None);
    }
}

#[test]
fn nothing_is_sent_before_the_first_projection_but_a_welcome_and_heartbeats() {
    let start = Instant::now();
    let mut server = ServerSession::new(start);
    let hello = v1::Hello { protocol: 1, roots: vec!["host/a".into()], ..v1::Hello::default() };
    server.input(start, ServerEvent::Request(Box::new(v1::DeltaRequest { message: Some(v1::delta_request::Message::Hello(hello)) })));
    assert_eq!(server.roots(), &BTreeSet::from([Root::Own, Root::Host("a".into())]));
    while let Some(at) = server.next_timeout() {
        server.timeout(at);
    }
    let sent = std::iter::from_fn(|| server.poll_output()).filter_map(|output| match output {
        ServerOutput::Send(response) => response.message,
        _ => None,
    });
    for message in sent {
        assert!(!matches!(message, v1::delta_response::Message::Update(_)));
    }
}
