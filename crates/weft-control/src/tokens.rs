//! Join tokens: single use, short lived, kept as hashes. Whoever shows one becomes the workload that it grants.

use crate::registry::ProxyRole;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weft_model::Labels;
use weft_store::{AuditRow, Store, StoreError, TokenRefusal};

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;
/// What a token begins with, so that it is recognised in a log or a commit.
const TOKEN_PREFIX: &str = "weft-join-";
/// Lifetime when none is asked for.
pub const TOKEN_TTL_S_DEFAULT: u64 = 300;
/// Longest lifetime.
pub const TOKEN_TTL_S_MAX: u64 = 7 * 24 * 3600;

/// What the holder of a token may become.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JoinGrant {
    /// Namespace.
    pub namespace: String,
    /// Service account: with the namespace it makes the identity.
    pub service_account: String,
    /// Workload name, e.g. `reviews-v2`.
    pub workload: String,
    /// Labels.
    pub labels: Labels,
    /// Lifetime of the token in seconds; 0 for the default.
    pub ttl_s: u64,
    /// What its proxy may be.
    pub role: ProxyRole,
}

impl JoinGrant {
    /// For a gateway.
    pub fn gateway() -> Self {
        Self { role: ProxyRole::Gateway, ..Self::default() }
    }
}

/// A fresh token. The secret exists only here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// The secret.
    pub token: String,
    /// End, milliseconds since 1970.
    pub expires_unix_ms: u64,
}

/// Why somebody may not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is no good.
    #[error("{0}; ask for a new one with `weft join-token` or start the workload again with `weft run`")]
    Token(#[from] TokenRefusal),
    /// The grant names what cannot be an identity.
    #[error("the join grant is not valid: {0}")]
    Grant(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Mints and redeems tokens.
#[derive(Debug, Clone)]
pub struct Tokens {
    store: Store,
}

impl Tokens {
    /// Over `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes a token for `grant`.
    ///
    /// # Errors
    /// When the grant names no workload or namespace, there is no randomness, or the store fails.
    pub async fn mint(&self, grant: &JoinGrant, now_ms: u64) -> Result<JoinToken, JoinError> {
        if grant.namespace.is_empty() || grant.workload.is_empty() || grant.service_account.is_empty() {
            return Err(JoinError::Grant("namespace, serviceAccount and workload must be given".into()));
        }
        let mut bytes = [0_u8; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| JoinError::Grant(format!("no randomness: {error}")))?;
        let token = format!("{TOKEN_PREFIX}{}", hex(&bytes));
        let ttl_s = if grant.ttl_s == 0 { TOKEN_TTL_S_DEFAULT } else { grant.ttl_s.min(TOKEN_TTL_S_MAX) };
        let expires_unix_ms = now_ms + ttl_s * 1000;
        let body = serde_json::to_string(grant).map_err(|error| JoinError::Grant(error.to_string()))?;
        self.store.put_token(&digest(&token), &body, signed(expires_unix_ms), signed(now_ms)).await?;
        self.audit("mint-join-token", grant, now_ms).await?;
        Ok(JoinToken { token, expires_unix_ms })
    }

    /// Uses a token up.
    ///
    /// # Errors
    /// When it is unknown, expired or used, or the store fails.
    pub async fn redeem(&self, token: &str, now_ms: u64) -> Result<JoinGrant, JoinError> {
        let body = self.store.use_token(&digest(token), signed(now_ms)).await??;
        let grant: JoinGrant = serde_json::from_str(&body).map_err(|error| JoinError::Grant(error.to_string()))?;
        self.audit("join", &grant, now_ms).await?;
        Ok(grant)
    }

    async fn audit(&self, action: &str, grant: &JoinGrant, now_ms: u64) -> Result<(), StoreError> {
        let row = AuditRow {
            at_ms: signed(now_ms),
            actor: "api".into(),
            action: action.into(),
            object: format!("{}/{}", grant.namespace, grant.workload),
            detail: format!("service account {}", grant.service_account),
        };
        self.store.audit(&row).await
    }
}

/// SHA-256 in hex. A token has 256 bits of randomness, so that a plain hash is enough: there is nothing to guess.
fn digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The store's times are signed, as SQL's integers are.
pub(crate) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> JoinGrant {
        JoinGrant {
            namespace: "default".into(),
            service_account: "reviews".into(),
            workload: "reviews-v2".into(),
            ttl_s: 60,
            ..JoinGrant::default()
        }
    }

    #[tokio::test]
    async fn a_token_is_good_once_and_in_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let tokens = Tokens::new(Store::open(folder.path()).await.expect("opens").store);
        let token = tokens.mint(&grant(), 1_000).await.expect("mints");
        assert_eq!(token.expires_unix_ms, 61_000);
        assert_eq!(tokens.redeem(&token.token, 2_000).await.expect("good"), grant());
        assert!(matches!(tokens.redeem(&token.token, 2_001).await, Err(JoinError::Token(TokenRefusal::Used))));
        let late = tokens.mint(&grant(), 1_000).await.expect("mints");
        assert!(matches!(tokens.redeem(&late.token, 61_000).await, Err(JoinError::Token(TokenRefusal::Expired))));
        assert!(matches!(tokens.redeem("weft-join-0", 2_000).await, Err(JoinError::Token(TokenRefusal::Unknown))));
        let empty = JoinGrant { workload: String::new(), ..grant() };
        assert!(matches!(tokens.mint(&empty, 0).await, Err(JoinError::Grant(_))));
    }

    #[tokio::test]
    async fn the_secret_is_not_on_disk() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(folder.path()).await.expect("opens").store;
        let token = Tokens::new(store.clone()).mint(&grant(), 0).await.expect("mints").token;
        store.close().await;
        let bytes = std::fs::read(folder.path().join(weft_store::DATABASE_FILE)).expect("file");
        let secret = token.trim_start_matches(TOKEN_PREFIX).as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}
