//! One request to a server and its answer, within a deadline.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::http::client::{TlsConfig, https_client_config};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::collectors::unix_socket;

/// A longer answer is not read.
const LONGEST_ANSWER: usize = 16 << 20;

/// Where a server is.
#[derive(Clone, Debug)]
pub(super) enum Server {
    /// Host and port.
    Tcp(String, u16),
    /// Host and port, who it has to prove to be, and how.
    Tls(String, u16, ServerName<'static>, Arc<ClientConfig>),
    /// The path of its socket.
    Unix(String),
}

impl Server {
    /// A server behind TLS.
    pub(super) fn tls(host: &str, port: u16, settings: &TlsConfig) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host:?}: {error}"))?;
        let config = https_client_config(settings, false).map_err(|error| error.to_string())?;
        Ok(Self::Tls(host.to_owned(), port, name, Arc::new(config)))
    }

    /// Sends a request and reads to the end of the answer: head and content of HTTP.
    pub(super) fn exchange(&self, request: &str, deadline: Instant) -> io::Result<Vec<u8>> {
        let tcp_limit = |stream: &TcpStream, left| {
            stream.set_read_timeout(left)?;
            stream.set_write_timeout(left)
        };
        match self {
            Self::Tcp(host, port) => exchange(connect(host, *port, deadline)?, request, deadline, tcp_limit),
            Self::Tls(host, port, name, config) => {
                let tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                let stream = StreamOwned::new(tls, connect(host, *port, deadline)?);
                exchange(stream, request, deadline, |stream, left| tcp_limit(&stream.sock, left))
            }
            Self::Unix(path) => {
                let stream = unix_socket::connect(path, left(deadline)?)?;
                exchange(stream, request, deadline, |stream, left| {
                    stream.set_read_timeout(left)?;
                    stream.set_write_timeout(left)
                })
            }
        }
    }
}

/// The time left until a deadline; never zero, which sockets take for no limit.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `limit` sets how long a call on the stream's socket may take.
fn exchange<S: Read + Write>(
    mut stream: S,
    request: &str,
    deadline: Instant,
    limit: impl Fn(&S, Option<Duration>) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    // the kernel says EAGAIN where a timeout ran out
    let named = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
        _ => error,
    };
    limit(&stream, Some(left(deadline)?))?;
    stream.write_all(request.as_bytes()).map_err(named)?;
    let mut answer = Vec::new();
    let mut chunk = [0u8; 16 * 1024];
    while !is_whole(&answer) {
        limit(&stream, Some(left(deadline)?))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(named(error)),
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is longer than 16 MiB"));
        }
    }
    Ok(answer)
}

/// Head and content of an answer, once its head is whole.
pub(super) fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&answer[..at]).unwrap_or_default(), &answer[at + 4..]))
}

/// Whether as much has come as the head promises; servers need not close the connection.
fn is_whole(answer: &[u8]) -> bool {
    let Some((head, content)) = split(answer) else { return false };
    let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    length.is_some_and(|length| content.len() >= length)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// Answers one request over TLS as a server that names itself so, if the client wants to hear it; gives its certificate and port.
    fn serve(name: &str) -> (String, u16) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
            let mut request = [0; 64];
            if let Ok(len) = stream.read(&mut request) {
                let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&request[..len]));
                // the client goes first
                let _ = stream.read(&mut request);
            }
        });
        (cert.pem(), port)
    }

    fn ask(name: &str, trusted: bool) -> io::Result<String> {
        let (pem, port) = serve(name);
        let ca = if trusted { pem } else { generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem() };
        let server = Server::tls("127.0.0.1", port, &TlsConfig { ca, ..TlsConfig::default() }).unwrap();
        let answer = server.exchange("a question", Instant::now() + Duration::from_secs(3600))?;
        Ok(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn a_server_behind_tls_answers_if_it_is_who_it_should_be() {
        assert_eq!(ask("127.0.0.1", true).unwrap(), "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\na question");
        let stranger = ask("127.0.0.1", false).unwrap_err().to_string();
        assert!(stranger.contains("invalid peer certificate"), "{stranger}");
        let another = ask("127.0.0.2", true).unwrap_err().to_string();
        assert!(another.contains("invalid peer certificate"), "{another}");
    }

    #[test]
    fn a_silent_server_behind_tls_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::tls("127.0.0.1", port, &TlsConfig::default()).unwrap();
        let error = server.exchange("a question", Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "no answer in time");
    }
}
