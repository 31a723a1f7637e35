//! PromQL over the store, for the API and for rules.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{FloatHistogram, Labels, METRIC_NAME, Matcher, Timestamp};
use promql::ast::Expr;
use promql::result::SampleValue;
use promql::storage::{SelectRequest, Storage, Wanted};
use promql::{Engine, EngineOptions, QueryError, QueryOptions, QueryResult, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::active_queries::ActiveQueries;
use crate::query_log::{EndedQuery, Origin, QueryLog, QueryTimings};
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
    log: QueryLog,
    active: ActiveQueries,
    /// Samples that queries have loaded, and read.
    loaded: AtomicU64,
    read: AtomicU64,
}

/// A query as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedQuery<'a> {
    /// The expression.
    pub(crate) expr: &'a Expr,
    /// Its text, as the user has written it.
    pub(crate) text: &'a str,
    /// When it is to be evaluated.
    pub(crate) at: QueryTime,
    /// Who asks.
    pub(crate) origin: &'a Origin,
    /// How long it has waited for its turn.
    pub(crate) waited: Duration,
}

/// When a query is to be evaluated, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryTime {
    /// At one time.
    Instant(Timestamp),
    /// From, to and step.
    Range((Timestamp, Timestamp, i64)),
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
    /// Answers over `store` with these settings; at most `concurrency` queries of the API at once. Those that run are noted in
    /// `active`.
    pub(crate) fn new(store: Store, options: EngineOptions, concurrency: usize, active: ActiveQueries) -> Self {
        let concurrency = concurrency.max(1);
        let inner = Inner {
            engine: Engine::new(options),
            store,
            slots: Semaphore::new(concurrency),
            concurrency,
            log: QueryLog::default(),
            active,
            loaded: AtomicU64::new(0),
            read: AtomicU64::new(0),
        };
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

    /// The log of queries.
    pub fn log(&self) -> &QueryLog {
        &self.inner.log
    }

    /// Samples that queries have loaded, and those they have read.
    pub fn samples(&self) -> (u64, u64) {
        (self.inner.loaded.load(Ordering::Relaxed), self.inner.read.load(Ordering::Relaxed))
    }

    /// Evaluates; tells how long that took. Blocks.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub(crate) fn query(
        &self,
        asked: &AskedQuery<'_>,
        options: &QueryOptions,
    ) -> Result<(QueryResult, QueryTimings), QueryError> {
        let Inner { engine, store, .. } = &*self.inner;
        let AskedQuery { expr, text, at, origin, waited } = *asked;
        let _running = self.inner.active.note(text);
        let started = Instant::now();
        let (result, range) = match at {
            QueryTime::Instant(time) => (engine.instant_expr(store, expr, text, time, options), (time, time, 0)),
            QueryTime::Range(range) => (engine.range_expr(store, expr, text, range, options), range),
        };
        let timings = QueryTimings { waited, evaluated: started.elapsed() };
        if let Ok(result) = &result {
            self.inner.loaded.fetch_add(result.stats.total_queryable_samples, Ordering::Relaxed);
            self.inner.read.fetch_add(result.stats.samples_read, Ordering::Relaxed);
        }
        if *origin != Origin::Internal {
            let outcome = result.as_ref().map(|result| &result.stats).map_err(ToString::to_string);
            self.inner.log.note(&EndedQuery { text, range, origin, timings, outcome });
        }
        Ok((result?, timings))
    }

    /// A rule's expression at one time. Blocks.
    ///
    /// # Errors
    /// See [`QueryError`]; also when the result is neither vector nor scalar.
    pub(crate) fn instant(
        &self,
        expr: &Expr,
        time: Timestamp,
        origin: &Origin,
    ) -> Result<Vec<QuerySample>, QueryError> {
        let text = expr.to_string();
        let asked = AskedQuery { expr, text: &text, at: QueryTime::Instant(time), origin, waited: Duration::ZERO };
        let value = self.query(&asked, &QueryOptions::default())?.0.value;
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
        let samples = self.instant(&expr, time, &Origin::Internal).map_err(|e| e.to_string())?;
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
