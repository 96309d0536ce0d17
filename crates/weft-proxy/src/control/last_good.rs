//! The last good configuration on disk: a proxy that starts while the control plane is away serves with it.
//!
//! One file, written atomically with mode 0600 (a gateway's view holds private keys): a line with format and checksum, then JSON.

use super::limits::LAST_GOOD_BYTES_MAX;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use weft_model::{ModelValue, Root, RootState, Versioned, View};
use weft_pki::files::{self, FileError};

/// Name of the file in the proxy's state folder.
pub(super) const FILE: &str = "last-good";
/// Changes when the form does. A file of another form is not read, as if there were none.
const FORMAT: &str = "weft-last-good 1";

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LastGood {
    /// Identity of the workload that it is for.
    pub(super) identity: String,
    /// Generation of the view.
    pub(super) generation: u64,
    /// The view.
    pub(super) view: View,
    /// What it was projected for.
    pub(super) roots: Vec<(Root, RootState)>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    identity: String,
    generation: u64,
    roots: Vec<(Root, RootState)>,
    values: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
struct Value {
    version: String,
    value: Arc<ModelValue>,
}

/// What was found.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// A whole one.
    Good(Box<LastGood>),
    /// None, or one of another version of the program.
    None,
    /// A damaged one; it was moved to where the path says, to be looked at.
    Damaged { reason: String, moved_to: Option<PathBuf> },
}

impl LastGood {
    /// Writes it into `dir`.
    ///
    /// # Errors
    /// When the disk is full or the folder cannot be written; the old file is then still there.
    pub(super) fn save(&self, dir: &Path) -> Result<(), FileError> {
        let value = |versioned: &Versioned| Value { version: versioned.version.clone(), value: versioned.value.clone() };
        let body = Body {
            identity: self.identity.clone(),
            generation: self.generation,
            roots: self.roots.clone(),
            values: self.view.values.values().map(value).collect(),
        };
        // Our own types: no map with other keys than text, so this cannot fail.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut content = format!("{FORMAT} {}\n", checksum(&json)).into_bytes();
        content.extend(json);
        files::write_private(&dir.join(FILE), &content)
    }

    /// Reads what is in `dir`. Never fails: without a good file a proxy starts empty and waits for the control plane.
    pub(super) fn load(dir: &Path) -> Found {
        let path = dir.join(FILE);
        let content = match read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::None,
            Err(error) => return Found::Damaged { reason: error.to_string(), moved_to: None },
        };
        if content.starts_with(b"weft-last-good ") && !content.starts_with(format!("{FORMAT} ").as_bytes()) {
            return Found::None;
        }
        match parse(&content) {
            Ok(good) => Found::Good(Box::new(good)),
            Err(reason) => {
                let aside = path.with_extension("damaged");
                let moved_to = fs::rename(&path, &aside).ok().map(|()| aside);
                Found::Damaged { reason, moved_to }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(LAST_GOOD_BYTES_MAX).read_to_end(&mut content)?;
    Ok(content)
}

fn parse(content: &[u8]) -> Result<LastGood, String> {
    let end = content.iter().position(|byte| *byte == b'\n').ok_or("it has no head")?;
    let (head, json) = (&content[..end], &content[end + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| "its head is no text")?;
    let expected = head.strip_prefix(FORMAT).map(str::trim).ok_or("its head is not Weft's")?;
    if expected != checksum(json) {
        return Err("its checksum is wrong".into());
    }
    let body: Body = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut view = View::default();
    for Value { version, value } in body.values {
        view.values.insert(value.name(), Versioned { version, value });
    }
    Ok(LastGood { identity: body.identity, generation: body.generation, view, roots: body.roots })
}

fn checksum(json: &[u8]) -> String {
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> LastGood {
        let mut view = View::default();
        let policy = r#"{"type":"Authorization","value":{"name":"default/a","action":"ALLOW","rules":[],
            "origin":{"kind":"AuthorizationPolicy","namespace":"default","name":"a","file":"a.yaml","line":3}}}"#;
        view.insert(serde_json::from_str(policy).expect("the model's own form"));
        let roots = vec![(Root::Host("reviews".into()), RootState::Unknown)];
        LastGood { identity: "spiffe://cluster.local/ns/default/sa/a".into(), generation: 7, view, roots }
    }

    #[test]
    fn comes_back_as_it_was_and_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(LastGood::load(dir.path()), Found::None);
        sample().save(dir.path()).expect("saved");
        assert_eq!(LastGood::load(dir.path()), Found::Good(Box::new(sample())));
        let mode = fs::metadata(dir.path().join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn any_damage_is_noticed_moved_aside_and_said() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join(FILE);
        sample().save(dir.path()).expect("saved");
        let whole = fs::read(&path).expect("read");
        for at in (FORMAT.len() + 1..whole.len()).step_by(5) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for damaged in [&flipped, &whole[..at].to_vec()] {
                fs::write(&path, damaged).expect("written");
                let Found::Damaged { moved_to: Some(moved_to), .. } = LastGood::load(dir.path()) else {
                    unreachable!("damage at {at} was not noticed")
                };
                assert_eq!(&fs::read(moved_to).expect("moved"), damaged);
                assert_eq!(LastGood::load(dir.path()), Found::None);
            }
        }
    }

    #[test]
    fn another_format_is_left_where_it_is() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::write(dir.path().join(FILE), "weft-last-good 9 abc\n{}").expect("written");
        assert_eq!(LastGood::load(dir.path()), Found::None);
        assert!(dir.path().join(FILE).exists());
    }
}
