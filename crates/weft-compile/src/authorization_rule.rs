//! One rule of an AuthorizationPolicy in the model's form. What cannot be decided is named, so that ALLOW never and DENY always
//! counts it: a rule is never taken for wider than it was written.

use crate::{diag, link::Linker};
use weft_api::{Document, Spanned, istio};
use weft_model::{AnyNone, AuthorizationRule, Condition, ConditionKey, Operation, Origin, Pattern, Source, StringMatch};

/// The rule.
pub(crate) fn rule(linker: &mut Linker<'_>, document: &Document, index: usize, spec: &Spanned<istio::Rule>) -> AuthorizationRule {
    let origin = spec.origin(&document.origin);
    let mut rule = AuthorizationRule { origin: origin.clone(), ..Default::default() };
    let written = document.json.pointer(&format!("/spec/rules/{index}"));
    let part = |path: &str| written.and_then(|w| w.pointer(path));
    for (i, from) in spec.from.iter().enumerate() {
        let mut made = from.source.as_ref().map(|s| source(linker, document, s)).unwrap_or_default();
        made.undecidable.extend(unknown(linker, part(&format!("/from/{i}")), &["source"], &origin));
        made.undecidable.extend(unknown(linker, part(&format!("/from/{i}/source")), &SOURCE, &origin));
        rule.from.push(made);
    }
    for (i, to) in spec.to.iter().enumerate() {
        let mut made = to.operation.as_ref().map(|o| operation(linker, document, o)).unwrap_or_default();
        made.undecidable.extend(unknown(linker, part(&format!("/to/{i}")), &["operation"], &origin));
        made.undecidable.extend(unknown(linker, part(&format!("/to/{i}/operation")), &OPERATION, &origin));
        rule.to.push(made);
    }
    for when in &spec.when {
        rule.when.push(condition(linker, when, &when.origin(&document.origin)));
    }
    for name in unknown(linker, written, &["from", "to", "when"], &origin) {
        rule.when.push(Condition { key: ConditionKey::Undecidable(name), values: AnyNone::default(), blocks: AnyNone::default() });
    }
    rule
}

/// Fields of a source.
const SOURCE: [&str; 14] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
    "trustDomains",
    "notTrustDomains",
];

/// Fields of an operation.
const OPERATION: [&str; 8] = ["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"];

/// Fields that nobody knows: a misspelt condition would otherwise make the rule wider than it was meant.
fn unknown(linker: &mut Linker<'_>, written: Option<&serde_json::Value>, known: &[&str], at: &Origin) -> Vec<String> {
    let fields = written.and_then(|w| w.as_object()).into_iter().flatten();
    let names: Vec<String> = fields.map(|(name, _)| name.clone()).filter(|name| !known.contains(&name.as_str())).collect();
    for name in &names {
        linker.report(diag::undecidable(at.clone(), &format!("unknown field {name:?}")));
    }
    names
}

fn wildcards(any: &[String], none: &[String]) -> AnyNone<StringMatch> {
    let list = |values: &[String]| values.iter().map(|v| StringMatch::from_wildcard(v)).collect();
    AnyNone { any: list(any), none: list(none) }
}

fn source(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::Source>) -> Source {
    let at = spec.origin(&document.origin);
    let mut undecidable = Vec::new();
    let lists = [
        ("requestPrincipals", &spec.request_principals),
        ("notRequestPrincipals", &spec.not_request_principals),
        ("trustDomains", &spec.trust_domains),
        ("notTrustDomains", &spec.not_trust_domains),
    ];
    for (name, _) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        linker.report(diag::undecidable(at.clone(), name));
        undecidable.push((*name).to_owned());
    }
    // `account` alone is one of the policy's own namespace.
    let account = |name: &String| match name.contains('/') {
        true => StringMatch::Exact(name.clone()),
        false => StringMatch::Exact(format!("{}/{name}", document.meta.namespace)),
    };
    Source {
        principals: wildcards(&spec.principals, &spec.not_principals),
        namespaces: wildcards(&spec.namespaces, &spec.not_namespaces),
        accounts: AnyNone {
            any: spec.service_accounts.iter().map(account).collect(),
            none: spec.not_service_accounts.iter().map(account).collect(),
        },
        ip_blocks: AnyNone { any: spec.ip_blocks.clone(), none: spec.not_ip_blocks.clone() },
        remote_ip_blocks: AnyNone { any: spec.remote_ip_blocks.clone(), none: spec.not_remote_ip_blocks.clone() },
        undecidable,
    }
}

fn operation(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::Operation>) -> Operation {
    let at = spec.origin(&document.origin);
    let mut undecidable = Vec::new();
    let mut ports = |list: &[String]| -> Vec<u16> {
        let one = |text: &String| match text.parse::<u16>() {
            Ok(port) => Some(port),
            Err(_) => {
                linker.report(diag::bad_port(at.clone(), text));
                undecidable.push(format!("port {text}"));
                None
            }
        };
        list.iter().filter_map(one).collect()
    };
    let ports = AnyNone { any: ports(&spec.ports), none: ports(&spec.not_ports) };
    let mut paths = |list: &[String]| list.iter().map(|p| path(linker, p, &at)).collect();
    let paths = AnyNone { any: paths(&spec.paths), none: paths(&spec.not_paths) };
    let hosts = |list: &[String]| list.iter().map(|h| host(h)).collect();
    Operation {
        hosts: AnyNone { any: hosts(&spec.hosts), none: hosts(&spec.not_hosts) },
        ports,
        methods: wildcards(&spec.methods, &spec.not_methods),
        paths,
        undecidable,
    }
}

/// Hosts ignore case; requests come with theirs in lower case.
fn host(text: &str) -> StringMatch {
    match StringMatch::from_wildcard(&text.to_ascii_lowercase()) {
        StringMatch::Exact(name) => StringMatch::ExactIgnoreCase(name),
        StringMatch::Prefix(name) => StringMatch::PrefixIgnoreCase(name),
        other => other,
    }
}

/// A path: with `*` at one end, or a template (`{*}` one segment, `{**}` the rest).
fn path(linker: &mut Linker<'_>, text: &str, at: &Origin) -> StringMatch {
    if !text.contains("{*") {
        return StringMatch::from_wildcard(text);
    }
    let mut pattern = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{*") {
        pattern.push_str(&escape(&rest[..start]));
        let operator = &rest[start..];
        rest = if let Some(after) = operator.strip_prefix("{**}") {
            pattern.push_str(".*");
            after
        } else if let Some(after) = operator.strip_prefix("{*}") {
            pattern.push_str("[^/]+");
            after
        } else {
            pattern.push_str(&escape("{*"));
            &operator[2..]
        };
    }
    pattern.push_str(&escape(rest));
    match Pattern::new(&pattern) {
        Ok(pattern) => StringMatch::Regex(pattern),
        Err(why) => {
            linker.report(diag::bad_pattern(at.clone(), text, &why.to_string()));
            StringMatch::Exact(text.into())
        }
    }
}

/// The text as a regular expression for itself.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_alphanumeric() && c != '/' && c != '_' && c.is_ascii() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn condition(linker: &mut Linker<'_>, spec: &istio::Condition, at: &Origin) -> Condition {
    let header = spec.key.strip_prefix("request.headers[").and_then(|k| k.strip_suffix(']'));
    let key = match (header, spec.key.as_str()) {
        (Some(name), _) => ConditionKey::Header(name.trim_matches(['"', '\'']).to_ascii_lowercase()),
        (None, "source.ip") => ConditionKey::SourceIp,
        (None, "remote.ip") => ConditionKey::RemoteIp,
        (None, "source.namespace") => ConditionKey::SourceNamespace,
        (None, "source.principal") => ConditionKey::SourcePrincipal,
        (None, "destination.ip") => ConditionKey::DestinationIp,
        (None, "destination.port") => ConditionKey::DestinationPort,
        (None, "connection.sni") => ConditionKey::Sni,
        (None, other) => {
            linker.report(diag::undecidable(at.clone(), other));
            ConditionKey::Undecidable(other.to_owned())
        }
    };
    let mut condition = Condition { key, values: wildcards(&spec.values, &spec.not_values), blocks: AnyNone::default() };
    if matches!(condition.key, ConditionKey::SourceIp | ConditionKey::RemoteIp | ConditionKey::DestinationIp) {
        let mut bad = None;
        let mut blocks = |list: &[String]| {
            let one = |text: &String| {
                let block = text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from));
                if block.is_none() {
                    bad = Some(text.clone());
                }
                block
            };
            list.iter().filter_map(one).collect::<Vec<_>>()
        };
        condition.blocks = AnyNone { any: blocks(&spec.values), none: blocks(&spec.not_values) };
        if let Some(text) = bad {
            linker.report(diag::bad_address(at.clone(), &text));
            condition.key = ConditionKey::Undecidable(format!("{} {text}", spec.key));
        }
    }
    condition
}
