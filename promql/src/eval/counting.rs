//! Counts samples as Prometheus' evaluation holds them node by node, for `--query.max-samples` and the statistics of a query,
//! whatever ours shares, streams or cuts into parts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::Timestamp;

use super::frame::{EMPTY_HISTOGRAM_SIZE, Frame, Row, Steps, histogram_size, is_absent};
use super::windows::RateSteps;
use super::{Evaluated, Evaluator, Query};
use crate::QueryError;
use crate::result::QueryStats;

/// Steps that every subquery may have, however few samples a query may hold: a row takes memory for each.
const MAX_STEPS: usize = 50_000_000;

/// What a query may hold, holds and has read.
pub(super) struct Budget {
    max: usize,
    current: AtomicUsize,
    peak: AtomicUsize,
    /// The steps of the whole query, if counts are wanted for each.
    per_step: Option<Steps>,
    /// Samples loaded, and read.
    queryable: AtomicU64,
    read: AtomicU64,
    ledger: Mutex<Ledger>,
}

/// The counts at some moment.
pub(super) struct Counts {
    held: usize,
    queryable: u64,
    read: u64,
    ledger: Ledger,
}

#[derive(Clone, Default)]
struct Ledger {
    /// Samples loaded and read at each step, if they are counted by step.
    queryable: Option<Vec<u64>>,
    read: Option<Vec<u64>>,
    /// What the operands of the nodes under evaluation hold, of the innermost node last.
    operands: Vec<Tally>,
    /// What the node evaluated last holds, where it is known.
    latest: Option<Tally>,
}

/// The state of the counts before a node is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    held: usize,
    operands: usize,
}

/// What the evaluation of a node has counted for, in whole.
#[derive(Clone)]
pub(super) struct Spent {
    held: usize,
    /// Most that was held beyond what was held before.
    peak: usize,
    queryable: u64,
    read: u64,
    latest: Option<Tally>,
}

/// What a value holds at each step.
#[derive(Clone)]
enum Tally {
    Scalar {
        steps: usize,
    },
    Vector {
        /// Series with a sample.
        points: Vec<u32>,
        /// Samples; a histogram counts for several. Nothing if there are none.
        sizes: Option<Vec<u32>>,
    },
}

impl Tally {
    fn of(value: &Evaluated, steps: usize) -> Self {
        match value {
            Evaluated::Scalar(_) => Self::Scalar { steps },
            Evaluated::String(_) => Self::Vector { points: vec![0; steps], sizes: None },
            Evaluated::Vector(frame) => Self::of_frame(frame, steps),
        }
    }

    fn of_frame(frame: &Frame, steps: usize) -> Self {
        let mut gathered = Gathered::new(steps);
        frame.rows.iter().for_each(|row| gathered.add(row));
        gathered.into()
    }

    fn points(&self, step: usize) -> usize {
        match self {
            Self::Scalar { .. } => 1,
            Self::Vector { points, .. } => points[step] as usize,
        }
    }

    fn size(&self, step: usize) -> usize {
        match self {
            Self::Scalar { .. } => 1,
            Self::Vector { points, sizes } => sizes.as_ref().unwrap_or(points)[step] as usize,
        }
    }

    fn total(&self) -> usize {
        match self {
            Self::Scalar { steps } => *steps,
            Self::Vector { points, sizes } => sizes.as_ref().unwrap_or(points).iter().map(|n| *n as usize).sum(),
        }
    }
}

/// What the rows of a vector hold at each step, gathered row by row.
pub(super) struct Gathered {
    points: Vec<u32>,
    sizes: Option<Vec<u32>>,
}

impl Gathered {
    /// Of no row yet.
    pub(super) fn new(steps: usize) -> Self {
        Self { points: vec![0; steps], sizes: None }
    }

    /// And of this row.
    pub(super) fn add(&mut self, row: &Row) {
        let Self { points, sizes } = self;
        if !row.histograms.is_empty() && sizes.is_none() {
            *sizes = Some(points.clone());
        }
        for counts in [Some(&mut *points), sizes.as_mut()].into_iter().flatten() {
            for (count, value) in counts.iter_mut().zip(&row.floats) {
                *count += u32::from(!is_absent(*value));
            }
        }
        for (step, histogram) in row.histograms.iter().enumerate() {
            if let (Some(histogram), Some(sizes)) = (histogram, &mut *sizes) {
                points[step] += 1;
                sizes[step] += histogram_size(histogram) as u32;
            }
        }
    }
}

impl From<Gathered> for Tally {
    fn from(Gathered { points, sizes }: Gathered) -> Self {
        Self::Vector { points, sizes }
    }
}

impl Budget {
    /// Lets at most `max` samples be held at a time; counts for each of `per_step`, if that is wanted.
    pub(super) fn new(max: usize, per_step: Option<Steps>) -> Self {
        let counts = || per_step.map(|steps| vec![0; steps.count]);
        let ledger = Ledger { queryable: counts(), read: counts(), ..Ledger::default() };
        Self {
            max,
            current: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            per_step,
            queryable: AtomicU64::new(0),
            read: AtomicU64::new(0),
            ledger: Mutex::new(ledger),
        }
    }

    /// The counts so far, to go back to them.
    pub(super) fn checkpoint(&self) -> Counts {
        Counts {
            held: self.held(),
            queryable: self.queryable.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
            ledger: self.ledger().clone(),
        }
    }

    /// Goes back to earlier counts. The peak stays what it is.
    pub(super) fn restore(&self, counts: Counts) {
        self.current.store(counts.held, Ordering::Relaxed);
        self.queryable.store(counts.queryable, Ordering::Relaxed);
        self.read.store(counts.read, Ordering::Relaxed);
        *self.ledger() = counts.ledger;
    }

    /// So many samples are held, and no node is under evaluation.
    pub(super) fn hold_only(&self, samples: usize) -> Result<(), QueryError> {
        let mut ledger = self.ledger();
        (ledger.operands, ledger.latest) = (Vec::new(), None);
        drop(ledger);
        self.set(samples)
    }

    /// The counts so far.
    pub(super) fn stats(&self) -> QueryStats {
        let ledger = self.ledger();
        let per_step = |counts: &Option<Vec<u64>>| {
            let (steps, counts) = (self.per_step?, counts.as_ref()?);
            Some(steps.times().zip(counts.iter().copied()).collect())
        };
        QueryStats {
            total_queryable_samples: self.queryable.load(Ordering::Relaxed),
            samples_read: self.read.load(Ordering::Relaxed),
            peak_samples: self.peak.load(Ordering::Relaxed) as u64,
            peak_bytes: 0,
            queryable_per_step: per_step(&ledger.queryable),
            read_per_step: per_step(&ledger.read),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Notes that so many samples are held, be it for a moment.
    fn reach(&self, held: usize) -> Result<(), QueryError> {
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// From now on so many samples are held.
    fn set(&self, held: usize) -> Result<(), QueryError> {
        self.current.store(held, Ordering::Relaxed);
        self.reach(held)
    }
}

impl Query<'_> {
    /// Holds `n` more samples.
    pub(super) fn hold(&self, n: usize) -> Result<(), QueryError> {
        self.budget.set(self.budget.held() + n)
    }

    /// Notes that `n` more samples are held for a moment.
    pub(super) fn touch(&self, n: usize) -> Result<(), QueryError> {
        self.budget.reach(self.budget.held().saturating_add(n))
    }

    /// Refuses more steps of a subquery than memory can be meant to be taken for.
    pub(super) fn check_steps(&self, steps: usize) -> Result<(), QueryError> {
        if steps > self.budget.max.max(MAX_STEPS) { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// Lets go of `n` samples.
    pub(super) fn release(&self, n: usize) {
        let held = self.budget.held();
        self.budget.current.store(held.saturating_sub(n), Ordering::Relaxed);
    }

    /// To be taken before the operands of a node are evaluated.
    pub(super) fn mark(&self) -> Mark {
        let mut ledger = self.budget.ledger();
        ledger.latest = None;
        Mark { held: self.budget.held(), operands: ledger.operands.len() }
    }

    /// Evaluates a node, and gives what that counts for; nothing if it leaves less held than there was.
    pub(super) fn measure<T>(&self, evaluate: impl FnOnce() -> T) -> (T, Option<Spent>) {
        let budget = &self.budget;
        let (held, queryable, read) =
            (budget.held(), budget.queryable.load(Ordering::Relaxed), budget.read.load(Ordering::Relaxed));
        let peak_before = budget.peak.swap(held, Ordering::Relaxed);
        let value = evaluate();
        let peak = budget.peak.fetch_max(peak_before, Ordering::Relaxed);
        let latest = budget.ledger().latest.clone();
        let spent = budget.held().checked_sub(held).map(|more| Spent {
            held: more,
            peak: peak.saturating_sub(held),
            queryable: budget.queryable.load(Ordering::Relaxed).saturating_sub(queryable),
            read: budget.read.load(Ordering::Relaxed).saturating_sub(read),
            latest,
        });
        (value, spent)
    }

    /// Counts a node again.
    pub(super) fn spend(&self, spent: &Spent) -> Result<(), QueryError> {
        let budget = &self.budget;
        let held = budget.held();
        budget.reach(held + spent.peak)?;
        budget.set(held + spent.held)?;
        budget.queryable.fetch_add(spent.queryable, Ordering::Relaxed);
        budget.read.fetch_add(spent.read, Ordering::Relaxed);
        budget.ledger().latest.clone_from(&spent.latest);
        Ok(())
    }

    /// How many samples the nodes evaluated since then hold.
    pub(super) fn held_since(&self, mark: Mark) -> usize {
        self.budget.held().saturating_sub(mark.held)
    }

    /// A node goes on to hold what its operands held; gives how much that is.
    pub(super) fn keep_operands(&self, mark: Mark) -> usize {
        let mut ledger = self.budget.ledger();
        ledger.latest = None;
        ledger.operands.drain(mark.operands..).map(|operand| operand.total()).sum()
    }

    /// Evaluates what a subquery asks for: it does not count as queryable, only the windows over its value do. Gives how much
    /// it would have counted for.
    pub(super) fn within_subquery<T>(
        &self,
        evaluate: impl FnOnce() -> Result<T, QueryError>,
    ) -> Result<(T, u64), QueryError> {
        let total = self.budget.queryable.swap(0, Ordering::Relaxed);
        let per_step = self.budget.ledger().queryable.take();
        let value = evaluate();
        let inside = self.budget.queryable.swap(total, Ordering::Relaxed);
        self.budget.ledger().queryable = per_step;
        Ok((value?, inside))
    }

    /// Counts samples that are loaded for a time, and those that had to be read for it.
    pub(super) fn count(&self, time: Timestamp, queryable: u64, read: u64) {
        self.budget.queryable.fetch_add(queryable, Ordering::Relaxed);
        self.budget.read.fetch_add(read, Ordering::Relaxed);
        let Some(steps) = self.budget.per_step else { return };
        // what a subquery reads falls to the step it is for
        let step = ((time - steps.start).max(0) as u64).div_ceil(steps.interval.max(1) as u64);
        let step = usize::try_from(step).unwrap_or(usize::MAX).min(steps.count - 1);
        let Ledger { queryable: loaded, read: had, .. } = &mut *self.budget.ledger();
        for (counts, more) in [(loaded, queryable), (had, read)] {
            if let Some(counts) = counts {
                counts[step] += more;
            }
        }
    }
}

/// Counts what series are asked for, step by step; in all when it is dropped, since threads that count together wait for each other.
pub(super) struct SeriesCount<'a> {
    query: &'a Query<'a>,
    steps: Steps,
    queryable: u64,
    read: u64,
}

impl SeriesCount<'_> {
    /// At a step so many samples are loaded, of which so many had not been before.
    pub(super) fn add(&mut self, step: usize, queryable: usize, read: usize) {
        if self.query.budget.per_step.is_some() {
            self.query.count(self.steps.time(step), queryable as u64, read as u64);
        } else {
            self.queryable += queryable as u64;
            self.read += read as u64;
        }
    }

    /// Adds what rates load at all steps.
    pub(super) fn add_rates(&mut self, rates: &RateSteps) {
        if self.query.budget.per_step.is_none() {
            self.queryable += rates.loaded;
            self.read += rates.read;
            return;
        }
        for (step, (loaded, read)) in rates.loads().enumerate() {
            self.add(step, loaded, read);
        }
    }
}

impl Drop for SeriesCount<'_> {
    fn drop(&mut self) {
        if self.queryable + self.read > 0 {
            self.query.count(self.steps.start, self.queryable, self.read);
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn count_series(&self) -> SeriesCount<'_> {
        SeriesCount { query: self.query, steps: self.steps, queryable: 0, read: 0 }
    }

    /// Counts what a row of a selector has read, at each step where there is something; gives how much that is.
    pub(super) fn count_row(&self, row: &Row, stats_only: bool, count: &mut SeriesCount<'_>) -> usize {
        if row.histograms.is_empty() && self.query.budget.per_step.is_none() {
            let samples = row.floats.iter().filter(|value| !is_absent(**value)).count();
            count.add(0, samples, samples);
            return samples;
        }
        let mut samples = 0;
        for (step, size) in sizes(row, stats_only) {
            count.add(step, size, size);
            samples += size;
        }
        samples
    }

    /// The value just evaluated is an operand of a node.
    pub(super) fn note_operand(&self, value: &Evaluated) {
        let known = self.query.budget.ledger().latest.take();
        let tally = known.unwrap_or_else(|| Tally::of(value, self.steps.count));
        self.query.budget.ledger().operands.push(tally);
    }

    /// Series with a sample at each step are gathered by a node, though none of its operands.
    pub(super) fn note_gathered(&self, points: Vec<u32>) {
        self.query.budget.ledger().operands.push(Tally::Vector { points, sizes: None });
    }

    /// A vector that was handed on row by row is an operand of a node.
    pub(super) fn note_streamed(&self, rows: Gathered) {
        self.query.budget.ledger().operands.push(rows.into());
    }

    /// Counts a node that gathers its operands at each step and gives a vector for it.
    pub(super) fn count_steps(&self, mark: Mark, value: &Evaluated) -> Result<(), QueryError> {
        self.count_tally(mark, Tally::of(value, self.steps.count))
    }

    /// The same of a node that has handed on its result row by row, to a node of which it is an operand.
    pub(super) fn count_streamed(&self, mark: Mark, rows: Gathered) -> Result<(), QueryError> {
        self.count_tally(mark, rows.into())?;
        let mut ledger = self.query.budget.ledger();
        let latest = ledger.latest.take();
        ledger.operands.extend(latest);
        Ok(())
    }

    fn count_tally(&self, mark: Mark, result: Tally) -> Result<(), QueryError> {
        let budget = &self.query.budget;
        let operands = budget.ledger().operands.split_off(mark.operands);
        let mut held = budget.held();
        for step in 0..self.steps.count {
            let gathered: usize = operands.iter().map(|operand| operand.points(step)).sum();
            budget.reach(held + gathered + result.size(step))?;
            held += result.size(step);
        }
        budget.set(mark.held + result.total())?;
        budget.ledger().latest = Some(result);
        Ok(())
    }

    /// Counts a node that takes its operands series by series and leaves only its result.
    pub(super) fn count_result(&self, mark: Mark, frame: &Frame) -> Result<(), QueryError> {
        let result = Tally::of_frame(frame, self.steps.count);
        let budget = &self.query.budget;
        budget.ledger().operands.truncate(mark.operands);
        budget.set(mark.held + result.total())?;
        budget.ledger().latest = Some(result);
        Ok(())
    }

    /// A value found once stands for all steps.
    pub(super) fn count_repeated(&self, samples: usize, queryable: u64) -> Result<(), QueryError> {
        for step in 1..self.steps.count {
            self.query.count(self.steps.time(step), queryable, 0);
        }
        self.query.hold(samples * (self.steps.count - 1))
    }

    /// What has been counted as queryable so far.
    pub(super) fn queryable(&self) -> u64 {
        self.query.budget.queryable.load(Ordering::Relaxed)
    }
}

/// The samples of a row, a step at a time: (step, size). Histograms of which only counts and sums are wanted are read without
/// buckets.
fn sizes(row: &Row, stats_only: bool) -> impl Iterator<Item = (usize, usize)> + '_ {
    row.floats.iter().enumerate().filter_map(move |(step, value)| {
        if !is_absent(*value) {
            return Some((step, 1));
        }
        let histogram = row.histograms.get(step)?.as_ref()?;
        Some((step, if stats_only { EMPTY_HISTOGRAM_SIZE } else { histogram_size(histogram) }))
    })
}
