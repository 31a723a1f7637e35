//! ZooKeeper, as far as discovery needs it: the data of all nodes below some paths, and the news that something has changed there.

mod client;
#[cfg(test)]
pub(super) mod testing;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::Labels;
use serde_json::Value;
use tokio::task::JoinSet;

use self::client::Client;
use super::target::group;
use super::{DiscoveryMetrics, Slot};
use crate::config::{Settings, TargetGroup};

/// Changes that follow each other faster than this are read together.
const PAUSE: Duration = Duration::from_millis(500);
/// The waits between attempts to reach a server.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Nodes below a path; more are a fault.
const MAX_NODES: usize = 200_000;

/// Makes a target of the path and the data of a node; nodes that are none give nothing.
pub(super) type Parse = fn(&str, &Value) -> Option<Labels>;

/// Starts following the paths of a section.
pub(super) fn start(name: &'static str, parse: Parse, settings: &Settings, slot: Slot, tasks: &mut JoinSet<()>) {
    let follower = Follower {
        name,
        parse,
        servers: settings.texts("servers").to_vec(),
        paths: settings.texts("paths").to_vec(),
        timeout: settings.duration("timeout").as_std().max(Duration::from_secs(1)),
        slot,
    };
    tasks.spawn(follower.run());
}

struct Follower {
    name: &'static str,
    parse: Parse,
    servers: Vec<String>,
    paths: Vec<String>,
    timeout: Duration,
    slot: Slot,
}

/// Counts a watcher while it lives.
struct Watching(Arc<DiscoveryMetrics>);

impl Watching {
    fn begin(metrics: &Arc<DiscoveryMetrics>) -> Self {
        metrics.zookeeper_watchers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.zookeeper_watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Follower {
    /// Never ends. What was found stays in force while no server is reached.
    async fn run(self) {
        let metrics = Arc::clone(&self.slot.metrics);
        let _watching = Watching::begin(&metrics);
        let mut wait = FIRST_WAIT;
        for server in self.servers.iter().cycle() {
            let mut reached = false;
            let error = match self.follow(server, &mut reached).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            metrics.zookeeper_failures.inc();
            tracing::error!(discovery = self.name, server, err = %error, "ZooKeeper cannot be followed");
            wait = if reached { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn follow(&self, server: &str, reached: &mut bool) -> Result<std::convert::Infallible, String> {
        let mut client = Client::connect(server, self.timeout).await?;
        loop {
            let mut groups = Vec::new();
            for path in &self.paths {
                groups.extend(self.read(&mut client, path).await?);
            }
            *reached = true;
            self.slot.set(groups);
            client.changed().await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The targets at and below a path. Whatever changes there is told from now on.
    async fn read(&self, client: &mut Client, path: &str) -> Result<Vec<TargetGroup>, String> {
        let mut groups = Vec::new();
        let mut pending = vec![path.trim_end_matches('/').to_owned()];
        let mut seen = 0;
        while let Some(path) = pending.pop() {
            seen += 1;
            if seen > MAX_NODES {
                return Err(format!("there are more than {MAX_NODES} nodes below {path}"));
            }
            let shown = if path.is_empty() { "/" } else { &path };
            let Some(data) = client.data(shown).await? else {
                // it is waited for
                client.exists(shown).await?;
                continue;
            };
            // nodes without data that is JSON only hold others
            if let Some(target) = serde_json::from_slice(&data).ok().and_then(|value| (self.parse)(shown, &value)) {
                groups.push(group(shown, vec![target]));
            }
            let children = client.children(shown).await?.unwrap_or_default();
            pending.extend(children.into_iter().map(|child| format!("{path}/{child}")));
        }
        Ok(groups)
    }
}
