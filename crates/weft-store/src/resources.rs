//! Resources: the text of each object, its source, its version, and what it was before.

use crate::{Store, StoreError};
use serde::{Deserialize, Serialize};
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

/// Rows of history kept; older ones are dropped.
const HISTORY_ROWS_MAX: i64 = 10_000;

/// What names a resource. The version of its API is not part of it: `v1` and `v1beta1` of one object are one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// API group, e.g. `networking.istio.io`; empty for core. It tells Istio's `Gateway` from the Gateway API's.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Who brought a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A watched file: the file rules, and deleting it deletes the resource.
    File,
    /// The API: stays until it is deleted there.
    Api,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// A stored resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRow {
    /// Key.
    pub key: ResourceKey,
    /// `apiVersion` as written.
    pub api_version: String,
    /// The document.
    pub yaml: String,
    /// Who brought it.
    pub source: Source,
    /// File (or what the client called its source).
    pub file: String,
    /// Line of `file` at which the text starts, from 1.
    pub line: u32,
    /// First seen.
    pub created_ms: i64,
    /// Last changed.
    pub updated_ms: i64,
    /// Grows with each change of the text.
    pub version: i64,
}

/// One write.
#[derive(Debug, Clone)]
pub enum Change {
    /// Make it so.
    Put {
        /// Key.
        key: ResourceKey,
        /// `apiVersion` as written.
        api_version: String,
        /// The document.
        yaml: String,
        /// Who brings it.
        source: Source,
        /// File.
        file: String,
        /// Line.
        line: u32,
    },
    /// Let it be gone.
    Delete(ResourceKey),
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Created,
    /// It differs from before.
    Configured,
    /// Same text as before.
    Unchanged,
    /// It is gone.
    Deleted,
    /// There was none to delete.
    Missing,
}

impl Action {
    /// The word, as in the table and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::Missing => "missing",
        }
    }
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Key.
    pub key: ResourceKey,
    /// What happened.
    pub action: Action,
    /// The row after it; `None` after a deletion.
    pub row: Option<ResourceRow>,
}

/// One line of the history of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// Order.
    pub seq: i64,
    /// `created`, `configured` or `deleted`.
    pub action: String,
    /// Version of the text.
    pub version: i64,
    /// The text (of a deletion: the last).
    pub yaml: String,
    /// Who.
    pub actor: String,
    /// When.
    pub at_ms: i64,
}

impl Store {
    /// Writes all `changes` or none. Returned means on disk.
    ///
    /// # Errors
    /// When the database cannot be written; nothing has changed then.
    pub async fn write(&self, changes: Vec<Change>, actor: &str, now_ms: i64) -> Result<Vec<Outcome>, StoreError> {
        let mut tx = self.begin().await?;
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            outcomes.push(write_one(&mut tx, change, actor, now_ms).await?);
        }
        sqlx::query("DELETE FROM history WHERE seq <= (SELECT MAX(seq) FROM history) - ?").bind(HISTORY_ROWS_MAX).execute(&mut *tx).await?;
        tx.commit().await?;
        if outcomes.iter().any(|o| !matches!(o.action, Action::Unchanged | Action::Missing)) {
            self.changed.send_modify(|n| *n += 1);
        }
        Ok(outcomes)
    }

    /// All resources, in the order in which they were created.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn resources(&self) -> Result<Vec<ResourceRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM resources ORDER BY created_ms, grp, kind, namespace, name").fetch_all(&self.reader).await?;
        rows.iter().map(row_of).collect()
    }

    /// What a resource was, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn history(&self, key: &ResourceKey, rows_max: u32) -> Result<Vec<HistoryRow>, StoreError> {
        let sql = "SELECT * FROM history WHERE grp = ? AND kind = ? AND namespace = ? AND name = ? ORDER BY seq DESC LIMIT ?";
        let query = sqlx::query(sql).bind(&key.group).bind(&key.kind).bind(&key.namespace).bind(&key.name).bind(rows_max);
        let rows = query.fetch_all(&self.reader).await?;
        rows.iter()
            .map(|row| {
                Ok(HistoryRow {
                    seq: row.try_get("seq")?,
                    action: row.try_get("action")?,
                    version: row.try_get("version")?,
                    yaml: row.try_get("yaml")?,
                    actor: row.try_get("actor")?,
                    at_ms: row.try_get("at_ms")?,
                })
            })
            .collect()
    }
}

fn row_of(row: &SqliteRow) -> Result<ResourceRow, StoreError> {
    let source: String = row.try_get("source")?;
    Ok(ResourceRow {
        key: ResourceKey {
            group: row.try_get("grp")?,
            kind: row.try_get("kind")?,
            namespace: row.try_get("namespace")?,
            name: row.try_get("name")?,
        },
        api_version: row.try_get("api_version")?,
        yaml: row.try_get("yaml")?,
        source: if source == "file" { Source::File } else { Source::Api },
        file: row.try_get("file")?,
        line: row.try_get("line")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
        version: row.try_get("version")?,
    })
}

async fn write_one(tx: &mut Transaction<'static, Sqlite>, change: Change, actor: &str, now_ms: i64) -> Result<Outcome, StoreError> {
    let key = match &change {
        Change::Put { key, .. } | Change::Delete(key) => key.clone(),
    };
    let sql = "SELECT * FROM resources WHERE grp = ? AND kind = ? AND namespace = ? AND name = ?";
    let query = sqlx::query(sql).bind(&key.group).bind(&key.kind).bind(&key.namespace).bind(&key.name);
    let before = query.fetch_optional(&mut **tx).await?.as_ref().map(row_of).transpose()?;
    match change {
        Change::Put { key, api_version, yaml, source, file, line } => {
            let (action, version, updated_ms) = match &before {
                None => (Action::Created, 1, now_ms),
                Some(old) if old.yaml == yaml => (Action::Unchanged, old.version, old.updated_ms),
                Some(old) => (Action::Configured, old.version + 1, now_ms),
            };
            let created_ms = before.as_ref().map_or(now_ms, |old| old.created_ms);
            let row = ResourceRow { key: key.clone(), api_version, yaml, source, file, line, created_ms, updated_ms, version };
            if before.as_ref() != Some(&row) {
                put(tx, &row).await?;
            }
            if action != Action::Unchanged {
                remember(tx, &row, action, actor, now_ms).await?;
            }
            Ok(Outcome { key, action, row: Some(row) })
        }
        Change::Delete(key) => {
            let Some(old) = before else {
                return Ok(Outcome { key, action: Action::Missing, row: None });
            };
            let sql = "DELETE FROM resources WHERE grp = ? AND kind = ? AND namespace = ? AND name = ?";
            sqlx::query(sql).bind(&key.group).bind(&key.kind).bind(&key.namespace).bind(&key.name).execute(&mut **tx).await?;
            remember(tx, &old, Action::Deleted, actor, now_ms).await?;
            Ok(Outcome { key, action: Action::Deleted, row: None })
        }
    }
}

async fn put(tx: &mut Transaction<'static, Sqlite>, row: &ResourceRow) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO resources VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(&row.key.group)
        .bind(&row.key.kind)
        .bind(&row.key.namespace)
        .bind(&row.key.name)
        .bind(&row.api_version)
        .bind(&row.yaml)
        .bind(row.source.as_str())
        .bind(&row.file)
        .bind(row.line)
        .bind(row.created_ms)
        .bind(row.updated_ms)
        .bind(row.version)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn remember(
    tx: &mut Transaction<'static, Sqlite>,
    row: &ResourceRow,
    action: Action,
    actor: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO history (grp, kind, namespace, name, action, version, yaml, actor, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(&row.key.group)
        .bind(&row.key.kind)
        .bind(&row.key.namespace)
        .bind(&row.key.name)
        .bind(action.as_str())
        .bind(row.version)
        .bind(&row.yaml)
        .bind(actor)
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
