//! How much memory queries may take if nobody says: parts of what the machine, or the control group, has.

use std::path::{Path, PathBuf};

/// Of the memory there is, what all queries together may take, and what one may.
const ALL: u64 = 4;
const ONE: u64 = 8;

/// What is assumed where nothing can be found out.
const UNKNOWN: u64 = 2 << 30;

/// Bytes that one query may take, and all together. What is given counts; the rest is a part of the memory there is.
pub(crate) fn limits(one: Option<u64>, all: Option<u64>) -> (usize, usize) {
    let there = available(Path::new("/"));
    let all = all.unwrap_or(there / ALL);
    let one = one.unwrap_or((there / ONE).min(all));
    let bytes = |number: u64| match number {
        0 => usize::MAX,
        number => usize::try_from(number).unwrap_or(usize::MAX),
    };
    (bytes(one), bytes(all))
}

/// Memory of the machine, or what the control groups around this process leave of it.
fn available(root: &Path) -> u64 {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let mut least = read(root.join("proc/meminfo"))
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024);
    for line in read(root.join("proc/self/cgroup")).lines() {
        // 0::/the/group, or 5:memory:/the/group before version 2
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // in a container the group's own path may not be there: its top is
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            if let Ok(limit) = read(root.join(mount).join(group).join(file)).trim().parse::<u64>() {
                least = Some(least.map_or(limit, |least| least.min(limit)));
            }
        }
    }
    least.filter(|bytes| *bytes > 0).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: u64) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(available(root.path()), expected, "{files:?}");
    }

    #[test]
    fn the_tightest_limit_counts() {
        let meminfo = ("proc/meminfo", "MemTotal:        8000 kB\nMemFree: 1 kB\n");
        check(&[], UNKNOWN);
        check(&[meminfo], 8_192_000);
        let group = ("proc/self/cgroup", "0::/a/b\n");
        check(&[meminfo, group, ("sys/fs/cgroup/a/b/memory.max", "max\n")], 8_192_000);
        let inner = ("sys/fs/cgroup/a/b/memory.max", "5000000\n");
        check(&[meminfo, group, inner], 5_000_000);
        check(&[meminfo, group, inner, ("sys/fs/cgroup/a/memory.max", "4000000\n")], 4_000_000);
        check(&[meminfo, group, ("sys/fs/cgroup/memory.max", "3000000\n")], 3_000_000);
        let old = ("proc/self/cgroup", "7:cpu:/a\n5:memory:/a\n");
        check(&[meminfo, old, ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000000\n")], 2_000_000);
        check(&[meminfo, old, ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n")], 8_192_000);
    }

    #[test]
    fn what_is_given_counts() {
        assert_eq!(limits(Some(5), Some(7)), (5, 7));
        assert_eq!(limits(Some(0), Some(0)), (usize::MAX, usize::MAX));
        let (one, all) = limits(None, Some(3));
        assert_eq!((one, all), (3, 3), "one query takes no more than all");
        let (one, all) = limits(None, None);
        assert!(one > 0 && one <= all && all < usize::MAX);
    }
}
