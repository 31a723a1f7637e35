//! gRPC: the health protocol (grpc.health.v1) over HTTP/2.

mod health;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Instant;

use crate::config::GrpcOptions;
use crate::connect::connect;
use crate::drive::drive;
use crate::failure::Failure;
use crate::flags::USER_AGENT;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use crate::prober::dialogue::Stream;
use crate::tls::{Handshake, Report};
use health::{Code, SERVING, STATUSES};

/// The longest answer: a status is two bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What a server has said.
struct Answer {
    code: Code,
    /// The serving status' number, if the call went well.
    status: Option<u64>,
    message: String,
}

impl Answer {
    fn failed(code: Code, message: impl std::fmt::Display) -> Self {
        Self { code, status: None, message: message.to_string() }
    }
}

/// Probes `host:port`, with or without a scheme before it.
pub(crate) async fn probe(probe: &mut Probe<'_>, options: &GrpcOptions) -> Result<(), Failure> {
    probe.metrics.set_label(&metrics::GRPC_DURATION, "phase", "resolve", 0.0);
    probe.metrics.set(&metrics::GRPC_SSL, 0.0);
    probe.metrics.set(&metrics::GRPC_STATUS, 0.0);
    let target = &probe.order.target;
    let with_scheme = if target.starts_with("http://") || target.starts_with("https://") {
        target.clone()
    } else {
        format!("http://{target}")
    };
    let url = match url::Url::parse(&with_scheme) {
        Ok(url) => url,
        Err(error) => {
            note!(probe.log, Error, "Could not parse target URL", "err" = error);
            return Err(Failure::Configuration);
        }
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port().unwrap_or(if options.tls { 443 } else { 80 });
    let begin = Instant::now();
    let mut address = probe.resolve(options.ip, &host).await?;
    address.set_port(port);
    probe.metrics.add(&metrics::GRPC_DURATION, "phase", "resolve", begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    // told at the end of the probe's time as well
    for (_, name) in STATUSES {
        probe.metrics.set_label(&metrics::GRPC_HEALTH, "serving_status", name, 0.0);
    }
    probe.metrics.set_label(&metrics::GRPC_DURATION, "phase", "check", 0.0);
    probe.metrics.set(&metrics::GRPC_STATUS, Code::DEADLINE_EXCEEDED.number());
    let mut stream = match connect(address, None).await {
        Ok(stream) => Stream::plain(stream),
        Err(error) => {
            probe.metrics.set(&metrics::GRPC_STATUS, Code::UNAVAILABLE.number());
            probe.metrics.set_label(&metrics::GRPC_DURATION, "phase", "check", begin.elapsed().as_secs_f64());
            note!(probe.log, Error, "can't connect grpc server:", "err" = format!("dial {address}: {error}"));
            return Err(Failure::Connect);
        }
    };
    let mut handshake: Option<Handshake> = None;
    if options.tls {
        match stream.upgrade(&options.tls_client, &host).await {
            Ok(told) => handshake = Some(told),
            Err(error) => {
                probe.metrics.set(&metrics::GRPC_STATUS, Code::UNAVAILABLE.number());
                probe.metrics.set_label(&metrics::GRPC_DURATION, "phase", "check", begin.elapsed().as_secs_f64());
                note!(probe.log, Error, "can't connect grpc server:", "err" = error);
                return Err(probe.tls_failure(&error));
            }
        }
    }
    let authority = format!("{host}:{port}");
    let answer = check(stream, &authority, options).await;
    probe.metrics.set_label(&metrics::GRPC_DURATION, "phase", "check", begin.elapsed().as_secs_f64());
    probe.metrics.set(&metrics::GRPC_STATUS, answer.code.number());
    if let Some((_, name)) = answer.status.and_then(|status| STATUSES.iter().find(|(number, _)| *number == status)) {
        probe.metrics.set_label(&metrics::GRPC_HEALTH, "serving_status", name, 1.0);
    }
    if let (Some(handshake), Some(_)) = (&handshake, answer.status) {
        probe.metrics.set(&metrics::GRPC_SSL, 1.0);
        handshake.report(&mut probe.metrics, Report::Grpc);
    }
    if answer.status == Some(SERVING) {
        note!(probe.log, Debug, "connect the grpc server successfully");
        return Ok(());
    }
    note!(probe.log, Error, "can't connect grpc server:", "err" = answer.message, "code" = answer.code.number());
    Err(if answer.code == Code::UNAVAILABLE { Failure::Connection } else { Failure::Status })
}

/// Makes the call.
async fn check(stream: Stream, authority: &str, options: &GrpcOptions) -> Answer {
    let scheme = if options.tls { "https" } else { "http" };
    let mut request = Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT);
    for (name, values) in &options.metadata {
        for value in values {
            request = request.header(name, value);
        }
    }
    let request = match request.body(Full::new(Bytes::from(health::request(&options.service)))) {
        Ok(request) => request,
        Err(error) => return Answer::failed(Code::INTERNAL, error),
    };
    let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(64 * 1024)
        .handshake(TokioIo::new(stream));
    let (mut sender, connection) = match handshake.await {
        Ok(parts) => parts,
        Err(error) => return Answer::failed(Code::UNAVAILABLE, error),
    };
    let call = async {
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return Answer::failed(Code::UNAVAILABLE, error),
        };
        read(response).await
    };
    drive(connection, call).await
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Answer {
    let status = response.status();
    if status != hyper::StatusCode::OK {
        return Answer::failed(
            Code::of_http(status),
            format!("unexpected HTTP status code received from server: {status}"),
        );
    }
    let is_grpc =
        response.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        return Answer::failed(Code::UNKNOWN, "unexpected content-type");
    }
    // an error may come as headers only
    let early = health::status_of(response.headers());
    let collected = match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
        Ok(collected) => collected,
        Err(error) => return Answer::failed(Code::UNAVAILABLE, error),
    };
    let late = collected.trailers().and_then(health::status_of);
    let Some((code, message)) = late.or(early) else {
        return Answer::failed(Code::INTERNAL, "server closed the stream without sending trailers");
    };
    if code != Code::OK {
        return Answer { code, status: None, message };
    }
    match health::serving_status(&collected.to_bytes()) {
        Some(status) => Answer { code, status: Some(status), message: format!("serving status {status}") },
        None => Answer::failed(Code::INTERNAL, "the answer is no health check response"),
    }
}
