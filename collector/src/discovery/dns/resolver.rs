//! Asking the system's name servers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::message::{self, Message, Record};

/// How long one server has for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Servers that are asked, and search domains that are tried.
const MAX_LISTED: usize = 32;

/// Asks the servers that a `resolv.conf` names, which is read at each use.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) file: PathBuf,
    pub(super) port: u16,
}

/// What a `resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
struct Configuration {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    /// Names with at least so many dots are tried as they are before search domains are added.
    dots: usize,
}

impl Resolver {
    pub(super) fn of_system() -> Self {
        Self { file: "/etc/resolv.conf".into(), port: 53 }
    }

    /// The records of a name, tried with the search domains of the system as upstream tries them. A name that no server knows has no
    /// records; a name that some server could not be asked about is an error.
    pub(super) async fn look_up(&self, name: &str, record_type: u16) -> Result<Vec<Record>, String> {
        let text =
            std::fs::read_to_string(&self.file).map_err(|e| format!("could not load {}: {e}", self.file.display()))?;
        let configuration = Configuration::parse(&text);
        let mut all_valid = true;
        for tried in configuration.names(name) {
            match self.ask_any(&configuration.servers, &tried, record_type).await {
                Some(message) if message.rcode == message::SUCCESS => return Ok(message.answers),
                Some(_) => {}
                None => all_valid = false,
            }
        }
        if all_valid {
            return Ok(Vec::new());
        }
        Err(format!(
            "could not resolve {}: all servers responded with errors to at least one search domain",
            model::quote(name)
        ))
    }

    /// The answer of the first server that knows the name, or knows that there is no such name.
    async fn ask_any(&self, servers: &[IpAddr], name: &str, record_type: u16) -> Option<Message> {
        for server in servers {
            let server = SocketAddr::new(*server, self.port);
            match ask(server, name, record_type).await {
                Ok(message) if matches!(message.rcode, message::SUCCESS | message::NO_SUCH_NAME) => {
                    return Some(message);
                }
                Ok(message) => {
                    tracing::debug!(%server, name, rcode = message.rcode, "DNS server has no answer");
                }
                Err(error) => tracing::warn!(%server, name, err = %error, "DNS resolution failed"),
            }
        }
        None
    }
}

/// Asks one server: over UDP, and over TCP when the answer is too long for that.
async fn ask(server: SocketAddr, name: &str, record_type: u16) -> Result<Message, String> {
    let timed_out = |_| "no answer in time".to_owned();
    let message = tokio::time::timeout(TIMEOUT, over_udp(server, name, record_type)).await.map_err(timed_out)??;
    if !message.truncated {
        return Ok(message);
    }
    let message = tokio::time::timeout(TIMEOUT, over_tcp(server, name, record_type)).await.map_err(timed_out)??;
    if message.truncated { Err("the answer over TCP is cut off".to_owned()) } else { Ok(message) }
}

async fn over_udp(server: SocketAddr, name: &str, record_type: u16) -> Result<Message, String> {
    let fault = |e: std::io::Error| e.to_string();
    let local: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let id = next_id();
    let question = message::encode(id, name, record_type, true)?;
    let socket = UdpSocket::bind(local).await.map_err(fault)?;
    socket.connect(server).await.map_err(fault)?;
    socket.send(&question).await.map_err(fault)?;
    let mut buffer = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(fault)?;
        // answers to something else may come late
        if let Ok(message) = message::decode(&buffer[..length])
            && message.id == id
            && message.is_response
        {
            return Ok(message);
        }
    }
}

async fn over_tcp(server: SocketAddr, name: &str, record_type: u16) -> Result<Message, String> {
    let fault = |e: std::io::Error| e.to_string();
    let id = next_id();
    let question = message::encode(id, name, record_type, false)?;
    let mut stream = TcpStream::connect(server).await.map_err(fault)?;
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&question);
    stream.write_all(&framed).await.map_err(fault)?;
    let length = stream.read_u16().await.map_err(fault)?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(fault)?;
    let message = message::decode(&answer)?;
    if message.id != id || !message.is_response {
        return Err("the answer is to another question".to_owned());
    }
    Ok(message)
}

/// Identifiers of questions. The port, which the system chooses for each socket, is what keeps others from guessing.
fn next_id() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let seed = model::now_millis() as u16;
    NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(40_503) ^ seed
}

impl Configuration {
    fn parse(text: &str) -> Self {
        let mut found = Self { servers: Vec::new(), search: Vec::new(), dots: 1 };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // a zone, as in `fe80::1%eth0`, cannot be said to the system here
                    found.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                Some("domain") => found.search = words.next().map(fully_qualified).into_iter().collect(),
                Some("search") => found.search = words.map(fully_qualified).collect(),
                Some("options") => {
                    for option in words {
                        if let Some(number) = option.strip_prefix("ndots:").and_then(|n| n.parse::<usize>().ok()) {
                            found.dots = number.min(15);
                        }
                    }
                }
                _ => {}
            }
        }
        found.servers.truncate(MAX_LISTED);
        found.search.truncate(MAX_LISTED);
        found
    }

    /// The names to try, in order.
    fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let whole = fully_qualified(name);
        let enough_dots = whole.matches('.').count() > self.dots;
        let searched = self.search.iter().map(|domain| format!("{whole}{domain}"));
        if enough_dots {
            std::iter::once(whole.clone()).chain(searched).collect()
        } else {
            searched.chain([whole.clone()]).collect()
        }
    }
}

fn fully_qualified(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_file_is_understood() {
        let text = "# c\nnameserver 10.0.0.1 ; first\nnameserver ::1\nnameserver x\nsearch a.b c.\noptions ndots:2 timeout:1\n";
        let expected = Configuration {
            servers: vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            search: vec!["a.b.".into(), "c.".into()],
            dots: 2,
        };
        assert_eq!(Configuration::parse(text), expected);
        for (name, tried) in [
            ("x.", vec!["x."]),
            ("x", vec!["x.a.b.", "x.c.", "x."]),
            ("x.y.z", vec!["x.y.z.", "x.y.z.a.b.", "x.y.z.c."]),
        ] {
            assert_eq!(expected.names(name), tried);
        }
        assert_eq!(Configuration::parse("domain d\n").search, ["d."]);
    }
}
