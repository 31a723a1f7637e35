use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Swap, "swap", false);

impl Collector for Swap {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("swaps");
        let text = self.0.required(&path)?;
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Gauge);
        let size = family("node_swap_size_bytes", "Swap device size in bytes.");
        let used = family("node_swap_used_bytes", "Swap device used in bytes.");
        let priority = family("node_swap_priority", "Swap device priority.");
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [device, kind, total, in_use, order] = fields[..] else {
                return Err(malformed(&path, &format!("unexpected line {line:?}")));
            };
            let number =
                |text: &str| text.parse::<f64>().map_err(|_| malformed(&path, &format!("no number: {text:?}")));
            let labels = [("device", device), ("swap_type", kind)];
            page.sample(size, &labels, number(total)? * 1024.0);
            page.sample(used, &labels, number(in_use)? * 1024.0);
            page.sample(priority, &labels, number(order)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn devices() {
        check_built(
            "swap",
            &[],
            &[("proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 4 1 100\n")],
            &[
                "node_swap_priority{device=\"/dev/zram0\",swap_type=\"partition\"} 100",
                "node_swap_size_bytes{device=\"/dev/zram0\",swap_type=\"partition\"} 4096",
                "node_swap_used_bytes{device=\"/dev/zram0\",swap_type=\"partition\"} 1024",
            ],
        );
    }
}
