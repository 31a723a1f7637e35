use std::io;
use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::Gauge;

use super::hwmon::clean;
use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, failure, names_or_none, number};

of_paths!(Drm, "drm", false);

/// Metric, file of the device, help. A file that is not there counts as 0, as in node_exporter.
const METRICS: [(&str, &str, &str); 7] = [
    ("node_drm_gpu_busy_percent", "gpu_busy_percent", "How busy the GPU is as a percentage."),
    (
        "node_drm_memory_gtt_size_bytes",
        "mem_info_gtt_total",
        "The size of the graphics translation table (GTT) block in bytes.",
    ),
    (
        "node_drm_memory_gtt_used_bytes",
        "mem_info_gtt_used",
        "The used amount of the graphics translation table (GTT) block in bytes.",
    ),
    ("node_drm_memory_vis_vram_size_bytes", "mem_info_vis_vram_total", "The size of visible VRAM in bytes."),
    ("node_drm_memory_vis_vram_used_bytes", "mem_info_vis_vram_used", "The used amount of visible VRAM in bytes."),
    ("node_drm_memory_vram_size_bytes", "mem_info_vram_total", "The size of VRAM in bytes."),
    ("node_drm_memory_vram_used_bytes", "mem_info_vram_used", "The used amount of VRAM in bytes."),
];

impl Collector for Drm {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("class/drm");
        let info = page.family("node_drm_card_info", "Card information", Gauge);
        let families = METRICS.map(|(name, _, help)| page.family(name, help, Gauge));
        let mut cards = names_or_none(&folder);
        // `card0-DP-1` is a connector of `card0`; like node_exporter, nothing beyond ten cards
        cards.retain(|name| matches!(name.strip_prefix("card").map(str::as_bytes), Some([b'0'..=b'9'])));
        // one card that cannot be read fails all
        let mut amd = Vec::new();
        for card in cards {
            if has_driver(&folder.join(&card), "amdgpu")? {
                amd.push(card);
            }
        }
        for card in amd {
            let device = folder.join(&card).join("device");
            let text = |file: &str| attribute(&device.join(file)).unwrap_or_default();
            let (vendor, level) = (text("mem_info_vram_vendor"), text("power_dpm_force_performance_level"));
            let (id, chip) = (text("unique_id"), chip(&device));
            let mut labels = vec![
                ("card", &*card),
                ("chip", &chip),
                ("memory_vendor", &vendor),
                ("power_performance_level", &level),
                ("unique_id", &id),
                ("vendor", "amd"),
            ];
            labels.retain(|(name, value)| *name != "chip" || !value.is_empty());
            page.sample(info, &labels, 1.0);
            for (family, (_, file, _)) in families.iter().zip(METRICS) {
                let value = number::<u64>(&device.join(file)).unwrap_or(0);
                page.sample(*family, &[("card", &card)], value as f64);
            }
        }
        Ok(())
    }
}

/// Whether a card is driven by the named driver. A card that says it has no data has none.
fn has_driver(card: &Path, driver: &str) -> Result<bool, CollectorError> {
    let path = card.join("device/uevent");
    match attribute(&path) {
        Ok(text) => Ok(text.contains(&format!("DRIVER={driver}"))),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODATA.raw_os_error()) => Ok(false),
        Err(error) => Err(failure(&path, &error)),
    }
}

/// The name hwmon gives the same device: its folder's parent and its folder.
fn chip(device: &Path) -> String {
    let resolved: io::Result<_> = device.canonicalize();
    let Ok(path) = resolved else { return String::new() };
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name).map_or(String::new(), |name| clean(&name.to_string_lossy()))
    };
    let (kind, name) = (part(path.parent()), part(Some(&path)));
    match (kind.is_empty(), name.is_empty()) {
        (_, true) => String::new(),
        (true, false) => name,
        (false, false) => format!("{kind}_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check, paths};

    const BUS: &str = "sys/devices/pci0000:00";

    #[test]
    fn cards_of_amd_are_shown_and_others_passed_over() {
        let at = |file: &str| format!("{BUS}/0000:00:03.1/0000:09:00.0/{file}");
        let (uevent, busy, total, used, vendor, link) = (
            at("uevent"),
            at("gpu_busy_percent"),
            at("mem_info_vram_total"),
            at("mem_info_vram_used"),
            at("mem_info_vram_vendor"),
            at("drm/card0/device"),
        );
        let (_folder, paths) = paths(&[
            (&uevent, "DRIVER=amdgpu\nPCI_CLASS=30000\n"),
            (&busy, "4\n"),
            (&total, "8573157376\n"),
            (&used, "1490378752\n"),
            (&vendor, "samsung\n"),
            (&link, "->../../../0000:09:00.0"),
            ("sys/class/drm/card0", "->../../devices/pci0000:00/0000:00:03.1/0000:09:00.0/drm/card0"),
            ("sys/class/drm/card0-DP-1/status", "connected\n"),
            ("sys/class/drm/card1/device/uevent", "DRIVER=i915\n"),
            ("sys/class/drm/card10/device/uevent", "DRIVER=amdgpu\n"),
        ]);
        check(
            &Drm(paths),
            &Ok(()),
            &[
                "node_drm_card_info{card=\"card0\",chip=\"0000:00:03_1_0000:09:00_0\",memory_vendor=\"samsung\",power_performance_level=\"\",unique_id=\"\",vendor=\"amd\"} 1",
                "node_drm_gpu_busy_percent{card=\"card0\"} 4",
                "node_drm_memory_gtt_size_bytes{card=\"card0\"} 0",
                "node_drm_memory_gtt_used_bytes{card=\"card0\"} 0",
                "node_drm_memory_vis_vram_size_bytes{card=\"card0\"} 0",
                "node_drm_memory_vis_vram_used_bytes{card=\"card0\"} 0",
                "node_drm_memory_vram_size_bytes{card=\"card0\"} 8.573157376e+09",
                "node_drm_memory_vram_used_bytes{card=\"card0\"} 1.490378752e+09",
            ],
        );
    }

    #[test]
    fn a_card_without_a_device_fails_and_no_card_does_not() {
        let (_folder, with) = paths(&[("sys/class/drm/card3/dev", "226:3\n")]);
        let path = with.sys("class/drm/card3/device/uevent");
        let text = format!("{}: No such file or directory (os error 2)", path.display());
        check(&Drm(with), &Err(CollectorError::Failed(text)), &[]);
        let (_folder, without) = paths(&[("sys/class/drm/version", "drm 1.1.0\n")]);
        check(&Drm(without), &Ok(()), &[]);
    }
}
