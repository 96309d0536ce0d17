//! `weft run`: any unmodified program inside the mesh.

mod args;
mod explicit;
mod sidecar;

pub(crate) use args::RunArgs;
pub(crate) use sidecar::{access_log, log_to_stderr, proxy_config};

use crate::{
    cli::Global,
    client::{Client, block_on},
    state::StateDir,
};
use anyhow::{Context, Result};
use args::CaptureArg;
use explicit::LocalPorts;
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use weft_proxy::{InboundSocket, Program, Proxy, ProxyConfig, control::ControlEndpoint};
use weft_wire::{
    capture::{Capture, CaptureOptions, CaptureSockets},
    listen::reuse_port_listeners,
};

/// How long open requests of the demo, and what is left of a program in its namespaces, may take to end.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// How long a proxy may take to join the mesh.
pub(crate) const JOIN: Duration = Duration::from_secs(15);

/// Where the program lives, and how it is started and ended.
enum Seat {
    /// In namespaces of its own.
    Namespace(Capture),
    /// On this machine, told by its environment where to find each service.
    Ports(LocalPorts),
}

/// Joins the mesh, runs the program, and ends with its exit code.
pub(crate) fn run(global: &Global, args: RunArgs) -> Result<ExitCode> {
    log_to_stderr(&args.log);
    let (state, client) = (global.state()?, global.client()?);
    let capture = match args.capture {
        CaptureArg::Ports => None,
        wanted => match Capture::start(&capture_options(&args)) {
            Ok(captured) => Some(captured),
            Err(unavailable) if wanted == CaptureArg::Auto => {
                eprintln!("weft: this program gets local ports, not a network of its own: {unavailable}");
                eprintln!("weft: it can walk around the mesh, and finds services by its environment (WEFT_<SERVICE>_<PORT>, HTTP_PROXY)");
                None
            }
            Err(unavailable) => return Err(unavailable.into()),
        },
    };
    block_on(serve(state, client, args, capture))
}

/// Keeps a sidecar that idles as small as it was at its start.
async fn release_while_idle() -> std::convert::Infallible {
    let mut idle = weft_wire::memory::IdleRelease::default();
    loop {
        idle.look();
        tokio::time::sleep(Duration::from_secs(weft_wire::memory::LOOK_S)).await;
    }
}

/// What the capture needs to know: short names are looked for as in Kubernetes.
fn capture_options(args: &RunArgs) -> CaptureOptions {
    let search = [format!("{}.svc.cluster.local", args.namespace), "svc.cluster.local".into(), "cluster.local".into()];
    CaptureOptions {
        program: args.program.iter().map(Into::into).collect(),
        workers: usize::from(args.workers),
        search: search.into(),
        ..CaptureOptions::default()
    }
}

async fn serve(state: StateDir, client: Client, args: RunArgs, capture: Option<(Capture, CaptureSockets)>) -> Result<ExitCode> {
    let mut signals = Signals::catch();
    let (mut config, endpoint) = join(&state, &client, &args).await?;
    let seat = match capture {
        Some((capture, sockets)) => {
            config.outbound = vec![sockets.outbound, sockets.outbound_v6];
            config.dns = Some(sockets.dns);
            Seat::Namespace(capture)
        }
        None => {
            let ports = LocalPorts::prepare(&client).await?;
            config.explicit = ports.listeners()?;
            config.http_proxy = vec![ports.http_proxy()?];
            Seat::Ports(ports)
        }
    };
    config.inbound = inbound(&args, &seat)?;
    let places: Vec<SocketAddr> = config.inbound.iter().filter_map(|i| i.listeners.first().and_then(|l| l.local_addr().ok())).collect();
    let folder = config.state_dir.clone();
    let proxy = Proxy::start(config, endpoint).context("the proxy cannot start")?;
    let identity = proxy.ready(JOIN).await.context("the program cannot join the mesh\n  fix: `weft check` tells what is wrong with it")?;
    eprintln!("weft: {} is in the mesh as {identity}{}", args.workload_name(), listening(&args, &places));
    weft_wire::memory::release_code_pages();
    let code = tokio::select! {
        code = program(&args, &seat, &mut signals) => code,
        never = proxy.follow_health() => match never {},
        never = release_while_idle() => match never {},
    };
    proxy.drain(args.drain_duration).await;
    if let Seat::Namespace(capture) = seat {
        // What the program left behind ends with its namespaces; a process that clings is not waited for.
        let _ = tokio::time::timeout(DRAIN, capture.shutdown()).await;
    }
    // Key and certificate of a program that has ended: the next `weft run` joins anew.
    let _ = std::fs::remove_dir_all(folder);
    code
}

fn listening(args: &RunArgs, places: &[SocketAddr]) -> String {
    let one = |(port, place): (&args::PortArg, &SocketAddr)| format!("; port {}: proxy listens on {place}", port.port);
    args.ports.iter().zip(places).map(one).collect()
}

/// Asks for a join token and makes the proxy's configuration.
async fn join(state: &StateDir, client: &Client, args: &RunArgs) -> Result<(ProxyConfig, ControlEndpoint)> {
    let grant = json!({
        "namespace": args.namespace, "serviceAccount": args.account(), "workload": args.workload_name(), "labels": args.all_labels(), "ttlS": 60,
    });
    let answer: serde_json::Value = client.post("join-tokens", serde_json::to_vec(&grant)?).await?;
    let text = |field: &str| answer[field].as_str().with_context(|| format!("the answer to the join request lacks {field}"));
    let control: SocketAddr = text("control")?.parse().context("the control plane's address is not ADDRESS:PORT")?;
    let name = format!("{}-{}-{}", args.namespace, args.workload_name(), std::process::id());
    let endpoint =
        ControlEndpoint { address: control, bundle_pem: text("bundlePem")?.to_owned(), join_token: Some(text("token")?.to_owned()) };
    let mut config = proxy_config(state, &name);
    config.workers = usize::from(args.workers);
    config.access_log = access_log(args.access_log.as_deref())?;
    config.admin = Some(std::net::TcpListener::bind(args.admin).with_context(|| format!("the admin address {} is taken", args.admin))?);
    Ok((config, endpoint))
}

/// One inbound listener per port of the program.
fn inbound(args: &RunArgs, seat: &Seat) -> Result<Vec<InboundSocket>> {
    let mut sockets = Vec::new();
    for (i, port) in args.ports.iter().enumerate() {
        let listeners = reuse_port_listeners((args.listen, 0).into(), usize::from(args.workers))
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        let own = listeners.first().context("at least one worker")?.local_addr()?;
        let program = match seat {
            Seat::Namespace(capture) => Program::Namespace(capture.program_sockets()),
            Seat::Ports(_) => Program::Host(Ipv4Addr::LOCALHOST.into()),
        };
        let advertise = args.advertise.get(i).copied().unwrap_or(own);
        sockets.push(InboundSocket { workload_port: port.port, listeners, advertise, protocol: port.protocol, program });
    }
    Ok(sockets)
}

/// Starts the program, passes signals on, and gives its exit code as a shell would.
async fn program(args: &RunArgs, seat: &Seat, signals: &mut Signals) -> Result<ExitCode> {
    let code = match seat {
        Seat::Namespace(capture) => match capture.start_program().await {
            Ok(_) => tokio::select! {
                end = capture.wait() => end.code(),
                never = signals.forward(|signal| capture.signal(signal)) => match never {},
            },
            Err(not_started) => {
                eprintln!("error: {not_started}");
                not_started.code
            }
        },
        Seat::Ports(ports) => shell_code(ports.run(&args.program, signals).await?),
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Exit code of a status: the program's own, or 128 + signal.
fn shell_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1)
}

/// The signals that a program may want, caught from the moment this is made: none that comes while the proxy joins is lost.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn catch() -> Self {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::window_change(),
        ];
        Self(kinds.into_iter().filter_map(|k| signal(k).ok().map(|s| (k.as_raw_value(), s))).collect())
    }

    /// Hands each to `send`, for as long as it is polled.
    async fn forward(&mut self, send: impl Fn(i32)) -> std::convert::Infallible {
        std::future::poll_fn(|cx| {
            for (number, stream) in &mut self.0 {
                while stream.poll_recv(cx).is_ready() {
                    send(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Says why the program cannot start; the status is that of a shell: 127 not found, 126 not executable.
fn cannot_start(name: &str, error: &std::io::Error) -> ExitStatus {
    let (code, fix) = match error.kind() {
        std::io::ErrorKind::NotFound => (127, "check the path, or that it is in PATH"),
        _ => (126, "is it a program, and may you run it? (chmod +x)"),
    };
    eprintln!("error: {name} cannot be started: {error}\n  fix: {fix}");
    ExitStatus::from_raw(code << 8)
}
