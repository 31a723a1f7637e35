//! What the query engine counts about itself, with upstream's names where it has them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use common::metrics::{Page, Quantile, SummaryValue};
use model::MetricType;
use parking_lot::Mutex;
use promql::QueryError;

use super::Querier;
use crate::query_log::QueryTimings;
use crate::scrape::Counter;

/// Quantiles of durations are about so many queries, and no older ones than that, as upstream's are.
const RECENT: usize = 500;
const RECENT_TIME: Duration = Duration::from_secs(600);

/// The parts of answering a query that upstream measures.
const PARTS: [&str; 4] = ["inner_eval", "prepare_time", "queue_time", "result_sort"];

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct EngineMetrics {
    /// Queries of the API that have begun.
    pub(crate) begun: Counter,
    /// Time of evaluation, in nanoseconds.
    pub(crate) evaluated: Counter,
    /// Samples that queries have loaded, and read.
    pub(crate) loaded: Counter,
    pub(crate) read: Counter,
    durations: [Mutex<Durations>; PARTS.len()],
    refusals: [Counter; REASONS.len()],
}

/// Why queries are ended, for the label `reason`.
const REASONS: [&str; 7] = ["canceled", "memory", "memory_total", "queue", "samples", "series", "timeout"];

/// Why the queue turns a query away.
pub(crate) const QUEUE: &str = "queue";

#[derive(Debug, Default)]
struct Durations {
    count: u64,
    sum: f64,
    recent: VecDeque<(Instant, f64)>,
}

impl Durations {
    fn note(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((Instant::now(), seconds));
    }

    fn summary(&self) -> SummaryValue {
        let recent = self.recent.iter().filter(|(at, _)| at.elapsed() < RECENT_TIME);
        let mut seconds: Vec<f64> = recent.map(|(_, seconds)| *seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let quantile = |quantile: f64| {
            let at = (quantile * seconds.len() as f64).ceil() as usize;
            Quantile { quantile, value: seconds.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN) }
        };
        let quantiles = [0.5, 0.9, 0.99].map(quantile).to_vec();
        SummaryValue { quantiles, count: self.count, sum: self.sum, created: None }
    }
}

impl EngineMetrics {
    /// A query has been evaluated, or has failed.
    pub(crate) fn ended(&self, timings: QueryTimings) {
        for (part, durations) in PARTS.iter().zip(&self.durations) {
            let duration = match *part {
                "inner_eval" => timings.evaluated,
                "queue_time" => timings.waited,
                // not apart from the evaluation here
                _ => Duration::ZERO,
            };
            durations.lock().note(duration.as_secs_f64());
        }
    }

    /// A query was ended by a limit.
    pub(crate) fn refused(&self, reason: &str) {
        if let Some((_, counter)) = REASONS.iter().zip(&self.refusals).find(|(name, _)| **name == reason) {
            counter.inc();
        }
    }
}

/// The limit that ended a query, if one did.
pub(crate) fn reason(error: &QueryError) -> Option<&'static str> {
    Some(match error {
        QueryError::Canceled => "canceled",
        QueryError::TooMuchMemory { .. } => "memory",
        QueryError::MemoryTaken { .. } => "memory_total",
        QueryError::TooManySamples => "samples",
        QueryError::TooManySeries { .. } => "series",
        QueryError::Timeout => "timeout",
        QueryError::Parse(_) | QueryError::BadData(_) | QueryError::Execution(_) | QueryError::Storage(_) => {
            return None;
        }
    })
}

impl Querier {
    /// Appends what is counted to a page.
    pub(crate) fn collect(&self, page: &mut Page) {
        let metrics = self.metrics();
        let (running, waiting) = self.queue().length();
        let help = "The current number of queries being executed or waiting.";
        page.gauge("prometheus_engine_queries", help, &[], (running + waiting) as f64);
        let help = "The max number of concurrent queries.";
        page.gauge("prometheus_engine_queries_concurrent_max", help, &[], self.queue().places() as f64);
        let family = page.family("prometheus_engine_query_duration_seconds", "Query timings.", MetricType::Summary);
        for (part, durations) in PARTS.iter().zip(&metrics.durations) {
            page.summary(family, &[("slice", part)], durations.lock().summary());
        }
        let help = "The total number of samples loaded by all queries.";
        page.counter("prometheus_engine_query_samples_total", help, &[], metrics.loaded.get() as f64);
        let help = "The total number of samples read by all queries.";
        page.counter("prometheus_engine_query_samples_read_total", help, &[], metrics.read.get() as f64);
        let help = "State of the query log.";
        let enabled = f64::from(u8::from(self.log().is_enabled()));
        page.gauge("prometheus_engine_query_log_enabled", help, &[], enabled);
        let help = "The number of query log failures.";
        page.counter("prometheus_engine_query_log_failures_total", help, &[], self.log().failures() as f64);
        let help = "Number of queries of the HTTP API that wait for their turn.";
        page.gauge("firewatch_queries_waiting", help, &[], waiting as f64);
        let help = "Number of queries that the HTTP API has started.";
        page.counter("firewatch_queries_total", help, &[], metrics.begun.get() as f64);
        let help = "Time spent evaluating the queries of the HTTP API.";
        page.counter("firewatch_query_seconds_total", help, &[], metrics.evaluated.get() as f64 / 1e9);
        let help = "Number of queries that a limit has ended.";
        let family = page.family("firewatch_queries_refused_total", help, MetricType::Counter);
        for (reason, counter) in REASONS.iter().zip(&metrics.refusals) {
            page.sample(family, &[("reason", reason)], counter.get() as f64);
        }
        let memory = &self.engine().options().memory;
        let help = "Memory that queries hold, results that are being sent included.";
        page.gauge("firewatch_query_memory_bytes", help, &[], memory.held() as f64);
        let help = "Memory that queries may hold together.";
        page.gauge("firewatch_query_memory_limit_bytes", help, &[], memory.limit() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_summed_up() {
        let mut durations = Durations::default();
        assert!(durations.summary().quantiles.iter().all(|q| q.value.is_nan()));
        (1..=100).for_each(|n| durations.note(f64::from(n)));
        let summary = durations.summary();
        assert_eq!((summary.count, summary.sum), (100, 5050.0));
        let values: Vec<f64> = summary.quantiles.iter().map(|q| q.value).collect();
        assert_eq!(values, [50.0, 90.0, 99.0]);
        (0..RECENT).for_each(|_| durations.note(7.0));
        assert_eq!((durations.summary().quantiles[0].value, durations.recent.len()), (7.0, RECENT));
    }

    /// A reason without a counter would be lost.
    #[test]
    fn every_reason_is_counted() {
        let metrics = EngineMetrics::default();
        let limit = promql::ByteSize(1);
        let errors = [
            QueryError::Canceled,
            QueryError::TooMuchMemory { limit },
            QueryError::MemoryTaken { limit },
            QueryError::TooManySamples,
            QueryError::TooManySeries { found: 2, limit: 1 },
            QueryError::Timeout,
        ];
        errors.iter().filter_map(reason).for_each(|reason| metrics.refused(reason));
        metrics.refused(QUEUE);
        assert!(metrics.refusals.iter().all(|counter| counter.get() == 1), "{:?}", metrics.refusals);
        assert_eq!(reason(&QueryError::Execution(String::new())), None);
    }
}
