use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Zoneinfo, "zoneinfo", false);

/// Field, metric, type and help.
const FIELDS: [(&str, &str, MetricType, &str); 33] = [
    ("nr_inactive_anon", "node_zoneinfo_nr_inactive_anon_pages", Gauge, "Number of anonymous pages recently less used"),
    ("nr_active_anon", "node_zoneinfo_nr_active_anon_pages", Gauge, "Number of anonymous pages recently more used"),
    ("nr_inactive_file", "node_zoneinfo_nr_inactive_file_pages", Gauge, "Number of inactive pages with file-backing"),
    ("nr_active_file", "node_zoneinfo_nr_active_file_pages", Gauge, "Number of active pages with file-backing"),
    ("nr_unevictable", "node_zoneinfo_nr_unevictable_pages", Gauge, "Number of unevictable pages"),
    ("nr_slab_reclaimable", "node_zoneinfo_nr_slab_reclaimable_pages", Gauge, "Number of reclaimable slab pages"),
    ("nr_slab_unreclaimable", "node_zoneinfo_nr_slab_unreclaimable_pages", Gauge, "Number of unreclaimable slab pages"),
    ("nr_isolated_anon", "node_zoneinfo_nr_isolated_anon_pages", Gauge, "Temporary isolated pages from anon lru"),
    ("nr_isolated_file", "node_zoneinfo_nr_isolated_file_pages", Gauge, "Temporary isolated pages from file lru"),
    ("nr_anon_pages", "node_zoneinfo_nr_anon_pages", Gauge, "Number of anonymous pages currently used by the system"),
    ("nr_mapped", "node_zoneinfo_nr_mapped_pages", Gauge, "Number of mapped pages"),
    ("nr_file_pages", "node_zoneinfo_nr_file_pages", Gauge, "Number of file pages"),
    ("nr_dirty", "node_zoneinfo_nr_dirty_pages", Gauge, "Number of dirty pages"),
    ("nr_writeback", "node_zoneinfo_nr_writeback_pages", Gauge, "Number of writeback pages"),
    ("nr_shmem", "node_zoneinfo_nr_shmem_pages", Gauge, "Number of shmem pages (included tmpfs/GEM pages)"),
    (
        "nr_anon_transparent_hugepages",
        "node_zoneinfo_nr_anon_transparent_hugepages",
        Gauge,
        "Number of anonymous transparent huge pages currently used by the system",
    ),
    ("nr_dirtied", "node_zoneinfo_nr_dirtied_total", Counter, "Page dirtyings since bootup"),
    ("nr_written", "node_zoneinfo_nr_written_total", Counter, "Page writings since bootup"),
    ("nr_free_pages", "node_zoneinfo_nr_free_pages", Gauge, "Total number of free pages in the zone"),
    ("min", "node_zoneinfo_min_pages", Gauge, "Zone watermark pages_min"),
    ("low", "node_zoneinfo_low_pages", Gauge, "Zone watermark pages_low"),
    ("high", "node_zoneinfo_high_pages", Gauge, "Zone watermark pages_high"),
    ("scanned", "node_zoneinfo_scanned_pages", Gauge, "Pages scanned since last reclaim"),
    ("spanned", "node_zoneinfo_spanned_pages", Gauge, "Total pages spanned by the zone, including holes"),
    ("present", "node_zoneinfo_present_pages", Gauge, "Physical pages existing within the zone"),
    ("managed", "node_zoneinfo_managed_pages", Gauge, "Present pages managed by the buddy system"),
    ("nr_kernel_stack", "node_zoneinfo_nr_kernel_stacks", Gauge, "Number of kernel stacks"),
    ("numa_hit", "node_zoneinfo_numa_hit_total", Counter, "Allocated in intended node"),
    ("numa_miss", "node_zoneinfo_numa_miss_total", Counter, "Allocated in non intended node"),
    ("numa_foreign", "node_zoneinfo_numa_foreign_total", Counter, "Was intended here, hit elsewhere"),
    ("numa_interleave", "node_zoneinfo_numa_interleave_total", Counter, "Interleaver preferred this zone"),
    ("numa_local", "node_zoneinfo_numa_local_total", Counter, "Allocation from local node"),
    ("numa_other", "node_zoneinfo_numa_other_total", Counter, "Allocation from other node"),
];

impl Collector for Zoneinfo {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("zoneinfo");
        let text = self.0.required(&path)?;
        let families = FIELDS.map(|(_, name, kind, help)| page.family(name, help, kind));
        let (mut node, mut zone) = ("", "");
        let mut in_pagesets = false;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let Some(key) = fields.next() else { continue };
            if let Some(rest) = line.strip_prefix("Node ") {
                let header =
                    rest.split_once(", zone").ok_or_else(|| malformed(&path, &format!("no zone in {line:?}")))?;
                (node, zone) = (header.0.trim(), header.1.trim());
                in_pagesets = false;
                continue;
            }
            // what follows is counted for each CPU
            in_pagesets |= key == "pagesets";
            if in_pagesets {
                continue;
            }
            let labels = [("node", node), ("zone", zone)];
            if key == "protection:" {
                let list = line.split_once('(').map_or("", |(_, list)| list.trim_end_matches(')'));
                for (at, field) in list.split(',').enumerate() {
                    let value = field.trim().parse().map_err(|_| malformed(&path, &format!("no number: {field:?}")))?;
                    let name = format!("node_zoneinfo_protection_{at}");
                    page.gauge(&name, &format!("Protection array {at}. field"), &labels, value);
                }
                continue;
            }
            let Some(at) = FIELDS.iter().position(|f| f.0 == key) else { continue };
            // `pages free` has its number in the third column, and is given again as nr_free_pages
            let value = fields
                .next()
                .and_then(|f| f.parse().ok())
                .ok_or_else(|| malformed(&path, &format!("no number in {line:?}")))?;
            page.sample(families[at], &labels, value);
        }
        Ok(())
    }
}
