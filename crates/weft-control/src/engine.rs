//! The engine: the one place that changes the mesh. Writes to the store, keeps the catalogue, links, and publishes generations.

use crate::{
    CompiledMesh, Registry,
    catalogue::{Catalogue, Parsed, foresee, inputs_hash, put_of},
    files::{Files, key_of},
    key_sets::KeySets,
    tokens::signed,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;
use weft_api::{Diagnostic, Document, Severity};
use weft_compile::{Inputs, MeshSettings};
use weft_store::{Action, AuditRow, Change, GenerationRow, Outcome, ResourceKey, Source, Store, StoreError};

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedResource {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `created`, `configured`, `unchanged`, `deleted` or `refused`.
    pub action: String,
}

/// What became of a text. A document with an error is refused; the others are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResult {
    /// Per document.
    pub results: Vec<AppliedResource>,
    /// What is wrong or worth knowing about them.
    pub diagnostics: Vec<Diagnostic>,
    /// Nothing was stored on purpose?
    pub dry_run: bool,
    /// The generation that now runs.
    pub generation: u64,
}

impl ApplyResult {
    /// Was all of it refused?
    pub fn refused(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error) && self.results.iter().all(|r| r.action == "refused")
    }
}

/// What happened to the configuration, for the page.
#[derive(Debug, Clone)]
pub(crate) struct EngineEvent {
    pub(crate) action: Action,
    pub(crate) document: Arc<Document>,
    pub(crate) actor: String,
    pub(crate) generation: u64,
}

/// See the module.
pub(crate) struct Engine {
    store: Store,
    registry: Registry,
    settings: MeshSettings,
    pub(crate) files: Files,
    pub(crate) catalogue: Catalogue,
    generation: u64,
    hash: String,
    link_diagnostics: Vec<Diagnostic>,
    key_sets: Arc<KeySets>,
    published: Arc<watch::Sender<Arc<CompiledMesh>>>,
    pub(crate) events: Vec<EngineEvent>,
}

impl Engine {
    /// Loads what the store remembers and what the files say, and compiles it.
    pub(crate) async fn load(
        store: Store,
        registry: Registry,
        settings: MeshSettings,
        files: Files,
        published: Arc<watch::Sender<Arc<CompiledMesh>>>,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let last = store.generations(1).await?.into_iter().next();
        let catalogue = Catalogue::load(store.resources().await?);
        let mut engine = Self {
            store,
            registry,
            settings,
            files,
            catalogue,
            generation: last.as_ref().and_then(|row| u64::try_from(row.generation).ok()).unwrap_or(0),
            hash: last.map(|row| row.hash).unwrap_or_default(),
            link_diagnostics: Vec::new(),
            key_sets: Arc::default(),
            published,
            events: Vec::new(),
        };
        engine.files.look(true);
        engine.take_files("start", now_ms).await?;
        engine.publish("start", now_ms, true).await?;
        Ok(engine)
    }

    /// Looks at the files; compiles when something has changed.
    pub(crate) async fn look_at_files(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if self.files.look(false) {
            self.take_files("file", now_ms).await?;
            self.publish("file", now_ms, true).await?;
        }
        Ok(())
    }

    async fn take_files(&mut self, actor: &str, now_ms: u64) -> Result<(), StoreError> {
        let (changes, documents) = self.catalogue.changes_from(&self.files);
        if !changes.is_empty() {
            let outcomes = self.store.write(changes, actor, signed(now_ms)).await?;
            self.note(&outcomes, &documents, "file");
            self.catalogue.follow(&outcomes, &documents);
        }
        Ok(())
    }

    /// Compiles anew with other keys of token issuers.
    pub(crate) async fn set_key_sets(&mut self, key_sets: KeySets, now_ms: u64) -> Result<(), StoreError> {
        self.key_sets = Arc::new(key_sets);
        self.publish("keys", now_ms, true).await
    }

    /// Compiles anew because the registry has changed.
    pub(crate) async fn look_at_registry(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.publish("workloads", now_ms, false).await
    }

    /// Applies a text. A document with an error is refused; the others are stored, all in one transaction.
    pub(crate) async fn apply(&mut self, text: &str, source: &str, dry_run: bool, now_ms: u64) -> Result<ApplyResult, StoreError> {
        let parsed = weft_api::parse(text, source);
        let mut documents = BTreeMap::new();
        let mut refused = Vec::new();
        for document in parsed.documents {
            let own = of_object(&parsed.diagnostics, &document);
            if own.iter().any(Diagnostic::is_error) {
                refused.push(applied(&key_of(&document), "refused"));
                continue;
            }
            // The last of several documents of one name wins, as if they had been applied one after the other.
            documents.insert(key_of(&document), (Arc::new(document), own));
        }
        let mut result = ApplyResult { results: refused, diagnostics: parsed.diagnostics, dry_run, generation: self.generation };
        if documents.is_empty() {
            return Ok(result);
        }
        let before: BTreeSet<Diagnostic> = self.link_diagnostics.iter().cloned().collect();
        let linked = if dry_run {
            result.results.extend(documents.iter().map(|(key, (d, _))| applied(key, foresee(&self.catalogue, d).as_str())));
            self.link_as_if(&documents, now_ms)
        } else {
            let changes = documents.iter().map(|(key, (document, _))| put_of(key, document, Source::Api)).collect();
            let outcomes = self.store.write(changes, "api", signed(now_ms)).await?;
            self.audit("apply", source, outcomes.len(), now_ms).await?;
            self.note(&outcomes, &documents, "api");
            self.catalogue.follow(&outcomes, &documents);
            self.publish("apply", now_ms, true).await?;
            result.results.extend(outcomes.iter().map(|o| applied(&o.key, o.action.as_str())));
            self.link_diagnostics.clone()
        };
        let touched = |d: &Diagnostic| documents.values().any(|(document, _)| same_object(d, document));
        result.diagnostics.extend(linked.into_iter().filter(|d| touched(d) || !before.contains(d)));
        result.generation = self.generation;
        Ok(result)
    }

    /// Deletes a resource. What a watched file asks for comes back from the file, unless the file's form is the one to delete.
    pub(crate) async fn delete(&mut self, key: &ResourceKey, now_ms: u64) -> Result<DeleteOutcome, StoreError> {
        let Some(entry) = self.catalogue.entries.get(key).cloned() else {
            return Ok(DeleteOutcome::Missing);
        };
        if entry.row.source == Source::File && self.catalogue.is_asked(key) {
            return Ok(DeleteOutcome::HeldByFile { file: entry.row.file, line: entry.row.line });
        }
        let outcomes = self.store.write(vec![Change::Delete(key.clone())], "api", signed(now_ms)).await?;
        self.audit("delete", &entry.document.origin.object(), 1, now_ms).await?;
        self.note(&outcomes, &BTreeMap::new(), "api");
        self.catalogue.follow(&outcomes, &BTreeMap::new());
        self.catalogue.forget_asked(key);
        self.take_files("file", now_ms).await?;
        self.publish("delete", now_ms, true).await?;
        let results = vec![applied(key, Action::Deleted.as_str())];
        Ok(DeleteOutcome::Deleted(ApplyResult { results, generation: self.generation, ..ApplyResult::default() }))
    }

    /// Links what the mesh would be with `documents`, without changing it.
    fn link_as_if(&self, documents: &Parsed, now_ms: u64) -> Vec<Diagnostic> {
        let mut inputs = self.inputs();
        inputs.documents.retain(|document| !documents.contains_key(&key_of(document)));
        inputs.documents.extend(documents.values().map(|(document, _)| {
            let mut document = document.clone();
            let known = self.catalogue.entries.get(&key_of(&document)).map(|entry| entry.row.created_ms);
            Arc::make_mut(&mut document).meta.order = known.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(now_ms);
            document
        }));
        inputs.documents.sort_by_key(|document| document.meta.order);
        weft_compile::link(&inputs).diagnostics
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            documents: self.catalogue.documents(),
            workloads: self.registry.catalogue(),
            settings: self.settings.clone(),
            key_sets: self.key_sets.clone(),
        }
    }

    /// Links, and publishes a new generation if what goes in differs. `told` publishes anyway: the diagnostics may differ.
    async fn publish(&mut self, cause: &str, now_ms: u64, told: bool) -> Result<(), StoreError> {
        let inputs = self.inputs();
        let hash = inputs_hash(&inputs);
        let first = self.published.borrow().generation == 0;
        if hash == self.hash && !first && !told {
            return Ok(());
        }
        if hash != self.hash {
            let generation = self.generation + 1;
            let row = GenerationRow { generation: signed(generation), hash: hash.clone(), at_ms: signed(now_ms), cause: cause.into() };
            self.store.put_generation(&row).await?;
            (self.generation, self.hash) = (generation, hash);
        }
        for event in &mut self.events {
            if event.generation == 0 {
                event.generation = self.generation;
            }
        }
        let linked = weft_compile::link(&inputs);
        self.link_diagnostics = linked.diagnostics;
        let mesh = CompiledMesh {
            generation: self.generation,
            mesh: Arc::new(linked.mesh),
            diagnostics: self.diagnostics(),
            documents: inputs.documents,
        };
        self.published.send_replace(Arc::new(mesh));
        Ok(())
    }

    /// All findings, worst first, then by place.
    fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = self.files.diagnostics();
        all.extend(self.catalogue.entries.values().flat_map(|entry| entry.diagnostics.clone()));
        all.extend(self.catalogue.overridden().map(|entry| crate::diag::file_overridden(entry.document.origin.clone())));
        all.extend(self.link_diagnostics.iter().cloned());
        sort_worst_first(&mut all);
        all
    }

    fn note(&mut self, outcomes: &[Outcome], documents: &Parsed, actor: &str) {
        for outcome in outcomes.iter().filter(|o| !matches!(o.action, Action::Unchanged | Action::Missing)) {
            let before = self.catalogue.entries.get(&outcome.key).map(|entry| &entry.document);
            if let Some(document) = documents.get(&outcome.key).map(|(document, _)| document).or(before).cloned() {
                self.events.push(EngineEvent { action: outcome.action, document, actor: actor.into(), generation: 0 });
            }
        }
    }

    async fn audit(&self, action: &str, object: &str, documents: usize, now_ms: u64) -> Result<(), StoreError> {
        let detail = format!("{documents} documents");
        let row = AuditRow { at_ms: signed(now_ms), actor: "api".into(), action: action.into(), object: object.into(), detail };
        self.store.audit(&row).await
    }
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// Done.
    Deleted(ApplyResult),
    /// There is none.
    Missing,
    /// A watched file holds it: delete it there.
    HeldByFile {
        /// File.
        file: String,
        /// Line.
        line: u32,
    },
}

/// Errors first, then warnings; within these by file and line.
pub(crate) fn sort_worst_first(diagnostics: &mut Vec<Diagnostic>) {
    let place = |d: &Diagnostic| {
        (d.severity != Severity::Error, d.severity == Severity::Info, d.origin.file.clone(), d.origin.line, d.code.clone())
    };
    diagnostics.sort_by_cached_key(place);
    diagnostics.dedup();
}

fn applied(key: &ResourceKey, action: &str) -> AppliedResource {
    AppliedResource { kind: key.kind.clone(), namespace: key.namespace.clone(), name: key.name.clone(), action: action.into() }
}

/// Is `diagnostic` about `document`?
pub(crate) fn same_object(diagnostic: &Diagnostic, document: &Document) -> bool {
    let (a, b) = (&diagnostic.origin, &document.origin);
    (&a.kind, &a.namespace, &a.name) == (&b.kind, &b.namespace, &b.name)
}

fn of_object(diagnostics: &[Diagnostic], document: &Document) -> Vec<Diagnostic> {
    diagnostics.iter().filter(|d| same_object(d, document)).cloned().collect()
}
