use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, names_or_none, number};

of_paths!(Cpufreq, "cpufreq", true);

/// File in kHz, metric and help. The first three are what the hardware says, the others what the governor does.
const FREQUENCIES: [(&str, &str, &str); 6] = [
    ("cpuinfo_cur_freq", "node_cpu_frequency_hertz", "Current CPU thread frequency in hertz."),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz."),
    ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz."),
    ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz."),
];

impl Collector for Cpufreq {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("devices/system/cpu");
        let families = FREQUENCIES.map(|(_, name, help)| page.family(name, help, MetricType::Gauge));
        let help = "Current enabled CPU frequency governor.";
        let governor = page.family("node_cpu_scaling_governor", help, MetricType::Gauge);
        for name in names_or_none(&folder) {
            let Some(cpu) = name.strip_prefix("cpu").filter(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit()))
            else {
                continue;
            };
            let settings = folder.join(&name).join("cpufreq");
            if !settings.is_dir() {
                continue;
            }
            for (family, (file, ..)) in families.iter().zip(FREQUENCIES) {
                if let Some(kilohertz) = number::<f64>(&settings.join(file)) {
                    page.sample(*family, &[("cpu", cpu)], kilohertz * 1000.0);
                }
            }
            let Ok(current) = attribute(&settings.join("scaling_governor")) else { continue };
            let available = attribute(&settings.join("scaling_available_governors")).unwrap_or_default();
            for name in available.split_ascii_whitespace() {
                page.sample(governor, &[("cpu", cpu), ("governor", name)], f64::from(u8::from(name == current)));
            }
        }
        Ok(())
    }
}
