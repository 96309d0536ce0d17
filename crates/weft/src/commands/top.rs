//! `weft top`: who talks to whom, how well, how fast, how safely; worst first.

use super::value;
use crate::{cli::Global, output};
use anyhow::Result;
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Seconds to look back.
    #[arg(long, default_value_t = 60)]
    window: u32,
    /// Only edges from or to this service.
    service: Option<String>,
}

pub(crate) async fn top(global: &Global, args: TopArgs) -> Result<()> {
    let graph: Value = global.client()?.get(&format!("graph?window={}", args.window)).await?;
    output::print(global.output, &graph, |g| table(g, args.service.as_deref()))
}

fn table(graph: &Value, service: Option<&str>) -> String {
    let concerns =
        |e: &&Value| service.is_none_or(|s| [value::text(e, "/source"), value::text(e, "/destination")].iter().any(|id| id.contains(s)));
    let mut edges: Vec<&Value> = value::items(graph, "/edges").iter().filter(concerns).collect();
    edges.sort_by(|a, b| {
        let key = |e: &Value| (value::real(e, "/traffic/errorRatio"), value::real(e, "/traffic/ratePerS"));
        key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    if edges.is_empty() {
        return format!("no traffic in the last {} s", value::number(graph, "/windowS"));
    }
    let quantile = |e: &Value, q: &str| e.pointer(&format!("/traffic/{q}Us")).and_then(Value::as_u64).map_or("-".into(), output::duration);
    let row = |e: &&Value| {
        let mtls = value::real(e, "/traffic/mtlsShare");
        let secured = if mtls >= 1.0 { "√ mTLS".into() } else { format!("{} mTLS", value::percent(mtls)) };
        vec![
            value::text(e, "/source").into(),
            value::text(e, "/destination").into(),
            value::text(e, "/protocol").into(),
            value::percent(1.0 - value::real(e, "/traffic/errorRatio")),
            format!("{:.1}", value::real(e, "/traffic/ratePerS")),
            quantile(e, "p50"),
            quantile(e, "p99"),
            value::number(e, "/traffic/denied").to_string(),
            secured,
        ]
    };
    output::table(
        &["SOURCE", "DESTINATION", "PROTOCOL", "SUCCESS", "RPS", "P50", "P99", "DENIED", "SECURED"],
        &edges.iter().map(row).collect::<Vec<_>>(),
    )
}
