use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Softnet, "softnet", true);

/// Column, metric, type and help. Newer kernels have more columns than older ones.
const COLUMNS: [(usize, &str, MetricType, &str); 7] = [
    (0, "node_softnet_processed_total", MetricType::Counter, "Number of processed packets"),
    (1, "node_softnet_dropped_total", MetricType::Counter, "Number of dropped packets"),
    (
        2,
        "node_softnet_times_squeezed_total",
        MetricType::Counter,
        "Number of times processing packets ran out of quota",
    ),
    (
        8,
        "node_softnet_cpu_collision_total",
        MetricType::Counter,
        "Number of collision occur while obtaining device lock while transmitting",
    ),
    (9, "node_softnet_received_rps_total", MetricType::Counter, "Number of times cpu woken up received_rps"),
    (10, "node_softnet_flow_limit_count_total", MetricType::Counter, "Number of times flow limit has been reached"),
    (11, "node_softnet_backlog_len", MetricType::Gauge, "Softnet backlog status"),
];
/// Where the line's CPU stands; without it the lines are counted.
const CPU: usize = 12;

impl Collector for Softnet {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("net/softnet_stat");
        let text = self.0.required(&path)?;
        let families = COLUMNS.map(|(_, name, kind, help)| page.family(name, help, kind));
        for (row, line) in text.lines().enumerate() {
            let mut values = [0u32; 16];
            let mut len = 0;
            for (value, field) in values.iter_mut().zip(line.split_ascii_whitespace()) {
                *value =
                    u32::from_str_radix(field, 16).map_err(|_| malformed(&path, &format!("no number: {field:?}")))?;
                len += 1;
            }
            if len < 9 {
                return Err(malformed(&path, &format!("{len} columns, at least 9 are expected")));
            }
            let cpu = if len > CPU { values[CPU] as usize } else { row };
            for (family, (column, ..)) in families.iter().zip(COLUMNS) {
                page.sample(*family, &[("cpu", itoa::Buffer::new().format(cpu))], f64::from(values[column]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn rows() {
        check_built(
            "softnet",
            &[],
            &[(
                "proc/net/softnet_stat",
                "0000000a 00000001 00000002 0 0 0 0 0 00000003 00000004 00000005 00000006 00000007\n",
            )],
            &[
                "node_softnet_backlog_len{cpu=\"7\"} 6",
                "node_softnet_cpu_collision_total{cpu=\"7\"} 3",
                "node_softnet_dropped_total{cpu=\"7\"} 1",
                "node_softnet_flow_limit_count_total{cpu=\"7\"} 5",
                "node_softnet_processed_total{cpu=\"7\"} 10",
                "node_softnet_received_rps_total{cpu=\"7\"} 4",
                "node_softnet_times_squeezed_total{cpu=\"7\"} 2",
            ],
        );
    }
}
