use model::{CounterResetHint, FloatHistogram, Histogram, Span};
use prost::Message;

use crate::{Answer, post};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<WireSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<WireHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct WireSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct WireHistogram {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<WireSpan>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<WireSpan>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

/// A native histogram to be sent.
#[derive(Clone, Debug, PartialEq)]
pub enum NativeHistogram {
    /// Integer counts.
    Integer(Histogram),
    /// Float counts.
    Float(FloatHistogram),
}

/// A series to be sent: labels sorted by name, samples as (milliseconds, value).
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// Times and values.
    pub samples: Vec<(i64, f64)>,
    /// Times and native histograms.
    pub histograms: Vec<(i64, NativeHistogram)>,
}

fn wire_hint(hint: CounterResetHint) -> i32 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn wire_spans(spans: &[Span]) -> Vec<WireSpan> {
    spans.iter().map(|s| WireSpan { offset: s.offset, length: s.length }).collect()
}

fn wire_histogram(timestamp: i64, histogram: &NativeHistogram) -> WireHistogram {
    match histogram {
        NativeHistogram::Integer(h) => WireHistogram {
            count_int: Some(h.count),
            sum: h.sum,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count_int: Some(h.zero_count),
            negative_spans: wire_spans(&h.negative_spans),
            negative_deltas: h.negative_buckets.clone(),
            positive_spans: wire_spans(&h.positive_spans),
            positive_deltas: h.positive_buckets.clone(),
            reset_hint: wire_hint(h.counter_reset_hint),
            timestamp,
            custom_values: h.custom_values.as_deref().unwrap_or_default().to_vec(),
            ..WireHistogram::default()
        },
        NativeHistogram::Float(h) => WireHistogram {
            count_float: Some(h.count),
            sum: h.sum,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count_float: Some(h.zero_count),
            negative_spans: wire_spans(&h.negative_spans),
            negative_counts: h.negative_buckets.clone(),
            positive_spans: wire_spans(&h.positive_spans),
            positive_counts: h.positive_buckets.clone(),
            reset_hint: wire_hint(h.counter_reset_hint),
            timestamp,
            custom_values: h.custom_values.as_deref().unwrap_or_default().to_vec(),
            ..WireHistogram::default()
        },
    }
}

/// Sends series by remote write 1.0.
///
/// # Panics
/// When the server does not answer.
pub fn send(base: &str, series: &[Series]) -> Answer {
    let label = |(name, value): &(String, String)| Label { name: name.clone(), value: value.clone() };
    let sample = |(timestamp, value): &(i64, f64)| Sample { value: *value, timestamp: *timestamp };
    let timeseries = series
        .iter()
        .map(|s| WireSeries {
            labels: s.labels.iter().map(label).collect(),
            samples: s.samples.iter().map(sample).collect(),
            histograms: s.histograms.iter().map(|(timestamp, h)| wire_histogram(*timestamp, h)).collect(),
        })
        .collect();
    let body = snap::raw::Encoder::new().compress_vec(&Request { timeseries }.encode_to_vec()).expect("snappy");
    let headers = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    post(&format!("{base}/api/v1/write"), &headers, &body)
}
