use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, names, names_or_none, number};

of_paths!(DmMultipath, "dmmultipath", true);

const SECTOR: f64 = 512.0;

impl Collector for DmMultipath {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("block");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Gauge);
        let info = family("node_dmmultipath_device_info", "Non-numeric information about a DM-multipath device.");
        let help = "Whether the multipath device-mapper device is active (1) or suspended (0).";
        let active = family("node_dmmultipath_device_active", help);
        let help = "Size of the multipath device in bytes, read from /sys/block/<dm>/size.";
        let size = family("node_dmmultipath_device_size_bytes", help);
        let paths = family("node_dmmultipath_device_paths", "Number of paths for a multipath device.");
        let help = "Number of paths not in active state for a multipath device.";
        let failed = family("node_dmmultipath_device_paths_failed", help);
        let help =
            "Reports the underlying device state for a multipath path, as read from /sys/block/<dev>/device/state.";
        let state = family("node_dmmultipath_path_state", help);
        let mut found = false;
        for sysfs_name in devices.iter().filter(|d| d.starts_with("dm-")) {
            let path = folder.join(sysfs_name);
            let text = |file: &str| attribute(&path.join("dm").join(file)).unwrap_or_default();
            let uuid = text("uuid");
            if !uuid.starts_with("mpath-") {
                continue;
            }
            found = true;
            let name = text("name");
            let labels = [("device", name.as_str()), ("sysfs_name", sysfs_name)];
            page.sample(info, &[labels[0], labels[1], ("uuid", &uuid)], 1.0);
            page.sample(active, &labels, f64::from(u8::from(text("suspended") != "1")));
            if let Some(sectors) = number::<f64>(&path.join("size")) {
                page.sample(size, &labels, sectors * SECTOR);
            }
            let slaves = names_or_none(&path.join("slaves"));
            let mut not_active = 0.0;
            for slave in &slaves {
                let path_state =
                    attribute(&folder.join(slave).join("device/state")).unwrap_or_else(|_| "unknown".to_owned());
                // SCSI says running, NVMe live
                if !matches!(path_state.as_str(), "running" | "live") {
                    not_active += 1.0;
                }
                page.sample(state, &[labels[0], ("path", slave), ("state", &path_state)], 1.0);
            }
            page.sample(paths, &labels, slaves.len() as f64);
            page.sample(failed, &labels, not_active);
        }
        if found { Ok(()) } else { Err(CollectorError::NoData) }
    }
}
