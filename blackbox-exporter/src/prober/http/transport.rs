//! One request and its answer: connection, proxy, TLS and protocol version, each phase timed.

use std::io;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::http::client::error_chain;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::http1;
use super::proxy::proxy_for;
use crate::config::HttpOptions;
use crate::connect::connect;
use crate::failure::Failure;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use crate::prober::dialogue::Stream;
use crate::tls::Handshake;

/// A request to be sent.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    /// Where to; its host may be the address found for the name.
    pub(super) url: Url,
    /// The address to connect to, if it is known already.
    pub(super) address: Option<SocketAddr>,
    /// The `Host` header.
    pub(super) host: String,
    /// The name the server's certificate must have.
    pub(super) server_name: String,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    /// The length that was announced.
    pub(super) length: Option<u64>,
    pub(super) body: AnswerBody,
    pub(super) handshake: Option<Handshake>,
    /// When its headers were there.
    pub(super) begun: Instant,
}

/// A body that comes in parts. The connection ends with it.
pub(super) enum AnswerBody {
    Http1(Box<http1::Body>),
    Http2 { incoming: Incoming, _connection: AbortOnDropHandle<()> },
    Http3(Box<super::http3::Body>),
}

impl AnswerBody {
    /// The next part; none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        match self {
            Self::Http1(body) => body.next().await,
            Self::Http3(body) => body.next().await,
            Self::Http2 { incoming, .. } => loop {
                match incoming.frame().await? {
                    Err(error) => return Some(Err(error.to_string())),
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => return Some(Ok(data)),
                        Err(_trailers) => {}
                    },
                }
            },
        }
    }
}

/// The largest head of an answer over HTTP/2.
const MAX_HEAD: usize = 1 << 20;

/// Sends a request. `first` says that its name was resolved, and the time for it counted, before.
pub(super) async fn round_trip(
    probe: &mut Probe<'_>,
    options: &HttpOptions,
    hop: &Hop,
    first: bool,
) -> Result<Answer, Failure> {
    note!(probe.log, Debug, "Making HTTP request", "url" = hop.url, "host" = hop.host);
    if options.enable_http3 {
        return Box::pin(super::http3::round_trip(probe, options, hop, first)).await;
    }
    let proxy = proxy_for(&options.client, &hop.url, |name| std::env::var(name).ok());
    let is_tls = hop.url.scheme() == "https";
    let begin = Instant::now();
    let (stream, connected) = match &proxy {
        Some(proxy) => {
            guard_proxied(probe, hop)?;
            Box::pin(connect_to_proxy(probe, options, proxy, first)).await?
        }
        None => connect_directly(probe, hop, first).await?,
    };
    let mut stream = stream;
    if let Some(proxy) = &proxy
        && (is_tls || proxy.scheme().starts_with("socks"))
        && let Err(error) = Box::pin(tunnel(&mut stream, proxy, options, &hop.url)).await
    {
        note!(probe.log, Error, "Error for HTTP request", "err" = format!("proxy: {error}"));
        return Err(Failure::Connect);
    }
    let mut handshake = None;
    if is_tls {
        probe.metrics.add(&metrics::HTTP_DURATION, "phase", "connect", connected.elapsed().as_secs_f64());
        let begin = Instant::now();
        match stream.upgrade_as(&options.tls_client, &hop.server_name).await {
            Ok(told) => handshake = Some(told),
            Err(error) => {
                note!(probe.log, Error, "Error for HTTP request", "err" = error);
                return Err(probe.tls_failure(&error));
            }
        }
        probe.metrics.add(&metrics::HTTP_DURATION, "phase", "tls", begin.elapsed().as_secs_f64());
    } else {
        probe.metrics.add(&metrics::HTTP_DURATION, "phase", "connect", connected.elapsed().as_secs_f64());
    }
    note!(probe.log, Debug, "Got connection", "after_seconds" = begin.elapsed().as_secs_f64());
    let http2 = handshake.as_ref().is_some_and(|h| h.protocol.as_deref() == Some(b"h2"));
    let plain_proxy = proxy.as_ref().filter(|p| !is_tls && p.scheme().starts_with("http"));
    let request = match request(hop, http2, plain_proxy) {
        Ok(request) => request,
        Err(error) => {
            note!(probe.log, Error, "Error creating request", "err" = error);
            return Err(Failure::Configuration);
        }
    };
    let begin = Instant::now();
    let sent = if http2 {
        Box::pin(send_http2(stream, request)).await.map_err(|error| {
            let refused = error.is_parse() || error.is_user();
            (error_chain(&error), if refused { Failure::Protocol } else { Failure::Connection })
        })
    } else {
        let answer = http1::send(stream, http1::encode(request)).await;
        let answer =
            answer.map(|http1::Answer { head, length, body }| (head, length, AnswerBody::Http1(Box::new(body))));
        answer.map_err(|error| (error.to_string(), error.failure()))
    };
    let (head, length, body) = match sent {
        Ok(sent) => sent,
        Err((error, failure)) => {
            note!(probe.log, Error, "Error for HTTP request", "err" = error);
            return Err(failure);
        }
    };
    probe.metrics.add(&metrics::HTTP_DURATION, "phase", "processing", begin.elapsed().as_secs_f64());
    Ok(Answer { head, length, body, handshake, begun: Instant::now() })
}

/// A proxy looks names up itself, so that they could mean anything: where networks are guarded only addresses may go through one.
fn guard_proxied(probe: &mut Probe<'_>, hop: &Hop) -> Result<(), Failure> {
    let guard = &probe.environment.guard;
    if guard.allow_networks.is_empty() && guard.deny_networks.is_empty() {
        return Ok(());
    }
    let host = hop.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(address) => probe.guard(address),
        Err(_) => {
            note!(probe.log, Error, "Names that a proxy would look up are not allowed", "host" = host);
            Err(Failure::Forbidden)
        }
    }
}

async fn connect_directly(probe: &mut Probe<'_>, hop: &Hop, first: bool) -> Result<(Stream, Instant), Failure> {
    let port = hop.url.port_or_known_default().unwrap_or(80);
    if let Some(mut address) = hop.address {
        address.set_port(port);
        let begin = Instant::now();
        return match connect(address, None).await {
            Ok(stream) => Ok((Stream::plain(stream), begin)),
            Err(error) => {
                note!(probe.log, Error, "Error for HTTP request", "err" = format!("dial tcp {address}: {error}"));
                Err(Failure::Connect)
            }
        };
    }
    let host = hop.url.host_str().unwrap_or_default().to_owned();
    Box::pin(connect_by_name(probe, &host, port, first)).await
}

async fn connect_by_name(
    probe: &mut Probe<'_>,
    host: &str,
    port: u16,
    first: bool,
) -> Result<(Stream, Instant), Failure> {
    let begin = Instant::now();
    let mut addresses = match probe.lookup(host).await {
        Ok(addresses) => addresses,
        Err(error) => {
            note!(probe.log, Error, "Error for HTTP request", "err" = format!("lookup {host}: {error}"));
            return Err(Failure::Resolve);
        }
    };
    if !first {
        probe.metrics.add(&metrics::HTTP_DURATION, "phase", "resolve", begin.elapsed().as_secs_f64());
    }
    for address in &mut addresses {
        address.set_port(port);
    }
    let begin = Instant::now();
    match probe.connect_any(&addresses).await {
        Ok((stream, _)) => Ok((Stream::plain(stream), begin)),
        Err(error) => {
            note!(probe.log, Error, "Error for HTTP request", "err" = format!("dial tcp {host}:{port}: {error}"));
            let forbidden = error.kind() == io::ErrorKind::PermissionDenied;
            Err(if forbidden { Failure::Forbidden } else { Failure::Connect })
        }
    }
}

async fn connect_to_proxy(
    probe: &mut Probe<'_>,
    options: &HttpOptions,
    proxy: &Url,
    first: bool,
) -> Result<(Stream, Instant), Failure> {
    let host = proxy.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let default = if proxy.scheme().starts_with("socks") { 1080 } else { 80 };
    let port = proxy.port_or_known_default().unwrap_or(default);
    let begin = Instant::now();
    // who set up the proxy meant it to be used: the guard is about targets
    let address = match probe.lookup(&host).await.map(|found| found.first().copied()) {
        Ok(Some(mut address)) => {
            address.set_port(port);
            address
        }
        _ => {
            note!(probe.log, Error, "Error for HTTP request", "err" = format!("lookup of proxy {host} failed"));
            return Err(Failure::Resolve);
        }
    };
    if !first {
        probe.metrics.add(&metrics::HTTP_DURATION, "phase", "resolve", begin.elapsed().as_secs_f64());
    }
    let begin = Instant::now();
    let mut stream = match connect(address, None).await {
        Ok(stream) => Stream::plain(stream),
        Err(error) => {
            note!(
                probe.log,
                Error,
                "Error for HTTP request",
                "err" = format!("proxyconnect tcp: dial {address}: {error}")
            );
            return Err(Failure::Connect);
        }
    };
    if proxy.scheme() == "https"
        && let Err(error) = stream.upgrade_as(&options.proxy_tls_client, &host).await
    {
        note!(probe.log, Error, "Error for HTTP request", "err" = format!("proxyconnect tcp: {error}"));
        return Err(probe.tls_failure(&error));
    }
    Ok((stream, begin))
}

/// The largest head of a proxy's answer to CONNECT.
const MAX_CONNECT_ANSWER: usize = 16 * 1024;

/// Has a proxy pass bytes on to a host.
async fn tunnel(stream: &mut Stream, proxy: &Url, options: &HttpOptions, url: &Url) -> io::Result<()> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    if proxy.scheme().starts_with("socks") {
        return socks5(stream, proxy, host, port).await;
    }
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(credentials) = proxy_credentials(proxy) {
        request.push_str(&format!("Proxy-Authorization: {credentials}\r\n"));
    }
    for (name, values) in &options.client.proxy_connect_header {
        for value in values {
            request.push_str(&format!("{name}: {}\r\n", value.expose()));
        }
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    // byte by byte: what follows belongs to the tunnel
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > MAX_CONNECT_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer to CONNECT is too long"));
        }
        answer.push(stream.read_u8().await?);
    }
    let first = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    let text = String::from_utf8_lossy(first);
    let status = text.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "200" { Ok(()) } else { Err(io::Error::other(format!("CONNECT: {text}"))) }
}

/// RFC 1928 and 1929. Names are left to the proxy.
async fn socks5(stream: &mut Stream, proxy: &Url, host: &str, port: u16) -> io::Result<()> {
    let fault = |text: &str| io::Error::other(format!("socks5: {text}"));
    let decoded = |text: &str| percent_decoded(text);
    let (user, password) = (decoded(proxy.username()), decoded(proxy.password().unwrap_or_default()));
    let with_password = !user.is_empty();
    stream.write_all(if with_password { &[5, 2, 0, 2] } else { &[5, 1, 0] }).await?;
    stream.flush().await?;
    let choice = [stream.read_u8().await?, stream.read_u8().await?];
    match choice {
        [5, 0] => {}
        [5, 2] if with_password && user.len() < 256 && password.len() < 256 => {
            let mut request = vec![1, user.len() as u8];
            request.extend_from_slice(user.as_bytes());
            request.push(password.len() as u8);
            request.extend_from_slice(password.as_bytes());
            stream.write_all(&request).await?;
            stream.flush().await?;
            stream.read_u8().await?;
            if stream.read_u8().await? != 0 {
                return Err(fault("the proxy does not take the password"));
            }
        }
        _ => return Err(fault("the proxy offers no known way to sign in")),
    }
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let mut request = vec![5, 1, 0];
    match plain.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Ok(std::net::IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        Err(_) => {
            request.extend_from_slice(&[3, u8::try_from(plain.len()).map_err(|_| fault("the name is too long"))?]);
            request.extend_from_slice(plain.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[1] != 0 {
        return Err(fault(&format!("the proxy answers with code {}", head[1])));
    }
    let rest = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(fault("the proxy's answer cannot be read")),
    };
    let mut bound = vec![0; rest + 2];
    stream.read_exact(&mut bound).await?;
    Ok(())
}

fn percent_decoded(text: &str) -> String {
    // a name and value pair has the same escapes
    let pair = format!("v={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map_or_else(String::new, |(_, value)| value.into_owned())
}

/// The `Proxy-Authorization` header for a proxy with a user in its address.
fn proxy_credentials(proxy: &Url) -> Option<String> {
    if proxy.username().is_empty() && proxy.password().is_none() {
        return None;
    }
    let (user, password) = (percent_decoded(proxy.username()), percent_decoded(proxy.password().unwrap_or_default()));
    Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// The request on the wire: with the whole address for HTTP/2 and proxies, else with the path only.
pub(super) fn request(hop: &Hop, http2: bool, proxy: Option<&Url>) -> Result<Request<Bytes>, http::Error> {
    let path = &hop.url[url::Position::BeforePath..url::Position::AfterQuery];
    let uri: Uri = match (http2, proxy) {
        (true, _) => format!("https://{}{path}", hop.host).parse()?,
        (false, Some(_)) => {
            let authority = &hop.url[url::Position::BeforeHost..url::Position::AfterPort];
            format!("http://{authority}{path}").parse()?
        }
        (false, None) => path.parse()?,
    };
    let mut request = Request::new(hop.body.clone());
    *request.uri_mut() = uri;
    *request.method_mut() = hop.method.clone();
    let headers = request.headers_mut();
    headers.reserve(hop.headers.len() + 3);
    if http2 {
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        let connection = [header::CONNECTION, header::TRANSFER_ENCODING, HeaderName::from_static("keep-alive")];
        headers.extend(hop.headers.clone());
        connection.iter().for_each(|name| drop(headers.remove(name)));
        return Ok(request);
    }
    headers.insert(header::HOST, HeaderValue::from_str(&hop.host)?);
    headers.extend(hop.headers.clone());
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Some(credentials) = proxy.and_then(proxy_credentials) {
        headers.insert(header::PROXY_AUTHORIZATION, HeaderValue::from_str(&credentials)?);
    }
    Ok(request)
}

/// The length that the head of an answer over HTTP/2 or 3 announces. `is_empty` says that nothing follows the head.
pub(super) fn announced_length(method: &Method, head: &http::response::Parts, is_empty: bool) -> Option<u64> {
    let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let ends_here = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || (is_empty && *method != Method::HEAD);
    announced.or(ends_here.then_some(0))
}

async fn send_http2(
    stream: Stream,
    request: Request<Bytes>,
) -> Result<(http::response::Parts, Option<u64>, AnswerBody), hyper::Error> {
    let method = request.method().clone();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(MAX_HEAD as u32)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    let length = announced_length(&method, &head, body.is_end_stream());
    Ok((head, length, AnswerBody::Http2 { incoming: body, _connection: connection }))
}
