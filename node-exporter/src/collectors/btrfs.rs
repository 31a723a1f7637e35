use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{Counter, Gauge};

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, names_or_none, number};

of_paths!(Btrfs, "btrfs", true);

const SECTOR: f64 = 512.0;

/// Field of `commit_stats`, metric, divisor and help.
const COMMITS: [(&str, &str, f64, &str); 4] = [
    ("commits", "node_btrfs_commits_total", 1.0, "The total number of commits that have occurred."),
    ("last_commit_ms", "node_btrfs_last_commit_seconds", 1000.0, "Duration of the most recent commit, in seconds."),
    ("max_commit_ms", "node_btrfs_max_commit_seconds", 1000.0, "Duration of the slowest commit, in seconds."),
    ("total_commit_ms", "node_btrfs_commit_seconds_total", 1000.0, "Sum of the duration of all commits, in seconds."),
];

impl Collector for Btrfs {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("fs/btrfs");
        for uuid in names_or_none(&folder) {
            let path = folder.join(&uuid);
            // `features` describes the kernel
            if path.join("allocation").is_dir() {
                collect_filesystem(page, &path, &uuid);
            }
        }
        Ok(())
    }
}

fn collect_filesystem(page: &mut Page, path: &Path, uuid: &str) {
    let id = ("uuid", uuid);
    let label = attribute(&path.join("label")).unwrap_or_default();
    page.gauge("node_btrfs_info", "Filesystem information", &[("label", &label), id], 1.0);
    let allocation = path.join("allocation");
    if let Some(bytes) = number(&allocation.join("global_rsv_size")) {
        page.gauge("node_btrfs_global_rsv_size_bytes", "Size of global reserve.", &[id], bytes);
    }
    let devices = names_or_none(&path.join("devices"));
    let size = page.family("node_btrfs_device_size_bytes", "Size of a device that is part of the filesystem.", Gauge);
    for device in &devices {
        if let Some(sectors) = number::<f64>(&path.join("devices").join(device).join("size")) {
            page.sample(size, &[("device", device), id], sectors * SECTOR);
        }
    }
    let commits = attribute(&path.join("commit_stats")).unwrap_or_default();
    for (field, name, divisor, help) in COMMITS {
        let value = commits.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(' ')?.trim().parse::<f64>().ok());
        // kernels before 6.0 do not count them
        let family = page.family(name, help, if name.ends_with("_total") { Counter } else { Gauge });
        page.sample(family, &[id], value.unwrap_or(0.0) / divisor);
    }
    let reserved = page.family("node_btrfs_reserved_bytes", "Amount of space reserved for a data type", Gauge);
    let used = page.family("node_btrfs_used_bytes", "Amount of used space by a layout/data type", Gauge);
    let total = page.family("node_btrfs_size_bytes", "Amount of space allocated for a layout/data type", Gauge);
    let ratio = page.family("node_btrfs_allocation_ratio", "Data allocation ratio for a layout/data type", Gauge);
    for group in ["data", "metadata", "system"] {
        let path = allocation.join(group);
        let kind = ("block_group_type", group);
        if let Some(bytes) = number(&path.join("bytes_reserved")) {
            page.sample(reserved, &[kind, id], bytes);
        }
        for mode in names_or_none(&path) {
            let layout = path.join(&mode);
            let (Some(in_use), Some(size)) = (number(&layout.join("used_bytes")), number(&layout.join("total_bytes")))
            else {
                continue;
            };
            let labels = [kind, ("mode", mode.as_str()), id];
            page.sample(used, &labels, in_use);
            page.sample(total, &labels, size);
            page.sample(ratio, &labels, overhead(&mode, devices.len() as f64));
        }
    }
}

/// Bytes on the devices for each byte of data.
fn overhead(mode: &str, devices: f64) -> f64 {
    match mode {
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" => devices / (devices - 1.0),
        "raid6" => devices / (devices - 2.0),
        _ => 1.0,
    }
}
