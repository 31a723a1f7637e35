use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::Timestamp;

use crate::ast::Expr;
use crate::eval::{Evaluator, Query, Steps};
use crate::memory::{MemoryPool, Urgency};
use crate::result::QueryResult;
use crate::search::{Patience, Search};
use crate::storage::Storage;
use crate::{Features, QueryError, ValueType, parse};

/// Settings of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How far back an instant selector looks for a sample, in milliseconds (`--query.lookback-delta`).
    pub lookback: i64,
    /// Samples a query may hold at once (`--query.max-samples`).
    pub max_samples: usize,
    /// Series that the selectors of a query may match together.
    pub max_series: usize,
    /// Bytes that a query may hold at once, its result included.
    pub max_memory: usize,
    /// Where the queries of this engine take their memory.
    pub memory: Arc<MemoryPool>,
    /// How long a query may run (`--query.timeout`).
    pub timeout: Option<Duration>,
    /// Optional parts of the language.
    pub features: Features,
    /// Step of subqueries that give none, in milliseconds (the global evaluation interval).
    pub default_subquery_step: i64,
    /// Threads that a query may work on at once. The answer does not depend on it.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback: 5 * 60_000,
            max_samples: 50_000_000,
            max_series: usize::MAX,
            max_memory: usize::MAX,
            memory: Arc::default(),
            timeout: Some(Duration::from_secs(120)),
            features: Features::default(),
            default_subquery_step: 60_000,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Ends a running query when canceled. Clones cancel together.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Ends the queries that use this token, soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was canceled.
    pub fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Settings of one query.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// Ends the query early.
    pub cancel: CancelToken,
    /// A time limit instead of the engine's; a longer one than the engine's has no effect.
    pub timeout: Option<Duration>,
    /// Looks back this far instead, in milliseconds.
    pub lookback: Option<i64>,
    /// Count samples per step (needs the feature `promql-per-step-stats`).
    pub per_step_stats: bool,
    /// Whether the result has the plan, see [`QueryResult::plan`].
    pub explain: bool,
    /// Whether it may take the last of the memory of all queries.
    pub urgency: Urgency,
    /// Evaluates it only if it is short: [`QueryError::Timeout`] when it takes longer than this, or is worth several threads.
    pub only_if_short: Option<Duration>,
}

/// Evaluates PromQL over a storage.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    options: EngineOptions,
}

impl Engine {
    /// An engine with these settings.
    pub fn new(options: EngineOptions) -> Self {
        Self { options }
    }

    /// The settings.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// A search beside queries under the limits of one, and for as long as `timeout`, until it is canceled.
    pub fn search(&self, cancel: CancelToken, timeout: Option<Duration>) -> Search {
        Search::new(&self.options, cancel, timeout)
    }

    /// Parses an expression with the engine's features.
    ///
    /// # Errors
    /// When the text is no valid expression.
    pub fn parse(&self, query: &str) -> Result<Expr, crate::ParseError> {
        parse(query, &self.options.features)
    }

    /// Evaluates a query at one time.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn instant(
        &self,
        storage: &dyn Storage,
        query: &str,
        timestamp: Timestamp,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let expr = self.parse(query)?;
        self.instant_expr(storage, &expr, query, timestamp, options)
    }

    /// Evaluates a parsed query at one time; `query` is its text, for the positions in annotations.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn instant_expr(
        &self,
        storage: &dyn Storage,
        expr: &Expr,
        query: &str,
        timestamp: Timestamp,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let steps = Steps { start: timestamp, interval: 1, count: 1 };
        self.run(storage, expr, query, steps, 0, options, true)
    }

    /// Evaluates a query at `start`, `start + step` and so on up to `end`. Times and step are in milliseconds.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn range(
        &self,
        storage: &dyn Storage,
        query: &str,
        (start, end, step): (Timestamp, Timestamp, i64),
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let expr = self.parse(query)?;
        self.range_expr(storage, &expr, query, (start, end, step), options)
    }

    /// Evaluates a parsed query over a range; `query` is its text, for the positions in annotations.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn range_expr(
        &self,
        storage: &dyn Storage,
        expr: &Expr,
        query: &str,
        (start, end, step): (Timestamp, Timestamp, i64),
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let value_type = expr.value_type();
        if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
            let got = value_type.documented();
            return Err(QueryError::BadData(format!(
                "invalid expression type \"{got}\" for range query, must be Scalar or instant Vector"
            )));
        }
        if step <= 0 {
            return Err(QueryError::BadData("step must be greater than zero".to_owned()));
        }
        if end < start {
            return Err(QueryError::BadData("end timestamp must not be before start time".to_owned()));
        }
        let count = usize::try_from((end - start) / step + 1).unwrap_or(usize::MAX);
        self.run(storage, expr, query, Steps { start, interval: step, count }, end, options, false)
    }

    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        storage: &dyn Storage,
        expr: &Expr,
        text: &str,
        steps: Steps,
        end: Timestamp,
        options: &QueryOptions,
        instant: bool,
    ) -> Result<QueryResult, QueryError> {
        // a query of one step would allocate more than it may hold
        if steps.count > self.options.max_samples.max(1) && !instant {
            return Err(QueryError::TooManySamples);
        }
        let timeout = self.options.timeout.into_iter().chain(options.timeout).chain(options.only_if_short).min();
        let patience = Patience::new(options.cancel.clone(), timeout);
        let range = (steps.start, if instant { steps.start } else { end }, if instant { 0 } else { steps.interval });
        let begin = || Query::new(storage, expr, &self.options, options, &patience, range, steps);
        let query = begin();
        let mut result = Evaluator { query: &query, steps }.answer(expr, text, instant);
        query.settle();
        if matches!(result, Err(QueryError::TooMuchMemory { .. })) && !instant {
            let query = begin();
            let sliced = Evaluator { query: &query, steps }.answer_in_slices(expr, text);
            query.settle();
            result = sliced.transpose().unwrap_or(result);
        }
        result
    }
}
