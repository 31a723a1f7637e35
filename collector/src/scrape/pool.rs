//! The jobs: each one's targets follow its discovery.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::http::client::Client;
use model::Labels;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failure_log::{FailureLog, FailureLogs, OpenedLogs};
use super::metrics::ScrapeMetrics;
use super::start_times::StartTimes;
use super::target::{Settled, Target, settle};
use super::target_loop::{Ends, TargetLoop};
use super::workers::Workers;
use crate::config::ScrapeConfig;
use crate::discovery::{self, Consumer, DiscoveryMetrics, Groups};
use crate::durations::Durations;
use crate::storage::Store;

/// What scraping is told about the server that it is a part of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScrapeOptions {
    /// A number of this server, which spreads the scrapes of several servers.
    pub(crate) seed: u64,
    /// How far from its time a scrape may start for its samples to carry that time; `None` for never.
    pub(crate) timestamp_tolerance: Option<model::Duration>,
    /// Shortest time between two changes of a job's targets; `None` for that of discovery.
    pub(crate) discovery_pause: Option<Duration>,
    /// What is done with the times from which samples count.
    pub(crate) start_times: StartTimes,
    /// Series have the labels `__type__` and `__unit__`.
    pub(crate) type_and_unit_labels: bool,
}

/// All jobs of the server.
pub struct ScrapeManager {
    store: Store,
    metrics: Arc<ScrapeMetrics>,
    discovery: Arc<DiscoveryMetrics>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    workers: Arc<Workers>,
    options: ScrapeOptions,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    by_name: BTreeMap<String, Job>,
    failure_logs: FailureLogs,
}

struct Job {
    config: Arc<ScrapeConfig>,
    view: Arc<PoolView>,
    /// Ends the job and, in their own time, its targets.
    gone: CancellationToken,
}

/// The targets of a job, as the API shows them.
#[derive(Debug, Default)]
pub struct PoolView {
    targets: RwLock<PoolTargets>,
    /// How long it took to make the targets those of discovery.
    pub(crate) syncs: Durations,
}

#[derive(Debug, Default)]
struct PoolTargets {
    active: Vec<Arc<Target>>,
    dropped: Vec<Labels>,
    dropped_count: usize,
}

impl PoolView {
    /// Targets that are scraped, in the order of their labels.
    pub fn active(&self) -> Vec<Arc<Target>> {
        self.targets.read().active.clone()
    }

    /// Labels of targets that relabelling dropped, as far as they are kept, and how many there are.
    pub fn dropped(&self) -> (Vec<Labels>, usize) {
        let targets = self.targets.read();
        (targets.dropped.clone(), targets.dropped_count)
    }
}

impl ScrapeManager {
    /// A manager without jobs. Needs a Tokio runtime. Its tasks end with `shutdown`; [`ScrapeManager::stopped`] waits for them.
    pub(crate) fn new(
        store: Store,
        options: ScrapeOptions,
        discovery: Arc<DiscoveryMetrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let (metrics, tasks, workers) = (Arc::default(), TaskTracker::new(), Arc::new(Workers::start()));
        Self { store, metrics, discovery, shutdown, tasks, workers, options, jobs: Mutex::default() }
    }

    /// What scraping was told about the server.
    pub(crate) fn options(&self) -> ScrapeOptions {
        self.options
    }

    /// Counters of all jobs.
    pub fn metrics(&self) -> &Arc<ScrapeMetrics> {
        &self.metrics
    }

    /// The configuration and targets of each job, by name.
    pub fn pools(&self) -> Vec<(Arc<ScrapeConfig>, Arc<PoolView>)> {
        self.jobs.lock().by_name.values().map(|job| (Arc::clone(&job.config), Arc::clone(&job.view))).collect()
    }

    /// Makes the jobs those of a new configuration. Jobs that have not changed go on without a gap.
    ///
    /// # Errors
    /// When the HTTP client of a job cannot be set up or its log not be opened; then nothing changes.
    pub fn apply(&self, configs: &[ScrapeConfig]) -> Result<(), String> {
        let mut jobs = self.jobs.lock();
        let Jobs { by_name: jobs, failure_logs } = &mut *jobs;
        let mut clients = HashMap::new();
        for config in configs {
            if jobs.get(&config.job_name).is_none_or(|job| *job.config != *config) {
                let known = jobs.contains_key(&config.job_name);
                let (begun, failed) = self.metrics.of_change(known);
                begun.inc();
                let client = crate::client::build(&config.http_client).map_err(|e| {
                    failed.inc();
                    format!("job {}: {e}", model::quote(&config.job_name))
                })?;
                clients.insert(config.job_name.as_str(), client);
            }
        }
        failure_logs.replace(OpenedLogs::open(configs)?);
        jobs.retain(|name, job| {
            let stays = configs.iter().any(|c| c.job_name == *name) && !clients.contains_key(name.as_str());
            if !stays {
                job.gone.cancel();
            }
            stays
        });
        for config in configs {
            if let Some(client) = clients.remove(config.job_name.as_str()) {
                let job = self.start(Arc::new(config.clone()), client, failure_logs.of(config));
                jobs.insert(config.job_name.clone(), job);
            }
        }
        Ok(())
    }

    fn start(&self, config: Arc<ScrapeConfig>, client: Client, failure_log: FailureLog) -> Job {
        let gone = self.shutdown.child_token();
        let view = Arc::new(PoolView::default());
        let pool = Pool {
            config: Arc::clone(&config),
            client,
            failure_log,
            store: self.store.clone(),
            metrics: Arc::clone(&self.metrics),
            shutdown: self.shutdown.clone(),
            gone: gone.clone(),
            tasks: self.tasks.clone(),
            workers: Arc::clone(&self.workers),
            options: self.options,
            view: Arc::clone(&view),
            loops: HashMap::new(),
            refusal: watch::channel(None).0,
        };
        let consumer = Consumer::Scrape;
        let pause = self.options.discovery_pause;
        let groups = discovery::start(&config.discovery, consumer, &config.job_name, pause, &self.discovery, &gone);
        self.tasks.spawn(pool.run(groups));
        Job { config, view, gone }
    }

    /// Waits until all tasks have ended after `shutdown`.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// One job at work.
struct Pool {
    config: Arc<ScrapeConfig>,
    client: Client,
    failure_log: FailureLog,
    store: Store,
    metrics: Arc<ScrapeMetrics>,
    shutdown: CancellationToken,
    gone: CancellationToken,
    tasks: TaskTracker,
    workers: Arc<Workers>,
    options: ScrapeOptions,
    view: Arc<PoolView>,
    loops: HashMap<u64, (Arc<Target>, CancellationToken)>,
    /// Why no target of the job is scraped, if none is.
    refusal: watch::Sender<Option<Arc<str>>>,
}

impl Pool {
    async fn run(mut self, mut groups: watch::Receiver<Groups>) {
        loop {
            let now = groups.borrow_and_update().clone();
            self.sync(&now);
            tokio::select! {
                () = self.gone.cancelled() => break,
                changed = groups.changed() => if changed.is_err() { break },
            }
        }
        for (_, gone) in self.loops.values() {
            gone.cancel();
        }
    }

    /// Makes the loops those of the targets that discovery gives now.
    fn sync(&mut self, groups: &Groups) {
        let started = Instant::now();
        let mut kept: HashMap<u64, Box<Target>> = HashMap::new();
        let (mut dropped, mut dropped_count) = (Vec::new(), 0);
        for settled in groups.iter().flat_map(|group| settle(group, &self.config)) {
            match settled {
                Ok(Settled::Kept(target)) => {
                    kept.insert(target.hash(), target);
                }
                Ok(Settled::Dropped(labels)) => {
                    dropped_count += 1;
                    let limit = self.config.keep_dropped_targets;
                    if limit == 0 || (dropped.len() as u64) < limit {
                        dropped.push(labels);
                    }
                }
                Err(error) => {
                    self.metrics.sync_failed.inc();
                    tracing::error!(scrape_pool = %self.config.job_name, err = %error, "Creating target failed");
                }
            }
        }
        let limit = self.config.limits.targets;
        // too many targets: none is fetched, and all are down for that reason
        let refusal = (limit > 0 && kept.len() as u64 > limit).then(|| {
            self.metrics.exceeded_targets.inc();
            let error = format!("target_limit exceeded (number of targets: {}, limit: {limit})", kept.len());
            tracing::error!(scrape_pool = %self.config.job_name, err = %error, "Targets are not scraped");
            Arc::from(error)
        });
        self.refusal.send_if_modified(|known: &mut Option<Arc<str>>| {
            let changed = *known != refusal;
            *known = refusal;
            changed
        });
        self.loops.retain(|hash, (_, gone)| {
            let stays = kept.contains_key(hash);
            if !stays {
                gone.cancel();
            }
            stays
        });
        let mut active: Vec<Arc<Target>> = Vec::with_capacity(kept.len());
        for (hash, target) in kept {
            let (target, _) = self.loops.entry(hash).or_insert_with(|| {
                let target: Arc<Target> = Arc::from(target);
                // not a child of the job's token: each loop decides itself between ending and stopping
                let gone = CancellationToken::new();
                let work = TargetLoop {
                    target: Arc::clone(&target),
                    config: Arc::clone(&self.config),
                    client: self.client.clone(),
                    failure_log: self.failure_log.clone(),
                    refusal: self.refusal.subscribe(),
                    store: self.store.clone(),
                    metrics: Arc::clone(&self.metrics),
                    ends: Ends { shutdown: self.shutdown.clone(), gone: gone.clone() },
                    options: self.options,
                };
                self.tasks.spawn_on(work.run(), self.workers.of(hash));
                (target, gone)
            });
            active.push(Arc::clone(target));
        }
        active.sort_by(|a, b| a.labels.cmp(&b.labels).then_with(|| a.url.cmp(&b.url)));
        *self.view.targets.write() = PoolTargets { active, dropped, dropped_count };
        self.view.syncs.observe(started.elapsed());
    }
}
