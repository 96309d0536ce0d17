//! What is not traffic, on a thread of its own: the admin endpoint, the program's DNS, a gateway's ports.

use crate::{
    admin::{self, Admin},
    config::GatewayPorts,
    control::Needed,
    gateway::{self, PortStates},
    limits::{NEED_TIMEOUT, UNKNOWN_KEPT, UNKNOWN_MAX},
    proxy::Command,
    shared::Shared,
};
use foldhash::HashMap;
use std::{cell::RefCell, io, net::IpAddr, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::sync::{mpsc, watch};
use weft_model::Root;
use weft_std::{
    Tasks,
    clock::{self, Instant},
};
use weft_telemetry::{MetricsReader, Registry};
use weft_wire::{
    capture::DnsSockets,
    dns::{self, Answer, Question},
};

/// How long a program may keep an address. Short: what a name means can change with one `weft apply`.
const DNS_TTL: Duration = Duration::from_secs(5);

/// What the side thread works with.
pub(crate) struct Side {
    pub shared: Arc<Shared>,
    pub registry: Registry,
    pub readers: Vec<MetricsReader>,
    pub workers: Vec<mpsc::Sender<Command>>,
    pub gateway: Option<GatewayPorts>,
    pub gateway_status: watch::Sender<PortStates>,
    pub admin: Option<std::net::TcpListener>,
    pub set_log_level: Option<crate::config::SetLogLevel>,
    pub dns: Option<DnsSockets>,
    pub overload: Arc<crate::overload::Overload>,
    pub listening: crate::handover::Listening,
    pub stop: watch::Receiver<bool>,
}

/// Starts the thread.
pub(crate) fn start(side: Side) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("weft-side".into()).spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, run(side));
    })
}

async fn run(side: Side) {
    let tasks = Tasks::new();
    let Side { shared, registry, readers, workers, gateway, gateway_status, admin, set_log_level, dns, overload, listening, mut stop } =
        side;
    tasks.spawn_local("overload", overload.clone().watch());
    if let Some(ports) = gateway {
        tasks.spawn_local("gateway ports", gateway::follow(shared.clone(), ports, workers.clone(), gateway_status.clone(), listening));
    }
    if let Some(listener) = admin {
        let admin = Admin { shared: shared.clone(), registry, readers, workers, gateway_status, set_log_level, overload: overload.clone() };
        tasks.spawn_local("admin", admin::serve(listener, admin, tasks.spawner()));
    }
    if let Some(sockets) = dns {
        tasks.spawn_local("dns", async move {
            let unknown = RefCell::new(HashMap::default());
            if let Err(error) = dns::serve(sockets, async |question: Question| resolve(&shared, &unknown, &question.name).await).await {
                tracing::error!(%error, "the program's names cannot be resolved any more");
            }
        });
    }
    stop.wait_for(|stop| *stop).await.ok();
    tasks.shutdown().await;
}

/// Virtual addresses of the mesh's services; nothing else has an address for a captured program.
async fn resolve(shared: &Shared, unknown: &RefCell<HashMap<String, Instant>>, name: &str) -> Answer {
    let look = |full: &str| -> Option<Vec<IpAddr>> {
        let snapshot = shared.snapshot();
        snapshot.service(name).or_else(|| snapshot.service(full)).map(|service| service.addresses.clone())
    };
    let found = |addresses| Answer::Addresses { addresses, ttl: DNS_TTL };
    if let Some(addresses) = look(name) {
        return found(addresses);
    }
    if unknown.borrow().get(name).is_some_and(|until| *until > clock::now()) {
        return Answer::NxDomain;
    }
    match shared.needs.need(Root::Host(name.to_owned()), NEED_TIMEOUT).await {
        Needed::Resolved(full) => look(&full).map_or(Answer::ServFail, found),
        Needed::Timeout => look(name).map_or(Answer::ServFail, found),
        Needed::Unknown => {
            let mut unknown = unknown.borrow_mut();
            if unknown.len() >= UNKNOWN_MAX {
                unknown.clear();
            }
            unknown.insert(name.to_owned(), clock::now() + UNKNOWN_KEPT);
            Answer::NxDomain
        }
    }
}
