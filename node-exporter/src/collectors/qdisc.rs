use std::path::PathBuf;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use super::rtnetlink::{self, Qdisc};
use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{failure, malformed, read};
use crate::options::{Filter, Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "qdisc",
    default: false,
    flags: &[
        Flag::value("collector.qdisc.fixtures", "", "test fixtures to use for qdisc collector end-to-end testing"),
        Flag::value(
            "collector.qdisc.device-include",
            "",
            "Regexp of qdisc devices to include (mutually exclusive to device-exclude).",
        ),
        Flag::value("collector.qdisk.device-include", "", "DEPRECATED: Use collector.qdisc.device-include").hidden(),
        Flag::value(
            "collector.qdisc.device-exclude",
            "",
            "Regexp of qdisc devices to exclude (mutually exclusive to device-include).",
        ),
        Flag::value("collector.qdisk.device-exclude", "", "DEPRECATED: Use collector.qdisc.device-exclude").hidden(),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let fixtures = settings.text("collector.qdisc.fixtures");
    let filter = settings.filter(
        ["collector.qdisc.device-include", "collector.qdisk.device-include"],
        ["collector.qdisc.device-exclude", "collector.qdisk.device-exclude"],
    )?;
    Ok(Box::new(QdiscCollector { fixtures: (!fixtures.is_empty()).then(|| fixtures.into()), filter }))
}

struct QdiscCollector {
    /// A folder with `results.json` to read instead of asking the kernel.
    fixtures: Option<PathBuf>,
    filter: Filter,
}

const METRICS: [(&str, MetricType, &str); 7] = [
    ("node_qdisc_bytes_total", Counter, "Number of bytes sent."),
    ("node_qdisc_packets_total", Counter, "Number of packets sent."),
    ("node_qdisc_drops_total", Counter, "Number of packets dropped."),
    ("node_qdisc_requeues_total", Counter, "Number of packets dequeued, not transmitted, and requeued."),
    ("node_qdisc_overlimits_total", Counter, "Number of overlimit packets."),
    ("node_qdisc_current_queue_length", Gauge, "Number of packets currently in queue to be sent."),
    ("node_qdisc_backlog", Gauge, "Number of bytes currently in queue to be sent."),
];

impl Collector for QdiscCollector {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let qdiscs = match &self.fixtures {
            Some(folder) => recorded(folder)?,
            None => rtnetlink::qdiscs().map_err(|e| CollectorError::failed(format!("couldn't get qdiscs: {e}")))?,
        };
        let families = METRICS.map(|(name, kind, help)| page.family(name, help, kind));
        for qdisc in qdiscs {
            // only the root queue of a device
            if qdisc.parent != 0 || self.filter.ignores(&qdisc.device) {
                continue;
            }
            let values = [
                qdisc.bytes,
                qdisc.packets,
                qdisc.drops,
                qdisc.requeues,
                qdisc.overlimits,
                qdisc.queue_length,
                qdisc.backlog,
            ];
            for (family, value) in families.iter().zip(values) {
                page.sample(*family, &[("device", &qdisc.device), ("kind", &qdisc.kind)], value as f64);
            }
        }
        Ok(())
    }
}

fn recorded(folder: &std::path::Path) -> Result<Vec<Qdisc>, CollectorError> {
    let path = folder.join("results.json");
    let text = read(&path).map_err(|e| failure(&path, &e))?;
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|e| malformed(&path, &e.to_string()))?;
    let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap_or("").to_owned();
    let number = |entry: &serde_json::Value, key: &str| entry[key].as_u64().unwrap_or(0);
    Ok(list
        .iter()
        .map(|e| Qdisc {
            device: text(e, "IfaceName"),
            kind: text(e, "Kind"),
            parent: 0,
            bytes: number(e, "Bytes"),
            packets: number(e, "Packets"),
            drops: number(e, "Drops"),
            requeues: number(e, "Requeues"),
            overlimits: number(e, "Overlimits"),
            queue_length: number(e, "Qlen"),
            backlog: number(e, "Backlog"),
        })
        .collect())
}
