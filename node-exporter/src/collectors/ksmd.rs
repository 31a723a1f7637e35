use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, malformed};

of_paths!(Ksmd, "ksmd", false);

const FILES: [(&str, &str, MetricType, &str); 9] = [
    ("full_scans", "node_ksmd_full_scans_total", Counter, "How many times all mergeable areas have been scanned."),
    (
        "merge_across_nodes",
        "node_ksmd_merge_across_nodes",
        Gauge,
        "Specifies if pages from different NUMA nodes can be merged.",
    ),
    ("pages_shared", "node_ksmd_pages_shared", Gauge, "How many shared pages are being used."),
    ("pages_sharing", "node_ksmd_pages_sharing", Gauge, "How many more sites are sharing them i.e. how much saved."),
    ("pages_to_scan", "node_ksmd_pages_to_scan", Gauge, "How many pages to scan before ksmd goes to sleep."),
    ("pages_unshared", "node_ksmd_pages_unshared", Gauge, "How many pages unique but repeatedly checked for merging."),
    ("pages_volatile", "node_ksmd_pages_volatile", Gauge, "How many pages changing too fast to be placed in a tree."),
    ("run", "node_ksmd_run", Gauge, "The status of ksmd. stopped = 0, running = 1"),
    ("sleep_millisecs", "node_ksmd_sleep_seconds", Gauge, "How many seconds ksmd should sleep before next scan."),
];

impl Collector for Ksmd {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        for (file, name, kind, help) in FILES {
            let path = self.0.sys("kernel/mm/ksm").join(file);
            let text = attribute(&path).map_err(|e| absent(&path, &e))?;
            let value: f64 = text.parse().map_err(|_| malformed(&path, "no number"))?;
            let family = page.family(name, help, kind);
            page.sample(family, &[], if file == "sleep_millisecs" { value / 1000.0 } else { value });
        }
        Ok(())
    }
}
