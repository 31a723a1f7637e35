use std::collections::BTreeMap;
use std::net::IpAddr;

use common::metrics::Page;
use model::MetricType::Gauge;

use super::rtnetlink::{self, Route};
use crate::collector::{Collector, CollectorError, Registration};

pub(super) const REGISTRATION: Registration =
    Registration { name: "network_route", default: false, flags: &[], build: |_| Ok(Box::new(NetworkRoute)) };

struct NetworkRoute;

/// Routes of this kind lead somewhere; others are addresses of the machine itself, or dead ends.
const RTN_UNICAST: u8 = 1;

/// Who makes routes, by the kernel's numbers.
const PROTOCOLS: [(u8, &str); 21] = [
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (10, "mrt"),
    (11, "zebra"),
    (12, "bird"),
    (13, "dnrouted"),
    (14, "xorp"),
    (15, "ntk"),
    (16, "dhcp"),
    (17, "mrouted"),
    (42, "babel"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
    (192, "eigrp"),
];

impl Collector for NetworkRoute {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let failed =
            |what: &str, error: std::io::Error| CollectorError::failed(format!("couldn't get {what}: {error}"));
        let names = rtnetlink::link_names().map_err(|error| failed("links", error))?;
        let routes = rtnetlink::routes().map_err(|error| failed("routes", error))?;
        show(page, &names, &routes);
        Ok(())
    }
}

fn show(page: &mut Page, names: &[(u32, String)], routes: &[Route]) {
    let info = page.family("node_network_route_info", "network routing table information", Gauge);
    let mut counts = BTreeMap::new();
    for route in routes.iter().filter(|route| route.kind == RTN_UNICAST) {
        let destination = match (route.destination_length, route.destination) {
            (0, _) => "default".to_owned(),
            (length, destination) => format!("{}/{length}", text(destination)),
        };
        let protocol =
            PROTOCOLS.iter().find(|(number, _)| *number == route.protocol).map_or("unknown", |(_, name)| name);
        for hop in &route.hops {
            let device = names.iter().find(|(index, _)| *index == hop.interface).map_or("", |(_, name)| name);
            let labels = [
                ("dest", &*destination),
                ("device", device),
                ("gw", &text(hop.gateway)),
                ("priority", &route.priority.to_string()),
                ("proto", protocol),
                ("src", &text(route.source)),
                ("weight", &hop.weight.map_or(String::new(), |weight| weight.to_string())),
            ];
            page.sample(info, &labels, 1.0);
            *counts.entry(device).or_insert(0u32) += 1;
        }
    }
    let family = page.family("node_network_routes", "network routes by interface", Gauge);
    for (device, count) in counts {
        page.sample(family, &[("device", device)], f64::from(count));
    }
}

/// An address as text, empty if there is none. An IPv4 address mapped into IPv6 is shown as what it is.
fn text(address: Option<IpAddr>) -> String {
    address.map_or(String::new(), |address| address.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::check;
    use crate::collectors::rtnetlink::Hop;

    /// Routes in place of the kernel's.
    struct Recorded(Vec<Route>);

    impl Collector for Recorded {
        fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
            show(page, &[(1, "lo".to_owned()), (2, "eth0".to_owned()), (3, "eth1".to_owned())], &self.0);
            Ok(())
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn route(destination: Option<IpAddr>, destination_length: u8, hops: Vec<Hop>) -> Route {
        Route { kind: RTN_UNICAST, protocol: 2, destination, destination_length, source: None, priority: 0, hops }
    }

    fn hop(interface: u32, gateway: Option<IpAddr>, weight: Option<u32>) -> Hop {
        Hop { interface, gateway, weight }
    }

    #[test]
    fn routes_are_shown_and_counted() {
        let routes = vec![
            Route { protocol: 16, priority: 100, ..route(None, 0, vec![hop(2, ip("192.0.2.1"), None)]) },
            Route { source: ip("192.0.2.2"), ..route(ip("192.0.2.0"), 24, vec![hop(2, None, None)]) },
            Route {
                protocol: 77,
                ..route(
                    ip("2001:db8::"),
                    32,
                    vec![hop(2, ip("fe80::1"), Some(1)), hop(3, ip("::ffff:192.0.2.7"), Some(10))],
                )
            },
            route(ip("198.51.100.0"), 24, vec![hop(9, None, None)]),
            Route { kind: 2, ..route(ip("127.0.0.1"), 32, vec![hop(1, None, None)]) },
        ];
        check(
            &Recorded(routes),
            &Ok(()),
            &[
                "node_network_route_info{dest=\"192.0.2.0/24\",device=\"eth0\",gw=\"\",priority=\"0\",proto=\"kernel\",src=\"192.0.2.2\",weight=\"\"} 1",
                "node_network_route_info{dest=\"198.51.100.0/24\",device=\"\",gw=\"\",priority=\"0\",proto=\"kernel\",src=\"\",weight=\"\"} 1",
                "node_network_route_info{dest=\"2001:db8::/32\",device=\"eth0\",gw=\"fe80::1\",priority=\"0\",proto=\"unknown\",src=\"\",weight=\"1\"} 1",
                "node_network_route_info{dest=\"2001:db8::/32\",device=\"eth1\",gw=\"192.0.2.7\",priority=\"0\",proto=\"unknown\",src=\"\",weight=\"10\"} 1",
                "node_network_route_info{dest=\"default\",device=\"eth0\",gw=\"192.0.2.1\",priority=\"100\",proto=\"dhcp\",src=\"\",weight=\"\"} 1",
                "node_network_routes{device=\"\"} 1",
                "node_network_routes{device=\"eth0\"} 3",
                "node_network_routes{device=\"eth1\"} 1",
            ],
        );
    }

    #[test]
    fn the_kernel_is_asked() {
        let mut page = Page::new();
        assert_eq!(NetworkRoute.collect(&mut page), Ok(()));
    }
}
