use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, names};

of_paths!(CpuVulnerabilities, "cpu_vulnerabilities", false);

impl Collector for CpuVulnerabilities {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("devices/system/cpu/vulnerabilities");
        let files = names(&folder).map_err(|e| absent(&folder, &e))?;
        let help = "Details of each CPU vulnerability reported by sysfs. The value of the series is an int encoded state of the \
                    vulnerability. The same state is stored as a string in the label";
        let family = page.family("node_cpu_vulnerabilities_info", help, MetricType::Gauge);
        for name in files {
            let Ok(text) = attribute(&folder.join(&name)) else { continue };
            let (state, mitigation) = if text.starts_with("Not affected") {
                ("not affected", "")
            } else if let Some(rest) = text.strip_prefix("Mitigation") {
                ("mitigation", rest.trim_start_matches(':').trim())
            } else if let Some(rest) = text.strip_prefix("Vulnerable") {
                ("vulnerable", rest.trim_start_matches(':').trim())
            } else {
                ("unknown", "")
            };
            page.sample(family, &[("codename", &name), ("mitigation", mitigation), ("state", state)], 1.0);
        }
        Ok(())
    }
}
