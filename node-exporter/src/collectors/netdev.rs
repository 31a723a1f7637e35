use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use super::rtnetlink::{self, Address, LinkStatistics};
use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, attribute, malformed};
use crate::options::{Filter, Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "netdev",
    default: true,
    flags: &[
        Flag::value(
            "collector.netdev.device-include",
            "",
            "Regexp of net devices to include (mutually exclusive to device-exclude).",
        ),
        Flag::value("collector.netdev.device-whitelist", "", "DEPRECATED: Use collector.netdev.device-include")
            .hidden(),
        Flag::value(
            "collector.netdev.device-exclude",
            "",
            "Regexp of net devices to exclude (mutually exclusive to device-include).",
        ),
        Flag::value("collector.netdev.device-blacklist", "", "DEPRECATED: Use collector.netdev.device-exclude")
            .hidden(),
        Flag::switch("collector.netdev.address-info", false, "Collect address-info for every device"),
        Flag::switch(
            "collector.netdev.enable-detailed-metrics",
            false,
            "Use (incompatible) metric names that provide more detailed stats on Linux",
        ),
        Flag::switch("collector.netdev.netlink", true, "Use netlink to gather stats instead of /proc/net/dev."),
        Flag::switch("collector.netdev.label-ifalias", false, "Add ifAlias label"),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let filter = settings.filter(
        ["collector.netdev.device-include", "collector.netdev.device-whitelist"],
        ["collector.netdev.device-exclude", "collector.netdev.device-blacklist"],
    )?;
    Ok(Box::new(Netdev {
        paths: settings.paths.clone(),
        filter,
        detailed: settings.on("collector.netdev.enable-detailed-metrics"),
        netlink: settings.on("collector.netdev.netlink"),
        alias: settings.on("collector.netdev.label-ifalias"),
        addresses: settings.on("collector.netdev.address-info"),
    }))
}

struct Netdev {
    paths: Arc<Paths>,
    filter: Filter,
    detailed: bool,
    netlink: bool,
    alias: bool,
    addresses: bool,
}

type Values = Vec<(&'static str, u64)>;

impl Collector for Netdev {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let devices = if self.netlink {
            let links =
                rtnetlink::links().map_err(|e| CollectorError::failed(format!("couldn't get netstats: {e}")))?;
            links.into_iter().map(|link| (link.name, self.of_link(&link.statistics))).collect()
        } else {
            self.read_file()?
        };
        let mut families = BTreeMap::new();
        for (device, values) in devices {
            if self.filter.ignores(&device) {
                continue;
            }
            let alias = if self.alias {
                attribute(&self.paths.sys("class/net").join(&device).join("ifalias")).unwrap_or_default()
            } else {
                String::new()
            };
            let labels = [("device", device.as_str()), ("ifalias", &alias)];
            let labels = if self.alias { &labels[..] } else { &labels[..1] };
            for (name, value) in values {
                let family = *families.entry(name).or_insert_with(|| {
                    let help = format!("Network device statistic {name}.");
                    page.family(&format!("node_network_{name}_total"), &help, MetricType::Counter)
                });
                page.sample(family, labels, value as f64);
            }
        }
        if self.addresses {
            let addresses = rtnetlink::addresses()
                .map_err(|e| CollectorError::failed(format!("could not get network interfaces: {e}")))?;
            show_addresses(page, &addresses);
        }
        Ok(())
    }
}

fn show_addresses(page: &mut Page, addresses: &[Address]) {
    let family = page.family("node_network_address_info", "node network address by device", MetricType::Gauge);
    for Address { device, address, prefix } in addresses {
        let (address_text, prefix) = (address.to_string(), prefix.to_string());
        let labels =
            [("address", address_text.as_str()), ("device", device), ("netmask", &prefix), ("scope", scope(*address))];
        page.sample(family, &labels, 1.0);
    }
}

/// How far an address reaches, in node_exporter's words.
fn scope(address: IpAddr) -> &'static str {
    let (near, broadcast, multicast) = match address {
        IpAddr::V4(a) => {
            let [first, second, third, _] = a.octets();
            (
                a.is_loopback() || a.is_link_local() || (first, second, third) == (224, 0, 0),
                a.is_broadcast(),
                a.is_multicast(),
            )
        }
        IpAddr::V6(a) => {
            let first = a.segments()[0];
            (a.is_loopback() || a.is_unicast_link_local() || first & 0xff0f == 0xff02, false, a.is_multicast())
        }
    };
    let interface = matches!(address, IpAddr::V6(a) if a.segments()[0] & 0xff0f == 0xff01);
    match () {
        () if near => "link-local",
        () if interface => "interface-local",
        () if !broadcast && !multicast && !address.is_unspecified() => "global",
        () => "",
    }
}

impl Netdev {
    /// The names that `/proc/net/dev` has, or the kernel's own.
    fn of_link(&self, s: &LinkStatistics) -> Values {
        if self.detailed {
            return s.named().to_vec();
        }
        vec![
            ("receive_packets", s.rx_packets),
            ("transmit_packets", s.tx_packets),
            ("receive_bytes", s.rx_bytes),
            ("transmit_bytes", s.tx_bytes),
            ("receive_errs", s.rx_errors),
            ("transmit_errs", s.tx_errors),
            ("receive_drop", s.rx_dropped + s.rx_missed_errors),
            ("transmit_drop", s.tx_dropped),
            ("receive_multicast", s.multicast),
            ("transmit_colls", s.collisions),
            ("receive_frame", s.rx_length_errors + s.rx_over_errors + s.rx_crc_errors + s.rx_frame_errors),
            ("receive_fifo", s.rx_fifo_errors),
            (
                "transmit_carrier",
                s.tx_carrier_errors + s.tx_aborted_errors + s.tx_heartbeat_errors + s.tx_window_errors,
            ),
            ("transmit_fifo", s.tx_fifo_errors),
            ("receive_compressed", s.rx_compressed),
            ("transmit_compressed", s.tx_compressed),
            ("receive_nohandler", s.rx_nohandler),
        ]
    }

    fn read_file(&self) -> Result<Vec<(String, Values)>, CollectorError> {
        const COLUMNS: [&str; 16] = [
            "receive_bytes",
            "receive_packets",
            "receive_errs",
            "receive_drop",
            "receive_fifo",
            "receive_frame",
            "receive_compressed",
            "receive_multicast",
            "transmit_bytes",
            "transmit_packets",
            "transmit_errs",
            "transmit_drop",
            "transmit_fifo",
            "transmit_colls",
            "transmit_carrier",
            "transmit_compressed",
        ];
        let path = self.paths.proc("net/dev");
        let text = self.paths.required(&path)?;
        let mut devices = Vec::new();
        for line in text.lines().skip(2) {
            // a device's name may hold a colon
            let Some((name, fields)) = line.rsplit_once(':') else {
                return Err(malformed(&path, "no device in a line"));
            };
            let fields = fields
                .split_ascii_whitespace()
                .map(|f| f.parse().map_err(|_| malformed(&path, &format!("no number: {f:?}"))));
            let values = fields.collect::<Result<Vec<u64>, _>>()?;
            devices.push((name.trim().to_owned(), COLUMNS.into_iter().zip(values).collect()));
        }
        Ok(devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check, paths};

    #[test]
    fn the_file_is_read_where_netlink_is_off() {
        let dev =
            "Inter-|\n face |\n  lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0.1: 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let (_folder, paths) = paths(&[("proc/net/dev", dev), ("sys/class/net/lo/ifalias", "loop\n")]);
        let filter = Filter::default();
        let netdev = Netdev { paths, filter, detailed: false, netlink: false, alias: true, addresses: false };
        let (lines, result) = crate::collectors::fixture::samples(&netdev);
        assert_eq!((lines.len(), result), (32, Ok(())));
        assert!(
            lines.contains(&"node_network_transmit_colls_total{device=\"lo\",ifalias=\"loop\"} 14".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"node_network_receive_bytes_total{device=\"eth0.1\",ifalias=\"\"} 5".to_owned()),
            "{lines:?}"
        );
    }

    #[test]
    fn addresses_have_a_scope() {
        for (address, expected) in [
            ("127.0.0.1", "link-local"),
            ("169.254.3.4", "link-local"),
            ("192.0.2.2", "global"),
            ("10.0.0.1", "global"),
            ("255.255.255.255", ""),
            ("0.0.0.0", ""),
            ("224.0.0.251", "link-local"),
            ("239.1.1.1", ""),
            ("::1", "link-local"),
            ("fe80::1", "link-local"),
            ("ff01::1", "interface-local"),
            ("ff02::1", "link-local"),
            ("fd00::2", "global"),
            ("::", ""),
        ] {
            assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
        }
        let mut page = Page::new();
        let address = Address { device: "eth0".into(), address: "192.0.2.2".parse().unwrap(), prefix: 24 };
        show_addresses(&mut page, &[address]);
        let labels = page.families().0.iter().next().unwrap().samples().next().unwrap().labels.to_owned();
        assert_eq!(labels, "address=\"192.0.2.2\",device=\"eth0\",netmask=\"24\",scope=\"global\"");
    }

    #[test]
    fn a_broken_file_is_a_failure() {
        let (folder, paths) = paths(&[("proc/net/dev", "a\nb\neth0: x\n")]);
        let filter = Filter::default();
        let netdev = Netdev { paths, filter, detailed: false, netlink: false, alias: false, addresses: false };
        let path = folder.path().join("proc/net/dev");
        check(&netdev, &Err(CollectorError::Failed(format!("{}: no number: \"x\"", path.display()))), &[]);
    }
}
