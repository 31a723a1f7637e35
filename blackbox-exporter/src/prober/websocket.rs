//! WebSocket: the upgrade of an HTTP connection (RFC 6455), and a dialogue of messages on it.

mod frame;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::config::{QueryResponse, WebsocketOptions};
use crate::connect::connect;
use crate::drive::drive;
use crate::failure::Failure;
use crate::flags::USER_AGENT;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use crate::prober::dialogue::Stream;
use frame::Messages;

/// What the key of a handshake is joined with (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Probes `ws://` and `wss://` addresses.
pub(crate) async fn probe(probe: &mut Probe<'_>, options: &WebsocketOptions) -> Result<(), Failure> {
    probe.metrics.set(&metrics::WEBSOCKET_UPGRADED, 0.0);
    probe.metrics.set(&metrics::WEBSOCKET_STATUS, 0.0);
    probe.metrics.set(&metrics::WEBSOCKET_REGEX, 0.0);
    let url = url::Url::parse(&probe.order.target).ok().filter(|url| url.host_str().is_some());
    let tls = url.as_ref().and_then(|url| match url.scheme() {
        "ws" | "http" => Some(false),
        "wss" | "https" => Some(true),
        _ => None,
    });
    let (Some(url), Some(tls)) = (url, tls) else {
        note!(probe.log, Error, "Could not parse target URL", "err" = "want ws:// or wss:// and a host");
        return Err(Failure::Configuration);
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port().unwrap_or(if tls { 443 } else { 80 });
    let begin = Instant::now();
    let mut address = probe.resolve(options.ip, &host).await?;
    address.set_port(port);
    for phase in ["resolve", "connect", "processing", "transfer"] {
        probe.metrics.set_label(&metrics::WEBSOCKET_DURATION, "phase", phase, 0.0);
    }
    let phase = |probe: &mut Probe<'_>, name, since: Instant| {
        probe.metrics.set_label(&metrics::WEBSOCKET_DURATION, "phase", name, since.elapsed().as_secs_f64());
    };
    phase(probe, "resolve", begin);

    let begin = Instant::now();
    let mut stream = match connect(address, None).await {
        Ok(stream) => Stream::plain(stream),
        Err(error) => {
            note!(probe.log, Error, "Error dialing websocket", "err" = format!("dial {address}: {error}"));
            return Err(Failure::Connect);
        }
    };
    if tls && let Err(error) = stream.upgrade(&options.tls_client, &host).await {
        note!(probe.log, Error, "Error dialing websocket", "err" = error);
        return Err(probe.tls_failure(&error));
    }
    phase(probe, "connect", begin);

    let begin = Instant::now();
    let key = STANDARD.encode(frame::random::<16>());
    let request = request(probe, options, &url, &key).await?;
    let handshake = hyper::client::conn::http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream));
    let (mut sender, connection) = match handshake.await {
        Ok(parts) => parts,
        Err(error) => {
            note!(probe.log, Error, "Error dialing websocket", "err" = error);
            return Err(Failure::Connection);
        }
    };
    let work = async {
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => {
                note!(probe.log, Error, "Error dialing websocket", "err" = error);
                return Err(Failure::Connection);
            }
        };
        phase(probe, "processing", begin);
        probe.metrics.set(&metrics::WEBSOCKET_STATUS, f64::from(response.status().as_u16()));
        if let Err(reason) = accepted(&response, &key) {
            note!(probe.log, Error, "Error dialing websocket", "err" = format!("websocket: bad handshake: {reason}"));
            return Err(Failure::Protocol);
        }
        let upgraded = match hyper::upgrade::on(response).await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                note!(probe.log, Error, "Error dialing websocket", "err" = error);
                return Err(Failure::Connection);
            }
        };
        probe.metrics.set(&metrics::WEBSOCKET_UPGRADED, 1.0);
        let begin = Instant::now();
        let result = dialogue(probe, Messages::new(TokioIo::new(upgraded)), &options.query_response).await;
        phase(probe, "transfer", begin);
        result
    };
    drive(connection.with_upgrades(), work).await
}

async fn request(
    probe: &mut Probe<'_>,
    options: &WebsocketOptions,
    url: &url::Url,
    key: &str,
) -> Result<Request<Empty<Bytes>>, Failure> {
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::new(Empty::new());
    let fault = |probe: &mut Probe<'_>, error: &dyn std::fmt::Display| {
        note!(probe.log, Error, "Error creating request", "err" = error);
        Failure::Configuration
    };
    *request.uri_mut() = path.parse().map_err(|e: http::uri::InvalidUri| fault(probe, &e))?;
    let headers = request.headers_mut();
    let mut own = http::HeaderMap::new();
    for (name, value) in &options.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| fault(probe, &e))?;
        own.append(name, HeaderValue::from_str(value).map_err(|e| fault(probe, &e))?);
    }
    let credentials = common::http::client::Credentials::default();
    credentials.apply(&options.client, USER_AGENT, &mut own).await.map_err(|e| fault(probe, &e))?;
    let host = HeaderValue::from_str(authority).map_err(|e| fault(probe, &e))?;
    headers.insert(header::HOST, own.remove(header::HOST).unwrap_or(host));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.extend(own);
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(key).map_err(|e| fault(probe, &e))?);
    Ok(request)
}

/// Whether a server has agreed.
fn accepted<B>(response: &http::Response<B>, key: &str) -> Result<(), &'static str> {
    let has = |name, token: &str| {
        let values = response.headers().get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err("the status is not 101");
    }
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err("the Upgrade and Connection headers do not say so");
    }
    let sum = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    let expected = STANDARD.encode(sum.as_ref());
    let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != expected.as_bytes()) {
        return Err("the Sec-WebSocket-Accept header is not the answer to the key");
    }
    Ok(())
}

/// Has the dialogue. As in blackbox_exporter, what does not match is told by a metric, and the probe fails.
async fn dialogue(
    probe: &mut Probe<'_>,
    mut messages: Messages<TokioIo<Upgraded>>,
    steps: &[QueryResponse],
) -> Result<(), Failure> {
    for step in steps {
        let mut send = step.send.0.clone();
        if let Some(regexp) = &step.expect {
            let message = match messages.read().await {
                Ok(message) => message,
                Err(error) => {
                    probe.metrics.set(&metrics::WEBSOCKET_REGEX, 1.0);
                    note!(probe.log, Error, "Error reading message", "err" = error);
                    return Err(Failure::Connection);
                }
            };
            let shown = String::from_utf8_lossy(&message);
            let Some(captures) = regexp.captures(&message) else {
                probe.metrics.set(&metrics::WEBSOCKET_REGEX, 1.0);
                note!(probe.log, Error, "Regexp did not match", "regexp" = regexp, "line" = shown);
                return Err(Failure::Regex);
            };
            note!(probe.log, Debug, "regexp matched", "regexp" = regexp, "line" = shown);
            send.clear();
            captures.expand(&step.send.0, &mut send);
        }
        if !send.is_empty() {
            if let Err(error) = messages.write_text(&send).await {
                note!(probe.log, Error, "Error sending message", "err" = error);
                return Err(Failure::Connection);
            }
            note!(probe.log, Debug, "message sent", "message" = String::from_utf8_lossy(&send));
        }
    }
    // a server that learns nothing would wait for more
    messages.close().await.ok();
    Ok(())
}
