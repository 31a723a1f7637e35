use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, names, number};
use crate::options::{Flag, Pattern, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "tapestats",
    default: true,
    flags: &[Flag::value("collector.tapestats.ignored-devices", "^$", "Regexp of devices to ignore for tapestats.")],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let ignored = settings.pattern("collector.tapestats.ignored-devices")?;
    Ok(Box::new(Tapestats { paths: settings.paths.clone(), ignored }))
}

struct Tapestats {
    paths: Arc<Paths>,
    ignored: Option<Pattern>,
}

/// File, metric, type, divisor and help.
const FILES: [(&str, &str, MetricType, f64, &str); 10] = [
    ("in_flight", "node_tape_io_now", Gauge, 1.0, "The number of I/Os currently outstanding to this device."),
    (
        "io_ns",
        "node_tape_io_time_seconds_total",
        Counter,
        1e9,
        "The amount of time spent waiting for all I/O to complete (including read and write). This includes tape movement commands such as seeking between file or set marks and implicit tape movement such as when rewind on close tape devices are used.",
    ),
    (
        "other_cnt",
        "node_tape_io_others_total",
        Counter,
        1.0,
        "The number of I/Os issued to the tape drive other than read or write commands. The time taken to complete these commands uses the following calculation io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
    ),
    ("read_byte_cnt", "node_tape_read_bytes_total", Counter, 1.0, "The number of bytes read from the tape drive."),
    (
        "read_cnt",
        "node_tape_reads_completed_total",
        Counter,
        1.0,
        "The number of read requests issued to the tape drive.",
    ),
    (
        "read_ns",
        "node_tape_read_time_seconds_total",
        Counter,
        1e9,
        "The amount of time spent waiting for read requests to complete.",
    ),
    (
        "resid_cnt",
        "node_tape_residual_total",
        Counter,
        1.0,
        "The number of times during a read or write we found the residual amount to be non-zero. This should mean that a program is issuing a read larger thean the block size on tape. For write not all data made it to tape.",
    ),
    ("write_byte_cnt", "node_tape_written_bytes_total", Counter, 1.0, "The number of bytes written to the tape drive."),
    (
        "write_cnt",
        "node_tape_writes_completed_total",
        Counter,
        1.0,
        "The number of write requests issued to the tape drive.",
    ),
    (
        "write_ns",
        "node_tape_write_time_seconds_total",
        Counter,
        1e9,
        "The amount of time spent waiting for write requests to complete.",
    ),
];

impl Collector for Tapestats {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("class/scsi_tape");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let families = FILES.map(|(_, name, kind, _, help)| page.family(name, help, kind));
        for device in devices {
            // `st0` is the drive; `nst0`, `st0a` and so on are other ways to open it
            let drive =
                device.strip_prefix("st").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if !drive || self.ignored.as_ref().is_some_and(|i| i.is_match(&device)) {
                continue;
            }
            let path = folder.join(&device).join("stats");
            for (family, (file, _, _, divisor, _)) in families.iter().zip(FILES) {
                if let Some(value) = number::<f64>(&path.join(file)) {
                    page.sample(*family, &[("device", &device)], value / divisor);
                }
            }
        }
        Ok(())
    }
}
