use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, names};

of_paths!(Fibrechannel, "fibrechannel", true);

/// File of a host, and label.
const LABELS: [(&str, &str); 10] = [
    ("dev_loss_tmo", "dev_loss_tmo"),
    ("fabric_name", "fabric_name"),
    ("port_id", "port_id"),
    ("port_name", "port_name"),
    ("port_state", "port_state"),
    ("port_type", "port_type"),
    ("speed", "speed"),
    ("supported_classes", "supported_classes"),
    ("supported_speeds", "supported_speeds"),
    ("symbolic_name", "symbolic_name"),
];

/// File of the statistics, metric and help.
const STATISTICS: [(&str, &str, &str); 14] = [
    ("dumped_frames", "node_fibrechannel_dumped_frames_total", "Number of dumped frames"),
    ("error_frames", "node_fibrechannel_error_frames_total", "Number of errors in frames"),
    ("fcp_packet_aborts", "node_fibrechannel_fcp_packet_aborts_total", "Number of aborted packets"),
    ("invalid_crc_count", "node_fibrechannel_invalid_crc_total", "Invalid Cyclic Redundancy Check count"),
    (
        "invalid_tx_word_count",
        "node_fibrechannel_invalid_tx_words_total",
        "Number of invalid words transmitted by host port",
    ),
    ("link_failure_count", "node_fibrechannel_link_failure_total", "Number of times the host port link has failed"),
    ("loss_of_signal_count", "node_fibrechannel_loss_of_signal_total", "Number of times signal has been lost"),
    (
        "loss_of_sync_count",
        "node_fibrechannel_loss_of_sync_total",
        "Number of failures on either bit or transmission word boundaries",
    ),
    ("nos_count", "node_fibrechannel_nos_total", "Number Not_Operational Primitive Sequence received by host port"),
    ("rx_frames", "node_fibrechannel_rx_frames_total", "Number of frames received"),
    ("rx_words", "node_fibrechannel_rx_words_total", "Number of words received by host port"),
    (
        "seconds_since_last_reset",
        "node_fibrechannel_seconds_since_last_reset_total",
        "Number of seconds since last host port reset",
    ),
    ("tx_frames", "node_fibrechannel_tx_frames_total", "Number of frames transmitted by host port"),
    ("tx_words", "node_fibrechannel_tx_words_total", "Number of words transmitted by host port"),
];

impl Collector for Fibrechannel {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("class/fc_host");
        let hosts = names(&folder).map_err(|e| absent(&folder, &e))?;
        let help = "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.";
        let info = page.family("node_fibrechannel_info", help, MetricType::Gauge);
        let families = STATISTICS.map(|(_, name, help)| page.family(name, help, MetricType::Counter));
        for host in hosts {
            let path = folder.join(&host);
            let values = LABELS.map(|(file, _)| attribute(&path.join(file)).unwrap_or_default());
            let mut labels = vec![("fc_host", host.as_str())];
            for ((_, label), value) in LABELS.iter().zip(&values) {
                // numbers are shown without their prefix
                labels.push((label, if *label == "speed" { value } else { value.strip_prefix("0x").unwrap_or(value) }));
            }
            page.sample(info, &labels, 1.0);
            for (family, (file, ..)) in families.iter().zip(STATISTICS) {
                let Ok(text) = attribute(&path.join("statistics").join(file)) else { continue };
                // -1 in hexadecimal means that the driver does not count it
                let value = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
                if let Some(Ok(value)) = value
                    && value != u64::MAX
                {
                    page.sample(*family, &[("fc_host", &host)], value as f64);
                }
            }
        }
        Ok(())
    }
}
