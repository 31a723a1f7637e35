use model::{CounterResetHint, FloatHistogram, Histogram, Span};
use prost::Message;

use crate::write_request::{Label, Sample, TimeSeries, WireHistogram, WireSpan, WriteRequest};
use crate::{Answer, post};

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
        .map(|s| TimeSeries {
            labels: s.labels.iter().map(label).collect(),
            samples: s.samples.iter().map(sample).collect(),
            histograms: s.histograms.iter().map(|(timestamp, h)| wire_histogram(*timestamp, h)).collect(),
        })
        .collect();
    let body = snap::raw::Encoder::new().compress_vec(&WriteRequest { timeseries }.encode_to_vec()).expect("snappy");
    let headers = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    post(&format!("{base}/api/v1/write"), &headers, &body)
}
