//! Opening the database: folder, pragmas, soundness, schema.

use crate::{
    StoreError,
    error::{is_access, is_corrupt},
};
use sqlx::{
    Row, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// Name of the file in the state folder.
pub const DATABASE_FILE: &str = "weft.db";
/// How long a writer waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reads.
const READERS_MAX: u32 = 2;
/// Version of the tables that this code knows.
const SCHEMA_VERSION: i64 = 1;

/// Each step brings the tables from version `i` to `i + 1`. Never change a step that was released; add one.
const SCHEMA_STEPS: [&str; SCHEMA_VERSION as usize] = ["
    CREATE TABLE resources (
        grp TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        api_version TEXT NOT NULL, yaml TEXT NOT NULL, source TEXT NOT NULL, file TEXT NOT NULL, line BIGINT NOT NULL,
        created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, version BIGINT NOT NULL,
        PRIMARY KEY (grp, kind, namespace, name));
    CREATE TABLE history (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        grp TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        action TEXT NOT NULL, version BIGINT NOT NULL, yaml TEXT NOT NULL, actor TEXT NOT NULL, at_ms BIGINT NOT NULL);
    CREATE INDEX history_of ON history (kind, namespace, name, seq);
    CREATE TABLE workloads (id TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL, updated_ms BIGINT NOT NULL);
    CREATE TABLE join_tokens (
        hash TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL, created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, used_ms BIGINT);
    CREATE TABLE generations (generation BIGINT PRIMARY KEY NOT NULL, hash TEXT NOT NULL, at_ms BIGINT NOT NULL, cause TEXT NOT NULL);
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ms BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL,
        detail TEXT NOT NULL);
"];

/// A store, and what happened on the way to it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Set when the old file was corrupt: where it was moved to.
    pub moved_aside: Option<PathBuf>,
}

/// A handle; clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) writer: SqlitePool,
    pub(crate) reader: SqlitePool,
    pub(crate) changed: Arc<watch::Sender<u64>>,
    file: PathBuf,
}

impl Store {
    /// Opens (or makes) the database in `folder`. A corrupt file is moved aside to `weft.db.corrupt-<n>` and a fresh one is made.
    ///
    /// # Errors
    /// When the folder cannot be written, the file is of a newer Weft, or another process holds it.
    pub async fn open(folder: &Path) -> Result<Opened, StoreError> {
        let refuse = |error: io::Error| StoreError::Folder { folder: folder.to_path_buf(), reason: error.to_string() };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refuse)?;
        prove_writable(folder).map_err(refuse)?;
        let file = folder.join(DATABASE_FILE);
        keep_private(&file).map_err(refuse)?;
        match Self::open_file(&file).await {
            Ok(store) => Ok(Opened { store, moved_aside: None }),
            Err(OpenFailure::Corrupt(reason)) => {
                let aside = move_aside(&file).map_err(refuse)?;
                keep_private(&file).map_err(refuse)?;
                tracing::error!(file = %file.display(), aside = %aside.display(), reason, "the state database is corrupt: moved aside, starting afresh");
                let store = Self::open_file(&file).await.map_err(|failure| failure.into_error(folder))?;
                Ok(Opened { store, moved_aside: Some(aside) })
            }
            Err(failure) => Err(failure.into_error(folder)),
        }
    }

    async fn open_file(file: &Path) -> Result<Self, OpenFailure> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        if let Err(failure) = prepare(&writer, file).await {
            writer.close().await;
            return Err(failure);
        }
        let reader =
            SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options.read_only(true).create_if_missing(false));
        Ok(Self { writer, reader, changed: Arc::new(watch::Sender::new(0)), file: file.to_path_buf() })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A channel whose number grows with each change to a resource.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Asks SQLite whether the file is sound.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub async fn check(&self) -> Result<(), StoreError> {
        let answer: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&self.reader).await?;
        if answer == "ok" { Ok(()) } else { Err(StoreError::Database(answer)) }
    }

    /// Closes all connections; the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Begins a write that waits for its turn here rather than fail in the middle.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

enum OpenFailure {
    Corrupt(String),
    Access(String),
    Other(StoreError),
}

impl OpenFailure {
    fn into_error(self, folder: &Path) -> StoreError {
        match self {
            Self::Corrupt(reason) => StoreError::Database(reason),
            Self::Access(reason) => StoreError::Folder { folder: folder.to_path_buf(), reason },
            Self::Other(error) => error,
        }
    }
}

impl From<sqlx::Error> for OpenFailure {
    fn from(error: sqlx::Error) -> Self {
        match () {
            () if is_corrupt(&error) => Self::Corrupt(error.to_string()),
            () if is_access(&error) => Self::Access(error.to_string()),
            () => Self::Other(error.into()),
        }
    }
}

/// SQLite would only say "unable to open database file": writing a file of our own gives the system's reason.
fn prove_writable(folder: &Path) -> io::Result<()> {
    let probe = folder.join(".weft-write-probe");
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}

/// Secrets are resources too: the file is for its owner alone. SQLite gives its companions the same mode.
fn keep_private(file: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
}

async fn prepare(pool: &SqlitePool, file: &Path) -> Result<(), OpenFailure> {
    let sound: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(pool).await?;
    if sound != "ok" {
        return Err(OpenFailure::Corrupt(sound));
    }
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)").execute(&mut *tx).await?;
    let found = sqlx::query("SELECT version FROM schema_version").fetch_optional(&mut *tx).await?;
    let version: i64 = found.as_ref().map_or(Ok(0), |row| row.try_get("version"))?;
    if !(0..=SCHEMA_VERSION).contains(&version) {
        return Err(OpenFailure::Other(StoreError::Newer { file: file.to_path_buf(), found: version, known: SCHEMA_VERSION }));
    }
    if found.is_none() {
        sqlx::query("INSERT INTO schema_version (version) VALUES (0)").execute(&mut *tx).await?;
    }
    for step in SCHEMA_STEPS.into_iter().skip(usize::try_from(version).unwrap_or(0)) {
        sqlx::raw_sql(step).execute(&mut *tx).await?;
    }
    sqlx::query("UPDATE schema_version SET version = ?").bind(SCHEMA_VERSION).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Moves the file and its companions away, under the first free number.
fn move_aside(file: &Path) -> io::Result<PathBuf> {
    let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", file.display()));
    let mut n = 1_u32;
    while with(&format!(".corrupt-{n}")).exists() {
        n += 1;
    }
    let aside = with(&format!(".corrupt-{n}"));
    std::fs::rename(file, &aside)?;
    for companion in ["-wal", "-shm"] {
        if with(companion).exists() {
            std::fs::rename(with(companion), with(&format!(".corrupt-{n}{companion}")))?;
        }
    }
    Ok(aside)
}
