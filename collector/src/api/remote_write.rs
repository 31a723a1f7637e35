//! The remote-write 1.0 receiver: `/api/v1/write`.

mod histogram;

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use common::http::text_response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use model::{Labels, LabelsBuilder, NameValidation, is_valid_label_name, is_valid_metric_name};
use prost::Message;

use super::Server;
pub use histogram::{BucketSpan, WireHistogram};

/// A request larger than this after decompression is refused.
const MAX_DECODED: usize = 128 << 20;

/// `prometheus.WriteRequest`, as far as this receiver reads it.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// The series with their samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// `prometheus.TimeSeries`
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Labels, the metric name included.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Float samples.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Native histograms.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<WireHistogram>,
}

/// `prometheus.Label`
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `prometheus.Sample`
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// Value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since the epoch.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    text_response(status, format!("{}\n", message.into()))
}

/// Stores what a remote writer sends. 204 means that it is in the log; 400 that some of it never will be.
pub(super) async fn write(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    if !server.options.enable_remote_write_receiver {
        let message = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return refuse(StatusCode::NOT_FOUND, message);
    }
    if let Err(refusal) = check_headers(&headers) {
        return *refusal;
    }
    if let Err(error) = server.store.db() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    }
    let request = match decode(&body) {
        Ok(request) => request,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    let work = tokio::task::spawn_blocking(move || store(&server, &request));
    match work.await {
        Ok(Ok(None)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Ok(Some(fault))) => refuse(StatusCode::BAD_REQUEST, fault),
        Ok(Err(fault)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, fault),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the write panicked"),
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), Box<Response>> {
    let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok()).unwrap_or_default();
    let content_type = text(CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let unsupported = |message: String| Err(Box::new(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)));
    if !media.is_empty() && media != "application/x-protobuf" {
        return unsupported(format!(
            "expected application/x-protobuf as the first (media) part, got {content_type} content-type"
        ));
    }
    if let Some(message) = parts.find_map(|p| p.strip_prefix("proto="))
        && message != "prometheus.WriteRequest"
    {
        return unsupported(format!(
            "{message} protobuf message is not accepted by this server; accepts prometheus.WriteRequest"
        ));
    }
    let encoding = text(CONTENT_ENCODING);
    if !encoding.is_empty() && encoding != "snappy" {
        return unsupported(format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ));
    }
    Ok(())
}

/// The request that a body says, after snappy and protobuf.
///
/// # Errors
/// What is wrong with it, or that it is too large.
pub fn decode(body: &[u8]) -> Result<WriteRequest, String> {
    let len = snap::raw::decompress_len(body).map_err(|e| format!("snappy: {e}"))?;
    if len > MAX_DECODED {
        return Err(format!("the request has {len} bytes, more than the {MAX_DECODED} allowed"));
    }
    let bytes = snap::raw::Decoder::new().decompress_vec(body).map_err(|e| format!("snappy: {e}"))?;
    WriteRequest::decode(bytes.as_slice()).map_err(|e| format!("protobuf: {e}"))
}

/// Stores a request in one commit. `Ok(Some)` tells what was refused; the rest is stored.
fn store(server: &Server, request: &WriteRequest) -> Result<Option<String>, String> {
    let mut batch = server.store.batch().map_err(|e| e.to_string())?;
    let mut fault = None;
    let newest = model::now_millis() + 10 * 60 * 1000;
    for series in &request.timeseries {
        let labels = match labels_of(&series.labels) {
            Ok(labels) => labels,
            Err(message) => {
                fault.get_or_insert(message);
                continue;
            }
        };
        let reference = batch.series(&labels)?;
        for sample in &series.samples {
            if sample.timestamp > newest {
                batch.refusals.out_of_bounds += 1;
                continue;
            }
            batch.sample(reference, sample.timestamp, sample.value);
        }
        for histogram in &series.histograms {
            if histogram.timestamp > newest {
                batch.refusals.out_of_bounds += 1;
                continue;
            }
            batch.histogram(reference, histogram.timestamp, histogram.to_sample());
        }
    }
    let refusals = batch.commit()?;
    let sent = request.timeseries.iter().map(|s| (s.samples.len() + s.histograms.len()) as u64).sum();
    server.metrics.remote_write_samples.add(sent);
    let text = match refusals {
        r if r.out_of_bounds > 0 => "out of bounds",
        r if r.out_of_order > 0 => "out of order sample",
        r if r.duplicate > 0 => "duplicate sample for timestamp",
        r if r.invalid > 0 => "invalid histogram",
        r if r.total() > 0 => "sample refused",
        _ => return Ok(fault),
    };
    Ok(Some(fault.unwrap_or_else(|| text.to_owned())))
}

/// The labels of a series, checked.
///
/// # Errors
/// What is wrong with them.
pub fn labels_of(written: &[Label]) -> Result<Labels, String> {
    let mut seen = HashSet::new();
    let mut builder = LabelsBuilder::default();
    for label in written {
        if !seen.insert(label.name.as_str()) {
            return Err(format!("invalid labels for series, duplicated label {}", label.name));
        }
        if !is_valid_label_name(&label.name, NameValidation::Utf8) {
            return Err(format!("invalid labels for series, invalid label name {}", model::quote(&label.name)));
        }
        builder.set(&label.name, &label.value);
    }
    let labels = builder.build();
    if !is_valid_metric_name(labels.metric_name(), NameValidation::Utf8) {
        return Err(format!("invalid metric name or labels, got {labels}"));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_decode_or_say_why_not() {
        let request = WriteRequest {
            timeseries: vec![TimeSeries {
                labels: vec![Label { name: "__name__".into(), value: "up".into() }],
                samples: vec![Sample { value: 1.0, timestamp: 1000 }],
                histograms: vec![WireHistogram { count_int: Some(0), timestamp: 2000, ..WireHistogram::default() }],
            }],
        };
        let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
        assert_eq!(decode(&body), Ok(request));
        assert!(decode(b"").unwrap_err().starts_with("snappy"));
        assert!(decode(&[0xff; 20]).unwrap_err().starts_with("snappy"));
        // a header that claims four gigabytes
        assert!(decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).unwrap_err().contains("more than"));
        let nonsense = snap::raw::Encoder::new().compress_vec(b"\xff\xff\xff").unwrap();
        assert!(decode(&nonsense).unwrap_err().starts_with("protobuf"));
    }

    #[test]
    fn series_need_a_name_and_unique_labels() {
        let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
        assert!(labels_of(&[label("__name__", "a"), label("b", "c")]).is_ok());
        assert!(labels_of(&[label("b", "c")]).is_err());
        assert!(
            labels_of(&[label("__name__", "a"), label("b", "c"), label("b", "d")]).unwrap_err().contains("duplicated")
        );
        assert!(labels_of(&[label("__name__", "a"), label("", "d")]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = decode(&body);
        }
    }
}
