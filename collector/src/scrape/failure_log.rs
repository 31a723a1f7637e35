//! The log of scrapes that got no page (`scrape_failure_log_file`): a line of JSON for each, as Prometheus writes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::now_millis;
use serde_json::json;

use super::fetch::FetchError;
use super::target::Target;
use crate::config::ScrapeConfig;
use crate::json_log::{JsonLog, Opened, with_millis};

/// Where the failures of a job are logged to, if anywhere.
pub(super) type FailureLog = Option<Arc<JsonLog>>;

/// The files of all jobs. Jobs that name the same file share it.
#[derive(Debug, Default)]
pub(super) struct FailureLogs {
    by_path: BTreeMap<String, Arc<JsonLog>>,
}

/// The files of a new configuration, opened and not written to yet.
#[derive(Debug)]
pub(super) struct OpenedLogs(BTreeMap<String, Opened>);

impl OpenedLogs {
    /// Opens the files that jobs name, those that are open already too: a reload lets go of files that were moved away.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(super) fn open(configs: &[ScrapeConfig]) -> Result<Self, String> {
        let mut opened = BTreeMap::new();
        for path in configs.iter().map(|c| &c.scrape_failure_log_file).filter(|path| !path.is_empty()) {
            if !opened.contains_key(path) {
                let file = Opened::open(Path::new(path)).map_err(|e| format!("scrape_failure_log_file: {e}"))?;
                opened.insert(path.clone(), file);
            }
        }
        Ok(Self(opened))
    }
}

impl FailureLogs {
    /// Writes to these files from now on. Jobs keep the logs they have.
    pub(super) fn replace(&mut self, files: OpenedLogs) {
        self.by_path.retain(|path, _| files.0.contains_key(path));
        for (path, file) in files.0 {
            self.by_path.entry(path).or_default().set(Some(file));
        }
    }

    /// The log of a job.
    pub(super) fn of(&self, config: &ScrapeConfig) -> FailureLog {
        self.by_path.get(&config.scrape_failure_log_file).cloned()
    }
}

/// Notes that a target's page could not be had.
pub(super) fn note(log: &FailureLog, config: &ScrapeConfig, target: &Target, error: &FetchError) {
    let Some(log) = log else { return };
    log.write(|| {
        json!({
            "time": with_millis(now_millis()),
            "level": "ERROR",
            "source": concat!("failure_log.rs:", line!()),
            "msg": error.to_string(),
            "job_name": config.job_name,
            "target": target.url,
        })
    });
}
