//! The ingress gateway of `weft up`: a proxy like any other, in this process.

use super::{UpArgs, reachable};
use crate::state::StateDir;
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};
use weft_control::{Control, JoinGrant, ProxyRole};
use weft_proxy::{GatewayPorts, Proxy, ProxyConfig, Role, control::ControlEndpoint};

/// Added to a port below 1024, which an ordinary user cannot open.
const LOW_PORT_SHIFT: u16 = 8000;

/// The gateway and where it listens.
pub(crate) struct Gateway {
    proxy: Proxy,
    map: BTreeMap<u16, SocketAddr>,
    ip: IpAddr,
}

/// Starts the gateway: workload `gateway` of namespace `istio-system`, with the label that Istio's samples select.
pub(crate) async fn start(state: &StateDir, control: &Control, xds: SocketAddr, args: &UpArgs) -> Result<Gateway> {
    let map = args.gateway_map().into_iter().map(|(port, address)| Ok((port, free(address)?))).collect::<Result<BTreeMap<_, _>>>()?;
    let grant = JoinGrant {
        namespace: "istio-system".into(),
        service_account: "gateway".into(),
        workload: "gateway".into(),
        labels: [("app", "gateway"), ("istio", "ingressgateway"), ("version", "v1")].map(|(k, v)| (k.into(), v.into())).into(),
        role: ProxyRole::Gateway,
        ..JoinGrant::default()
    };
    let join = control.mint_join_token(&grant).await?;
    let workers = args.gateway_workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let config = ProxyConfig {
        role: Role::Gateway,
        workers,
        gateway: Some(GatewayPorts { map: map.clone(), ip: args.gateway_ip, low_port_shift: LOW_PORT_SHIFT }),
        access_log: crate::run::access_log(args.access_log.as_deref())?,
        otlp: args.otlp.clone(),
        ..crate::run::proxy_config(state, "gateway")
    };
    let endpoint = ControlEndpoint { address: xds, bundle_pem: control.bundle_pem().to_owned(), join_token: Some(join.token) };
    let proxy = Proxy::start(config, endpoint).context("the gateway cannot start")?;
    proxy.ready(crate::run::JOIN).await.context("the gateway cannot join its own mesh")?;
    Ok(Gateway { proxy, map, ip: args.gateway_ip })
}

/// Port 0 becomes one that is free now, so that it can be told before a resource asks for it.
fn free(address: SocketAddr) -> Result<SocketAddr> {
    match address.port() {
        0 => TcpListener::bind(address).and_then(|l| l.local_addr()).with_context(|| format!("{} has no free port", address.ip())),
        _ => Ok(address),
    }
}

impl Gateway {
    /// For the banner: where port 80 and the others are.
    pub(crate) fn places(&self) -> String {
        let mut text = format!("on http://{} (port 80 of a Gateway", self.shop_address());
        match self.map.len() {
            0 | 1 => text.push(')'),
            n => text.push_str(&format!(", and {} more)", n - 1)),
        }
        text
    }
    /// Where port 80 is reached.
    pub(crate) fn shop_address(&self) -> SocketAddr {
        let shifted = (self.ip, 80 + LOW_PORT_SHIFT).into();
        reachable(self.map.get(&80).copied().unwrap_or(shifted))
    }
    pub(crate) fn map(&self) -> BTreeMap<u16, SocketAddr> {
        let mut map = self.map.clone();
        map.entry(80).or_insert((self.ip, 80 + LOW_PORT_SHIFT).into());
        map
    }
    /// Open requests may end for so long.
    pub(crate) async fn stop(self, deadline: Duration) {
        self.proxy.drain(deadline).await;
    }
}
