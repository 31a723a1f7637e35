//! What the query engine counts about itself, with upstream's names where it has them.

use std::time::Duration;

use common::metrics::Page;
use model::MetricType;
use promql::QueryError;

use super::Querier;
use crate::durations::Durations;
use crate::query_log::QueryTimings;
use crate::scrape::Counter;

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
    durations: [Durations; PARTS.len()],
    refusals: [Counter; REASONS.len()],
}

/// Why queries are ended, for the label `reason`.
const REASONS: [&str; 7] = ["canceled", "memory", "memory_total", "queue", "samples", "series", "timeout"];

/// Why the queue turns a query away.
pub(crate) const QUEUE: &str = "queue";

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
            durations.observe(duration);
        }
    }

    /// A query or a search has failed, maybe by a limit.
    pub(crate) fn failed(&self, error: &QueryError) {
        reason(error).into_iter().for_each(|reason| self.refused(reason));
    }

    /// A query was ended by a limit.
    pub(crate) fn refused(&self, reason: &str) {
        if let Some((_, counter)) = REASONS.iter().zip(&self.refusals).find(|(name, _)| **name == reason) {
            counter.inc();
        }
    }
}

/// The limit that ended a query, if one did.
fn reason(error: &QueryError) -> Option<&'static str> {
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
            page.summary(family, &[("slice", part)], durations.summary(&[0.5, 0.9, 0.99]));
        }
        let help = "Query timings, as a histogram.";
        let family = page.family("prometheus_engine_query_duration_histogram_seconds", help, MetricType::Histogram);
        for (part, durations) in PARTS.iter().zip(&metrics.durations) {
            page.histogram(family, &[("slice", part)], durations.histogram());
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
