use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, attribute, names_or_none};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "time", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Time(settings.paths.clone())))
}

struct Time(Arc<Paths>);

impl Collector for Time {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        page.gauge("node_time_seconds", "System time in seconds since epoch (1970).", &[], now);
        // read each time: an administrator may change it, and summer begins and ends
        let zone = jiff::tz::TimeZone::system();
        let zone = zone.to_offset_info(jiff::Timestamp::now());
        let help = "System time zone offset in seconds.";
        let labels = [("time_zone", zone.abbreviation())];
        page.gauge("node_time_zone_offset_seconds", help, &labels, f64::from(zone.offset().seconds()));

        let folder = self.0.sys("devices/system/clocksource");
        let help = "Available clocksources read from '/sys/devices/system/clocksource'.";
        let available = page.family("node_time_clocksource_available_info", help, MetricType::Gauge);
        let help = "Current clocksource read from '/sys/devices/system/clocksource'.";
        let current = page.family("node_time_clocksource_current_info", help, MetricType::Gauge);
        for name in names_or_none(&folder) {
            let Some(device) = name.strip_prefix("clocksource") else { continue };
            let source = folder.join(&name);
            for clock in attribute(&source.join("available_clocksource")).unwrap_or_default().split_ascii_whitespace() {
                page.sample(available, &[("clocksource", clock), ("device", device)], 1.0);
            }
            if let Ok(clock) = attribute(&source.join("current_clocksource")) {
                page.sample(current, &[("clocksource", &clock), ("device", device)], 1.0);
            }
        }
        Ok(())
    }
}
