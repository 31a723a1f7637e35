//! HTTP: a request, the redirects it leads to, and what the last answer must be like.

mod body;
mod checks;
mod cookies;
mod http1;
mod http3;
mod proxy;
mod transport;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use tokio::time::Instant;
use url::Url;

use crate::config::{Compression, HttpOptions};
use crate::failure::Failure;
use crate::flags::USER_AGENT;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use crate::tls::Report;
use body::{Body, BodyReader};
use cookies::Cookies;
use transport::{Answer, Hop, round_trip};

/// Redirects that are followed at most.
const MAX_REDIRECTS: usize = 10;
/// The largest request body from a file.
const MAX_BODY_FILE: u64 = 64 << 20;

/// Probes an address; one without a scheme is `http://`.
pub(crate) async fn probe(probe: &mut Probe<'_>, options: &HttpOptions) -> Result<(), Failure> {
    begin(probe, options);
    let target = &probe.order.target;
    let with_scheme = if target.starts_with("http://") || target.starts_with("https://") {
        target.clone()
    } else {
        format!("http://{target}")
    };
    let url = match Url::parse(&with_scheme) {
        Ok(url) => url,
        Err(error) => {
            note!(probe.log, Error, "Could not parse target URL", "err" = error);
            return Err(Failure::Configuration);
        }
    };
    let mut hop = first_hop(probe, options, url).await?;
    let initial = hop.clone();
    for phase in ["connect", "tls", "processing", "transfer"] {
        probe.metrics.set_label(&metrics::HTTP_DURATION, "phase", phase, 0.0);
    }
    let mut cookies = Cookies::default();
    let mut redirects = 0;
    loop {
        if let Some(header) = cookies.header(&hop.url).and_then(|c| HeaderValue::from_str(&c).ok()) {
            hop.headers.insert(header::COOKIE, header);
        }
        add_credentials(probe, options, &mut hop, &initial).await?;
        let answer = round_trip(probe, options, &hop, redirects == 0).await?;
        let headers = &answer.head.headers;
        for cookie in headers.get_all(header::SET_COOKIE).iter().filter_map(|v| v.to_str().ok()) {
            cookies.set(cookie, &hop.url);
        }
        let status = answer.head.status;
        let location = headers.get(header::LOCATION).filter(|_| is_redirect(status)).and_then(|v| v.to_str().ok());
        let Some(location) = location.filter(|location| !location.is_empty()).map(str::to_owned) else {
            return Box::pin(judge(probe, options, answer, true)).await;
        };
        note!(probe.log, Warn, "Received redirect", "location" = location);
        redirects += 1;
        probe.metrics.set(&metrics::HTTP_REDIRECTS, redirects as f64);
        if redirects > MAX_REDIRECTS || !options.client.follow_redirects {
            note!(probe.log, Warn, "Not following redirect");
            return Box::pin(judge(probe, options, answer, false)).await;
        }
        hop = match next_hop(&hop, &initial, status, &location) {
            Ok(hop) => hop,
            Err(reason) => {
                note!(
                    probe.log,
                    Error,
                    "Error for HTTP request",
                    "err" = format!("redirect to {location:?}: {reason}")
                );
                return Err(Failure::Protocol);
            }
        };
    }
}

/// The metrics that are there whatever happens.
fn begin(probe: &mut Probe<'_>, options: &HttpOptions) {
    for metric in [
        &metrics::HTTP_CONTENT_LENGTH,
        &metrics::HTTP_UNCOMPRESSED_LENGTH,
        &metrics::HTTP_REDIRECTS,
        &metrics::HTTP_SSL,
        &metrics::HTTP_STATUS_CODE,
        &metrics::HTTP_VERSION,
        &metrics::FAILED_DUE_TO_REGEX,
    ] {
        probe.metrics.set(metric, 0.0);
    }
    if options.fail_if_body_json_matches_cel.is_some() || options.fail_if_body_json_not_matches_cel.is_some() {
        probe.metrics.set(&metrics::FAILED_DUE_TO_CEL, 0.0);
    }
}

async fn first_hop(probe: &mut Probe<'_>, options: &HttpOptions, mut url: Url) -> Result<Hop, Failure> {
    let target_host = url.host_str().unwrap_or_default().to_owned();
    let mut host = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
    let leave_to_proxy = options.skip_resolve_phase_with_proxy
        && options.client.proxy_url.is_some()
        && !options.client.proxy_from_environment;
    let mut address = None;
    if !leave_to_proxy {
        let begin = Instant::now();
        let resolved = probe.resolve(options.ip, &target_host).await;
        probe.metrics.add(&metrics::HTTP_DURATION, "phase", "resolve", begin.elapsed().as_secs_f64());
        let found = resolved?;
        // what is asked for from now on is the address: redirects without a host lead there as well
        if url.set_ip_host(found.ip()).is_err() {
            return Err(Failure::Configuration);
        }
        address = Some(found);
    }
    let mut headers = HeaderMap::with_capacity(options.headers.len() + 4);
    let mut own_host = None;
    for (name, value) in &options.headers {
        if name.eq_ignore_ascii_case("host") {
            own_host = Some(value.clone());
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Failure::Configuration);
        let value = HeaderValue::from_str(value).map_err(|_| Failure::Configuration);
        let (Ok(name), Ok(value)) = (name, value) else {
            note!(probe.log, Error, "Error creating request", "err" = "a header has an impossible name or value");
            return Err(Failure::Configuration);
        };
        headers.insert(name, value);
    }
    if !probe.order.hostname.is_empty() {
        own_host = Some(probe.order.hostname.clone());
    }
    let server_name = match (options.tls_client.server_name(), &own_host) {
        (Some(name), _) => name.to_owned(),
        (None, Some(host)) => host.clone(),
        (None, None) => target_host,
    };
    if let Some(own) = own_host {
        host = own;
    }
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    let body = match &options.body_file {
        None => Bytes::copy_from_slice(&options.body),
        Some(file) => {
            let size = tokio::fs::metadata(file).await.map_or(0, |m| m.len());
            let read = if size > MAX_BODY_FILE {
                Err(std::io::Error::other("the file is too large"))
            } else {
                tokio::fs::read(file).await
            };
            match read {
                Ok(body) => Bytes::from(body),
                Err(error) => {
                    note!(probe.log, Error, "Error creating request", "err" = format!("{}: {error}", file.display()));
                    return Err(Failure::Configuration);
                }
            }
        }
    };
    Ok(Hop { url, address, host, server_name, method: options.method.clone(), headers, body })
}

/// Adds what the settings have the request carry, unless it goes to another host than the first one.
async fn add_credentials(
    probe: &mut Probe<'_>,
    options: &HttpOptions,
    hop: &mut Hop,
    initial: &Hop,
) -> Result<(), Failure> {
    if !same_host(&hop.url, initial) {
        return Ok(());
    }
    match Box::pin(options.credentials.apply(&options.client, USER_AGENT, &mut hop.headers)).await {
        Ok(()) => Ok(()),
        Err(error) => {
            note!(probe.log, Error, "Error for HTTP request", "err" = error);
            Err(Failure::Configuration)
        }
    }
}

/// Whether an address has the host of the first request, by its name or by the address found for it.
fn same_host(url: &Url, initial: &Hop) -> bool {
    let host = url.host_str().unwrap_or_default();
    let first = initial.host.rsplit_once(':').map_or(initial.host.as_str(), |(host, _)| host);
    Some(host) == initial.url.host_str() || host.eq_ignore_ascii_case(first) || host.eq_ignore_ascii_case(&initial.host)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The request that a redirect asks for.
fn next_hop(hop: &Hop, initial: &Hop, status: StatusCode, location: &str) -> Result<Hop, String> {
    let mut url = hop.url.join(location).map_err(|e| e.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("unsupported protocol scheme {:?}", url.scheme()));
    }
    if url.fragment().is_none() {
        url.set_fragment(hop.url.fragment());
    }
    let keeps_method = matches!(status.as_u16(), 307 | 308);
    let method = match &hop.method {
        method if keeps_method || matches!(*method, Method::GET | Method::HEAD) => method.clone(),
        _ => Method::GET,
    };
    let mut headers = initial.headers.clone();
    if !same_host(&url, initial) {
        for name in [header::AUTHORIZATION, header::WWW_AUTHENTICATE, header::COOKIE] {
            headers.remove(name);
        }
    }
    // as Go's client has it: not from https to http
    if !(hop.url.scheme() == "https" && url.scheme() == "http") {
        let mut referer = hop.url.clone();
        referer.set_fragment(None);
        if let Ok(value) = HeaderValue::from_str(referer.as_str()) {
            headers.insert(header::REFERER, value);
        }
    }
    let same_url_host = url.host_str() == initial.url.host_str() && url.port() == initial.url.port();
    let is_relative = Url::parse(location) == Err(url::ParseError::RelativeUrlWithoutBase);
    let own_host = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
    let address = initial.address.filter(|a| same_url_host && url.host_str().is_some() && a.port() == 0);
    Ok(Hop {
        address,
        host: if is_relative && same_url_host { initial.host.clone() } else { own_host },
        server_name: if same_url_host {
            initial.server_name.clone()
        } else {
            url.host_str().unwrap_or_default().to_owned()
        },
        body: if keeps_method { hop.body.clone() } else { Bytes::new() },
        url,
        method,
        headers,
    })
}

/// Reads the last answer and holds it against the settings. Without `read_body`, its redirect was not followed.
async fn judge(probe: &mut Probe<'_>, options: &HttpOptions, answer: Answer, read_body: bool) -> Result<(), Failure> {
    let headers = &answer.head.headers;
    let status = answer.head.status;
    probe.metrics.set(&metrics::HTTP_STATUS_CODE, f64::from(status.as_u16()));
    probe.metrics.set(&metrics::HTTP_CONTENT_LENGTH, answer.length.map_or(-1.0, |length| length as f64));
    let (version, version_text) = match answer.head.version {
        Version::HTTP_09 => (0.9, "HTTP/0.9"),
        Version::HTTP_10 => (1.0, "HTTP/1.0"),
        Version::HTTP_2 => (2.0, "HTTP/2.0"),
        Version::HTTP_3 => (3.0, "HTTP/3.0"),
        _ => (1.1, "HTTP/1.1"),
    };
    probe.metrics.set(&metrics::HTTP_VERSION, version);
    let modified = headers.get(header::LAST_MODIFIED).and_then(|v| v.to_str().ok());
    if let Some(Ok(modified)) = modified.map(httpdate::parse_http_date) {
        let seconds = modified.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs() as f64);
        probe.metrics.set(&metrics::HTTP_LAST_MODIFIED, seconds);
    }
    if let Some(handshake) = &answer.handshake {
        probe.metrics.set(&metrics::HTTP_SSL, 1.0);
        handshake.report(&mut probe.metrics, Report::Http);
    }
    let over_tls = answer.handshake.is_some();
    note!(probe.log, Debug, "Received HTTP response", "status_code" = status.as_u16());

    let mut failure = None;
    let valid = match options.valid_status_codes.as_slice() {
        [] => status.is_success(),
        codes => codes.contains(&status.as_u16()),
    };
    if !valid {
        let wanted = if options.valid_status_codes.is_empty() {
            "2xx".to_owned()
        } else {
            format!("{:?}", options.valid_status_codes)
        };
        note!(
            probe.log,
            Error,
            "Invalid HTTP response status code",
            "status_code" = status.as_u16(),
            "valid_status_codes" = wanted
        );
        failure = Some(Failure::Status);
    }
    let checks_headers = !options.fail_if_header_matches.is_empty() || !options.fail_if_header_not_matches.is_empty();
    if failure.is_none() && checks_headers && !checks::headers_match(options, headers, &mut probe.log) {
        probe.metrics.set(&metrics::FAILED_DUE_TO_REGEX, 1.0);
        failure = Some(Failure::Regex);
    }
    if options.compression == Some(Compression::Unknown) {
        note!(
            probe.log,
            Error,
            "Failed to get decompressor for HTTP response body",
            "err" = "unsupported compression algorithm"
        );
        failure = failure.or(Some(Failure::Body));
    }
    let checks_body = !options.fail_if_body_matches.is_empty() || !options.fail_if_body_not_matches.is_empty();
    let checks_json =
        options.fail_if_body_json_matches_cel.is_some() || options.fail_if_body_json_not_matches_cel.is_some();
    let keep = failure.is_none() && (checks_body || checks_json);
    let body = if read_body || keep {
        let (body, read) = read(probe, options, answer, keep).await;
        if read_body {
            probe.metrics.set(&metrics::HTTP_UNCOMPRESSED_LENGTH, body.length as f64);
        }
        if let Err(fault) = read {
            failure = failure.or(Some(fault));
            if keep && checks_body && fault != Failure::Timeout {
                probe.metrics.set(&metrics::FAILED_DUE_TO_REGEX, 1.0);
            }
        }
        body
    } else {
        Body::default()
    };
    if failure.is_none() && checks_body && !checks::body_matches(options, &body.kept, &mut probe.log) {
        probe.metrics.set(&metrics::FAILED_DUE_TO_REGEX, 1.0);
        failure = Some(Failure::Regex);
    }
    if failure.is_none() && checks_json && !checks::json_matches(options, &body.kept, &mut probe.log) {
        probe.metrics.set(&metrics::FAILED_DUE_TO_CEL, 1.0);
        failure = Some(Failure::Cel);
    }
    let versions = &options.valid_http_versions;
    if !versions.is_empty() && !versions.iter().any(|v| v == version_text) {
        note!(probe.log, Error, "Invalid HTTP version number", "version" = version_text);
        failure = failure.or(Some(Failure::Version));
    }
    if over_tls && options.fail_if_ssl {
        note!(probe.log, Error, "Final request was over SSL");
        failure = failure.or(Some(Failure::Ssl));
    }
    if !over_tls && options.fail_if_not_ssl && failure.is_none() {
        note!(probe.log, Error, "Final request was not over SSL");
        failure = Some(Failure::Ssl);
    }
    failure.map_or(Ok(()), Err)
}

/// Reads the body, at most until the probe's time is over.
async fn read(
    probe: &mut Probe<'_>,
    options: &HttpOptions,
    mut answer: Answer,
    keep: bool,
) -> (Body, Result<(), Failure>) {
    let mut reader = BodyReader::new(options.compression, options.body_size_limit, keep);
    let work = async {
        while let Some(data) = answer.body.next().await {
            let data = data.map_err(|error| (Failure::Connection, error))?;
            reader.write(&data).map_err(|e| (Failure::Body, e.to_string()))?;
            if options.compression.is_some() {
                // few bytes may have become many
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    };
    let read = match tokio::time::timeout_at(probe.order.deadline, work).await {
        Ok(read) => read,
        Err(_) => Err((Failure::Timeout, "context deadline exceeded".to_owned())),
    };
    let seconds = answer.begun.elapsed().as_secs_f64();
    probe.metrics.add(&metrics::HTTP_DURATION, "phase", "transfer", seconds);
    let (body, finished) = reader.finish();
    let result = read.and_then(|()| finished.map_err(|e| (Failure::Body, e.to_string())));
    let result = result.map_err(|(failure, error)| {
        note!(probe.log, Error, "Failed to read HTTP response body", "err" = error);
        failure
    });
    (body, result)
}
