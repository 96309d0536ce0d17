//! Secret files: written whole or not at all, readable by their owner only, refused when others could read them.

use crate::limits::PEM_FILE_BYTES_MAX;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Why a secret file or its folder cannot be used. Each text names the path and the way out.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system says no.
    #[error("cannot {action} {path}: {error}", path = path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// Group or others may read or write it.
    #[error("{path} holds secrets but its mode is {mode:04o}: others can open it; run `chmod {wanted:04o} {path}`, and replace the key if someone may have read it", path = path.display())]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// Larger than any legal content.
    #[error("{path} has more than {PEM_FILE_BYTES_MAX} bytes; it is not the file that belongs there", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// Is it just not there?
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Makes `dir` with mode 0700, or checks that an existing one is closed to others.
///
/// # Errors
/// When it cannot be made, or group or others may enter it.
pub fn private_dir(dir: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io_error("create", dir, error))?;
    let metadata = fs::metadata(dir).map_err(|error| io_error("read", dir, error))?;
    closed_to_others(dir, metadata.mode(), 0o700)
}

/// Writes `content` to `path` with mode 0600, atomically: after a crash the old or the new content is there, never a part.
///
/// # Errors
/// When the folder is not writable or the disk is full; the old content is then still there.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_atomic(path, content, 0o600)
}

/// Writes `content` to `path` atomically with mode 0644, for what is not secret.
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_atomic(path, content, 0o644)
}

/// Reads a secret text.
///
/// # Errors
/// When it is not there, not UTF-8, too large, or open to others.
pub fn read_private(path: &Path) -> Result<String, FileError> {
    let file = File::open(path).map_err(|error| io_error("read", path, error))?;
    let metadata = file.metadata().map_err(|error| io_error("read", path, error))?;
    closed_to_others(path, metadata.mode(), 0o600)?;
    read_limited(file, path)
}

/// Reads a text that is not secret.
///
/// # Errors
/// When it is not there, not UTF-8 or too large.
pub fn read_public(path: &Path) -> Result<String, FileError> {
    read_limited(File::open(path).map_err(|error| io_error("read", path, error))?, path)
}

fn read_limited(file: File, path: &Path) -> Result<String, FileError> {
    let mut text = String::new();
    file.take(PEM_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| io_error("read", path, error))?;
    match text.len() as u64 > PEM_FILE_BYTES_MAX {
        true => Err(FileError::TooLarge { path: path.into() }),
        false => Ok(text),
    }
}

fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    // The name carries the process id: two processes that write the same file must not share a temporary one.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_whole(&temporary, content, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The temporary file may not exist; what matters is the first error.
        fs::remove_file(&temporary).ok();
        return Err(io_error("write", path, error));
    }
    // The rename is durable once the folder is; a file system that cannot sync a folder has no such promise to keep.
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|dir| dir.sync_all()).ok();
    }
    Ok(())
}

fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn closed_to_others(path: &Path, mode: u32, wanted: u32) -> Result<(), FileError> {
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(FileError::TooOpen { path: path.into(), mode: mode & 0o7777, wanted }),
    }
}

fn io_error(action: &'static str, path: &Path, error: io::Error) -> FileError {
    FileError::Io { action, path: path.into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_are_closed_and_open_ones_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let secret_dir = dir.path().join("a/b");
        private_dir(&secret_dir).expect("made");
        assert_eq!(fs::metadata(&secret_dir).expect("there").mode() & 0o777, 0o700);

        let file = secret_dir.join("key.pem");
        write_private(&file, b"one").expect("written");
        write_private(&file, b"two").expect("written over");
        assert_eq!(read_private(&file).expect("read"), "two");
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&secret_dir).expect("dir").count(), 1, "no temporary file is left");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = read_private(&file).expect_err("open to others").to_string();
        assert!(error.contains("mode is 0644") && error.contains("chmod 0600"), "{error}");
        fs::set_permissions(&secret_dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(matches!(private_dir(&secret_dir), Err(FileError::TooOpen { .. })));
    }
}
