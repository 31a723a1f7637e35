use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::exposition::{Format, FormatKind};
use common::http::client::{Client, ClientError, go_body_words, go_words, status_text};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url};

use super::page_buffer::PageBuffer;
use crate::config::{ScrapeConfig, ScrapeProtocol};

/// A page larger than this is refused even where no limit is configured: a target must not fill the memory.
pub const HARD_BODY_LIMIT: u64 = 512 << 20;

/// A page as fetched.
#[derive(Debug)]
pub(super) struct Page {
    /// The bytes, decompressed.
    pub body: Bytes,
    /// What they are written in.
    pub format: FormatKind,
}

/// Why a page could not be had. The texts are what the targets page shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The job has too many targets.
    #[error("{0}")]
    Refused(Arc<str>),
    /// No connection, no answer in time, a broken answer.
    #[error("{0}")]
    Request(String),
    /// Another status than 200.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// Larger than the limit.
    #[error("body size limit exceeded")]
    TooLarge,
    /// The body does not decompress.
    #[error("cannot decompress the page: {0}")]
    Compression(String),
    /// No format of ours, and none configured to fall back to.
    #[error("received unsupported Content-Type {0:?} and no fallback_scrape_protocol specified for target")]
    ContentType(String),
}

/// What a target is asked at each scrape, put together once.
#[derive(Debug)]
pub(super) struct Question {
    url: Url,
    headers: HeaderMap,
}

impl Question {
    /// # Errors
    /// When the address is none.
    pub(super) fn new(url: &str, config: &ScrapeConfig, timeout: Duration) -> Result<Self, FetchError> {
        let url = Url::parse(url).map_err(|e| FetchError::Request(format!("{url}: {e}")))?;
        Ok(Self { url, headers: headers(config, timeout) })
    }

    pub(super) fn request(&self) -> Request {
        let mut request = Request::new(Method::GET, self.url.clone());
        self.headers.clone_into(request.headers_mut());
        request
    }
}

fn headers(config: &ScrapeConfig, timeout: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = |value: String| HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT, text(accept(&config.scrape_protocols, &config.metric_name_escaping_scheme)));
    let encoding = if config.enable_compression { "gzip" } else { "identity" };
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
    let mut seconds = String::new();
    model::format_float_json(timeout.as_secs_f64(), &mut seconds);
    headers.insert("X-Prometheus-Scrape-Timeout-Seconds", text(seconds));
    headers
}

/// The `Accept` header: each format with a falling weight, anything at last.
fn accept(protocols: &[ScrapeProtocol], escaping: &str) -> String {
    let mut parts = Vec::new();
    let mut weight = protocols.len() + 1;
    for protocol in protocols {
        let escaping = if protocol.knows_escaping() { format!(";escaping={escaping}") } else { String::new() };
        parts.push(format!("{}{escaping};q=0.{weight}", protocol.media_type()));
        weight -= 1;
    }
    parts.push(format!("*/*;q=0.{weight}"));
    parts.join(",")
}

/// Fetches a page. The caller bounds the time, and is told by `answered` when the answer has begun.
///
/// # Errors
/// See [`FetchError`].
pub(super) async fn fetch(
    client: &Client,
    request: Request,
    config: &ScrapeConfig,
    answered: &AtomicBool,
) -> Result<Page, FetchError> {
    let limit = if config.limits.body_size.0 == 0 { HARD_BODY_LIMIT } else { config.limits.body_size.0 };
    let url = request.url().clone();
    let failed = |error: ClientError| {
        let reason = match &error {
            ClientError::Request(error) => go_words(error, client.is_direct().then_some(&url)),
            other => other.to_string(),
        };
        FetchError::Request(format!("Get {}: {reason}", model::quote(url.as_str())))
    };
    let mut response = client.execute(request).await.map_err(failed)?;
    answered.store(true, Ordering::Relaxed);
    if response.status() != http::StatusCode::OK {
        return Err(FetchError::Status(status_text(&response)));
    }
    let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, encoding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
    let announced = response.content_length().unwrap_or_default().min(MOST_EXPECTED);
    let mut body = BytesMut::with_capacity(announced as usize);
    while let Some(chunk) = response.chunk().await.map_err(|e| FetchError::Request(go_body_words(&e)))? {
        // compressed bytes above the limit cannot become fewer
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let body = body.freeze();
    let body = if encoding.eq_ignore_ascii_case("gzip") { gunzip(&body, limit)? } else { body };
    // without lines there is nothing to read, in whatever format
    if body.is_empty() {
        return Ok(Page { body, format: FormatKind::Text0_0_4 });
    }
    let format = format_of(&content_type, config.fallback_scrape_protocol)?;
    Ok(Page { body, format })
}

fn format_of(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<FormatKind, FetchError> {
    if let Some(format) = Format::from_content_type(content_type) {
        return Ok(format);
    }
    match fallback {
        Some(ScrapeProtocol::PrometheusProto) => Ok(FormatKind::Protobuf),
        Some(ScrapeProtocol::PrometheusText0_0_4) => Ok(FormatKind::Text0_0_4),
        Some(ScrapeProtocol::PrometheusText1_0_0) => Ok(FormatKind::Text1_0_0),
        Some(ScrapeProtocol::OpenMetricsText0_0_1) => Ok(FormatKind::OpenMetrics0_0_1),
        Some(ScrapeProtocol::OpenMetricsText1_0_0) => Ok(FormatKind::OpenMetrics1_0_0),
        None => Err(FetchError::ContentType(content_type.to_owned())),
    }
}

/// So many bytes of a body are expected because the answer says so; more are believed when they come.
const MOST_EXPECTED: u64 = 1 << 20;

/// Pages seldom become shorter than one in so many.
const LIKELY_RATIO: usize = 32;

/// The first bytes of a member of a gzip file.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];

/// Whether another member may begin in these bytes. The magic alone is in a sixth of all pages of three megabytes by chance; what follows
/// it is, wherever gzip is written: flags of which three bits are 0, four bytes of time, how hard it was tried, and the system.
fn may_begin_member(bytes: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, GZIP_MAGIC).any(|at| match bytes[at + GZIP_MAGIC.len()..] {
        [flags, _, _, _, _, effort, system, ..] => {
            flags & 0xe0 == 0 && matches!(effort, 0 | 2 | 4) && matches!(system, 0..=13 | 255)
        }
        _ => false,
    })
}

/// Decompresses gzip in one go: pages are small, and the trailer tells their size.
fn gunzip(compressed: &[u8], limit: u64) -> Result<Bytes, FetchError> {
    // the library does not read what follows a member
    if compressed.get(1..).is_some_and(may_begin_member) {
        return gunzip_members(compressed, limit);
    }
    let tail = compressed.last_chunk::<4>().ok_or_else(|| FetchError::Compression("unexpected end of file".into()))?;
    let mut size = u64::from(u32::from_le_bytes(*tail));
    // deflate cannot do better than about 1:1030; a trailer that claims more is wrong or that of the last of several members
    size = size.clamp(64, (compressed.len() as u64).saturating_mul(1100).max(64));
    if size > limit {
        return Err(FetchError::TooLarge);
    }
    let mut decompressor = libdeflater::Decompressor::new();
    loop {
        // what the trailer claims may be far more than there is
        let likely = compressed.len().saturating_mul(LIKELY_RATIO);
        let mut out = PageBuffer::new(size as usize, likely);
        match decompressor.gzip_decompress(compressed, out.room()) {
            Ok(len) => return Ok(out.page(len)),
            Err(libdeflater::DecompressionError::InsufficientSpace) if size < limit => size = (size * 2).min(limit),
            Err(libdeflater::DecompressionError::InsufficientSpace) => return Err(FetchError::TooLarge),
            Err(libdeflater::DecompressionError::BadData) => {
                return Err(FetchError::Compression("gzip: invalid or truncated data".into()));
            }
        }
    }
}

/// Decompresses gzip of any number of members.
fn gunzip_members(compressed: &[u8], limit: u64) -> Result<Bytes, FetchError> {
    let mut out = Vec::new();
    let mut members = flate2::read::MultiGzDecoder::new(compressed).take(limit.saturating_add(1));
    members.read_to_end(&mut out).map_err(|e| FetchError::Compression(format!("gzip: {e}")))?;
    if out.len() as u64 > limit { Err(FetchError::TooLarge) } else { Ok(out.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn pages_decompress_up_to_the_limit() {
        let page = b"up 1\n".repeat(1000);
        assert_eq!(gunzip(&gzip(&page), 1 << 20).unwrap(), page);
        assert_eq!(gunzip(&gzip(&page), 1000), Err(FetchError::TooLarge));
        assert_eq!(gunzip(&gzip(b""), 1000).unwrap(), &b""[..]);
    }

    #[test]
    fn all_members_are_read() {
        let members = [gzip(b"a 1\n"), gzip(b""), gzip(b"b 2\n")].concat();
        assert_eq!(gunzip(&members, 8).unwrap(), &b"a 1\nb 2\n"[..]);
        assert_eq!(gunzip(&members, 7), Err(FetchError::TooLarge));
        assert!(matches!(gunzip(&members[..members.len() - 9], 100), Err(FetchError::Compression(_))));
    }

    #[test]
    fn the_magic_by_chance_is_no_member() {
        let header = gzip(b"");
        assert!(may_begin_member(&header) && may_begin_member(&[b"xyz", &header[..]].concat()));
        for (at, byte) in [(3, 0x20), (3, 0xff), (8, 1), (9, 14)] {
            let mut other = header.clone();
            other[at] = byte;
            assert!(!may_begin_member(&other), "{at}");
            assert!(may_begin_member(&[other, header.clone()].concat()), "{at}");
        }
        assert!(!may_begin_member(&header[..9]) && !may_begin_member(b""));
        // in a name that the header may have, say
        let page = b"up 1\n".repeat(100);
        let mut encoder = flate2::GzBuilder::new().filename(b"\x1f\x8b\x08\xffxxxxxxxx".to_vec());
        encoder = encoder.comment("none");
        let mut encoder = encoder.write(Vec::new(), flate2::Compression::default());
        encoder.write_all(&page).unwrap();
        assert_eq!(gunzip(&encoder.finish().unwrap(), 1 << 20).unwrap(), page);
    }

    #[test]
    fn bombs_and_broken_data_are_refused() {
        let mut bomb = gzip(&vec![0; 10 << 20]);
        let at = bomb.len() - 4;
        bomb[at..].copy_from_slice(&1u32.to_le_bytes());
        assert!(gunzip(&bomb, 1 << 20).is_err());
        assert!(matches!(gunzip(b"not gzip at all", 1 << 20), Err(FetchError::Compression(_))));
        let whole = gzip(b"up 1\n");
        assert!(gunzip(&whole[..whole.len() / 2], 1 << 20).is_err());
        assert!(gunzip(b"", 1 << 20).is_err());
    }

    #[test]
    fn formats_are_asked_for_in_order() {
        let list = [ScrapeProtocol::OpenMetricsText1_0_0, ScrapeProtocol::PrometheusText0_0_4];
        assert_eq!(
            accept(&list, "allow-utf-8"),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
    }
}
