use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use super::meminfo::metric_name;
use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed, names_or_none, read};

of_paths!(MeminfoNuma, "meminfo_numa", false);

const PREFIX: &str = "node_memory_numa_";

impl Collector for MeminfoNuma {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("devices/system/node");
        let (mut name, mut help) = (String::new(), String::new());
        for entry in names_or_none(&folder) {
            let Some(node) = entry.strip_prefix("node").filter(|n| n.parse::<u32>().is_ok()) else { continue };
            let labels = [("node", node)];
            let path = folder.join(&entry).join("meminfo");
            for line in read(&path).unwrap_or_default().lines() {
                // `Node 0 MemTotal:  134182340 kB`
                let Some((key, rest)) = line.split_once(':') else { continue };
                let key = key
                    .split_ascii_whitespace()
                    .nth(2)
                    .ok_or_else(|| malformed(&path, &format!("no field: {line:?}")))?;
                let mut fields = rest.split_ascii_whitespace();
                let value: f64 = fields
                    .next()
                    .and_then(|f| f.parse().ok())
                    .ok_or_else(|| malformed(&path, &format!("no number in {line:?}")))?;
                let kilobytes = fields.next() == Some("kB");
                metric_name(PREFIX, key, false, &mut name);
                help.clear();
                help.extend(["Memory information field ", &name[PREFIX.len()..], "."]);
                let family = page.family(&name, &help, MetricType::Gauge);
                page.sample(family, &labels, if kilobytes { value * 1024.0 } else { value });
            }
            let path = folder.join(&entry).join("numastat");
            for line in read(&path).unwrap_or_default().lines() {
                let Some((key, value)) = line.split_once(' ') else { continue };
                let value = value.trim().parse().map_err(|_| malformed(&path, &format!("no number in {line:?}")))?;
                let help = format!("Memory information field {key}_total.");
                page.counter(&format!("{PREFIX}{key}_total"), &help, &labels, value);
            }
        }
        Ok(())
    }
}
