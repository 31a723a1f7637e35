use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Softirqs, "softirqs", false);

impl Collector for Softirqs {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("softirqs");
        let text = self.0.required(&path)?;
        let mut lines = text.lines();
        let cpus: Vec<&str> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
        let family = page.family("node_softirqs_functions_total", "Softirq counts per CPU.", MetricType::Counter);
        for line in lines {
            let Some((kind, fields)) = line.split_once(':') else { return Err(malformed(&path, "no type in a line")) };
            for (cpu, field) in cpus.iter().zip(fields.split_ascii_whitespace()) {
                let value = field.parse().map_err(|_| malformed(&path, &format!("no number: {field:?}")))?;
                let labels = [("cpu", cpu.trim_start_matches("CPU")), ("type", kind.trim())];
                page.sample(family, &labels, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn per_cpu() {
        check_built(
            "softirqs",
            &[],
            &[("proc/softirqs", "      CPU0 CPU1\n  HI:  7  1\n")],
            &[
                "node_softirqs_functions_total{cpu=\"0\",type=\"HI\"} 7",
                "node_softirqs_functions_total{cpu=\"1\",type=\"HI\"} 1",
            ],
        );
    }
}
