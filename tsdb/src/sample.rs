use std::sync::Arc;

use model::{Column, FloatHistogram, Histogram, Labels, Timestamp};

/// A cheap handle of a series in the head, to be kept across scrapes. It stays valid until the series has had no samples
/// in the head for a while; then appending to it fails with [`crate::AppendError::UnknownSeries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

/// A native histogram as it was sent.
#[derive(Clone, Debug)]
pub enum HistogramSample {
    /// Integer counts.
    Integer(Arc<Histogram>),
    /// Float counts.
    Float(Arc<FloatHistogram>),
}

impl HistogramSample {
    /// The form PromQL computes with.
    pub fn to_float(&self) -> Arc<FloatHistogram> {
        match self {
            Self::Integer(h) => Arc::new(h.to_float()),
            Self::Float(h) => Arc::clone(h),
        }
    }

    /// Whether it is a staleness marker.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Integer(h) => h.is_stale(),
            Self::Float(h) => h.is_stale(),
        }
    }

    /// Whether both would be stored as the same bytes (a NaN equals itself).
    pub(crate) fn same(&self, other: &Self) -> bool {
        let mut bytes = (Vec::new(), Vec::new());
        crate::encoding::histogram::encode(std::iter::once(self), &mut bytes.0);
        crate::encoding::histogram::encode(std::iter::once(other), &mut bytes.1);
        bytes.0 == bytes.1
    }

    /// What contradicts itself in the histogram, by upstream's rules.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Integer(h) => {
                check_spans(&h.positive_spans, h.positive_buckets.len())?;
                check_spans(&h.negative_spans, h.negative_buckets.len())?;
                let mut buckets = 0u64;
                for side in [&h.positive_buckets, &h.negative_buckets] {
                    let mut count = 0i64;
                    for delta in side {
                        count = count.checked_add(*delta).ok_or("bucket count overflows")?;
                        buckets += u64::try_from(count).map_err(|_| "negative bucket count")?;
                    }
                }
                let total = buckets.saturating_add(h.zero_count);
                match h.sum.is_nan() {
                    // observations of NaN are in the count and in no bucket
                    true if total > h.count => Err("more observations in buckets than counted"),
                    false if total != h.count => Err("observations in buckets differ from the count"),
                    _ => Ok(()),
                }
            }
            Self::Float(h) => {
                check_spans(&h.positive_spans, h.positive_buckets.len())?;
                check_spans(&h.negative_spans, h.negative_buckets.len())?;
                let negative = |count: &f64| *count < 0.0;
                if h.positive_buckets.iter().chain(&h.negative_buckets).any(negative) || h.zero_count < 0.0 {
                    return Err("negative bucket count");
                }
                if h.count < 0.0 { Err("negative count") } else { Ok(()) }
            }
        }
    }
}

fn check_spans(spans: &[model::Span], buckets: usize) -> Result<(), &'static str> {
    if spans.iter().skip(1).any(|s| s.offset < 0) {
        return Err("span with negative offset");
    }
    let covered: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    if covered == buckets as u64 { Ok(()) } else { Err("spans and buckets differ in number") }
}

/// The samples of one series in a time range. A timestamp has a float or a histogram, never both.
#[derive(Clone, Debug, Default)]
pub struct SeriesSamples<H = Arc<FloatHistogram>> {
    /// Float samples, staleness markers included.
    pub floats: Column<f64>,
    /// Histogram samples, staleness markers included.
    pub histograms: Column<H>,
}

/// Samples with histograms in the form they were sent.
pub type RawSamples = SeriesSamples<HistogramSample>;

/// A trace of one observation that went into a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Labels such as `trace_id`; at most 128 characters together.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub timestamp: Timestamp,
}
