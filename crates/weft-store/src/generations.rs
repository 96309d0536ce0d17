//! Generations: the number of each mesh-wide configuration, and the hash of what went into it.

use crate::{Store, StoreError};
use sqlx::{Row, sqlite::SqliteRow};

/// Generations kept.
const ROWS_MAX: i64 = 1_000;

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationRow {
    /// Number, from 1.
    pub generation: i64,
    /// Hash of the inputs.
    pub hash: String,
    /// When it came to be.
    pub at_ms: i64,
    /// What made it, in words.
    pub cause: String,
}

impl Store {
    /// Adds a generation.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn put_generation(&self, row: &GenerationRow) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM generations WHERE generation <= ?").bind(row.generation - ROWS_MAX).execute(&mut *tx).await?;
        sqlx::query("INSERT OR REPLACE INTO generations (generation, hash, at_ms, cause) VALUES (?, ?, ?, ?)")
            .bind(row.generation)
            .bind(&row.hash)
            .bind(row.at_ms)
            .bind(&row.cause)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The newest generations, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn generations(&self, rows_max: u32) -> Result<Vec<GenerationRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM generations ORDER BY generation DESC LIMIT ?").bind(rows_max).fetch_all(&self.reader).await?;
        rows.iter().map(row_of).collect()
    }
}

fn row_of(row: &SqliteRow) -> Result<GenerationRow, StoreError> {
    Ok(GenerationRow {
        generation: row.try_get("generation")?,
        hash: row.try_get("hash")?,
        at_ms: row.try_get("at_ms")?,
        cause: row.try_get("cause")?,
    })
}
