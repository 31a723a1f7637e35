use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{Counter, Gauge};

use super::filesystem::parse;
use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, names_or_none, number};
use crate::ioctl::{Btrfs as Question, btrfs, text};

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
        let mut mounted = None;
        for uuid in names_or_none(&folder) {
            let path = folder.join(&uuid);
            // `features` describes the kernel
            if path.join("allocation").is_dir() {
                let mounted = mounted.get_or_insert_with(|| self.mounted());
                let devices = mounted.iter().find(|m| m.uuid == uuid).map(|m| &*m.devices);
                collect_filesystem(page, &path, &uuid, devices);
            }
        }
        Ok(())
    }
}

/// A file system that could be asked itself.
struct Mounted {
    /// As sysfs writes it.
    uuid: String,
    devices: Vec<Device>,
}

/// What a file system tells of one of its devices.
struct Device {
    name: String,
    uuid: String,
    used: u64,
    total: u64,
    errors: [u64; 5],
}

/// In the order of the kernel's counters.
const ERRORS: [&str; 5] = ["write", "read", "flush", "corruption", "generation"];

impl Btrfs {
    /// Asks the file systems that are mounted. One whose mount points are not open to this process is not among them.
    fn mounted(&self) -> Vec<Mounted> {
        let mut found: Vec<Mounted> = Vec::new();
        let text = self.0.read(&self.0.proc("1/mountinfo")).or_else(|_| self.0.read(&self.0.own("mountinfo")));
        for mount in parse(&text.unwrap_or_default()).unwrap_or_default() {
            if mount.kind != "btrfs" {
                continue;
            }
            let path = self.0.root(self.0.strip_root(&mount.point));
            match ask(&path) {
                Ok(mounted) if found.iter().all(|f| f.uuid != mounted.uuid) => found.push(mounted),
                Ok(_) => {}
                Err(error) => tracing::debug!(path = %path.display(), err = %error, "btrfs could not be asked"),
            }
        }
        found
    }
}

fn ask(path: &Path) -> io::Result<Mounted> {
    let folder = File::open(path)?;
    let answer = btrfs(&folder, Question::Filesystem)?;
    let (highest, count) = (quad(&answer, 0), quad(&answer, 8));
    let mut devices = Vec::new();
    for id in 0..=highest {
        if devices.len() as u64 == count {
            break;
        }
        let device = match btrfs(&folder, Question::Device(id)) {
            Ok(device) => device,
            // numbers are not given out again
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
            Err(error) => return Err(error),
        };
        devices.push(device_of(&device, &btrfs(&folder, Question::Errors(id))?));
    }
    Ok(Mounted { uuid: uuid(&answer[16..32]), devices })
}

/// Reads `struct btrfs_ioctl_dev_info_args` and `struct btrfs_ioctl_get_dev_stats`.
fn device_of(device: &[u8], errors: &[u8]) -> Device {
    let path = text(&device[3072..]);
    Device {
        name: path.rsplit('/').next().unwrap_or("").to_owned(),
        uuid: uuid(&device[8..24]),
        used: quad(device, 24),
        total: quad(device, 32),
        errors: std::array::from_fn(|at| quad(errors, 24 + at * 8)),
    }
}

fn quad(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn show_devices(page: &mut Page, uuid: &str, devices: &[Device]) {
    let size = page.family("node_btrfs_device_size_bytes", SIZE_HELP, Gauge);
    let help = "Unused bytes unused on a device that is part of the filesystem.";
    let unused = page.family("node_btrfs_device_unused_bytes", help, Gauge);
    let errors = page.family("node_btrfs_device_errors_total", "Errors reported for the device", Counter);
    for device in devices {
        let labels = [("btrfs_dev_uuid", device.uuid.as_str()), ("device", &device.name), ("uuid", uuid)];
        page.sample(size, &labels, device.total as f64);
        page.sample(unused, &labels, device.total.saturating_sub(device.used) as f64);
        for (kind, count) in ERRORS.iter().zip(device.errors) {
            let labels = [labels[0], labels[1], ("type", *kind), labels[2]];
            page.sample(errors, &labels, count as f64);
        }
    }
}

const SIZE_HELP: &str = "Size of a device that is part of the filesystem.";

fn collect_filesystem(page: &mut Page, path: &Path, uuid: &str, mounted: Option<&[Device]>) {
    let id = ("uuid", uuid);
    let label = attribute(&path.join("label")).unwrap_or_default();
    page.gauge("node_btrfs_info", "Filesystem information", &[("label", &label), id], 1.0);
    let allocation = path.join("allocation");
    if let Some(bytes) = number(&allocation.join("global_rsv_size")) {
        page.gauge("node_btrfs_global_rsv_size_bytes", "Size of global reserve.", &[id], bytes);
    }
    let devices = names_or_none(&path.join("devices"));
    if let Some(devices) = mounted {
        show_devices(page, uuid, devices);
    } else {
        let size = page.family("node_btrfs_device_size_bytes", SIZE_HELP, Gauge);
        for device in &devices {
            if let Some(sectors) = number::<f64>(&path.join("devices").join(device).join("size")) {
                page.sample(size, &[("device", device), id], sectors * SECTOR);
            }
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

#[cfg(test)]
mod tests {
    use common::exposition::{EscapingScheme, text as format};

    use super::*;
    use crate::collectors::fixture::check_built;

    #[test]
    fn devices_of_a_mounted_file_system_tell_their_errors() {
        let (mut device, mut errors) = (vec![0; 4096], vec![0; 1032]);
        device[8..24].copy_from_slice(&[0x1f; 16]);
        device[24..32].copy_from_slice(&40u64.to_ne_bytes());
        device[32..40].copy_from_slice(&100u64.to_ne_bytes());
        device[3072..3080].copy_from_slice(b"/dev/sdb");
        for (at, count) in [1u64, 2, 3, 4, 5].into_iter().enumerate() {
            errors[24 + at * 8..32 + at * 8].copy_from_slice(&count.to_ne_bytes());
        }
        let mut page = Page::new();
        show_devices(&mut page, "u", &[device_of(&device, &errors)]);
        let mut out = Vec::new();
        format::encode(&page.families().0, EscapingScheme::Underscores, &mut out);
        let found = String::from_utf8(out).unwrap();
        let of = "btrfs_dev_uuid=\"1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f\",device=\"sdb\"";
        let mut expected = vec![
            format!("node_btrfs_device_size_bytes{{{of},uuid=\"u\"}} 100"),
            format!("node_btrfs_device_unused_bytes{{{of},uuid=\"u\"}} 60"),
        ];
        for (kind, count) in ERRORS.iter().zip(1..) {
            expected.push(format!("node_btrfs_device_errors_total{{{of},type=\"{kind}\",uuid=\"u\"}} {count}"));
        }
        for line in expected {
            assert!(found.lines().any(|l| l == line), "{line} in {found}");
        }
    }

    #[test]
    fn a_file_system_that_cannot_be_asked_is_read_from_sysfs() {
        check_built(
            "btrfs",
            &[],
            &[
                ("sys/fs/btrfs/u/label", "L\n"),
                ("sys/fs/btrfs/u/allocation/global_rsv_size", "7\n"),
                ("sys/fs/btrfs/u/devices/sdb/size", "2\n"),
                ("proc/1/mountinfo", "1 1 0:9 / /none rw - btrfs /dev/sdb rw\n"),
            ],
            &[
                "node_btrfs_commit_seconds_total{uuid=\"u\"} 0",
                "node_btrfs_commits_total{uuid=\"u\"} 0",
                "node_btrfs_device_size_bytes{device=\"sdb\",uuid=\"u\"} 1024",
                "node_btrfs_global_rsv_size_bytes{uuid=\"u\"} 7",
                "node_btrfs_info{label=\"L\",uuid=\"u\"} 1",
                "node_btrfs_last_commit_seconds{uuid=\"u\"} 0",
                "node_btrfs_max_commit_seconds{uuid=\"u\"} 0",
            ],
        );
    }
}
