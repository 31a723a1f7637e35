use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed};

of_paths!(Cgroups, "cgroups", false);

impl Collector for Cgroups {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("cgroups");
        let text = self.0.optional(&path)?;
        let help = "Current cgroup number of the subsystem.";
        let count = page.family("node_cgroups_cgroups", help, MetricType::Gauge);
        let enabled = page.family("node_cgroups_enabled", help, MetricType::Gauge);
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [name, _, groups, on] = fields[..] else {
                return Err(malformed(&path, &format!("unexpected line {line:?}")));
            };
            let number = |text: &str| text.parse().map_err(|_| malformed(&path, &format!("no number: {text:?}")));
            page.sample(count, &[("subsys_name", name)], number(groups)?);
            page.sample(enabled, &[("subsys_name", name)], number(on)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn subsystems() {
        check_built(
            "cgroups",
            &[],
            &[("proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t172\t1\n")],
            &["node_cgroups_cgroups{subsys_name=\"cpu\"} 172", "node_cgroups_enabled{subsys_name=\"cpu\"} 1"],
        );
    }
}
