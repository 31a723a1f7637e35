//! DNS: one question, and what the answer must be like.

mod message;
pub(crate) mod names;
mod rdata;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::config::{DnsOptions, RrValidator, Transport};
use crate::connect::{connect, split_host_port};
use crate::failure::Failure;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use message::{Message, MessageError, Question, Record};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("dns: id mismatch")]
    Id,
}

/// Probes the server `host` or `host:port`.
pub(crate) async fn probe(probe: &mut Probe<'_>, options: &DnsOptions) -> Result<(), Failure> {
    for phase in ["resolve", "connect", "request"] {
        probe.metrics.set_label(&metrics::DNS_DURATION, "phase", phase, 0.0);
    }
    for metric in [&metrics::DNS_ANSWERS, &metrics::DNS_AUTHORITIES, &metrics::DNS_ADDITIONALS, &metrics::DNS_SUCCEEDED]
    {
        probe.metrics.set(metric, 0.0);
    }
    if let Transport::Unknown(name) = &options.transport {
        note!(probe.log, Error, "Configuration error: Expected transport protocol udp or tcp", "protocol" = name);
        return Err(Failure::Configuration);
    }
    let default_port = if options.over_tls { 853 } else { 53 };
    let (host, port) = split_host_port(&probe.order.target).unwrap_or((&probe.order.target, default_port));
    let begin = Instant::now();
    let mut address = probe.resolve(options.ip, host).await?;
    address.set_port(port);
    probe.metrics.add(&metrics::DNS_DURATION, "phase", "resolve", begin.elapsed().as_secs_f64());
    if options.over_tls && options.transport != Transport::Tcp {
        note!(probe.log, Error, "Configuration error: Expected transport protocol tcp for DoT");
        return Err(Failure::Configuration);
    }
    let source = probe.source(options.source)?;
    let name = url::Host::parse(&options.query_name).map_or_else(
        |_| options.query_name.clone(),
        // international names are asked for in their ASCII form, all others as they are written
        |host| if options.query_name.is_ascii() { options.query_name.clone() } else { host.to_string() },
    );
    let question = Question {
        id: random_id(),
        name: &name,
        record_type: options.query_type.0,
        class: options.query_class.0,
        recursion_desired: options.recursion_desired,
    };
    note!(
        probe.log,
        Debug,
        "Making DNS query",
        "target" = address,
        "query" = name,
        "type" = names::type_name(question.record_type),
        "class" = names::class_name(question.class)
    );
    let response = exchange(probe, options, address, source, host, &question).await?;
    note!(probe.log, Debug, "Got response", "response" = format!("{response:?}"));
    probe.metrics.set(&metrics::DNS_ANSWERS, response.answers.len() as f64);
    probe.metrics.set(&metrics::DNS_AUTHORITIES, response.authorities.len() as f64);
    probe.metrics.set(&metrics::DNS_ADDITIONALS, response.additionals.len() as f64);
    probe.metrics.set(&metrics::DNS_SUCCEEDED, 1.0);
    if Some(question.record_type) == names::type_of("SOA") {
        let serial = response.answers.iter().filter_map(|record| record.serial).next_back();
        probe.metrics.set(&metrics::DNS_SERIAL, f64::from(serial.unwrap_or(0)));
    }
    valid_rcode(probe, response.rcode, &options.valid_rcodes)?;
    for (name, records, validator) in [
        ("answer", &response.answers, &options.validate_answer),
        ("authority", &response.authorities, &options.validate_authority),
        ("additional", &response.additionals, &options.validate_additional),
    ] {
        note!(probe.log, Debug, "Validating RRs", "section" = name);
        if !valid_records(probe, records, validator) {
            note!(probe.log, Error, "RRs validation failed", "section" = name);
            return Err(Failure::Regex);
        }
    }
    Ok(())
}

/// Asks, and reads the answer.
async fn exchange(
    probe: &mut Probe<'_>,
    options: &DnsOptions,
    address: SocketAddr,
    source: Option<IpAddr>,
    host: &str,
    question: &Question<'_>,
) -> Result<Message, Failure> {
    let fault = |probe: &mut Probe<'_>, error: QueryError, failure: Failure| {
        note!(probe.log, Error, "Error while sending a DNS query", "err" = error);
        failure
    };
    let query = question.encode().map_err(|e| fault(probe, e.into(), Failure::Configuration))?;
    let begin = Instant::now();
    let phase = |probe: &mut Probe<'_>, name, since: Instant| {
        probe.metrics.set_label(&metrics::DNS_DURATION, "phase", name, since.elapsed().as_secs_f64());
    };
    let result = if options.transport == Transport::Udp {
        let socket = udp_socket(address, source).await;
        phase(probe, "connect", begin);
        let socket = socket.map_err(|e| fault(probe, e.into(), Failure::Connect))?;
        let asked = Instant::now();
        let result = ask_over_udp(&socket, &query, question.id).await;
        phase(probe, "request", asked);
        result
    } else {
        let stream = connect(address, source).await;
        phase(probe, "connect", begin);
        let stream = stream.map_err(|e| fault(probe, e.into(), Failure::Connect))?;
        if options.over_tls {
            let connected = options.tls_client.connect(stream, host).await;
            phase(probe, "connect", begin);
            let (stream, _) = match connected {
                Ok(connected) => connected,
                Err(error) => {
                    note!(probe.log, Error, "Error while sending a DNS query", "err" = error);
                    return Err(probe.tls_failure(&error));
                }
            };
            let asked = Instant::now();
            let result = ask_over_stream(stream, &query, question.id).await;
            phase(probe, "request", asked);
            result
        } else {
            let asked = Instant::now();
            let result = ask_over_stream(stream, &query, question.id).await;
            phase(probe, "request", asked);
            result
        }
    };
    result.map_err(|error| {
        let failure = if matches!(error, QueryError::Io(_)) { Failure::Connection } else { Failure::Protocol };
        fault(probe, error, failure)
    })
}

async fn udp_socket(address: SocketAddr, source: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Packets with another id are answers to somebody else, or made up, and are passed over.
async fn ask_over_udp(socket: &UdpSocket, query: &[u8], id: u16) -> Result<Message, QueryError> {
    socket.send(query).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if buffer[..len].starts_with(&id.to_be_bytes()) {
            return Ok(Message::decode(&buffer[..len])?);
        }
    }
}

async fn ask_over_stream<S>(mut stream: S, query: &[u8], id: u16) -> Result<Message, QueryError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut framed = Vec::with_capacity(query.len() + 2);
    framed.extend_from_slice(&(query.len() as u16).to_be_bytes());
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    stream.flush().await?;
    let len = usize::from(stream.read_u16().await?);
    let mut buffer = vec![0; len];
    stream.read_exact(&mut buffer).await?;
    let message = Message::decode(&buffer)?;
    if message.id == id { Ok(message) } else { Err(QueryError::Id) }
}

fn random_id() -> u16 {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 2];
    // a predictable id is still an id
    ring::rand::SystemRandom::new().fill(&mut bytes).ok();
    u16::from_be_bytes(bytes)
}

fn valid_rcode(probe: &mut Probe<'_>, rcode: u16, valid: &[String]) -> Result<(), Failure> {
    let mut found = valid.is_empty() && rcode == 0;
    for name in valid {
        match names::rcode_of(name) {
            Some(number) => found |= number == rcode,
            None => {
                note!(probe.log, Error, "Invalid rcode", "rcode" = name);
                return Err(Failure::Configuration);
            }
        }
    }
    let name = names::rcode_name(rcode);
    if found {
        note!(probe.log, Debug, "Rcode is valid", "rcode" = rcode, "string_rcode" = name);
        return Ok(());
    }
    note!(probe.log, Error, "Rcode is not one of the valid rcodes", "rcode" = rcode, "string_rcode" = name);
    Err(Failure::Status)
}

fn valid_records(probe: &mut Probe<'_>, records: &[Record], validator: &RrValidator) -> bool {
    if records.is_empty() {
        for (list, name) in [
            (&validator.fail_if_not_matches_regexp, "fail_if_not_matches_regexp"),
            (&validator.fail_if_none_matches_regexp, "fail_if_none_matches_regexp"),
        ] {
            if !list.is_empty() {
                note!(probe.log, Error, "an expression must match but no RRs returned", "option" = name);
                return false;
            }
        }
    }
    let (mut any, mut all) = (false, true);
    for record in records {
        let text = record.text.as_bytes();
        note!(probe.log, Debug, "Validating RR", "rr" = record.text);
        if let Some(regexp) = validator.fail_if_matches_regexp.iter().find(|r| r.is_match(text)) {
            note!(probe.log, Error, "At least one RR matched regexp", "regexp" = regexp, "rr" = record.text);
            return false;
        }
        all &= validator.fail_if_all_match_regexp.iter().all(|r| r.is_match(text));
        if let Some(regexp) = validator.fail_if_not_matches_regexp.iter().find(|r| !r.is_match(text)) {
            note!(probe.log, Error, "At least one RR did not match regexp", "regexp" = regexp, "rr" = record.text);
            return false;
        }
        any |= validator.fail_if_none_matches_regexp.iter().any(|r| r.is_match(text));
    }
    // the option's name notwithstanding: blackbox_exporter fails if they do not all match
    if !validator.fail_if_all_match_regexp.is_empty() && !all {
        note!(probe.log, Error, "Not all RRs matched regexp");
        return false;
    }
    if !validator.fail_if_none_matches_regexp.is_empty() && !any {
        note!(probe.log, Error, "None of the RRs did matched any regexp");
        return false;
    }
    true
}
