use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, names_or_none, number};

of_paths!(ThermalZone, "thermal_zone", true);

impl Collector for ThermalZone {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.0.sys("class/thermal");
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Gauge);
        let temperature = family("node_thermal_zone_temp", "Zone temperature in Celsius");
        let current = family("node_cooling_device_cur_state", "Current throttle state of the cooling device");
        let maximum = family("node_cooling_device_max_state", "Maximum throttle state of the cooling device");
        for name in names_or_none(&folder) {
            let path = folder.join(&name);
            let kind = attribute(&path.join("type")).unwrap_or_default();
            if let Some(zone) = name.strip_prefix("thermal_zone") {
                // a zone that is switched off gives an error
                if let Some(millidegrees) = number::<f64>(&path.join("temp")) {
                    page.sample(temperature, &[("type", &*kind), ("zone", zone)], millidegrees / 1000.0);
                }
            } else if let Some(device) = name.strip_prefix("cooling_device") {
                let labels = [("name", device), ("type", &*kind)];
                if let (Some(now), Some(most)) = (number(&path.join("cur_state")), number(&path.join("max_state"))) {
                    page.sample(current, &labels, now);
                    page.sample(maximum, &labels, most);
                }
            }
        }
        Ok(())
    }
}
