use std::error::Error;
use std::io;

use model::format_rfc3339_millis;
use reqwest::Url;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::connection::error_chain;

/// Why a request failed, in the words of Go's standard library where the reason is known: users, dashboards and runbooks know
/// those. Anything else keeps its own words.
///
/// `asked` is where the connection was to go; `None` if it is not known, behind a proxy for instance. A name stands where Go has
/// the address that it found for it.
pub fn go_words(error: &reqwest::Error, asked: Option<&Url>) -> String {
    let Some(cause) = error.source() else { return error_chain(error) };
    if error.is_redirect() {
        return "stopped after 10 redirects".to_owned();
    }
    let chain = || std::iter::successors(Some(cause), |error| (*error).source());
    let io = chain().find_map(|error| error.downcast_ref()).map(innermost);
    let tls = io.and_then(io::Error::get_ref).and_then(|error| error.downcast_ref::<rustls::Error>());
    if let Some(words) = tls.or_else(|| chain().find_map(|error| error.downcast_ref())).and_then(tls_words) {
        return words;
    }
    if error.is_connect() {
        let connect = chain().map(ToString::to_string).any(|text| text == "tcp connect error");
        if let (true, Some(words)) = (connect, io.and_then(system_words)) {
            return format!("dial tcp{}: connect: {words}", asked.and_then(address).unwrap_or_default());
        }
        if chain().any(|error| error.to_string() == "dns error")
            && let Some(host) = asked.and_then(Url::host_str)
        {
            return format!("dial tcp: lookup {host}: no such host");
        }
    }
    if let Some(words) = io.and_then(system_words) {
        return format!("read: {words}");
    }
    let http = chain().find_map(|error| error.downcast_ref::<hyper::Error>());
    match http {
        Some(http) if http.is_incomplete_message() && error.is_request() => "EOF".to_owned(),
        Some(http) if http.is_parse() => {
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response".to_owned()
        }
        _ if io.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) => "EOF".to_owned(),
        _ => error_chain(cause),
    }
}

/// The same for a fault while the body was read.
pub fn go_body_words(error: &reqwest::Error) -> String {
    let chain = || std::iter::successors(error.source(), |error| (*error).source());
    let io = chain().find_map(|error| error.downcast_ref()).map(innermost);
    if io.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
        return "unexpected EOF".to_owned();
    }
    if let Some(words) = io.and_then(system_words) {
        return format!("read: {words}");
    }
    match chain().find_map(|error| error.downcast_ref::<hyper::Error>()) {
        Some(http) if http.is_incomplete_message() => "unexpected EOF".to_owned(),
        _ => error_chain(error),
    }
}

/// What an error of the system was wrapped in by those who handed it on, which is no cause in the sense of `source`.
fn innermost(mut error: &io::Error) -> &io::Error {
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        error = inner;
    }
    error
}

/// Host and port, after a blank.
fn address(url: &Url) -> Option<String> {
    Some(format!(" {}:{}", url.host_str()?, url.port_or_known_default()?))
}

fn system_words(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::BrokenPipe => "broken pipe",
        io::ErrorKind::TimedOut => "connection timed out",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => return None,
    })
}

fn tls_words(error: &rustls::Error) -> Option<String> {
    let failed = |reason: &str| Some(format!("tls: failed to verify certificate: x509: {reason}"));
    match error {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer => failed("certificate signed by unknown authority"),
            CertificateError::NotValidForNameContext { expected, presented } => {
                failed(&wrong_name(expected, presented))
            }
            CertificateError::ExpiredContext { time, not_after } => {
                let (now, end) = (shown(*time), shown(*not_after));
                failed(&format!("certificate has expired or is not yet valid: current time {now} is after {end}"))
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let (now, begin) = (shown(*time), shown(*not_before));
                failed(&format!("certificate has expired or is not yet valid: current time {now} is before {begin}"))
            }
            _ => None,
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("http: server gave HTTP response to HTTPS client".to_owned())
        }
        rustls::Error::AlertReceived(alert) => {
            let words = match alert {
                AlertDescription::CertificateRequired => "certificate required",
                AlertDescription::BadCertificate => "bad certificate",
                AlertDescription::UnknownCA => "unknown certificate authority",
                AlertDescription::HandshakeFailure => "handshake failure",
                AlertDescription::ProtocolVersion => "protocol version not supported",
                AlertDescription::UnrecognisedName => "unrecognized name",
                AlertDescription::InternalError => "internal error",
                _ => return None,
            };
            Some(format!("remote error: tls: {words}"))
        }
        _ => None,
    }
}

/// Why a certificate is not for this server. `presented` has its names as `DnsName("a")` and `IpAddress(127.0.0.1)`.
fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let of = |kind: &str| -> Vec<&str> {
        let inner = presented.iter().filter_map(|name| name.strip_prefix(kind)?.strip_suffix(')'));
        inner.map(|name| name.trim_start_matches('(').trim_matches('"')).collect()
    };
    let name = expected.to_str();
    let (kind, valid) = match expected {
        ServerName::IpAddress(_) => ("IP SANs", of("IpAddress")),
        _ => ("names", of("DnsName")),
    };
    match (valid.is_empty(), kind) {
        (false, _) => format!("certificate is valid for {}, not {name}", valid.join(", ")),
        (true, "IP SANs") => format!("cannot validate certificate for {name} because it doesn't contain any IP SANs"),
        (true, _) => format!("certificate is not valid for any names, but wanted to match {name}"),
    }
}

/// A time as Go writes it, in whole seconds.
fn shown(time: UnixTime) -> String {
    format_rfc3339_millis((time.as_secs() as i64).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_for_others_are_told_as_go_does() {
        let check = |expected: &'static str, presented: &[&str], words: &str| {
            let presented: Vec<String> = presented.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(wrong_name(&ServerName::try_from(expected).unwrap(), &presented), words);
        };
        check("b", &["DnsName(\"a\")", "DnsName(\"c\")"], "certificate is valid for a, c, not b");
        check("b", &["IpAddress(127.0.0.1)"], "certificate is not valid for any names, but wanted to match b");
        check("10.0.0.1", &["IpAddress(127.0.0.1)"], "certificate is valid for 127.0.0.1, not 10.0.0.1");
        check(
            "10.0.0.1",
            &["DnsName(\"a\")"],
            "cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
        );
    }

    #[test]
    fn times_are_whole_seconds() {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_millis(1_700_000_000_999));
        assert_eq!(shown(time), "2023-11-14T22:13:20Z");
    }
}
