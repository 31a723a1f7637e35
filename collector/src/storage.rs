//! Where samples go and come from: the store behind the collector's own terms, and behind PromQL's.

use std::ops::Range;
use std::sync::Arc;

use model::{FloatHistogram, LabelPairs, Labels, Matcher, Timestamp};
use parking_lot::Mutex;
use promql::storage::{
    KeptLabels, Lent, Newest, NewestAt, Progress, Samples, SelectRequest, Selection, Storage, StorageError, Wanted,
    Watch,
};
use tokio::sync::SetOnce;
use tsdb::{Answer, AppendError, Appender, BlocksView, Db, Exemplar, HistogramSample, ReplayProgress, SeriesRef};

/// The store of the collector. It is ready once its log has been read; until then what is in blocks can be asked for.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: SetOnce<Arc<Db>>,
    /// Until the database is there.
    blocks: Mutex<Option<BlocksView>>,
}

/// The log is still being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TSDB not ready")]
pub struct NotReady;

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
    /// Exemplars older than the last one of their series; they are no samples.
    pub exemplars_out_of_order: usize,
}

impl Refusals {
    /// All samples.
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

enum Readable<'a> {
    Whole(&'a Db),
    Blocks(BlocksView),
}

impl Store {
    /// The collector's view of a database.
    pub fn new(db: Arc<Db>) -> Self {
        Self { shared: Arc::new(Shared { db: SetOnce::new_with(Some(db)), blocks: Mutex::default() }) }
    }

    /// That of a database whose log is being read.
    pub(crate) fn opening(blocks: BlocksView) -> Self {
        Self { shared: Arc::new(Shared { db: SetOnce::new(), blocks: Mutex::new(Some(blocks)) }) }
    }

    /// The log has been read.
    pub(crate) fn opened(&self, db: Arc<Db>) {
        // whoever finds no blocks any more finds the database
        let _ = self.shared.db.set(db);
        *self.shared.blocks.lock() = None;
    }

    /// The database.
    ///
    /// # Errors
    /// While its log is being read.
    pub fn db(&self) -> Result<&Arc<Db>, NotReady> {
        self.shared.db.get().ok_or(NotReady)
    }

    /// How far the reading of the log is; `None` once the database is there.
    pub(crate) fn replay(&self) -> Option<Arc<ReplayProgress>> {
        self.shared.blocks.lock().as_ref().map(|blocks| Arc::clone(blocks.progress()))
    }

    /// Waits for the database.
    pub async fn ready(&self) -> &Arc<Db> {
        self.shared.db.wait().await
    }

    /// A commit to be filled.
    pub(crate) fn batch(&self) -> Result<Batch, NotReady> {
        Ok(Batch { appender: self.db()?.appender(), refusals: Refusals::default() })
    }

    /// What can be read now.
    fn readable(&self) -> Readable<'_> {
        loop {
            if let Ok(db) = self.db() {
                return Readable::Whole(db);
            }
            // if they have gone in between, the database is there
            if let Some(blocks) = self.shared.blocks.lock().clone() {
                return Readable::Blocks(blocks);
            }
        }
    }

    /// As [`Db::label_names_while`]; while the log is being read what blocks have, with a warning.
    pub(crate) fn label_names(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        watch: Watch<'_>,
    ) -> Result<Answer, StorageError> {
        let watch = &as_of_tsdb(watch);
        let answer = match self.readable() {
            Readable::Whole(db) => db.label_names_while(matchers, from, to, watch),
            Readable::Blocks(blocks) => blocks.label_names_while(matchers, from, to, watch),
        };
        answer.map_err(|e| StorageError(e.to_string()))
    }

    /// As [`Db::label_values_while`]; while the log is being read what blocks have, with a warning.
    pub(crate) fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        watch: Watch<'_>,
    ) -> Result<Answer, StorageError> {
        let watch = &as_of_tsdb(watch);
        let answer = match self.readable() {
            Readable::Whole(db) => db.label_values_while(name, matchers, from, to, watch),
            Readable::Blocks(blocks) => blocks.label_values_while(name, matchers, from, to, watch),
        };
        answer.map_err(|e| StorageError(e.to_string()))
    }

    /// As [`Storage::select`]; what is found does not borrow the store.
    pub(crate) fn find(&self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection>, StorageError> {
        let (matchers, from, to) = (request.matchers, request.mint, request.maxt);
        let watch = &as_of_tsdb(request.watch);
        let selection = match self.readable() {
            Readable::Whole(db) => db.select_while(matchers, from, to, request.labels, watch),
            Readable::Blocks(blocks) => blocks.select_while(matchers, from, to, request.labels, watch),
        };
        let selection = selection.map_err(|e| StorageError(e.to_string()))?;
        Ok(Box::new(Selected(match request.wanted {
            Wanted::Presence => selection.presence_only(),
            Wanted::Labels | Wanted::Samples => selection,
        })))
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

    /// Whether the store still has this series; it then keeps it until the batch is stored.
    pub(crate) fn keep(&mut self, series: SeriesRef) -> bool {
        self.appender.keep(series)
    }

    /// One float sample.
    pub(crate) fn sample(&mut self, series: SeriesRef, time: Timestamp, value: f64) {
        if let Err(error) = self.appender.append(series, time, value) {
            self.refusals.note(&error);
        }
    }

    /// One float sample that counts since `start` (0 if that is unknown).
    pub(crate) fn sample_since(&mut self, series: SeriesRef, start: Timestamp, time: Timestamp, value: f64) {
        if let Err(error) = self.appender.append_with_start(series, start, time, value) {
            self.refusals.note(&error);
        }
    }

    /// A sample of value 0 at the time from which a series counts, if the series has nothing newer. That it has is usual and no
    /// refusal.
    pub(crate) fn zero(&mut self, series: SeriesRef, time: Timestamp) {
        if self.appender.is_newest(series, time) {
            let _ = self.appender.append(series, time, 0.0);
        }
    }

    /// The same with an empty histogram.
    pub(crate) fn empty_histogram(&mut self, series: SeriesRef, time: Timestamp, empty: HistogramSample) {
        if self.appender.is_newest(series, time) {
            let _ = self.appender.append_histogram(series, time, empty);
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
        self.histogram_since(series, 0, time, histogram);
    }

    /// One histogram sample that counts since `start` (0 if that is unknown).
    pub(crate) fn histogram_since(
        &mut self,
        series: SeriesRef,
        start: Timestamp,
        time: Timestamp,
        histogram: HistogramSample,
    ) {
        if let Err(error) = self.appender.append_histogram_with_start(series, start, time, histogram) {
            self.refusals.note(&error);
        }
    }

    /// An exemplar of a series. Those that are old news are passed over, as upstream does.
    pub(crate) fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        match self.appender.append_exemplar(series, exemplar) {
            Ok(()) => {}
            Err(AppendError::ExemplarOutOfOrder) => self.refusals.exemplars_out_of_order += 1,
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

/// A watch of a query as the database asks it.
fn as_of_tsdb(watch: Watch<'_>) -> impl Fn(tsdb::Progress) -> bool {
    move |progress| watch.go_on(Progress { series: progress.series, bytes: progress.bytes })
}

impl Storage for Store {
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError> {
        self.find(request)
    }

    fn may_have_label(&self, name: &str, mint: Timestamp, maxt: Timestamp) -> bool {
        match self.readable() {
            Readable::Whole(db) => db.may_have_label(name, mint, maxt),
            Readable::Blocks(blocks) => blocks.may_have_label(name, mint, maxt),
        }
    }
}

fn as_of_promql(series: tsdb::SeriesSamples) -> Samples {
    Samples { floats: series.floats, histograms: series.histograms }
}

struct Selected(tsdb::Selection);

impl Selection for Selected {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, range: Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels> {
        self.0.labels_of(range, kept)
    }

    fn each_label_set(&self, range: Range<usize>, each: &mut dyn FnMut(&LabelPairs<'_>)) {
        self.0.each_label_set(range, each);
    }

    fn read(&self, range: Range<usize>, mint: Timestamp, maxt: Timestamp) -> Result<Vec<Samples>, StorageError> {
        let samples = self.0.read(range, mint, maxt).map_err(|e| StorageError(e.to_string()))?;
        Ok(samples.into_iter().map(as_of_promql).collect())
    }

    fn read_each(
        &self,
        range: Range<usize>,
        mint: Timestamp,
        maxt: Timestamp,
        each: &mut dyn FnMut(Samples) -> bool,
    ) -> Result<(), StorageError> {
        let mut each = |series| each(as_of_promql(series));
        self.0.read_each(range, mint, maxt, &mut each).map_err(|e| StorageError(e.to_string()))
    }

    fn newest_at(
        &self,
        range: Range<usize>,
        at: NewestAt,
        each: &mut dyn FnMut(Lent<'_, Arc<FloatHistogram>>) -> bool,
    ) -> Result<(), StorageError> {
        self.0.newest_at(range, at, each).map_err(|e| StorageError(e.to_string()))
    }

    fn newest(
        &self,
        range: Range<usize>,
        mint: Timestamp,
        maxt: Timestamp,
    ) -> Result<Vec<Newest<Arc<FloatHistogram>>>, StorageError> {
        self.0.newest(range, mint, maxt).map_err(|e| StorageError(e.to_string()))
    }

    fn warnings(&self) -> &[String] {
        self.0.warnings()
    }
}

#[cfg(test)]
mod tests;
