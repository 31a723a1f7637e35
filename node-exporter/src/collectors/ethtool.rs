use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{Gauge, Unknown};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, names};
use crate::ioctl::{self, text};
use crate::options::{Filter, Flag, Pattern, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "ethtool",
    default: false,
    flags: &[
        Flag::value(
            "collector.ethtool.device-include",
            "",
            "Regexp of ethtool devices to include (mutually exclusive to device-exclude).",
        ),
        Flag::value(
            "collector.ethtool.device-exclude",
            "",
            "Regexp of ethtool devices to exclude (mutually exclusive to device-include).",
        ),
        Flag::value("collector.ethtool.metrics-include", ".*", "Regexp of ethtool stats to include."),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Ethtool {
        paths: settings.paths.clone(),
        devices: settings.filter(["collector.ethtool.device-include", ""], ["collector.ethtool.device-exclude", ""])?,
        metrics: settings.pattern("collector.ethtool.metrics-include")?,
    }))
}

struct Ethtool {
    paths: Arc<Paths>,
    devices: Filter,
    metrics: Option<Pattern>,
}

/// Statistics that most drivers have, with names and help of their own.
const COMMON: [(&str, &str, &str); 7] = [
    ("rx_bytes", "node_ethtool_received_bytes_total", "Network interface bytes received"),
    ("rx_dropped", "node_ethtool_received_dropped_total", "Number of received frames dropped"),
    ("rx_errors", "node_ethtool_received_errors_total", "Number of received frames with errors"),
    ("rx_packets", "node_ethtool_received_packets_total", "Network interface packets received"),
    ("tx_bytes", "node_ethtool_transmitted_bytes_total", "Network interface bytes sent"),
    ("tx_errors", "node_ethtool_transmitted_errors_total", "Number of sent frames with errors"),
    ("tx_packets", "node_ethtool_transmitted_packets_total", "Network interface packets sent"),
];

/// Link modes by their bits in `ethtool_link_mode_bit_indices`: Mbit/s, duplex and what is behind `base`.
const SPEEDS: [(u32, u32, &str, &str); 23] = [
    (0, 10, "half", "T"),
    (1, 10, "full", "T"),
    (2, 100, "half", "T"),
    (3, 100, "full", "T"),
    (4, 1000, "half", "T"),
    (5, 1000, "full", "T"),
    (12, 10_000, "full", "T"),
    (15, 2500, "full", "T"),
    (17, 1000, "full", "KX"),
    (18, 10_000, "full", "KX4"),
    (19, 10_000, "full", "KR"),
    (20, 10_000, "full", "R_FEC"),
    (21, 20_000, "full", "MLD2"),
    (22, 20_000, "full", "KR2"),
    (23, 40_000, "full", "KR4"),
    (24, 40_000, "full", "CR4"),
    (25, 40_000, "full", "SR4"),
    (26, 40_000, "full", "LR4"),
    (27, 56_000, "full", "KR4"),
    (28, 56_000, "full", "CR4"),
    (29, 56_000, "full", "SR4"),
    (30, 56_000, "full", "LR4"),
    (31, 25_000, "full", "CR"),
];

/// Kinds of ports, by their bits among the link modes.
const PORTS: [(u32, &str); 6] = [(7, "TP"), (8, "AUI"), (9, "MII"), (10, "FIBRE"), (11, "BNC"), (16, "Backplane")];

/// What a device can do and what it offers: bit, metric, and help for either.
const CAPABILITIES: [(u32, &str, [&str; 2]); 3] = [
    (6, "autonegotiate", ["If this port device supports autonegotiate", "If this port device offers autonegotiate"]),
    (13, "pause", ["If this port device supports pause frames", "If this port device offers pause capability"]),
    (
        14,
        "asymmetricpause",
        [
            "If this port device supports asymmetric pause frames",
            "If this port device offers asymmetric pause capability",
        ],
    ),
];

impl Collector for Ethtool {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("class/net");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| CollectorError::failed(format!("no socket to ask devices with: {e}")))?;
        for device in devices {
            // `bonding_masters` is a file
            if self.devices.ignores(&device) || !folder.join(&device).is_dir() {
                continue;
            }
            self.collect_device(page, &socket, &device);
        }
        Ok(())
    }
}

impl Ethtool {
    fn collect_device(&self, page: &mut Page, socket: &OwnedFd, device: &str) {
        let told = |what: &str, error: &io::Error| {
            if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
                tracing::debug!(device, err = %error, "ethtool {what} is not supported");
            } else {
                tracing::error!(device, err = %error, "ethtool {what} error");
            }
        };
        match ioctl::link(socket, device) {
            Ok(link) => show_link(page, device, &link),
            Err(error) => told("link info", &error),
        }
        let driver = match ioctl::driver(socket, device) {
            Ok(driver) => driver,
            Err(error) => return told("driver info", &error),
        };
        show_driver(page, device, &driver);
        let count = word(&driver, 180) as usize;
        if count > 0 {
            match ioctl::statistics(socket, device, count) {
                Ok(statistics) => self.show_statistics(page, device, &statistics),
                Err(error) => told("stats", &error),
            }
        }
    }

    /// Statistics under names that Prometheus accepts. Where two would get the same name, none is shown.
    fn show_statistics(&self, page: &mut Page, device: &str, statistics: &[(String, u64)]) {
        let mut by_metric: BTreeMap<String, Option<(&str, u64)>> = BTreeMap::new();
        for (name, value) in statistics {
            if self.metrics.as_ref().is_none_or(|m| m.is_match(name)) {
                let shown = by_metric.entry(metric_name(name));
                shown.and_modify(|clash| *clash = None).or_insert(Some((name, *value)));
            }
        }
        for (metric, statistic) in &by_metric {
            let Some((name, value)) = statistic else { continue };
            let family = match COMMON.iter().find(|(common, ..)| common == name) {
                Some((_, metric, help)) => page.family(metric, help, Unknown),
                None => page.family(metric, &format!("Network interface {name}"), Unknown),
            };
            page.sample(family, &[("device", device)], *value as f64);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Shows a `struct ethtool_cmd`.
fn show_link(page: &mut Page, device: &str, link: &[u8]) {
    let (supported, advertised) = (word(link, 4), word(link, 8));
    let on = |modes: u32, bit: u32| modes & 1 << bit != 0;
    for (modes, name, help) in [
        (
            supported,
            "node_network_supported_speed_bytes",
            "Combination of speeds and features supported by network device",
        ),
        (
            advertised,
            "node_network_advertised_speed_bytes",
            "Combination of speeds and features offered by network device",
        ),
    ] {
        let family = page.family(name, help, Gauge);
        for (_, megabits, duplex, kind) in SPEEDS.iter().filter(|speed| on(modes, speed.0)) {
            let mode = format!("{megabits}base{kind}");
            let labels = [("device", device), ("duplex", duplex), ("mode", &mode)];
            page.sample(family, &labels, f64::from(*megabits) * 1e6 / 8.0);
        }
    }
    let help = "Type of ports or PHYs supported by network device";
    let family = page.family("node_network_supported_port_info", help, Gauge);
    for (_, kind) in PORTS.iter().filter(|port| on(supported, port.0)) {
        page.sample(family, &[("device", device), ("type", kind)], 1.0);
    }
    for (bit, name, [can, offers]) in CAPABILITIES {
        for (modes, suffix, help) in [(supported, "supported", can), (advertised, "advertised", offers)] {
            let value = f64::from(u8::from(on(modes, bit)));
            page.gauge(&format!("node_network_{name}_{suffix}"), help, &[("device", device)], value);
        }
    }
    let help = "If this port is using autonegotiate";
    let value = link.get(18).copied().unwrap_or(0);
    page.gauge("node_network_autonegotiate", help, &[("device", device)], f64::from(value));
}

/// Shows a `struct ethtool_drvinfo`.
fn show_driver(page: &mut Page, device: &str, driver: &[u8]) {
    let field = |from: usize| driver.get(from..from + 32).map_or(String::new(), text);
    let (name, version, firmware, bus, rom) = (field(4), field(36), field(68), field(100), field(132));
    let labels = [
        ("bus_info", bus.as_str()),
        ("device", device),
        ("driver", &name),
        ("expansion_rom_version", &rom),
        ("firmware_version", &firmware),
        ("version", &version),
    ];
    let help = "A metric with a constant '1' value labeled by bus_info, device, driver, expansion_rom_version, firmware_version, version.";
    page.gauge("node_ethtool_info", help, &labels, 1.0);
}

/// `Port.rx_Dropped` becomes `node_ethtool_port_received_dropped`.
fn metric_name(statistic: &str) -> String {
    let mut clean = String::with_capacity(statistic.len());
    // other characters become an underscore, which takes those beside it with it
    let (mut other, mut absorbed) = (false, false);
    for c in statistic.chars() {
        match c {
            '_' if other => absorbed = true,
            '_' => clean.push('_'),
            c if c.is_ascii_alphanumeric() => {
                clean.push(c);
                (other, absorbed) = (false, false);
            }
            _ if other && !absorbed => {}
            _ => {
                if !other {
                    clean.truncate(clean.trim_end_matches('_').len());
                }
                clean.push('_');
                (other, absorbed) = (true, false);
            }
        }
    }
    let mut clean = clean.trim_start_matches('_').to_ascii_lowercase();
    for (word, long) in [("rx", "received"), ("tx", "transmitted")] {
        clean = lengthened(&clean, word, long);
    }
    format!("node_ethtool_{clean}")
}

/// Writes a word out where it stands between underscores. Two in a row share an underscore, and then only the first counts.
fn lengthened(name: &str, word: &str, long: &str) -> String {
    let mut out = String::with_capacity(name.len() + 16);
    let mut shared = false;
    for (at, part) in name.split('_').enumerate() {
        if at > 0 {
            out.push('_');
        }
        let found = part == word && !shared;
        out.push_str(if found { long } else { part });
        shared = found;
    }
    out
}

#[cfg(test)]
mod tests {
    use common::exposition::{EscapingScheme, text};

    use super::*;

    fn lines(page: &Page) -> Vec<String> {
        let mut out = Vec::new();
        text::encode(&page.families().0, EscapingScheme::Underscores, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn statistics_have_names_of_metrics() {
        for (statistic, expected) in [
            ("rx_queue_0_bytes", "received_queue_0_bytes"),
            ("port.rx_dropped", "port_received_dropped"),
            ("tx_tx_timeouts", "transmitted_tx_timeouts"),
            ("rx0_xdp_tx", "rx0_xdp_transmitted"),
            ("tx_xdp_tx_drops", "transmitted_xdp_transmitted_drops"),
            ("Duplicate  metric", "duplicate_metric"),
            ("__a__b", "a__b"),
            ("a_-_b", "a_b"),
            (".a.", "a_"),
            ("a_.b_", "a_b_"),
        ] {
            assert_eq!(metric_name(statistic), format!("node_ethtool_{expected}"), "{statistic}");
        }
    }

    #[test]
    fn statistics_with_one_name_are_left_out() {
        let ethtool = Ethtool {
            paths: Arc::default(),
            devices: Filter::default(),
            metrics: Some(Pattern::new("^[^z]").unwrap()),
        };
        let statistics = [("rx_bytes", 1), ("a b", 2), ("a_b", 3), ("a-b", 4), ("align", 5), ("zero", 6)];
        let statistics = statistics.map(|(name, value)| (name.to_owned(), value));
        let mut page = Page::new();
        ethtool.show_statistics(&mut page, "eth0", &statistics);
        let expected =
            ["node_ethtool_align{device=\"eth0\"} 5", "node_ethtool_received_bytes_total{device=\"eth0\"} 1"];
        assert_eq!(lines(&page), expected);
    }

    #[test]
    fn link_settings_are_bits() {
        let mut link = vec![0; 44];
        link[4..8].copy_from_slice(&(1u32 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13).to_ne_bytes());
        link[8..12].copy_from_slice(&(1u32 << 5 | 1 << 14).to_ne_bytes());
        link[18] = 1;
        let mut page = Page::new();
        show_link(&mut page, "e", &link);
        let expected = [
            "node_network_advertised_speed_bytes{device=\"e\",duplex=\"full\",mode=\"1000baseT\"} 1.25e+08",
            "node_network_asymmetricpause_advertised{device=\"e\"} 1",
            "node_network_asymmetricpause_supported{device=\"e\"} 0",
            "node_network_autonegotiate{device=\"e\"} 1",
            "node_network_autonegotiate_advertised{device=\"e\"} 0",
            "node_network_autonegotiate_supported{device=\"e\"} 1",
            "node_network_pause_advertised{device=\"e\"} 0",
            "node_network_pause_supported{device=\"e\"} 1",
            "node_network_supported_port_info{device=\"e\",type=\"TP\"} 1",
            "node_network_supported_speed_bytes{device=\"e\",duplex=\"full\",mode=\"1000baseT\"} 1.25e+08",
            "node_network_supported_speed_bytes{device=\"e\",duplex=\"full\",mode=\"100baseT\"} 1.25e+07",
        ];
        assert_eq!(lines(&page), expected);
    }

    #[test]
    fn drivers_are_named() {
        let mut driver = vec![0; 196];
        for (at, text) in [(4, "e1000e"), (36, "5.11"), (68, "0.5-4"), (100, "0000:00:1f.6")] {
            driver[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        let mut page = Page::new();
        show_driver(&mut page, "eth0", &driver);
        let expected = "node_ethtool_info{bus_info=\"0000:00:1f.6\",device=\"eth0\",driver=\"e1000e\",\
                        expansion_rom_version=\"\",firmware_version=\"0.5-4\",version=\"5.11\"} 1";
        assert_eq!(lines(&page), [expected]);
    }
}
