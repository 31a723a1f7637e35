use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use common::metrics::Page;
use common::selfmetrics::{ProcessCollector, collect_build_info};
use model::MetricType;
use parking_lot::Mutex;

use crate::collector::{Collector, CollectorError};
use crate::flags::{Config, PROGRAM};

/// Gathers pages from a set of collectors. Shared by all requests.
pub struct Exporter {
    collectors: Vec<Named>,
    self_metrics: bool,
    panics: AtomicU64,
    /// Pages of former scrapes, whose buffers are used again.
    pages: Mutex<Vec<Page>>,
}

/// Which collectors a request asks for: `?collect[]=` or `?exclude[]=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these.
    pub collect: Vec<String>,
    /// All but these.
    pub exclude: Vec<String>,
}

/// A selection that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Both parameters at once.
    #[error("Combined collect and exclude queries are not allowed.")]
    Both,
    /// A collector that does not run.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: disabled collector: {0}")]
    Disabled(String),
    /// A collector that does not exist.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: missing collector: {0}")]
    Missing(String),
}

/// A collector with its name.
type Named = (&'static str, Arc<dyn Collector>);

/// Pages kept for later.
const SPARE_PAGES: usize = 2;

impl Exporter {
    /// An exporter with a configuration's collectors.
    pub fn new(config: &Config) -> Self {
        Self {
            collectors: config.collectors.clone(),
            self_metrics: !config.disable_exporter_metrics,
            panics: AtomicU64::new(0),
            pages: Mutex::default(),
        }
    }

    /// The names of the collectors that run.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.collectors.iter().map(|(name, _)| *name)
    }

    /// Collectors that panicked so far.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Checks a selection and gives the collectors it means.
    fn selected(&self, selection: &Selection) -> Result<Vec<&Named>, SelectionError> {
        if !selection.collect.is_empty() && !selection.exclude.is_empty() {
            return Err(SelectionError::Both);
        }
        for name in &selection.collect {
            if !self.names().any(|n| n == name) {
                let known = crate::collectors::ALL.iter().any(|c| c.name == name);
                let error = if known { SelectionError::Disabled } else { SelectionError::Missing };
                return Err(error(name.clone()));
            }
        }
        let wanted = |name: &str| {
            let listed = |list: &[String]| list.iter().any(|n| n == name);
            if selection.collect.is_empty() { !listed(&selection.exclude) } else { listed(&selection.collect) }
        };
        Ok(self.collectors.iter().filter(|(name, _)| wanted(name)).collect())
    }

    /// Gathers a page and gives it to `use_page`. Takes as long as the slowest collector; to be called where blocking is allowed.
    pub fn gather<T>(&self, selection: &Selection, use_page: impl FnOnce(&mut Page) -> T) -> Result<T, SelectionError> {
        let collectors = self.selected(selection)?;
        let mut page = self.pages.lock().pop().unwrap_or_default();
        page.clear();
        let help = "node_exporter: Duration of a collector scrape.";
        let durations = page.family("node_scrape_collector_duration_seconds", help, MetricType::Gauge);
        let help = "node_exporter: Whether a collector succeeded.";
        let successes = page.family("node_scrape_collector_success", help, MetricType::Gauge);
        for (name, collector) in collectors {
            let begin = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| collector.collect(&mut page))).unwrap_or_else(|_| {
                self.panics.fetch_add(1, Ordering::Relaxed);
                Err(CollectorError::failed("the collector panicked"))
            });
            let seconds = begin.elapsed().as_secs_f64();
            match &result {
                Ok(()) => tracing::debug!(name, duration_seconds = seconds, "collector succeeded"),
                Err(CollectorError::NoData) => {
                    tracing::debug!(
                        name,
                        duration_seconds = seconds,
                        err = "collector returned no data",
                        "collector returned no data"
                    );
                }
                Err(error) => tracing::error!(name, duration_seconds = seconds, err = %error, "collector failed"),
            }
            let labels = [("collector", *name)];
            page.sample(durations, &labels, seconds);
            page.sample(successes, &labels, f64::from(u8::from(result.is_ok())));
        }
        collect_build_info(&mut page, &PROGRAM);
        if self.self_metrics && selection.collect.is_empty() && selection.exclude.is_empty() {
            ProcessCollector::default().collect(&mut page);
        }
        let answer = use_page(&mut page);
        let mut pages = self.pages.lock();
        if pages.len() < SPARE_PAGES {
            pages.push(page);
        }
        Ok(answer)
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
