//! Authorization: who may do what to a workload (Istio's AuthorizationPolicy), decided in one place.

use crate::{Origin, RequestHead, SpiffeId, StringMatch};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a policy does when one of its rules matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthorizationAction {
    /// Let through, if no DENY matches.
    #[default]
    Allow,
    /// Refuse.
    Deny,
}

/// One policy that applies to the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// `namespace/name`.
    pub name: String,
    /// Action.
    pub action: AuthorizationAction,
    /// Rules; none: an ALLOW policy that nothing satisfies.
    pub rules: Vec<AuthorizationRule>,
    /// Only watched: a decision is recorded, never enforced (annotation `istio.io/dry-run`).
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub dry_run: bool,
    /// Where it was written.
    pub origin: Origin,
}

/// One rule: some source, some operation and every condition must match. An empty list asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationRule {
    /// Who.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// What.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Operation>,
    /// Further conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
    /// Where it was written.
    pub origin: Origin,
}

/// A value list with its negation: some of `any` must match (when not empty), none of `none` may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "T: Deserialize<'de>"))]
pub struct AnyNone<T> {
    /// One of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<T>,
    /// None of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<T>,
}

impl<T> Default for AnyNone<T> {
    fn default() -> Self {
        Self { any: Vec::new(), none: Vec::new() }
    }
}

impl<T: PartialEq> AnyNone<T> {
    fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
    /// `value` is `None` when the attribute is missing: then `any` does not match and `none` does not object.
    fn matches<V: Copy>(&self, value: Option<V>, test: impl Fn(&T, V) -> bool) -> bool {
        (self.any.is_empty() || value.is_some_and(|v| self.any.iter().any(|t| test(t, v))))
            && !value.is_some_and(|v| self.none.iter().any(|t| test(t, v)))
    }
}

/// Who calls. All given fields must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// Peer identity in the form `<trust-domain>/ns/<ns>/sa/<sa>`.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub principals: AnyNone<StringMatch>,
    /// Peer namespace.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub namespaces: AnyNone<StringMatch>,
    /// Peer `namespace/account`.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub accounts: AnyNone<StringMatch>,
    /// Address of the connection.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub ip_blocks: AnyNone<IpNet>,
    /// Address of the client behind trusted proxies.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub remote_ip_blocks: AnyNone<IpNet>,
    /// Something asked for that this version cannot decide (named): ALLOW never matches, DENY always may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undecidable: Vec<String>,
}

/// What is called. All given fields must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// Host, case ignored.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub hosts: AnyNone<StringMatch>,
    /// Port of the workload.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub ports: AnyNone<u16>,
    /// Method.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub methods: AnyNone<StringMatch>,
    /// Path.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub paths: AnyNone<StringMatch>,
    /// See [`Source::undecidable`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undecidable: Vec<String>,
}

/// A further condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is looked at.
    pub key: ConditionKey,
    /// How.
    pub values: AnyNone<StringMatch>,
    /// For address keys, the parsed blocks.
    #[serde(default, skip_serializing_if = "AnyNone::is_empty")]
    pub blocks: AnyNone<IpNet>,
}

/// Attributes that a condition can look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConditionKey {
    /// `request.headers[name]`.
    Header(String),
    /// `source.ip`.
    SourceIp,
    /// `remote.ip`.
    RemoteIp,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.principal`.
    SourcePrincipal,
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`.
    DestinationPort,
    /// `connection.sni`.
    Sni,
    /// A key that this version cannot decide.
    Undecidable(String),
}

/// What authorization sees.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationInput<'a> {
    /// Proven identity of the peer.
    pub peer: Option<&'a SpiffeId>,
    /// Address of the connection's other end.
    pub source_ip: IpAddr,
    /// Address of the client behind trusted proxies; the same where there is none.
    pub remote_ip: IpAddr,
    /// Address that was called.
    pub destination_ip: IpAddr,
    /// Port of the workload.
    pub destination_port: u16,
    /// SNI.
    pub sni: Option<&'a str>,
    /// The request; `None` on TCP, where HTTP attributes never satisfy ALLOW and always satisfy DENY.
    pub http: Option<&'a RequestHead<'a>>,
}

/// The verdict, with the policy that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// No ALLOW policy applies to the workload, and no DENY matches.
    AllowedByDefault,
    /// This policy's rule allows.
    Allowed(&'a Authorization, &'a Origin),
    /// This policy's rule denies.
    Denied(&'a Authorization, &'a Origin),
    /// There are ALLOW policies and none matches; the first is named.
    NotAllowed(&'a Authorization),
}

impl Verdict<'_> {
    /// Let through?
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::AllowedByDefault | Self::Allowed(..))
    }
}

/// Istio's order: a matching DENY refuses; without ALLOW policies all is allowed; a matching ALLOW lets through; else refused.
pub fn authorize<'a>(policies: impl Iterator<Item = &'a Authorization> + Clone, input: &AuthorizationInput<'_>) -> Verdict<'a> {
    let enforced = policies.filter(|p| !p.dry_run);
    let matching = |action: AuthorizationAction| {
        enforced.clone().filter(move |p| p.action == action).find_map(|p| p.matching_rule(input).map(|r| (p, &r.origin)))
    };
    if let Some((policy, rule)) = matching(AuthorizationAction::Deny) {
        return Verdict::Denied(policy, rule);
    }
    match (matching(AuthorizationAction::Allow), enforced.clone().find(|p| p.action == AuthorizationAction::Allow)) {
        (Some((policy, rule)), _) => Verdict::Allowed(policy, rule),
        (None, Some(first)) => Verdict::NotAllowed(first),
        (None, None) => Verdict::AllowedByDefault,
    }
}

impl Authorization {
    /// The first rule that matches.
    pub fn matching_rule(&self, input: &AuthorizationInput<'_>) -> Option<&AuthorizationRule> {
        self.rules.iter().find(|r| r.matches(self.action, input))
    }
}

impl AuthorizationRule {
    fn matches(&self, action: AuthorizationAction, input: &AuthorizationInput<'_>) -> bool {
        let deny = action == AuthorizationAction::Deny;
        (self.from.is_empty() || self.from.iter().any(|s| s.matches(deny, input)))
            && (self.to.is_empty() || self.to.iter().any(|o| o.matches(deny, input)))
            && self.when.iter().all(|c| c.matches(deny, input))
    }
}

impl Source {
    fn matches(&self, deny: bool, input: &AuthorizationInput<'_>) -> bool {
        let principal = input.peer.map(SpiffeId::principal);
        let account = input.peer.map(|p| format!("{}/{}", p.namespace(), p.account()));
        let text = |list: &AnyNone<StringMatch>, value: Option<&str>| list.matches(value, |m, v| m.matches(v));
        let ip = |list: &AnyNone<IpNet>, value| list.matches(Some(value), |net, v: IpAddr| net.contains(&v.to_canonical()));
        (self.undecidable.is_empty() || deny)
            && text(&self.principals, principal.as_deref())
            && text(&self.namespaces, input.peer.map(SpiffeId::namespace))
            && text(&self.accounts, account.as_deref())
            && ip(&self.ip_blocks, input.source_ip)
            && ip(&self.remote_ip_blocks, input.remote_ip)
    }
}

impl Operation {
    fn matches(&self, deny: bool, input: &AuthorizationInput<'_>) -> bool {
        if !(self.undecidable.is_empty() || deny) {
            return false;
        }
        if !self.ports.matches(Some(input.destination_port), |p, v| *p == v) {
            return false;
        }
        let asks_http = !(self.hosts.is_empty() && self.methods.is_empty() && self.paths.is_empty());
        match input.http {
            None => !asks_http || deny,
            Some(request) => {
                let text = |list: &AnyNone<StringMatch>, value: &str| list.matches(Some(value), |m, v| m.matches(v));
                (text(&self.hosts, request.host) || text(&self.hosts, request.authority))
                    && text(&self.methods, request.method)
                    && text(&self.paths, request.path)
            }
        }
    }
}

impl Condition {
    fn matches(&self, deny: bool, input: &AuthorizationInput<'_>) -> bool {
        let text = |value: Option<&str>| self.values.matches(value, |m, v| m.matches(v));
        let ip = |value| self.blocks.matches(Some(value), |net, v: IpAddr| net.contains(&v.to_canonical()));
        match &self.key {
            ConditionKey::Undecidable(_) => deny,
            ConditionKey::SourceIp => ip(input.source_ip),
            ConditionKey::RemoteIp => ip(input.remote_ip),
            ConditionKey::DestinationIp => ip(input.destination_ip),
            ConditionKey::DestinationPort => text(Some(&input.destination_port.to_string())),
            ConditionKey::Sni => text(input.sni),
            ConditionKey::SourceNamespace => text(input.peer.map(SpiffeId::namespace)),
            ConditionKey::SourcePrincipal => text(input.peer.map(SpiffeId::principal).as_deref()),
            ConditionKey::Header(name) => match input.http {
                None => deny,
                Some(request) => self.header_matches(deny, request, name),
            },
        }
    }

    /// Each value by itself: DENY matches if any does, ALLOW only if all do, so that a repeated header can not smuggle one in.
    fn header_matches(&self, deny: bool, request: &RequestHead<'_>, name: &str) -> bool {
        let values: Vec<Option<&str>> = request.headers.get_all(name).iter().map(|v| v.to_str().ok()).collect();
        let one = |value: &Option<&str>| match value {
            // Undecodable: it may be anything, so DENY matches and ALLOW does not.
            None => deny,
            Some(text) => self.values.matches(Some(*text), |m, v| m.matches(v)),
        };
        match (values.is_empty(), deny) {
            (true, _) => self.values.any.is_empty(),
            (false, true) => values.iter().any(one),
            (false, false) => values.iter().all(one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn policy(action: AuthorizationAction, rules: Vec<AuthorizationRule>) -> Authorization {
        Authorization { name: "default/p".into(), action, rules, dry_run: false, origin: Origin::built_in("p") }
    }
    fn get(paths: &[&str]) -> AuthorizationRule {
        let any = paths.iter().map(|p| StringMatch::from_wildcard(p)).collect();
        AuthorizationRule { to: vec![Operation { paths: AnyNone { any, none: vec![] }, ..Default::default() }], ..Default::default() }
    }
    fn verdict(policies: &[Authorization], path: &str, peer: Option<&str>, http: bool) -> bool {
        let headers = HeaderMap::new();
        let head =
            RequestHead { method: "GET", scheme: "http", authority: "a", host: "a", path, query: None, headers: &headers, claims: None };
        let peer = peer.map(|p| p.parse::<SpiffeId>().expect("id"));
        let ip: IpAddr = "127.0.0.1".parse().expect("ip");
        let input = AuthorizationInput {
            peer: peer.as_ref(),
            source_ip: ip,
            remote_ip: ip,
            destination_ip: ip,
            destination_port: 80,
            sni: None,
            http: http.then_some(&head),
        };
        authorize(policies.iter(), &input).is_allowed()
    }

    #[test]
    fn deny_first_then_default_then_allow() {
        let (allow, deny) = (AuthorizationAction::Allow, AuthorizationAction::Deny);
        assert!(verdict(&[], "/", None, true));
        assert!(!verdict(&[policy(allow, vec![])], "/", None, true));
        assert!(verdict(&[policy(deny, vec![])], "/", None, true));
        assert!(verdict(&[policy(allow, vec![get(&["/a*"])])], "/ab", None, true));
        assert!(!verdict(&[policy(allow, vec![get(&["/a*"])])], "/b", None, true));
        assert!(!verdict(&[policy(allow, vec![get(&["/a*"])]), policy(deny, vec![get(&["/ab"])])], "/ab", None, true));
        assert!(verdict(&[policy(allow, vec![AuthorizationRule::default()])], "/", None, true));
    }

    #[test]
    fn http_attributes_on_tcp() {
        assert!(!verdict(&[policy(AuthorizationAction::Allow, vec![get(&["/a"])])], "/", None, false));
        assert!(!verdict(&[policy(AuthorizationAction::Deny, vec![get(&["/a"])])], "/", None, false));
    }

    #[test]
    fn identities_are_compared_whole() {
        let principals = AnyNone { any: vec![StringMatch::Exact("td/ns/default/sa/a".into())], none: vec![] };
        let rule = AuthorizationRule { from: vec![Source { principals, ..Default::default() }], ..Default::default() };
        let p = [policy(AuthorizationAction::Allow, vec![rule])];
        assert!(verdict(&p, "/", Some("spiffe://td/ns/default/sa/a"), true));
        assert!(!verdict(&p, "/", Some("spiffe://td/ns/default/sa/ab"), true));
        assert!(!verdict(&p, "/", None, true));
    }

    #[test]
    fn what_cannot_be_decided_fails_closed() {
        let rule = || AuthorizationRule {
            from: vec![Source { undecidable: vec!["requestPrincipals".into()], ..Default::default() }],
            ..Default::default()
        };
        assert!(!verdict(&[policy(AuthorizationAction::Allow, vec![rule()])], "/", None, true));
        assert!(!verdict(&[policy(AuthorizationAction::Deny, vec![rule()])], "/", None, true));
    }
}
