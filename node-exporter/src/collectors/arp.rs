use std::collections::BTreeMap;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::Paths;
use crate::options::{Filter, Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "arp",
    default: true,
    flags: &[
        Flag::value(
            "collector.arp.device-include",
            "",
            "Regexp of arp devices to include (mutually exclusive to device-exclude).",
        ),
        Flag::value(
            "collector.arp.device-exclude",
            "",
            "Regexp of arp devices to exclude (mutually exclusive to device-include).",
        ),
        Flag::switch(
            "collector.arp.netlink",
            true,
            "Use netlink to gather stats instead of /proc/net/arp. Accepted and without effect: the file holds the same.",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let filter = settings.filter(["collector.arp.device-include", ""], ["collector.arp.device-exclude", ""])?;
    Ok(Box::new(Arp { paths: settings.paths.clone(), filter }))
}

struct Arp {
    paths: Arc<Paths>,
    filter: Filter,
}

impl Collector for Arp {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let text = self.paths.required(&self.paths.proc("net/arp"))?;
        let mut entries: BTreeMap<&str, u64> = BTreeMap::new();
        for line in text.lines().skip(1) {
            if let Some(device) = line.split_ascii_whitespace().nth(5) {
                *entries.entry(device).or_default() += 1;
            }
        }
        let family = page.family("node_arp_entries", "ARP entries by device", MetricType::Gauge);
        for (device, count) in entries {
            if !self.filter.ignores(device) {
                page.sample(family, &[("device", device)], count as f64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn entries_by_device() {
        check_built(
            "arp",
            &["--collector.arp.device-exclude=^nope$"],
            &[(
                "proc/net/arp",
                "IP HW Flags Mac Mask Device\n1.1.1.1 0x1 0x2 a * eth0\n1.1.1.2 0x1 0x2 b * eth0\n1.1.1.3 0x1 0x2 c * nope\n",
            )],
            &["node_arp_entries{device=\"eth0\"} 2"],
        );
    }
}
