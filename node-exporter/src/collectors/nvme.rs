use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::Gauge;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, names, names_or_none, number};

of_paths!(Nvme, "nvme", true);

/// Sizes in sysfs are in sectors of 512 bytes, whatever the device's blocks are.
const SECTOR: f64 = 512.0;

impl Collector for Nvme {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("class/nvme");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let help = "Non-numeric data from /sys/class/nvme/<device>, value is always 1.";
        let info = page.family("node_nvme_info", help, Gauge);
        let help = "Information about NVMe namespaces. Value is always 1";
        let namespace_info = page.family("node_nvme_namespace_info", help, Gauge);
        let help = "Capacity of the NVMe namespace in bytes. Computed as namespace_size * namespace_logical_block_size";
        let capacity = page.family("node_nvme_namespace_capacity_bytes", help, Gauge);
        let help = "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size";
        let size = page.family("node_nvme_namespace_size_bytes", help, Gauge);
        let help = "Used space of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/nuse";
        let used = page.family("node_nvme_namespace_used_bytes", help, Gauge);
        let help = "Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in /sys/class/nvme/<device>/<namespace>/queue/logical_block_size";
        let block = page.family("node_nvme_namespace_logical_block_size_bytes", help, Gauge);
        for device in devices {
            let path = folder.join(&device);
            let text = |file: &str| attribute(&path.join(file)).unwrap_or_default();
            let labels = [
                ("cntlid", &*text("cntlid")),
                ("device", &device),
                ("firmware_revision", &text("firmware_rev")),
                ("model", &text("model")),
                ("serial", &text("serial")),
                ("state", &text("state")),
            ];
            page.sample(info, &labels, 1.0);
            for name in names_or_none(&path) {
                // `nvme0n1`, or `nvme0c0n1` where several controllers reach it
                let Some(rest) = name.strip_prefix(&device) else { continue };
                let Some((_, id)) = rest.rsplit_once('n').filter(|(_, id)| id.parse::<u32>().is_ok()) else { continue };
                let path = path.join(&name);
                let state = attribute(&path.join("ana_state")).unwrap_or_else(|_| "unknown".to_owned());
                let (device, id) = (("device", device.as_str()), ("nsid", id));
                page.sample(namespace_info, &[("ana_state", &state), device, id], 1.0);
                let Some(sectors) = number::<f64>(&path.join("size")) else { continue };
                let block_size = number::<f64>(&path.join("queue/logical_block_size"));
                page.sample(size, &[device, id], sectors * block_size.unwrap_or(SECTOR));
                page.sample(capacity, &[device, id], sectors * block_size.unwrap_or(SECTOR));
                if let Some(bytes) = block_size {
                    page.sample(block, &[device, id], bytes);
                }
                if let Some(blocks) = number::<f64>(&path.join("nuse")) {
                    page.sample(used, &[device, id], blocks * block_size.unwrap_or(SECTOR));
                }
            }
        }
        Ok(())
    }
}
