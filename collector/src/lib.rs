//! The collector: discovers and scrapes targets into the store, answers PromQL over HTTP, evaluates rules and sends alerts.
//!
//! [`Collector::start`] takes its settings and a token that ends it; nothing in this crate is global.

mod active_queries;
pub mod api;
mod auto_reload;
mod buckets;
mod client;
pub mod config;
mod discovery;
mod durations;
pub mod flags;
mod grid;
mod json_log;
mod notifications;
pub mod notifier;
mod number_hash;
mod query;
mod query_log;
pub mod relabel;
pub mod rules;
pub mod scrape;
mod storage;
mod web;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration as StdDuration;

use common::flags::Program;
use common::http::{Server as HttpServer, ServerError, ServerOptions};
use model::{Duration, now_millis};
use parking_lot::{Mutex, RwLock};
use promql::EngineOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tsdb::{Files, OpenError, Opening};

use crate::active_queries::ActiveQueries;
use crate::auto_reload::FileWatch;
use crate::discovery::DiscoveryMetrics;
use crate::notifications::{Notifications, RELOAD_FAILED, SHUTTING_DOWN, STARTING_UP};
use api::{ApiMetrics, ApiOptions, ReloadRequest, ReloadState};
use config::{Config, ConfigError, LoadOptions, Size};
use notifier::{Notifier, NotifierOptions};
use query::queue::Queue;
pub use query::{Querier, QuerySample, QueryValue};
use rules::{AlertOptions, RuleContext, RuleManager};
use scrape::{ScrapeManager, ScrapeOptions, StartTimes};
pub use storage::{NotReady, Refusals, Store};

/// What this program stands in for.
pub const PROGRAM: Program =
    Program { name: "prometheus", version: "3.14.0", firewatch_version: env!("CARGO_PKG_VERSION") };

/// Samples are kept this long unless told otherwise.
const DEFAULT_RETENTION: Duration = Duration::from_secs(15 * 86_400);

/// The settings of a collector.
#[derive(Clone, Debug)]
pub struct CollectorOptions {
    /// Prometheus' configuration file.
    pub config_file: PathBuf,
    /// How the configuration file is read.
    pub load: LoadOptions,
    /// How often the configuration's files are looked at and read anew if they have changed; `None` for never.
    pub auto_reload_interval: Option<Duration>,
    /// Shortest time between two changes of a job's targets that discovery is allowed; `None` for a second.
    pub discovery_reload_interval: Option<Duration>,
    /// The folder of the store.
    pub storage_path: PathBuf,
    /// The store's way to the disk; tests of faults put their own here.
    pub files: Files,
    /// Range of the blocks that are cut from the head.
    pub min_block_duration: Duration,
    /// Longest range of a block; a tenth of the retention if `None`.
    pub max_block_duration: Option<Duration>,
    /// Bytes of a log segment.
    pub wal_segment_size: Option<Size>,
    /// Longest time that acknowledged samples may be lost by a loss of power; zero waits for the disk at each commit.
    pub wal_fsync_interval: Duration,
    /// How often blocks are cut, merged and deleted.
    pub maintenance_interval: Duration,
    /// How long samples are kept. Without this and a size: 15 days.
    pub retention_time: Option<Duration>,
    /// How many bytes of blocks are kept.
    pub retention_size: Option<Size>,
    /// Where and how to listen.
    pub server: ServerOptions,
    /// Settings of PromQL.
    pub engine: EngineOptions,
    /// Queries of the API at once.
    pub query_concurrency: usize,
    /// Queries of the API that may wait for their turn.
    pub query_queue: usize,
    /// Times of alerting.
    pub alerts: AlertOptions,
    /// Sending alerts.
    pub notifier: NotifierOptions,
    /// How far from its time a scrape may start for its samples to carry that time all the same; `None` keeps the true times.
    pub timestamp_tolerance: Option<Duration>,
    /// What is done with the times from which samples of targets count.
    pub start_times: StartTimes,
    /// Whether scraped series have the labels `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
    /// Hosts (without port) that requests may name in `Host` and `Origin`; `None` allows all.
    pub allowed_hosts: Option<Vec<String>>,
    /// Settings of the API.
    pub api: ApiOptions,
}

/// Why a collector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("Error loading config: {0}")]
    Config(#[from] ConfigError),
    /// The configuration asks for something that this version does not have.
    #[error("Error loading config (--config.file={}): not supported by this version of Firewatch: {}", file.display(), what.join(", "))]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Sections and mechanisms.
        what: Vec<String>,
    },
    /// The configuration is well-formed and cannot be put in force.
    #[error("Error loading config: {0}")]
    Apply(String),
    /// The store cannot be opened.
    #[error("opening storage failed: {0}")]
    Storage(#[from] OpenError),
    /// The server cannot listen.
    #[error("Unable to start web listener: {0}")]
    Listen(#[from] ServerError),
}

/// A collector that runs.
pub struct Collector {
    server: Arc<api::Server>,
    http: HttpServer,
    /// Reads the log.
    storage: JoinHandle<Result<(), OpenError>>,
    context: RuleSetup,
    reloads: mpsc::Receiver<ReloadRequest>,
    config_file: PathBuf,
    watch: FileWatch,
    allowed_hosts: Option<Vec<String>>,
}

/// How configurations are read, and what rule contexts are made of at each reload.
struct RuleSetup {
    load: LoadOptions,
    alerts: AlertOptions,
    external_url: String,
}

/// Queries that can be noted as running at least, those of rules among them.
const MIN_ACTIVE_QUERIES: usize = 64;

impl Collector {
    /// Reads the configuration, opens the store, listens, and begins to scrape. Ends with `shutdown`, after [`Collector::run`].
    ///
    /// The log is read meanwhile: queries see what is in blocks, scrapes wait with what they have fetched, and rules with their
    /// evaluation.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: CollectorOptions, shutdown: CancellationToken) -> Result<Self, StartError> {
        let config = load(&options.config_file, options.load)?;
        let http = HttpServer::bind(options.server.clone())?;
        let (db_options, retention_text) = db_options(&options, &config);
        let path = options.storage_path.clone();
        let opening = tokio::task::spawn_blocking(move || Opening::begin(path, db_options))
            .await
            .map_err(|e| StartError::Apply(e.to_string()))??;
        let store = Store::opening(opening.view());
        let external_url = match options.api.external_url.as_str() {
            "" => default_url(&http),
            given => given.to_owned(),
        };
        let engine = EngineOptions {
            default_subquery_step: config.global.evaluation_interval.millis(),
            ..options.engine.clone()
        };
        let features = engine.features;
        let folder = options.storage_path.join(tsdb::FOLDER);
        let (active, unfinished) = ActiveQueries::open(&folder, options.query_concurrency.max(MIN_ACTIVE_QUERIES));
        if !unfinished.is_empty() {
            let queries = serde_json::to_string(&unfinished).unwrap_or_default();
            tracing::info!(%queries, "These queries didn't finish in prometheus' last run:");
        }
        let queue = Queue::new(options.query_concurrency, options.query_queue);
        let querier = Querier::new(store.clone(), engine, queue, active);
        let (reload, reloads) = mpsc::channel(1);
        let rule_options = rules::file::RuleOptions { features, ..Default::default() };
        let seed = xxhash_rust::xxh3::xxh3_64(external_url.as_bytes());
        let discovery: Arc<DiscoveryMetrics> = Arc::default();
        let server = Arc::new(api::Server {
            options: ApiOptions {
                external_url: external_url.clone(),
                storage_path: options.storage_path.clone(),
                retention_text,
                lookback: options.engine.lookback,
                ..options.api.clone()
            },
            scrapes: ScrapeManager::new(
                store.clone(),
                ScrapeOptions {
                    seed,
                    timestamp_tolerance: options.timestamp_tolerance,
                    discovery_pause: options.discovery_reload_interval.map(StdDuration::from),
                    start_times: options.start_times,
                    type_and_unit_labels: options.type_and_unit_labels,
                },
                Arc::clone(&discovery),
                shutdown.clone(),
            ),
            rules: RuleManager::new(rule_options, shutdown.clone()),
            rule_durations: Arc::default(),
            notifier: Arc::new(Notifier::new(options.notifier, Arc::clone(&discovery), shutdown.clone())),
            discovery,
            notifications: Arc::new(Notifications::new(options.api.max_notifications_subscribers)),
            config: RwLock::new(config.clone()),
            reload_state: Mutex::new(ReloadState::default()),
            reload,
            shutdown,
            started: now_millis(),
            metrics: ApiMetrics::default(),
            written: api::KnownSeries::default(),
            write_slots: api::WriteSlots::default(),
            store,
            querier,
        });
        server.notifications.add(STARTING_UP);
        let storage = tokio::spawn(read_log(opening, Arc::clone(&server)));
        let collector = Self {
            server,
            http,
            storage,
            context: RuleSetup { load: options.load, alerts: options.alerts, external_url },
            reloads,
            watch: FileWatch::new(options.config_file.clone(), options.auto_reload_interval.map(StdDuration::from)),
            config_file: options.config_file,
            allowed_hosts: options.allowed_hosts,
        };
        collector.context.apply(&collector.server, config).map_err(StartError::Apply)?;
        Ok(collector)
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.http.addresses()
    }

    /// What the API shows and does.
    pub fn server(&self) -> &Arc<api::Server> {
        &self.server
    }

    /// Reads the configuration anew at each message, until the sender or the collector is gone. Faults are logged.
    pub fn reload_at(&self, mut signals: mpsc::Receiver<()>) {
        let reload = self.server.reload.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let (answer, outcome) = oneshot::channel();
                if reload.send(answer).await.is_err() {
                    return;
                }
                let _ = outcome.await;
            }
        });
    }

    /// Answers requests until the token is cancelled, then stops scraping and makes everything durable.
    ///
    /// # Errors
    /// When the log of the store could not be read.
    pub async fn run(self) -> Result<(), StartError> {
        let Self { server, http, storage, context, mut reloads, config_file, mut watch, allowed_hosts } = self;
        let mut router = api::router(&server);
        if let Some(hosts) = allowed_hosts {
            router = web::guard(router, hosts);
        }
        let shutdown = server.shutdown.clone();
        let reloading = reload_when_asked(&server, &context, &config_file, &mut reloads, &mut watch);
        let telling = async {
            shutdown.cancelled().await;
            server.notifications.add(SHUTTING_DOWN);
            std::future::pending::<()>().await;
        };
        let serving = http.serve(router, shutdown.clone());
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => {}
            // the server itself holds a sender, so this never ends
            () = reloading => {}
            () = telling => {}
        }
        server.scrapes.stopped().await;
        server.rules.stopped().await;
        server.notifier.stopped().await;
        if let Some(progress) = server.store.replay() {
            progress.stop();
        }
        match storage.await {
            Ok(Ok(()) | Err(OpenError::Stopped)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(fault) => return Err(StartError::Apply(format!("reading the write-ahead log: {fault}"))),
        }
        if let Ok(db) = server.store.db().cloned() {
            let closed = tokio::task::spawn_blocking(move || db.close()).await;
            if let Ok(Err(error)) = closed {
                tracing::error!(%error, "closing the storage failed");
            }
        }
        tracing::info!("See you next time!");
        Ok(())
    }
}

/// Reads the log of the store, which is ready then. Without it the server ends.
async fn read_log(opening: Opening, server: Arc<api::Server>) -> Result<(), OpenError> {
    // ends the server if the log cannot be read, or this panics
    let failed = server.shutdown.clone().drop_guard();
    let db = match tokio::task::spawn_blocking(move || opening.replay()).await {
        Ok(opened) => opened?,
        Err(fault) => std::panic::resume_unwind(fault.into_panic()),
    };
    server.notifications.remove(STARTING_UP);
    server.store.opened(Arc::new(db));
    failed.disarm();
    tracing::info!("Server is ready to receive web requests.");
    Ok(())
}

fn load(path: &Path, options: LoadOptions) -> Result<Config, StartError> {
    let config = Config::load(path, options)?;
    if config.unsupported.is_empty() {
        return Ok(config);
    }
    Err(StartError::Unsupported { file: path.to_owned(), what: config.unsupported })
}

/// Reads the configuration anew when somebody asks for it or its files have changed, until nobody can ask any more.
async fn reload_when_asked(
    server: &Arc<api::Server>,
    context: &RuleSetup,
    config_file: &Path,
    reloads: &mut mpsc::Receiver<ReloadRequest>,
    watch: &mut FileWatch,
) {
    loop {
        let asked = tokio::select! {
            request = reloads.recv() => match request {
                Some(answer) => Some(answer),
                None => return,
            },
            () = watch.changed() => {
                tracing::info!("Configuration file change detected, reloading the configuration.");
                None
            }
        };
        // files that change from here on are read once more
        let checksum = watch.now();
        let outcome = reload(server, context, config_file);
        if outcome.is_ok() {
            watch.accept(checksum);
        }
        if let Some(answer) = asked {
            let _ = answer.send(outcome);
        }
    }
}

/// Reads the configuration anew. If anything is wrong with it, the old one stays in force.
fn reload(server: &Arc<api::Server>, context: &RuleSetup, path: &Path) -> Result<(), String> {
    tracing::info!(filename = %path.display(), "Loading configuration file");
    let outcome = load(path, context.load).map_err(|e| e.to_string()).and_then(|config| context.apply(server, config));
    if let Err(error) = &outcome {
        server.reload_state.lock().success = false;
        server.notifications.add(RELOAD_FAILED);
        tracing::error!(err = %error, "Error reloading config");
    }
    outcome
}

impl RuleSetup {
    /// Puts a configuration in force: everything, or nothing.
    fn apply(&self, server: &Arc<api::Server>, config: Config) -> Result<(), String> {
        let groups = server.rules.load(&config).map_err(|faults| faults.join("\n"))?;
        let before_scrapes = |config: &Config| {
            server.querier.log().apply(&config.global.query_log_file)?;
            server.notifier.apply(&config.alerting, &config.global.external_labels)
        };
        if let Err(fault) = before_scrapes(&config).and_then(|()| server.scrapes.apply(&config.scrape_configs)) {
            // what is in force already goes back to what could be put in force before
            let old = server.config.read().clone();
            before_scrapes(&old)?;
            return Err(fault);
        }
        let context = Arc::new(RuleContext {
            store: server.store.clone(),
            querier: server.querier.clone(),
            notifier: Arc::clone(&server.notifier),
            external_labels: config.global.external_labels.clone(),
            external_url: self.external_url.clone(),
            options: self.alerts,
            durations: Arc::clone(&server.rule_durations),
        });
        server.rules.apply(groups, &config, &context);
        let waits = config::start_only::changed(&server.config.read(), &config);
        if !waits.is_empty() {
            tracing::warn!(settings = %waits.join(", "), "These settings have changed and take effect at the next start");
        }
        *server.config.write() = config;
        *server.reload_state.lock() = ReloadState { success: true, last_success: now_millis() };
        server.notifications.remove(RELOAD_FAILED);
        tracing::info!("Completed loading of configuration file");
        Ok(())
    }
}

/// The store's settings, and the retention for people. The configuration file wins over the flags, as upstream has it.
fn db_options(options: &CollectorOptions, config: &Config) -> (tsdb::Options, String) {
    let size = config.storage.retention_size.or(options.retention_size);
    let time = config.storage.retention_time.or(options.retention_time);
    let share = config.storage.retention_percentage;
    let time = if time.is_none() && size.is_none() && share == 0.0 {
        Some(DEFAULT_RETENTION)
    } else {
        time.filter(|t| !t.is_zero())
    };
    let month = Duration::from_secs(31 * 86_400);
    let tenth = time.map_or(month, |t| Duration::from_millis(t.millis() / 10).min(month));
    let longest = options.max_block_duration.unwrap_or(tenth).max(options.min_block_duration);
    let mut db = tsdb::Options {
        min_block_duration: options.min_block_duration.millis(),
        max_block_duration: longest.millis(),
        retention_duration: time.map(Duration::millis),
        retention_size: size.map(|s| s.0),
        retention_percentage: share,
        wal_fsync_interval: StdDuration::from(options.wal_fsync_interval),
        files: options.files.clone(),
        out_of_order_window: config.storage.out_of_order_time_window.millis(),
        // as often as upstream looks at its blocks; oftener for the short blocks of tests
        maintenance_interval: StdDuration::from(options.maintenance_interval)
            .max(StdDuration::from_secs(1))
            .min(StdDuration::from(options.min_block_duration) / 4)
            .max(StdDuration::from_millis(100)),
        ..tsdb::Options::default()
    };
    if let Some(size) = options.wal_segment_size {
        db.wal_segment_bytes = size.0;
    }
    if let Some(exemplars) = config.storage.max_exemplars {
        db.max_exemplars = usize::try_from(exemplars).unwrap_or(usize::MAX);
    }
    let share = (share > 0.0).then(|| format!("{share}%"));
    let text = [time.map(|t| t.to_string()), size.map(|s| format!("{}B", s.0)), share].into_iter().flatten();
    (db, text.collect::<Vec<_>>().join(" or "))
}

/// Where users reach the server, if nobody says: the machine's name and the port.
fn default_url(http: &HttpServer) -> String {
    let port = http.addresses().first().map_or(9090, SocketAddr::port);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        name => name,
    };
    format!("{}://{host}:{port}", if http.is_tls() { "https" } else { "http" })
}
