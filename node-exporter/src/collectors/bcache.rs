use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, attribute, names_or_none};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "bcache",
    default: true,
    flags: &[Flag::switch("collector.bcache.priorityStats", false, "Expose expensive priority stats.")],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Bcache {
        paths: settings.paths.clone(),
        priority_stats: settings.on("collector.bcache.priorityStats"),
    }))
}

struct Bcache {
    paths: Arc<Paths>,
    priority_stats: bool,
}

/// File or field, metric, type and help.
type Row = (&'static str, &'static str, MetricType, &'static str);

/// Of a cache set. The duration is in nanoseconds, whatever its file is called.
const SET: [Row; 10] = [
    ("average_key_size", "node_bcache_average_key_size_sectors", Gauge, "Average data per key in the btree (sectors)."),
    (
        "btree_cache_size",
        "node_bcache_btree_cache_size_bytes",
        Gauge,
        "Amount of memory currently used by the btree cache.",
    ),
    (
        "cache_available_percent",
        "node_bcache_cache_available_percent",
        Gauge,
        "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).",
    ),
    ("congested", "node_bcache_congested", Gauge, "Congestion."),
    (
        "root_usage_percent",
        "node_bcache_root_usage_percent",
        Gauge,
        "Percentage of the root btree node in use (tree depth increases if too high).",
    ),
    ("tree_depth", "node_bcache_tree_depth", Gauge, "Depth of the btree."),
    (
        "internal/active_journal_entries",
        "node_bcache_active_journal_entries",
        Gauge,
        "Number of journal entries that are newer than the index.",
    ),
    ("internal/btree_nodes", "node_bcache_btree_nodes", Gauge, "Total nodes in the btree."),
    (
        "internal/btree_read_average_duration_us",
        "node_bcache_btree_read_average_duration_seconds",
        Gauge,
        "Average btree read duration.",
    ),
    (
        "internal/cache_read_races",
        "node_bcache_cache_read_races_total",
        Counter,
        "Counts instances where while data was being read from the cache, the bucket was reused and invalidated - i.e. where the pointer was stale after the read completed.",
    ),
];

/// Of a backing device.
const BACKING: [Row; 8] = [
    ("dirty_data", "node_bcache_dirty_data_bytes", Gauge, "Amount of dirty data for this backing device in the cache."),
    (
        "stats_total/bypassed",
        "node_bcache_bypassed_bytes_total",
        Counter,
        "Amount of IO (both reads and writes) that has bypassed the cache.",
    ),
    (
        "stats_total/cache_bypass_hits",
        "node_bcache_cache_bypass_hits_total",
        Counter,
        "Hits for IO intended to skip the cache.",
    ),
    (
        "stats_total/cache_bypass_misses",
        "node_bcache_cache_bypass_misses_total",
        Counter,
        "Misses for IO intended to skip the cache.",
    ),
    (
        "stats_total/cache_hits",
        "node_bcache_cache_hits_total",
        Counter,
        "Hits counted per individual IO as bcache sees them.",
    ),
    (
        "stats_total/cache_miss_collisions",
        "node_bcache_cache_miss_collisions_total",
        Counter,
        "Instances where data insertion from cache miss raced with write (data already present).",
    ),
    (
        "stats_total/cache_misses",
        "node_bcache_cache_misses_total",
        Counter,
        "Misses counted per individual IO as bcache sees them.",
    ),
    (
        "stats_total/cache_readaheads",
        "node_bcache_cache_readaheads_total",
        Counter,
        "Count of times readahead occurred.",
    ),
];

/// Fields of a backing device's `writeback_rate_debug`.
const WRITEBACK: [Row; 5] = [
    ("rate", "node_bcache_writeback_rate", Gauge, "Current writeback rate for this backing device in bytes."),
    (
        "target",
        "node_bcache_dirty_target_bytes",
        Gauge,
        "Current dirty data target threshold for this backing device in bytes.",
    ),
    (
        "proportional",
        "node_bcache_writeback_rate_proportional_term",
        Gauge,
        "Current result of proportional controller, part of writeback rate",
    ),
    (
        "integral",
        "node_bcache_writeback_rate_integral_term",
        Gauge,
        "Current result of integral controller, part of writeback rate",
    ),
    ("change", "node_bcache_writeback_change", Gauge, "Last writeback rate change step for this backing device."),
];

/// Of a cache device.
const CACHE: [Row; 3] = [
    ("io_errors", "node_bcache_io_errors", Gauge, "Number of errors that have occurred, decayed by io_error_halflife."),
    (
        "metadata_written",
        "node_bcache_metadata_written_bytes_total",
        Counter,
        "Sum of all non data writes (btree writes and all other metadata).",
    ),
    ("written", "node_bcache_written_bytes_total", Counter, "Sum of all data that has been written to the cache."),
];

/// Fields of a cache device's `priority_stats`.
const PRIORITY: [Row; 2] = [
    (
        "Unused",
        "node_bcache_priority_stats_unused_percent",
        Gauge,
        "The percentage of the cache that doesn't contain any data.",
    ),
    ("Metadata", "node_bcache_priority_stats_metadata_percent", Gauge, "Bcache's metadata overhead."),
];

impl Collector for Bcache {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("fs/bcache");
        for uuid in names_or_none(&folder) {
            let set = folder.join(&uuid);
            // `register` and others are files
            if !set.join("internal").is_dir() {
                continue;
            }
            let labels = [("uuid", uuid.as_str())];
            files(page, &set, &SET, &labels);
            for name in names_or_none(&set) {
                let device = set.join(&name);
                if name.starts_with("bdev") {
                    let labels = [("backing_device", name.as_str()), labels[0]];
                    files(page, &device, &BACKING, &labels);
                    fields(page, &device.join("writeback_rate_debug"), &WRITEBACK, &labels);
                } else if name.starts_with("cache") && name[5..].parse::<u32>().is_ok() {
                    let labels = [("cache_device", name.as_str()), labels[0]];
                    files(page, &device, &CACHE, &labels);
                    if self.priority_stats {
                        fields(page, &device.join("priority_stats"), &PRIORITY, &labels);
                    }
                }
            }
        }
        Ok(())
    }
}

fn files(page: &mut Page, folder: &Path, rows: &[Row], labels: &[(&str, &str)]) {
    for (file, name, kind, help) in rows {
        let Some(value) = attribute(&folder.join(file)).ok().and_then(|t| amount(&t)) else { continue };
        let family = page.family(name, help, *kind);
        page.sample(family, labels, if file.ends_with("_us") { value / 1e9 } else { value });
    }
}

/// `rate:           1.1M/sec`
fn fields(page: &mut Page, path: &Path, rows: &[Row], labels: &[(&str, &str)]) {
    let text = attribute(path).unwrap_or_default();
    for (field, name, kind, help) in rows {
        let value = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        let value = value.and_then(|v| amount(v.trim().trim_end_matches("/sec").trim_end_matches('%')));
        if let Some(value) = value {
            let family = page.family(name, help, *kind);
            page.sample(family, labels, value);
        }
    }
}

/// A number such as `1.1M`, in powers of 1024. What stands after the point are hundreds to 1023 of the unit's 1024ths, as the
/// kernel's own rounding writes them: `1.1M` is 1 MiB and 100 KiB.
fn amount(text: &str) -> Option<f64> {
    let text = text.trim();
    let Some(unit) = text.chars().last().and_then(|unit| "kMGTPEZY".find(unit)) else { return text.parse().ok() };
    let number = &text[..text.len() - 1];
    let factor = 1024f64.powi(unit as i32 + 1);
    let Some((whole, rest)) = number.split_once('.') else { return number.parse::<f64>().ok().map(|n| n * factor) };
    let (whole, tenths): (f64, f64) = (whole.parse().ok()?, rest.parse().ok()?);
    let sign = if number.starts_with('-') { -1.0 } else { 1.0 };
    Some(whole * factor + sign * (tenths * 100.0 * factor / 1024.0).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_the_kernel() {
        for (text, value) in
            [("0", 0.0), ("546", 546.0), ("20.4G", 21_894_266_880.0), ("790.0k", 808_960.0), ("512k", 524_288.0)]
        {
            assert_eq!(amount(text), Some(value), "{text}");
        }
        assert_eq!(amount("x"), None);
    }
}
