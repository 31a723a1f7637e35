use std::sync::Arc;

use crate::collector::{Collector, CollectorError};
use crate::files::Paths;
use common::metrics::Page;

of_paths!(Conntrack, "conntrack", true);

/// Column of the statistics, metric and help.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("found", "node_nf_conntrack_stat_found", "Number of searched entries which were successful."),
    ("invalid", "node_nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked."),
    (
        "ignore",
        "node_nf_conntrack_stat_ignore",
        "Number of packets seen which are already connected to a conntrack entry.",
    ),
    ("insert", "node_nf_conntrack_stat_insert", "Number of entries inserted into the list."),
    (
        "insert_failed",
        "node_nf_conntrack_stat_insert_failed",
        "Number of entries for which list insertion was attempted but failed.",
    ),
    ("drop", "node_nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure."),
    (
        "early_drop",
        "node_nf_conntrack_stat_early_drop",
        "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
    ),
    (
        "search_restart",
        "node_nf_conntrack_stat_search_restart",
        "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
    ),
];

impl Collector for Conntrack {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.proc("sys/net/netfilter");
        let count = self.0.number(&folder.join("nf_conntrack_count")).ok_or(CollectorError::NoData)?;
        let help = "Number of currently allocated flow entries for connection tracking.";
        page.gauge("node_nf_conntrack_entries", help, &[], count);
        let limit = self.0.number(&folder.join("nf_conntrack_max")).ok_or(CollectorError::NoData)?;
        page.gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.", &[], limit);

        // a line of hexadecimal numbers for each CPU
        let text = self.0.optional(&self.0.proc("net/stat/nf_conntrack"))?;
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
        let mut sums = vec![0u64; names.len()];
        for line in lines {
            for (sum, field) in sums.iter_mut().zip(line.split_ascii_whitespace()) {
                *sum += u64::from_str_radix(field, 16).unwrap_or(0);
            }
        }
        for (column, metric, help) in COLUMNS {
            let sum = names.iter().position(|n| *n == column).map_or(0, |at| sums[at]);
            page.gauge(metric, help, &[], sum as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn counters_of_all_cpus_are_added() {
        check_built(
            "conntrack",
            &[],
            &[
                ("proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
                ("proc/sys/net/netfilter/nf_conntrack_max", "99\n"),
                ("proc/net/stat/nf_conntrack", "entries found drop\n1 a 1\n1 b 2\n"),
            ],
            &[
                "node_nf_conntrack_entries 12",
                "node_nf_conntrack_entries_limit 99",
                "node_nf_conntrack_stat_drop 3",
                "node_nf_conntrack_stat_early_drop 0",
                "node_nf_conntrack_stat_found 21",
                "node_nf_conntrack_stat_ignore 0",
                "node_nf_conntrack_stat_insert 0",
                "node_nf_conntrack_stat_insert_failed 0",
                "node_nf_conntrack_stat_invalid 0",
                "node_nf_conntrack_stat_search_restart 0",
            ],
        );
    }
}
