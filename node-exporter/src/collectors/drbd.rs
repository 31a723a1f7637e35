use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError};
use crate::files::Paths;

of_paths!(Drbd, "drbd", false);

/// Key, metric, type, factor and help.
const NUMBERS: [(&str, &str, MetricType, f64, &str); 12] = [
    ("ns", "node_drbd_network_sent_bytes_total", Counter, 1024.0, "Total number of bytes sent via the network."),
    ("nr", "node_drbd_network_received_bytes_total", Counter, 1.0, "Total number of bytes received via the network."),
    ("dw", "node_drbd_disk_written_bytes_total", Counter, 1024.0, "Net data written on local hard disk; in bytes."),
    ("dr", "node_drbd_disk_read_bytes_total", Counter, 1024.0, "Net data read from local hard disk; in bytes."),
    (
        "al",
        "node_drbd_activitylog_writes_total",
        Counter,
        1.0,
        "Number of updates of the activity log area of the meta data.",
    ),
    ("bm", "node_drbd_bitmap_writes_total", Counter, 1.0, "Number of updates of the bitmap area of the meta data."),
    ("lo", "node_drbd_local_pending", Gauge, 1.0, "Number of open requests to the local I/O sub-system."),
    (
        "pe",
        "node_drbd_remote_pending",
        Gauge,
        1.0,
        "Number of requests sent to the peer, but that have not yet been answered by the latter.",
    ),
    (
        "ua",
        "node_drbd_remote_unacknowledged",
        Gauge,
        1.0,
        "Number of requests received by the peer via the network connection, but that have not yet been answered.",
    ),
    (
        "ap",
        "node_drbd_application_pending",
        Gauge,
        1.0,
        "Number of block I/O requests forwarded to DRBD, but not yet answered by DRBD.",
    ),
    ("ep", "node_drbd_epochs", Gauge, 1.0, "Number of Epochs currently on the fly."),
    ("oos", "node_drbd_out_of_sync_bytes", Gauge, 1024.0, "Amount of data known to be out of sync; in bytes."),
];

/// Key, metric, the word that means yes, and help.
const PAIRS: [(&str, &str, &str, &str); 2] = [
    ("ro", "node_drbd_node_role_is_primary", "Primary", "Whether the role of the node is in the primary state."),
    ("ds", "node_drbd_disk_state_is_up_to_date", "UpToDate", "Whether the disk of the node is up to date."),
];

impl Collector for Drbd {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let text = self.0.optional(&self.0.proc("drbd"))?;
        let mut device = "unknown".to_owned();
        for field in text.split_ascii_whitespace() {
            let Some((key, value)) = field.split_once(':') else { continue };
            if value.is_empty() && key.parse::<u64>().is_ok() {
                device = format!("drbd{key}");
                continue;
            }
            let labels = [("device", device.as_str())];
            if let Some((_, name, kind, factor, help)) = NUMBERS.iter().find(|n| n.0 == key) {
                let Ok(value) = value.parse::<f64>() else { continue };
                let family = page.family(name, help, *kind);
                page.sample(family, &labels, value * factor);
            } else if let Some((_, name, yes, help)) = PAIRS.iter().find(|p| p.0 == key) {
                let Some((local, remote)) = value.split_once('/') else { continue };
                for (node, state) in [("local", local), ("remote", remote)] {
                    let family = page.family(name, help, Gauge);
                    page.sample(family, &[labels[0], ("node", node)], f64::from(u8::from(state == *yes)));
                }
            } else if key == "cs" {
                let help = "Whether DRBD is connected to the peer.";
                page.gauge("node_drbd_connected", help, &labels, f64::from(u8::from(value == "Connected")));
            }
        }
        Ok(())
    }
}
