use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Nfs, "nfs", true);

/// The procedures of version 2, in the kernel's order.
pub(super) const PROCEDURES_2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove",
    "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];

/// The procedures of version 3, in the kernel's order.
pub(super) const PROCEDURES_3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

/// The operations of a version 4 client, in the kernel's order.
const OPERATIONS_4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

/// The numbers of the line that begins with `key`; none if there is no such line.
pub(super) fn line(text: &str, key: &str) -> Result<Vec<f64>, String> {
    let fields = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
    let numbers = fields.unwrap_or("").split_ascii_whitespace().map(str::parse::<f64>);
    numbers.collect::<Result<_, _>>().map_err(|_| format!("no number in line {key}"))
}

impl Collector for Nfs {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("net/rpc/nfs");
        let text = self.0.optional(&path)?;
        let line = |key: &str| line(&text, key).map_err(|e| malformed(&path, &e));
        let at = |values: &[f64], at: usize| values.get(at).copied().unwrap_or(0.0);
        let net = line("net")?;
        let help = "Total NFSd network packets (sent+received) by protocol type.";
        let packets = page.family("node_nfs_packets_total", help, MetricType::Counter);
        page.sample(packets, &[("protocol", "udp")], at(&net, 1));
        page.sample(packets, &[("protocol", "tcp")], at(&net, 2));
        page.counter("node_nfs_connections_total", "Total number of NFSd TCP connections.", &[], at(&net, 3));
        let rpc = line("rpc")?;
        page.counter("node_nfs_rpcs_total", "Total number of RPCs performed.", &[], at(&rpc, 0));
        page.counter("node_nfs_rpc_retransmissions_total", "Number of RPC transmissions performed.", &[], at(&rpc, 1));
        let help = "Number of RPC authentication refreshes performed.";
        page.counter("node_nfs_rpc_authentication_refreshes_total", help, &[], at(&rpc, 2));
        let requests = page.family("node_nfs_requests_total", "Number of NFS procedures invoked.", MetricType::Counter);
        for (key, proto, names) in
            [("proc2", "2", &PROCEDURES_2[..]), ("proc3", "3", &PROCEDURES_3), ("proc4", "4", &OPERATIONS_4)]
        {
            // the first number says how many follow; kernels differ in that, and what they do not count is 0
            let counts = line(key)?;
            for (index, method) in names.iter().enumerate() {
                page.sample(requests, &[("method", method), ("proto", proto)], at(&counts, index + 1));
            }
        }
        Ok(())
    }
}
