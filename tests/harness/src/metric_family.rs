//! Pages in protobuf.

use prost::Message;

/// The wire form of metric families that Prometheus' client libraries send: `io.prometheus.client.MetricFamily`.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct MetricFamily {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub help: String,
    /// 0 counter, 1 gauge, 2 summary, 3 untyped, 4 histogram, 5 gauge histogram.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    #[prost(message, repeated, tag = "4")]
    pub metrics: Vec<Metric>,
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// One metric of a family.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Value>,
    #[prost(message, optional, tag = "4")]
    pub summary: Option<SummaryValue>,
    #[prost(message, optional, tag = "5")]
    pub untyped: Option<Value>,
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<HistogramValue>,
    #[prost(int64, tag = "6")]
    pub timestamp_ms: i64,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct LabelPair {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A value of a gauge, counter or untyped metric.
#[derive(Clone, Copy, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct Value {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(message, optional, tag = "3")]
    pub created: Option<Moment>,
}

impl Value {
    /// A value that tells nothing more.
    pub fn of(value: f64) -> Self {
        Self { value, created: None }
    }
}

/// A time: `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct Moment {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Moment {
    /// Milliseconds since 1970.
    pub fn at_millis(millis: i64) -> Self {
        Self { seconds: millis.div_euclid(1000), nanos: millis.rem_euclid(1000) as i32 * 1_000_000 }
    }
}

/// A summary.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct SummaryValue {
    #[prost(uint64, tag = "1")]
    pub count: u64,
    #[prost(double, tag = "2")]
    pub sum: f64,
    #[prost(message, repeated, tag = "3")]
    pub quantiles: Vec<Quantile>,
    #[prost(message, optional, tag = "4")]
    pub created: Option<Moment>,
}

/// A quantile of a summary.
#[derive(Clone, Copy, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct Quantile {
    #[prost(double, tag = "1")]
    pub quantile: f64,
    #[prost(double, tag = "2")]
    pub value: f64,
}

/// A histogram: classic buckets, native ones, or both.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct HistogramValue {
    #[prost(uint64, tag = "1")]
    pub count: u64,
    #[prost(double, tag = "2")]
    pub sum: f64,
    #[prost(message, repeated, tag = "3")]
    pub buckets: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    pub schema: i32,
    #[prost(double, tag = "6")]
    pub zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    pub zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    pub positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    pub positive_deltas: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    pub created: Option<Moment>,
}

/// A classic bucket.
#[derive(Clone, Copy, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct Bucket {
    #[prost(uint64, tag = "1")]
    pub cumulative_count: u64,
    #[prost(double, tag = "2")]
    pub upper_bound: f64,
}

/// Native buckets that follow each other.
#[derive(Clone, Copy, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

impl MetricFamily {
    /// The media type of pages of families.
    pub const MEDIA_TYPE: &str =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

    /// A page: each family behind its length.
    pub fn page(families: &[Self]) -> Vec<u8> {
        families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
    }
}
