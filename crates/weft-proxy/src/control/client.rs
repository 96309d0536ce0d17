//! The control client: one loop on one thread, between the control plane, the machines and the data plane.
//!
//! Losing the control plane stops nothing here: the snapshot stays, questions are answered as far as they can be, and the loop
//! goes on trying to connect and to renew.

use super::{
    ClientConfig, ControlStatus, NeedRequest, Needed,
    connect::{Target, connect, said},
    last_good::{Found, LastGood},
    limits,
    membership::{self, Kept, Member, MembershipError},
    problems,
};
use crate::{PortStates, Shared, Snapshot, snapshot};
use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_model::{Root, RootState, View};
use weft_pki::{Alarm, Rotation, RotationEvent, RotationOutput, Svid, TrustBundle};
use weft_proto::v1::{self, discovery_client::DiscoveryClient, telemetry_client::TelemetryClient};
use weft_std::{
    Backoff, Tasks,
    clock::{self, Instant},
};
use weft_telemetry::{Report, TapOrder};
use weft_xds::{ClientEvent, ClientOutput, ClientSession, Refusal, Registration};

const RETRY: Backoff = Backoff::new(limits::RETRY_BASE, limits::RETRY_MAX);

/// What the handle asks of the loop.
#[derive(Debug)]
pub(super) enum Command {
    Health(bool),
    /// Say good-bye and end; answered when it was sent.
    Leave(oneshot::Sender<()>),
}

/// What the loop is given.
pub(super) struct Queues {
    pub(super) needs: mpsc::Receiver<NeedRequest>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) status: watch::Sender<ControlStatus>,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The streams of one connection.
struct Link {
    requests: mpsc::Sender<v1::DeltaRequest>,
    responses: Streaming<v1::DeltaResponse>,
    reports: mpsc::Sender<v1::ReportChunk>,
    since: Instant,
    /// Carries the reports; ends with the link.
    _tasks: Tasks,
}

enum LinkState {
    Down { retry_at: Instant },
    Connecting(Work<Result<Link, String>>),
    Up(Box<Link>),
}

/// The loop's state.
pub(super) struct Client {
    config: ClientConfig,
    target: Target,
    trust: TrustBundle,
    kept: Kept,
    shared: Arc<Shared>,
    queues: Queues,
    member: Option<Member>,
    joining: Option<Work<Result<(Member, Svid), MembershipError>>>,
    /// When to try to join; `None` when there is no token, or it was refused.
    join_at: Option<Instant>,
    session: ClientSession,
    link: LinkState,
    /// Since when there is no stream.
    down_since: Instant,
    failures: u32,
    rotation: Rotation,
    renewing: Option<Work<Result<Svid, MembershipError>>>,
    clocks: Clocks,
    waiting: BTreeMap<Root, Vec<oneshot::Sender<Needed>>>,
    built: Option<Snapshot>,
    save_at: Option<Instant>,
}

/// What woke the loop.
enum Wake {
    Response(Result<Option<v1::DeltaResponse>, tonic::Status>),
    Connected(Result<Link, String>),
    Joined(Result<(Member, Svid), MembershipError>),
    Renewed(Result<Svid, MembershipError>),
    Need(NeedRequest),
    Report(Report),
    Ports(PortStates),
    /// Tokens of a global rate limit are wanted.
    Leases,
    Command(Command),
    Time,
    /// The handle is gone.
    End,
}

impl Client {
    pub(super) fn new(config: ClientConfig, target: Target, trust: TrustBundle, shared: Arc<Shared>, queues: Queues) -> Self {
        let (now, kept) = (clock::now(), Kept::new(&config.state_dir));
        let session = ClientSession::new(config.registration(), View::default(), 0, []);
        Self {
            config,
            target,
            trust,
            kept,
            shared,
            queues,
            member: None,
            joining: None,
            join_at: None,
            session,
            link: LinkState::Down { retry_at: now },
            down_since: now,
            failures: 0,
            rotation: Rotation::new(),
            renewing: None,
            clocks: Clocks::read(),
            waiting: BTreeMap::new(),
            built: None,
            save_at: None,
        }
    }

    /// Until the handle is gone or says good-bye.
    pub(super) async fn run(mut self) {
        self.start();
        loop {
            self.begin_work();
            match self.wait().await {
                Wake::End => break,
                Wake::Command(Command::Leave(answer)) => {
                    self.leave().await;
                    // Whoever asked may have stopped waiting.
                    answer.send(()).ok();
                    break;
                }
                woken => self.wake(woken),
            }
        }
        self.save();
    }

    /// What an earlier life left: identity and configuration, so that this one serves at once.
    fn start(&mut self) {
        let now = clock::now();
        let mark = self.config.endpoint.join_token.as_deref().map(membership::token_mark);
        let kept = self.kept.load();
        match kept {
            // The token was used by this proxy before it restarted, or it came without one.
            Some((member, svid)) if mark.as_ref().is_none_or(|mark| *mark == member.token_mark) => {
                self.start_with_last_good(&member.identity);
                self.become_member(now, member, svid);
            }
            // A new token: what it grants may differ.
            _ if mark.is_some() => self.join_at = Some(now),
            _ => self.give_up("this proxy has no valid certificate and no join token: start it with a new token".into()),
        }
    }

    fn start_with_last_good(&mut self, identity: &str) {
        match LastGood::load(&self.config.state_dir) {
            Found::Good(good) if good.identity == identity => {
                let (built, rejections) = snapshot::build(&good.view, None);
                for rejection in rejections {
                    tracing::warn!(resource = %rejection.resource, reason = rejection.reason, "the last good configuration has a value that cannot be used");
                }
                tracing::info!(
                    generation = good.generation,
                    resources = good.view.values.len(),
                    "starting with the last good configuration"
                );
                let view = View { values: built.values.clone() };
                self.session = ClientSession::new(self.config.registration(), view, good.generation, good.roots);
                self.shared.publish(built, good.generation);
            }
            Found::Good(_) | Found::None => {}
            Found::Damaged { reason, moved_to } => {
                tracing::error!(reason, moved_to = ?moved_to, "the last good configuration is damaged: this proxy waits for the control plane");
            }
        }
    }

    fn become_member(&mut self, now: Instant, member: Member, svid: Svid) {
        self.rotation.input(now, installed(&svid));
        let said = self.session.registration_mut();
        said.workload_id.clone_from(&member.workload_id);
        said.workload_name.clone_from(&member.workload_name);
        said.labels.clone_from(&member.labels);
        let (not_after_s, workload_id, identity) = (svid.not_after_s(), member.workload_id.clone(), member.identity.clone());
        self.shared.svid.install(svid);
        self.member = Some(member);
        self.join_at = None;
        self.link = LinkState::Down { retry_at: now };
        self.queues.status.send_modify(|status| {
            status.workload_id = Some(workload_id);
            status.identity = Some(identity);
            status.certificate_not_after_s = not_after_s;
            status.refused = None;
        });
    }

    /// Starts what is due and is not under way.
    fn begin_work(&mut self) {
        let now = clock::now();
        if self.joining.is_none()
            && self.join_at.is_some_and(|at| at <= now)
            && let Some(token) = self.config.endpoint.join_token.clone()
        {
            let (target, trust) = (self.target.clone(), self.trust.clone());
            self.joining = Some(Box::pin(async move { membership::join(&target, &trust, &token).await }));
        }
        if self.member.is_some() && matches!(self.link, LinkState::Down { retry_at } if retry_at <= now) {
            self.link = LinkState::Connecting(Box::pin(open(self.target.clone(), self.shared.svid.clone())));
        }
        if self.renewing.is_none()
            && self.clocks.have_jumped()
            && let Some(svid) = self.shared.svid.svid()
        {
            // The machine slept, or its clock was set: a certificate ages by the wall clock, timers do not.
            self.rotation.input(now, installed(&svid));
        }
        self.rotation.timeout(now);
        while let Some(output) = self.rotation.poll_output() {
            match output {
                RotationOutput::Renew => {
                    self.renewing = Some(Box::pin(membership::renew(self.target.clone(), self.shared.svid.clone())));
                }
                RotationOutput::Alarm(Alarm::Overdue { left }) => {
                    tracing::error!(
                        left_s = left.as_secs(),
                        "the certificate of this proxy could not be renewed for long: is the control plane away?"
                    );
                }
                RotationOutput::Alarm(Alarm::Expired) => {
                    tracing::error!("the certificate of this proxy has expired: peers refuse new connections");
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let mut at = [self.session.next_timeout(), self.rotation.next_timeout(), self.save_at].into_iter().flatten().min();
        if self.joining.is_none() {
            at = at.into_iter().chain(self.join_at).min();
        }
        if let (LinkState::Down { retry_at }, true) = (&self.link, self.member.is_some()) {
            at = at.into_iter().chain([*retry_at]).min();
        }
        // Questions must not wait for long without a stream.
        if !self.waiting.is_empty() && !matches!(self.link, LinkState::Up(_)) {
            at = at.into_iter().chain([clock::now().max(self.down_since + limits::AWAY_AFTER)]).min();
        }
        let link = async {
            match &mut self.link {
                LinkState::Down { .. } => std::future::pending().await,
                LinkState::Connecting(work) => Wake::Connected(work.await),
                LinkState::Up(link) => Wake::Response(link.responses.message().await),
            }
        };
        tokio::select! {
            // Each arm is cancel safe: a message is taken whole or not at all, and work under way is kept where it is.
            woken = link => woken,
            joined = under_way(&mut self.joining) => Wake::Joined(joined),
            renewed = under_way(&mut self.renewing) => Wake::Renewed(renewed),
            need = self.queues.needs.recv() => need.map_or(Wake::End, Wake::Need),
            report = self.queues.reports.recv() => report.map_or(Wake::End, Wake::Report),
            ports = changed(&mut self.config.gateway_ports) => Wake::Ports(ports),
            command = self.queues.commands.recv() => command.map_or(Wake::End, Wake::Command),
            () = self.shared.leases.question() => Wake::Leases,
            () = sleep_until(at) => Wake::Time,
        }
    }

    fn wake(&mut self, woken: Wake) {
        let now = clock::now();
        match woken {
            Wake::Response(Ok(Some(response))) => self.session_input(now, ClientEvent::Response(response)),
            Wake::Response(Ok(None)) => self.disconnected(now, "the control plane ended the stream".into()),
            Wake::Response(Err(status)) => self.disconnected(now, said(&status)),
            Wake::Connected(Ok(link)) => {
                self.link = LinkState::Up(Box::new(link));
                self.session_input(now, ClientEvent::Connected);
                self.shared.leases.connected(true);
                self.tell_status(|status| status.last_error = None);
            }
            Wake::Connected(Err(error)) => self.disconnected(now, error),
            Wake::Joined(joined) => self.joined(now, joined),
            Wake::Renewed(renewed) => self.renewed(now, renewed),
            Wake::Need(need) => self.need(now, need),
            Wake::Report(report) => self.report(&report),
            Wake::Command(Command::Health(healthy)) => self.session_input(now, ClientEvent::Health(healthy)),
            Wake::Ports(ports) => self.session_input(now, ClientEvent::Problems(problems::of_ports(&ports))),
            Wake::Leases => {
                let wants = self.shared.leases.wants();
                if !wants.is_empty() && matches!(self.link, LinkState::Up(_)) {
                    self.session_input(now, ClientEvent::Leases(wants));
                }
            }
            Wake::Time => {
                self.session.timeout(now);
                self.session_outputs(now);
                if self.save_at.is_some_and(|at| at <= now) {
                    self.save();
                }
                if !matches!(self.link, LinkState::Up(_)) && now >= self.down_since + limits::AWAY_AFTER {
                    // Dropped senders are answered with `Needed::Timeout`.
                    self.waiting.clear();
                }
            }
            Wake::Command(Command::Leave(_)) | Wake::End => {}
        }
    }

    fn joined(&mut self, now: Instant, joined: Result<(Member, Svid), MembershipError>) {
        self.joining = None;
        match joined {
            Ok((member, svid)) => {
                tracing::info!(workload = member.workload_id, identity = member.identity, "joined the mesh");
                self.kept.save_svid(&svid);
                self.kept.save_member(&member);
                // A new member: what an earlier one of this name ran may not be for it.
                self.failures = 0;
                self.become_member(now, member, svid);
            }
            Err(MembershipError::Refused(reason)) => self.give_up(format!("this proxy cannot join the mesh: {reason}")),
            Err(MembershipError::Away(reason)) => {
                self.failures += 1;
                self.join_at = Some(now + RETRY.delay_random(self.failures));
                tracing::warn!(reason, "joining failed; trying again");
                self.tell_status(|status| status.last_error = Some(reason));
            }
        }
    }

    fn give_up(&mut self, reason: String) {
        tracing::error!(reason, "this proxy has no identity");
        self.join_at = None;
        self.queues.status.send_modify(|status| status.refused = Some(reason));
    }

    fn renewed(&mut self, now: Instant, renewed: Result<Svid, MembershipError>) {
        self.renewing = None;
        match renewed {
            Ok(svid) => {
                self.rotation.input(now, installed(&svid));
                self.kept.save_svid(&svid);
                let not_after_s = svid.not_after_s();
                self.shared.svid.install(svid);
                self.queues.status.send_modify(|status| {
                    status.certificate_not_after_s = not_after_s;
                    status.renewals += 1;
                });
            }
            Err(MembershipError::Away(reason) | MembershipError::Refused(reason)) => {
                tracing::warn!(reason, "the certificate could not be renewed; trying again");
                self.rotation.input(now, RotationEvent::Failed { roll: rand::random() });
                self.tell_status(|status| status.last_error = Some(reason));
            }
        }
    }

    fn disconnected(&mut self, now: Instant, reason: String) {
        if let LinkState::Up(link) = &self.link {
            self.down_since = now;
            if now.saturating_duration_since(link.since) >= limits::STABLE_AFTER {
                self.failures = 0;
            }
        }
        self.failures += 1;
        let pause = RETRY.delay_random(self.failures);
        tracing::info!(
            reason,
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "no stream from the control plane; trying again"
        );
        self.link = LinkState::Down { retry_at: now + pause };
        self.session.input(now, ClientEvent::Disconnected);
        self.shared.leases.connected(false);
        self.tell_status(|status| status.last_error = Some(reason));
    }

    fn need(&mut self, now: Instant, need: NeedRequest) {
        let askers = self.waiting.entry(need.root.clone()).or_default();
        askers.retain(|asker| !asker.is_closed());
        if askers.len() < limits::NEEDS_WAITING_MAX {
            askers.push(need.answer);
        }
        if self.waiting.len() > limits::NEEDS_WAITING_MAX {
            self.waiting.retain(|_, askers| askers.iter().any(|asker| !asker.is_closed()));
        }
        self.session_input(now, ClientEvent::Want(need.root));
    }

    fn report(&mut self, report: &Report) {
        let LinkState::Up(link) = &self.link else { return };
        let workload_id = self.member.as_ref().map(|member| member.workload_id.clone()).unwrap_or_default();
        // Our own types: no map with other keys than text, so this cannot fail.
        let json = serde_json::to_vec(report).unwrap_or_default();
        if link.reports.try_send(v1::ReportChunk { json, workload_id }).is_err() {
            tracing::debug!("a report was left out: the control plane does not take them");
        }
    }

    fn session_input(&mut self, now: Instant, event: ClientEvent) {
        self.session.input(now, event);
        self.session_outputs(now);
    }

    fn session_outputs(&mut self, now: Instant) {
        while let Some(output) = self.session.poll_output() {
            match output {
                ClientOutput::Send(request) => {
                    if let LinkState::Up(link) = &self.link
                        && link.requests.try_send(request).is_err()
                    {
                        self.disconnected(now, "the control plane does not read".into());
                    }
                }
                ClientOutput::Build(view) => {
                    let (built, rejections) = snapshot::build(&view, Some(&self.shared.snapshot()));
                    self.built = Some(built);
                    self.session.input(now, ClientEvent::Built(rejections.into_iter().map(refusal).collect()));
                }
                ClientOutput::Publish => {
                    if let Some(built) = self.built.take() {
                        self.shared.leases.retain(|limit| built.has_limit(limit));
                        self.shared.publish(built, self.session.generation());
                        self.save_at.get_or_insert(now + limits::SAVE_AFTER);
                    }
                    self.tell_status(|_| {});
                }
                ClientOutput::Answer(root, state) => self.answer(&root, &state),
                ClientOutput::Tap(tap) => self.tap(tap),
                ClientOutput::LogLevel(level) => self.set_log_level(&level),
                ClientOutput::Leases(grants) => self.shared.leases.granted(grants),
                ClientOutput::Close(error) => self.disconnected(now, error.to_string()),
            }
        }
    }

    fn set_log_level(&self, level: &str) {
        let set = self.config.set_log_level.as_ref().map(|set| (set.0)(level));
        if let Err(reason) = set.unwrap_or_else(|| Err("it cannot be changed in this process".into())) {
            tracing::warn!(level, reason, "the log level that the control plane asked for was not set");
        }
    }

    fn tap(&self, tap: v1::Tap) {
        let v1::Tap { id, filter, per_second, total, duration_ms } = tap;
        let read = TapOrder::read_filter(&filter);
        let ordered = read.and_then(|filter| {
            let order = TapOrder { id: id.clone(), filter, per_second, total, duration_ms };
            self.shared.taps.order(order, clock::now())
        });
        match ordered {
            Ok(()) => tracing::info!(id, filter, duration_ms, "the control plane taps this proxy"),
            Err(reason) => tracing::warn!(id, reason, "a tap that the control plane asked for was refused"),
        }
    }

    fn answer(&mut self, root: &Root, state: &RootState) {
        let needed = match state {
            RootState::Resolved(host) => Needed::Resolved(host.clone()),
            RootState::Unknown => Needed::Unknown,
        };
        for asker in self.waiting.remove(root).unwrap_or_default() {
            // It may have stopped waiting.
            asker.send(needed.clone()).ok();
        }
    }

    fn tell_status(&self, change: impl FnOnce(&mut ControlStatus)) {
        let (connected, synced, generation) = (matches!(self.link, LinkState::Up(_)), self.session.is_synced(), self.session.generation());
        self.queues.status.send_modify(|status| {
            status.connected = connected;
            status.synced = synced;
            status.ready |= synced || generation > 0;
            status.generation = generation;
            change(status);
        });
    }

    /// Says good-bye, so that callers go elsewhere before the listeners close.
    async fn leave(&mut self) {
        let now = clock::now();
        self.session_input(now, ClientEvent::Leave);
        let LinkState::Up(link) = &mut self.link else { return };
        let ended = async { while matches!(link.responses.message().await, Ok(Some(_))) {} };
        if tokio::time::timeout(limits::LEAVE_TIMEOUT, ended).await.is_err() {
            tracing::debug!("the control plane did not confirm the good-bye");
        }
    }

    fn save(&mut self) {
        self.save_at = None;
        let Some(member) = self.member.as_ref().filter(|_| self.session.generation() > 0) else { return };
        let good = LastGood {
            identity: member.identity.clone(),
            generation: self.session.generation(),
            view: self.session.view().clone(),
            roots: self.session.roots().map(|(root, state)| (root.clone(), state.clone())).collect(),
        };
        if let Err(error) = good.save(&self.config.state_dir) {
            tracing::error!(%error, "the last good configuration could not be kept on disk");
        }
    }
}

/// Opens the streams of a new connection.
async fn open(target: Target, svid: weft_pki::SvidState) -> Result<Link, String> {
    let channel = connect(&target, &svid).await.map_err(|error| error.to_string())?;
    let (requests, outgoing) = mpsc::channel(limits::REQUESTS_MAX);
    let mut discovery = DiscoveryClient::new(channel.clone()).max_decoding_message_size(weft_xds::limits::MESSAGE_BYTES_MAX);
    let called = tokio::time::timeout(limits::CALL_TIMEOUT, discovery.delta(ReceiverStream::new(outgoing)));
    let responses = match called.await {
        Ok(Ok(responses)) => responses.into_inner(),
        Ok(Err(status)) => return Err(said(&status)),
        Err(_) => return Err("the control plane did not open the stream in time".into()),
    };
    let (reports, chunks) = mpsc::channel(limits::REPORTS_MAX);
    let tasks = Tasks::new();
    tasks.spawn("reports", async move {
        let ended = TelemetryClient::new(channel).report(ReceiverStream::new(chunks)).await;
        if let Err(status) = ended {
            tracing::debug!(reason = said(&status), "the stream of reports ended");
        }
    });
    Ok(Link { requests, responses, reports, since: clock::now(), _tasks: tasks })
}

/// Both clocks at one moment.
struct Clocks {
    monotonic: Instant,
    wall: Duration,
}

impl Clocks {
    fn read() -> Self {
        Self { monotonic: clock::now(), wall: clock::unix() }
    }

    /// Has one run away from the other since the last look?
    fn have_jumped(&mut self) -> bool {
        let (before, now) = (std::mem::replace(self, Self::read()), Self::read());
        let wall = now.wall.saturating_sub(before.wall);
        let monotonic = now.monotonic.saturating_duration_since(before.monotonic);
        now.wall < before.wall || wall.abs_diff(monotonic) > limits::CLOCK_JUMP
    }
}

fn installed(svid: &Svid) -> RotationEvent {
    let age = Duration::from_millis(clock::unix_ms().saturating_sub(svid.issued_at_ms()));
    RotationEvent::Installed { lifetime: svid.lifetime(), age }
}

fn refusal(rejection: snapshot::Rejection) -> Refusal {
    Refusal { resource: rejection.resource.to_string(), field: rejection.field, message: rejection.reason }
}

/// The result of work under way, or never.
async fn under_way<T>(work: &mut Option<Work<T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// The next state of the ports; never, when there are none to follow.
async fn changed(ports: &mut Option<watch::Receiver<PortStates>>) -> PortStates {
    if let Some(ports) = ports
        && ports.changed().await.is_ok()
    {
        return ports.borrow_and_update().clone();
    }
    std::future::pending().await
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl ClientConfig {
    fn registration(&self) -> Registration {
        Registration {
            program_version: env!("CARGO_PKG_VERSION").into(),
            gateway: self.gateway,
            ports: self.ports.clone(),
            healthy: self.healthy,
            admin: self.admin.map(|address| address.to_string()).unwrap_or_default(),
            ..Registration::default()
        }
    }
}
