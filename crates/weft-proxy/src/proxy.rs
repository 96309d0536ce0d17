//! One proxy: its threads, its sockets, its life from start to drain.

use crate::{
    accept::{self, Duty},
    config::ProxyConfig,
    dial::Dial,
    gateway::{ClosedPort, GatewayStatus, PortStates},
    handover::Listening,
    http::Pool,
    limits,
    overload::Overload,
    program::Program,
    shared::Shared,
    side::{self, Side},
    telemetry::{FileWriter, Telemetry, TelemetryStart},
    worker::{Settings, Worker},
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use weft_std::{Drain, DrainTrigger, DrainWatch, Drained, Tasks};
use weft_telemetry::{MetricsReader, Registry, SeriesBudget};

/// A running proxy. Dropping it stops it at once; [`ProxyHandle::drain`] lets it finish.
pub struct ProxyHandle {
    shared: Arc<Shared>,
    drain: Option<DrainTrigger>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    readers: Vec<MetricsReader>,
    registry: Registry,
    commands: Vec<mpsc::Sender<Command>>,
    gateway_status: watch::Sender<PortStates>,
    overload: Arc<Overload>,
    listening: Listening,
}

impl std::fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyHandle").field("workers", &self.threads.len()).finish_non_exhaustive()
    }
}

/// What a worker can be asked while it runs.
pub(crate) enum Command {
    /// Accept on one more listener; it ends when the sender of `stop` is dropped.
    Listen { listener: TcpListener, task: Task, stop: watch::Receiver<bool> },
    /// Describe clusters, pools and ejections.
    Describe(tokio::sync::oneshot::Sender<serde_json::Value>),
}

/// What a listener is for, in a form that can be sent to a worker.
#[derive(Clone)]
pub(crate) enum Task {
    Inbound { port: u16, program: Program },
    Outbound,
    Explicit { host: Arc<str>, port: u16 },
    HttpProxy,
    Gateway { port: u16, edge: watch::Receiver<Arc<crate::edge::Edge>> },
}

impl Task {
    /// What its sockets are called when they are handed over.
    fn label(&self) -> String {
        match self {
            Self::Inbound { port, .. } => format!("inbound/{port}"),
            Self::Outbound => "outbound".into(),
            Self::Explicit { host, port } => format!("explicit/{host}/{port}"),
            Self::HttpProxy => "http-proxy".into(),
            Self::Gateway { port, .. } => format!("gateway/{port}"),
        }
    }
}

/// Commands that may wait for a worker.
const COMMANDS_QUEUED_MAX: usize = 64;

/// Starts the workers of a proxy on the sockets of `config`. Returns when every worker runs.
///
/// # Errors
/// When a thread or a runtime cannot be made.
pub fn serve(mut config: ProxyConfig, shared: Arc<Shared>) -> io::Result<ProxyHandle> {
    let (trigger, watch) = Drain::new();
    let stop = watch::Sender::new(false);
    let registry = Registry::default();
    let overload = Overload::new(&config.overload, config.workers, &registry);
    let settings = Arc::new(Settings {
        registry: registry.clone(),
        name: config.name.clone(),
        report_interval: config.report_interval.unwrap_or(limits::REPORT_INTERVAL),
        header_timeout: config.header_timeout.unwrap_or(limits::HEADER_TIMEOUT),
        overload: overload.clone(),
    });
    let count = config.workers.max(1);
    let listening = config.listening.clone();
    let budget = SeriesBudget::default();
    let files = FileWriter::start(&registry)?;
    let sockets = share_out(&mut config, count);
    let (mut threads, mut readers, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for (index, sockets) in sockets.into_iter().enumerate() {
        let reader = MetricsReader::default();
        let telemetry =
            TelemetryStart { log: config.access_log.clone(), files: files.clone(), reader: reader.clone(), budget: budget.clone() };
        readers.push(reader);
        let (sender, receiver) = mpsc::channel(COMMANDS_QUEUED_MAX);
        commands.push(sender);
        let start = WorkerStart {
            shared: shared.clone(),
            settings: settings.clone(),
            drain: watch.clone(),
            stop: stop.subscribe(),
            sockets,
            commands: receiver,
            telemetry,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name = format!("weft-worker-{index}");
        threads.push(std::thread::Builder::new().name(name).spawn(move || run_worker(&runtime, start))?);
    }
    let gateway_status = watch::Sender::<PortStates>::default();
    let side = Side {
        shared: shared.clone(),
        registry: registry.clone(),
        readers: readers.clone(),
        workers: commands.clone(),
        gateway: config.gateway.take(),
        gateway_status: gateway_status.clone(),
        admin: config.admin.take(),
        set_log_level: config.set_log_level.take(),
        dns: config.dns.take(),
        overload: overload.clone(),
        listening: listening.clone(),
        stop: stop.subscribe(),
    };
    threads.push(side::start(side)?);
    Ok(ProxyHandle { shared, drain: Some(trigger), stop, threads, readers, registry, commands, gateway_status, overload, listening })
}

type Sockets = Vec<(TcpListener, Task)>;

/// Each worker gets its listener of every group; where a group has fewer, the first workers get them.
fn share_out(config: &mut ProxyConfig, count: usize) -> Vec<Sockets> {
    let mut workers: Vec<Sockets> = std::iter::repeat_with(Vec::new).take(count).collect();
    let listening = config.listening.clone();
    let mut give = |listeners: Vec<TcpListener>, task: Task| {
        listening.note(&task.label(), &listeners);
        for (index, listener) in listeners.into_iter().enumerate() {
            workers[index % count].push((listener, task.clone()));
        }
    };
    for socket in std::mem::take(&mut config.inbound) {
        give(socket.listeners, Task::Inbound { port: socket.workload_port, program: socket.program });
    }
    for group in std::mem::take(&mut config.outbound) {
        give(group, Task::Outbound);
    }
    for explicit in std::mem::take(&mut config.explicit) {
        give(explicit.listeners, Task::Explicit { host: explicit.host.into(), port: explicit.port });
    }
    give(std::mem::take(&mut config.http_proxy), Task::HttpProxy);
    workers
}

struct WorkerStart {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    drain: DrainWatch,
    stop: watch::Receiver<bool>,
    sockets: Sockets,
    commands: mpsc::Receiver<Command>,
    telemetry: TelemetryStart,
}

fn run_worker(runtime: &tokio::runtime::Runtime, start: WorkerStart) {
    let local = tokio::task::LocalSet::new();
    local.block_on(runtime, async move {
        let tasks = Tasks::new();
        let worker = Worker::new(start.shared, start.settings, tasks.spawner(), start.drain, Telemetry::new(start.telemetry));
        for (listener, task) in start.sockets {
            listen(&worker, listener, &task, std::future::pending());
        }
        tend(&worker, start.commands, start.stop).await;
        worker.tick();
        worker.programs.borrow_mut().clear();
        tasks.shutdown().await;
    });
}

/// Until the end: ticks, and does what it is asked.
async fn tend(worker: &Rc<Worker>, mut commands: mpsc::Receiver<Command>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(worker.settings.report_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let drain = worker.drain.clone();
    let mut draining = std::pin::pin!(drain.signaled());
    let mut is_draining = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => worker.tick(),
            command = commands.recv() => match command {
                Some(Command::Listen { listener, task, mut stop }) => {
                    listen(worker, listener, &task, async move { stop.wait_for(|stop| *stop).await.ok(); });
                }
                Some(Command::Describe(answer)) => {
                    answer.send(worker.describe()).ok();
                }
                None => return,
            },
            () = draining.as_mut(), if !is_draining => {
                is_draining = true;
                ticks = tokio::time::interval(Duration::from_millis(20));
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if is_draining && worker.connections.get() == 0 && worker.listeners.get() == 0 {
            return;
        }
    }
}

fn listen(worker: &Rc<Worker>, listener: TcpListener, task: &Task, stop: impl Future<Output = ()> + 'static) {
    let duty = match task {
        Task::Inbound { port, program } => {
            let pool = worker.programs.borrow_mut().entry(*port).or_insert_with(|| program_pool(worker, program, *port)).clone();
            Duty::Inbound { port: *port, pool, tls: accept::mesh_tls(worker) }
        }
        Task::Outbound => Duty::Outbound,
        Task::Explicit { host, port } => Duty::Explicit { host: host.clone(), port: *port },
        Task::HttpProxy => Duty::HttpProxy,
        Task::Gateway { port, edge } => Duty::Gateway { port: *port, edge: edge.clone() },
    };
    worker.listeners.set(worker.listeners.get() + 1);
    let of = worker.clone();
    worker.tasks.spawn_local("listener", async move {
        accept::listen(of.clone(), listener, duty, stop).await;
        of.listeners.set(of.listeners.get() - 1);
    });
}

fn program_pool(worker: &Worker, program: &Program, port: u16) -> Rc<Pool> {
    let limits = worker.config().program_limits(port);
    let dial = Dial::Program { program: program.clone(), port };
    Pool::new(dial, limits, Arc::default(), Rc::default(), Box::new(|| false))
}

impl ProxyHandle {
    /// What this proxy shares with its control client.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Id of the workload that it stands for, once known.
    pub fn workload_id(&self) -> Option<String> {
        self.shared.snapshot().inbound.as_ref().map(|i| i.workload.id.clone())
    }

    /// A gateway's ports: where each is open, or why it is not.
    pub fn gateway_ports(&self) -> GatewayStatus {
        let said = |(port, state): (&u16, &Result<_, ClosedPort>)| (*port, state.clone().map_err(|closed| closed.reason));
        self.gateway_status.borrow().iter().map(said).collect()
    }

    /// Follows a gateway's ports, from how they are now.
    pub fn follow_gateway_ports(&self) -> watch::Receiver<PortStates> {
        let mut ports = self.gateway_status.subscribe();
        ports.mark_changed();
        ports
    }

    /// Metrics of all workers, added up.
    pub fn metrics(&self) -> weft_telemetry::MetricsSnapshot {
        let mut sum = weft_telemetry::MetricsSnapshot::default();
        self.readers.iter().for_each(|reader| sum.merge(&reader.snapshot()));
        sum
    }

    /// Limits that were hit, decisions of policies and other counters of this proxy, in the text format.
    pub fn counters(&self) -> String {
        let mut text = String::new();
        self.registry.render_into(&mut text);
        text
    }

    /// Clusters, pools and ejections of each worker.
    pub async fn describe(&self) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        for commands in &self.commands {
            let (answer, receiver) = tokio::sync::oneshot::channel();
            if commands.send(Command::Describe(answer)).await.is_ok() {
                all.extend(receiver.await);
            }
        }
        all
    }

    /// Copies of the sockets that it listens on, for a successor.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// From now on it says that it is not ready. It goes on to serve, until [`ProxyHandle::drain`].
    pub fn begin_drain(&self) {
        self.overload.begin_drain();
    }

    /// Stops accepting, lets requests in flight finish, and ends; at the deadline it ends anyway.
    pub async fn drain(mut self, deadline: Duration) -> Drained {
        let drained = match self.drain.take() {
            Some(trigger) => {
                self.overload.begin_drain();
                self.listening.forget();
                trigger.drain(deadline).await
            }
            None => Drained::Complete,
        };
        self.stop.send_replace(true);
        drained
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A panic of a worker was logged by its hook.
            thread.join().ok();
        }
    }
}

/// The first address of a group of listeners, for those who bound port 0.
pub fn address_of(listeners: &[TcpListener]) -> Option<SocketAddr> {
    listeners.first()?.local_addr().ok()
}
