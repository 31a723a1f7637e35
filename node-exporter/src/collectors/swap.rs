use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed, required};

of_paths!(Swap, "swap", false);

impl Collector for Swap {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("swaps");
        let text = required(&path)?;
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
