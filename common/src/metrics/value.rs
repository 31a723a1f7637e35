use model::{FloatHistogram, Histogram, Timestamp};

/// What a sample holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number: counters, gauges, infos, states, untyped samples.
    Float(f64),
    /// A classic histogram, a native one, or both.
    Histogram(&'a HistogramValue),
    /// Quantiles, count and sum.
    Summary(&'a SummaryValue),
}

/// A trace or request a measurement can be followed to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar {
    /// Its own labels, such as `trace_id`.
    pub labels: Vec<(String, String)>,
    /// The measured value.
    pub value: f64,
    /// When it was measured.
    pub timestamp: Option<Timestamp>,
}

/// A bucket of a classic histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassicBucket {
    /// Inclusive upper bound (`le`). The infinite bucket may be left out: encoders add it with the histogram's count.
    pub upper_bound: f64,
    /// Observations up to the bound.
    pub cumulative_count: u64,
    /// An observation of this bucket.
    pub exemplar: Option<Exemplar>,
}

/// The buckets of a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum NativeHistogram {
    /// Integer counts.
    Integer(Histogram),
    /// Float counts.
    Float(FloatHistogram),
}

/// A histogram sample. Text formats show the classic buckets only, protobuf both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramValue {
    /// Classic buckets in rising order of bounds.
    pub buckets: Vec<ClassicBucket>,
    /// All observations.
    pub count: u64,
    /// Sum of the observations.
    pub sum: f64,
    /// When counting began.
    pub created: Option<Timestamp>,
    /// The native buckets.
    pub native: Option<NativeHistogram>,
    /// Exemplars of the native histogram.
    pub exemplars: Vec<Exemplar>,
}

/// One quantile of a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantile {
    /// The quantile, 0 to 1.
    pub quantile: f64,
    /// Its value.
    pub value: f64,
}

/// A summary sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SummaryValue {
    /// Quantiles in rising order.
    pub quantiles: Vec<Quantile>,
    /// All observations.
    pub count: u64,
    /// Sum of the observations.
    pub sum: f64,
    /// When counting began.
    pub created: Option<Timestamp>,
}
