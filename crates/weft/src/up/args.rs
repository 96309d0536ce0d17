//! What `weft up` is asked.

use clap::Args;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// Start the whole mesh in one process.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Load resources from this file or folder, and watch it. Repeatable.
    #[arg(short, long = "filename", value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Start a small shop, shoppers and one planted fault.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Port of the API and the page, on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 8480, value_name = "PORT")]
    pub(crate) api_port: u16,
    /// Port on which proxies reach the control plane, on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 8481, value_name = "PORT")]
    pub(crate) xds_port: u16,
    /// Where the gateway listens for a port of the resources. Ports below 1024 are moved up by 8000 unless given. Repeatable.
    #[arg(long = "gateway", value_name = "PORT=[IP:]PORT")]
    pub(crate) gateway: Vec<GatewayMap>,
    /// Address on which the gateway listens.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) gateway_ip: IpAddr,
    /// Threads of the gateway [default: one per core].
    #[arg(long, value_name = "N")]
    pub(crate) gateway_workers: Option<u8>,
    /// Trust domain of the mesh's identities; fixed when the state folder is made.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) trust_domain: String,
    /// Lifetime of workload certificates, e.g. 24h, 10m, 4s.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub(crate) leaf_ttl: Duration,
    /// Send traces to this OTLP/HTTP endpoint, e.g. http://127.0.0.1:4318.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp: Option<String>,
    /// Write the gateway's access log (JSON lines) to this file; `-` is standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// How long open requests may take to end when the mesh stops, e.g. 5s, 500ms.
    #[arg(long, default_value = "5s", env = "WEFT_TERMINATION_DRAIN_DURATION", value_name = "DURATION", value_parser = duration)]
    pub(crate) drain_duration: Duration,
    /// Log level.
    #[arg(long, default_value = "warn", env = "WEFT_LOG")]
    pub(crate) log: String,
}

/// `80=8080` or `80=0.0.0.0:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GatewayMap {
    port: u16,
    ip: Option<IpAddr>,
    listen: u16,
}

impl FromStr for GatewayMap {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not PORT=PORT or PORT=IP:PORT");
        let (port, listen) = text.split_once('=').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        match (listen.parse::<u16>(), listen.parse::<SocketAddr>()) {
            (Ok(listen), _) => Ok(Self { port, ip: None, listen }),
            (_, Ok(address)) => Ok(Self { port, ip: Some(address.ip()), listen: address.port() }),
            _ => Err(wrong()),
        }
    }
}

impl UpArgs {
    /// Port as written → where it is listened on, for the ports that were given.
    pub(crate) fn gateway_map(&self) -> BTreeMap<u16, SocketAddr> {
        self.gateway.iter().map(|m| (m.port, (m.ip.unwrap_or(self.gateway_ip), m.listen).into())).collect()
    }
}

/// `250ms`, `4s`, `10m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a duration such as 24h, 10m or 4s"))?;
    let ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        unit => return Err(format!("{unit:?} is not a unit: use ms, s, m, h or d")),
    };
    Ok(Duration::from_millis(number.saturating_mul(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_ports_and_durations() {
        let map = |t: &str| t.parse::<GatewayMap>();
        assert_eq!(map("80=8080"), Ok(GatewayMap { port: 80, ip: None, listen: 8080 }));
        assert_eq!(map("443=0.0.0.0:8443").map(|m| m.ip.is_some()), Ok(true));
        assert!(map("80").is_err() && map("80=x").is_err());
        assert_eq!(duration("4s"), Ok(Duration::from_secs(4)));
        assert!(duration("4").is_err() && duration("4y").is_err());
    }
}
