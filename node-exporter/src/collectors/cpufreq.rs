use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, names_or_none};
use crate::kept::Folder;

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
        let mut buffer = [0; 4096];
        for name in names_or_none(&folder) {
            let Some(cpu) = name.strip_prefix("cpu").filter(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit()))
            else {
                continue;
            };
            let Ok(mut settings) = Folder::open(&folder.join(&name).join("cpufreq")) else { continue };
            for (family, (file, ..)) in families.iter().zip(FREQUENCIES) {
                if let Some(kilohertz) = settings.text(file, &mut buffer).and_then(|text| text.parse::<f64>().ok()) {
                    page.sample(*family, &[("cpu", cpu)], kilohertz * 1000.0);
                }
            }
            let Some(current) = settings.text("scaling_governor", &mut buffer).map(str::to_owned) else { continue };
            let available = settings.text("scaling_available_governors", &mut buffer).unwrap_or_default();
            for name in available.split_ascii_whitespace() {
                page.sample(governor, &[("cpu", cpu), ("governor", name)], f64::from(u8::from(name == current)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn frequencies_and_governor() {
        check_built(
            "cpufreq",
            &[],
            &[
                ("sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq", "1699\n"),
                ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n"),
                ("sys/devices/system/cpu/cpu2/cpufreq/scaling_available_governors", "performance powersave\n"),
                ("sys/devices/system/cpu/cpufreq/x", ""),
            ],
            &[
                "node_cpu_scaling_frequency_hertz{cpu=\"2\"} 1.699e+06",
                "node_cpu_scaling_governor{cpu=\"2\",governor=\"performance\"} 0",
                "node_cpu_scaling_governor{cpu=\"2\",governor=\"powersave\"} 1",
            ],
        );
    }
}
