//! Times from which samples count, as far as pages tell them ("created" and "start" timestamps): zero samples for them, and
//! their storage.

use std::collections::HashMap;
use std::sync::Arc;

use common::metrics::NativeHistogram;
use model::{CounterResetHint, FloatHistogram, Histogram, Timestamp};
use tsdb::{HistogramSample, SeriesRef};

use crate::storage::Batch;

/// What is done with the times from which samples count. Nothing unless features ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartTimes {
    /// A sample of value 0 is stored at such a time, if the series has nothing newer (`created-timestamp-zero-ingestion`).
    pub zero_samples: bool,
    /// Samples are stored with it (`st-storage`).
    pub stored: bool,
}

impl StartTimes {
    /// Whether pages are asked for these times at all.
    pub fn wanted(self) -> bool {
        self.zero_samples || self.stored
    }
}

/// The zeros of a target's series that have been dealt with, so that each is tried once and not at every scrape.
#[derive(Debug, Default)]
pub(super) struct ZeroSamples {
    begun: HashMap<SeriesRef, Timestamp>,
}

impl ZeroSamples {
    /// Zeros for one page.
    pub(super) fn of_page(&self, options: StartTimes) -> PageZeros<'_> {
        PageZeros { options, known: self, tried: Vec::new() }
    }

    /// The page has been stored.
    pub(super) fn stored(&mut self, tried: Vec<(SeriesRef, Timestamp)>, series_of_page: usize) {
        self.begun.extend(tried);
        // series that have gone leave their entries behind; trying again does no harm
        if self.begun.len() > 2 * series_of_page + 1000 {
            *self = Self::default();
        }
    }
}

/// Start times of one page.
#[derive(Debug)]
pub(super) struct PageZeros<'a> {
    options: StartTimes,
    known: &'a ZeroSamples,
    tried: Vec<(SeriesRef, Timestamp)>,
}

impl PageZeros<'_> {
    /// What has been tried.
    pub(super) fn tried(self) -> Vec<(SeriesRef, Timestamp)> {
        self.tried
    }

    /// The start time to store with a sample; 0 for none.
    pub(super) fn start(&self, created: Option<Timestamp>) -> Timestamp {
        if self.options.stored { created.unwrap_or(0) } else { 0 }
    }

    /// A zero for a float sample at `time`.
    pub(super) fn float(&mut self, batch: &mut Batch, series: SeriesRef, created: Option<Timestamp>, time: Timestamp) {
        if let Some(created) = self.due(series, created, time) {
            batch.zero(series, created);
        }
    }

    /// An empty histogram for one at `time`.
    pub(super) fn histogram(
        &mut self,
        batch: &mut Batch,
        series: SeriesRef,
        created: Option<Timestamp>,
        time: Timestamp,
        sample: &NativeHistogram,
    ) {
        if let Some(created) = self.due(series, created, time) {
            batch.empty_histogram(series, created, empty(sample));
        }
    }

    fn due(&mut self, series: SeriesRef, created: Option<Timestamp>, time: Timestamp) -> Option<Timestamp> {
        let created = created.filter(|c| self.options.zero_samples && *c != 0 && *c < time)?;
        if self.known.begun.get(&series) == Some(&created) {
            return None;
        }
        self.tried.push((series, created));
        Some(created)
    }
}

/// A histogram without observations that otherwise looks like this one.
fn empty(like: &NativeHistogram) -> HistogramSample {
    let counter_reset_hint = CounterResetHint::Reset;
    match like {
        NativeHistogram::Integer(h) => HistogramSample::Integer(Arc::new(Histogram {
            counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..Histogram::default()
        })),
        NativeHistogram::Float(h) => HistogramSample::Float(Arc::new(FloatHistogram {
            counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..FloatHistogram::default()
        })),
    }
}
