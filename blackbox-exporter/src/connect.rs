//! From a target's name to a connection: resolving, choosing an address, connecting.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::config::{IpChoice, IpProtocol, SourceAddress};
use crate::failure::Failure;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use crate::tls::TlsError;

/// The time an address is given before the next one is tried beside it (RFC 8305).
const HEAD_START: std::time::Duration = std::time::Duration::from_millis(250);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Splits `host:port`. Brackets of an IPv6 address are taken off.
pub(crate) fn split_host_port(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

impl Probe<'_> {
    /// Addresses of a name in the system's order, ports 0. An address stands for itself.
    pub(crate) async fn lookup(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = plain.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, 0)]);
        }
        // getaddrinfo cannot be stopped: one that hangs keeps its place, so that threads stay bounded
        let permit = self.environment.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let name = plain.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            use std::net::ToSocketAddrs;
            (name.as_str(), 0).to_socket_addrs().map(|found| found.take(MAX_ADDRESSES).collect::<Vec<_>>())
        });
        found.await.map_err(io::Error::other)?
    }

    /// The address of the target that the settings choose. Sets the metrics about it.
    pub(crate) async fn resolve(&mut self, choice: IpChoice, host: &str) -> Result<SocketAddr, Failure> {
        let choice = match self.order.ip_protocol {
            Some(preferred) => IpChoice { preferred, fallback: false },
            None => choice,
        };
        let name = if choice.preferred == IpProtocol::V6 { "ip6" } else { "ip4" };
        self.metrics.set(&metrics::LOOKUP_TIME, 0.0);
        self.metrics.set(&metrics::IP_PROTOCOL, 0.0);
        self.metrics.set(&metrics::IP_ADDR_HASH, 0.0);
        note!(self.log, Debug, "Resolving target address", "target" = host, "ip_protocol" = name);
        let begin = Instant::now();
        let found = self.lookup(host).await;
        self.metrics.set(&metrics::LOOKUP_TIME, begin.elapsed().as_secs_f64());
        let preferred = |a: &&SocketAddr| a.ip().to_canonical().is_ipv6() == (choice.preferred == IpProtocol::V6);
        let chosen = found.map_err(|error| error.to_string()).and_then(|addresses| {
            let fallback = || addresses.last().filter(|_| choice.fallback);
            let chosen = addresses.iter().find(preferred).or_else(fallback);
            chosen.copied().ok_or_else(|| format!("address {host}: no suitable address found"))
        });
        let mut address = match chosen {
            Ok(address) => address,
            Err(error) => {
                note!(
                    self.log,
                    Error,
                    "Resolution with IP protocol failed",
                    "target" = host,
                    "ip_protocol" = name,
                    "err" = error
                );
                return Err(Failure::Resolve);
            }
        };
        address.set_ip(address.ip().to_canonical());
        self.metrics.set(&metrics::IP_PROTOCOL, if address.is_ipv4() { 4.0 } else { 6.0 });
        self.metrics.set(&metrics::IP_ADDR_HASH, f64::from(hash(address.ip())));
        note!(self.log, Debug, "Resolved target address", "target" = host, "ip" = address.ip());
        self.guard(address.ip())?;
        Ok(address)
    }

    /// Refuses an address that may not be probed.
    pub(crate) fn guard(&mut self, address: IpAddr) -> Result<(), Failure> {
        if self.environment.guard.allows_address(address) {
            return Ok(());
        }
        note!(self.log, Error, "Probing this address is not allowed", "ip" = address);
        Err(Failure::Forbidden)
    }

    /// The address to send from.
    pub(crate) fn source(&mut self, source: Option<SourceAddress>) -> Result<Option<IpAddr>, Failure> {
        match source {
            None => Ok(None),
            Some(SourceAddress::Valid(address)) => {
                note!(self.log, Debug, "Using local address", "srcIP" = address);
                Ok(Some(address))
            }
            Some(SourceAddress::Invalid) => {
                note!(self.log, Error, "Error parsing source ip address");
                Err(Failure::Configuration)
            }
        }
    }

    /// Tells of a failed handshake, and of what is wrong with the certificates if asked for.
    pub(crate) fn tls_failure(&mut self, error: &TlsError) -> Failure {
        if let (true, Some(problem)) = (self.order.extended, error.chain_problem()) {
            self.metrics.set_info(&metrics::SSL_CHAIN_PROBLEM, vec![("problem".into(), problem.name().into())]);
        }
        match error {
            TlsError::Settings(_) | TlsError::Name(_) => Failure::Configuration,
            TlsError::Chain(_) => Failure::Certificate,
            TlsError::Handshake(_) => Failure::Tls,
        }
    }

    /// Connects to the first address that answers: each gets a head start before the next one is tried beside it. With extended
    /// metrics, tells how long each took.
    pub(crate) async fn connect_any(&mut self, addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
        use futures::stream::{FuturesUnordered, StreamExt};
        let allowed: Vec<SocketAddr> =
            interleaved(addresses).filter(|a| self.environment.guard.allows_address(a.ip())).collect();
        let mut last = io::Error::new(io::ErrorKind::PermissionDenied, "probing this address is not allowed");
        let mut attempts = FuturesUnordered::new();
        let mut waiting = allowed.into_iter();
        let mut next = waiting.next();
        loop {
            if let Some(address) = next.take() {
                let begin = Instant::now();
                attempts.push(async move { (address, begin, connect(address, None).await) });
            } else if attempts.is_empty() {
                return Err(last);
            }
            let race = tokio::time::timeout(HEAD_START, attempts.next()).await;
            match race {
                Ok(Some((address, begin, Ok(stream)))) => {
                    if self.order.extended {
                        let label = vec![("ip".into(), address.ip().to_string().into())];
                        self.metrics.set_labels(&metrics::CONNECT_ATTEMPTS, label, begin.elapsed().as_secs_f64());
                    }
                    return Ok((stream, address));
                }
                Ok(Some((_, _, Err(error)))) => {
                    last = error;
                    next = waiting.next();
                }
                Ok(None) | Err(_) => next = waiting.next(),
            }
        }
    }
}

/// IPv6 and IPv4 in turns, beginning with the kind of the first.
fn interleaved(addresses: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (a, b): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.iter().partition(|a| a.is_ipv6() == first);
    let mut mixed = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        let before = mixed.len();
        mixed.extend(a.next());
        mixed.extend(b.next());
        if mixed.len() == before {
            return mixed.into_iter();
        }
    }
}

/// Connects to an address, from a source if one is given.
pub(crate) async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true).ok();
    Ok(stream)
}

/// FNV-1a of an address' bytes.
fn hash(address: IpAddr) -> u32 {
    let sum = |bytes: &[u8]| {
        bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    };
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_blackbox_exporter() {
        // recorded from its 0.28
        assert_eq!(hash("127.0.0.1".parse().unwrap()), 3_668_918_509);
        assert_eq!(hash("::1".parse().unwrap()), 1_751_717_746);
    }

    #[test]
    fn host_and_port() {
        for (target, expected) in [
            ("a:80", Some(("a", 80))),
            ("[::1]:80", Some(("::1", 80))),
            ("::1", None),
            ("::1:80", None),
            ("a", None),
            ("a:x", None),
            ("[::1:80", None),
            ("a:65536", None),
        ] {
            assert_eq!(split_host_port(target), expected, "{target}");
        }
    }

    #[test]
    fn both_protocols_take_turns() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let list = ["::1", "::2", "1.1.1.1", "1.1.1.2", "1.1.1.3"].map(address);
        let mixed: Vec<String> = interleaved(&list).map(|a| a.ip().to_string()).collect();
        assert_eq!(mixed, ["::1", "1.1.1.1", "::2", "1.1.1.2", "1.1.1.3"]);
        assert_eq!(interleaved(&[]).count(), 0);
    }
}
