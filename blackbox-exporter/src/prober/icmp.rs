//! ICMP: an echo request, and the reply to it. Unprivileged sockets first, raw ones where the system does not give those.

mod packet;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use rustix::net::sockopt::Ipv4PathMtuDiscovery;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::config::IcmpOptions;
use crate::failure::Failure;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use packet::Echo;

/// What a request carries unless the settings want another size.
const TEXT: &[u8] = b"Prometheus Blackbox Exporter";

/// The numbers of requests go on through the life of the program, from a random one.
static SEQUENCE: OnceLock<AtomicU16> = OnceLock::new();

fn random() -> u16 {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 2];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok();
    u16::from_be_bytes(bytes)
}

fn next_sequence() -> u16 {
    SEQUENCE.get_or_init(|| AtomicU16::new(random())).fetch_add(1, Ordering::Relaxed)
}

/// The id of raw echo requests: the process', or a random one in a container, where it would be everybody's.
fn id() -> u16 {
    static ID: OnceLock<u16> = OnceLock::new();
    *ID.get_or_init(|| match std::process::id() {
        1 => random(),
        pid => (pid & 0xffff) as u16,
    })
}

/// A socket and whether it is a raw one.
struct EchoSocket {
    socket: Socket,
    raw: bool,
}

/// Probes a host.
pub(crate) async fn probe(probe: &mut Probe<'_>, options: &IcmpOptions) -> Result<(), Failure> {
    for phase in ["resolve", "setup", "rtt"] {
        probe.metrics.set_label(&metrics::ICMP_DURATION, "phase", phase, 0.0);
    }
    let begin = Instant::now();
    let target = probe.order.target.clone();
    let address = probe.resolve(options.ip, &target).await?;
    probe.metrics.add(&metrics::ICMP_DURATION, "phase", "resolve", begin.elapsed().as_secs_f64());
    let source = probe.source(options.source)?;

    let begin = Instant::now();
    note!(probe.log, Debug, "Creating socket");
    let EchoSocket { socket, raw } = open(probe, address)?;
    let set_up = set_up(&socket, address, source, options);
    let socket = match set_up.and_then(|()| UdpSocket::from_std(socket.into())) {
        Ok(socket) => socket,
        Err(error) => {
            note!(probe.log, Error, "Error listening to socket", "err" = error);
            return Err(Failure::Connect);
        }
    };
    let mut payload = if options.payload_size == 0 { TEXT.to_vec() } else { vec![0; options.payload_size] };
    let text = TEXT.len().min(payload.len());
    payload[..text].copy_from_slice(&TEXT[..text]);
    let echo = Echo { id: id(), sequence: next_sequence(), payload: &payload, v6: address.is_ipv6() };
    note!(probe.log, Debug, "Creating ICMP packet", "seq" = echo.sequence, "id" = echo.id, "raw" = raw);
    let request = echo.request();
    probe.metrics.add(&metrics::ICMP_DURATION, "phase", "setup", begin.elapsed().as_secs_f64());
    if probe.order.extended {
        path_mtu(probe, &socket, address);
    }

    note!(probe.log, Debug, "Writing out packet");
    let begin = Instant::now();
    // the kind of socket does not matter to who waits for it: Tokio's for datagrams serves
    if let Err(error) = socket.send(&request).await {
        note!(probe.log, Warn, "Error writing to socket", "err" = error);
        return Err(Failure::Connection);
    }
    note!(probe.log, Debug, "Waiting for reply packets");
    let mut buffer = vec![0; payload.len() + 128];
    loop {
        let (len, hop_limit) = match receive(&socket, &mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                note!(probe.log, Error, "Error reading from socket", "err" = error);
                return Err(Failure::Connection);
            }
        };
        let with_header = raw && address.is_ipv4();
        if echo.is_answered_by(&buffer[..len], with_header, raw) {
            let rtt = begin.elapsed().as_secs_f64();
            probe.metrics.add(&metrics::ICMP_DURATION, "phase", "rtt", rtt);
            if let Some(hop_limit) = hop_limit {
                probe.metrics.set(&metrics::ICMP_HOP_LIMIT, f64::from(hop_limit));
            }
            if probe.order.extended {
                // after the reply the kernel may know more
                path_mtu(probe, &socket, address);
            }
            note!(probe.log, Debug, "Found matching reply packet");
            return Ok(());
        }
    }
}

fn open(probe: &mut Probe<'_>, address: SocketAddr) -> Result<EchoSocket, Failure> {
    let (domain, protocol) =
        if address.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let refused = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => return Ok(EchoSocket { socket, raw: false }),
        Err(error) => error,
    };
    note!(probe.log, Debug, "Unable to do unprivileged listen on socket, will attempt privileged", "err" = refused);
    Socket::new(domain, Type::RAW, Some(protocol)).map(|socket| EchoSocket { socket, raw: true }).map_err(|error| {
        note!(
            probe.log,
            Error,
            "Error listening to socket: neither is the group in net.ipv4.ping_group_range, nor is there CAP_NET_RAW",
            "err" = error
        );
        Failure::Connect
    })
}

fn set_up(socket: &Socket, address: SocketAddr, source: Option<IpAddr>, options: &IcmpOptions) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    if address.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
        if options.ttl > 0 {
            socket.set_ttl_v4(u32::from(options.ttl))?;
        }
        // the kernel sets the bit on every packet, whatever the kind of socket
        let discovery = if options.dont_fragment { Ipv4PathMtuDiscovery::DO } else { Ipv4PathMtuDiscovery::DONT };
        rustix::net::sockopt::set_ip_mtu_discover(socket, discovery)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
        if options.ttl > 0 {
            socket.set_unicast_hops_v6(u32::from(options.ttl))?;
        }
    }
    // replies of others are not ours
    socket.connect(&address.into())
}

/// Reports the path's MTU without sending anything: what the route and former packets have told the kernel.
fn path_mtu(probe: &mut Probe<'_>, socket: &UdpSocket, address: SocketAddr) {
    let mtu =
        if address.is_ipv4() { rustix::net::sockopt::ip_mtu(socket) } else { rustix::net::sockopt::ipv6_mtu(socket) };
    if let Ok(mtu) = mtu {
        probe.metrics.set(&metrics::ICMP_PATH_MTU, f64::from(mtu));
    }
}

/// The next packet's length, and its time to live or hop limit.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<u32>)> {
    let read = || {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(i32, i32);
        let flags = MsgFlags::empty();
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let hop_limit = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4Ttl(ttl) => u32::try_from(ttl).ok(),
            ControlMessageOwned::Ipv6HopLimit(limit) => u32::try_from(limit).ok(),
            _ => None,
        });
        Ok((message.bytes, hop_limit))
    };
    socket.async_io(Interest::READABLE, read).await
}
