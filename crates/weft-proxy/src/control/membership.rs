//! Who this proxy is: joining with a token, renewing, and what of it is kept on disk.

use super::{
    connect::{ConnectError, Target, connect, said},
    limits,
};
use serde::{Deserialize, Serialize};
use std::{
    future::Future,
    path::{Path, PathBuf},
};
use tonic::{Code, Response, Status};
use weft_model::Labels;
use weft_pki::{KeyAndCsr, Svid, SvidState, TrustBundle, files};
use weft_proto::v1::{self, identity_client::IdentityClient};
use weft_std::clock;

/// Certificate and key, in one file.
const SVID_FILE: &str = "svid.pem";
/// What the control plane granted.
const MEMBER_FILE: &str = "member.json";
/// So many characters of a token are kept, to know it again: a quarter of it, and it is used up.
const TOKEN_MARK_LENGTH: usize = 26;

/// What the control plane granted when this proxy joined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    pub(super) workload_id: String,
    pub(super) workload_name: String,
    pub(super) labels: Labels,
    pub(super) identity: String,
    /// Begin of the token that was used for it.
    pub(super) token_mark: String,
}

/// Why there is no membership.
#[derive(Debug, thiserror::Error)]
pub(super) enum MembershipError {
    /// Trying again may help.
    #[error("{0}")]
    Away(String),
    /// It will not.
    #[error("{0}")]
    Refused(String),
}

impl From<ConnectError> for MembershipError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { .. } | ConnectError::Refused { .. } => Self::Away(error.to_string()),
            ConnectError::Stranger { .. } => Self::Refused(error.to_string()),
        }
    }
}

/// What is on disk.
pub(super) struct Kept {
    dir: PathBuf,
}

impl Kept {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Membership and certificate of an earlier life, if both are whole and the certificate has not expired.
    pub(super) fn load(&self) -> Option<(Member, Svid)> {
        let text = files::read_private(&self.dir.join(MEMBER_FILE)).ok()?;
        let member = serde_json::from_str::<Member>(&text)
            .inspect_err(|error| tracing::warn!(%error, "what was kept of this proxy's membership is damaged"))
            .ok()?;
        let svid = Svid::load(&self.dir.join(SVID_FILE))
            .inspect_err(|error| tracing::warn!(%error, "the certificate that was kept cannot be used"))
            .ok()?;
        if !svid.is_valid_at(clock::unix()) {
            tracing::warn!(identity = member.identity, "the certificate that was kept has expired: a new join token is needed");
            return None;
        }
        Some((member, svid))
    }

    pub(super) fn save_member(&self, member: &Member) {
        let json = serde_json::to_vec_pretty(member).unwrap_or_default();
        self.log(files::write_private(&self.dir.join(MEMBER_FILE), &json));
    }

    pub(super) fn save_svid(&self, svid: &Svid) {
        self.log(svid.save(&self.dir.join(SVID_FILE)));
    }

    /// A proxy whose disk is full goes on: only a restart would miss what could not be written.
    fn log(&self, written: Result<(), files::FileError>) {
        if let Err(error) = written {
            tracing::error!(%error, "the identity of this proxy could not be kept on disk");
        }
    }
}

/// The mark by which a token is known again.
pub(super) fn token_mark(token: &str) -> String {
    token.chars().take(TOKEN_MARK_LENGTH).collect()
}

/// Joins with a token, over a connection on which only the control plane proves itself.
pub(super) async fn join(target: &Target, trust: &TrustBundle, token: &str) -> Result<(Member, Svid), MembershipError> {
    let channel = connect(target, &SvidState::new(trust.clone())).await?;
    let made = KeyAndCsr::generate().map_err(|error| MembershipError::Away(error.to_string()))?;
    let request = v1::JoinRequest { token: token.into(), csr: made.csr_der().into() };
    let mut client = IdentityClient::new(channel);
    let answer = in_time(client.join(request)).await?;
    let certificate = answer.certificate.unwrap_or_default();
    let member = Member {
        workload_id: answer.workload_id,
        workload_name: answer.workload_name,
        labels: answer.labels,
        identity: certificate.identity.clone(),
        token_mark: token_mark(token),
    };
    Ok((member, svid(made, certificate)?))
}

/// Renews over a connection of its own, made with the certificate of the moment: the control plane so sees that it is valid.
pub(super) async fn renew(target: Target, state: SvidState) -> Result<Svid, MembershipError> {
    let channel = connect(&target, &state).await?;
    let made = KeyAndCsr::generate().map_err(|error| MembershipError::Away(error.to_string()))?;
    let mut client = IdentityClient::new(channel);
    let answer = in_time(client.renew(v1::RenewRequest { csr: made.csr_der().into() })).await?;
    svid(made, answer.certificate.unwrap_or_default())
}

fn svid(made: KeyAndCsr, certificate: v1::Certificate) -> Result<Svid, MembershipError> {
    Svid::new(made, certificate.chain, certificate.issued_at_ms).map_err(|error| MembershipError::Refused(error.to_string()))
}

async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, MembershipError> {
    match tokio::time::timeout(limits::CALL_TIMEOUT, call).await {
        Err(_) => Err(MembershipError::Away("the control plane did not answer in time".into())),
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if matches!(status.code(), Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument) => {
            Err(MembershipError::Refused(said(&status)))
        }
        Ok(Err(status)) => Err(MembershipError::Away(said(&status))),
    }
}
