//! The remote-write 1.0 receiver: `/api/v1/write`.

mod histogram;
mod known_series;
mod message;
mod series_table;

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use common::http::text_response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use model::{Labels, LabelsBuilder, NameValidation, Timestamp, is_valid_label_name, is_valid_metric_name};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tsdb::SeriesRef;

use super::Server;
use crate::storage::Batch;
pub use histogram::{BucketSpan, WireHistogram};
pub(crate) use known_series::KnownSeries;
pub use message::{WriteRequest, WrittenSeries};

/// A request larger than this after decompression is refused.
const MAX_DECODED: usize = 128 << 20;

fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    text_response(status, format!("{}\n", message.into()))
}

/// Lets few requests at a time be decompressed and stored: more would only wait for each other with all they hold. What these hold is memory
/// that those after them use again: given back each time it leaves holes between what stays, of which little is of use to anybody else.
#[derive(Debug)]
pub(crate) struct WriteSlots {
    free: Arc<Semaphore>,
    idle: Mutex<Vec<WriteBuffers>>,
}

/// Room for a request, and its memory.
struct WriteSlot {
    /// There always is one: the semaphore is never closed.
    _permit: Option<OwnedSemaphorePermit>,
    buffers: WriteBuffers,
}

/// What a request is decompressed and sorted into.
#[derive(Debug, Default)]
struct WriteBuffers {
    message: Vec<u8>,
    rows: Rows,
    samples: Vec<(Timestamp, f64)>,
}

/// Buffers of more bytes are not kept for the next request.
const KEPT: usize = 4 << 20;

impl Default for WriteSlots {
    fn default() -> Self {
        let slots = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        Self { free: Arc::new(Semaphore::new(slots)), idle: Mutex::default() }
    }
}

impl WriteSlots {
    async fn acquire(&self) -> WriteSlot {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let buffers = self.idle.lock().pop().unwrap_or_default();
        WriteSlot { _permit: permit, buffers }
    }

    fn release(&self, slot: WriteSlot) {
        if slot.buffers.bytes() <= KEPT {
            self.idle.lock().push(slot.buffers);
        }
    }
}

impl WriteBuffers {
    fn bytes(&self) -> usize {
        let Self { message, rows, samples } = self;
        message.capacity() + rows.bytes() + samples.capacity() * size_of::<(Timestamp, f64)>()
    }
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
    // of those that wait only the compressed bytes are in memory
    let mut slot = server.write_slots.acquire().await;
    // and these go before the request is stored
    if let Err(fault) = decompress_into(&body, &mut slot.buffers.message) {
        return refuse(StatusCode::BAD_REQUEST, fault);
    }
    drop(body);
    let work = tokio::task::spawn_blocking(move || {
        let stored = store(&server, &mut slot.buffers);
        // and not sooner, even if the client has gone away
        server.write_slots.release(slot);
        stored
    });
    match work.await {
        Ok(Ok(None)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Ok(Some(fault)) | Err(WriteFault::Malformed(fault))) => refuse(StatusCode::BAD_REQUEST, fault),
        Ok(Err(WriteFault::Storage(fault))) => refuse(StatusCode::INTERNAL_SERVER_ERROR, fault),
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

/// The message that a body holds.
///
/// # Errors
/// What is wrong with it, or that it is too large.
pub fn decompress(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    decompress_into(body, &mut message)?;
    Ok(message)
}

/// The same, over what is in `message`.
fn decompress_into(body: &[u8], message: &mut Vec<u8>) -> Result<(), String> {
    let len = snap::raw::decompress_len(body).map_err(|e| format!("snappy: {e}"))?;
    if len > MAX_DECODED {
        return Err(format!("the request has {len} bytes, more than the {MAX_DECODED} allowed"));
    }
    message.resize(len, 0);
    let len = snap::raw::Decoder::new().decompress(body, message).map_err(|e| format!("snappy: {e}"))?;
    message.truncate(len);
    Ok(())
}

/// Why nothing of a request is stored.
enum WriteFault {
    Malformed(String),
    Storage(String),
}

/// Series that have samples of the same times, as the series of a target have them. They are stored time by time, which is how the store
/// takes them best.
#[derive(Debug, Default)]
struct Rows {
    times: Vec<Timestamp>,
    series: Vec<SeriesRef>,
    /// Series by series.
    values: Vec<f64>,
    /// Those of one time.
    row: Vec<f64>,
}

impl Rows {
    /// Adds a series; those before it are stored if it has other times.
    fn push(&mut self, batch: &mut Batch, series: SeriesRef, samples: &[(Timestamp, f64)]) {
        if samples.is_empty() {
            return;
        }
        if !self.times.iter().eq(samples.iter().map(|(time, _)| time)) {
            self.store(batch);
            self.times.extend(samples.iter().map(|(time, _)| *time));
        }
        self.series.push(series);
        self.values.extend(samples.iter().map(|(_, value)| *value));
    }

    fn store(&mut self, batch: &mut Batch) {
        for (at, time) in self.times.iter().enumerate() {
            self.row.clear();
            self.row.extend(self.values.iter().skip(at).step_by(self.times.len()));
            batch.row(*time, &self.series, &self.row);
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.times.clear();
        self.series.clear();
        self.values.clear();
    }

    fn bytes(&self) -> usize {
        let numbers = self.times.capacity() + self.values.capacity() + self.row.capacity();
        numbers * size_of::<f64>() + self.series.capacity() * size_of::<SeriesRef>()
    }
}

/// Stores a request in one commit. `Ok(Some)` tells what was refused; the rest is stored.
fn store(server: &Server, buffers: &mut WriteBuffers) -> Result<Option<String>, WriteFault> {
    let mut batch = server.store.batch().map_err(|e| WriteFault::Storage(e.to_string()))?;
    let mut fault = None;
    let newest = model::now_millis() + 10 * 60 * 1000;
    let WriteBuffers { message, rows, samples } = buffers;
    // one that was refused may have left some
    rows.clear();
    let mut sent = 0;
    let mut request = WriteRequest::new(message);
    while let Some(series) = request.next_series().map_err(WriteFault::Malformed)? {
        sent += (series.samples.len() + series.histograms.len()) as u64;
        let key = series.label_bytes().map(|bytes| server.written.key(bytes));
        let known = key.and_then(|key| server.written.find(key)).filter(|series| batch.keep(*series));
        let reference = match known {
            Some(reference) => reference,
            None => {
                let labels = match labels_of(&series.labels().map_err(WriteFault::Malformed)?) {
                    Ok(labels) => labels,
                    Err(message) => {
                        fault.get_or_insert(message);
                        continue;
                    }
                };
                let reference = batch.series(&labels).map_err(WriteFault::Storage)?;
                key.into_iter().for_each(|key| server.written.insert(key, reference));
                reference
            }
        };
        samples.clear();
        samples.extend(series.samples.iter().filter(|(time, _)| *time <= newest));
        batch.refusals.out_of_bounds += series.samples.len() - samples.len();
        rows.push(&mut batch, reference, samples);
        for histogram in &series.histograms {
            if histogram.timestamp > newest {
                batch.refusals.out_of_bounds += 1;
                continue;
            }
            batch.histogram(reference, histogram.timestamp, histogram.to_sample());
        }
    }
    rows.store(&mut batch);
    let refusals = batch.commit().map_err(WriteFault::Storage)?;
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
pub fn labels_of(written: &[(&str, &str)]) -> Result<Labels, String> {
    let invalid = written.iter().find(|(name, _)| !is_valid_label_name(name, NameValidation::Utf8));
    if let Some((name, _)) = invalid {
        return Err(format!("invalid labels for series, invalid label name {}", model::quote(name)));
    }
    // as the protocol asks for
    let sorted = written.is_sorted_by(|a, b| a.0 < b.0) && written.iter().all(|(_, value)| !value.is_empty());
    let labels = if sorted {
        Labels::from_sorted(written.iter().copied())
    } else {
        let mut seen = HashSet::new();
        let mut builder = LabelsBuilder::default();
        for (name, value) in written {
            if !seen.insert(name) {
                return Err(format!("invalid labels for series, duplicated label {name}"));
            }
            builder.set(name, value);
        }
        builder.build()
    };
    if !is_valid_metric_name(labels.metric_name(), NameValidation::Utf8) {
        return Err(format!("invalid metric name or labels, got {labels}"));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<String>, String> {
        let mut request = WriteRequest::new(message);
        let mut all = Vec::new();
        while let Some(series) = request.next_series()? {
            let together = series.label_bytes().map(<[u8]>::len);
            all.push(format!("{:?} {together:?} {:?} {}", series.labels()?, series.samples, series.histograms.len()));
        }
        Ok(all)
    }

    #[test]
    fn requests_are_read_or_say_why_not() {
        let label = b"\x0a\x0e\x0a\x08__name__\x12\x02up";
        let sample = b"\x12\x0c\x09\0\0\0\0\0\0\xf0\x3f\x10\xe8\x07";
        let histogram = b"\x22\x03\x78\xd0\x0f";
        // an exemplar, and a field that nobody knows
        let others = b"\x1a\x01x\x9a\x06\x01x";
        let series = [&label[..], sample, histogram, others].concat();
        let empty = b"\x0a\x00";
        let message = [&[0x0a, series.len() as u8], &series[..], empty, b"\x1a\x01x"].concat();
        let body = snap::raw::Encoder::new().compress_vec(&message).unwrap();
        assert_eq!(decompress(&body).unwrap(), message);
        assert_eq!(read(&message).unwrap(), ["[(\"__name__\", \"up\")] Some(16) [(1000, 1.0)] 1", "[] Some(0) [] 0"]);
        // labels behind a sample, and labels that are none
        let series = [&label[..], sample, label].concat();
        let message = [&[0x0a, series.len() as u8], &series[..]].concat();
        assert!(read(&message).unwrap()[0].contains("[(\"__name__\", \"up\"), (\"__name__\", \"up\")] None"));
        assert!(read(b"\x0a\x03\x0a\x01\xff").is_err());
        let series = [&label[..], sample, histogram, others].concat();
        let message = [&[0x0a, series.len() as u8], &series[..], empty, b"\x1a\x01x"].concat();
        for len in 1..message.len() - 3 {
            // cut between two series it is whole
            assert!(read(&message[..len]).is_err() || len == series.len() + 2 || len == series.len() + 4, "{len}");
        }
        assert!(read(b"\xff\xff\xff").unwrap_err().starts_with("protobuf"));
        assert!(decompress(b"").unwrap_err().starts_with("snappy"));
        assert!(decompress(&[0xff; 20]).unwrap_err().starts_with("snappy"));
        // a header that claims four gigabytes
        assert!(decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).unwrap_err().contains("more than"));
    }

    #[test]
    fn series_need_a_name_and_unique_labels() {
        let text = |written: &[(&str, &str)]| labels_of(written).map(|labels| labels.to_string());
        let expected = r#"{__name__="a", b="c"}"#;
        assert_eq!(text(&[("__name__", "a"), ("b", "c")]).unwrap(), expected);
        assert_eq!(text(&[("b", "c"), ("__name__", "a"), ("d", "")]).unwrap(), expected);
        assert!(text(&[("b", "c")]).is_err());
        assert!(text(&[("__name__", "a"), ("b", "c"), ("b", "d")]).unwrap_err().contains("duplicated"));
        assert!(text(&[("__name__", "a"), ("", "d")]).unwrap_err().contains("label name"));
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = decompress(&body);
            let _ = read(&body);
        }
    }
}
