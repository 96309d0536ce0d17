//! Audit: who asked for what, when. Written beside the change, bounded.

use crate::{Store, StoreError};
use sqlx::Row;

/// Rows kept.
const ROWS_MAX: i64 = 10_000;

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When.
    pub at_ms: i64,
    /// Who: `api`, `file`, `proxy <id>`.
    pub actor: String,
    /// What: `apply`, `delete`, `mint-join-token`, `join`, …
    pub action: String,
    /// Of which object.
    pub object: String,
    /// More, in words.
    pub detail: String,
}

impl Store {
    /// Adds a line.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn audit(&self, row: &AuditRow) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM audit WHERE seq <= (SELECT MAX(seq) FROM audit) - ?").bind(ROWS_MAX).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO audit (at_ms, actor, action, object, detail) VALUES (?, ?, ?, ?, ?)")
            .bind(row.at_ms)
            .bind(&row.actor)
            .bind(&row.action)
            .bind(&row.object)
            .bind(&row.detail)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The newest lines, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn audit_rows(&self, rows_max: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit ORDER BY seq DESC LIMIT ?").bind(rows_max).fetch_all(&self.reader).await?;
        rows.iter()
            .map(|row| {
                Ok(AuditRow {
                    at_ms: row.try_get("at_ms")?,
                    actor: row.try_get("actor")?,
                    action: row.try_get("action")?,
                    object: row.try_get("object")?,
                    detail: row.try_get("detail")?,
                })
            })
            .collect()
    }
}
