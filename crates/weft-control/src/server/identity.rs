//! Join and renew: how a proxy gets and keeps its certificate.

use super::{Shared, limits, peer_of};
use crate::tokens::JoinError;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::{Request, Response, Status};
use weft_model::SpiffeId;
use weft_pki::AuthorityError;
use weft_proto::v1::{self, identity_server};
use weft_std::clock::{self, Instant};

/// The service.
pub(crate) struct Identity {
    shared: Arc<Shared>,
    joins: Mutex<Joins>,
}

/// A bucket of joins that fills with time.
struct Joins {
    left: f64,
    filled_at: Instant,
}

impl Joins {
    fn take(&mut self, now: Instant) -> bool {
        let fill = now.saturating_duration_since(self.filled_at).as_secs_f64() * f64::from(limits::JOINS_PER_SECOND);
        self.left = (self.left + fill).min(f64::from(limits::JOINS_BURST));
        self.filled_at = now;
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

impl Identity {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, joins: Mutex::new(Joins { left: f64::from(limits::JOINS_BURST), filled_at: clock::now() }) }
    }

    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn sign(&self, id: &SpiffeId, csr: &[u8]) -> Result<v1::Certificate, Status> {
        let parts = &self.shared.parts;
        let issued = parts.authority.sign_workload(id, csr, parts.leaf_ttl).map_err(refused_to_sign)?;
        self.shared.issued(&issued.id, issued.not_after_s);
        tracing::debug!(identity = %issued.id, serial = issued.serial, "a certificate was issued");
        Ok(v1::Certificate {
            identity: issued.id.to_string(),
            chain: issued.chain,
            bundle_pem: parts.authority.bundle_pem().into(),
            issued_at_ms: issued.issued_at_ms,
        })
    }
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        if !self.joins.lock().unwrap_or_else(PoisonError::into_inner).take(clock::now()) {
            return Err(Status::resource_exhausted("too many workloads join at once: try again in a second"));
        }
        let request = request.into_inner();
        if request.token.len() > limits::TOKEN_BYTES_MAX {
            return Err(Status::invalid_argument("that is no join token"));
        }
        let (parts, now_ms) = (&self.shared.parts, clock::unix_ms());
        let grant = parts.tokens.redeem(&request.token, now_ms).await.map_err(refused_to_join)?;
        let workload = parts.registry.enrol(&grant, now_ms).await.map_err(refused_to_join)?;
        let certificate = self.sign(&workload.identity, &request.csr)?;
        tracing::info!(workload = workload.id, identity = %workload.identity, "joined");
        Ok(Response::new(v1::JoinResponse {
            workload_id: workload.id,
            certificate: Some(certificate),
            workload_name: workload.name,
            labels: workload.labels,
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let peer = peer_of(&request)?;
        // The connection may be older than the certificate that it proved.
        if clock::unix_s() > peer.not_after_s {
            return Err(Status::unauthenticated("the certificate of this connection has expired: connect with the current one"));
        }
        let certificate = self.sign(&peer.id, &request.into_inner().csr)?;
        Ok(Response::new(v1::RenewResponse { certificate: Some(certificate) }))
    }
}

fn refused_to_join(error: JoinError) -> Status {
    match error {
        JoinError::Token(_) => Status::permission_denied(error.to_string()),
        JoinError::Grant(_) => Status::failed_precondition(error.to_string()),
        JoinError::Store(_) => Status::unavailable(error.to_string()),
    }
}

fn refused_to_sign(error: AuthorityError) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn joins_are_limited_and_come_back_with_time() {
        let now = Instant::now();
        let mut joins = Joins { left: f64::from(limits::JOINS_BURST), filled_at: now };
        assert_eq!((0..1000).filter(|_| joins.take(now)).count(), limits::JOINS_BURST as usize);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| joins.take(later)).count(), limits::JOINS_PER_SECOND as usize);
    }
}
