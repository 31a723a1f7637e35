//! The results of the last probes; failed ones are kept longer.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::probe::Outcome;

/// Results that can be looked at.
#[derive(Debug)]
pub(crate) struct History {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    next_id: u64,
    recent: VecDeque<Entry>,
    /// Failed ones that have left `recent`.
    failed: VecDeque<Entry>,
}

/// A result with its number.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) outcome: Arc<Outcome>,
}

impl History {
    /// Keeps as many results, and as many failed ones beyond those.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    pub(crate) fn add(&self, outcome: Arc<Outcome>) {
        if self.limit == 0 {
            return;
        }
        let mut kept = self.kept.lock();
        let id = kept.next_id;
        kept.next_id += 1;
        kept.recent.push_back(Entry { id, outcome });
        while kept.recent.len() > self.limit {
            let Some(oldest) = kept.recent.pop_front() else { break };
            if oldest.outcome.failure.is_some() {
                kept.failed.push_back(oldest);
                if kept.failed.len() > self.limit {
                    kept.failed.pop_front();
                }
            }
        }
    }

    /// All results, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<Entry> {
        let kept = self.kept.lock();
        kept.failed.iter().chain(&kept.recent).rev().cloned().collect()
    }

    /// The result with a number.
    pub(crate) fn by_id(&self, id: u64) -> Option<Entry> {
        let kept = self.kept.lock();
        kept.failed.iter().chain(&kept.recent).find(|entry| entry.id == id).cloned()
    }

    /// The newest result of a target, with a module or with any.
    pub(crate) fn by_target(&self, target: &str, module: &str) -> Option<Entry> {
        let fits = |entry: &&Entry| {
            entry.outcome.target == target && (module.is_empty() || entry.outcome.module.name == module)
        };
        let kept = self.kept.lock();
        kept.failed.iter().chain(&kept.recent).rev().find(fits).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::failure::Failure;
    use crate::log::ProbeLog;
    use crate::metrics::Metrics;

    fn outcome(target: &str, failure: Option<Failure>) -> Arc<Outcome> {
        let config = Config::parse("modules: {m: {prober: tcp}}", "x").unwrap();
        Arc::new(Outcome {
            module: config.module("m").unwrap().clone(),
            target: target.to_owned(),
            ip_protocol: None,
            failure,
            metrics: Metrics::new(),
            log: ProbeLog::new(common::logging::Level::Info, "m", target),
        })
    }

    #[test]
    fn failed_probes_are_kept_longer() {
        let history = History::new(2);
        for (target, failure) in [
            ("a", Some(Failure::Connect)),
            ("b", None),
            ("c", Some(Failure::Tls)),
            ("d", None),
            ("e", None),
            ("f", None),
        ] {
            history.add(outcome(target, failure));
        }
        let targets: Vec<String> = history.newest_first().iter().map(|e| e.outcome.target.clone()).collect();
        assert_eq!(targets, ["f", "e", "c", "a"]);
        assert_eq!(history.by_id(0).unwrap().outcome.target, "a");
        assert!(history.by_id(1).is_none());
        assert_eq!(history.by_target("c", "").unwrap().id, 2);
        assert_eq!(history.by_target("c", "m").unwrap().id, 2);
        assert!(history.by_target("c", "other").is_none());
        for _ in 0..10 {
            history.add(outcome("x", Some(Failure::Connect)));
        }
        assert_eq!(history.newest_first().len(), 4);
    }

    #[test]
    fn no_history_keeps_nothing() {
        let history = History::new(0);
        history.add(outcome("a", None));
        assert!(history.newest_first().is_empty());
    }
}
