//! PromQL over the store, for the API and for rules.

pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod queue;
mod short;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{FloatHistogram, Labels, METRIC_NAME, Matcher, Timestamp};
use parking_lot::Mutex;
use promql::ast::Expr;
use promql::result::SampleValue;
use promql::storage::{KeptLabels, SelectRequest, Storage, Wanted};
use promql::{CancelToken, Engine, EngineOptions, QueryError, QueryOptions, QueryResult, Search, Urgency, Value};

use crate::active_queries::ActiveQueries;
use crate::query_log::{EndedQuery, Origin, QueryLog, QueryTimings};
use crate::storage::Store;
use metrics::EngineMetrics;
use queue::{Queue, Slot};
use short::{Key, ShortQueries};

/// Answers PromQL. Cheap to clone; clones share the limits.
#[derive(Clone, Debug)]
pub struct Querier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    store: Store,
    queue: Queue,
    /// Searches beside queries have a queue of their own: who chooses a label's value is not to wait for dashboards.
    searches: Queue,
    /// Held by the query that waits for memory, or has waited and runs.
    patient: Mutex<()>,
    log: QueryLog,
    active: ActiveQueries,
    short: ShortQueries,
    metrics: EngineMetrics,
}

/// How often a query that waits for memory looks for it.
const LOOK_FOR_MEMORY: Duration = Duration::from_millis(10);

/// Why a query does not get its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTurn {
    /// Too many wait.
    #[error(transparent)]
    Full(#[from] queue::QueueFull),
    /// Its time was over before its turn came.
    #[error("query timed out in query queue")]
    Timeout,
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

/// A search beside queries as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedSearch {
    /// Under what it is remembered whether it was short, if it may be made on a thread that serves connections.
    key: Option<Key>,
    /// How long it has waited for its turn.
    waited: Duration,
}

impl AskedSearch {
    /// One that looks at any time, in milliseconds, for what `text` says; without a text it is never taken for short.
    pub(crate) fn new(text: Option<&str>, (from, to): (Timestamp, Timestamp), waited: Duration) -> Self {
        // no query has a step of nothing
        Self { key: text.map(|text| Key::of(text, QueryTime::Range((from, to, 0)))), waited }
    }
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
    /// Answers over `store` with these settings; queries of the API wait for their turn in `queue`. Those that run are noted in
    /// `active`.
    pub(crate) fn new(store: Store, options: EngineOptions, queue: Queue, active: ActiveQueries) -> Self {
        let inner = Inner {
            engine: Engine::new(options),
            store,
            searches: queue.another(),
            queue,
            patient: Mutex::default(),
            log: QueryLog::default(),
            active,
            short: ShortQueries::default(),
            metrics: EngineMetrics::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// What queries count.
    pub(crate) fn metrics(&self) -> &EngineMetrics {
        &self.inner.metrics
    }

    /// The queries that run and wait.
    fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// Waits for leave to run a query of the API, not longer than it may take in all. Gives how long that was. Dropping the future
    /// gives up the turn.
    ///
    /// # Errors
    /// See [`NoTurn`]; it is counted.
    pub(crate) async fn turn(&self, origin: &Origin, timeout: Option<Duration>) -> Result<(Slot, Duration), NoTurn> {
        self.turn_in(&self.inner.queue, origin, timeout).await
    }

    /// The same for a search beside queries.
    ///
    /// # Errors
    /// See [`NoTurn`]; it is counted.
    pub(crate) async fn turn_to_search(&self, origin: &Origin) -> Result<(Slot, Duration), NoTurn> {
        self.turn_in(&self.inner.searches, origin, None).await
    }

    async fn turn_in(
        &self,
        queue: &Queue,
        origin: &Origin,
        timeout: Option<Duration>,
    ) -> Result<(Slot, Duration), NoTurn> {
        let client = match origin {
            Origin::Http { client, .. } => *client,
            Origin::Rule { .. } | Origin::Internal => None,
        };
        let begun = Instant::now();
        let turn = queue.enter(client.into());
        let limit = self.inner.engine.options().timeout.into_iter().chain(timeout).min();
        let slot = match limit {
            Some(limit) => {
                tokio::time::timeout(limit, turn).await.map_err(|_| NoTurn::Timeout).and_then(|slot| Ok(slot?))
            }
            None => turn.await.map_err(NoTurn::Full),
        };
        let slot = slot.inspect_err(|error| {
            self.inner.metrics.refused(match error {
                NoTurn::Full(_) => metrics::QUEUE,
                NoTurn::Timeout => "timeout",
            });
        })?;
        Ok((slot, begun.elapsed()))
    }

    /// The log of queries.
    pub fn log(&self) -> &QueryLog {
        &self.inner.log
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
        let _running = self.inner.active.note(asked.text);
        let started = Instant::now();
        let mut result = self.evaluate(asked, options);
        if let Err(QueryError::MemoryTaken { .. }) = result {
            result = self.when_there_is_memory(options, |options| self.evaluate(asked, options));
        }
        let took = started.elapsed();
        if matches!(asked.origin, Origin::Http { .. }) {
            self.inner.short.note(Key::of(asked.text, asked.at), result.is_ok().then_some(took));
        }
        self.ended(asked, took, result)
    }

    /// The same for a query that is known to be short, if it still is: within a millisecond or so, so that a thread that serves
    /// connections can do it.
    pub(crate) fn query_if_short(
        &self,
        asked: &AskedQuery<'_>,
        options: &QueryOptions,
    ) -> Option<Result<(QueryResult, QueryTimings), QueryError>> {
        let key = Key::of(asked.text, asked.at);
        let _turn = self.inner.short.enter(key)?;
        let started = Instant::now();
        let result = self.evaluate(asked, &QueryOptions { only_if_short: Some(short::LIMIT), ..options.clone() });
        if let Err(QueryError::Timeout | QueryError::MemoryTaken { .. }) = result {
            self.inner.short.note(key, None);
            return None;
        }
        Some(self.ended(asked, started.elapsed(), result))
    }

    /// Looks for something under the limits of a query. Blocks.
    ///
    /// # Errors
    /// See [`QueryError`]; it is counted.
    pub(crate) fn search<T>(
        &self,
        asked: &AskedSearch,
        cancel: CancelToken,
        look: impl FnOnce(Search) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let engine = &self.inner.engine;
        // waiting counts
        let timeout = engine.options().timeout.map(|timeout| timeout.saturating_sub(asked.waited));
        let started = Instant::now();
        let found = look(engine.search(cancel, timeout));
        if let Some(key) = asked.key {
            self.inner.short.note(key, found.is_ok().then(|| started.elapsed()));
        }
        found.inspect_err(|error| self.metrics().failed(error))
    }

    /// The same for a search that is known to be short, if it still is, as [`Querier::query_if_short`] has it.
    pub(crate) fn search_if_short<T>(
        &self,
        asked: &AskedSearch,
        cancel: CancelToken,
        look: impl FnOnce(Search) -> Result<T, QueryError>,
    ) -> Option<Result<T, QueryError>> {
        let key = asked.key?;
        let _turn = self.inner.short.enter(key)?;
        let found = look(self.inner.engine.search(cancel, Some(short::LIMIT)));
        if let Err(QueryError::Timeout | QueryError::MemoryTaken { .. }) = found {
            self.inner.short.note(key, None);
            return None;
        }
        Some(found.inspect_err(|error| self.metrics().failed(error)))
    }

    fn evaluate(&self, asked: &AskedQuery<'_>, options: &QueryOptions) -> Result<QueryResult, QueryError> {
        let Inner { engine, store, .. } = &*self.inner;
        let AskedQuery { expr, text, at, .. } = *asked;
        match at {
            QueryTime::Instant(time) => engine.instant_expr(store, expr, text, time, options),
            QueryTime::Range(range) => engine.range_expr(store, expr, text, range, options),
        }
    }

    /// Counts and logs a query that has been evaluated.
    fn ended(
        &self,
        asked: &AskedQuery<'_>,
        evaluated: Duration,
        result: Result<QueryResult, QueryError>,
    ) -> Result<(QueryResult, QueryTimings), QueryError> {
        let AskedQuery { text, at, origin, waited, .. } = *asked;
        let timings = QueryTimings { waited, evaluated };
        let metrics = &self.inner.metrics;
        metrics.ended(timings);
        match &result {
            Ok(result) => {
                metrics.loaded.add(result.stats.total_queryable_samples);
                metrics.read.add(result.stats.samples_read);
            }
            Err(error) => metrics.failed(error),
        }
        if *origin != Origin::Internal {
            let range = match at {
                QueryTime::Instant(time) => (time, time, 0),
                QueryTime::Range(range) => range,
            };
            let outcome = result.as_ref().map(|result| &result.stats).map_err(ToString::to_string);
            self.inner.log.note(&EndedQuery { text, range, origin, timings, outcome });
        }
        Ok((result?, timings))
    }

    /// Evaluates again what found too little memory, when others have let go of theirs: one such query at a time, so that they do
    /// not take it from each other. It has let go of its own, so nobody waits for it meanwhile. Blocks.
    fn when_there_is_memory(
        &self,
        options: &QueryOptions,
        evaluate: impl FnOnce(&QueryOptions) -> Result<QueryResult, QueryError>,
    ) -> Result<QueryResult, QueryError> {
        let begun = Instant::now();
        let EngineOptions { memory, timeout, .. } = self.inner.engine.options();
        let timeout = timeout.iter().copied().chain(options.timeout).min();
        let go_on = || match timeout {
            _ if options.cancel.is_canceled() => Err(QueryError::Canceled),
            Some(timeout) if begun.elapsed() >= timeout => Err(QueryError::Timeout),
            _ => Ok(()),
        };
        let _alone = loop {
            go_on()?;
            if let Some(alone) = self.inner.patient.try_lock_for(LOOK_FOR_MEMORY) {
                break alone;
            }
        };
        while memory.held() > memory.limit() / 4 {
            go_on()?;
            std::thread::sleep(LOOK_FOR_MEMORY);
        }
        let timeout = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        evaluate(&QueryOptions { timeout, ..options.clone() })
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
        // rules go on while users ask too much
        let options = QueryOptions { urgency: Urgency::Urgent, ..QueryOptions::default() };
        let value = self.query(&asked, &options)?.0.value;
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
        let request = SelectRequest::new(&matchers, (from, to), Wanted::Samples);
        let selection = self.inner.store.select(&request).map_err(|e| e.to_string())?;
        let samples = selection.read(0..selection.len(), from, to).map_err(|e| e.to_string())?;
        let mut last = HashMap::new();
        for (labels, samples) in selection.labels(0..selection.len(), KeptLabels::All).iter().zip(samples) {
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
pub(crate) struct CancelOnDrop(pub(crate) CancelToken, AtomicBool);

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

#[cfg(test)]
mod tests {
    use tsdb::{Db, Options};

    use super::*;

    #[test]
    fn only_what_is_short_is_evaluated_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path(), Options { background: false, ..Options::default() }).unwrap();
        let mut appender = db.appender();
        for n in 0..2000 {
            let labels = Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())]);
            let series = appender.series(&labels).unwrap();
            appender.append(series, 1000, 1.0).unwrap();
        }
        appender.commit().unwrap();
        let (active, _) = ActiveQueries::open(folder.path(), 4);
        let engine = EngineOptions { threads: 2, ..EngineOptions::default() };
        let querier = Querier::new(Store::new(Arc::new(db)), engine, Queue::new(4, 4), active);
        let origin = Origin::Http { client: None, method: String::new(), path: String::new() };
        let options = QueryOptions::default();
        let asked = |text: &str, at: QueryTime, known: bool| {
            let expr = querier.engine().parse(text).unwrap();
            let asked = AskedQuery { expr: &expr, text, at, origin: &origin, waited: Duration::ZERO };
            if known {
                querier.inner.short.note(Key::of(text, at), Some(Duration::ZERO));
            }
            let at_once = querier.query_if_short(&asked, &options).map(|found| found.unwrap().0.value);
            (at_once, querier.query(&asked, &options).unwrap().0.value)
        };
        let (at, range) = (QueryTime::Instant(2000), QueryTime::Range((1000, 1_000_000, 1000)));
        assert_eq!(asked("m{n=\"7\"}", at, false).0, None, "not known");
        // unless something holds it up
        let (at_once, later) = (0..100).map(|_| asked("m{n=\"7\"}", at, true)).find(|found| found.0.is_some()).unwrap();
        assert_eq!(at_once, Some(later));
        assert_eq!(asked("sum(m)", range, true).0, None, "worth several threads");
        assert!(querier.inner.short.enter(Key::of("sum(m)", range)).is_none(), "forgotten");

        let look = |mut search: Search| search.look(|_| Ok(7));
        let ask = |search: &AskedSearch| querier.search_if_short(search, CancelToken::default(), look);
        let named = AskedSearch::new(Some("labels"), (0, 60_000), Duration::ZERO);
        let unnamed = AskedSearch::new(None, (0, 60_000), Duration::ZERO);
        for search in [&named, &unnamed] {
            assert!(ask(search).is_none(), "not known");
            // short, unless something holds it up
            let known = |_| querier.search(search, CancelToken::default(), look).is_ok() && ask(search).is_some();
            assert_eq!((0..100).any(known), search.key.is_some());
        }
        let later = AskedSearch::new(Some("labels"), (60_000, 120_000), Duration::ZERO);
        assert!(ask(&later).is_some(), "as much as before");
        assert!(ask(&AskedSearch::new(Some("labels"), (0, 120_000), Duration::ZERO)).is_none(), "a longer time");
        let long = |mut search: Search| {
            std::thread::sleep(2 * short::LIMIT);
            search.hold(0)
        };
        assert!(querier.search_if_short(&named, CancelToken::default(), long).is_none(), "not short any more");
        assert!(ask(&named).is_none(), "forgotten");
        assert!(querier.search(&named, CancelToken::default(), long).is_ok());
    }
}
