//! Values of an expression at all steps.

use std::collections::HashMap;
use std::sync::Arc;

use model::{FloatHistogram, Labels, Timestamp};

use super::pace::{LABELS_WORK, Pace};
use crate::QueryError;
use crate::memory::{Account, Charge, Footprint, TABLE_ENTRY};

/// A histogram sample.
pub(crate) type Hist = Arc<FloatHistogram>;

/// Marks a step without float. No value has these bits: staleness markers never leave the storage.
pub(crate) const ABSENT: f64 = model::STALE_NAN;

/// Whether a float of a [`Row`] is none.
#[inline]
pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// The times an expression is evaluated at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) start: Timestamp,
    pub(crate) interval: i64,
    pub(crate) count: usize,
}

impl Steps {
    #[inline]
    pub(crate) fn time(&self, step: usize) -> Timestamp {
        self.start + self.interval * step as i64
    }

    pub(crate) fn last(&self) -> Timestamp {
        self.time(self.count.saturating_sub(1))
    }

    pub(crate) fn times(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let steps = *self;
        (0..steps.count).map(move |step| steps.time(step))
    }
}

/// One series of an instant vector: at each step a float, a histogram or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    /// The metric name is to be removed at the end.
    pub(crate) drop_name: bool,
    /// One per step, [`ABSENT`] where there is none.
    pub(crate) floats: Vec<f64>,
    /// One per step, or nothing if there is none at all.
    pub(crate) histograms: Vec<Option<Hist>>,
}

/// What a row has at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Empty,
    Float(f64),
    Histogram(&'a Hist),
}

impl Row {
    pub(crate) fn new(labels: Labels, drop_name: bool, steps: usize) -> Self {
        Self { labels, drop_name, floats: vec![ABSENT; steps], histograms: Vec::new() }
    }

    /// The row, which leaves nothing of its samples behind.
    pub(crate) fn take(&mut self) -> Self {
        let (floats, histograms) = (std::mem::take(&mut self.floats), std::mem::take(&mut self.histograms));
        Self { labels: self.labels.clone(), drop_name: self.drop_name, floats, histograms }
    }

    #[inline]
    pub(crate) fn cell(&self, step: usize) -> Cell<'_> {
        let float = self.floats[step];
        if !is_absent(float) {
            return Cell::Float(float);
        }
        match self.histograms.get(step) {
            Some(Some(histogram)) => Cell::Histogram(histogram),
            _ => Cell::Empty,
        }
    }

    #[inline]
    pub(crate) fn has(&self, step: usize) -> bool {
        !is_absent(self.floats[step]) || self.histograms.get(step).is_some_and(Option::is_some)
    }

    #[inline]
    pub(crate) fn set_float(&mut self, step: usize, value: f64) {
        // a computed NaN can have any bits in theory
        self.floats[step] = if is_absent(value) { f64::NAN } else { value };
    }

    pub(crate) fn set_histogram(&mut self, step: usize, histogram: Hist) {
        if self.histograms.is_empty() {
            self.histograms = vec![None; self.floats.len()];
        }
        self.histograms[step] = Some(histogram);
    }

    pub(crate) fn set(&mut self, step: usize, cell: Cell<'_>) {
        match cell {
            Cell::Empty => {}
            Cell::Float(value) => self.set_float(step, value),
            Cell::Histogram(histogram) => self.set_histogram(step, histogram.clone()),
        }
    }

    pub(crate) fn clear(&mut self, step: usize) {
        self.floats[step] = ABSENT;
        if let Some(histogram) = self.histograms.get_mut(step) {
            *histogram = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floats.iter().all(|v| is_absent(*v)) && self.histograms.iter().all(Option::is_none)
    }

    /// Size as samples are counted: a histogram counts by its bytes.
    pub(crate) fn samples(&self) -> usize {
        let floats = self.floats.iter().filter(|v| !is_absent(**v)).count();
        floats + self.histograms.iter().flatten().map(|h| histogram_size(h)).sum::<usize>()
    }

    pub(crate) fn metric_name(&self) -> &str {
        self.labels.metric_name()
    }
}

/// Bytes of a histogram without buckets and of its timestamp, upstream.
const HISTOGRAM_BYTES: usize = 168 + 8;

/// How many float samples a histogram without buckets counts for.
pub(crate) const EMPTY_HISTOGRAM_SIZE: usize = HISTOGRAM_BYTES / 16;

/// How many float samples a histogram counts for: its size in memory upstream, by 16 bytes.
pub(crate) fn histogram_size(histogram: &FloatHistogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let floats = histogram.positive_buckets.len() + histogram.negative_buckets.len() + histogram.custom_bounds().len();
    (HISTOGRAM_BYTES + 8 * spans + 8 * floats) / 16
}

impl Footprint for Row {
    fn bytes(&self) -> usize {
        // steps that see one sample share its histogram
        let mut last: Option<&Hist> = None;
        let mut histograms = 0;
        for histogram in self.histograms.iter().flatten() {
            if !last.is_some_and(|last| Arc::ptr_eq(last, histogram)) {
                histograms += histogram.bytes();
            }
            last = Some(histogram);
        }
        size_of::<Self>() + self.labels.bytes() + 8 * (self.floats.len() + self.histograms.len()) + histograms
    }
}

/// A row with what is counted of it.
impl<T> Footprint for (Row, T) {
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// An instant vector at all steps. Counts the memory it takes.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) rows: Vec<Row>,
    held: Charge,
}

impl Frame {
    /// An empty one that takes its memory from `account`.
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        Self { rows: Vec::new(), held: account.charge() }
    }

    /// Rows, and what counts their memory.
    pub(crate) fn of_parts(rows: Vec<Row>, held: Charge) -> Self {
        Self { rows, held }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Row) -> Result<(), QueryError> {
        self.held.add(row.bytes())?;
        self.rows.push(row);
        Ok(())
    }

    /// Counts the rows anew, after they were changed in place.
    pub(crate) fn recount(&mut self) -> Result<(), QueryError> {
        self.held.set(self.rows.iter().map(Footprint::bytes).sum())
    }

    /// The rows, and what counts their memory.
    pub(crate) fn into_parts(self) -> (Vec<Row>, Charge) {
        (self.rows, self.held)
    }

    pub(crate) fn samples(&self) -> usize {
        self.rows.iter().map(Row::samples).sum()
    }

    /// Adds the rows of another one behind its own.
    pub(crate) fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.held.absorb(other.held);
    }

    /// Joins rows of the same labels that have no step in common.
    pub(crate) fn merge_same_labels(&mut self, mut pace: Pace<'_>) -> Result<(), QueryError> {
        let held = self.held.bytes();
        self.held.add(self.rows.len() * TABLE_ENTRY)?;
        let mut seen: HashMap<Labels, usize> = HashMap::with_capacity(self.rows.len());
        let mut equal = false;
        for (at, row) in self.rows.iter().enumerate() {
            pace.done(LABELS_WORK)?;
            equal |= seen.insert(row.labels.clone(), at).is_some();
        }
        if !equal {
            return self.held.set(held);
        }
        seen.clear();
        let mut merged: Vec<Row> = Vec::with_capacity(self.rows.len());
        for row in self.rows.drain(..) {
            pace.done(row.floats.len())?;
            let Some(&at) = seen.get(&row.labels) else {
                seen.insert(row.labels.clone(), merged.len());
                merged.push(row);
                continue;
            };
            let target = &mut merged[at];
            for step in 0..row.floats.len() {
                if row.has(step) {
                    if target.has(step) {
                        return Err(same_labelset());
                    }
                    target.set(step, row.cell(step));
                }
            }
        }
        self.rows = merged;
        self.held.set(held)
    }

    /// A frame of one step repeated at each of `steps`.
    pub(crate) fn broadcast(mut self, steps: usize) -> Result<Self, QueryError> {
        for row in &mut self.rows {
            self.held.add(8 * steps * if row.histograms.is_empty() { 1 } else { 2 })?;
            row.floats = vec![row.floats[0]; steps];
            if let Some(histogram) = row.histograms.first().cloned() {
                row.histograms = vec![histogram; steps];
            }
        }
        Ok(self)
    }
}

/// Two samples of one series at one time.
pub(crate) fn same_labelset() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}

/// Labels that tell about a metric and not about a series: name, type, unit.
pub(crate) fn is_metadata_label(name: &str) -> bool {
    matches!(name, "__name__" | "__type__" | "__unit__")
}

/// The labels without those.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata_label(name)) {
        labels.filter(|name| !is_metadata_label(name))
    } else {
        labels.clone()
    }
}
