//! Where targets come from: one file a mechanism, all of them writing target groups to a [`Slot`].

mod file;
mod http;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{DiscoveryConfig, TargetGroup};

/// The target groups of a job as they are known now.
pub(crate) type Groups = Arc<Vec<TargetGroup>>;

/// Runs the mechanisms of a job until `shutdown`. Each one's groups replace its earlier ones; the receiver sees all of them.
///
/// The receiver is closed when the tasks have ended.
pub(crate) fn start(configs: &[DiscoveryConfig], shutdown: &CancellationToken) -> watch::Receiver<Groups> {
    let (sender, receiver) = watch::channel(Groups::default());
    let shared = Arc::new(Mutex::new(vec![Vec::new(); configs.len()]));
    let mut tasks = JoinSet::new();
    for (place, config) in configs.iter().enumerate() {
        let slot = Slot { place, shared: Arc::clone(&shared), sender: sender.clone() };
        match config.clone() {
            DiscoveryConfig::Static(groups) => slot.set(groups),
            DiscoveryConfig::File(config) => {
                tasks.spawn(file::run(config, slot));
            }
            DiscoveryConfig::Http(config) => {
                tasks.spawn(http::run(*config, slot));
            }
            // the configuration has been refused or the user told before
            DiscoveryConfig::Unsupported(name) => {
                tracing::error!(mechanism = %name, "discovery mechanism is not supported");
            }
        }
    }
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        // keeps the channel open for jobs whose targets never change
        let _sender = sender;
        shutdown.cancelled().await;
        tasks.shutdown().await;
    });
    receiver
}

/// One mechanism's place among those of its job.
#[derive(Clone)]
struct Slot {
    place: usize,
    shared: Arc<Mutex<Vec<Vec<TargetGroup>>>>,
    sender: watch::Sender<Groups>,
}

impl Slot {
    /// Replaces the mechanism's groups.
    fn set(&self, groups: Vec<TargetGroup>) {
        let mut shared = self.shared.lock();
        if shared[self.place] == groups && !groups.is_empty() {
            return;
        }
        shared[self.place] = groups;
        let all: Groups = Arc::new(shared.iter().flatten().cloned().collect());
        self.sender.send_replace(all);
    }
}
