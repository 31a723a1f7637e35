use std::sync::Arc;

use model::{Labels, Metadata, Timestamp};

use crate::engine::Engine;
use crate::error::{AppendError, CommitError};
use crate::head::{Entry, Groups, KnownLabels, Limits, RowOutcome, RowPlace, Scattered};
use crate::sample::{Exemplar, HistogramSample, SeriesRef};
use crate::wal::RecordBuilder;

/// A transaction: samples put together here become visible and durable with [`Appender::commit`], or never.
///
/// Ordering is checked when a sample is added, against what is committed, and again at the commit, against what others
/// have committed meanwhile and what this transaction has before it (its floats go before its histograms); what is refused
/// then is counted only.
pub struct Appender {
    pub(crate) db: Arc<Engine>,
    transaction: u64,
    /// Found with the first sample.
    limits: Option<Limits>,
    /// Of the series that was asked for last.
    known: KnownLabels,
    rows: Vec<Row>,
    /// Where rows lie, as far as that had to be found out: by the place of their first sample in the list of all.
    places: Vec<(usize, RowPlace)>,
    series: Vec<u32>,
    values: Vec<f64>,
    /// Start timestamps, as many as values, if there is any.
    starts: Vec<Timestamp>,
    histograms: Vec<(u32, Timestamp, Timestamp, HistogramSample)>,
    metadata: Vec<(u32, Metadata)>,
    exemplars: Vec<(u32, Labels, Exemplar)>,
}

/// Rows of so few samples that follow each other are taken for samples with times of their own.
const SHORT: usize = 4;

#[derive(Clone, Copy)]
struct Row {
    time: Timestamp,
    len: usize,
}

/// What became of a row's samples when they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowReport {
    /// Samples that were refused, by their index in the row; the others are part of the transaction.
    pub refused: Vec<(usize, AppendError)>,
}

/// What a commit wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Float samples taken, those out of order included.
    pub floats: usize,
    /// Histogram samples taken, those out of order included.
    pub histograms: usize,
    /// Of both, those out of order.
    pub out_of_order: usize,
    /// Samples refused at the commit.
    pub refused: usize,
    /// Exemplars taken.
    pub exemplars: usize,
}

impl Appender {
    pub(crate) fn new(db: Arc<Engine>) -> Self {
        let transaction = db.begin();
        Self {
            db,
            transaction,
            limits: None,
            known: KnownLabels::default(),
            rows: Vec::new(),
            places: Vec::new(),
            series: Vec::new(),
            values: Vec::new(),
            starts: Vec::new(),
            histograms: Vec::new(),
            metadata: Vec::new(),
            exemplars: Vec::new(),
        }
    }

    /// The series with these labels, which is created if there is none. It stays even if the transaction is dropped, but
    /// shows in no query before it has samples.
    ///
    /// # Errors
    /// [`AppendError::EmptyLabels`], [`AppendError::TooManySeries`].
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        if labels.is_empty() {
            return Err(AppendError::EmptyLabels);
        }
        self.db.series(labels, self.transaction, &mut self.known).map(|id| SeriesRef(u64::from(id)))
    }

    /// Whether a reference is still good. If so it stays good until the transaction ends.
    pub fn keep(&mut self, series: SeriesRef) -> bool {
        let Ok(id) = id_of(series) else { return false };
        let mut groups = self.db.groups.lock();
        let there = groups.contains(id);
        if there {
            groups.pin_if_idle(id, self.transaction);
        }
        there
    }

    /// Whether a sample of this time would be taken as the newest one of the series, in order. Asking counts as no refusal.
    pub fn is_newest(&mut self, series: SeriesRef, time: Timestamp) -> bool {
        let Ok(id) = id_of(series) else { return false };
        let groups = self.db.groups.lock();
        let limits = *self.limits.get_or_insert_with(|| self.db.enter(self.transaction, groups.bounds.limits(time)));
        groups.is_newest(id, time, limits)
    }

    /// The labels of a series; `None` if the reference is no longer good.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.db.labels(u32::try_from(series.0).ok()?)
    }

    /// Adds a float sample.
    ///
    /// # Errors
    /// By the rules of [`AppendError`]. A sample the series has already is no error and does nothing.
    pub fn append(&mut self, series: SeriesRef, time: Timestamp, value: f64) -> Result<(), AppendError> {
        self.append_with_start(series, 0, time, value)
    }

    /// Adds a float sample with the time from which it counts; 0 if that is unknown.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub fn append_with_start(
        &mut self,
        series: SeriesRef,
        start: Timestamp,
        time: Timestamp,
        value: f64,
    ) -> Result<(), AppendError> {
        let id = id_of(series)?;
        let mut error = None;
        self.check(time, &[id], &[value], |_, e| error = Some(e));
        if let Some(error) = error {
            return Err(error);
        }
        if start != 0 && self.starts.is_empty() {
            self.starts.resize(self.values.len(), 0);
        }
        if start != 0 || !self.starts.is_empty() {
            self.starts.push(start);
        }
        self.series.push(id);
        self.values.push(value);
        match self.rows.last_mut() {
            Some(row) if row.time == time => row.len += 1,
            _ => self.rows.push(Row { time, len: 1 }),
        }
        Ok(())
    }

    /// Adds a sample of one timestamp to each of some series, which is cheapest when they are the same in the same order
    /// as the time before: the series of one scrape.
    pub fn append_row(&mut self, time: Timestamp, series: &[SeriesRef], values: &[f64]) -> RowReport {
        debug_assert_eq!(series.len(), values.len(), "a value for each series");
        let len = series.len().min(values.len());
        let (series, values) = (&series[..len], &values[..len]);
        let mut report = RowReport::default();
        let from = self.series.len();
        self.series.extend(series.iter().map(|s| u32::try_from(s.0).unwrap_or(0)));
        let ids = std::mem::take(&mut self.series);
        let place = self.check(time, &ids[from..], values, |at, error| {
            let error = match error {
                AppendError::UnknownSeries(_) => AppendError::UnknownSeries(series[at]),
                other => other,
            };
            report.refused.push((at, error));
        });
        self.series = ids;
        if report.refused.is_empty() {
            self.values.extend_from_slice(values);
        } else {
            let mut refused = report.refused.iter().map(|r| r.0).peekable();
            self.series.truncate(from);
            for (at, (id, value)) in series.iter().zip(values).enumerate() {
                if refused.next_if_eq(&at).is_none() {
                    self.series.push(id.0 as u32);
                    self.values.push(*value);
                }
            }
        }
        if !self.starts.is_empty() {
            self.starts.resize(self.values.len(), 0);
        }
        let len = self.series.len() - from;
        if len > 0 {
            self.rows.push(Row { time, len });
            self.places.extend(place.map(|place| (from, place)));
        }
        report
    }

    /// Adds a native histogram.
    ///
    /// # Errors
    /// By the rules of [`AppendError`].
    pub fn append_histogram(
        &mut self,
        series: SeriesRef,
        time: Timestamp,
        sample: HistogramSample,
    ) -> Result<(), AppendError> {
        self.append_histogram_with_start(series, 0, time, sample)
    }

    /// Adds a native histogram with the time from which it counts; 0 if that is unknown.
    ///
    /// # Errors
    /// By the rules of [`AppendError`].
    pub fn append_histogram_with_start(
        &mut self,
        series: SeriesRef,
        start: Timestamp,
        time: Timestamp,
        sample: HistogramSample,
    ) -> Result<(), AppendError> {
        let id = id_of(series)?;
        if !sample.is_stale() {
            sample.check().map_err(AppendError::InvalidHistogram)?;
        }
        let mut groups = self.db.groups.lock();
        let limits = *self.limits.get_or_insert_with(|| self.db.enter(self.transaction, groups.bounds.limits(time)));
        let checked = groups.check_histogram(id, time, &sample, limits, self.transaction);
        drop(groups);
        if let Err(error) = checked {
            self.db.count_refused(&error);
            return Err(error);
        }
        self.histograms.push((id, time, start, sample));
        Ok(())
    }

    /// Adds an exemplar of a series.
    ///
    /// # Errors
    /// [`AppendError::UnknownSeries`], [`AppendError::ExemplarOutOfOrder`], [`AppendError::ExemplarTooLong`].
    pub fn append_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> Result<(), AppendError> {
        let id = id_of(series)?;
        let labels = self.db.labels(id).ok_or(AppendError::UnknownSeries(series))?;
        match self.db.exemplars.lock().check(&labels, &exemplar) {
            Ok(true) => self.exemplars.push((id, labels, exemplar)),
            Ok(false) => {}
            Err(error) => {
                self.db.count_refused(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes what the series' metric is.
    ///
    /// # Errors
    /// [`AppendError::UnknownSeries`].
    pub fn set_metadata(&mut self, series: SeriesRef, metadata: Metadata) -> Result<(), AppendError> {
        let id = id_of(series)?;
        if !self.db.groups.lock().contains(id) {
            return Err(AppendError::UnknownSeries(series));
        }
        if self.db.metadata.lock().get(&id) != Some(&metadata) {
            self.metadata.push((id, metadata));
        }
        Ok(())
    }

    /// Number of samples added so far.
    pub fn len(&self) -> usize {
        self.values.len() + self.histograms.len()
    }

    /// Whether no sample has been added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(
        &mut self,
        time: Timestamp,
        ids: &[u32],
        values: &[f64],
        mut refuse: impl FnMut(usize, AppendError),
    ) -> Option<RowPlace> {
        let db = &self.db;
        let mut groups = db.groups.lock();
        let limits = *self.limits.get_or_insert_with(|| db.enter(self.transaction, groups.bounds.limits(time)));
        groups.check_row(time, ids, values, limits, self.transaction, |at, error| {
            db.count_refused(&error);
            refuse(at, error);
        })
    }

    /// Writes the transaction to the log and makes it visible, as a whole.
    ///
    /// # Errors
    /// When the log cannot be written; then nothing of the transaction is visible. Where each commit is fsynced, also when that
    /// fails: then the transaction is visible, and a loss of power may still take it.
    pub fn commit(mut self) -> Result<CommitReport, CommitError> {
        let mut record = RecordBuilder::default();
        for part in self.parts() {
            match part {
                Part::Row { time, series, values, starts, .. } => record.row(time, series, values, starts),
                Part::Scattered { times, series, values, starts } => record.samples(&times, series, values, starts),
            }
        }
        record.histograms(&self.histograms, false);
        record.metadata(self.metadata.iter().map(|(id, m)| (*id, m)));
        let exemplars: Vec<(u32, Exemplar)> = self.exemplars.iter().map(|(id, _, e)| (*id, e.clone())).collect();
        record.exemplars(&exemplars);
        if record.is_empty() {
            return Ok(CommitReport::default());
        }

        self.db.post_series();
        let mut report = CommitReport::default();
        let limits = self.limits.unwrap_or(Limits::REPLAY);
        let db = Arc::clone(&self.db);
        let mut wal = db.wal.lock();
        let fresh = self.take_unlogged(&mut db.groups.lock());
        if !fresh.is_empty() {
            let mut names = RecordBuilder::default();
            names.series(fresh.iter().map(|(id, labels)| (*id, labels)));
            record.put_first(&names);
        }
        if let Err(error) = db.log(&mut wal, &record) {
            db.groups.lock().unlogged.extend(fresh);
            return Err(error);
        }
        let mut groups = db.groups.lock();
        drop(wal);
        groups.forget_unlogged();
        groups.pins.forget(|| db.oldest_transaction());
        let mut floats = RowOutcome::default();
        let mut places = std::mem::take(&mut self.places).into_iter().peekable();
        for part in self.parts() {
            let outcome = match part {
                Part::Row { from, time, series, values, starts } => {
                    // short rows have gone together
                    while places.next_if(|(row, _)| *row < from).is_some() {}
                    let place = places.next_if(|(row, _)| *row == from).map(|(_, place)| place);
                    groups.push_row(time, series, values, starts, limits, place)
                }
                Part::Scattered { times, series, values, starts } => {
                    groups.push_scattered(Scattered { times: &times, series, values, starts }, limits)
                }
            };
            floats.in_order += outcome.in_order;
            floats.out_of_order += outcome.out_of_order;
            report.refused += outcome.refused;
        }
        let mut histograms = RowOutcome::default();
        for (id, time, start, sample) in std::mem::take(&mut self.histograms) {
            let outcome = groups.push_histogram(id, Entry { time, start, sample, late: false }, limits);
            histograms.in_order += outcome.in_order;
            histograms.out_of_order += outcome.out_of_order;
            report.refused += outcome.refused;
        }
        // all of it before anybody else looks: an image that is written in between has the whole record behind it
        for (id, metadata) in std::mem::take(&mut self.metadata) {
            db.metadata.lock().insert(id, metadata);
        }
        if !self.exemplars.is_empty() {
            let mut store = db.exemplars.lock();
            for (_, labels, exemplar) in std::mem::take(&mut self.exemplars) {
                report.exemplars += usize::from(store.push(&labels, exemplar));
            }
        }
        drop(groups);
        db.followers.wake();
        report.floats = floats.in_order + floats.out_of_order;
        report.histograms = histograms.in_order + histograms.out_of_order;
        report.out_of_order = floats.out_of_order + histograms.out_of_order;
        let counters = &db.counters;
        counters.commits.add(1);
        counters.floats_appended.add(report.floats as u64);
        counters.histograms_appended.add(report.histograms as u64);
        counters.out_of_order_floats_appended.add(floats.out_of_order as u64);
        counters.out_of_order_histograms_appended.add(histograms.out_of_order as u64);
        counters.out_of_order_refused.add(report.refused as u64);
        counters.exemplars_appended.add(report.exemplars as u64);
        if db.options.wal_fsync_interval.is_zero() {
            db.sync_wal()?;
        }
        Ok(report)
    }

    /// The series of this transaction that no record names yet.
    fn take_unlogged(&self, groups: &mut Groups) -> Vec<(u32, Labels)> {
        if groups.unlogged.is_empty() {
            return Vec::new();
        }
        // series that are logged are mostly older than all that are not: of them nothing is looked up
        let oldest = groups.unlogged.keys().min().copied().unwrap_or(0);
        let others = self.histograms.iter().map(|h| h.0).chain(self.metadata.iter().map(|m| m.0));
        let ids = self.series.iter().copied().chain(others).chain(self.exemplars.iter().map(|e| e.0));
        ids.filter(|id| *id >= oldest).filter_map(|id| Some((id, groups.unlogged.remove(&id)?))).collect()
    }

    /// The float samples as they are written and taken: neighbours of which each has a time of its own together, others row by row.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut from = 0;
        let alike = |a: &Row, b: &Row| a.len.max(b.len) <= SHORT;
        self.rows.chunk_by(alike).map(move |rows| {
            let len = rows.iter().map(|row| row.len).sum::<usize>();
            let range = from..from + len;
            from = range.end;
            let starts = self.starts.get(range.clone()).filter(|s| s.iter().any(|t| *t != 0));
            let (series, values) = (&self.series[range.clone()], &self.values[range.clone()]);
            match rows {
                [Row { time, .. }] => Part::Row { from: range.start, time: *time, series, values, starts },
                _ => {
                    let mut times = Vec::with_capacity(len);
                    rows.iter().for_each(|row| times.extend(std::iter::repeat_n(row.time, row.len)));
                    Part::Scattered { times, series, values, starts }
                }
            }
        })
    }
}

/// Float samples of a transaction that go together.
enum Part<'a> {
    Row {
        /// Its first sample in the list of all.
        from: usize,
        time: Timestamp,
        series: &'a [u32],
        values: &'a [f64],
        starts: Option<&'a [Timestamp]>,
    },
    Scattered {
        times: Vec<Timestamp>,
        series: &'a [u32],
        values: &'a [f64],
        starts: Option<&'a [Timestamp]>,
    },
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.db.end(self.transaction);
    }
}

fn id_of(series: SeriesRef) -> Result<u32, AppendError> {
    u32::try_from(series.0).map_err(|_| AppendError::UnknownSeries(series))
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use crate::{Db, Options};

    #[test]
    fn series_are_pinned_as_long_as_a_transaction_may_need_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options { background: false, ..Options::default() }).unwrap();
        let append = |names: std::ops::Range<u32>, time| {
            let mut appender = db.appender();
            for name in names {
                let series = appender.series(&Labels::from_pairs([("__name__", &*format!("m{name}"))])).unwrap();
                appender.append(series, time, 1.0).unwrap();
            }
            appender
        };
        let engine = std::sync::Arc::clone(&db.appender().db);
        let pinned = || engine.groups.lock().pins.len();
        let open = append(0..1, 0);
        append(1..1000, 0).commit().unwrap();
        append(1000..1001, 0).commit().unwrap();
        assert_eq!(pinned(), 1001, "one of them is open");
        open.commit().unwrap();
        // those that have samples now are not pinned again
        append(0..1, 1000).commit().unwrap();
        assert_eq!(pinned(), 0);
        drop(append(1001..1002, 1000));
        assert_eq!(pinned(), 1);
        append(0..1, 2000).commit().unwrap();
        assert_eq!(pinned(), 0);
    }
}
