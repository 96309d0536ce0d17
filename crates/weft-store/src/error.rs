//! What can go wrong with the store, in words that say what to do.

use std::path::PathBuf;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state folder cannot be made or written.
    #[error(
        "the state folder {folder} cannot be written: {reason}; give a folder that you may write with --state-dir, or fix its permissions"
    )]
    Folder {
        /// Folder.
        folder: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another version of Weft made the file.
    #[error(
        "{file} has schema version {found}, this Weft knows {known} at most; run the newer Weft, or move the file away to start afresh"
    )]
    Newer {
        /// File.
        file: PathBuf,
        /// Version found.
        found: i64,
        /// Version known.
        known: i64,
    },
    /// The file is held by another process for longer than the busy time-out.
    #[error("the state database is in use by another process; stop the other `weft up` (weft down) or give another --state-dir")]
    Busy,
    /// No space, disk fault, or a fault in Weft.
    #[error("the state database failed: {0}; check the free space and the health of the disk under the state folder")]
    Database(String),
}

/// SQLite's primary result codes that mean that the file is not a sound database: SQLITE_CORRUPT and SQLITE_NOTADB.
const CORRUPT_CODES: [i64; 2] = [11, 26];
/// SQLITE_BUSY and SQLITE_LOCKED.
const BUSY_CODES: [i64; 2] = [5, 6];
/// SQLITE_PERM, SQLITE_READONLY and SQLITE_CANTOPEN.
const ACCESS_CODES: [i64; 3] = [3, 8, 14];

/// The primary result code of SQLite in `error`, if it came from SQLite.
fn primary_code(error: &sqlx::Error) -> Option<i64> {
    // Extended codes carry the primary one in their low byte.
    error.as_database_error()?.code()?.parse::<i64>().ok().map(|code| code & 0xff)
}

/// Is the file itself bad?
pub(crate) fn is_corrupt(error: &sqlx::Error) -> bool {
    primary_code(error).is_some_and(|code| CORRUPT_CODES.contains(&code))
}

/// Is it a matter of permissions?
pub(crate) fn is_access(error: &sqlx::Error) -> bool {
    primary_code(error).is_some_and(|code| ACCESS_CODES.contains(&code))
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match primary_code(&error) {
            Some(code) if BUSY_CODES.contains(&code) => Self::Busy,
            _ => Self::Database(error.to_string()),
        }
    }
}
