//! Where samples go and come from: the store behind the collector's own terms, and behind PromQL's.

use std::sync::Arc;

use model::{Labels, Timestamp};
use tsdb::{AppendError, Appender, Db, HistogramSample, SeriesRef};

/// The store of the collector.
#[derive(Clone)]
pub struct Store {
    db: Arc<Db>,
}

/// Samples that a commit did not take, by reason. The rules are Prometheus'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Older than the last sample of their series.
    pub out_of_order: usize,
    /// Another value for a timestamp that is there.
    pub duplicate: usize,
    /// Too old, or too far in the future.
    pub out_of_bounds: usize,
    /// For series that the store has forgotten.
    pub unknown_series: usize,
    /// Malformed histograms.
    pub invalid: usize,
}

impl Refusals {
    /// All of them.
    pub fn total(&self) -> usize {
        self.out_of_order + self.duplicate + self.out_of_bounds + self.unknown_series + self.invalid
    }

    fn note(&mut self, error: &AppendError) {
        match error {
            AppendError::OutOfOrder | AppendError::TooOld => self.out_of_order += 1,
            AppendError::OutOfBounds => self.out_of_bounds += 1,
            AppendError::Duplicate { .. } => self.duplicate += 1,
            AppendError::UnknownSeries(_) => self.unknown_series += 1,
            _ => self.invalid += 1,
        }
    }
}

impl Store {
    /// The collector's view of a database.
    pub fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// The database.
    pub fn db(&self) -> &Arc<Db> {
        &self.db
    }

    /// A commit to be filled.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { appender: self.db.appender(), refusals: Refusals::default() }
    }
}

/// A commit being filled: samples that the store refuses are counted, the others are stored together or not at all.
pub(crate) struct Batch<'a> {
    appender: Appender<'a>,
    pub(crate) refusals: Refusals,
}

impl Batch<'_> {
    /// The reference of a series, created if need be.
    pub(crate) fn series(&mut self, labels: &Labels) -> Result<SeriesRef, String> {
        self.appender.series(labels).map_err(|e| e.to_string())
    }

    /// One float sample.
    pub(crate) fn sample(&mut self, series: SeriesRef, time: Timestamp, value: f64) {
        if let Err(error) = self.appender.append(series, time, value) {
            self.refusals.note(&error);
        }
    }

    /// Float samples of many series at one time.
    pub(crate) fn row(&mut self, time: Timestamp, series: &[SeriesRef], values: &[f64]) {
        for error in self.appender.append_row(time, series, values) {
            self.refusals.note(&error);
        }
    }

    /// One histogram sample.
    pub(crate) fn histogram(&mut self, series: SeriesRef, time: Timestamp, histogram: HistogramSample) {
        if let Err(error) = self.appender.append_histogram(series, time, histogram) {
            self.refusals.note(&error);
        }
    }

    /// Stores it. The samples are acknowledged: they survive the end of the process.
    pub(crate) fn commit(self) -> Result<Refusals, String> {
        self.appender.commit().map_err(|e| e.to_string())?;
        Ok(self.refusals)
    }
}
