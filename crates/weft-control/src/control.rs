//! The handle of the control plane: what `weft up`, the API and the sessions call.

use crate::{
    ApplyResult, CommandError, CompiledMesh, DeleteOutcome, FetchFrom, JoinError, JoinGrant, JoinToken, MeshWatch, Proxies, ProxyCommand,
    ProxyRole, ProxyStatus, RecordFilter, Registry, RegistryEntry, Taps, Telemetry, Tokens,
    catalogue::CatalogueEntry,
    drive,
    engine::Engine,
    files::Files,
    journal::{Journal, JournalEntry},
};
use std::{
    borrow::Borrow,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use weft_api::Diagnostic;
use weft_compile::MeshSettings;
use weft_model::{SpiffeId, View};
use weft_pki::{Authority, AuthorityError};
use weft_std::{Tasks, clock};
use weft_store::{ResourceKey, Store, StoreError};
use weft_telemetry::RequestRecord;

/// How a control plane is started.
#[derive(Debug)]
pub struct ControlConfig {
    /// Folder of the database and the CA.
    pub state_dir: PathBuf,
    /// Where proxies connect.
    pub listener: TcpListener,
    /// Trust domain of all identities.
    pub trust_domain: String,
    /// Files and folders to watch.
    pub files: Vec<PathBuf>,
    /// Lifetime of workload certificates.
    pub leaf_ttl: Duration,
    /// From where keys of token issuers may be fetched.
    pub fetch_from: FetchFrom,
}

impl ControlConfig {
    /// State in `state_dir`, proxies at `listener`; trust domain `cluster.local`, no files, certificates for a day.
    pub fn new(state_dir: &Path, listener: TcpListener) -> Self {
        Self {
            state_dir: state_dir.to_path_buf(),
            listener,
            trust_domain: "cluster.local".into(),
            files: Vec::new(),
            leaf_ttl: LEAF_TTL_DEFAULT,
            fetch_from: FetchFrom::default(),
        }
    }
}

/// Lifetime of workload certificates unless set: as Istio's.
const LEAF_TTL_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// Why a control plane does not start. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CA.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The port.
    #[error("the address for proxies cannot be used: {0}; choose another, or end the program that has it")]
    Listen(std::io::Error),
    /// The server for proxies.
    #[error("the server for proxies does not start: {0}")]
    Server(String),
}

/// What the server for proxies needs: all handles, nothing else.
#[derive(Clone)]
pub struct Parts {
    /// The mesh, generation by generation.
    pub mesh: MeshWatch,
    /// Who is there.
    pub registry: Registry,
    /// Join tokens.
    pub tokens: Tokens,
    /// Status of proxies.
    pub proxies: Proxies,
    /// Where reports go.
    pub telemetry: Telemetry,
    /// Taps that run.
    pub taps: Taps,
    /// The CA.
    pub authority: Arc<Authority>,
    /// Lifetime of workload certificates.
    pub leaf_ttl: Duration,
}

/// A cloneable handle; the control plane stops with [`Control::shutdown`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) store: Store,
    pub(crate) engine: Arc<tokio::sync::Mutex<Engine>>,
    pub(crate) journal: Arc<Mutex<Journal>>,
    pub(crate) settings: MeshSettings,
    pub(crate) started_ms: u64,
    pub(crate) moved_aside: Option<PathBuf>,
    pub(crate) address: SocketAddr,
    tasks: Mutex<Option<Tasks>>,
}

impl Control {
    /// Opens the state, loads the files, compiles the first generation, and listens for proxies.
    ///
    /// # Errors
    /// When the state folder, the CA or the address cannot be used.
    pub async fn start(config: ControlConfig) -> Result<Self, StartError> {
        let now_ms = clock::unix_ms();
        let opened = Store::open(&config.state_dir).await?;
        let authority = Arc::new(Authority::load_or_create(&config.state_dir.join("ca"), &config.trust_domain)?);
        let registry = Registry::load(opened.store.clone(), &config.trust_domain, now_ms).await?;
        // Before the first generation: whoever died with the last run must not get traffic in this one.
        drive::end_graces_of_the_dead(&registry).await;
        let settings = MeshSettings { trust_domain: config.trust_domain.clone(), ..MeshSettings::default() };
        let published = Arc::new(watch::Sender::new(Arc::new(CompiledMesh::default())));
        let mesh = MeshWatch::new(published.subscribe());
        let files = Files::new(config.files.clone());
        let engine = Engine::load(opened.store.clone(), registry.clone(), settings.clone(), files, published, now_ms).await?;
        let engine = Arc::new(tokio::sync::Mutex::new(engine));
        let parts = Parts {
            mesh,
            registry,
            tokens: Tokens::new(opened.store.clone()),
            proxies: Proxies::default(),
            telemetry: Telemetry::default(),
            taps: Taps::default(),
            authority,
            leaf_ttl: config.leaf_ttl,
        };
        let tasks = Tasks::new();
        let address = config.listener.local_addr().map_err(StartError::Listen)?;
        crate::server::start(&tasks, parts.clone(), config.listener)?;
        let journal = Arc::new(Mutex::new(Journal::new(&parts.registry.entries())));
        drive::start(&tasks, &parts, &engine, &journal);
        let kept = config.state_dir.join("key-sets.json");
        tasks.spawn("key sets", crate::key_sets::follow(parts.mesh.clone(), engine.clone(), config.fetch_from, kept));
        let inner = Inner {
            parts,
            store: opened.store,
            engine,
            journal,
            settings,
            started_ms: now_ms,
            moved_aside: opened.moved_aside,
            address,
            tasks: Mutex::new(Some(tasks)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends all sessions and closes the store.
    pub async fn shutdown(&self) {
        let tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.shutdown().await;
        }
        self.inner.store.close().await;
    }

    /// The handles, as the server for proxies has them.
    pub fn parts(&self) -> &Parts {
        &self.inner.parts
    }
    /// Where proxies connect.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }
    /// Trust bundle that proxies need to connect.
    pub fn bundle_pem(&self) -> &str {
        self.inner.parts.authority.bundle_pem()
    }
    /// Trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.inner.settings.trust_domain
    }
    /// Start, milliseconds since 1970.
    pub fn started_unix_ms(&self) -> u64 {
        self.inner.started_ms
    }
    /// What the operator should hear at the start.
    pub fn notices(&self) -> Vec<String> {
        let aside =
            |path: &PathBuf| format!("the state database was corrupt: it was moved to {}, and a fresh one was made", path.display());
        self.moved_aside().map(aside).into_iter().collect()
    }
    /// End of the root certificate, as a date.
    pub fn root_valid_until(&self) -> String {
        crate::calendar::date(self.inner.parts.authority.root_not_after_s())
    }
    /// Where a corrupt database was moved to at the start.
    pub fn moved_aside(&self) -> Option<&PathBuf> {
        self.inner.moved_aside.as_ref()
    }

    /// The newest mesh.
    pub fn mesh(&self) -> Arc<CompiledMesh> {
        self.inner.parts.mesh.current()
    }
    /// Follows the mesh.
    pub fn subscribe(&self) -> MeshWatch {
        self.inner.parts.mesh.clone()
    }
    /// Number of the newest generation.
    pub fn generation(&self) -> u64 {
        self.mesh().generation
    }

    /// Applies YAML. A document with an error is refused; the others are stored, all or (when the store fails) none.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn apply(&self, yaml: &str, file: &str, dry_run: bool) -> Result<ApplyResult, StoreError> {
        let mut engine = self.inner.engine.lock().await;
        let result = engine.apply(yaml, file, dry_run, clock::unix_ms()).await;
        drive::collect_events(&mut engine, &self.inner.journal);
        result
    }
    /// Deletes a resource.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn delete(&self, key: &ResourceKey) -> Result<DeleteOutcome, StoreError> {
        let mut engine = self.inner.engine.lock().await;
        let result = engine.delete(key, clock::unix_ms()).await;
        drive::collect_events(&mut engine, &self.inner.journal);
        result
    }
    /// All resources, by key.
    pub async fn resources(&self) -> Vec<CatalogueEntry> {
        self.inner.engine.lock().await.catalogue.entries.values().cloned().collect()
    }
    /// All findings, worst first: of the configuration, and what proxies refuse now.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        crate::status::diagnostics(&self.mesh(), &self.inner.parts.proxies.list())
    }

    /// All workloads and gateways that are enrolled.
    pub fn workloads(&self) -> Vec<RegistryEntry> {
        self.inner.parts.registry.entries()
    }
    /// All proxies.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        self.inner.parts.proxies.list()
    }
    /// What a proxy should have: its view, projected from the newest mesh for what it subscribes to.
    pub fn proxy_config(&self, id: &str) -> Option<(u64, View)> {
        let proxy = self.inner.parts.proxies.find(id)?;
        let mesh = self.mesh();
        let entry = self.inner.parts.registry.entries().into_iter().find(|entry| entry.workload.id == id);
        let identity = crate::status::identity_of(&proxy, entry.as_ref())?;
        Some((mesh.generation, weft_compile::project(&mesh.mesh, &identity, &proxy.roots).view))
    }
    /// Sets the log level of a proxy.
    ///
    /// # Errors
    /// When it is not connected.
    pub fn set_log_level(&self, id: &str, level: &str) -> Result<(), CommandError> {
        self.inner.parts.proxies.command(id, ProxyCommand::LogLevel(level.into()))
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// When the grant is not legal or the store cannot be written.
    pub async fn mint_join_token(&self, grant: impl Borrow<JoinGrant>) -> Result<JoinToken, JoinError> {
        let grant = grant.borrow();
        SpiffeId::new(self.trust_domain(), &grant.namespace, &grant.service_account)
            .map_err(|error| JoinError::Grant(error.to_string()))?;
        self.inner.parts.tokens.mint(grant, clock::unix_ms()).await
    }

    /// The newest records that match, newest first.
    pub fn records(&self, filter: &RecordFilter) -> Vec<Arc<RequestRecord>> {
        self.inner.parts.telemetry.records(filter)
    }
    /// All records of one request.
    pub fn record(&self, id: &str) -> Vec<Arc<RequestRecord>> {
        self.inner.parts.telemetry.record(id)
    }
    /// Records that the proxies left out because of their bounds.
    pub fn records_dropped(&self) -> u64 {
        self.inner.parts.telemetry.totals().1
    }
    /// What changed lately, newest first.
    pub fn journal(&self, since_unix_ms: u64, entries_max: usize) -> Vec<JournalEntry> {
        self.inner.journal.lock().unwrap_or_else(PoisonError::into_inner).since(since_unix_ms, entries_max)
    }

    /// What would happen to a request.
    pub fn explain(&self, request: &weft_compile::ExplainRequest) -> weft_compile::Explanation {
        weft_compile::explain(&self.mesh().mesh, request)
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("address", &self.inner.address).field("generation", &self.generation()).finish_non_exhaustive()
    }
}

/// Role as the compiler has it.
pub(crate) fn compile_role(role: ProxyRole) -> weft_compile::ProxyRole {
    match role {
        ProxyRole::Sidecar => weft_compile::ProxyRole::Sidecar,
        ProxyRole::Gateway => weft_compile::ProxyRole::Gateway,
    }
}
