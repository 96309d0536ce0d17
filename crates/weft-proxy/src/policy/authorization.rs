//! Authorization: the one place that can make a [`Permit`].

use crate::snapshot::Snapshot;
use std::net::SocketAddr;
use weft_model::{AuthorizationInput, MtlsMode, RequestHead, Verdict};
use weft_pki::Peer;
use weft_telemetry::PolicyDecision;

/// Proof that authorization was asked and let the call through. Needed to send anything upstream.
#[derive(Debug)]
pub(crate) struct Permit(());

impl Permit {
    /// For calls that leave a workload: they are judged where they arrive.
    pub(crate) fn judged_at_destination() -> Self {
        Self(())
    }
}

/// Why a connection without mutual TLS is refused.
pub(crate) const PLAIN_TEXT: &str = "plain text to a STRICT port";

/// Who calls, and how far that is proved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Proven identity.
    pub peer: Option<&'a Peer>,
    /// Other end of the connection.
    pub source: SocketAddr,
    /// This end.
    pub destination: SocketAddr,
    /// SNI.
    pub sni: Option<&'a str>,
}

/// Judges a call to `port` of the workload; `http` is `None` for opaque bytes. The decision is for the record, either way.
pub(crate) fn authorize(
    config: &Snapshot,
    caller: &Caller<'_>,
    port: u16,
    http: Option<&RequestHead<'_>>,
) -> (Option<PolicyDecision>, Option<Permit>) {
    let Some(inbound) = &config.inbound else {
        let origin = weft_model::Origin::built_in("no configuration yet");
        let reason = "this proxy has no configuration yet, so nothing is let through".into();
        return (Some(PolicyDecision { policy: origin.name.clone(), allowed: false, origin, reason }), None);
    };
    let (mode, origin) = inbound.mtls(port);
    if caller.peer.is_none() && mode == MtlsMode::Strict {
        let reason = PLAIN_TEXT.into();
        return (Some(PolicyDecision { policy: origin.object(), allowed: false, origin: origin.clone(), reason }), None);
    }
    judge(config, caller, port, http)
}

/// Judges a request that enters the mesh at a gateway: by the policies that select the gateway. Its callers are outside of the mesh,
/// so that the modes of mutual TLS say nothing about them.
pub(crate) fn authorize_at_gateway(
    config: &Snapshot,
    caller: &Caller<'_>,
    port: u16,
    http: Option<&RequestHead<'_>>,
) -> (Option<PolicyDecision>, Option<Permit>) {
    judge(config, caller, port, http)
}

fn judge(config: &Snapshot, caller: &Caller<'_>, port: u16, http: Option<&RequestHead<'_>>) -> (Option<PolicyDecision>, Option<Permit>) {
    let input = AuthorizationInput {
        peer: caller.peer.map(|p| &p.id),
        source_ip: caller.source.ip(),
        remote_ip: caller.source.ip(),
        destination_ip: caller.destination.ip(),
        destination_port: port,
        sni: caller.sni,
        http,
    };
    let decision = |policy: &str, allowed, origin: &weft_model::Origin, reason: &str| {
        Some(PolicyDecision { policy: policy.into(), allowed, origin: origin.clone(), reason: reason.into() })
    };
    match weft_model::authorize(config.policies.iter().map(|p| &**p), &input) {
        Verdict::AllowedByDefault => (None, Some(Permit(()))),
        Verdict::Allowed(policy, rule) => (decision(&policy.name, true, rule, "ALLOW rule matched"), Some(Permit(()))),
        Verdict::Denied(policy, rule) => (decision(&policy.name, false, rule, "DENY rule matched"), None),
        Verdict::NotAllowed(policy) => (decision(&policy.name, false, &policy.origin, "no ALLOW rule matched"), None),
    }
}
