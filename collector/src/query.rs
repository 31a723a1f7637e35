//! PromQL over the store, for the API and for rules.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{FloatHistogram, Labels, METRIC_NAME, Matcher, Timestamp};
use promql::ast::Expr;
use promql::result::SampleValue;
use promql::storage::{SelectRequest, Storage, Wanted};
use promql::{Engine, EngineOptions, QueryError, QueryOptions, QueryResult, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::storage::Store;

/// Answers PromQL. Cheap to clone; clones share the limits.
#[derive(Clone, Debug)]
pub struct Querier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    store: Store,
    /// One permit for each query that runs (`--query.max-concurrency`).
    slots: Semaphore,
    concurrency: usize,
}

/// One sample of a rule's result.
#[derive(Clone, Debug, PartialEq)]
pub struct QuerySample {
    /// The series.
    pub labels: Labels,
    /// The value.
    pub value: QueryValue,
}

/// A float or a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl QueryValue {
    /// The float; 0 for a histogram, as alerts have it.
    pub fn as_float(&self) -> f64 {
        match self {
            Self::Float(value) => *value,
            Self::Histogram(_) => 0.0,
        }
    }
}

impl Querier {
    /// Answers over `store` with these settings; at most `concurrency` queries of the API at once.
    pub fn new(store: Store, options: EngineOptions, concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        let inner = Inner { engine: Engine::new(options), store, slots: Semaphore::new(concurrency), concurrency };
        Self { inner: Arc::new(inner) }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// How many queries of the API may run at once, and how many do.
    pub fn concurrency(&self) -> (usize, usize) {
        (self.inner.concurrency, self.inner.concurrency - self.inner.slots.available_permits())
    }

    /// Waits for leave to run a query. Dropping the future gives up the place in the queue.
    pub async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.slots.acquire().await.ok()
    }

    /// Evaluates at one time. Blocks.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn instant_query(
        &self,
        expr: &Expr,
        text: &str,
        time: Timestamp,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        self.inner.engine.instant_expr(&self.inner.store, expr, text, time, options)
    }

    /// Evaluates over a range. Blocks.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn range_query(
        &self,
        expr: &Expr,
        text: &str,
        range: (Timestamp, Timestamp, i64),
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        self.inner.engine.range_expr(&self.inner.store, expr, text, range, options)
    }

    /// A rule's expression at one time. Blocks.
    ///
    /// # Errors
    /// See [`QueryError`]; also when the result is neither vector nor scalar.
    pub(crate) fn instant(&self, expr: &Expr, time: Timestamp) -> Result<Vec<QuerySample>, QueryError> {
        let text = expr.to_string();
        let value = self.instant_query(expr, &text, time, &QueryOptions::default())?.value;
        match value {
            Value::Vector(samples) => Ok(samples
                .into_iter()
                .map(|sample| QuerySample {
                    labels: sample.labels,
                    value: match sample.value {
                        SampleValue::Float(value) => QueryValue::Float(value),
                        SampleValue::Histogram(histogram) => QueryValue::Histogram(histogram),
                    },
                })
                .collect()),
            Value::Scalar(_, value) => {
                Ok(vec![QuerySample { labels: Labels::empty(), value: QueryValue::Float(value) }])
            }
            Value::String(..) | Value::Matrix(_) => {
                Err(QueryError::Execution("rule result is not a vector or scalar".to_owned()))
            }
        }
    }

    /// A query of a template, at one time. Blocks.
    pub(crate) fn template_query(&self, text: &str, time: Timestamp) -> Result<Vec<(Labels, f64)>, String> {
        let expr = self.inner.engine.parse(text).map_err(|e| e.to_string())?;
        let samples = self.instant(&expr, time).map_err(|e| e.to_string())?;
        Ok(samples.into_iter().map(|s| (s.labels, s.value.as_float())).collect())
    }

    /// The last sample in a range of each series of `metric` with this `alertname`, by its labels without the metric name.
    pub(crate) fn last_samples(
        &self,
        metric: &str,
        alert: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<HashMap<Labels, (Timestamp, f64)>, String> {
        let matchers = [Matcher::equal(METRIC_NAME, metric), Matcher::equal("alertname", alert)];
        let request = SelectRequest { matchers: &matchers, mint: from, maxt: to, wanted: Wanted::Samples };
        let selection = self.inner.store.select(&request).map_err(|e| e.to_string())?;
        let samples = selection.read(0..selection.labels().len(), from, to).map_err(|e| e.to_string())?;
        let mut last = HashMap::new();
        for (labels, samples) in selection.labels().iter().zip(samples) {
            let found = samples.floats.timestamps.iter().zip(&samples.floats.values).rev();
            if let Some((time, value)) = found.into_iter().find(|(_, value)| !model::is_stale(**value)) {
                last.insert(labels.without_name(), (*time, *value));
            }
        }
        Ok(last)
    }
}

/// Cancels a query when dropped: the client has gone away.
#[derive(Debug, Default)]
pub(crate) struct CancelOnDrop(pub(crate) promql::CancelToken, AtomicBool);

impl CancelOnDrop {
    /// The query has ended by itself.
    pub(crate) fn done(&self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.1.load(Ordering::Relaxed) {
            self.0.cancel();
        }
    }
}
