use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, malformed, names, names_or_none, read};

of_paths!(Zfs, "zfs", true);

/// File and what the metrics are called after `node_`.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "zfs_abd"),
    ("arcstats", "zfs_arc"),
    ("dbufstats", "zfs_dbuf"),
    ("dmu_tx", "zfs_dmu_tx"),
    ("dnodestats", "zfs_dnode"),
    ("fm", "zfs_fm"),
    ("vdev_cache_stats", "zfs_vdev_cache"),
    ("vdev_mirror_stats", "zfs_vdev_mirror"),
    ("xuio_stats", "zfs_xuio"),
    ("zfetchstats", "zfs_zfetch"),
    ("zil", "zfs_zil"),
];

const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

/// The kstat types of 64-bit integers.
const INT64: &str = "3";
const UINT64: &str = "4";

impl Collector for Zfs {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.proc("spl/kstat/zfs");
        let entries = names(&folder).map_err(|e| absent(&folder, &e))?;
        for (file, subsystem) in FILES {
            let path = folder.join(file);
            // files come and go with ZFS' versions
            let Ok(text) = read(&path) else { continue };
            for (name, kind, value) in rows(&text).ok_or_else(|| malformed(&path, "did not parse a single metric"))? {
                if kind == UINT64 || kind == INT64 {
                    let value = integer(&path, name, value)?;
                    let help = format!("kstat.zfs.misc.{file}.{name}");
                    page.untyped(&format!("node_{subsystem}_{}", name.replace('-', "_")), &help, &[], value);
                }
            }
        }
        for pool in entries {
            let path = folder.join(&pool);
            if path.is_dir() {
                collect_pool(page, &path, &pool)?;
            }
        }
        Ok(())
    }
}

fn collect_pool(page: &mut Page, path: &Path, pool: &str) -> Result<(), CollectorError> {
    let io = path.join("io");
    if let Ok(text) = read(&io) {
        let mut lines = text.lines().skip_while(|l| !l.starts_with("nread"));
        let columns: Vec<&str> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
        for line in lines {
            for (name, value) in columns.iter().zip(line.split_ascii_whitespace()) {
                let value = integer(&io, name, value)?;
                page.untyped(
                    &format!("node_zfs_zpool_{name}"),
                    &format!("kstat.zfs.misc.io.{name}"),
                    &[("zpool", pool)],
                    value,
                );
            }
        }
    }
    for name in names_or_none(path).iter().filter(|n| n.starts_with("objset-")) {
        let path = path.join(name);
        let Ok(text) = read(&path) else { continue };
        let mut dataset = "";
        for (name, kind, value) in rows(&text).ok_or_else(|| malformed(&path, "did not parse a single metric"))? {
            if name == "dataset_name" {
                dataset = value;
            } else if kind == UINT64 {
                let value = integer(&path, name, value)?;
                let metric = format!("node_zfs_zpool_dataset_{}", name.replace('-', "_"));
                let labels = [("dataset", dataset), ("zpool", pool)];
                page.untyped(&metric, &format!("kstat.zfs.misc.objset.{name}"), &labels, value);
            }
        }
    }
    if let Ok(state) = attribute(&path.join("state")) {
        let family = page.family("node_zfs_zpool_state", "kstat.zfs.misc.state", MetricType::Gauge);
        for name in STATES {
            let is = f64::from(u8::from(state.eq_ignore_ascii_case(name)));
            page.sample(family, &[("state", name), ("zpool", pool)], is);
        }
    }
    Ok(())
}

/// Name, type and value of the rows after the header; `None` without a header.
fn rows(text: &str) -> Option<impl Iterator<Item = (&str, &str, &str)>> {
    let mut lines = text.lines();
    lines.find(|l| l.split_ascii_whitespace().eq(["name", "type", "data"]))?;
    Some(lines.filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (name, kind) = (fields.next()?, fields.next()?);
        // names of datasets may hold blanks
        let value = line[line.find(name)? + name.len()..].trim_start()[kind.len()..].trim();
        (!value.is_empty()).then_some((name, kind, value))
    }))
}

fn integer(path: &Path, name: &str, value: &str) -> Result<f64, CollectorError> {
    let value: i128 =
        value.parse().map_err(|_| malformed(path, &format!("could not parse expected integer value for {name:?}")))?;
    Ok(value as f64)
}
