//! Links and queueing disciplines with their statistics, and routes, over a netlink socket.

use std::io;
use std::net::IpAddr;

use super::netlink::{self, Visit, attributes, text, word};

/// A network interface.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) statistics: LinkStatistics,
}

/// `struct rtnl_link_stats64`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LinkStatistics {
    pub(super) rx_packets: u64,
    pub(super) tx_packets: u64,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
    pub(super) rx_errors: u64,
    pub(super) tx_errors: u64,
    pub(super) rx_dropped: u64,
    pub(super) tx_dropped: u64,
    pub(super) multicast: u64,
    pub(super) collisions: u64,
    pub(super) rx_length_errors: u64,
    pub(super) rx_over_errors: u64,
    pub(super) rx_crc_errors: u64,
    pub(super) rx_frame_errors: u64,
    pub(super) rx_fifo_errors: u64,
    pub(super) rx_missed_errors: u64,
    pub(super) tx_aborted_errors: u64,
    pub(super) tx_carrier_errors: u64,
    pub(super) tx_fifo_errors: u64,
    pub(super) tx_heartbeat_errors: u64,
    pub(super) tx_window_errors: u64,
    pub(super) rx_compressed: u64,
    pub(super) tx_compressed: u64,
    pub(super) rx_nohandler: u64,
}

impl LinkStatistics {
    /// Each with the kernel's name for it, as node_exporter spells it.
    pub(super) fn named(&self) -> [(&'static str, u64); 24] {
        [
            ("receive_packets", self.rx_packets),
            ("transmit_packets", self.tx_packets),
            ("receive_bytes", self.rx_bytes),
            ("transmit_bytes", self.tx_bytes),
            ("receive_errors", self.rx_errors),
            ("transmit_errors", self.tx_errors),
            ("receive_dropped", self.rx_dropped),
            ("transmit_dropped", self.tx_dropped),
            ("multicast", self.multicast),
            ("collisions", self.collisions),
            ("receive_length_errors", self.rx_length_errors),
            ("receive_over_errors", self.rx_over_errors),
            ("receive_crc_errors", self.rx_crc_errors),
            ("receive_frame_errors", self.rx_frame_errors),
            ("receive_fifo_errors", self.rx_fifo_errors),
            ("receive_missed_errors", self.rx_missed_errors),
            ("transmit_aborted_errors", self.tx_aborted_errors),
            ("transmit_carrier_errors", self.tx_carrier_errors),
            ("transmit_fifo_errors", self.tx_fifo_errors),
            ("transmit_heartbeat_errors", self.tx_heartbeat_errors),
            ("transmit_window_errors", self.tx_window_errors),
            ("receive_compressed", self.rx_compressed),
            ("transmit_compressed", self.tx_compressed),
            ("receive_nohandler", self.rx_nohandler),
        ]
    }
}

/// What an interface is like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) name: String,
    pub(super) index: u32,
    /// `ARPHRD_` number.
    pub(super) kind: u16,
    /// `IFF_` bits.
    pub(super) flags: u32,
    pub(super) alias: String,
    pub(super) address: Vec<u8>,
    pub(super) broadcast: Vec<u8>,
    /// `IF_OPER_` number.
    pub(super) state: u8,
    pub(super) link_mode: u8,
    /// The interface below; its own index where there is none.
    pub(super) link: u32,
    pub(super) mtu: u32,
    pub(super) group: u32,
    pub(super) queue_length: u32,
    pub(super) carrier: u8,
    pub(super) carrier_changes: u32,
    pub(super) carrier_ups: u32,
    pub(super) carrier_downs: u32,
    pub(super) statistics: LinkStatistics,
}

/// A queueing discipline of a device.
#[derive(Debug, Default)]
pub(super) struct Qdisc {
    pub(super) device: String,
    pub(super) kind: String,
    /// 0 for the root of a device.
    pub(super) parent: u32,
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) drops: u64,
    pub(super) requeues: u64,
    pub(super) overlimits: u64,
    pub(super) queue_length: u64,
    pub(super) backlog: u64,
}

/// A route of any table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// `RTN_UNICAST` or another `RTN_` number.
    pub(super) kind: u8,
    /// `RTPROT_` number: who made the route.
    pub(super) protocol: u8,
    /// Where it leads; `None` for everywhere.
    pub(super) destination: Option<IpAddr>,
    pub(super) destination_length: u8,
    /// The address packets get that have none.
    pub(super) source: Option<IpAddr>,
    pub(super) priority: u32,
    /// One, or several where packets are spread.
    pub(super) hops: Vec<Hop>,
}

/// An address of an interface.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) device: String,
    pub(super) address: IpAddr,
    /// Bits that are the net's.
    pub(super) prefix: u8,
}

/// Where packets go next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) interface: u32,
    pub(super) gateway: Option<IpAddr>,
    /// Its share; `None` where it is the only hop and none is said.
    pub(super) weight: Option<u32>,
}

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKMODE: u16 = 17;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_CARRIER_UP_COUNT: u16 = 47;
const IFLA_CARRIER_DOWN_COUNT: u16 = 48;
const IFLA_STATS64: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
/// The parent of a device's root queue.
const TC_H_ROOT: u32 = 0xffff_ffff;
/// `struct ifinfomsg`.
const INTERFACE: usize = 16;
/// `struct tcmsg`.
const TRAFFIC: usize = 20;
/// `struct ifaddrmsg`.
const ADDRESS: usize = 8;
/// `struct rtmsg`.
const ROUTE: usize = 12;
/// `struct rtnexthop`.
const NEXT_HOP: usize = 8;

/// Asks the kernel for all links.
pub(super) fn links() -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    dump(RTM_GETLINK, INTERFACE, &mut |kind, message| {
        if kind == RTM_NEWLINK {
            links.extend(link(message.get(INTERFACE..)?));
        }
        Some(())
    })?;
    Ok(links)
}

/// Asks the kernel what all links are like.
pub(super) fn link_properties() -> io::Result<Vec<Properties>> {
    let mut links = Vec::new();
    dump(RTM_GETLINK, INTERFACE, &mut |kind, message| {
        if kind == RTM_NEWLINK {
            links.push(properties(message)?);
        }
        Some(())
    })?;
    Ok(links)
}

/// Asks the kernel for the numbers and names of all links.
pub(super) fn link_names() -> io::Result<Vec<(u32, String)>> {
    let mut names = Vec::new();
    dump(RTM_GETLINK, INTERFACE, &mut |kind, message| {
        if kind == RTM_NEWLINK {
            let index = u32::from_ne_bytes(word(message.get(..INTERFACE)?, 4));
            names.extend(link(&message[INTERFACE..]).map(|link| (index, link.name)));
        }
        Some(())
    })?;
    Ok(names)
}

/// Asks the kernel for the routes of all tables and address families.
pub(super) fn routes() -> io::Result<Vec<Route>> {
    let mut routes = Vec::new();
    dump(RTM_GETROUTE, ROUTE, &mut |kind, message| {
        if kind == RTM_NEWROUTE {
            routes.push(route(message)?);
        }
        Some(())
    })?;
    Ok(routes)
}

/// Asks the kernel for the addresses of all interfaces.
pub(super) fn addresses() -> io::Result<Vec<Address>> {
    let names = link_names()?;
    let mut addresses = Vec::new();
    dump(RTM_GETADDR, ADDRESS, &mut |kind, message| {
        if kind == RTM_NEWADDR {
            let index = u32::from_ne_bytes(word(message.get(..ADDRESS)?, 4));
            let device = names.iter().find(|(i, _)| *i == index).map_or(String::new(), |(_, name)| name.clone());
            addresses.extend(interface_address(message, device));
        }
        Some(())
    })?;
    Ok(addresses)
}

/// Asks the kernel for all queueing disciplines.
pub(super) fn qdiscs() -> io::Result<Vec<Qdisc>> {
    let names = link_names()?;
    let mut qdiscs = Vec::new();
    dump(RTM_GETQDISC, TRAFFIC, &mut |kind, message| {
        if kind == RTM_NEWQDISC {
            let index = u32::from_ne_bytes(word(message.get(..TRAFFIC)?, 4));
            let parent = u32::from_ne_bytes(word(message, 12));
            let device = names.iter().find(|(i, _)| *i == index).map_or(String::new(), |(_, name)| name.clone());
            let parent = if parent == TC_H_ROOT { 0 } else { parent.max(1) };
            qdiscs.extend(qdisc(&message[TRAFFIC..], Qdisc { device, parent, ..Qdisc::default() }));
        }
        Some(())
    })?;
    Ok(qdiscs)
}

/// Sends a request whose content is zero bytes and visits the answers.
fn dump(request: u16, len: usize, visit: &mut Visit<'_>) -> io::Result<()> {
    netlink::ask(netlink::ROUTE, request, netlink::DUMP, &vec![0; len], visit)
}

/// A link of its attributes; `None` if it has no name or no statistics.
fn link(bytes: &[u8]) -> Option<Link> {
    let (mut name, mut statistics) = (None, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            IFLA_IFNAME => name = Some(text(value)),
            IFLA_STATS64 => statistics = Some(counters(value)),
            _ => {}
        }
    }
    Some(Link { name: name?, statistics: statistics? })
}

/// A link message; `None` if it is cut off.
fn properties(message: &[u8]) -> Option<Properties> {
    let header = message.get(..INTERFACE)?;
    let index = u32::from_ne_bytes(word(header, 4));
    let mut link = Properties {
        kind: u16::from_ne_bytes([header[2], header[3]]),
        index,
        link: index,
        flags: u32::from_ne_bytes(word(header, 8)),
        ..Properties::default()
    };
    for (kind, value) in attributes(&message[INTERFACE..]) {
        let number = || value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let small = || value.first().copied().unwrap_or(0);
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_ADDRESS => link.address = value.to_vec(),
            IFLA_BROADCAST => link.broadcast = value.to_vec(),
            IFLA_OPERSTATE => link.state = small(),
            IFLA_LINKMODE => link.link_mode = small(),
            IFLA_CARRIER => link.carrier = small(),
            // 0 stands for an interface of another namespace
            IFLA_LINK if number() > 0 => link.link = number(),
            IFLA_MTU => link.mtu = number(),
            IFLA_GROUP => link.group = number(),
            IFLA_TXQLEN => link.queue_length = number(),
            IFLA_CARRIER_CHANGES => link.carrier_changes = number(),
            IFLA_CARRIER_UP_COUNT => link.carrier_ups = number(),
            IFLA_CARRIER_DOWN_COUNT => link.carrier_downs = number(),
            IFLA_STATS64 => link.statistics = counters(value),
            _ => {}
        }
    }
    Some(link)
}

/// Adds kind and statistics to a queueing discipline.
fn qdisc(bytes: &[u8], mut qdisc: Qdisc) -> Option<Qdisc> {
    for (kind, value) in attributes(bytes) {
        match kind {
            TCA_KIND => qdisc.kind = text(value),
            TCA_STATS2 => {
                for (kind, value) in attributes(value) {
                    let number =
                        |at: usize| value.get(at..at + 4).map_or(0, |_| u64::from(u32::from_ne_bytes(word(value, at))));
                    match kind {
                        TCA_STATS_BASIC => {
                            qdisc.bytes = number(0) | number(4) << 32;
                            qdisc.packets = number(8);
                        }
                        TCA_STATS_QUEUE => {
                            qdisc.queue_length = number(0);
                            qdisc.backlog = number(4);
                            qdisc.drops = number(8);
                            qdisc.requeues = number(12);
                            qdisc.overlimits = number(16);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (!qdisc.kind.is_empty()).then_some(qdisc)
}

/// An address message; `None` if it holds none. Where there is another end, the local address counts.
fn interface_address(message: &[u8], device: String) -> Option<Address> {
    let header = message.get(..ADDRESS)?;
    let of = |wanted: u16| attributes(&message[ADDRESS..]).find(|(kind, _)| *kind == wanted);
    let (_, value) = of(IFA_LOCAL).or_else(|| of(IFA_ADDRESS))?;
    Some(Address { device, address: address(value)?, prefix: header[1] })
}

/// A route's message; `None` if it is cut off.
fn route(message: &[u8]) -> Option<Route> {
    let header = message.get(..ROUTE)?;
    let mut route = Route {
        kind: header[7],
        protocol: header[5],
        destination: None,
        destination_length: header[1],
        source: None,
        priority: 0,
        hops: Vec::new(),
    };
    let mut only = Hop::default();
    for (kind, value) in attributes(&message[ROUTE..]) {
        let number = || value.get(..4).map_or(0, |_| u32::from_ne_bytes(word(value, 0)));
        match kind {
            RTA_DST => route.destination = address(value),
            RTA_PREFSRC => route.source = address(value),
            RTA_PRIORITY => route.priority = number(),
            RTA_OIF => only.interface = number(),
            RTA_GATEWAY => only.gateway = address(value),
            RTA_MULTIPATH => route.hops = next_hops(value),
            _ => {}
        }
    }
    if route.hops.is_empty() {
        route.hops.push(only);
    }
    Some(route)
}

/// The hops packets are spread over; ends where one is cut off.
fn next_hops(mut bytes: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some(header) = bytes.get(..NEXT_HOP) {
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(nested) = bytes.get(NEXT_HOP..len) else { break };
        let gateway = attributes(nested).find(|(kind, _)| *kind == RTA_GATEWAY).and_then(|(_, value)| address(value));
        // the kernel counts from 0
        let weight = Some(u32::from(header[3]) + 1);
        hops.push(Hop { interface: u32::from_ne_bytes(word(header, 4)), gateway, weight });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// An address of 4 or 16 bytes.
fn address(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

/// Older kernels have fewer counters; those missing are 0.
fn counters(bytes: &[u8]) -> LinkStatistics {
    let mut numbers = bytes.as_chunks::<8>().0.iter().map(|b| u64::from_ne_bytes(*b));
    let mut next = || numbers.next().unwrap_or(0);
    LinkStatistics {
        rx_packets: next(),
        tx_packets: next(),
        rx_bytes: next(),
        tx_bytes: next(),
        rx_errors: next(),
        tx_errors: next(),
        rx_dropped: next(),
        tx_dropped: next(),
        multicast: next(),
        collisions: next(),
        rx_length_errors: next(),
        rx_over_errors: next(),
        rx_crc_errors: next(),
        rx_frame_errors: next(),
        rx_fifo_errors: next(),
        rx_missed_errors: next(),
        tx_aborted_errors: next(),
        tx_carrier_errors: next(),
        tx_fifo_errors: next(),
        tx_heartbeat_errors: next(),
        tx_window_errors: next(),
        rx_compressed: next(),
        tx_compressed: next(),
        rx_nohandler: next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::netlink::attribute;

    #[test]
    fn the_kernel_knows_the_loopback_link() {
        let links = links().unwrap();
        assert!(links.iter().any(|l| l.name == "lo"), "{links:?}");
    }

    #[test]
    fn links_have_properties() {
        let mut message = vec![0, 0, 1, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        message.extend(attribute(IFLA_IFNAME, b"eth0\0"));
        message.extend(attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]));
        message.extend(attribute(IFLA_MTU, &1500u32.to_ne_bytes()));
        message.extend(attribute(IFLA_OPERSTATE, &[6]));
        message.extend(attribute(IFLA_CARRIER_UP_COUNT, &7u32.to_ne_bytes()));
        message.extend(attribute(IFLA_LINK, &0u32.to_ne_bytes()));
        message.extend(attribute(IFLA_GROUP, &[]));
        let expected = Properties {
            name: "eth0".into(),
            index: 4,
            link: 4,
            kind: 1,
            flags: 3,
            address: vec![2, 0, 0, 0, 0, 1],
            mtu: 1500,
            state: 6,
            carrier_ups: 7,
            ..Properties::default()
        };
        assert_eq!(properties(&message), Some(expected));
        assert_eq!(properties(&message[..15]), None);
        assert!(link_properties().unwrap().iter().any(|l| l.name == "lo" && l.kind == 772));
    }

    #[test]
    fn a_route_has_one_hop_or_several() {
        let header = |length: u8| vec![2, length, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0];
        let mut one = header(24);
        one.extend(attribute(RTA_DST, &[192, 0, 2, 0]));
        one.extend(attribute(RTA_PREFSRC, &[192, 0, 2, 2]));
        one.extend(attribute(RTA_OIF, &3u32.to_ne_bytes()));
        one.extend(attribute(RTA_PRIORITY, &100u32.to_ne_bytes()));
        let expected = Route {
            kind: 1,
            protocol: 2,
            destination: Some([192, 0, 2, 0].into()),
            destination_length: 24,
            source: Some([192, 0, 2, 2].into()),
            priority: 100,
            hops: vec![Hop { interface: 3, gateway: None, weight: None }],
        };
        assert_eq!(route(&one), Some(expected));
        let gateway = attribute(RTA_GATEWAY, &[192, 0, 2, 9]);
        let mut hops = vec![(8 + gateway.len()) as u8, 0, 0, 4, 7, 0, 0, 0];
        hops.extend(gateway);
        hops.extend([8, 0, 0, 0, 9, 0, 0, 0]);
        let mut several = header(0);
        several.extend(attribute(RTA_MULTIPATH, &hops));
        let expected = vec![
            Hop { interface: 7, gateway: Some([192, 0, 2, 9].into()), weight: Some(5) },
            Hop { interface: 9, gateway: None, weight: Some(1) },
        ];
        assert_eq!(route(&several).map(|r| (r.destination, r.hops)), Some((None, expected)));
        assert_eq!(route(&header(0)[..11]), None);
        // a hop that says it is longer than what is there
        assert_eq!(next_hops(&[200, 0, 0, 0, 9, 0, 0, 0]), []);
        // or shorter than its own header
        assert_eq!(next_hops(&[0, 0, 0, 0, 9, 0, 0, 0]), []);
    }

    #[test]
    fn the_local_address_of_two_ends_counts() {
        let mut message = vec![2, 32, 0, 0, 5, 0, 0, 0];
        message.extend(attribute(IFA_ADDRESS, &[192, 0, 2, 1]));
        message.extend(attribute(IFA_LOCAL, &[192, 0, 2, 2]));
        let expected = Address { device: "tun0".into(), address: [192, 0, 2, 2].into(), prefix: 32 };
        assert_eq!(interface_address(&message, "tun0".into()), Some(expected));
        assert_eq!(interface_address(&message[..9], String::new()), None);
        assert_eq!(interface_address(&message[..5], String::new()), None);
        let known = addresses().unwrap();
        assert!(known.iter().all(|a| !a.device.is_empty()), "{known:?}");
    }

    #[test]
    fn the_kernel_tells_its_routes() {
        let names = link_names().unwrap();
        assert!(names.iter().any(|(_, name)| name == "lo"), "{names:?}");
        assert!(routes().unwrap().iter().all(|r| !r.hops.is_empty()));
    }
}
