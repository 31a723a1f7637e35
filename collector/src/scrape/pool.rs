//! The jobs: each one's targets follow its discovery.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::http::client::Client;
use model::Labels;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::ScrapeMetrics;
use super::target::{Settled, Target, settle};
use super::target_loop::{Ends, TargetLoop};
use crate::config::ScrapeConfig;
use crate::discovery::{self, Consumer, DiscoveryMetrics, Groups};
use crate::storage::Store;

/// All jobs of the server.
pub struct ScrapeManager {
    store: Store,
    metrics: Arc<ScrapeMetrics>,
    discovery: Arc<DiscoveryMetrics>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    seed: u64,
    jobs: Mutex<BTreeMap<String, Job>>,
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
    /// A manager without jobs. Its tasks end with `shutdown`; [`ScrapeManager::stopped`] waits for them.
    pub(crate) fn new(store: Store, seed: u64, discovery: Arc<DiscoveryMetrics>, shutdown: CancellationToken) -> Self {
        let (metrics, tasks) = (Arc::default(), TaskTracker::new());
        Self { store, metrics, discovery, shutdown, tasks, seed, jobs: Mutex::default() }
    }

    /// Counters of all jobs.
    pub fn metrics(&self) -> &Arc<ScrapeMetrics> {
        &self.metrics
    }

    /// The configuration and targets of each job, by name.
    pub fn pools(&self) -> Vec<(Arc<ScrapeConfig>, Arc<PoolView>)> {
        self.jobs.lock().values().map(|job| (Arc::clone(&job.config), Arc::clone(&job.view))).collect()
    }

    /// Makes the jobs those of a new configuration. Jobs that have not changed go on without a gap.
    ///
    /// # Errors
    /// When the HTTP client of a job cannot be set up; then nothing changes.
    pub fn apply(&self, configs: &[ScrapeConfig]) -> Result<(), String> {
        let mut jobs = self.jobs.lock();
        let mut clients = HashMap::new();
        for config in configs {
            if jobs.get(&config.job_name).is_none_or(|job| *job.config != *config) {
                let client = crate::client::build(&config.http_client)
                    .map_err(|e| format!("job {}: {e}", model::quote(&config.job_name)))?;
                clients.insert(config.job_name.as_str(), client);
            }
        }
        jobs.retain(|name, job| {
            let stays = configs.iter().any(|c| c.job_name == *name) && !clients.contains_key(name.as_str());
            if !stays {
                job.gone.cancel();
            }
            stays
        });
        for config in configs {
            if let Some(client) = clients.remove(config.job_name.as_str()) {
                let job = self.start(Arc::new(config.clone()), client);
                jobs.insert(config.job_name.clone(), job);
            }
        }
        Ok(())
    }

    fn start(&self, config: Arc<ScrapeConfig>, client: Client) -> Job {
        let gone = self.shutdown.child_token();
        let view = Arc::new(PoolView::default());
        let pool = Pool {
            config: Arc::clone(&config),
            client,
            store: self.store.clone(),
            metrics: Arc::clone(&self.metrics),
            shutdown: self.shutdown.clone(),
            gone: gone.clone(),
            tasks: self.tasks.clone(),
            seed: self.seed,
            view: Arc::clone(&view),
            loops: HashMap::new(),
        };
        let groups = discovery::start(&config.discovery, Consumer::Scrape, &config.job_name, &self.discovery, &gone);
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
    store: Store,
    metrics: Arc<ScrapeMetrics>,
    shutdown: CancellationToken,
    gone: CancellationToken,
    tasks: TaskTracker,
    seed: u64,
    view: Arc<PoolView>,
    loops: HashMap<u64, (Arc<Target>, CancellationToken)>,
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
        let over_limit = limit > 0 && kept.len() as u64 > limit;
        if over_limit {
            self.metrics.exceeded_targets.inc();
            let error = format!("target_limit exceeded (number of targets: {}, limit: {limit})", kept.len());
            tracing::error!(scrape_pool = %self.config.job_name, err = %error, "Targets are not scraped");
            for target in kept.values() {
                let mut status = target.status.lock();
                status.up = Some(false);
                status.last_error.clone_from(&error);
            }
        }
        self.loops.retain(|hash, (_, gone)| {
            let stays = kept.contains_key(hash) && !over_limit;
            if !stays {
                gone.cancel();
            }
            stays
        });
        let mut active: Vec<Arc<Target>> = Vec::with_capacity(kept.len());
        for (hash, target) in kept {
            if over_limit {
                active.push(Arc::from(target));
                continue;
            }
            let (target, _) = self.loops.entry(hash).or_insert_with(|| {
                let target: Arc<Target> = Arc::from(target);
                // not a child of the job's token: each loop decides itself between ending and stopping
                let gone = CancellationToken::new();
                let work = TargetLoop {
                    target: Arc::clone(&target),
                    config: Arc::clone(&self.config),
                    client: self.client.clone(),
                    store: self.store.clone(),
                    metrics: Arc::clone(&self.metrics),
                    ends: Ends { shutdown: self.shutdown.clone(), gone: gone.clone() },
                    seed: self.seed,
                };
                self.tasks.spawn(work.run());
                (target, gone)
            });
            active.push(Arc::clone(target));
        }
        active.sort_by(|a, b| a.labels.cmp(&b.labels).then_with(|| a.url.cmp(&b.url)));
        *self.view.targets.write() = PoolTargets { active, dropped, dropped_count };
    }
}
