use std::collections::HashMap;
use std::sync::Arc;

use common::metrics::{FamilyId, Page};
use model::MetricType::{self, Counter, Gauge};
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::rtnetlink::{self, Properties};
use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, names};
use crate::ioctl;
use crate::kept::{Folder, is_sysfs};
use crate::options::{Flag, Pattern, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "netclass",
    default: true,
    flags: &[
        Flag::value(
            "collector.netclass.ignored-devices",
            "^$",
            "Regexp of net devices to ignore for netclass collector.",
        ),
        Flag::switch(
            "collector.netclass.ignore-invalid-speed",
            false,
            "Ignore devices where the speed is invalid. This will be the default behavior in 2.x.",
        ),
        Flag::switch("collector.netclass.netlink", false, "Use netlink to gather stats instead of /proc/net/dev."),
        Flag::switch(
            "collector.netclass_rtnl.with-stats",
            false,
            "Expose the statistics for each network device, replacing netdev collector.",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Netclass {
        paths: settings.paths.clone(),
        ignored: settings.pattern("collector.netclass.ignored-devices")?,
        ignore_invalid_speed: settings.on("collector.netclass.ignore-invalid-speed"),
        netlink: settings.on("collector.netclass.netlink"),
        with_statistics: settings.on("collector.netclass_rtnl.with-stats"),
        kept: Mutex::default(),
    }))
}

struct Netclass {
    paths: Arc<Paths>,
    ignored: Option<Pattern>,
    ignore_invalid_speed: bool,
    netlink: bool,
    /// Over netlink only: what the collector netdev has.
    with_statistics: bool,
    /// Folders of devices. A scrape takes them out and puts them back.
    kept: Mutex<HashMap<String, Folder>>,
}

/// Devices whose attributes stay open, 22 each.
const KEPT: usize = 16;

/// File, what the metric is called after `node_network_`, and its type.
const NUMBERS: [(&str, &str, MetricType); 17] = [
    ("addr_assign_type", "address_assign_type", Gauge),
    ("carrier", "carrier", Gauge),
    ("carrier_changes", "carrier_changes_total", Counter),
    ("carrier_up_count", "carrier_up_changes_total", Counter),
    ("carrier_down_count", "carrier_down_changes_total", Counter),
    ("dev_id", "device_id", Gauge),
    ("dormant", "dormant", Gauge),
    ("flags", "flags", Gauge),
    ("ifindex", "iface_id", Gauge),
    ("iflink", "iface_link", Gauge),
    ("link_mode", "iface_link_mode", Gauge),
    ("mtu", "mtu_bytes", Gauge),
    ("name_assign_type", "name_assign_type", Gauge),
    ("netdev_group", "net_dev_group", Gauge),
    ("speed", "speed_bytes", Gauge),
    ("tx_queue_len", "transmit_queue_length", Gauge),
    ("type", "protocol_type", Gauge),
];

/// Bit 0 of `flags`: the administrator has set the link up.
const IFF_UP: i64 = 1;

impl Collector for Netclass {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        if self.netlink {
            return self.collect_netlink(page);
        }
        let folder = self.paths.sys("class/net");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let up = page.family("node_network_up", UP_HELP, Gauge);
        let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
        let info = page.family("node_network_info", help, Gauge);
        let families = NUMBERS.map(|(_, name, kind)| property(page, name, kind));
        let keep = is_sysfs(&folder);
        let mut kept = std::mem::take(&mut *self.kept.lock());
        let mut next = HashMap::new();
        let mut buffer = [0; 4096];
        for device in devices {
            let path = folder.join(&device);
            if self.ignored.as_ref().is_some_and(|i| i.is_match(&device)) {
                continue;
            }
            let mut attributes = match kept.remove(&device).filter(|f| f.is_still_at(&path)) {
                Some(folder) => folder,
                // `bonding_masters` is a file, and a device may be gone by now
                None => match Folder::open(&path) {
                    Ok(folder) if keep && next.len() < KEPT => folder.keep(),
                    Ok(folder) => folder,
                    Err(_) => continue,
                },
            };
            let mut text = |name| attributes.text(name, &mut buffer).unwrap_or_default().to_owned();
            let [state, address, broadcast, duplex, alias] =
                ["operstate", "address", "broadcast", "duplex", "ifalias"].map(&mut text);
            let labels = [("device", device.as_str())];
            page.sample(up, &labels, f64::from(u8::from(state == "up")));
            let mut admin = "unknown";
            for (family, (file, ..)) in families.iter().zip(NUMBERS) {
                let Some(value) = attributes.text(file, &mut buffer).and_then(integer) else { continue };
                if file == "flags" {
                    admin = if value & IFF_UP != 0 { "up" } else { "down" };
                }
                if file != "speed" {
                    page.sample(*family, &labels, value as f64);
                } else if value >= 0 || !self.ignore_invalid_speed {
                    // from Mbit/s; -1 means that the speed is not known
                    page.sample(*family, &labels, value as f64 * 1_000_000.0 / 8.0);
                }
            }
            let all = [
                ("address", address.as_str()),
                ("adminstate", admin),
                ("broadcast", &broadcast),
                ("device", &device),
                ("duplex", &duplex),
                ("ifalias", &alias),
                ("operstate", &state),
            ];
            page.sample(info, &all, 1.0);
            if attributes.is_kept() {
                next.insert(device, attributes);
            }
        }
        *self.kept.lock() = next;
        Ok(())
    }
}

const UP_HELP: &str = "Value is 1 if operstate is 'up', 0 otherwise.";

fn property(page: &mut Page, name: &str, kind: MetricType) -> FamilyId {
    page.family(&format!("node_network_{name}"), &format!("Network device property: {name}"), kind)
}

/// The names of `IF_OPER_` numbers.
const STATES: [&str; 7] = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];
const UP: u8 = 6;

/// What netlink does not tell: file and name of the metric.
const SYSFS_ONLY: [(&str, &str); 3] =
    [("addr_assign_type", "address_assign_type"), ("dev_id", "device_id"), ("name_assign_type", "name_assign_type")];

impl Netclass {
    fn collect_netlink(&self, page: &mut Page) -> Result<(), CollectorError> {
        let failed = |e: std::io::Error| CollectorError::failed(format!("could not get net class info: {e}"));
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| failed(e.into()))?;
        let folder = self.paths.sys("class/net");
        let mut buffer = [0; 4096];
        for link in rtnetlink::link_properties().map_err(failed)? {
            let device = link.name.as_str();
            if self.ignored.as_ref().is_some_and(|i| i.is_match(device)) {
                continue;
            }
            let speed = ioctl::link(&socket, device).ok().map(|settings| speed_and_duplex(&settings));
            show_link(page, &link, speed);
            if self.with_statistics {
                for (name, value) in link.statistics.named() {
                    // node_exporter calls them gauges
                    let family = property(page, &format!("{name}_total"), Gauge);
                    page.sample(family, &[("device", device)], value as f64);
                }
            }
            let Ok(mut attributes) = Folder::open(&folder.join(device)) else { continue };
            for (file, name) in SYSFS_ONLY {
                if let Some(value) = attributes.text(file, &mut buffer).and_then(integer) {
                    let family = property(page, name, Gauge);
                    page.sample(family, &[("device", device)], value as f64);
                }
            }
        }
        Ok(())
    }
}

/// Mbit/s and duplex of a `struct ethtool_cmd`.
fn speed_and_duplex(settings: &[u8]) -> (u32, &'static str) {
    let half = |at: usize| settings.get(at..at + 2).map_or(0, |b| u32::from(u16::from_ne_bytes([b[0], b[1]])));
    let duplex = match settings.get(14) {
        Some(0) => "Half",
        Some(1) => "Full",
        _ => "Unknown",
    };
    (half(12) | half(28) << 16, duplex)
}

fn show_link(page: &mut Page, link: &Properties, speed: Option<(u32, &'static str)>) {
    let labels = [("device", link.name.as_str())];
    page.gauge("node_network_up", UP_HELP, &labels, f64::from(u8::from(link.state == UP)));
    let (address, broadcast) = (hardware_address(&link.address), hardware_address(&link.broadcast));
    let all = [
        ("address", address.as_str()),
        ("broadcast", &broadcast),
        labels[0],
        ("duplex", speed.map_or("", |(_, duplex)| duplex)),
        ("ifalias", &link.alias),
        ("operstate", STATES.get(usize::from(link.state)).copied().unwrap_or("unknown")),
    ];
    page.gauge("node_network_info", "Non-numeric data of <iface>, value is always 1.", &all, 1.0);
    if let Some((megabits, _)) = speed {
        let family = property(page, "speed_bytes", Gauge);
        page.sample(family, &labels, f64::from(megabits) * 1_000_000.0 / 8.0);
    }
    for (name, kind, value) in [
        ("carrier", Gauge, link.carrier.into()),
        ("carrier_changes_total", Counter, link.carrier_changes),
        ("carrier_up_changes_total", Counter, link.carrier_ups),
        ("carrier_down_changes_total", Counter, link.carrier_downs),
        ("flags", Gauge, link.flags),
        ("iface_id", Gauge, link.index),
        ("iface_link_mode", Gauge, link.link_mode.into()),
        ("dormant", Gauge, link.link_mode.into()),
        ("iface_link", Gauge, link.link),
        ("mtu_bytes", Gauge, link.mtu),
        ("net_dev_group", Gauge, link.group),
        ("transmit_queue_length", Gauge, link.queue_length),
        ("protocol_type", Gauge, link.kind.into()),
    ] {
        let family = property(page, name, kind);
        page.sample(family, &labels, value.into());
    }
}

/// `02:00:00:00:00:01`.
fn hardware_address(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

/// A decimal or hexadecimal number; an error of the driver is none.
fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check_built, samples};

    #[test]
    fn link_settings_tell_speed_and_duplex() {
        let mut settings = vec![0; 44];
        settings[12..14].copy_from_slice(&0x86a0u16.to_ne_bytes());
        settings[28..30].copy_from_slice(&1u16.to_ne_bytes());
        for (duplex, expected) in [(0, "Half"), (1, "Full"), (0xff, "Unknown")] {
            settings[14] = duplex;
            assert_eq!(speed_and_duplex(&settings), (100_000, expected));
        }
        assert_eq!(speed_and_duplex(&[]), (0, "Unknown"));
        assert_eq!(hardware_address(&[2, 0, 0xfc]), "02:00:fc");
    }

    #[test]
    fn statistics_come_over_netlink_if_asked_for() {
        let lines = |flags: &[&str]| {
            let arguments = [&["--collector.disable-defaults", "--collector.netclass"], flags].concat();
            let config = crate::flags::parse(arguments.into_iter().map(Into::into)).unwrap();
            let (lines, result) = samples(&*config.collectors[0].1);
            assert_eq!(result, Ok(()));
            lines
        };
        let netlink = "--collector.netclass.netlink";
        let all = lines(&[netlink, "--collector.netclass_rtnl.with-stats"]);
        let of_lo = |start: &str| all.iter().filter(|l| l.starts_with(start) && l.contains("device=\"lo\"")).count();
        assert_eq!(of_lo("node_network_receive_bytes_total"), 1, "{all:#?}");
        assert_eq!(of_lo("node_network_transmit_"), 11, "ten statistics and the length of the queue");
        let plain = lines(&[netlink]);
        assert!(!plain.iter().any(|l| l.starts_with("node_network_receive_")), "{plain:#?}");
    }

    #[test]
    fn properties() {
        check_built(
            "netclass",
            &["--collector.netclass.ignore-invalid-speed"],
            &[
                ("sys/class/net/eth0/flags", "0x1003\n"),
                ("sys/class/net/eth0/operstate", "up\n"),
                ("sys/class/net/eth0/speed", "-1\n"),
                ("sys/class/net/eth0/mtu", "1500\n"),
                ("sys/class/net/bonding_masters", "x"),
            ],
            &[
                "node_network_flags{device=\"eth0\"} 4099",
                "node_network_info{address=\"\",adminstate=\"up\",broadcast=\"\",device=\"eth0\",duplex=\"\",ifalias=\"\",operstate=\"up\"} 1",
                "node_network_mtu_bytes{device=\"eth0\"} 1500",
                "node_network_up{device=\"eth0\"} 1",
            ],
        );
    }
}
