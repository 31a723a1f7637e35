use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(UdpQueues, "udp_queues", true);

impl Collector for UdpQueues {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let help = "Number of allocated memory in the kernel for UDP datagrams in bytes.";
        let family = page.family("node_udp_queues", help, MetricType::Gauge);
        let mut found = false;
        for (file, ip) in [("net/udp", "v4"), ("net/udp6", "v6")] {
            let path = self.0.proc(file);
            let Ok(text) = self.0.read(&path) else { continue };
            found = true;
            let (mut sent, mut received) = (0u64, 0u64);
            for line in text.lines().skip(1) {
                let queues = line.split_ascii_whitespace().nth(4).and_then(|q| q.split_once(':'));
                let (tx, rx) = queues.ok_or_else(|| malformed(&path, &format!("unexpected line {line:?}")))?;
                let number = |hex: &str| {
                    u64::from_str_radix(hex, 16).map_err(|_| malformed(&path, &format!("no number: {hex:?}")))
                };
                sent += number(tx)?;
                received += number(rx)?;
            }
            page.sample(family, &[("ip", ip), ("queue", "tx")], sent as f64);
            page.sample(family, &[("ip", ip), ("queue", "rx")], received as f64);
        }
        if found { Ok(()) } else { Err(CollectorError::NoData) }
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn queues_are_added() {
        check_built(
            "udp_queues",
            &[],
            &[("proc/net/udp", "header\n 0: 0:16 0:0 0A 00000015:00000001 0\n 1: 0:16 0:0 0A 00000001:00000000 0\n")],
            &["node_udp_queues{ip=\"v4\",queue=\"rx\"} 1", "node_udp_queues{ip=\"v4\",queue=\"tx\"} 22"],
        );
    }
}
