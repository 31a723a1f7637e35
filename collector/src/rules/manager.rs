//! The groups of all rule files, each evaluated in its own task.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Labels, now_millis};
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::RuleContext;
use super::file::{self, GroupSpec, RuleOptions};
use super::group::RuleGroup;
use crate::config::{Config, expand_pattern};
use crate::grid::{due_after, first_due};

/// All rule groups of the server.
pub struct RuleManager {
    shutdown: CancellationToken,
    tasks: TaskTracker,
    options: RuleOptions,
    running: Mutex<BTreeMap<(PathBuf, String), Running>>,
    /// The labels that templates of running groups know.
    external_labels: Mutex<Labels>,
    groups: RwLock<Vec<Arc<RuleGroup>>>,
}

struct Running {
    group: Arc<RuleGroup>,
    /// Ends the task; `true` when the group is gone, `false` when its successor goes on.
    end: tokio::sync::watch::Sender<Option<bool>>,
}

impl RuleManager {
    /// A manager without groups. Its tasks end with `shutdown`; [`RuleManager::stopped`] waits for them.
    pub fn new(options: RuleOptions, shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            tasks: TaskTracker::new(),
            options,
            running: Mutex::default(),
            external_labels: Mutex::default(),
            groups: RwLock::default(),
        }
    }

    /// Reads the rule files of a configuration.
    ///
    /// # Errors
    /// All faults of all files.
    pub fn load(&self, config: &Config) -> Result<Vec<(PathBuf, GroupSpec)>, Vec<String>> {
        let (mut groups, mut faults) = (Vec::new(), Vec::new());
        for path in config.rule_files.iter().flat_map(|pattern| expand_pattern(pattern)) {
            match file::load(&path, &self.options) {
                Ok(found) => groups.extend(found.into_iter().map(|group| (path.clone(), group))),
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() { Ok(groups) } else { Err(faults) }
    }

    /// The groups, in the order of their files and names.
    pub fn groups(&self) -> Vec<Arc<RuleGroup>> {
        self.groups.read().clone()
    }

    /// Makes the groups those of a new configuration. Groups that have not changed go on; alerts keep their state.
    pub fn apply(&self, specs: Vec<(PathBuf, GroupSpec)>, config: &Config, context: &Arc<RuleContext>) {
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        let known = std::mem::replace(&mut *self.external_labels.lock(), config.global.external_labels.clone());
        let same_labels = known == config.global.external_labels;
        for (file, spec) in specs {
            let key = (file.clone(), spec.name.clone());
            let old = before.remove(&key);
            let group = RuleGroup::new(file, spec, config.global.evaluation_interval, config.global.rule_query_offset);
            if let Some(old) = old {
                if same_labels && group.is_same(&old.group) {
                    running.insert(key, old);
                    continue;
                }
                let _ = old.end.send(Some(false));
                group.take_over(&old.group);
            }
            running.insert(key, self.start(Arc::new(group), Arc::clone(context)));
        }
        for gone in before.into_values() {
            let _ = gone.end.send(Some(true));
        }
        *self.groups.write() = running.values().map(|r| Arc::clone(&r.group)).collect();
    }

    fn start(&self, group: Arc<RuleGroup>, context: Arc<RuleContext>) -> Running {
        let (end, ended) = tokio::sync::watch::channel(None);
        self.tasks.spawn(run(Arc::clone(&group), context, ended, self.shutdown.clone()));
        Running { group, end }
    }

    /// Waits until all tasks have ended after `shutdown`.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Evaluates a group on its grid until it ends. An evaluation that has begun is finished.
async fn run(
    group: Arc<RuleGroup>,
    context: Arc<RuleContext>,
    mut ended: tokio::sync::watch::Receiver<Option<bool>>,
    shutdown: CancellationToken,
) {
    // rules would take what the log has not told yet for absent
    tokio::select! {
        biased;
        () = shutdown.cancelled() => return,
        _ = ended.wait_for(Option::is_some) => return,
        _ = context.store.ready() => {}
    }
    let interval = group.interval.millis().max(1);
    let mut restored = false;
    let mut due = first_due(now_millis(), interval, group.hash());
    loop {
        let wait = Duration::from_millis((due - now_millis()).clamp(0, interval).unsigned_abs());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ended.wait_for(Option::is_some) => break,
            () = tokio::time::sleep(wait) => {}
        }
        let planned = due;
        due = due_after(due, now_millis(), interval);
        group.metrics.missed.add(((due - planned) / interval).max(0).unsigned_abs());
        let (work, with) = (Arc::clone(&group), Arc::clone(&context));
        let time = due;
        let first = !restored;
        let evaluation = tokio::task::spawn_blocking(move || {
            work.evaluate(&with, time);
            if first {
                work.restore(&with, time);
            }
        });
        if let Err(fault) = evaluation.await {
            tracing::error!(group = %group.spec.name, %fault, "a rule evaluation panicked");
            group.metrics.failures.inc();
        }
        restored = true;
        due += interval;
    }
    let gone = *ended.borrow();
    if gone == Some(true) {
        // as for targets: the group may come back
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(group.interval.as_std() * 2) => {}
        }
        let _ = tokio::task::spawn_blocking(move || group.end(&context, due)).await;
    }
}
