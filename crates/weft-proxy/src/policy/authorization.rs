//! Authorization: the one place that can make a [`Permit`].

use super::Authenticated;
use crate::{
    http::{Connection, Scope},
    snapshot::Snapshot,
};
use std::net::IpAddr;
use weft_model::{Authorization, AuthorizationInput, MtlsMode, Origin, RequestHead, Verdict, audited, custom, shadow};
use weft_pki::Peer;
use weft_telemetry::{PolicyDecision, Registry};

/// Proof that authorization was asked and let the call through. Needed to send anything upstream.
#[derive(Debug)]
pub(crate) struct Permit(());

impl Permit {
    /// For calls of this workload's own program: they are judged where they arrive. Whoever comes in from elsewhere is judged here.
    pub(crate) fn judged_at_destination(from: &Scope) -> Option<Self> {
        match from {
            Scope::Outbound { .. } => Some(Self(())),
            Scope::Inbound { .. } | Scope::Gateway { .. } => None,
        }
    }
}

/// Why a connection without mutual TLS is refused.
pub(crate) const PLAIN_TEXT: &str = "plain text to a STRICT port";

/// Who calls, and how far that is proved: the peer by its certificate, the user by a token that was checked.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    conn: &'a Connection,
    peer: Option<&'a Peer>,
    authenticated: &'a Authenticated,
    remote_ip: IpAddr,
    /// Were the providers of CUSTOM policies asked, and did they agree?
    asked: bool,
}

impl<'a> Caller<'a> {
    /// The other end of `conn`. `authenticated` shows that tokens were looked for.
    pub(crate) fn new(conn: &'a Connection, authenticated: &'a Authenticated, remote_ip: IpAddr) -> Self {
        Self { conn, peer: conn.peer.as_ref(), authenticated, remote_ip, asked: false }
    }

    /// The same, after the providers of CUSTOM policies have agreed.
    pub(crate) fn asked(self, asked: bool) -> Self {
        Self { asked, ..self }
    }

    pub(super) fn input<'b>(&'b self, port: u16, http: Option<&'b RequestHead<'b>>) -> AuthorizationInput<'b> {
        AuthorizationInput {
            peer: self.peer.map(|p| &p.id),
            token: self.authenticated.token().map(|t| &**t),
            source_ip: self.conn.peer_address.ip(),
            remote_ip: self.remote_ip,
            destination_ip: self.conn.local_address.ip(),
            destination_port: port,
            sni: self.conn.sni.as_deref(),
            http,
        }
    }
}

/// What was decided, for the record and for the next step.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// The decision; `None` when no policy had a word in it.
    pub decision: Option<PolicyDecision>,
    /// The proof, when it may go on.
    pub permit: Option<Permit>,
    /// What the policies that are only watched would have decided.
    pub shadow: Option<PolicyDecision>,
    /// AUDIT policies that match.
    pub audited: Vec<PolicyDecision>,
}

impl Judgement {
    /// Counts what policies that are only watched would have said, and what AUDIT policies noted.
    pub(crate) fn count(&self, registry: &Registry) {
        const HELP: &str = "Verdicts of policies that are only watched (dry run), and matches of AUDIT policies.";
        let count = |policy: &str, verdict| {
            registry.counter("weft_policy_shadow_total", HELP, &[("policy", policy), ("verdict", verdict)]).inc();
        };
        if let Some(would) = &self.shadow {
            count(&would.policy, if would.allowed { "allow" } else { "deny" });
        }
        self.audited.iter().for_each(|noted| count(&noted.policy, "audit"));
    }
}

/// Judges a call to `port` of the workload; `http` is `None` for opaque bytes.
pub(crate) fn authorize(config: &Snapshot, caller: &Caller<'_>, port: u16, http: Option<&RequestHead<'_>>) -> Judgement {
    let refused = |policy: String, origin: Origin, reason: &str| {
        let decision = Some(PolicyDecision { policy, allowed: false, origin, reason: reason.into() });
        Judgement { decision, ..Judgement::default() }
    };
    let Some(inbound) = &config.inbound else {
        let origin = Origin::built_in("no configuration yet");
        return refused(origin.name.clone(), origin, "this proxy has no configuration yet, so nothing is let through");
    };
    let (mode, origin) = inbound.mtls(port);
    if caller.peer.is_none() && mode == MtlsMode::Strict {
        return refused(origin.object(), origin.clone(), PLAIN_TEXT);
    }
    judge(config, caller, port, http)
}

/// Judges a request that enters the mesh at a gateway: by the policies that select the gateway. Its callers are outside of the mesh,
/// so that the modes of mutual TLS say nothing about them.
pub(crate) fn authorize_at_gateway(config: &Snapshot, caller: &Caller<'_>, port: u16, http: Option<&RequestHead<'_>>) -> Judgement {
    judge(config, caller, port, http)
}

fn judge(config: &Snapshot, caller: &Caller<'_>, port: u16, http: Option<&RequestHead<'_>>) -> Judgement {
    if config.policies.is_empty() {
        return Judgement { permit: Some(Permit(())), ..Judgement::default() };
    }
    let input = caller.input(port, http);
    let policies = || config.policies.iter().map(|p| &**p);
    // Whoever forgets to ask lets nothing through.
    if !caller.asked
        && let Some((policy, rule)) = custom(policies(), &input).next()
    {
        let reason = "CUSTOM rule matched, and its provider cannot be asked about this call".into();
        let decision = Some(PolicyDecision { policy: policy.name.clone(), allowed: false, origin: rule.clone(), reason });
        return Judgement { decision, ..Judgement::default() };
    }
    let verdict = weft_model::authorize(policies(), &input);
    let permit = verdict.is_allowed().then_some(Permit(()));
    Judgement { decision: decision(&verdict), permit, shadow: dry_run(policies(), &input), audited: noted(policies(), &input) }
}

fn noted<'a>(policies: impl Iterator<Item = &'a Authorization>, input: &AuthorizationInput<'_>) -> Vec<PolicyDecision> {
    let note = |(policy, rule): (&Authorization, &Origin)| PolicyDecision {
        policy: policy.name.clone(),
        allowed: true,
        origin: rule.clone(),
        reason: "AUDIT rule matched".into(),
    };
    audited(policies, input).map(note).collect()
}

fn dry_run<'a>(policies: impl Iterator<Item = &'a Authorization> + Clone, input: &AuthorizationInput<'_>) -> Option<PolicyDecision> {
    let verdict = shadow(policies, input)?;
    let mut would = decision(&verdict)?;
    would.reason = format!("dry run: {}", would.reason);
    Some(would)
}

fn decision(verdict: &Verdict<'_>) -> Option<PolicyDecision> {
    let made = |policy: &str, allowed, origin: &Origin, reason: &str| {
        Some(PolicyDecision { policy: policy.into(), allowed, origin: origin.clone(), reason: reason.into() })
    };
    match verdict {
        Verdict::AllowedByDefault => None,
        Verdict::Allowed(policy, rule) => made(&policy.name, true, rule, "ALLOW rule matched"),
        Verdict::Denied(policy, rule) => made(&policy.name, false, rule, "DENY rule matched"),
        Verdict::NotAllowed(policy) => made(&policy.name, false, &policy.origin, "no ALLOW rule matched"),
    }
}
