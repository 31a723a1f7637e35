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

/// A series to be sent: labels sorted by name, samples as (milliseconds, value).
#[derive(Clone, Debug)]
pub struct Series {
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// Times and values.
    pub samples: Vec<(i64, f64)>,
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
