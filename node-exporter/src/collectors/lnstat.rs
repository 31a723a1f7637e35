use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, malformed, names};

of_paths!(Lnstat, "lnstat", false);

impl Collector for Lnstat {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.proc("net/stat");
        for subsystem in names(&folder).map_err(|e| absent(&folder, &e))? {
            let path = folder.join(&subsystem);
            let text = self.0.required(&path)?;
            let mut lines = text.lines();
            let header = lines.next().unwrap_or("");
            let families: Vec<_> = header
                .split_ascii_whitespace()
                .map(|name| {
                    let metric = format!("node_lnstat_{}_total", name.replace(':', "_"));
                    page.family(&metric, "linux network cache stats", MetricType::Counter)
                })
                .collect();
            for (cpu, line) in lines.enumerate() {
                for (family, field) in families.iter().zip(line.split_ascii_whitespace()) {
                    let value = u64::from_str_radix(field, 16)
                        .map_err(|_| malformed(&path, &format!("no number: {field:?}")))?;
                    let mut buffer = itoa::Buffer::new();
                    let labels = [("cpu", buffer.format(cpu)), ("subsystem", subsystem.as_str())];
                    page.sample(*family, &labels, value as f64);
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
    fn hexadecimal_columns() {
        check_built(
            "lnstat",
            &[],
            &[("proc/net/stat/arp_cache", "entries allocs\n14 a\n")],
            &[
                "node_lnstat_allocs_total{cpu=\"0\",subsystem=\"arp_cache\"} 10",
                "node_lnstat_entries_total{cpu=\"0\",subsystem=\"arp_cache\"} 20",
            ],
        );
    }
}
