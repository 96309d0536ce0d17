//! Join tokens: kept as hashes only, used once, and never after their end.

use crate::{Store, StoreError};
use sqlx::Row;

/// Used and expired tokens are kept this long, so that a second use is told apart from a wrong token.
const KEEP_MS: i64 = 24 * 60 * 60 * 1000;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Hash of the secret.
    pub hash: String,
    /// What it grants (JSON that only the control plane reads).
    pub body: String,
    /// End.
    pub expires_ms: i64,
    /// Used, when.
    pub used_ms: Option<i64>,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Never minted here, or long gone.
    #[error("the join token is unknown")]
    Unknown,
    /// Its time is over.
    #[error("the join token has expired")]
    Expired,
    /// Someone joined with it before.
    #[error("the join token was used before")]
    Used,
}

impl Store {
    /// Adds a token, and forgets those that ended long ago.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn put_token(&self, hash: &str, body: &str, expires_ms: i64, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM join_tokens WHERE expires_ms < ?").bind(now_ms - KEEP_MS).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO join_tokens (hash, body, created_ms, expires_ms, used_ms) VALUES (?, ?, ?, ?, NULL)")
            .bind(hash)
            .bind(body)
            .bind(now_ms)
            .bind(expires_ms)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Uses a token up and returns what it grants. Of two callers at once one wins.
    ///
    /// # Errors
    /// When the database cannot be written. A token that is no good is the inner error.
    pub async fn use_token(&self, hash: &str, now_ms: i64) -> Result<Result<String, TokenRefusal>, StoreError> {
        let mut tx = self.begin().await?;
        let found =
            sqlx::query("SELECT body, expires_ms, used_ms FROM join_tokens WHERE hash = ?").bind(hash).fetch_optional(&mut *tx).await?;
        let Some(row) = found else {
            return Ok(Err(TokenRefusal::Unknown));
        };
        let (expires_ms, used_ms): (i64, Option<i64>) = (row.try_get("expires_ms")?, row.try_get("used_ms")?);
        match used_ms {
            Some(_) => return Ok(Err(TokenRefusal::Used)),
            None if expires_ms <= now_ms => return Ok(Err(TokenRefusal::Expired)),
            None => {}
        }
        sqlx::query("UPDATE join_tokens SET used_ms = ? WHERE hash = ?").bind(now_ms).bind(hash).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Ok(row.try_get("body")?))
    }

    /// All tokens that are still known.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let rows =
            sqlx::query("SELECT hash, body, expires_ms, used_ms FROM join_tokens ORDER BY created_ms").fetch_all(&self.reader).await?;
        rows.iter()
            .map(|row| {
                Ok(TokenRow {
                    hash: row.try_get("hash")?,
                    body: row.try_get("body")?,
                    expires_ms: row.try_get("expires_ms")?,
                    used_ms: row.try_get("used_ms")?,
                })
            })
            .collect()
    }
}
