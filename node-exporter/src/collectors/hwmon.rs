use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::metrics::{FamilyId, Page};
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, attribute, names, names_or_none};
use crate::options::{Filter, Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "hwmon",
    default: true,
    flags: &[
        Flag::value(
            "collector.hwmon.chip-include",
            "",
            "Regexp of hwmon chip to include (mutually exclusive to chip-exclude).",
        ),
        Flag::value(
            "collector.hwmon.chip-exclude",
            "",
            "Regexp of hwmon chip to exclude (mutually exclusive to chip-include).",
        ),
        Flag::value(
            "collector.hwmon.sensor-include",
            "",
            "Regexp of hwmon sensor to include (mutually exclusive to sensor-exclude).",
        ),
        Flag::value(
            "collector.hwmon.sensor-exclude",
            "",
            "Regexp of hwmon sensor to exclude (mutually exclusive to sensor-include).",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Hwmon {
        paths: settings.paths.clone(),
        chips: settings.filter(["collector.hwmon.chip-include", ""], ["collector.hwmon.chip-exclude", ""])?,
        sensors: settings.filter(["collector.hwmon.sensor-include", ""], ["collector.hwmon.sensor-exclude", ""])?,
    }))
}

struct Hwmon {
    paths: Arc<Paths>,
    chips: Filter,
    sensors: Filter,
}

/// The kinds of sensors that the kernel's documentation knows.
const KINDS: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// A sensor's values by property; `""` is the file without one.
type Sensors = BTreeMap<String, BTreeMap<String, String>>;

struct Families {
    chip: FamilyId,
    label: FamilyId,
}

impl Collector for Hwmon {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("class/hwmon");
        let mut chips: Vec<(PathBuf, String)> = Vec::new();
        for name in names(&folder).map_err(|e| absent(&folder, &e))? {
            let path = folder.join(name);
            if path.is_dir()
                && let Some(name) = chip_name(&path)
            {
                chips.push((path, name));
            }
        }
        let help = "Annotation metric for human-readable chip names";
        let chip = page.family("node_hwmon_chip_names", help, MetricType::Gauge);
        let label = page.family("node_hwmon_sensor_label", "Label for given chip and sensor", MetricType::Gauge);
        let families = Families { chip, label };
        for (path, name) in &chips {
            let human = clean(&attribute(&path.join("name")).unwrap_or_default());
            // several chips of one device are told apart by what they call themselves
            let shared = chips.iter().filter(|(_, other)| other == name).count() > 1;
            let chip = if shared && !human.is_empty() { format!("{name}_{human}") } else { name.clone() };
            if !self.chips.ignores(&chip) {
                self.collect_chip(page, &families, path, &chip, &human);
            }
        }
        Ok(())
    }
}

impl Hwmon {
    fn collect_chip(&self, page: &mut Page, families: &Families, path: &Path, chip: &str, human: &str) {
        let mut sensors = Sensors::new();
        read_sensors(path, &mut sensors);
        read_sensors(&path.join("device"), &mut sensors);
        if !human.is_empty() {
            page.sample(families.chip, &[("chip", chip), ("chip_name", human)], 1.0);
        }
        for (sensor, values) in &sensors {
            if self.sensors.ignores(&format!("{chip};{sensor}")) {
                continue;
            }
            let kind = sensor.trim_end_matches(|c: char| c.is_ascii_digit());
            if let Some(label) = values.get("label") {
                page.sample(families.label, &[("chip", chip), ("label", label), ("sensor", sensor)], 1.0);
            }
            for (property, value) in values {
                let Ok(value) = value.parse::<f64>() else { continue };
                if property != "label" {
                    show(page, chip, sensor, kind, property, value, values);
                }
            }
        }
    }
}

/// Adds the sensors of a folder. A file is called `temp1_crit`: a kind, a number and a property.
fn read_sensors(folder: &Path, sensors: &mut Sensors) {
    for file in names_or_none(folder) {
        let kind_len = file.find(|c: char| c.is_ascii_digit()).unwrap_or(file.len());
        let kind = KINDS.iter().find(|k| {
            // files without a number carry the property after the kind
            if kind_len < file.len() { file[..kind_len] == ***k } else { file == **k }
        });
        let Some(kind) = kind else { continue };
        let rest = &file[kind.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = if digits == 0 { 0 } else { rest[..digits].parse().unwrap_or(0) };
        let property = match &rest[digits..] {
            "" => "",
            rest => match rest.strip_prefix('_') {
                Some(property) => property,
                None => continue,
            },
        };
        if let Ok(value) = attribute(&folder.join(&file)) {
            sensors.entry(format!("{kind}{number}")).or_default().insert(property.to_owned(), value);
        }
    }
}

fn show(
    page: &mut Page,
    chip: &str,
    sensor: &str,
    kind: &str,
    property: &str,
    value: f64,
    values: &BTreeMap<String, String>,
) {
    let prefix = format!("node_hwmon_{kind}");
    let named = match property {
        "" => prefix.clone(),
        // the input is the value itself, unless there is a value beside it
        "input" if !values.contains_key("") => prefix.clone(),
        other => format!("{prefix}_{}", clean(other)),
    };
    let element = if kind == "temp" && property.is_empty() { "input" } else { property };
    let unit = |suffix: &str| format!("{named}{suffix}");
    let mut kind_of_metric = MetricType::Gauge;
    let mut label = sensor.to_owned();
    let (name, help, value) = match (kind, element) {
        ("beep_enable", _) => {
            ("node_hwmon_beep_enabled".into(), "Hardware beep enabled".into(), f64::from(u8::from(value != 0.0)))
        }
        ("vrm", _) => ("node_hwmon_voltage_regulator_version".into(), "Hardware voltage regulator".into(), value),
        ("update_interval", _) => {
            ("node_hwmon_update_interval_seconds".into(), "Hardware monitor update interval".into(), value / 1000.0)
        }
        (_, "fault" | "alarm") => (named, format!("Hardware sensor {element} status ({kind})"), value),
        (_, "beep") => (unit("_enabled"), "Hardware monitor sensor has beeping enabled".into(), value),
        ("in" | "cpu", _) => (unit("_volts"), format!("Hardware monitor for voltage ({element})"), value * 0.001),
        ("temp", element) if element != "type" => {
            (unit("_celsius"), format!("Hardware monitor for temperature ({element})"), value * 0.001)
        }
        ("curr", _) => (unit("_amps"), format!("Hardware monitor for current ({element})"), value * 0.001),
        ("energy", _) => {
            kind_of_metric = MetricType::Counter;
            (unit("_joule_total"), format!("Hardware monitor for joules used so far ({element})"), value / 1_000_000.0)
        }
        ("power", "accuracy") => {
            (named, "Hardware monitor power meter accuracy, as a ratio".into(), value / 1_000_000.0)
        }
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            (unit("_seconds"), format!("Hardware monitor power usage update interval ({element})"), value * 0.001)
        }
        ("power", _) => {
            (unit("_watt"), format!("Hardware monitor for power usage in watts ({element})"), value / 1_000_000.0)
        }
        ("humidity", _) => (
            named,
            format!(
                "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage) ({element})"
            ),
            value / 1_000_000.0,
        ),
        ("fan", "input" | "min" | "max" | "target") => {
            (unit("_rpm"), format!("Hardware monitor for fan revolutions per minute ({element})"), value)
        }
        ("freq", "input") => {
            let Some(text) = values.get("label") else { return };
            label = clean(text);
            (unit("_freq_mhz"), "Hardware monitor for GPU frequency in MHz".into(), value / 1_000_000.0)
        }
        _ => (named, format!("Hardware monitor {kind} element {element}"), value),
    };
    let family = page.family(&name, &help, kind_of_metric);
    if matches!(kind, "beep_enable" | "vrm" | "update_interval") {
        page.sample(family, &[("chip", chip)], value);
    } else {
        page.sample(family, &[("chip", chip), ("sensor", &label)], value);
    }
}

/// A name that stays the same over restarts: type and name of the device, what the chip calls itself, or else the folder.
fn chip_name(path: &Path) -> Option<String> {
    if let Ok(device) = std::fs::canonicalize(path.join("device")) {
        let part =
            |path: Option<&Path>| path.and_then(Path::file_name).map_or(String::new(), |n| clean(&n.to_string_lossy()));
        let (kind, name) = (part(device.parent()), part(Some(&device)));
        // a `device` that is a folder of its own and no link tells nothing
        if std::fs::symlink_metadata(path.join("device")).is_ok_and(|m| m.is_symlink()) && !name.is_empty() {
            return Some(if kind.is_empty() { name } else { format!("{kind}_{name}") });
        }
    }
    let human = clean(&attribute(&path.join("name")).unwrap_or_default());
    if !human.is_empty() {
        return Some(human);
    }
    let real = std::fs::canonicalize(path).ok()?;
    let name = clean(&real.file_name()?.to_string_lossy());
    (!name.is_empty()).then_some(name)
}

/// A name as labels show it: lower case, with an underscore for what is neither letter, digit nor colon.
pub(super) fn clean(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' { c } else { '_' };
    let cleaned: String = name.to_lowercase().chars().map(allowed).collect();
    cleaned.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check, paths};

    #[test]
    fn sensors_of_one_device_are_told_apart() {
        let (_folder, paths) = paths(&[
            ("sys/devices/wifi/phy0/index", "0"),
            ("sys/class/hwmon/hwmon0/name", "chip_0\n"),
            ("sys/class/hwmon/hwmon0/device", "->../../../devices/wifi/phy0"),
            ("sys/class/hwmon/hwmon0/temp1_input", "55000\n"),
            ("sys/class/hwmon/hwmon0/temp1_label", "core\n"),
            ("sys/class/hwmon/hwmon1/name", "chip_1\n"),
            ("sys/class/hwmon/hwmon1/device", "->../../../devices/wifi/phy0"),
            ("sys/class/hwmon/hwmon1/fan1_input", "900\n"),
            ("sys/class/hwmon/hwmon1/fan1_alarm", "1\n"),
            ("sys/class/hwmon/hwmon2/name", "alone\n"),
            ("sys/class/hwmon/hwmon2/in0_input", "1500\n"),
        ]);
        let hwmon = Hwmon { paths, chips: Filter::default(), sensors: Filter::default() };
        check(
            &hwmon,
            &Ok(()),
            &[
                "node_hwmon_chip_names{chip=\"alone\",chip_name=\"alone\"} 1",
                "node_hwmon_chip_names{chip=\"wifi_phy0_chip_0\",chip_name=\"chip_0\"} 1",
                "node_hwmon_chip_names{chip=\"wifi_phy0_chip_1\",chip_name=\"chip_1\"} 1",
                "node_hwmon_fan_alarm{chip=\"wifi_phy0_chip_1\",sensor=\"fan1\"} 1",
                "node_hwmon_fan_rpm{chip=\"wifi_phy0_chip_1\",sensor=\"fan1\"} 900",
                "node_hwmon_in_volts{chip=\"alone\",sensor=\"in0\"} 1.5",
                "node_hwmon_sensor_label{chip=\"wifi_phy0_chip_0\",label=\"core\",sensor=\"temp1\"} 1",
                "node_hwmon_temp_celsius{chip=\"wifi_phy0_chip_0\",sensor=\"temp1\"} 55",
            ],
        );
    }
}
