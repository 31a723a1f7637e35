use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Buddyinfo, "buddyinfo", false);

impl Collector for Buddyinfo {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("buddyinfo");
        let text = self.0.required(&path)?;
        let family = page.family("node_buddyinfo_blocks", "Count of free blocks according to size.", MetricType::Gauge);
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some("Node"), Some(node), Some("zone"), Some(zone)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(malformed(&path, &format!("unexpected line {line:?}")));
            };
            for (size, value) in fields.enumerate() {
                let value = value.parse().map_err(|_| malformed(&path, &format!("no number: {value:?}")))?;
                let mut buffer = itoa::Buffer::new();
                let labels = [("node", node.trim_end_matches(',')), ("size", buffer.format(size)), ("zone", zone)];
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
    fn sizes() {
        check_built(
            "buddyinfo",
            &[],
            &[("proc/buddyinfo", "Node 0, zone   DMA   1  2\n")],
            &[
                "node_buddyinfo_blocks{node=\"0\",size=\"0\",zone=\"DMA\"} 1",
                "node_buddyinfo_blocks{node=\"0\",size=\"1\",zone=\"DMA\"} 2",
            ],
        );
    }
}
