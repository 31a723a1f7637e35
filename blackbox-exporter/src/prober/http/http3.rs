//! One request and its answer over HTTP/3.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::transport::{Answer, AnswerBody, Hop, announced_length, request};
use crate::config::HttpOptions;
use crate::failure::Failure;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use crate::tls::{Handshake, TlsError};

type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A body, and what keeps its connection open.
pub(super) struct Body {
    stream: Stream,
    _sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    _endpoint: Endpoint,
    _driver: AbortOnDropHandle<()>,
}

impl Body {
    /// The next part; none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        match self.stream.recv_data().await {
            Ok(Some(mut data)) => Some(Ok(data.copy_to_bytes(data.remaining()))),
            Ok(None) => None,
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

/// Sends a request. Proxies are not for HTTP/3, which goes over UDP.
pub(super) async fn round_trip(
    probe: &mut Probe<'_>,
    options: &HttpOptions,
    hop: &Hop,
    first: bool,
) -> Result<Answer, Failure> {
    let failed = |probe: &mut Probe<'_>, error: &dyn std::fmt::Display, failure: Failure| {
        note!(probe.log, Error, "Error for HTTP request", "err" = error);
        failure
    };
    if hop.url.scheme() != "https" {
        return Err(failed(probe, &"http3: unsupported protocol scheme: http", Failure::Configuration));
    }
    let port = hop.url.port_or_known_default().unwrap_or(443);
    let mut address = address(probe, hop, first).await?;
    address.set_port(port);

    let begin = Instant::now();
    let (config, roots) = options.tls_client.config().map_err(|e| failed(probe, &e, Failure::Configuration))?;
    let config = QuicClientConfig::try_from(config).map_err(|e| failed(probe, &e, Failure::Configuration))?;
    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let endpoint = Endpoint::client(SocketAddr::new(any, 0)).map_err(|e| failed(probe, &e, Failure::Connect))?;
    let config = ClientConfig::new(Arc::new(config));
    let connecting = endpoint
        .connect_with(config, address, &hop.server_name)
        .map_err(|e| failed(probe, &e, Failure::Configuration))?;
    // the handshakes of QUIC and TLS are one
    let connection = match connecting.await {
        Ok(connection) => connection,
        Err(error) => {
            let tls = tls_error(&error);
            note!(probe.log, Error, "Error for HTTP request", "err" = error);
            return Err(tls.map_or(Failure::Connect, |error| probe.tls_failure(&error)));
        }
    };
    probe.metrics.add(&metrics::HTTP_DURATION, "phase", "tls", begin.elapsed().as_secs_f64());
    let chain =
        connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let handshake = Handshake {
        protocol: Some(b"h3".to_vec()),
        version: Some(rustls::ProtocolVersion::TLSv1_3),
        // quinn does not tell
        cipher: None,
        chain: chain.map(|chain| *chain).unwrap_or_default(),
        roots,
    };

    let begin = Instant::now();
    let parts = h3::client::new(h3_quinn::Connection::new(connection)).await;
    let (mut driver, mut sender) = parts.map_err(|e| failed(probe, &e, Failure::Protocol))?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    }));
    let request = request(hop, true, None).map_err(|e| failed(probe, &e, Failure::Configuration))?;
    let (mut head, _) = request.into_parts();
    head.version = http::Version::HTTP_3;
    let exchange = async {
        let mut stream = sender.send_request(Request::from_parts(head, ())).await?;
        if !hop.body.is_empty() {
            stream.send_data(hop.body.clone()).await?;
        }
        stream.finish().await?;
        let response = stream.recv_response().await?;
        Ok::<_, h3::error::StreamError>((response, stream))
    };
    let (response, stream) = exchange.await.map_err(|e| failed(probe, &e, Failure::Connection))?;
    probe.metrics.add(&metrics::HTTP_DURATION, "phase", "processing", begin.elapsed().as_secs_f64());
    let (mut head, ()) = response.into_parts();
    head.version = http::Version::HTTP_3;
    Ok(Answer {
        length: announced_length(&hop.method, &head, false),
        head,
        body: AnswerBody::Http3(Box::new(Body { stream, _sender: sender, _endpoint: endpoint, _driver: driver })),
        handshake: Some(handshake),
        begun: Instant::now(),
    })
}

/// The address of a hop.
async fn address(probe: &mut Probe<'_>, hop: &Hop, first: bool) -> Result<SocketAddr, Failure> {
    if let Some(address) = hop.address {
        return Ok(address);
    }
    let host = hop.url.host_str().unwrap_or_default().to_owned();
    let begin = Instant::now();
    let found = probe.lookup(&host).await;
    if !first {
        probe.metrics.add(&metrics::HTTP_DURATION, "phase", "resolve", begin.elapsed().as_secs_f64());
    }
    match found.map(|found| found.first().copied()) {
        Ok(Some(address)) => {
            probe.guard(address.ip())?;
            Ok(address)
        }
        _ => {
            note!(probe.log, Error, "Error for HTTP request", "err" = format!("lookup {host} failed"));
            Err(Failure::Resolve)
        }
    }
}

/// What TLS has to say about a failed handshake.
fn tls_error(error: &quinn::ConnectionError) -> Option<TlsError> {
    let quinn::ConnectionError::TransportError(transport) = error else { return None };
    // codes of TLS alerts are 0x100 and up (RFC 9001, 4.8)
    let is_alert = (0x100..0x200).contains(&u64::from(transport.code));
    is_alert.then(|| TlsError::Handshake(std::io::Error::other(transport.reason.clone())))
}
