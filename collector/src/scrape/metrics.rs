use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::fetch::FetchError;
use super::ingest::IngestError;
use crate::durations::Durations;
use crate::storage::Refusals;

/// A counter of the collector's own page.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What scraping counts about itself.
#[derive(Debug, Default)]
pub struct ScrapeMetrics {
    /// Scrapes that were stored.
    pub scrapes: Counter,
    /// Scrapes that failed.
    pub failures: Counter,
    /// `prometheus_target_scrapes_exceeded_body_size_limit_total`.
    pub exceeded_body_size: Counter,
    /// `prometheus_target_scrapes_exceeded_sample_limit_total`.
    pub exceeded_samples: Counter,
    /// `prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total`.
    pub exceeded_buckets: Counter,
    /// `prometheus_target_scrape_pool_exceeded_label_limits_total`.
    pub exceeded_labels: Counter,
    /// `prometheus_target_scrape_pool_exceeded_target_limit_total`.
    pub exceeded_targets: Counter,
    /// `prometheus_target_scrapes_sample_out_of_order_total`.
    pub out_of_order: Counter,
    /// `prometheus_target_scrapes_sample_duplicate_timestamp_total`.
    pub duplicates: Counter,
    /// `prometheus_target_scrapes_sample_out_of_bounds_total`.
    pub out_of_bounds: Counter,
    /// `prometheus_target_sync_failed_total`.
    pub sync_failed: Counter,
    /// `prometheus_target_scrape_pools_total`: jobs that were begun, or should have been.
    pub pools: Counter,
    /// `prometheus_target_scrape_pools_failed_total`: jobs that could not be begun.
    pub pools_failed: Counter,
    /// `prometheus_target_scrape_pool_reloads_total`: jobs that a reload changed, or should have.
    pub reloads: Counter,
    /// `prometheus_target_scrape_pool_reloads_failed_total`: jobs where that failed.
    pub reloads_failed: Counter,
    /// Times between scrapes, by the interval that there should be.
    intervals: Mutex<BTreeMap<String, Arc<Durations>>>,
    /// `prometheus_target_scrape_duration_seconds`.
    pub(crate) durations: Durations,
    /// `prometheus_target_scrapes_exemplar_out_of_order_total`.
    pub exemplars_out_of_order: Counter,
    /// Scrapes that panicked.
    pub panics: Counter,
    /// Nanoseconds spent in scrapes.
    pub nanos: Counter,
}

impl ScrapeMetrics {
    /// Where the times between scrapes of targets with this interval are noted.
    pub(super) fn interval(&self, interval: model::Duration) -> Arc<Durations> {
        Arc::clone(self.intervals.lock().entry(interval.to_string()).or_default())
    }

    /// The counters of jobs that are begun, or of those that were there and are changed: all, and those where it failed.
    pub(super) fn of_change(&self, known: bool) -> (&Counter, &Counter) {
        if known { (&self.reloads, &self.reloads_failed) } else { (&self.pools, &self.pools_failed) }
    }

    /// Calls `visit` with each interval and the times between scrapes that there were.
    pub(crate) fn for_each_interval(&self, mut visit: impl FnMut(&str, &Durations)) {
        for (interval, durations) in &*self.intervals.lock() {
            visit(interval, durations);
        }
    }

    pub(super) fn note(&self, result: &Result<(), IngestError>, refusals: &Refusals, took: Duration) {
        self.nanos.add(took.as_nanos() as u64);
        self.durations.observe(took);
        match result {
            Ok(()) => self.scrapes.inc(),
            Err(error) => {
                self.failures.inc();
                match error {
                    IngestError::Fetch(FetchError::TooLarge) => self.exceeded_body_size.inc(),
                    IngestError::SampleLimit => self.exceeded_samples.inc(),
                    IngestError::BucketLimit => self.exceeded_buckets.inc(),
                    IngestError::Labels(text) if text.contains("limit exceeded") => self.exceeded_labels.inc(),
                    _ => {}
                }
            }
        }
        self.out_of_order.add(refusals.out_of_order as u64);
        self.duplicates.add(refusals.duplicate as u64);
        self.out_of_bounds.add(refusals.out_of_bounds as u64);
        self.exemplars_out_of_order.add(refusals.exemplars_out_of_order as u64);
    }
}
