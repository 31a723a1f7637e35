//! Where samples go and come from: the store behind the collector's own terms, and behind PromQL's.

use std::ops::Range;
use std::sync::Arc;

use model::{Labels, Timestamp};
use promql::storage::{Samples, SelectRequest, Selection, Storage, StorageError, Wanted};
use tsdb::{AppendError, Appender, Db, Exemplar, HistogramSample, SeriesRef};

/// The store of the collector.
#[derive(Clone, Debug)]
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
    pub(crate) fn batch(&self) -> Batch {
        Batch { appender: self.db.appender(), refusals: Refusals::default() }
    }
}

/// A commit being filled: samples that the store refuses are counted, the others are stored together or not at all.
pub(crate) struct Batch {
    appender: Appender,
    pub(crate) refusals: Refusals,
}

impl Batch {
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
        for (_, error) in self.appender.append_row(time, series, values).refused {
            self.refusals.note(&error);
        }
    }

    /// One histogram sample.
    pub(crate) fn histogram(&mut self, series: SeriesRef, time: Timestamp, histogram: HistogramSample) {
        if let Err(error) = self.appender.append_histogram(series, time, histogram) {
            self.refusals.note(&error);
        }
    }

    /// An exemplar of a series. Those that are old news are passed over, as upstream does.
    pub(crate) fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        match self.appender.append_exemplar(series, exemplar) {
            Ok(()) | Err(AppendError::ExemplarOutOfOrder) => {}
            Err(error) => tracing::debug!(%error, "exemplar refused"),
        }
    }

    /// Stores it. The samples are acknowledged: they survive the end of the process.
    pub(crate) fn commit(mut self) -> Result<Refusals, String> {
        let report = self.appender.commit().map_err(|e| e.to_string())?;
        // others were faster, or the batch itself had two for one time
        self.refusals.duplicate += report.refused;
        Ok(self.refusals)
    }
}

impl Storage for Store {
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError> {
        let selection =
            self.db.select(request.matchers, request.mint, request.maxt).map_err(|e| StorageError(e.to_string()))?;
        Ok(Box::new(Selected(match request.wanted {
            Wanted::Presence => selection.presence_only(),
            Wanted::Labels | Wanted::Samples => selection,
        })))
    }
}

struct Selected(tsdb::Selection);

impl Selection for Selected {
    fn labels(&self) -> &[Labels] {
        self.0.labels()
    }

    fn read(&self, range: Range<usize>, mint: Timestamp, maxt: Timestamp) -> Result<Vec<Samples>, StorageError> {
        let samples = self.0.read(range, mint, maxt).map_err(|e| StorageError(e.to_string()))?;
        Ok(samples.into_iter().map(|series| Samples { floats: series.floats, histograms: series.histograms }).collect())
    }

    fn warnings(&self) -> &[String] {
        self.0.warnings()
    }
}
