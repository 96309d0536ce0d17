//! The catalogue: every resource with its document, as the store has it, and what the files add to it. Pure memory.

use crate::files::{Files, key_of};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};
use weft_api::{Diagnostic, Document};
use weft_store::{Action, Change, Outcome, ResourceKey, ResourceRow, Source};

/// One resource: its row and its parsed form.
#[derive(Debug, Clone)]
pub struct CatalogueEntry {
    /// As stored.
    pub row: ResourceRow,
    /// As parsed.
    pub document: Arc<Document>,
    /// What parsing said about it, when it came through the API; a file's diagnostics stay with the file.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Parsed documents on their way into the store, each with what parsing said about it.
pub(crate) type Parsed = BTreeMap<ResourceKey, (Arc<Document>, Vec<Diagnostic>)>;

/// All resources.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    pub(crate) entries: BTreeMap<ResourceKey, CatalogueEntry>,
    /// What the files asked for when they were last looked at: a file takes over again when this changes.
    asked: BTreeMap<ResourceKey, String>,
}

impl Catalogue {
    /// From the store's rows, each parsed anew.
    pub(crate) fn load(rows: Vec<ResourceRow>) -> Self {
        let mut catalogue = Self::default();
        for row in rows {
            let mut parsed = weft_api::parse_at(&row.yaml, &row.file, row.line);
            let found = parsed.documents.iter().position(|document| key_of(document) == row.key);
            let Some(document) = found.map(|at| parsed.documents.swap_remove(at)) else {
                tracing::warn!(kind = row.key.kind, name = row.key.name, "a resource of the store cannot be read and is left out");
                continue;
            };
            let diagnostics = if row.source == Source::Api { parsed.diagnostics } else { Vec::new() };
            catalogue.put(row, Arc::new(document), diagnostics);
        }
        catalogue
    }

    /// Takes over what the store did with `document`.
    pub(crate) fn put(&mut self, row: ResourceRow, document: Arc<Document>, diagnostics: Vec<Diagnostic>) {
        let mut document = document;
        // The parser counts documents of one text; across texts, the older is the one that was stored earlier.
        Arc::make_mut(&mut document).meta.order = u64::try_from(row.created_ms).unwrap_or(0);
        self.entries.insert(row.key.clone(), CatalogueEntry { row, document, diagnostics });
    }

    /// Takes over outcomes of the store; `documents` has the parsed form of what was put.
    pub(crate) fn follow(&mut self, outcomes: &[Outcome], documents: &Parsed) {
        for outcome in outcomes {
            match (&outcome.row, documents.get(&outcome.key)) {
                (Some(row), Some((document, diagnostics))) => self.put(row.clone(), document.clone(), diagnostics.clone()),
                (None, _) => drop(self.entries.remove(&outcome.key)),
                (Some(_), None) => {}
            }
        }
    }

    /// What must be written so that the store says what the files say. Remembers what the files asked for.
    pub(crate) fn changes_from(&mut self, files: &Files) -> (Vec<Change>, Parsed) {
        let desired = files.desired();
        let (mut changes, mut documents) = (Vec::new(), BTreeMap::new());
        let asked: BTreeMap<ResourceKey, String> = desired.iter().map(|(key, document)| (key.clone(), document.raw.clone())).collect();
        let before = std::mem::replace(&mut self.asked, asked);
        for (key, document) in desired {
            let row = self.entries.get(&key).map(|entry| &entry.row);
            let file_changed = before.get(&key).is_some_and(|raw| *raw != document.raw);
            let same = row.is_some_and(|r| r.yaml == document.raw && r.source == Source::File && is_place(r, &document));
            let overridden = row.is_some_and(|r| r.source == Source::Api && r.yaml != document.raw) && !file_changed;
            if same || overridden {
                continue;
            }
            changes.push(put_of(&key, &document, Source::File));
            documents.insert(key, (document, Vec::new()));
        }
        let gone = |entry: &&CatalogueEntry| {
            entry.row.source == Source::File && files.covers(&entry.row.file) && !self.asked.contains_key(&entry.row.key)
        };
        changes.extend(self.entries.values().filter(gone).map(|entry| Change::Delete(entry.row.key.clone())));
        (changes, documents)
    }

    /// Does a watched file ask for this resource?
    pub(crate) fn is_asked(&self, key: &ResourceKey) -> bool {
        self.asked.contains_key(key)
    }

    /// A file asks again for what the API has let go.
    pub(crate) fn forget_asked(&mut self, key: &ResourceKey) {
        self.asked.remove(key);
    }

    /// The resources that the API holds against a file that says otherwise.
    pub(crate) fn overridden(&self) -> impl Iterator<Item = &CatalogueEntry> {
        self.entries.values().filter(|e| e.row.source == Source::Api && self.asked.get(&e.row.key).is_some_and(|raw| *raw != e.row.yaml))
    }

    /// The documents, oldest first.
    pub(crate) fn documents(&self) -> Vec<Arc<Document>> {
        let mut entries: Vec<&CatalogueEntry> = self.entries.values().collect();
        entries.sort_by(|a, b| {
            let place = |e: &CatalogueEntry| (e.row.created_ms, e.row.file.clone(), e.row.line);
            place(a).cmp(&place(b)).then_with(|| a.row.key.cmp(&b.row.key))
        });
        entries.into_iter().map(|entry| entry.document.clone()).collect()
    }
}

/// Is `document` where `row` says?
fn is_place(row: &ResourceRow, document: &Document) -> bool {
    row.file == document.origin.file && row.line == document.first_line
}

/// The write that makes the store say what `document` says.
pub(crate) fn put_of(key: &ResourceKey, document: &Document, source: Source) -> Change {
    Change::Put {
        key: key.clone(),
        api_version: document.meta.api_version.clone(),
        yaml: document.raw.clone(),
        source,
        file: document.origin.file.clone(),
        line: document.first_line,
    }
}

/// What a write would do, without doing it.
pub(crate) fn foresee(catalogue: &Catalogue, document: &Document) -> Action {
    match catalogue.entries.get(&key_of(document)) {
        None => Action::Created,
        Some(entry) if entry.row.yaml == document.raw => Action::Unchanged,
        Some(_) => Action::Configured,
    }
}

/// Hash of everything that decides what the mesh is: equal inputs are the same generation.
pub(crate) fn inputs_hash(inputs: &weft_compile::Inputs) -> String {
    let weft_compile::Inputs { documents, workloads, settings, key_sets } = inputs;
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for document in documents {
        part(document.origin.file.as_bytes());
        part(&document.first_line.to_be_bytes());
        part(document.raw.as_bytes());
    }
    // Our own types: no map with other keys than text, so this cannot fail.
    part(&serde_json::to_vec(workloads).unwrap_or_default());
    part(&serde_json::to_vec(settings).unwrap_or_default());
    if !key_sets.is_empty() {
        part(&serde_json::to_vec(&**key_sets).unwrap_or_default());
    }
    crate::tokens::hex(&hasher.finalize())
}
