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

/// Longest `namespace/account` (Istio's limit).
const ACCOUNT_BYTES_MAX: usize = 320;

/// The names of the mesh's trust domain: a principal of one of them is meant in all of them.
struct Aliases(Vec<String>);

impl Aliases {
    fn new(linker: &Linker<'_>) -> Self {
        let own = linker.mesh.settings.trust_domain.clone();
        Self(std::iter::once(own).chain(linker.mesh.trust_domain_aliases.iter().cloned()).collect())
    }
    fn of(&self, principals: &[String]) -> Vec<String> {
        let one = |text: &String| match text.split_once('/') {
            Some((domain, rest)) if self.0.len() > 1 && self.0.iter().any(|d| d == domain) => {
                self.0.iter().map(|d| format!("{d}/{rest}")).collect()
            }
            _ => vec![text.clone()],
        };
        principals.iter().flat_map(one).collect()
    }
    fn domains(&self, domains: &[String]) -> Vec<String> {
        let one = |text: &String| if self.0.contains(text) { self.0.clone() } else { vec![text.clone()] };
        domains.iter().flat_map(one).collect()
    }
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
    if !(spec.service_accounts.is_empty() && spec.not_service_accounts.is_empty()) {
        let beside = [&spec.principals, &spec.not_principals, &spec.namespaces, &spec.not_namespaces].iter().any(|list| !list.is_empty());
        let wild = spec
            .service_accounts
            .iter()
            .chain(&spec.not_service_accounts)
            .find(|name| name.contains('*') || name.len() > ACCOUNT_BYTES_MAX);
        if beside || wild.is_some() {
            linker.report(diag::bad_service_accounts(at.clone(), wild.map(String::as_str)));
            undecidable.push("serviceAccounts".to_owned());
        }
    }
    let aliases = Aliases::new(linker);
    // `account` alone is one of the policy's own namespace.
    let account = |name: &String| match name.contains('/') {
        true => StringMatch::Exact(name.clone()),
        false => StringMatch::Exact(format!("{}/{name}", document.meta.namespace)),
    };
    Source {
        principals: wildcards(&aliases.of(&spec.principals), &aliases.of(&spec.not_principals)),
        request_principals: wildcards(&spec.request_principals, &spec.not_request_principals),
        trust_domains: wildcards(&aliases.domains(&spec.trust_domains), &aliases.domains(&spec.not_trust_domains)),
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
    let mut paths = |list: &[String]| -> Vec<StringMatch> {
        let read: Vec<Option<StringMatch>> = list.iter().map(|p| path(linker, p, &at)).collect();
        if read.contains(&None) {
            undecidable.push("paths".to_owned());
        }
        read.into_iter().flatten().collect()
    };
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
        StringMatch::Suffix(name) => StringMatch::SuffixIgnoreCase(name),
        other => other,
    }
}

/// A path: with `*` at one end, or a template: `{*}` stands for one segment, `{**}` for the rest and stands last.
fn path(linker: &mut Linker<'_>, text: &str, at: &Origin) -> Option<StringMatch> {
    if !text.contains(['{', '}']) {
        return Some(StringMatch::from_wildcard(text));
    }
    let made = template(text).and_then(|pattern| Pattern::new(&pattern).map_err(|why| why.to_string()));
    match made {
        Ok(pattern) => Some(StringMatch::Regex(pattern)),
        Err(why) => {
            linker.report(diag::bad_path_template(at.clone(), text, &why));
            None
        }
    }
}

/// A template as a regular expression, each literal segment escaped.
fn template(text: &str) -> Result<String, String> {
    let mut pattern = String::new();
    let segments: Vec<&str> = text.strip_prefix('/').ok_or("it does not begin with a slash")?.split('/').collect();
    let mut rest_seen = false;
    for segment in segments {
        if rest_seen {
            return Err("nothing but a last segment may follow {**}".into());
        }
        pattern.push('/');
        match segment {
            "{*}" => pattern.push_str("[^/]+"),
            "{**}" => {
                rest_seen = true;
                pattern.push_str(".*");
            }
            literal if literal.contains(['{', '}', '*']) => {
                return Err("{*} and {**} are whole segments, and there is no other wildcard beside them".into());
            }
            literal => pattern.push_str(&escape(literal)),
        }
    }
    Ok(pattern)
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

/// `request.auth.claims[a][b]` → `a`, `b`. Quotes around a name are allowed.
fn claim_path(key: &str) -> Option<Vec<String>> {
    let mut rest = key.strip_prefix("request.auth.claims")?;
    let mut path = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix('[')?.split_once(']')?;
        let name = name.trim_matches(['"', '\'']);
        if name.is_empty() {
            return None;
        }
        path.push(name.to_owned());
        rest = after;
    }
    (!path.is_empty()).then_some(path)
}

fn condition(linker: &mut Linker<'_>, spec: &istio::Condition, at: &Origin) -> Condition {
    let header = spec.key.strip_prefix("request.headers[").and_then(|k| k.strip_suffix(']'));
    let key = match (header, spec.key.as_str()) {
        (Some(name), _) => ConditionKey::Header(name.trim_matches(['"', '\'']).to_ascii_lowercase()),
        (None, "source.ip") => ConditionKey::SourceIp,
        (None, "remote.ip") => ConditionKey::RemoteIp,
        (None, "source.namespace") => ConditionKey::SourceNamespace,
        (None, "source.principal") => ConditionKey::SourcePrincipal,
        (None, "source.serviceAccount") => ConditionKey::SourceServiceAccount,
        (None, "source.trustDomain") => ConditionKey::SourceTrustDomain,
        (None, "request.auth.principal") => ConditionKey::RequestPrincipal,
        (None, "request.auth.audiences") => ConditionKey::RequestAudiences,
        (None, "request.auth.presenter") => ConditionKey::RequestPresenter,
        (None, key) if key.starts_with("experimental.") => {
            linker.report(diag::experimental_attribute(at.clone(), key));
            ConditionKey::Undecidable(key.to_owned())
        }
        (None, "destination.ip") => ConditionKey::DestinationIp,
        (None, "destination.port") => ConditionKey::DestinationPort,
        (None, "connection.sni") => ConditionKey::Sni,
        (None, other) => match claim_path(other) {
            Some(path) => ConditionKey::RequestClaim(path),
            None => {
                linker.report(diag::undecidable(at.clone(), other));
                ConditionKey::Undecidable(other.to_owned())
            }
        },
    };
    let mut condition = Condition { key, values: wildcards(&spec.values, &spec.not_values), blocks: AnyNone::default() };
    if spec.values.is_empty() && spec.not_values.is_empty() {
        linker.report(diag::undecidable(at.clone(), &format!("{} without values", spec.key)));
        condition.key = ConditionKey::Undecidable(spec.key.clone());
    }
    match condition.key {
        ConditionKey::SourcePrincipal => {
            let aliases = Aliases::new(linker);
            condition.values = wildcards(&aliases.of(&spec.values), &aliases.of(&spec.not_values));
        }
        ConditionKey::SourceTrustDomain => {
            let aliases = Aliases::new(linker);
            condition.values = wildcards(&aliases.domains(&spec.values), &aliases.domains(&spec.not_values));
        }
        _ => {}
    }
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
