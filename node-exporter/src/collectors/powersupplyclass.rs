use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, attribute, names, number};
use crate::options::{Flag, Pattern, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "powersupplyclass",
    default: true,
    flags: &[Flag::value(
        "collector.powersupply.ignored-supplies",
        "^$",
        "Regexp of power supplies to ignore for powersupplyclass collector.",
    )],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let ignored = settings.pattern("collector.powersupply.ignored-supplies")?;
    Ok(Box::new(PowerSupply { paths: settings.paths.clone(), ignored }))
}

struct PowerSupply {
    paths: Arc<Paths>,
    ignored: Option<Pattern>,
}

const PLAIN: f64 = 1.0;
const MICRO: f64 = 1e6;
/// Temperatures are in tenths of a degree.
const TENTH: f64 = 10.0;

/// File, metric after `node_power_supply_`, divisor.
const NUMBERS: [(&str, &str, f64); 43] = [
    ("authentic", "authentic", PLAIN),
    ("calibrate", "calibrate", PLAIN),
    ("capacity", "capacity", PLAIN),
    ("capacity_alert_max", "capacity_alert_max", PLAIN),
    ("capacity_alert_min", "capacity_alert_min", PLAIN),
    ("cycle_count", "cyclecount", PLAIN),
    ("online", "online", PLAIN),
    ("present", "present", PLAIN),
    ("time_to_empty_now", "time_to_empty_seconds", PLAIN),
    ("time_to_full_now", "time_to_full_seconds", PLAIN),
    ("current_boot", "current_boot", MICRO),
    ("current_max", "current_max", MICRO),
    ("current_now", "current_ampere", MICRO),
    ("energy_empty", "energy_empty", MICRO),
    ("energy_empty_design", "energy_empty_design", MICRO),
    ("energy_full", "energy_full", MICRO),
    ("energy_full_design", "energy_full_design", MICRO),
    ("energy_now", "energy_watthour", MICRO),
    ("voltage_boot", "voltage_boot", MICRO),
    ("voltage_max", "voltage_max", MICRO),
    ("voltage_max_design", "voltage_max_design", MICRO),
    ("voltage_min", "voltage_min", MICRO),
    ("voltage_min_design", "voltage_min_design", MICRO),
    ("voltage_now", "voltage_volt", MICRO),
    ("voltage_ocv", "voltage_ocv", MICRO),
    ("charge_control_limit", "charge_control_limit", PLAIN),
    ("charge_control_limit_max", "charge_control_limit_max", PLAIN),
    ("charge_counter", "charge_counter", MICRO),
    ("charge_empty", "charge_empty", MICRO),
    ("charge_empty_design", "charge_empty_design", MICRO),
    ("charge_full", "charge_full", MICRO),
    ("charge_full_design", "charge_full_design", MICRO),
    ("charge_now", "charge_ampere", MICRO),
    ("charge_term_current", "charge_term_current", MICRO),
    ("constant_charge_current", "constant_charge_current", MICRO),
    ("constant_charge_current_max", "constant_charge_current_max", MICRO),
    ("constant_charge_voltage", "constant_charge_voltage", MICRO),
    ("constant_charge_voltage_max", "constant_charge_voltage_max", MICRO),
    ("precharge_current", "precharge_current", MICRO),
    ("input_current_limit", "input_current_limit", MICRO),
    ("power_now", "power_watt", MICRO),
    ("temp", "temp_celsius", TENTH),
    ("temp_ambient", "temp_ambient_celsius", TENTH),
];

/// File and label of the info metric; a label without value is left out.
const LABELS: [(&str, &str); 10] = [
    ("capacity_level", "capacity_level"),
    ("charge_type", "charge_type"),
    ("health", "health"),
    ("manufacturer", "manufacturer"),
    ("model_name", "model_name"),
    ("scope", "scope"),
    ("serial_number", "serial_number"),
    ("status", "status"),
    ("technology", "technology"),
    ("type", "type"),
];

impl Collector for PowerSupply {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("class/power_supply");
        let supplies = names(&folder).map_err(|e| absent(&folder, &e))?;
        let help = "info of /sys/class/power_supply/<power_supply>.";
        let info = page.family("node_power_supply_info", help, MetricType::Gauge);
        for supply in supplies {
            if self.ignored.as_ref().is_some_and(|i| i.is_match(&supply)) {
                continue;
            }
            let path = folder.join(&supply);
            for (file, name, divisor) in NUMBERS {
                let Some(value) = number::<f64>(&path.join(file)) else { continue };
                let help = format!("{name} value of /sys/class/power_supply/<power_supply>.");
                page.gauge(&format!("node_power_supply_{name}"), &help, &[("power_supply", &supply)], value / divisor);
            }
            let values = LABELS.map(|(file, label)| (label, attribute(&path.join(file)).unwrap_or_default()));
            let mut labels: Vec<(&str, &str)> = vec![("power_supply", &supply)];
            labels.extend(values.iter().filter(|(_, v)| !v.is_empty()).map(|(l, v)| (*l, v.as_str())));
            labels.sort_unstable();
            page.sample(info, &labels, 1.0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::collectors::fixture::check_built;

    #[test]
    fn units() {
        check_built(
            "powersupplyclass",
            &[],
            &[
                ("sys/class/power_supply/B/voltage_now", "11660000\n"),
                ("sys/class/power_supply/B/temp", "305\n"),
                ("sys/class/power_supply/B/type", "Battery\n"),
            ],
            &[
                "node_power_supply_info{power_supply=\"B\",type=\"Battery\"} 1",
                "node_power_supply_temp_celsius{power_supply=\"B\"} 30.5",
                "node_power_supply_voltage_volt{power_supply=\"B\"} 11.66",
            ],
        );
    }
}
