//! Registered workloads, so that a control plane that comes back knows who was there.

use crate::{Store, StoreError};
use sqlx::Row;

/// A workload and what the control plane remembers of it (JSON that only the control plane reads).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadRow {
    /// Unique in the mesh.
    pub id: String,
    /// JSON.
    pub body: String,
    /// Last change.
    pub updated_ms: i64,
}

impl Store {
    /// Adds or replaces a workload.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn put_workload(&self, id: &str, body: &str, now_ms: i64) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO workloads (id, body, updated_ms) VALUES (?, ?, ?)")
            .bind(id)
            .bind(body)
            .bind(now_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Forgets a workload.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn remove_workload(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM workloads WHERE id = ?").bind(id).execute(&self.writer).await?;
        Ok(())
    }

    /// All workloads.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn workloads(&self) -> Result<Vec<WorkloadRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM workloads ORDER BY id").fetch_all(&self.reader).await?;
        rows.iter()
            .map(|row| Ok(WorkloadRow { id: row.try_get("id")?, body: row.try_get("body")?, updated_ms: row.try_get("updated_ms")? }))
            .collect()
    }
}
