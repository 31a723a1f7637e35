use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::client::Connection;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, names in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Asks for a page.
///
/// # Panics
/// When the server does not answer.
pub fn get(url: &str) -> Answer {
    try_get(url).unwrap_or_else(|e| panic!("{url}: {e}"))
}

/// Asks for a page.
///
/// # Errors
/// When the server does not answer.
pub fn try_get(url: &str) -> io::Result<Answer> {
    request("GET", url, &[], &[])
}

/// Sends a body.
///
/// # Panics
/// When the server does not answer.
pub fn post(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    request("POST", url, headers, body).unwrap_or_else(|e| panic!("{url}: {e}"))
}

/// Longest time to connect, and from one part of an answer to the next.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One request on a connection of its own.
fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other("only http"))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| (&rest[..at], &rest[at..]));
    let address = authority.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    let mut all = vec![("Connection", "close")];
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        all.push(("Host", authority));
    }
    all.extend_from_slice(headers);
    let response = Connection::open(address, TIMEOUT)?.request(method, path, &all, Some(body))?;
    let mut head = format!("http/1.1 {}\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_lowercase()));
    }
    Ok(Answer { status: response.status, head, body: String::from_utf8_lossy(&response.body).into_owned() })
}
