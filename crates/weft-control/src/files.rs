//! Watched files: which files there are, which have changed, and what each holds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use weft_api::{Diagnostic, Document};
use weft_store::ResourceKey;

/// Most files read.
const FILES_MAX: usize = 10_000;
/// Deepest folder below a watched one.
const DEPTH_MAX: usize = 16;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What tells that a file has changed.
type Stamp = (Option<SystemTime>, u64);

/// One file as it was read last.
#[derive(Debug)]
struct ReadFile {
    stamp: Stamp,
    documents: Vec<Arc<Document>>,
    diagnostics: Vec<Diagnostic>,
}

/// The watched files.
#[derive(Debug)]
pub(crate) struct Files {
    roots: Vec<PathBuf>,
    /// What the last look saw: a file is read when two looks in a row agree, so that no half-written one is.
    seen: BTreeMap<PathBuf, Stamp>,
    read: BTreeMap<PathBuf, ReadFile>,
    problems: Vec<Diagnostic>,
}

impl Files {
    pub(crate) fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, seen: BTreeMap::new(), read: BTreeMap::new(), problems: Vec::new() }
    }

    /// Is `file` one that a watched root holds or held?
    pub(crate) fn covers(&self, file: &str) -> bool {
        self.roots.iter().any(|root| Path::new(file).starts_with(root))
    }

    /// Looks once; true when something has changed since the last call that said so. `at_once` does not wait for a second look.
    pub(crate) fn look(&mut self, at_once: bool) -> bool {
        let (now, problems) = scan(&self.roots);
        let before = std::mem::replace(&mut self.seen, now);
        let settled = |path: &PathBuf, stamp: Option<&Stamp>| at_once || before.get(path) == stamp;
        let changed: Vec<_> = self
            .seen
            .iter()
            .filter(|(path, stamp)| self.read.get(*path).is_none_or(|read| read.stamp != **stamp) && settled(path, Some(stamp)))
            .map(|(path, stamp)| (path.clone(), *stamp))
            .collect();
        let gone: Vec<_> = self.read.keys().filter(|path| !self.seen.contains_key(*path) && settled(path, None)).cloned().collect();
        let other_problems = problems != self.problems;
        self.problems = problems;
        gone.iter().for_each(|path| drop(self.read.remove(path)));
        let any = other_problems || !changed.is_empty() || !gone.is_empty();
        for (path, stamp) in changed {
            let read = read_file(&path, stamp);
            self.read.insert(path, read);
        }
        any
    }

    /// What the files ask for: each resource once. A resource in two files is taken from the first, by path.
    pub(crate) fn desired(&self) -> BTreeMap<ResourceKey, Arc<Document>> {
        let mut desired = BTreeMap::new();
        for document in self.read.values().flat_map(|file| &file.documents) {
            desired.entry(key_of(document)).or_insert_with(|| document.clone());
        }
        desired
    }

    /// Everything that is wrong with the files.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut first: BTreeMap<ResourceKey, &Arc<Document>> = BTreeMap::new();
        let mut twice = Vec::new();
        for document in self.read.values().flat_map(|file| &file.documents) {
            match first.get(&key_of(document)) {
                Some(winner) => twice.push(crate::diag::declared_twice(document.origin.clone(), &winner.origin)),
                None => drop(first.insert(key_of(document), document)),
            }
        }
        let read = self.read.values().flat_map(|file| &file.diagnostics);
        self.problems.iter().chain(read).cloned().chain(twice).collect()
    }
}

/// The store's key of a document.
pub(crate) fn key_of(document: &Document) -> ResourceKey {
    let (group, kind, namespace, name) = document.key();
    ResourceKey { group, kind, namespace, name }
}

fn read_file(path: &Path, stamp: Stamp) -> ReadFile {
    let name = path.display().to_string();
    let problem = |diagnostic| ReadFile { stamp, documents: Vec::new(), diagnostics: vec![diagnostic] };
    if stamp.1 > FILE_BYTES_MAX {
        return problem(crate::diag::file_too_large(&name, stamp.1, FILE_BYTES_MAX));
    }
    match std::fs::read(path) {
        Ok(bytes) => {
            let parsed = weft_api::parse_bytes(&bytes, &name);
            ReadFile { stamp, documents: parsed.documents.into_iter().map(Arc::new).collect(), diagnostics: parsed.diagnostics }
        }
        Err(error) => problem(crate::diag::file_unreadable(&name, &error.to_string())),
    }
}

/// All files below the roots. A root that is a file counts whatever its name; in folders, `.yaml`, `.yml` and `.json` do.
fn scan(roots: &[PathBuf]) -> (BTreeMap<PathBuf, Stamp>, Vec<Diagnostic>) {
    let (mut files, mut problems) = (BTreeMap::new(), Vec::new());
    let mut waiting: Vec<(PathBuf, usize)> = roots.iter().map(|root| (root.clone(), 0)).collect();
    while let Some((path, depth)) = waiting.pop() {
        let name = path.display().to_string();
        if files.len() >= FILES_MAX {
            problems.push(crate::diag::too_many_files(&name, FILES_MAX));
            break;
        }
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() && depth < DEPTH_MAX => match std::fs::read_dir(&path) {
                Ok(entries) => waiting.extend(
                    entries
                        .flatten()
                        .map(|entry| (entry.path(), depth + 1))
                        .filter(|(path, _)| !is_hidden(path) && !is_linked_folder(path)),
                ),
                Err(error) => problems.push(crate::diag::file_unreadable(&name, &error.to_string())),
            },
            Ok(meta) if meta.is_file() && (depth == 0 || is_yaml(&path)) => {
                files.insert(path, (meta.modified().ok(), meta.len()));
            }
            Ok(_) => {}
            // A file may go between the listing and the look; a root must be there.
            Err(_) if depth > 0 => {}
            Err(error) => problems.push(crate::diag::file_unreadable(&name, &error.to_string())),
        }
    }
    (files, problems)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// A link to a folder may lead in a circle, so that only the roots may be one. Links to files are followed.
fn is_linked_folder(path: &Path) -> bool {
    path.is_symlink() && path.is_dir()
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\nspec: {ports: [{port: 9080}]}\n";

    #[test]
    fn a_changed_file_is_read_when_it_has_settled() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.yaml");
        let mut files = Files::new(vec![folder.path().to_path_buf()]);
        assert!(!files.look(true), "nothing there");
        std::fs::write(&path, SERVICE).expect("writes");
        assert!(!files.look(false), "seen for the first time");
        assert!(files.look(false), "settled");
        assert_eq!(files.desired().len(), 1);
        assert!(!files.look(false), "nothing new");
        std::fs::remove_file(&path).expect("removes");
        assert!(!files.look(false));
        assert!(files.look(false));
        assert!(files.desired().is_empty());
    }

    #[test]
    fn only_yaml_below_folders_and_the_first_of_two_wins() {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(folder.path().join("sub")).expect("makes");
        for name in ["b.yaml", "sub/a.yml", "README.md", ".hidden.yaml"] {
            std::fs::write(folder.path().join(name), SERVICE).expect("writes");
        }
        let mut files = Files::new(vec![folder.path().to_path_buf()]);
        assert!(files.look(true));
        assert_eq!(files.read.len(), 2);
        let desired = files.desired();
        let document = desired.values().next().expect("one");
        assert!(document.origin.file.ends_with("b.yaml"), "{}", document.origin);
        assert!(files.diagnostics().iter().any(|d| d.code == "WEFT-3001"), "{:?}", files.diagnostics());
    }

    #[test]
    fn links_in_a_circle_are_not_followed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("a.yaml"), SERVICE).expect("writes");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).expect("links");
        let mut files = Files::new(vec![folder.path().to_path_buf()]);
        files.look(true);
        assert_eq!((files.read.len(), files.diagnostics().len()), (1, 0));
    }

    #[test]
    fn a_missing_root_is_said() {
        let mut files = Files::new(vec!["does/not/exist".into()]);
        assert!(files.look(true));
        let said = files.diagnostics()[0].to_string();
        assert!(said.contains("does/not/exist"), "{said}");
    }
}
