use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, absent, attribute, names, number};

of_paths!(Watchdog, "watchdog", true);

/// File, metric.
const NUMBERS: [(&str, &str); 7] = [
    ("bootstatus", "node_watchdog_bootstatus"),
    ("fw_version", "node_watchdog_fw_version"),
    ("nowayout", "node_watchdog_nowayout"),
    ("timeleft", "node_watchdog_timeleft_seconds"),
    ("timeout", "node_watchdog_timeout_seconds"),
    ("pretimeout", "node_watchdog_pretimeout_seconds"),
    ("access_cs0", "node_watchdog_access_cs0"),
];

impl Collector for Watchdog {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("class/watchdog");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let help = "Info of /sys/class/watchdog/<watchdog>";
        let info = page.family("node_watchdog_info", help, MetricType::Gauge);
        let families = NUMBERS.map(|(file, name)| {
            page.family(name, &format!("Value of /sys/class/watchdog/<watchdog>/{file}"), MetricType::Gauge)
        });
        for name in devices {
            let path = folder.join(&name);
            let text = |file: &str| attribute(&path.join(file)).unwrap_or_default();
            for (family, (file, _)) in families.iter().zip(NUMBERS) {
                if let Some(value) = number(&path.join(file)) {
                    page.sample(*family, &[("name", &name)], value);
                }
            }
            let labels = [
                ("identity", &*text("identity")),
                ("name", &name),
                ("options", &text("options")),
                ("pretimeout_governor", &text("pretimeout_governor")),
                ("state", &text("state")),
                ("status", &text("status")),
            ];
            page.sample(info, &labels, 1.0);
        }
        Ok(())
    }
}
