use std::collections::BTreeSet;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Mountstats, "mountstats", false);

type Row = (&'static str, &'static str);

const BYTES: [Row; 8] = [
    ("read_bytes_total", "Number of bytes read using the read() syscall."),
    ("write_bytes_total", "Number of bytes written using the write() syscall."),
    ("direct_read_bytes_total", "Number of bytes read using the read() syscall in O_DIRECT mode."),
    ("direct_write_bytes_total", "Number of bytes written using the write() syscall in O_DIRECT mode."),
    ("total_read_bytes_total", "Number of bytes read from the NFS server, in total."),
    ("total_write_bytes_total", "Number of bytes written to the NFS server, in total."),
    ("read_pages_total", "Number of pages read directly via mmap()'d files."),
    ("write_pages_total", "Number of pages written directly via mmap()'d files."),
];

/// The 27 counters of events, some without a metric.
const EVENTS: [Row; 27] = [
    ("inode_revalidate", "Number of times cached inode attributes are re-validated from the server."),
    ("dnode_revalidate", "Number of times cached dentry nodes are re-validated from the server."),
    ("data_invalidate", "Number of times an inode cache is cleared."),
    ("attribute_invalidate", "Number of times cached inode attributes are invalidated."),
    ("vfs_open", "Number of times cached inode attributes are invalidated."),
    ("vfs_lookup", "Number of times a directory lookup has occurred."),
    ("vfs_access", "Number of times permissions have been checked."),
    ("vfs_update_page", "Number of updates (and potential writes) to pages."),
    ("vfs_read_page", "Number of pages read directly via mmap()'d files."),
    ("vfs_read_pages", "Number of times a group of pages have been read."),
    ("vfs_write_page", "Number of pages written directly via mmap()'d files."),
    ("vfs_write_pages", "Number of times a group of pages have been written."),
    ("vfs_getdents", "Number of times directory entries have been read with getdents()."),
    ("vfs_setattr", "Number of times directory entries have been read with getdents()."),
    ("vfs_flush", "Number of pending writes that have been forcefully flushed to the server."),
    ("vfs_fsync", "Number of times fsync() has been called on directories and files."),
    ("vfs_lock", "Number of times locking has been attempted on a file."),
    ("vfs_file_release", "Number of times files have been closed and released."),
    ("", ""),
    ("truncation", "Number of times files have been truncated."),
    ("write_extension", "Number of times a file has been grown due to writes beyond its existing end."),
    ("silly_rename", "Number of times a file was removed while still open by another process."),
    ("short_read", "Number of times the NFS server gave less data than expected while reading."),
    ("short_write", "Number of times the NFS server wrote less data than expected while writing."),
    ("jukebox_delay", "Number of times the NFS server indicated EJUKEBOX; retrieving data from offline storage."),
    ("pnfs_read", "Number of NFS v4.1+ pNFS reads."),
    ("pnfs_write", "Number of NFS v4.1+ pNFS writes."),
];

/// Columns of an operation: metric, help, and whether it is a time in milliseconds.
const OPERATIONS: [(&str, &str, bool); 8] = [
    ("requests_total", "Number of requests performed for a given operation.", false),
    ("transmissions_total", "Number of times an actual RPC request has been transmitted for a given operation.", false),
    ("major_timeouts_total", "Number of times a request has had a major timeout for a given operation.", false),
    ("sent_bytes_total", "Number of bytes sent for a given operation, including RPC headers and payload.", false),
    (
        "received_bytes_total",
        "Number of bytes received for a given operation, including RPC headers and payload.",
        false,
    ),
    (
        "queue_time_seconds_total",
        "Duration all requests spent queued for transmission for a given operation before they were sent, in seconds.",
        true,
    ),
    (
        "response_time_seconds_total",
        "Duration all requests took to get a reply back after a request for a given operation was transmitted, in seconds.",
        true,
    ),
    (
        "request_time_seconds_total",
        "Duration all requests took from when a request was enqueued to when it was completely handled for a given operation, in seconds.",
        true,
    ),
];

/// Metric, type, help, and the column for TCP and for UDP, which counts no connections. The first column is the port.
const TRANSPORT: [(&str, MetricType, &str, usize, Option<usize>); 10] = [
    (
        "bind_total",
        Counter,
        "Number of times the client has had to establish a connection from scratch to the NFS server.",
        1,
        Some(1),
    ),
    ("connect_total", Counter, "Number of times the client has made a TCP connection to the NFS server.", 2, None),
    ("idle_time_seconds", Gauge, "Duration since the NFS mount last saw any RPC traffic, in seconds.", 4, None),
    ("sends_total", Counter, "Number of RPC requests for this mount sent to the NFS server.", 5, Some(2)),
    ("receives_total", Counter, "Number of RPC responses for this mount received from the NFS server.", 6, Some(3)),
    (
        "bad_transaction_ids_total",
        Counter,
        "Number of times the NFS server sent a response with a transaction ID unknown to this client.",
        7,
        Some(4),
    ),
    ("backlog_queue_total", Counter, "Total number of items added to the RPC backlog queue.", 9, Some(6)),
    ("maximum_rpc_slots", Gauge, "Maximum number of simultaneously active RPC requests ever used.", 10, Some(7)),
    ("sending_queue_total", Counter, "Total number of items added to the RPC transmission sending queue.", 11, Some(8)),
    ("pending_queue_total", Counter, "Total number of items added to the RPC transmission pending queue.", 12, Some(9)),
];

/// Times of operations wrap: upstream shows them modulo what a double holds exactly.
const MANTISSA: u64 = 1 << 53;

#[derive(Default)]
struct Mount<'a> {
    export: &'a str,
    mountpoint: &'a str,
    address: String,
    age: f64,
    bytes: Vec<u64>,
    events: Vec<u64>,
    transports: Vec<(&'a str, Vec<u64>)>,
    operations: Vec<(&'a str, Vec<u64>)>,
}

impl Collector for Mountstats {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.own("mountstats");
        let text = self.0.required(&path)?;
        let mounts = parse(&text).map_err(|line| malformed(&path, &format!("unexpected line {line:?}")))?;
        let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
        for mount in &mounts {
            let protocol = mount.transports.first().map_or("", |(protocol, _)| protocol);
            let labels = [("export", mount.export), ("mountaddr", mount.address.as_str()), ("protocol", protocol)];
            // two mounts of one export share their counters
            if seen.insert((mount.export, protocol, mount.address.as_str())) {
                collect_mount(page, mount, &labels);
            }
            if named.insert((mount.export, protocol, mount.address.as_str(), mount.mountpoint)) {
                let all = [labels[0], labels[1], ("mountpoint", mount.mountpoint), labels[2]];
                page.gauge("node_mountstats_nfs_mountpoint_info", "Info metric for an NFS mountpoint.", &all, 1.0);
            }
        }
        Ok(())
    }
}

fn collect_mount(page: &mut Page, mount: &Mount<'_>, labels: &[(&str, &str); 3]) {
    let metric = |name: &str| format!("node_mountstats_nfs_{name}");
    page.counter(&metric("age_seconds_total"), "The age of the NFS mount in seconds.", labels, mount.age);
    for ((name, help), value) in BYTES.iter().zip(&mount.bytes) {
        page.counter(&metric(name), help, labels, *value as f64);
    }
    for ((name, help), value) in EVENTS.iter().zip(&mount.events).filter(|((name, _), _)| !name.is_empty()) {
        page.counter(&metric(&format!("event_{name}_total")), help, labels, *value as f64);
    }
    for (at, (protocol, values)) in mount.transports.iter().enumerate() {
        let mut buffer = itoa::Buffer::new();
        let labels = [labels[0], labels[1], ("protocol", *protocol), ("transport", buffer.format(at))];
        for (name, kind, help, tcp, udp) in TRANSPORT {
            let column = if *protocol == "udp" { udp } else { Some(tcp) };
            let value = column.and_then(|at| values.get(at)).copied().unwrap_or(0);
            let family = page.family(&metric(&format!("transport_{name}")), help, kind);
            page.sample(family, &labels, value as f64);
        }
    }
    for (operation, values) in &mount.operations {
        let labels = [labels[0], labels[1], ("operation", *operation), labels[2]];
        for ((name, help, time), value) in OPERATIONS.iter().zip(values) {
            let value = if *time { (value % MANTISSA) as f64 / 1000.0 } else { *value as f64 };
            page.counter(&metric(&format!("operations_{name}")), help, &labels, value);
        }
    }
}

/// Reads the NFS mounts; an error is the line that is not understood.
fn parse(text: &str) -> Result<Vec<Mount<'_>>, String> {
    let mut mounts = Vec::new();
    let mut current: Option<Mount<'_>> = None;
    let mut in_operations = false;
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if let ["device", export, "mounted", "on", mountpoint, "with", "fstype", kind, ..] = fields[..] {
            mounts.extend(current.take());
            in_operations = false;
            let address = export.split_once(":/").map_or("", |(host, _)| host).to_owned();
            current = matches!(kind, "nfs" | "nfs4").then(|| Mount { export, mountpoint, address, ..Mount::default() });
            continue;
        }
        let Some(mount) = &mut current else { continue };
        let numbers = |fields: &[&str]| {
            fields.iter().map(|f| f.parse::<u64>()).collect::<Result<Vec<_>, _>>().map_err(|_| line.to_owned())
        };
        match fields[..] {
            [] => {}
            ["opts:", options] => {
                if let Some(address) = options.split(',').find_map(|o| o.strip_prefix("mountaddr=")) {
                    address.clone_into(&mut mount.address);
                }
            }
            ["age:", seconds] => mount.age = seconds.parse().map_err(|_| line.to_owned())?,
            ["bytes:", ..] => mount.bytes = numbers(&fields[1..])?,
            ["events:", ..] => mount.events = numbers(&fields[1..])?,
            ["xprt:", protocol, ..] => mount.transports.push((protocol, numbers(&fields[2..])?)),
            ["per-op", "statistics"] => in_operations = true,
            [operation, ..] if in_operations && operation.ends_with(':') => {
                mount.operations.push((operation.trim_end_matches(':'), numbers(&fields[1..])?));
            }
            _ => {}
        }
    }
    mounts.extend(current);
    Ok(mounts)
}
