//! Where targets come from: one file a mechanism, all of them writing target groups to a [`Slot`].

mod api;
mod aws;
mod azure;
mod consul;
mod digitalocean;
mod dns;
mod docker;
mod dockerswarm;
mod ec2;
mod ecs;
mod elasticache;
mod eureka;
mod file;
mod gce;
mod hetzner;
mod http;
mod ionos;
mod json;
mod kubernetes;
mod kuma;
mod lightsail;
mod linode;
mod marathon;
mod metrics;
mod msk;
mod nerve;
mod nomad;
mod oci;
mod openstack;
mod outscale;
mod ovhcloud;
mod puppetdb;
mod rds;
mod refresh;
mod registry;
mod scaleway;
mod serverset;
mod stackit;
mod target;
#[cfg(test)]
mod testing;
mod token;
mod triton;
mod uyuni;
mod vultr;
mod xml;
mod zookeeper;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::metrics::JobMeter;
pub(crate) use self::metrics::{Consumer, DiscoveryMetrics};
use crate::config::{DiscoveryConfig, TargetGroup};

/// The target groups of a job as they are known now.
pub(crate) type Groups = Arc<Vec<TargetGroup>>;

/// Changes that follow each other faster than this are shown together: a change costs work in proportion to all targets of a job.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the mechanisms of a job until `shutdown`. Each one's groups replace its earlier ones; the receiver sees all of them.
///
/// `config` names the job in metrics and logs; changes are shown at most once in each `pause`, by default a second. What the file itself says is there at once; what is found later comes as changes. The
/// receiver is closed when the tasks have ended.
pub(crate) fn start(
    configs: &[DiscoveryConfig],
    consumer: Consumer,
    config: &str,
    pause: Option<Duration>,
    metrics: &Arc<DiscoveryMetrics>,
    shutdown: &CancellationToken,
) -> watch::Receiver<Groups> {
    let meter = metrics.job(consumer, config);
    let shared = Arc::new(Shared { places: Mutex::default(), changed: Notify::new() });
    shared.places.lock().resize_with(configs.len(), Place::default);
    let mut tasks = JoinSet::new();
    for (place, config) in configs.iter().enumerate() {
        let (shared, meter) = (Arc::clone(&shared), Arc::clone(&meter));
        let slot = Slot { place, shared, meter, metrics: Arc::clone(metrics) };
        match config.clone() {
            DiscoveryConfig::Static(groups) => slot.set(groups),
            DiscoveryConfig::File(config) => {
                tasks.spawn(file::run(config, slot));
            }
            DiscoveryConfig::Http(config) => start_one("http", slot, |slot| http::start(*config, slot, &mut tasks)),
            DiscoveryConfig::Mechanism { name, settings } => {
                start_one(name, slot, |slot| registry::start(name, &settings, slot, &mut tasks));
            }
        }
    }
    let (sender, receiver) = watch::channel(shared.groups());
    meter.found(&sender.borrow());
    let (shutdown, pause) = (shutdown.clone(), pause.unwrap_or(PAUSE));
    tokio::spawn(async move {
        // the sender keeps the channel open for jobs whose targets never change
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = publish(&shared, &sender, &meter, pause) => {}
            () = watch_over(&mut tasks, &meter) => {}
        }
        tasks.shutdown().await;
    });
    receiver
}

/// A mechanism that cannot be set up finds nothing, is counted and does no harm to the others of the job, as upstream has it.
fn start_one(name: &str, slot: Slot, start: impl FnOnce(Slot) -> Result<(), String>) {
    let meter = Arc::clone(&slot.meter);
    if let Err(error) = start(slot) {
        meter.failed_configs.inc();
        tracing::error!(discovery = name, config = meter.config(), err = %error, "Cannot create service discovery");
    }
}

/// Tells of mechanisms that have ended, which none should. Never ends; cancelling loses nothing.
async fn watch_over(tasks: &mut JoinSet<()>, meter: &JobMeter) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            meter.failed_configs.inc();
            tracing::error!(config = meter.config(), err = %error, "Service discovery has panicked; its targets stay");
        }
    }
    std::future::pending::<()>().await;
}

/// Shows changes to the receiver. Never ends; cancelling loses nothing.
async fn publish(shared: &Shared, sender: &watch::Sender<Groups>, meter: &JobMeter, pause: Duration) {
    let mut next = Instant::now();
    loop {
        shared.changed.notified().await;
        if Instant::now() < next {
            meter.delayed();
            tokio::time::sleep_until(next).await;
        }
        next = Instant::now() + pause;
        let groups = shared.groups();
        meter.found(&groups);
        sender.send_replace(groups);
    }
}

/// What the mechanisms of a job have found.
#[derive(Debug)]
struct Shared {
    places: Mutex<Vec<Place>>,
    changed: Notify,
}

/// What one mechanism has found.
#[derive(Debug, Default)]
struct Place {
    whole: Vec<TargetGroup>,
    /// Groups that come and go one by one, by source.
    single: BTreeMap<String, TargetGroup>,
}

impl Shared {
    fn groups(&self) -> Groups {
        let places = self.places.lock();
        Arc::new(places.iter().flat_map(|place| place.whole.iter().chain(place.single.values())).cloned().collect())
    }
}

/// One mechanism's place among those of its job.
#[derive(Clone, Debug)]
struct Slot {
    place: usize,
    shared: Arc<Shared>,
    meter: Arc<JobMeter>,
    metrics: Arc<DiscoveryMetrics>,
}

impl Slot {
    /// Replaces the mechanism's groups.
    fn set(&self, groups: Vec<TargetGroup>) {
        self.change(|place| {
            let same = place.whole == groups && !groups.is_empty();
            place.whole = groups;
            !same
        });
    }

    /// Adds a group, or replaces the one of the same source.
    fn put(&self, group: TargetGroup) {
        self.change(|place| {
            let same = place.single.get(&group.source) == Some(&group);
            if !same {
                place.single.insert(group.source.clone(), group);
            }
            !same
        });
    }

    /// Takes the group of a source away.
    fn remove(&self, source: &str) {
        self.change(|place| place.single.remove(source).is_some());
    }

    /// Keeps the groups of some sources only.
    fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.change(|place| {
            let before = place.single.len();
            place.single.retain(|source, _| keep(source));
            place.single.len() != before
        });
    }

    fn change(&self, change: impl FnOnce(&mut Place) -> bool) {
        self.meter.received();
        if change(&mut self.shared.places.lock()[self.place]) {
            self.shared.changed.notify_one();
        }
    }
}

/// Tasks of a mechanism that has several; they end with it.
struct Children(JoinSet<()>);

impl Children {
    fn new() -> Self {
        Self(JoinSet::new())
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        // those that have ended need no memory
        while self.0.try_join_next().is_some() {}
        self.0.spawn(task)
    }
}

#[cfg(test)]
mod tests;
