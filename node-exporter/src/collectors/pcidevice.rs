use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use super::pci_ids::PciIds;
use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, attribute, names, number};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "pcidevice",
    default: false,
    flags: &[
        Flag::value("collector.pcidevice.idsfile", "", "Path to pci.ids file to use for PCI device identification."),
        Flag::switch("collector.pcidevice.names", false, "Enable PCI device name resolution (requires pci.ids file)."),
    ],
    build,
};

/// Where distributions put the database.
const DATABASES: [&str; 4] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/pci.ids", "var/lib/pciutils/pci.ids"];

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let mut names = None;
    if settings.on("collector.pcidevice.names") {
        let files = match settings.text("collector.pcidevice.idsfile") {
            "" => DATABASES.iter().map(|f| settings.paths.root(f)).collect(),
            file => vec![PathBuf::from(file)],
        };
        let text = files.iter().find_map(|f| std::fs::read(f).ok());
        if text.is_none() {
            tracing::warn!("no pci.ids file found: PCI devices have no names");
        }
        names = Some(PciIds::parse(&String::from_utf8_lossy(&text.unwrap_or_default())));
    }
    Ok(Box::new(PciDevice { paths: settings.paths.clone(), names }))
}

struct PciDevice {
    paths: Arc<Paths>,
    names: Option<PciIds>,
}

/// File, metric and help of the attributes that are a number, and what is shown where the kernel has none, or a negative one.
const NUMBERS: [(&str, &str, &str, Option<f64>); 8] = [
    ("max_link_width", "node_pcidevice_max_link_width", "Value of maximum link's width (number of lanes)", Some(-1.0)),
    (
        "current_link_width",
        "node_pcidevice_current_link_width",
        "Value of current link's width (number of lanes)",
        Some(-1.0),
    ),
    (
        "d3cold_allowed",
        "node_pcidevice_d3cold_allowed",
        "Whether the PCIe device supports D3cold power state (0/1).",
        Some(0.0),
    ),
    (
        "sriov_drivers_autoprobe",
        "node_pcidevice_sriov_drivers_autoprobe",
        "Whether SR-IOV drivers autoprobe is enabled for the device (0/1).",
        Some(0.0),
    ),
    (
        "sriov_numvfs",
        "node_pcidevice_sriov_numvfs",
        "Number of Virtual Functions (VFs) currently enabled for SR-IOV.",
        Some(0.0),
    ),
    (
        "sriov_totalvfs",
        "node_pcidevice_sriov_totalvfs",
        "Total number of Virtual Functions (VFs) supported by the device.",
        Some(0.0),
    ),
    (
        "sriov_vf_total_msix",
        "node_pcidevice_sriov_vf_total_msix",
        "Total number of MSI-X vectors for Virtual Functions.",
        Some(0.0),
    ),
    (
        "numa_node",
        "node_pcidevice_numa_node",
        "NUMA node number for the PCI device. -1 indicates unknown or not available.",
        None,
    ),
];

const SPEEDS: [(&str, &str, &str); 2] = [
    (
        "max_link_speed",
        "node_pcidevice_max_link_transfers_per_second",
        "Value of maximum link's transfers per second (T/s)",
    ),
    (
        "current_link_speed",
        "node_pcidevice_current_link_transfers_per_second",
        "Value of current link's transfers per second (T/s)",
    ),
];

const POWER_STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];

impl Collector for PciDevice {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("bus/pci/devices");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Gauge);
        let info =
            family("node_pcidevice_info", "Non-numeric data from /sys/bus/pci/devices/<location>, value is always 1.");
        let help = "PCIe device power state, one of: D0, D1, D2, D3hot, D3cold, unknown or error.";
        let power = family("node_pcidevice_power_state", help);
        let numbers = NUMBERS.map(|(_, name, help, _)| family(name, help));
        let speeds = SPEEDS.map(|(_, name, help)| family(name, help));
        for device in devices {
            let Some(location) = Location::parse(&device) else { continue };
            let path = folder.join(&device);
            let labels = location.labels(["bus", "device", "function", "segment"]);
            self.collect_info(page, info, &path, &location);
            for (family, (file, _, _, absent)) in numbers.iter().zip(NUMBERS) {
                if let Some(value) = number::<f64>(&path.join(file)).filter(|v| *v >= 0.0).or(absent) {
                    page.sample(*family, &labels, value);
                }
            }
            for (family, (file, ..)) in speeds.iter().zip(SPEEDS) {
                // `8.0 GT/s PCIe`
                let gigatransfers =
                    attribute(&path.join(file)).ok().and_then(|t| t.split(' ').next()?.parse::<f64>().ok());
                // the other devices than those of PCI Express have no such link
                page.sample(*family, &labels, gigatransfers.map_or(-1.0, |value| value * 1e9));
            }
            if let Ok(state) = attribute(&path.join("power_state")) {
                for name in POWER_STATES {
                    let all = [labels[0], labels[1], labels[2], labels[3], ("state", name)];
                    page.sample(power, &all, f64::from(u8::from(name == state)));
                }
            }
        }
        Ok(())
    }
}

impl PciDevice {
    fn collect_info(&self, page: &mut Page, family: common::metrics::FamilyId, path: &Path, location: &Location<'_>) {
        let text = |file: &str| attribute(&path.join(file)).unwrap_or_default();
        let (class, vendor, device) = (text("class"), text("vendor"), text("device"));
        let (sub_vendor, sub_device, revision) = (text("subsystem_vendor"), text("subsystem_device"), text("revision"));
        let real = std::fs::canonicalize(path).unwrap_or_default();
        let parent =
            real.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let parent =
            Location::parse(&parent).unwrap_or(Location { segment: "*", bus: "*", device: "*", function: "*" });
        let mut labels = vec![
            ("class_id", class.as_str()),
            ("device_id", &device),
            ("revision", &revision),
            ("subsystem_device_id", &sub_device),
            ("subsystem_vendor_id", &sub_vendor),
            ("vendor_id", &vendor),
        ];
        labels.extend(location.labels(["bus", "device", "function", "segment"]));
        labels.extend(parent.labels(["parent_bus", "parent_device", "parent_function", "parent_segment"]));
        if let Some(ids) = &self.names {
            labels.extend([
                ("class_name", ids.class(&class)),
                ("device_name", ids.device(&vendor, &device)),
                ("subsystem_device_name", ids.subsystem(&vendor, &device, &sub_vendor, &sub_device)),
                ("subsystem_vendor_name", ids.vendor(&sub_vendor)),
                ("vendor_name", ids.vendor(&vendor)),
            ]);
        }
        labels.sort_unstable();
        page.sample(family, &labels, 1.0);
    }
}

/// Where a device is: `0000:00:02.1`.
struct Location<'a> {
    segment: &'a str,
    bus: &'a str,
    device: &'a str,
    function: &'a str,
}

impl<'a> Location<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (rest, function) = name.split_once('.')?;
        let mut parts = rest.splitn(3, ':');
        let (segment, bus, device) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { segment, bus, device, function })
    }

    fn labels(&self, names: [&'static str; 4]) -> [(&'static str, &'a str); 4] {
        [(names[0], self.bus), (names[1], self.device), (names[2], self.function), (names[3], self.segment)]
    }
}
