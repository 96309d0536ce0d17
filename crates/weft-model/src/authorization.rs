//! Authorization: who may do what to a workload (Istio's AuthorizationPolicy), decided in one place.

use crate::{ExternalAuthorization, Origin, RequestHead, SpiffeId, StringMatch, Token};
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
    /// Note it; never changes the outcome.
    Audit,
    /// Ask a service, before everything else.
    Custom,
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
    /// Who is asked, for CUSTOM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Box<ExternalAuthorization>>,
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
    /// `issuer/subject` of the token.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub request_principals: AnyNone<StringMatch>,
    /// Trust domain of the peer.
    #[serde(skip_serializing_if = "AnyNone::is_empty")]
    pub trust_domains: AnyNone<StringMatch>,
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
    /// `source.serviceAccount`: `namespace/account`.
    SourceServiceAccount,
    /// `source.trustDomain`.
    SourceTrustDomain,
    /// `request.auth.principal`.
    RequestPrincipal,
    /// `request.auth.audiences`.
    RequestAudiences,
    /// `request.auth.presenter`.
    RequestPresenter,
    /// `request.auth.claims[a][b]`.
    RequestClaim(Vec<String>),
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
    /// The token that was checked, where there is one.
    pub token: Option<&'a Token>,
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
/// CUSTOM is asked before ([`custom`]), AUDIT never changes the outcome ([`audited`]), and dry runs neither ([`shadow`]).
pub fn authorize<'a>(policies: impl Iterator<Item = &'a Authorization> + Clone, input: &AuthorizationInput<'_>) -> Verdict<'a> {
    verdict(policies.filter(|p| !p.dry_run), input)
}

/// What the outcome would be if the policies that are only watched were enforced as well; `None` when there are none of these.
pub fn shadow<'a>(policies: impl Iterator<Item = &'a Authorization> + Clone, input: &AuthorizationInput<'_>) -> Option<Verdict<'a>> {
    let watched = |p: &&Authorization| p.dry_run && matches!(p.action, AuthorizationAction::Allow | AuthorizationAction::Deny);
    policies.clone().any(|p| watched(&p)).then(|| verdict(policies, input))
}

/// The CUSTOM policies that want their provider to be asked about this call, with the rule that says so.
pub fn custom<'a>(
    policies: impl Iterator<Item = &'a Authorization>,
    input: &AuthorizationInput<'_>,
) -> impl Iterator<Item = (&'a Authorization, &'a Origin)> {
    let enforced = policies.filter(|p| p.action == AuthorizationAction::Custom && !p.dry_run);
    enforced.filter_map(|p| p.matching_rule(input).map(|rule| (p, &rule.origin)))
}

/// The AUDIT policies that match.
pub fn audited<'a>(
    policies: impl Iterator<Item = &'a Authorization>,
    input: &AuthorizationInput<'_>,
) -> impl Iterator<Item = (&'a Authorization, &'a Origin)> {
    let audits = policies.filter(|p| p.action == AuthorizationAction::Audit && !p.dry_run);
    audits.filter_map(|p| p.matching_rule(input).map(|rule| (p, &rule.origin)))
}

fn verdict<'a>(policies: impl Iterator<Item = &'a Authorization> + Clone, input: &AuthorizationInput<'_>) -> Verdict<'a> {
    let matching = |action: AuthorizationAction| {
        policies.clone().filter(move |p| p.action == action).find_map(|p| p.matching_rule(input).map(|r| (p, &r.origin)))
    };
    if let Some((policy, rule)) = matching(AuthorizationAction::Deny) {
        return Verdict::Denied(policy, rule);
    }
    match (matching(AuthorizationAction::Allow), policies.clone().find(|p| p.action == AuthorizationAction::Allow)) {
        (Some((policy, rule)), _) => Verdict::Allowed(policy, rule),
        (None, Some(first)) => Verdict::NotAllowed(first),
        (None, None) => Verdict::AllowedByDefault,
    }
}

impl Authorization {
    /// The first rule that matches.
    pub fn matching_rule(&self, input: &AuthorizationInput<'_>) -> Option<&AuthorizationRule> {
        // What cannot be seen counts as a match where a match refuses (or asks), and as none where it lets through.
        let closed = matches!(self.action, AuthorizationAction::Deny | AuthorizationAction::Custom);
        self.rules.iter().find(|r| r.matches(closed, input))
    }
}

impl AuthorizationRule {
    fn matches(&self, closed: bool, input: &AuthorizationInput<'_>) -> bool {
        (self.from.is_empty() || self.from.iter().any(|s| s.matches(closed, input)))
            && (self.to.is_empty() || self.to.iter().any(|o| o.matches(closed, input)))
            && self.when.iter().all(|c| c.matches(closed, input))
    }
}

fn text(list: &AnyNone<StringMatch>, value: Option<&str>) -> bool {
    list.matches(value, |m, v| m.matches(v))
}

/// `namespace/account`, compared whole and without making the text.
fn account(list: &AnyNone<StringMatch>, peer: Option<&SpiffeId>) -> bool {
    list.matches(peer, |m, peer| match m {
        StringMatch::Exact(want) => want.split_once('/') == Some((peer.namespace(), peer.account())),
        other => other.matches(&format!("{}/{}", peer.namespace(), peer.account())),
    })
}

fn address(list: &AnyNone<IpNet>, value: IpAddr) -> bool {
    list.matches(Some(value.to_canonical()), |net, v: IpAddr| net.contains(&v))
}

impl Source {
    fn matches(&self, closed: bool, input: &AuthorizationInput<'_>) -> bool {
        // A token is part of HTTP: on TCP nobody can say.
        let token = match input.http {
            None => self.request_principals.is_empty() || closed,
            Some(_) => text(&self.request_principals, input.token.and_then(|t| t.principal.as_deref())),
        };
        (self.undecidable.is_empty() || closed)
            && token
            && text(&self.principals, input.peer.map(SpiffeId::principal))
            && text(&self.trust_domains, input.peer.map(SpiffeId::trust_domain))
            && text(&self.namespaces, input.peer.map(SpiffeId::namespace))
            && account(&self.accounts, input.peer)
            && address(&self.ip_blocks, input.source_ip)
            && address(&self.remote_ip_blocks, input.remote_ip)
    }
}

impl Operation {
    fn matches(&self, closed: bool, input: &AuthorizationInput<'_>) -> bool {
        if !(self.undecidable.is_empty() || closed) {
            return false;
        }
        if !self.ports.matches(Some(input.destination_port), |p, v| *p == v) {
            return false;
        }
        let asks_http = !(self.hosts.is_empty() && self.methods.is_empty() && self.paths.is_empty());
        match input.http {
            None => !asks_http || closed,
            Some(request) => {
                self.host_matches(request) && text(&self.methods, Some(request.method)) && text(&self.paths, Some(request.path))
            }
        }
    }

    /// With and without the port: a name that is wanted may be written in either form, and one that is not wanted is neither.
    fn host_matches(&self, request: &RequestHead<'_>) -> bool {
        let is = |m: &StringMatch| m.matches(request.host) || m.matches(request.authority);
        (self.hosts.any.is_empty() || self.hosts.any.iter().any(is)) && !self.hosts.none.iter().any(is)
    }
}

impl Condition {
    fn matches(&self, closed: bool, input: &AuthorizationInput<'_>) -> bool {
        let text = |value: Option<&str>| text(&self.values, value);
        let token = |of: &dyn Fn(&Token) -> bool| match (input.http, input.token) {
            (None, _) => closed,
            (Some(_), Some(token)) => of(token),
            (Some(_), None) => self.values.any.is_empty(),
        };
        match &self.key {
            ConditionKey::Undecidable(_) => closed,
            ConditionKey::SourceIp => address(&self.blocks, input.source_ip),
            ConditionKey::RemoteIp => address(&self.blocks, input.remote_ip),
            ConditionKey::DestinationIp => address(&self.blocks, input.destination_ip),
            ConditionKey::DestinationPort => text(Some(&input.destination_port.to_string())),
            ConditionKey::Sni => text(input.sni),
            ConditionKey::SourceNamespace => text(input.peer.map(SpiffeId::namespace)),
            ConditionKey::SourcePrincipal => text(input.peer.map(SpiffeId::principal)),
            ConditionKey::SourceTrustDomain => text(input.peer.map(SpiffeId::trust_domain)),
            ConditionKey::SourceServiceAccount => account(&self.values, input.peer),
            ConditionKey::RequestPrincipal => token(&|t| text(t.principal.as_deref())),
            ConditionKey::RequestPresenter => token(&|t| text(t.presenter())),
            ConditionKey::RequestAudiences => token(&|t| self.some_matches(&t.audiences())),
            ConditionKey::RequestClaim(path) => token(&|t| self.some_matches(&t.claim(path))),
            ConditionKey::Header(name) => match input.http {
                None => closed,
                Some(request) => self.header_matches(closed, request, name),
            },
        }
    }

    /// Of several values that the issuer has signed, one that is wanted is enough, and none may be one that is not wanted.
    fn some_matches(&self, values: &[impl AsRef<str>]) -> bool {
        let is = |list: &[StringMatch]| values.iter().any(|v| list.iter().any(|m| m.matches(v.as_ref())));
        (self.values.any.is_empty() || is(&self.values.any)) && !is(&self.values.none)
    }

    /// Each value by itself: DENY matches if any does, ALLOW only if all do, so that a repeated header can not smuggle one in.
    fn header_matches(&self, closed: bool, request: &RequestHead<'_>, name: &str) -> bool {
        let values: Vec<Option<&str>> = request.headers.get_all(name).iter().map(|v| v.to_str().ok()).collect();
        let one = |value: &Option<&str>| match value {
            // Undecodable: it may be anything, so DENY matches and ALLOW does not.
            None => closed,
            Some(text) => self.values.matches(Some(*text), |m, v| m.matches(v)),
        };
        match (values.is_empty(), closed) {
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
        Authorization { name: "default/p".into(), action, rules, dry_run: false, provider: None, origin: Origin::built_in("p") }
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
            token: None,
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
