//! `weft up --demo`: a small shop inside the mesh, a load generator and one planted fault.

mod apps;
mod echo;
mod http;
mod load;

pub(crate) use echo::{DemoAppArgs, app};

use crate::state::StateDir;
use anyhow::{Context, Result, bail};
use apps::{App, SHOP};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread::JoinHandle,
};
use tokio::sync::oneshot;
use weft_control::{Control, JoinGrant};
use weft_proxy::{ExplicitListener, InboundSocket, Program, Proxy, ProxyConfig, control::ControlEndpoint};

/// The resources of the shop.
const SHOP_YAML: &str = include_str!("../../../../examples/shop/shop.yaml");
/// How the resources are named in messages.
const SHOP_FILE: &str = "examples/shop/shop.yaml";
/// Its namespace.
const NAMESPACE: &str = "shop";

/// The running shop: its proxies, and one thread with all of its programs and shoppers.
pub(crate) struct Demo {
    proxies: Vec<Proxy>,
    stop: oneshot::Sender<()>,
    programs: JoinHandle<()>,
}

/// A program's sockets: its own listener, and where its sidecar offers each service that it calls.
struct Seat {
    app: App,
    listener: TcpListener,
    book: BTreeMap<&'static str, SocketAddr>,
}

impl Demo {
    /// Applies the resources, joins every program to the mesh, and starts the shoppers.
    pub(crate) async fn start(state: &StateDir, control: &Control, xds: SocketAddr, gateway: SocketAddr) -> Result<Self> {
        let applied = control.apply(SHOP_YAML, SHOP_FILE, false).await?;
        if applied.refused() {
            bail!("the demo's own resources are refused: {:?}", applied.diagnostics);
        }
        let (mut proxies, mut seats) = (Vec::new(), Vec::new());
        for app in SHOP {
            let (proxy, seat) = seat(state, control, xds, *app).await?;
            proxies.push(proxy);
            seats.push(seat);
        }
        // Their listeners are open: connections wait in the queue until the programs' thread takes them.
        for proxy in &proxies {
            proxy.ready(crate::run::JOIN).await.context("a program of the demo cannot join the mesh")?;
        }
        let (stop, stopped) = oneshot::channel();
        let programs = std::thread::Builder::new().name("weft-demo".into()).spawn(move || run(seats, gateway, stopped))?;
        Ok(Self { proxies, stop, programs })
    }

    /// For the banner.
    pub(crate) fn sentence(&self) -> String {
        let services: BTreeSet<&str> = SHOP.iter().map(|a| a.service).collect();
        format!("demo: {} services, {} programs with their own identities, shoppers at the gateway", services.len(), SHOP.len())
    }

    /// Ends shoppers and programs, then drains the proxies.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.programs.join();
        for proxy in self.proxies {
            proxy.drain(crate::run::DRAIN).await;
        }
    }
}

/// Makes the sidecar of one program. The program gets explicit listeners, since it shares this process and its network.
async fn seat(state: &StateDir, control: &Control, xds: SocketAddr, app: App) -> Result<(Proxy, Seat)> {
    let workload = format!("{}-{}", app.service, app.version);
    let grant = JoinGrant {
        namespace: NAMESPACE.into(),
        service_account: app.service.into(),
        workload: workload.clone(),
        labels: [("app", app.service), ("version", app.version)].map(|(k, v)| (k.into(), v.into())).into(),
        ..JoinGrant::default()
    };
    let join = control.mint_join_token(&grant).await?;
    let loopback = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("loopback has no free port");
    let (program, inbound) = (loopback()?, loopback()?);
    let mut book = BTreeMap::new();
    let mut explicit = Vec::new();
    for (service, port) in app.calls {
        let listener = loopback()?;
        book.insert(*service, listener.local_addr()?);
        explicit.push(ExplicitListener { host: (*service).into(), port: *port, listeners: vec![listener] });
    }
    let advertise = inbound.local_addr()?;
    let program_port = program.local_addr()?.port();
    let inbound = InboundSocket {
        workload_port: app.port,
        listeners: vec![inbound],
        advertise,
        protocol: weft_model::Protocol::Http,
        program: Program::HostPort((Ipv4Addr::LOCALHOST, program_port).into()),
    };
    let config = ProxyConfig { inbound: vec![inbound], explicit, ..crate::run::proxy_config(state, &format!("{NAMESPACE}-{workload}")) };
    let endpoint = ControlEndpoint { address: xds, bundle_pem: control.bundle_pem().to_owned(), join_token: Some(join.token) };
    let proxy = Proxy::start(config, endpoint).with_context(|| format!("the sidecar of {workload} cannot start"))?;
    Ok((proxy, Seat { app, listener: program, book }))
}

/// All programs and the shoppers, on one thread, until told to stop.
fn run(seats: Vec<Seat>, gateway: SocketAddr, stopped: oneshot::Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let local = tokio::task::LocalSet::new();
    for seat in seats {
        local.spawn_local(async move {
            if let Err(error) = apps::serve(seat.app, seat.listener, seat.book).await {
                tracing::warn!(program = seat.app.service, %error, "a demo program ended");
            }
        });
    }
    local.spawn_local(load::generate(gateway));
    let _ = local.block_on(&runtime, stopped);
}
