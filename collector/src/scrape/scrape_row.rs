use model::{STALE_NAN, Timestamp};
use tsdb::SeriesRef;

use crate::storage::Batch;

/// The samples that a scrape has at its own time: of the page, of series that have ended, and about the scrape itself. They are stored
/// as one row, since what is stored together is checked together.
#[derive(Debug, Default)]
pub(super) struct ScrapeRow {
    series: Vec<SeriesRef>,
    values: Vec<f64>,
}

impl ScrapeRow {
    /// With room for so many samples, and for those that come with them.
    pub(super) fn with_capacity(samples: usize) -> Self {
        let samples = samples + samples / 16 + 16;
        Self { series: Vec::with_capacity(samples), values: Vec::with_capacity(samples) }
    }

    #[inline]
    pub(super) fn push(&mut self, series: SeriesRef, value: f64) {
        self.series.push(series);
        self.values.push(value);
    }

    /// Marks series as ended.
    pub(super) fn end(&mut self, series: impl IntoIterator<Item = SeriesRef>) {
        self.series.extend(series);
        self.values.resize(self.series.len(), STALE_NAN);
    }

    pub(super) fn store(self, batch: &mut Batch, time: Timestamp) {
        batch.row(time, &self.series, &self.values);
    }
}
