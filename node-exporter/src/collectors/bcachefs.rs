use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{Counter, Gauge};

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, names, names_or_none, read};

of_paths!(Bcachefs, "bcachefs", true);

impl Collector for Bcachefs {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("fs/bcachefs");
        let filesystems = names(&folder).map_err(|e| absent(&folder, &e))?;
        if filesystems.is_empty() {
            return Err(CollectorError::NoData);
        }
        for uuid in filesystems {
            let path = folder.join(&uuid);
            page.gauge("node_bcachefs_info", "Filesystem information.", &[("uuid", &uuid)], 1.0);
            if let Some(bytes) = attribute(&path.join("btree_cache_size")).ok().and_then(|t| human_bytes(&t)) {
                let help = "Btree cache memory usage in bytes.";
                page.gauge("node_bcachefs_btree_cache_size_bytes", help, &[("uuid", &uuid)], bytes);
            }
            collect_counters(page, &path, &uuid);
            collect_compression(page, &path, &uuid);
            collect_btree_writes(page, &path, &uuid);
            collect_errors(page, &path, &uuid);
            for name in names_or_none(&path) {
                if let Some(device) = name.strip_prefix("dev-") {
                    collect_device(page, &path.join(&name), &uuid, device);
                }
            }
        }
        Ok(())
    }
}

fn collect_counters(page: &mut Page, path: &Path, uuid: &str) {
    let folder = path.join("counters");
    for name in names_or_none(&folder) {
        let text = read(&folder.join(&name)).unwrap_or_default();
        let value = text.lines().find_map(|l| l.trim().strip_prefix("since filesystem creation:"));
        let Some(value) = value.and_then(human_bytes) else { continue };
        let help = format!("Bcachefs counter {name} since filesystem creation.");
        page.counter(&format!("node_bcachefs_{name}_total"), &help, &[("uuid", uuid)], value);
    }
}

fn collect_compression(page: &mut Page, path: &Path, uuid: &str) {
    let text = read(&path.join("compression_stats")).unwrap_or_default();
    let packed = page.family("node_bcachefs_compression_compressed_bytes", "Compressed size by algorithm.", Gauge);
    let plain = page.family("node_bcachefs_compression_uncompressed_bytes", "Uncompressed size by algorithm.", Gauge);
    for line in text.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace();
        let Some(algorithm) = fields.next() else { continue };
        let (Some(compressed), Some(uncompressed)) =
            (fields.next().and_then(human_bytes), fields.next().and_then(human_bytes))
        else {
            continue;
        };
        let labels = [("algorithm", algorithm), ("uuid", uuid)];
        page.sample(packed, &labels, compressed);
        page.sample(plain, &labels, uncompressed);
    }
}

fn collect_btree_writes(page: &mut Page, path: &Path, uuid: &str) {
    let text = read(&path.join("btree_write_stats")).unwrap_or_default();
    let count = page.family("node_bcachefs_btree_writes_total", "Number of btree writes by type.", Counter);
    let size = page.family("node_bcachefs_btree_write_average_size_bytes", "Average btree write size by type.", Gauge);
    for line in text.lines().skip(1) {
        let Some((kind, fields)) = line.split_once(':') else { continue };
        let mut fields = fields.split_ascii_whitespace();
        let (Some(number), Some(average)) = (fields.next().and_then(human_bytes), fields.next().and_then(human_bytes))
        else {
            continue;
        };
        let labels = [("type", kind.trim()), ("uuid", uuid)];
        page.sample(count, &labels, number);
        page.sample(size, &labels, average);
    }
}

fn collect_errors(page: &mut Page, path: &Path, uuid: &str) {
    let text = read(&path.join("errors")).unwrap_or_default();
    let family = page.family("node_bcachefs_errors_total", "Error count by error type.", Counter);
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        // a third column tells when it happened last
        let (Some(kind), Some(Ok(count))) = (fields.next(), fields.next().map(str::parse)) else { continue };
        page.sample(family, &[("error_type", kind), ("uuid", uuid)], count);
    }
}

fn collect_device(page: &mut Page, path: &Path, uuid: &str, device: &str) {
    let text = |file: &str| attribute(&path.join(file)).unwrap_or_default();
    let labels = [("device", device), ("uuid", uuid)];
    let (label, state) = (text("label"), text("state"));
    let info = [("device", device), ("label", &*label), ("state", &*state), ("uuid", uuid)];
    page.gauge("node_bcachefs_device_info", "Device information.", &info, 1.0);
    for (file, name, help) in [
        ("bucket_size", "node_bcachefs_device_bucket_size_bytes", "Bucket size in bytes."),
        ("nbuckets", "node_bcachefs_device_buckets", "Total number of buckets."),
        ("durability", "node_bcachefs_device_durability", "Device durability setting."),
    ] {
        if let Some(value) = human_bytes(&text(file)) {
            page.gauge(name, help, &labels, value);
        }
    }
    let done =
        page.family("node_bcachefs_device_io_done_bytes_total", "IO bytes by operation type and data type.", Counter);
    let mut operation = String::new();
    for line in text("io_done").lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        match value.trim() {
            "" => key.trim().clone_into(&mut operation),
            value => {
                if let Some(bytes) = human_bytes(value) {
                    let labels = [("data_type", key.trim()), labels[0], ("operation", &*operation), labels[1]];
                    page.sample(done, &labels, bytes);
                }
            }
        }
    }
    let failed = page.family("node_bcachefs_device_io_errors_total", "IO errors by error type.", Counter);
    for line in text("io_errors").lines() {
        // counts since the file system was made come before those since a reset
        if line.starts_with("IO errors since") && !line.contains("creation") {
            break;
        }
        let Some((kind, count)) = line.split_once(':') else { continue };
        if let Ok(count) = count.trim().parse() {
            page.sample(failed, &[labels[0], ("type", kind.trim()), labels[1]], count);
        }
    }
}

/// `28.2k` in bytes, with powers of 1024; fractions are cut off.
fn human_bytes(text: &str) -> Option<f64> {
    let text = text.trim();
    let exponent = text.chars().last().and_then(|unit| "kMGTPE".find(unit));
    match exponent {
        None => text.parse().ok(),
        Some(at) => {
            let number: f64 = text[..text.len() - 1].parse().ok()?;
            Some((number * 1024f64.powi(at as i32 + 1)).trunc())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_with_units() {
        for (text, bytes) in [
            ("720", 720.0),
            ("28.2k", 28_876.0),
            ("1.26k", 1290.0),
            ("2M", 2_097_152.0),
            ("10.8T", 11_874_725_579_980.0),
        ] {
            assert_eq!(human_bytes(text), Some(bytes), "{text}");
        }
        assert_eq!((human_bytes("x"), human_bytes("k"), human_bytes("")), (None, None, None));
    }
}
