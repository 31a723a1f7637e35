use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use model::MetricType;
use parking_lot::Mutex;

use crate::exposition::{Compression, encode, negotiate, negotiate_compression};
use crate::metrics::{GatherError, Page};

/// The parameters of a query string, decoded, in their order.
pub fn query_pairs(query: &str) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(query.as_bytes())
}

/// A plain text response.
pub fn text_response(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// A page of metrics in the format and compression that a request's headers ask for, and what did not fit together in it.
/// `open_metrics` says whether OpenMetrics is offered.
pub fn metrics_response(page: &Page, request: &HeaderMap, open_metrics: bool) -> (Response, Vec<GatherError>) {
    let header = |name| request.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("");
    let format = negotiate(&joined(request, &ACCEPT), open_metrics);
    let compression = negotiate_compression(header(ACCEPT_ENCODING));
    let (families, errors) = page.families();
    let mut body = Vec::with_capacity(64 * 1024);
    encode(&families, format, &mut body);
    let body = match compression {
        Compression::Identity => body,
        Compression::Gzip => {
            // level 1: pages are read once, on the machine or the net beside it
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 6), flate2::Compression::fast());
            encoder.write_all(&body).and_then(|()| encoder.finish()).expect("memory takes every byte")
        }
        Compression::Zstd => zstd::bulk::compress(&body, 1).expect("memory takes every byte"),
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&format.content_type()) {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Some(encoding) = compression.content_encoding() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    (response, errors)
}

/// A header that may come in several lines.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    values.join(",")
}

/// What happened at a metrics endpoint, under the names of the Prometheus client library.
#[derive(Debug, Default)]
pub struct MetricsHandlerStats {
    in_flight: AtomicU64,
    encoding_errors: AtomicU64,
    gathering_errors: AtomicU64,
    requests: Mutex<BTreeMap<u16, u64>>,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InFlight<'a>(&'a MetricsHandlerStats);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MetricsHandlerStats {
    /// Counts a request as in flight until the guard is dropped; `None` if there are as many as `limit` (0: no limit).
    pub fn begin(&self, limit: u64) -> Option<InFlight<'_>> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let guard = InFlight(self);
        (limit == 0 || before < limit).then_some(guard)
    }

    /// The response to a request over the limit.
    pub fn over_limit(limit: u64) -> Response {
        let text = format!("Limit of concurrent requests reached ({limit}), try again later.\n");
        text_response(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// Counts an answered request.
    pub fn answered(&self, status: StatusCode) {
        *self.requests.lock().entry(status.as_u16()).or_insert(0) += 1;
    }

    /// Counts errors in gathering.
    pub fn gathering_failed(&self, errors: usize) {
        self.gathering_errors.fetch_add(errors as u64, Ordering::Relaxed);
    }

    /// Appends `promhttp_metric_handler_*`.
    pub fn collect(&self, page: &mut Page) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let help = "Total number of internal errors encountered by the promhttp metric handler.";
        let errors = page.family("promhttp_metric_handler_errors_total", help, MetricType::Counter);
        page.sample(errors, &[("cause", "encoding")], load(&self.encoding_errors));
        page.sample(errors, &[("cause", "gathering")], load(&self.gathering_errors));
        let help = "Current number of scrapes being served.";
        page.gauge("promhttp_metric_handler_requests_in_flight", help, &[], load(&self.in_flight));
        let help = "Total number of scrapes by HTTP status code.";
        let requests = page.family("promhttp_metric_handler_requests_total", help, MetricType::Counter);
        let counts = self.requests.lock();
        for code in [200, 500, 503] {
            let count = counts.get(&code).copied().unwrap_or(0);
            page.sample(requests, &[("code", itoa::Buffer::new().format(code))], count as f64);
        }
    }
}

/// A link on a landing page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandingLink {
    /// Where it leads.
    pub address: String,
    /// Its text.
    pub text: String,
    /// What is to be found there; may be empty.
    pub description: String,
}

/// The page at `/` of an exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LandingPage {
    /// The program's name, as people write it.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its version line.
    pub version: String,
    /// Where to go from here.
    pub links: Vec<LandingLink>,
}

impl LandingPage {
    /// The page as HTML; every text is escaped.
    pub fn to_html(&self) -> String {
        let mut html = String::with_capacity(2048);
        let name = escaped(&self.name);
        let _ = write!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}</title>\n<style>\
             body{{font-family:system-ui,sans-serif;margin:0;color:#222}}header{{background:#e6522c;color:#fff;padding:1rem 2rem}}\
             main{{padding:1rem 2rem}}h1{{margin:0;font-size:1.5rem}}li{{margin:.3rem 0}}\
             @media(prefers-color-scheme:dark){{body{{background:#1b1b1b;color:#ddd}}a{{color:#8ab4f8}}}}</style>\n</head>\n<body>\n\
             <header><h1>{name}</h1></header>\n<main>\n<p>{}</p>\n<p>Version: {}</p>\n<ul>\n",
            escaped(&self.description),
            escaped(&self.version)
        );
        for link in &self.links {
            let _ = write!(html, "<li><a href=\"{}\">{}</a>", escaped(&link.address), escaped(&link.text));
            if !link.description.is_empty() {
                let _ = write!(html, " {}", escaped(&link.description));
            }
            html.push_str("</li>\n");
        }
        html.push_str("</ul>\n</main>\n</body>\n</html>\n");
        html
    }
}

/// A landing page as a response.
pub fn landing_response(html: String) -> Response {
    let mut response = Response::new(Body::from(html));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    response
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// `/-/healthy` and `/-/ready`; `ready` tells whether the daemon is.
pub fn health_routes(name: &'static str, ready: impl Fn() -> bool + Clone + Send + Sync + 'static) -> Router {
    let healthy = move || async move { text_response(StatusCode::OK, format!("{name} is Healthy.\n")) };
    let readiness = move || async move {
        if ready() {
            text_response(StatusCode::OK, format!("{name} is Ready.\n"))
        } else {
            text_response(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
        }
    };
    Router::new().route("/-/healthy", get(healthy)).route("/-/ready", get(readiness))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_is_what_the_headers_ask_for() {
        let mut page = Page::new();
        page.gauge("up", "Up.", &[], 1.0);
        for (accept_encoding, expected) in [("gzip", Some("gzip")), ("zstd", Some("zstd")), ("", None)] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept_encoding.parse().unwrap());
            headers.insert(ACCEPT, "application/openmetrics-text;version=1.0.0".parse().unwrap());
            let (response, errors) = metrics_response(&page, &headers, true);
            let encoding = response.headers().get(CONTENT_ENCODING).map(|v| v.to_str().unwrap());
            assert_eq!((encoding, errors.len()), (expected, 0));
            let kind = response.headers()[CONTENT_TYPE].to_str().unwrap();
            assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
            let (response, _) = metrics_response(&page, &headers, false);
            assert!(response.headers()[CONTENT_TYPE].to_str().unwrap().starts_with("text/plain"));
        }
    }

    #[test]
    fn requests_over_the_limit_are_refused() {
        let stats = MetricsHandlerStats::default();
        let first = stats.begin(1);
        assert!(first.is_some());
        assert!(stats.begin(1).is_none());
        drop(first);
        assert!(stats.begin(1).is_some());
    }

    #[test]
    fn a_landing_page_escapes_its_texts() {
        let link = LandingLink { address: "/m?a=\"".into(), text: "<b>".into(), description: String::new() };
        let page = LandingPage { name: "A & B".into(), links: vec![link], ..LandingPage::default() };
        let html = page.to_html();
        assert!(html.contains("A &amp; B") && html.contains("href=\"/m?a=&#34;\">&lt;b&gt;"), "{html}");
    }
}
