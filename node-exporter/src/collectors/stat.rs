use std::sync::Arc;

use common::metrics::Page;
use model::MetricType::{self, Counter, Gauge};

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, malformed};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "stat",
    default: true,
    flags: &[Flag::switch("collector.stat.softirq", false, "Export softirq calls per vector")],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Stat { paths: settings.paths.clone(), softirq: settings.on("collector.stat.softirq") }))
}

struct Stat {
    paths: Arc<Paths>,
    softirq: bool,
}

const LINES: [(&str, &str, MetricType, &str); 6] = [
    ("intr", "node_intr_total", Counter, "Total number of interrupts serviced."),
    ("ctxt", "node_context_switches_total", Counter, "Total number of context switches."),
    ("processes", "node_forks_total", Counter, "Total number of forks."),
    ("btime", "node_boot_time_seconds", Gauge, "Node boot time, in unixtime."),
    ("procs_running", "node_procs_running", Gauge, "Number of processes in runnable state."),
    ("procs_blocked", "node_procs_blocked", Gauge, "Number of processes blocked waiting for I/O to complete."),
];

const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

impl Collector for Stat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.paths.proc("stat");
        let text = self.paths.required(&path)?;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let key = fields.next().unwrap_or("");
            if let Some((_, name, kind, help)) = LINES.iter().find(|l| l.0 == key) {
                let value = fields.next().and_then(|f| f.parse().ok());
                let family = page.family(name, help, *kind);
                page.sample(family, &[], value.ok_or_else(|| malformed(&path, &format!("no number in {key}")))?);
            } else if key == "softirq" && self.softirq {
                let family = page.family("node_softirqs_total", "Number of softirq calls.", Counter);
                for (vector, value) in VECTORS.iter().zip(fields.skip(1)) {
                    let value = value.parse().map_err(|_| malformed(&path, "no number in softirq"))?;
                    page.sample(family, &[("vector", vector)], value);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn totals_and_vectors() {
        check_built(
            "stat",
            &["--collector.stat.softirq"],
            &[(
                "proc/stat",
                "intr 8 1\nctxt 2\nbtime 3\nprocesses 4\nprocs_running 5\nprocs_blocked 6\nsoftirq 55 1 2 3 4 5 6 7 8 9 10\n",
            )],
            &[
                "node_boot_time_seconds 3",
                "node_context_switches_total 2",
                "node_forks_total 4",
                "node_intr_total 8",
                "node_procs_blocked 6",
                "node_procs_running 5",
                "node_softirqs_total{vector=\"block\"} 5",
                "node_softirqs_total{vector=\"block_iopoll\"} 6",
                "node_softirqs_total{vector=\"hi\"} 1",
                "node_softirqs_total{vector=\"hrtimer\"} 9",
                "node_softirqs_total{vector=\"net_rx\"} 4",
                "node_softirqs_total{vector=\"net_tx\"} 3",
                "node_softirqs_total{vector=\"rcu\"} 10",
                "node_softirqs_total{vector=\"sched\"} 8",
                "node_softirqs_total{vector=\"tasklet\"} 7",
                "node_softirqs_total{vector=\"timer\"} 2",
            ],
        );
    }
}
