//! Evaluation: each node of the tree is evaluated for all steps at once.

mod absent;
mod aggregate;
mod aggregate_k;
mod answer;
mod best;
mod binary;
mod binary_match;
mod classic;
mod count_values;
mod counting;
mod dates;
mod durations;
mod explain;
mod extended;
mod filter;
mod frame;
mod histogram_functions;
mod info;
mod instant_functions;
mod invariant;
mod label_functions;
mod last_notes;
mod over_time;
mod pace;
mod pairing;
mod parallel;
mod presence;
mod quantile;
mod range_functions;
mod rate;
mod selector;
mod set;
mod shared;
mod slices;
mod sort;
mod stats_only;
mod subquery;
mod timestamps;
mod windows;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use model::Timestamp;

use crate::annotations::Annotations;
use crate::ast::{Call, Expr, Unary};
use crate::engine::{EngineOptions, QueryOptions};
use crate::memory::{Account, Charge};
use crate::search::Patience;
use crate::storage::Storage;
use crate::{Features, QueryError};
use counting::{Budget, Mark};
pub(crate) use frame::Steps;
use frame::{Frame, Row, is_absent, without_metadata};
use pace::Pace;
use shared::Shared;

/// Bytes that are counted for each step of an evaluation, see [`Query::charge_for_steps`].
const BYTES_A_STEP: usize = 64;

/// What all parts of one evaluation share.
pub(crate) struct Query<'q> {
    storage: &'q dyn Storage,
    features: Features,
    lookback: i64,
    default_subquery_step: i64,
    threads: usize,
    /// Ends when it turns out to be worth several threads.
    only_if_short: bool,
    patience: &'q Patience,
    /// First time, last time and step of the whole query, for `start()` and the like; the step of an instant query is 0.
    range: (Timestamp, Timestamp, i64),
    budget: Budget,
    /// Where all that grows with the data takes its memory.
    memory: Arc<Account>,
    series: SeriesLimit,
    plan: explain::Explained,
    annotations: Mutex<Annotations>,
    /// Selectors of which only counts and sums are wanted.
    stats_only: HashSet<usize>,
    /// Selectors whose values do not matter.
    presence_only: HashSet<usize>,
    shared: Shared,
    /// What the storage says about its own answer.
    storage_warnings: Mutex<Vec<String>>,
    /// How often it was looked whether to go on.
    #[cfg(test)]
    checks: AtomicUsize,
}

impl<'q> Query<'q> {
    pub(crate) fn new(
        storage: &'q dyn Storage,
        expr: &Expr,
        engine: &EngineOptions,
        options: &QueryOptions,
        patience: &'q Patience,
        range: (Timestamp, Timestamp, i64),
        steps: Steps,
    ) -> Self {
        let per_step = (options.per_step_stats && engine.features.per_step_stats).then_some(steps);
        let (stats_only, presence_only) = (stats_only::selectors(expr), presence::selectors(expr));
        let mark = |key| u8::from(stats_only.contains(&key)) + 2 * u8::from(presence_only.contains(&key));
        // what is counted for each step is not kept
        let shared = if per_step.is_none() { Shared::of(expr, mark) } else { Shared::default() };
        Self {
            storage,
            features: engine.features,
            lookback: options.lookback.unwrap_or(engine.lookback),
            default_subquery_step: engine.default_subquery_step.max(1),
            threads: engine.threads.max(1),
            only_if_short: options.only_if_short.is_some(),
            patience,
            range,
            budget: Budget::new(engine.max_samples, per_step),
            memory: Account::new(engine.max_memory, Arc::clone(&engine.memory), options.urgency),
            series: SeriesLimit { limit: engine.max_series, found: AtomicUsize::new(0) },
            plan: options.explain.then(Mutex::default),
            annotations: Mutex::default(),
            stats_only,
            presence_only,
            shared,
            storage_warnings: Mutex::default(),
            #[cfg(test)]
            checks: AtomicUsize::new(0),
        }
    }

    /// Refuses a query whose selectors match too many series together.
    fn read_series_more(&self, count: usize) -> Result<(), QueryError> {
        let found = self.series.found.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        let limit = self.series.limit;
        if found > limit { Err(QueryError::TooManySeries { found, limit }) } else { Ok(()) }
    }

    /// Refuses so many series in addition to those that were read.
    fn may_read_series(&self, count: usize) -> Result<(), QueryError> {
        let found = self.series.found.load(Ordering::Relaxed).saturating_add(count);
        let limit = self.series.limit;
        if found > limit { Err(QueryError::TooManySeries { found, limit }) } else { Ok(()) }
    }

    /// Fails if the query was canceled or has run too long. Called before each piece of work of more than a few microseconds.
    fn check(&self) -> Result<(), QueryError> {
        #[cfg(test)]
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.patience.check()
    }

    /// The evaluation has ended: only the result takes memory.
    pub(crate) fn settle(&self) {
        self.memory.settle();
    }

    /// What is counted and noted so far.
    fn checkpoint(&self) -> Checkpoint {
        let annotations = self.annotations.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Checkpoint { counts: self.budget.checkpoint(), annotations }
    }

    /// Goes back to that: what was done since has to be done anew.
    fn restore(&self, checkpoint: Checkpoint) {
        self.budget.restore(checkpoint.counts);
        self.annotate(|annotations| *annotations = checkpoint.annotations);
        self.series.found.store(0, Ordering::Relaxed);
        self.shared.forget();
        self.forget_open_nodes();
    }

    /// Before the next slice: the results so far are held, and nothing else.
    fn hold_only(&self, samples: usize) -> Result<(), QueryError> {
        self.series.found.store(0, Ordering::Relaxed);
        self.shared.forget();
        self.budget.hold_only(samples)
    }

    /// To be told of long work.
    fn pace(&self) -> Pace<'_> {
        Pace::new(self)
    }

    /// An empty vector.
    fn frame(&self) -> Frame {
        Frame::new(&self.memory)
    }

    /// A vector of one series.
    fn frame_of(&self, row: Row) -> Result<Frame, QueryError> {
        let mut frame = self.frame();
        frame.push(row)?;
        Ok(frame)
    }

    /// Counts what nodes take for each step, however many series there are: scalars, counts, times, and a row in the making.
    pub(crate) fn charge_for_steps(&self, steps: usize) -> Result<Charge, QueryError> {
        let mut held = self.memory.charge();
        held.add(steps.saturating_mul(BYTES_A_STEP))?;
        Ok(held)
    }

    fn annotate(&self, annotate: impl FnOnce(&mut Annotations)) {
        annotate(&mut self.annotations.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Puts others in the place of the annotations so far.
    fn swap_annotations(&self, mut annotations: Annotations) -> Annotations {
        self.annotate(|all| std::mem::swap(all, &mut annotations));
        annotations
    }

    fn merge_annotations(&self, annotations: Annotations) {
        if !annotations.is_empty() {
            self.annotate(|all| all.merge(annotations));
        }
    }
}

/// What a part of an evaluation counts and notes, from before it.
struct Checkpoint {
    counts: counting::Counts,
    annotations: Annotations,
}

/// How many series the selectors of a query may match together, and have matched.
struct SeriesLimit {
    limit: usize,
    found: AtomicUsize,
}

/// The value of a node at all steps.
pub(crate) enum Evaluated {
    Scalar(Vec<f64>),
    String(Vec<u8>),
    Vector(Frame),
}

/// Evaluates expressions at certain steps.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'q> {
    pub(crate) query: &'q Query<'q>,
    pub(crate) steps: Steps,
}

impl Evaluator<'_> {
    /// The value of any expression but a range vector.
    fn eval(&self, expr: &Expr) -> Result<Evaluated, QueryError> {
        if let Expr::Paren(paren) = expr {
            return self.eval(&paren.expr);
        }
        if let Some(part) = self.query.shared.part(expr) {
            return self.eval_part(expr, part);
        }
        self.query.begin_node(expr);
        let value = self.eval_node(expr)?;
        self.query.end_node(|| explain::extent(&value));
        Ok(value)
    }

    fn eval_node(&self, expr: &Expr) -> Result<Evaluated, QueryError> {
        let mark = self.query.mark();
        if self.steps.count > 1
            && !matches!(expr, Expr::Number(_) | Expr::String(_))
            && invariant::is_step_invariant(expr)
        {
            let (once, queryable) =
                (Self { query: self.query, steps: Steps { count: 1, ..self.steps } }, self.queryable());
            self.query.note_once();
            let value = once.eval_node(expr)?;
            let samples = match &value {
                Evaluated::Scalar(_) => 1,
                Evaluated::Vector(frame) => frame.samples(),
                Evaluated::String(_) => 0,
            };
            self.query.keep_operands(mark);
            self.count_repeated(samples, self.queryable() - queryable)?;
            return Ok(match value {
                Evaluated::Scalar(values) => Evaluated::Scalar(vec![values[0]; self.steps.count]),
                Evaluated::Vector(frame) => Evaluated::Vector(frame.broadcast(self.steps.count)?),
                string @ Evaluated::String(_) => string,
            });
        }
        let mut value = self.eval_steps(expr, mark)?;
        if let Evaluated::Vector(frame) = &mut value {
            frame.recount()?;
        }
        Ok(value)
    }

    /// The value of an expression, found at each step.
    fn eval_steps(&self, expr: &Expr, mark: Mark) -> Result<Evaluated, QueryError> {
        match expr {
            Expr::Number(number) => {
                let value = self.constant(number.value);
                self.count_steps(mark, &value)?;
                Ok(value)
            }
            Expr::String(string) => Ok(Evaluated::String(string.bytes.clone())),
            Expr::Paren(paren) => self.eval(&paren.expr),
            Expr::Vector(selector) => self.vector_selector(selector, expr.pos()).map(Evaluated::Vector),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(_) => self.binary_chain(expr),
            Expr::Unary(unary) => self.unary(unary),
            Expr::Matrix(_) | Expr::Subquery(_) => Err(QueryError::execution("a range vector has no value at a step")),
        }
    }

    /// The value of an expression that the type check knows to be a vector.
    fn vector(&self, expr: &Expr) -> Result<Frame, QueryError> {
        let value = self.eval(expr)?;
        self.note_operand(&value);
        match value {
            Evaluated::Vector(frame) => Ok(frame),
            Evaluated::Scalar(_) | Evaluated::String(_) => Err(QueryError::execution("expected an instant vector")),
        }
    }

    /// The value of an expression that the type check knows to be a scalar.
    fn scalar(&self, expr: &Expr) -> Result<Vec<f64>, QueryError> {
        let value = self.eval(expr)?;
        self.note_operand(&value);
        match value {
            Evaluated::Scalar(values) => Ok(values),
            Evaluated::Vector(_) | Evaluated::String(_) => Err(QueryError::execution("expected a scalar")),
        }
    }

    /// The text of an expression that the type check knows to be a string.
    fn string(&self, expr: &Expr) -> Result<Vec<u8>, QueryError> {
        match expr.unparen() {
            Expr::String(string) => Ok(string.bytes.clone()),
            _ => Err(QueryError::execution("expected a string")),
        }
    }

    fn unary(&self, unary: &Unary) -> Result<Evaluated, QueryError> {
        let value = self.eval(&unary.expr)?;
        if !unary.negative {
            return Ok(value);
        }
        Ok(match value {
            Evaluated::Scalar(values) => Evaluated::Scalar(values.into_iter().map(|v| -v).collect()),
            Evaluated::Vector(mut frame) => {
                for row in &mut frame.rows {
                    self.query.check()?;
                    self.drop_name(row);
                    for value in row.floats.iter_mut().filter(|v| !is_absent(**v)) {
                        *value = -*value;
                    }
                    for histogram in row.histograms.iter_mut().flatten() {
                        std::sync::Arc::make_mut(histogram).mul(-1.0);
                    }
                }
                frame.merge_same_labels(self.query.pace())?;
                Evaluated::Vector(frame)
            }
            string @ Evaluated::String(_) => string,
        })
    }

    /// Removes the metric name of a row, now or at the end.
    fn drop_name(&self, row: &mut Row) {
        row.drop_name = true;
        if !self.query.features.delayed_name_removal {
            row.labels = without_metadata(&row.labels);
        }
    }

    fn call(&self, call: &Call) -> Result<Evaluated, QueryError> {
        let mark = self.query.mark();
        let name = call.function.name;
        let value = match name {
            "time" => Evaluated::Scalar(self.steps.times().map(|t| t as f64 / 1000.0).collect()),
            "pi" => self.constant(std::f64::consts::PI),
            "start" => self.constant(self.query.range.0 as f64 / 1000.0),
            "end" => self.constant(self.query.range.1 as f64 / 1000.0),
            "step" => self.constant(self.query.range.2 as f64 / 1000.0),
            "range" => self.constant((self.query.range.1 - self.query.range.0) as f64 / 1000.0),
            "min_of" | "max_of" => {
                let (mut left, right) = (self.scalar(&call.args[0])?, self.scalar(&call.args[1])?);
                let pick = if name == "min_of" { instant_functions::go_min } else { instant_functions::go_max };
                for (a, b) in left.iter_mut().zip(right) {
                    *a = pick(*a, b);
                }
                Evaluated::Scalar(left)
            }
            "scalar" => Evaluated::Scalar(self.scalar_of_vector(&call.args[0])?),
            _ => {
                let mut frame = self.vector_call(call)?;
                if !self.query.features.delayed_name_removal {
                    frame.merge_same_labels(self.query.pace())?;
                }
                Evaluated::Vector(frame)
            }
        };
        let by_series = call.function.arg_types.contains(&crate::ValueType::Matrix);
        if by_series || matches!(name, "label_replace" | "label_join") {
            self.query.keep_operands(mark);
        } else {
            // what `info` was given stays with it
            let kept = if name == "info" { self.query.held_since(mark) } else { 0 };
            self.count_steps(mark, &value)?;
            self.query.hold(kept)?;
        }
        Ok(value)
    }

    fn constant(&self, value: f64) -> Evaluated {
        Evaluated::Scalar(vec![value; self.steps.count])
    }

    fn vector_call(&self, call: &Call) -> Result<Frame, QueryError> {
        match call.function.name {
            "vector" => {
                let mut row = Row::new(model::Labels::empty(), false, self.steps.count);
                for (step, value) in self.scalar(&call.args[0])?.into_iter().enumerate() {
                    row.set_float(step, value);
                }
                self.query.frame_of(row)
            }
            "timestamp" => self.timestamp(call),
            "start_timestamp" => self.start_timestamp(call),
            "absent" => self.absent(&call.args[0]),
            "absent_over_time" => self.absent_over_time(call),
            "label_replace" => self.label_replace(call),
            "label_join" => self.label_join(call),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(call),
            "info" => self.info(call),
            "histogram_quantile" => self.histogram_quantile(call),
            "histogram_quantiles" => self.histogram_quantiles(call),
            "histogram_fraction" => self.histogram_fraction(call),
            name if name.starts_with("histogram_") => self.histogram_function(call),
            "days_in_month" | "day_of_month" | "day_of_week" | "day_of_year" | "hour" | "minute" | "month" | "year" => {
                self.date_function(call)
            }
            _ if call.function.arg_types.contains(&crate::ValueType::Matrix) => self.range_call(call),
            _ => self.instant_function(call),
        }
    }

    /// `scalar(v)`: the only float of the vector, or NaN.
    fn scalar_of_vector(&self, arg: &Expr) -> Result<Vec<f64>, QueryError> {
        let frame = self.vector(arg)?;
        let mut values = vec![f64::NAN; self.steps.count];
        let mut found = vec![0u32; self.steps.count];
        for row in &frame.rows {
            self.query.check()?;
            for (step, value) in row.floats.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
                found[step] += 1;
                values[step] = if found[step] == 1 { *value } else { f64::NAN };
            }
        }
        Ok(values)
    }
}
