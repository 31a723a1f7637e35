use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::{Filter, Flag, Settings};

mod asker;

use asker::Asker;

pub(super) const REGISTRATION: Registration = Registration {
    name: "filesystem",
    default: true,
    flags: &[
        Flag::value("collector.filesystem.mount-points-exclude", r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)", "Regexp of mount points to exclude for filesystem collector. (mutually exclusive to mount-points-include)"),
        Flag::value("collector.filesystem.ignored-mount-points", "", "DEPRECATED: Use collector.filesystem.mount-points-exclude").hidden(),
        Flag::value("collector.filesystem.mount-points-include", "", "Regexp of mount points to include for filesystem collector. (mutually exclusive to mount-points-exclude)"),
        Flag::value("collector.filesystem.fs-types-exclude", "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$", "Regexp of filesystem types to exclude for filesystem collector. (mutually exclusive to fs-types-include)"),
        Flag::value("collector.filesystem.ignored-fs-types", "", "DEPRECATED: Use collector.filesystem.fs-types-exclude").hidden(),
        Flag::value("collector.filesystem.fs-types-include", "", "Regexp of filesystem types to exclude for filesystem collector. (mutually exclusive to fs-types-exclude)"),
        Flag::value("collector.filesystem.mount-timeout", "5s", "how long to wait for a mount to respond before marking it as stale").hidden(),
        Flag::value("collector.filesystem.stat-workers", "4", "how many stat calls to process simultaneously. Accepted and without effect: one thread asks, and others take over when it hangs.").hidden(),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let mount_points = settings.filter(
        ["collector.filesystem.mount-points-include", ""],
        ["collector.filesystem.mount-points-exclude", "collector.filesystem.ignored-mount-points"],
    )?;
    let types = settings.filter(
        ["collector.filesystem.fs-types-include", ""],
        ["collector.filesystem.fs-types-exclude", "collector.filesystem.ignored-fs-types"],
    )?;
    let timeout: model::Duration = settings
        .text("collector.filesystem.mount-timeout")
        .parse()
        .map_err(|e| format!("--collector.filesystem.mount-timeout: {e}"))?;
    let paths = settings.paths.clone();
    Ok(Box::new(Filesystem { paths, mount_points, types, asker: Asker::new(timeout.as_std()) }))
}

struct Filesystem {
    paths: Arc<Paths>,
    mount_points: Filter,
    types: Filter,
    asker: Asker,
}

/// A mount that a process sees.
#[derive(Debug, PartialEq)]
pub(super) struct Mount<'a> {
    device: Cow<'a, str>,
    /// Where it is mounted, perhaps below the watched root.
    pub(super) point: Cow<'a, str>,
    pub(super) kind: &'a str,
    major: &'a str,
    minor: &'a str,
    read_only: bool,
}

impl Collector for Filesystem {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        self.collect_until(page, Instant::now() + Duration::from_secs(3600))
    }

    fn collect_until(&self, page: &mut Page, deadline: Instant) -> Result<(), CollectorError> {
        // the mounts of the first process are the machine's; in a container only one's own may be readable
        let path = self.paths.proc("1/mountinfo");
        let text = match self.paths.read(&path) {
            Ok(text) => text,
            Err(_) => self.paths.required(&self.paths.own("mountinfo"))?,
        };
        let mounts = parse(&text).ok_or_else(|| malformed(&path, "unexpected line"))?;
        let mut seen = HashSet::with_capacity(mounts.len());
        let shown = |mount: &&Mount<'_>| {
            !self.types.ignores(mount.kind) && !self.mount_points.ignores(self.paths.strip_root(&mount.point))
        };
        let mounts: Vec<&Mount<'_>> = mounts
            .iter()
            .filter(shown)
            .filter(|m| seen.insert((&*m.device, self.paths.strip_root(&m.point), m.kind)))
            .collect();

        // the first process sees other paths than this one, if this one is in a container
        let found = |mount: &&Mount<'_>| self.paths.root(self.paths.strip_root(&mount.point));
        let answers = self.asker.ask(mounts.iter().map(found).collect(), deadline);
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Gauge);
        let size = family("node_filesystem_size_bytes", "Filesystem size in bytes.");
        let free = family("node_filesystem_free_bytes", "Filesystem free space in bytes.");
        let available = family("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.");
        let files = family("node_filesystem_files", "Filesystem total file nodes.");
        let files_free = family("node_filesystem_files_free", "Filesystem total free file nodes.");
        let help = "Filesystem space available including purgeable space (MacOS specific).";
        let purgeable = family("node_filesystem_purgeable_bytes", help);
        let read_only = family("node_filesystem_readonly", "Filesystem read-only status.");
        let help = "Whether an error occurred while getting statistics for the given device.";
        let error = family("node_filesystem_device_error", help);
        let info = family("node_filesystem_mount_info", "Filesystem mount information.");
        for (mount, answer) in mounts.iter().zip(answers) {
            let fault = answer.as_ref().err().map_or("", String::as_str);
            let labels = [
                ("device", &*mount.device),
                ("device_error", fault),
                ("fstype", mount.kind),
                ("mountpoint", self.paths.strip_root(&mount.point)),
            ];
            page.sample(error, &labels, f64::from(u8::from(answer.is_err())));
            page.sample(read_only, &labels, f64::from(u8::from(mount.read_only)));
            let Ok(stat) = &answer else { continue };
            let block = stat.f_bsize as f64;
            page.sample(size, &labels, stat.f_blocks as f64 * block);
            page.sample(free, &labels, stat.f_bfree as f64 * block);
            page.sample(available, &labels, stat.f_bavail as f64 * block);
            page.sample(files, &labels, stat.f_files as f64);
            page.sample(files_free, &labels, stat.f_ffree as f64);
            page.sample(purgeable, &labels, 0.0);
            let labels = [labels[0], ("major", mount.major), ("minor", mount.minor), labels[3]];
            page.sample(info, &labels, 1.0);
        }
        Ok(())
    }
}

/// Reads `mountinfo`; `None` if a line is not of its form.
pub(super) fn parse(text: &str) -> Option<Vec<Mount<'_>>> {
    text.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount<'_>> {
    // ID parent major:minor root mount-point options [fields...] - type device super-options
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (major, minor) = left.next()?.split_once(':')?;
    let point = unescape(left.nth(1)?);
    let options = left.next()?;
    let mut right = right.split(' ');
    let (kind, device, super_options) = (right.next()?, right.next()?, right.next().unwrap_or(""));
    let read_only = options.split(',').chain(super_options.split(',')).any(|o| o == "ro");
    Some(Mount { device: unescape(device), point, kind, major, minor, read_only })
}

/// Blanks in names are written as `\040`.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let code = rest.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                bytes = &rest[3..];
            }
            None => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{paths, samples};

    #[test]
    fn mounts_are_read() {
        let text = "29 1 254:0 / /host/a\\040b rw,relatime shared:1 - ext4 /dev/sda1 ro,errors=x\n";
        let expected = Mount {
            device: "/dev/sda1".into(),
            point: "/host/a b".into(),
            kind: "ext4",
            major: "254",
            minor: "0",
            read_only: true,
        };
        assert_eq!(parse(text), Some(vec![expected]));
        assert_eq!(parse("29 1\n"), None);
    }

    #[test]
    fn a_mount_that_cannot_be_asked_is_an_error_of_its_own() {
        let mountinfo = "1 1 8:1 / / rw - tmpfs tmp rw\n2 1 8:2 / /does/not/exist rw - ext4 /dev/x rw\n3 1 0:1 / /proc rw - proc p rw\n";
        let (_folder, paths) = paths(&[("proc/1/mountinfo", mountinfo)]);
        let paths = Arc::new(Paths { rootfs: "/".into(), ..(*paths).clone() });
        let filesystem = Filesystem {
            paths,
            mount_points: Filter::default(),
            types: Filter::default(),
            asker: Asker::new(Duration::from_secs(60)),
        };
        let (lines, result) = samples(&filesystem);
        assert_eq!(result, Ok(()));
        let fault = "node_filesystem_device_error{device=\"/dev/x\",device_error=\"no such file or directory\",\
                     fstype=\"ext4\",mountpoint=\"/does/not/exist\"} 1";
        assert!(lines.iter().any(|l| l == fault), "{lines:#?}");
        assert!(lines.iter().any(|l| l.starts_with("node_filesystem_size_bytes{device=\"tmp\"")), "{lines:#?}");
    }
}
