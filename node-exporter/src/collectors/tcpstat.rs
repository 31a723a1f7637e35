use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Tcpstat, "tcpstat", false);

/// The kernel's states, from 1.
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

impl Collector for Tcpstat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("net/tcp");
        let four = self.0.required(&path)?;
        // without IPv6 there is no such file
        let six = self.0.read(&self.0.proc("net/tcp6")).unwrap_or_default();
        let mut counts = [0u64; STATES.len()];
        let (mut sent, mut received) = (0u64, 0u64);
        for line in four.lines().skip(1).chain(six.lines().skip(1)) {
            let unexpected = || malformed(&path, &format!("unexpected line {line:?}"));
            let mut fields = line.split_ascii_whitespace().skip(3);
            let state = fields.next().and_then(|s| usize::from_str_radix(s, 16).ok()).ok_or_else(unexpected)?;
            let (tx, rx) = fields.next().and_then(|q| q.split_once(':')).ok_or_else(unexpected)?;
            if let Some(count) = state.checked_sub(1).and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
            sent += u64::from_str_radix(tx, 16).map_err(|_| unexpected())?;
            received += u64::from_str_radix(rx, 16).map_err(|_| unexpected())?;
        }
        let family = page.family("node_tcp_connection_states", "Number of connection states.", MetricType::Gauge);
        for (state, count) in STATES.iter().zip(counts).filter(|(_, count)| *count > 0) {
            page.sample(family, &[("state", state)], count as f64);
        }
        page.sample(family, &[("state", "rx_queued_bytes")], received as f64);
        page.sample(family, &[("state", "tx_queued_bytes")], sent as f64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn states_and_queues() {
        check_built(
            "tcpstat",
            &[],
            &[(
                "proc/net/tcp",
                "header\n 0: 0:16 0:0 0A 00000015:00000001 0\n 1: 0:16 0:0 01 00000001:00000000 0\n 2: 0:16 0:0 01 00000000:00000000 0\n",
            )],
            &[
                "node_tcp_connection_states{state=\"established\"} 2",
                "node_tcp_connection_states{state=\"listen\"} 1",
                "node_tcp_connection_states{state=\"rx_queued_bytes\"} 1",
                "node_tcp_connection_states{state=\"tx_queued_bytes\"} 22",
            ],
        );
    }
}
