//! `weft up`: the whole mesh in one process. And `weft down`.

mod args;
mod banner;
mod gateway;

pub(crate) use args::{UpArgs, duration};

use crate::{
    cli::Global,
    client::block_on,
    demo::Demo,
    state::{Running, StateDir},
};
use anyhow::{Context, Result};
use banner::Banner;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use weft_control::{Control, ControlConfig};

/// What stops beside the gateway has at least so long.
const STOP_MIN: Duration = Duration::from_secs(5);

/// Runs until Ctrl-C, SIGTERM or `weft down`.
pub(crate) fn up(global: &Global, args: UpArgs) -> Result<()> {
    crate::run::log_to_stderr(&args.log);
    let state = global.state()?;
    state.create()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("weft-control").enable_all().build()?;
    runtime.block_on(serve(state, args))
}

/// A listener on loopback, with an error that names the flag to change.
fn listen(port: u16, flag: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("port {port} of 127.0.0.1 is taken\n  fix: end what uses it (`ss -ltnp 'sport = :{port}'`), or choose another with {flag} (0 takes a free one)"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve(state: StateDir, args: UpArgs) -> Result<()> {
    let mut banner = Banner::start(&state);
    // Held to the end: one mesh per state folder.
    let _lock = state.lock()?;
    let (api, xds) = (listen(args.api_port, "--api-port")?, listen(args.xds_port, "--xds-port")?);
    let (api_address, xds_address) = (api.local_addr()?, xds.local_addr()?);
    banner.done(&format!("listening on 127.0.0.1 ({} page and API, {} proxies)", api_address.port(), xds_address.port()));

    let token = state.token()?;
    let control = Control::start(ControlConfig {
        files: args.files.clone(),
        leaf_ttl: args.leaf_ttl,
        trust_domain: args.trust_domain.clone(),
        ..ControlConfig::new(state.path(), xds)
    })
    .await?;
    control.notices().iter().for_each(|notice| banner.warn(notice));
    banner.done(&format!("certificate authority of {}, root valid until {}", args.trust_domain, control.root_valid_until()));

    let stop = Arc::new(Notify::new());
    let router = {
        let stop = stop.clone();
        weft_manage::router(weft_manage::ManageState::new(control.clone(), token.clone(), move || stop.notify_one()))
    };
    let api_server = weft_manage::serve(api, router);
    let server = tokio::spawn(api_server);

    let gateway = gateway::start(&state, &control, xds_address, &args).await?;
    banner.done(&format!("gateway {}", gateway.places()));
    let demo = match args.demo {
        true => Some(Demo::start(&state, &control, xds_address, gateway.shop_address()).await?),
        false => None,
    };
    if let Some(demo) = &demo {
        banner.done(&demo.sentence());
    }
    state.announce(&Running {
        pid: std::process::id(),
        api: api_address,
        xds: xds_address,
        gateway: gateway.map(),
        version: env!("CARGO_PKG_VERSION").into(),
        drain_ms: u64::try_from(args.drain_duration.as_millis()).unwrap_or(u64::MAX),
    })?;
    banner.finish(api_address, &token, args.demo, gateway.shop_address());

    wait_for_end(&stop).await;
    eprintln!("\nstopping: open requests end, the state stays in {}", state.path().display());
    state.retract();
    let end = async {
        if let Some(demo) = demo {
            demo.stop().await;
        }
        gateway.stop(args.drain_duration).await;
        control.shutdown().await;
    };
    let longest = args.drain_duration.max(STOP_MIN);
    if tokio::time::timeout(longest, end).await.is_err() {
        eprintln!("some requests did not end within {longest:?} and were cut");
    }
    server.abort();
    Ok(())
}

/// Ctrl-C, SIGTERM, or a word through the API.
async fn wait_for_end(stop: &Notify) {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
        () = stop.notified() => {}
    }
}

/// Stops the mesh that runs on the state folder, and waits until it has.
pub(crate) fn down(global: &Global) -> Result<()> {
    let state = global.state()?;
    let running = state.running()?;
    let client = global.client()?;
    block_on(async {
        client.post::<serde_json::Value>("shutdown", "").await?;
        let gone = async {
            while state.lock().is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let longest = Duration::from_millis(running.drain_ms).max(STOP_MIN).saturating_add(STOP_MIN);
        tokio::time::timeout(longest, gone).await.with_context(|| {
            format!("it was told to stop but still runs\n  fix: look at what it prints, or end it with `kill {}`", running.pid)
        })?;
        crate::output::print_text(&format!("stopped (pid {}); the state stays in {}", running.pid, state.path().display()))
    })
}

/// The address on which something is reached from this machine.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => (Ipv4Addr::LOCALHOST, address.port()).into(),
        false => address,
    }
}
