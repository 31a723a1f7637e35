use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use super::nfs::{PROCEDURES_2, PROCEDURES_3, line};
use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Nfsd, "nfsd", true);

/// The operations of a version 4 server by their numbers in the protocol.
const OPERATIONS_4: [(usize, &str); 35] = [
    (3, "Access"),
    (4, "Close"),
    (5, "Commit"),
    (6, "Create"),
    (7, "DelegPurge"),
    (8, "DelegReturn"),
    (9, "GetAttr"),
    (10, "GetFH"),
    (11, "Link"),
    (12, "Lock"),
    (13, "Lockt"),
    (14, "Locku"),
    (15, "Lookup"),
    (16, "LookupRoot"),
    (17, "Nverify"),
    (18, "Open"),
    (19, "OpenAttr"),
    (20, "OpenConfirm"),
    (21, "OpenDgrd"),
    (22, "PutFH"),
    (25, "Read"),
    (26, "ReadDir"),
    (27, "ReadLink"),
    (28, "Remove"),
    (29, "Rename"),
    (30, "Renew"),
    (31, "RestoreFH"),
    (32, "SaveFH"),
    (33, "SecInfo"),
    (34, "SetAttr"),
    (35, "SetClientID"),
    (36, "SetClientIDConfirm"),
    (37, "Verify"),
    (38, "Write"),
    (39, "RelLockOwner"),
];

/// Line, column, metric and help of the counters that stand alone.
const COUNTERS: [(&str, usize, &str, &str); 8] = [
    (
        "rc",
        0,
        "node_nfsd_reply_cache_hits_total",
        "Total number of NFSd Reply Cache hits (client lost server response).",
    ),
    (
        "rc",
        1,
        "node_nfsd_reply_cache_misses_total",
        "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
    ),
    (
        "rc",
        2,
        "node_nfsd_reply_cache_nocache_total",
        "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
    ),
    ("fh", 0, "node_nfsd_file_handles_stale_total", "Total number of NFSd stale file handles"),
    ("io", 0, "node_nfsd_disk_bytes_read_total", "Total NFSd bytes read."),
    ("io", 1, "node_nfsd_disk_bytes_written_total", "Total NFSd bytes written."),
    ("net", 3, "node_nfsd_connections_total", "Total number of NFSd TCP connections."),
    ("rpc", 0, "node_nfsd_server_rpcs_total", "Total number of NFSd RPCs."),
];

impl Collector for Nfsd {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("net/rpc/nfsd");
        let text = self.0.optional(&path)?;
        let line = |key: &str| line(&text, key).map_err(|e| malformed(&path, &e));
        let at = |values: &[f64], at: usize| values.get(at).copied().unwrap_or(0.0);
        for (key, column, name, help) in COUNTERS {
            page.counter(name, help, &[], at(&line(key)?, column));
        }
        let help = "Total number of NFSd kernel threads that are running.";
        page.gauge("node_nfsd_server_threads", help, &[], at(&line("th")?, 0));
        let cache = line("ra")?;
        let help = "How large the read ahead cache is in blocks.";
        page.gauge("node_nfsd_read_ahead_cache_size_blocks", help, &[], at(&cache, 0));
        let help = "Total number of NFSd read ahead cache not found.";
        page.counter("node_nfsd_read_ahead_cache_not_found_total", help, &[], at(&cache, 11));
        let net = line("net")?;
        let help = "Total NFSd network packets (sent+received) by protocol type.";
        let packets = page.family("node_nfsd_packets_total", help, MetricType::Counter);
        page.sample(packets, &[("proto", "udp")], at(&net, 1));
        page.sample(packets, &[("proto", "tcp")], at(&net, 2));
        let rpc = line("rpc")?;
        let help = "Total number of NFSd RPC errors by error type.";
        let errors = page.family("node_nfsd_rpc_errors_total", help, MetricType::Counter);
        for (column, error) in [(2, "fmt"), (3, "auth"), (4, "cInt")] {
            page.sample(errors, &[("error", error)], at(&rpc, column));
        }
        let help = "Total number NFSd Requests by method and protocol.";
        let requests = page.family("node_nfsd_requests_total", help, MetricType::Counter);
        for (key, proto, names) in [("proc2", "2", &PROCEDURES_2[..]), ("proc3", "3", &PROCEDURES_3)] {
            let counts = line(key)?;
            for (index, method) in names.iter().enumerate().skip(1) {
                page.sample(requests, &[("method", method), ("proto", proto)], at(&counts, index + 1));
            }
        }
        let counts = line("proc4ops")?;
        for (operation, method) in OPERATIONS_4 {
            page.sample(requests, &[("method", method), ("proto", "4")], at(&counts, operation + 1));
        }
        page.sample(requests, &[("method", "WdelegGetattr"), ("proto", "4")], at(&line("wdeleg_getattr")?, 0));
        Ok(())
    }
}
