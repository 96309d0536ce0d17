//! Reading what `-f` names: files, folders, standard input.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// A file of resources.
pub(crate) struct Manifest {
    /// Name for messages and provenance.
    pub(crate) source: String,
    /// Its text.
    pub(crate) text: String,
}

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads all `paths`; a folder stands for the `.yaml`, `.yml` and `.json` files below it, in order of their names.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for path in paths {
        match (path.as_os_str() == "-", path.is_dir()) {
            (true, _) => {
                let mut text = String::new();
                std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text).context("standard input is not text")?;
                manifests.push(Manifest { source: "-".into(), text });
            }
            (false, true) => folder(path, &mut manifests)?,
            (false, false) => manifests.push(file(path)?),
        }
    }
    if manifests.is_empty() {
        bail!("no .yaml, .yml or .json file in what -f names");
    }
    Ok(manifests)
}

fn folder(path: &Path, manifests: &mut Vec<Manifest>) -> Result<()> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut entries: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    entries.sort();
    for entry in entries {
        let known = entry.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|k| e.eq_ignore_ascii_case(k)));
        match (entry.is_dir(), known) {
            (true, _) => folder(&entry, manifests)?,
            (false, true) => manifests.push(file(&entry)?),
            (false, false) => {}
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<Manifest> {
    let size = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    if size > FILE_BYTES_MAX {
        bail!("{} has {size} bytes; {FILE_BYTES_MAX} are allowed", path.display());
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    Ok(Manifest { source: path.display().to_string(), text })
}

/// Percent-encodes a text for a query or a path segment.
pub(crate) fn encode(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_resource_files_in_order() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, text) in [("b.yaml", "b"), ("a.yml", "a"), ("c.txt", "c")] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let texts: Vec<String> = read(&[folder.path().into()]).expect("two files").into_iter().map(|m| m.text).collect();
        assert_eq!(texts, ["a", "b"]);
        assert!(read(&[folder.path().join("missing.yaml")]).is_err());
        assert_eq!(encode("a/b c"), "a%2Fb%20c");
    }
}
