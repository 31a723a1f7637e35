use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::Paths;

of_paths!(Schedstat, "schedstat", true);

impl Collector for Schedstat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let text = self.0.optional(&self.0.proc("schedstat"))?;
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Counter);
        let running = family("node_schedstat_running_seconds_total", "Number of seconds CPU spent running a process.");
        let help = "Number of seconds spent by processing waiting for this CPU.";
        let waiting = family("node_schedstat_waiting_seconds_total", help);
        let slices = family("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.");
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let Some(cpu) = fields.next().and_then(|f| f.strip_prefix("cpu")) else { continue };
            let numbers: Vec<f64> = fields.skip(6).filter_map(|f| f.parse().ok()).collect();
            let [run, wait, timeslices] = numbers[..] else { continue };
            let labels = [("cpu", cpu)];
            page.sample(running, &labels, run / 1e9);
            page.sample(waiting, &labels, wait / 1e9);
            page.sample(slices, &labels, timeslices);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn times() {
        check_built(
            "schedstat",
            &[],
            &[("proc/schedstat", "version 15\ncpu0 1 0 1 1 1 1 2000000000 500000000 7\ndomain0 1\n")],
            &[
                "node_schedstat_running_seconds_total{cpu=\"0\"} 2",
                "node_schedstat_timeslices_total{cpu=\"0\"} 7",
                "node_schedstat_waiting_seconds_total{cpu=\"0\"} 0.5",
            ],
        );
    }
}
