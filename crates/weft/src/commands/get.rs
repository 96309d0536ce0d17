//! `weft get`: lists and shows resources, and the catalogue: services, workloads, diagnostics.

use super::{files, value};
use crate::{cli::Global, output};
use anyhow::Result;
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// A kind (virtualservice, vs, httproute, gateway, …), or: all, services, workloads, diagnostics.
    #[arg(default_value = "all")]
    what: String,
    /// One object of that kind.
    name: Option<String>,
    /// Namespace [default: all; with a name: default].
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Short and plural names, as kubectl and istioctl users type them.
pub(super) fn kind(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let known = [
        ("VirtualService", "vs"),
        ("DestinationRule", "dr"),
        ("Gateway", "gw"),
        ("GatewayClass", "gc"),
        ("HTTPRoute", "hr"),
        ("GRPCRoute", "gr"),
        ("ReferenceGrant", "refgrant"),
        ("ServiceEntry", "se"),
        ("WorkloadEntry", "we"),
        ("AuthorizationPolicy", "ap"),
        ("RateLimit", "rl"),
        ("ConcurrencyPolicy", "cp"),
        ("PeerAuthentication", "pa"),
        ("Service", "svc"),
        ("ServiceAccount", "sa"),
        ("Namespace", "ns"),
        ("Deployment", "deploy"),
        ("Pod", "po"),
        ("Workload", "wl"),
    ];
    let is = |name: &str, short: &str| {
        let name = name.to_ascii_lowercase();
        lower == short
            || lower == name
            || lower == format!("{name}s")
            || lower == format!("{name}es")
            || lower == format!("{}ies", name.trim_end_matches('y'))
    };
    known.iter().find(|(name, short)| is(name, short)).map_or_else(|| text.to_owned(), |(name, _)| (*name).to_owned())
}

pub(crate) async fn get(global: &Global, mut args: GetArgs) -> Result<()> {
    let client = global.client()?;
    // kubectl's `kind/name`.
    if let (Some((kind, name)), None) = (args.what.split_once('/'), &args.name) {
        (args.what, args.name) = (kind.to_owned(), Some(name.to_owned()));
    }
    if let Some(name) = &args.name {
        let namespace = args.namespace.as_deref().unwrap_or("default");
        let path = format!("resources/{}/{}/{}", kind(&args.what), files::encode(namespace), files::encode(name));
        let detail: Value = client.get(&path).await?;
        return output::print(global.output, &detail, |d| {
            let diagnostics = value::diagnostics(value::items(d, "/resource/diagnostics"));
            format!("{}\n{diagnostics}", value::text(d, "/yaml").trim_end())
        });
    }
    match args.what.to_ascii_lowercase().as_str() {
        "services" | "service" | "svc" => list(global, client.get("services").await?, &args, services),
        "workloads" | "workload" | "wl" => list(global, client.get("workloads").await?, &args, workloads),
        "diagnostics" => {
            let answer: Value = client.get("diagnostics").await?;
            output::print(global.output, &answer, |a| match value::items(a, "/diagnostics") {
                [] => "no diagnostics: the configuration is clean".into(),
                list => value::diagnostics(list),
            })
        }
        what => {
            let kind = if what == "all" { String::new() } else { kind(&args.what) };
            let path = format!(
                "resources?kind={}&namespace={}",
                files::encode(&kind),
                files::encode(args.namespace.as_deref().unwrap_or_default())
            );
            list(global, client.get(&path).await?, &args, resources)
        }
    }
}

/// Prints a list, narrowed to the namespace asked for.
fn list(global: &Global, answer: Vec<Value>, args: &GetArgs, table: impl FnOnce(&[Value]) -> String) -> Result<()> {
    let wanted = |v: &Value| args.namespace.as_deref().is_none_or(|n| value::text(v, "/namespace") == n);
    let answer: Vec<Value> = answer.into_iter().filter(wanted).collect();
    output::print(global.output, &answer, |list| if list.is_empty() { format!("no {}", args.what) } else { table(list) })
}

fn services(list: &[Value]) -> String {
    let ports = |s: &Value| {
        let one = |p: &Value| format!("{}/{}", value::number(p, "/number"), value::text(p, "/protocol"));
        value::items(s, "/ports").iter().map(one).collect::<Vec<_>>().join(",")
    };
    let texts = |s: &Value, field: &str| value::items(s, field).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    let row = |s: &Value| {
        vec![
            value::text(s, "/namespace").into(),
            value::text(s, "/name").into(),
            ports(s),
            texts(s, "/addresses"),
            format!("{}/{}", value::number(s, "/endpointsHealthy"), value::number(s, "/endpointsTotal")),
            texts(s, "/versions"),
            value::place(&s["origin"]),
        ]
    };
    output::table(&["NAMESPACE", "NAME", "PORTS", "ADDRESS", "READY", "VERSIONS", "FROM"], &list.iter().map(row).collect::<Vec<_>>())
}

fn workloads(list: &[Value]) -> String {
    let row = |w: &Value| {
        let state = match (value::truth(w, "/connected"), value::truth(w, "/healthy")) {
            (true, true) => "healthy",
            (true, false) => "not ready",
            (false, _) => "declared",
        };
        vec![
            value::text(w, "/namespace").into(),
            value::text(w, "/name").into(),
            value::text(w, "/service").into(),
            value::text(w, "/version").into(),
            state.into(),
            value::text(w, "/identity").into(),
        ]
    };
    output::table(&["NAMESPACE", "NAME", "SERVICE", "VERSION", "STATE", "IDENTITY"], &list.iter().map(row).collect::<Vec<_>>())
}

fn resources(list: &[Value]) -> String {
    let row = |r: &Value| {
        let worst = value::items(r, "/diagnostics").iter().map(|d| value::text(d, "/severity"));
        let count = |severity: &str| worst.clone().filter(|s| *s == severity).count();
        let status = match (count("error"), count("warning")) {
            (0, 0) => "ok".into(),
            (0, warnings) => format!("{warnings} warning{}", if warnings == 1 { "" } else { "s" }),
            (errors, _) => format!("{errors} error{}", if errors == 1 { "" } else { "s" }),
        };
        vec![
            value::text(r, "/kind").into(),
            value::text(r, "/namespace").into(),
            value::text(r, "/name").into(),
            status,
            value::place(&r["origin"]),
        ]
    };
    output::table(&["KIND", "NAMESPACE", "NAME", "STATUS", "FROM"], &list.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_any_name_users_type() {
        for text in ["vs", "virtualservice", "VirtualServices", "VirtualService"] {
            assert_eq!(kind(text), "VirtualService");
        }
        assert_eq!(kind("authorizationpolicies"), "AuthorizationPolicy");
        assert_eq!(kind("gatewayclasses"), "GatewayClass");
        assert_eq!(kind("Gizmo"), "Gizmo");
    }
}
