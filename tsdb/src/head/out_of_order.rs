use std::sync::Arc;

use hashbrown::HashMap;
use model::Timestamp;

use crate::HistogramSample;

/// Samples that came later than newer ones of their series, in time order, until they are written to blocks.
#[derive(Default)]
pub(crate) struct OutOfOrder {
    series: HashMap<u32, Arc<OutOfOrderSeries>>,
    pub(crate) min_time: Option<Timestamp>,
    pub(crate) max_time: Option<Timestamp>,
}

/// The out-of-order samples of one series.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutOfOrderSeries {
    pub(crate) floats: Vec<(Timestamp, f64)>,
    pub(crate) histograms: Vec<(Timestamp, HistogramSample)>,
}

impl OutOfOrder {
    pub(crate) fn get(&self, series: u32) -> Option<&Arc<OutOfOrderSeries>> {
        self.series.get(&series)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(crate) fn contains(&self, series: u32) -> bool {
        self.series.contains_key(&series)
    }

    /// Whether a series has a sample at this time.
    pub(crate) fn has(&self, series: u32, time: Timestamp) -> bool {
        !self.series.is_empty()
            && self
                .series
                .get(&series)
                .is_some_and(|s| s.floats.binary_search_by_key(&time, |f| f.0).is_ok() || s.has_histogram(time))
    }

    /// Takes a float; the first one at a timestamp stays. Returns whether it was taken.
    pub(crate) fn push_float(&mut self, series: u32, time: Timestamp, value: f64) -> bool {
        let column = Arc::make_mut(self.series.entry(series).or_default());
        let taken = !column.has_histogram(time) && insert(&mut column.floats, time, value);
        self.cover(time);
        taken
    }

    /// The same for a histogram.
    pub(crate) fn push_histogram(&mut self, series: u32, time: Timestamp, sample: HistogramSample) -> bool {
        let column = Arc::make_mut(self.series.entry(series).or_default());
        let taken =
            column.floats.binary_search_by_key(&time, |s| s.0).is_err() && insert(&mut column.histograms, time, sample);
        self.cover(time);
        taken
    }

    fn cover(&mut self, time: Timestamp) {
        self.min_time = Some(self.min_time.map_or(time, |t| t.min(time)));
        self.max_time = Some(self.max_time.map_or(time, |t| t.max(time)));
    }

    /// Forgets samples before `time`: they are in blocks now.
    pub(crate) fn truncate(&mut self, time: Timestamp) {
        self.series.retain(|_, column| {
            let column = Arc::make_mut(column);
            column.floats.drain(..column.floats.partition_point(|s| s.0 < time));
            column.histograms.drain(..column.histograms.partition_point(|s| s.0 < time));
            !column.floats.is_empty() || !column.histograms.is_empty()
        });
        self.min_time = self.series.values().filter_map(|s| s.min_time()).min();
        if self.min_time.is_none() {
            self.max_time = None;
            self.series.shrink_to_fit();
        }
    }

    /// Forgets the samples in `min_time..max_time` that `written` has: they are in a block now. Others may have come since.
    pub(crate) fn remove(
        &mut self,
        written: &[(u32, Arc<OutOfOrderSeries>)],
        min_time: Timestamp,
        max_time: Timestamp,
    ) {
        let inside = |time: Timestamp| (min_time..max_time).contains(&time);
        for (series, old) in written {
            let Some(column) = self.series.get_mut(series) else { continue };
            let column = Arc::make_mut(column);
            let known = |time: &Timestamp| {
                old.floats.binary_search_by_key(time, |s| s.0).is_ok()
                    || old.histograms.binary_search_by_key(time, |s| s.0).is_ok()
            };
            column.floats.retain(|s| !(inside(s.0) && known(&s.0)));
            column.histograms.retain(|s| !(inside(s.0) && known(&s.0)));
            if column.floats.is_empty() && column.histograms.is_empty() {
                self.series.remove(series);
            }
        }
        self.min_time = self.series.values().filter_map(|s| s.min_time()).min();
        if self.min_time.is_none() {
            self.max_time = None;
            self.series.shrink_to_fit();
        }
    }

    /// The samples before `time`: floats by time and series, then histograms.
    #[expect(clippy::type_complexity, reason = "as a record of the log takes them")]
    pub(crate) fn before(
        &self,
        time: Timestamp,
    ) -> (Vec<(Timestamp, u32, f64)>, Vec<(u32, Timestamp, Timestamp, HistogramSample)>) {
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for (series, column) in &self.series {
            floats.extend(column.floats.iter().take_while(|s| s.0 < time).map(|s| (s.0, *series, s.1)));
            let late = column.histograms.iter().take_while(|s| s.0 < time);
            histograms.extend(late.map(|s| (*series, s.0, 0, s.1.clone())));
        }
        floats.sort_unstable_by_key(|s| (s.0, s.1));
        histograms.sort_unstable_by_key(|s| (s.0, s.1));
        (floats, histograms)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.series.allocation_size()
            + self.series.values().map(|s| s.floats.capacity() * 16 + s.histograms.capacity() * 400).sum::<usize>()
    }
}

impl OutOfOrderSeries {
    fn has_histogram(&self, time: Timestamp) -> bool {
        self.histograms.binary_search_by_key(&time, |s| s.0).is_ok()
    }

    pub(crate) fn min_time(&self) -> Option<Timestamp> {
        let first = (self.floats.first().map(|s| s.0), self.histograms.first().map(|s| s.0));
        first.0.into_iter().chain(first.1).min()
    }

    pub(crate) fn max_time(&self) -> Option<Timestamp> {
        let last = (self.floats.last().map(|s| s.0), self.histograms.last().map(|s| s.0));
        last.0.into_iter().chain(last.1).max()
    }
}

fn insert<V>(column: &mut Vec<(Timestamp, V)>, time: Timestamp, value: V) -> bool {
    match column.binary_search_by_key(&time, |s| s.0) {
        Ok(_) => false,
        Err(at) => {
            column.insert(at, (time, value));
            true
        }
    }
}
