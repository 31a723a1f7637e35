use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};
use regex::Regex;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, attribute, names};
use crate::options::{Flag, Settings};

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
    for flag in ["collector.netclass.netlink", "collector.netclass_rtnl.with-stats"] {
        if settings.on(flag) {
            return Err(format!("--{flag} is not supported here"));
        }
    }
    Ok(Box::new(Netclass {
        paths: settings.paths.clone(),
        ignored: settings.pattern("collector.netclass.ignored-devices")?,
        ignore_invalid_speed: settings.on("collector.netclass.ignore-invalid-speed"),
    }))
}

struct Netclass {
    paths: Arc<Paths>,
    ignored: Option<Regex>,
    ignore_invalid_speed: bool,
}

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
        let folder = self.paths.sys("class/net");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let help = "Value is 1 if operstate is 'up', 0 otherwise.";
        let up = page.family("node_network_up", help, Gauge);
        let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
        let info = page.family("node_network_info", help, Gauge);
        let families = NUMBERS.map(|(_, name, kind)| {
            page.family(&format!("node_network_{name}"), &format!("Network device property: {name}"), kind)
        });
        for device in devices {
            let path = folder.join(&device);
            // `bonding_masters` is a file
            if !path.is_dir() || self.ignored.as_ref().is_some_and(|i| i.is_match(&device)) {
                continue;
            }
            let text = |file: &str| attribute(&path.join(file)).unwrap_or_default();
            let state = text("operstate");
            let labels = [("device", device.as_str())];
            page.sample(up, &labels, f64::from(u8::from(state == "up")));
            let admin = match integer(&path, "flags") {
                Some(flags) if flags & IFF_UP != 0 => "up",
                Some(_) => "down",
                None => "unknown",
            };
            let (address, broadcast, duplex, alias) =
                (text("address"), text("broadcast"), text("duplex"), text("ifalias"));
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
            for (family, (file, ..)) in families.iter().zip(NUMBERS) {
                let Some(value) = integer(&path, file) else { continue };
                if file != "speed" {
                    page.sample(*family, &labels, value as f64);
                } else if value >= 0 || !self.ignore_invalid_speed {
                    // from Mbit/s; -1 means that the speed is not known
                    page.sample(*family, &labels, value as f64 * 1_000_000.0 / 8.0);
                }
            }
        }
        Ok(())
    }
}

/// A decimal or hexadecimal number; an error of the driver is none.
fn integer(folder: &Path, file: &str) -> Option<i64> {
    let text = attribute(&folder.join(file)).ok()?;
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
