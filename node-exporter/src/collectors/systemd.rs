use std::time::Duration;

use common::flags::given;
use common::metrics::{FamilyId, Page};
use model::MetricType::{Counter, Gauge};
use regex::Regex;

use super::dbus::{Call, Connection, DbusError, Value};
use crate::collector::{Collector, CollectorError, Registration};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "systemd",
    default: false,
    flags: &[
        Flag::value(
            "collector.systemd.unit-include",
            ".+",
            "Regexp of systemd units to include. Units must both match include and not match exclude to be included.",
        ),
        Flag::value("collector.systemd.unit-whitelist", "", "DEPRECATED: Use --collector.systemd.unit-include")
            .hidden(),
        Flag::value(
            "collector.systemd.unit-exclude",
            r".+\.(automount|device|mount|scope|slice)",
            "Regexp of systemd units to exclude. Units must both match include and not match exclude to be included.",
        ),
        Flag::value("collector.systemd.unit-blacklist", "", "DEPRECATED: Use collector.systemd.unit-exclude").hidden(),
        Flag::switch(
            "collector.systemd.private",
            false,
            "Connect to systemd itself, without a bus between; needs root and is for tests only.",
        )
        .hidden(),
        Flag::switch(
            "collector.systemd.enable-task-metrics",
            false,
            "Enables service unit tasks metrics unit_tasks_current and unit_tasks_max",
        ),
        Flag::switch(
            "collector.systemd.enable-restarts-metrics",
            false,
            "Enables service unit metric service_restart_total",
        ),
        Flag::switch(
            "collector.systemd.enable-start-time-metrics",
            false,
            "Enables service unit metric unit_start_time_seconds",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let private = settings.on("collector.systemd.private");
    let connect = move || if private { Connection::private(PRIVATE, TIMEOUT) } else { Connection::system(TIMEOUT) };
    Ok(Box::new(Systemd {
        connect,
        include: whole(settings, "collector.systemd.unit-include", "collector.systemd.unit-whitelist")?,
        exclude: whole(settings, "collector.systemd.unit-exclude", "collector.systemd.unit-blacklist")?,
        tasks: settings.on("collector.systemd.enable-task-metrics"),
        restarts: settings.on("collector.systemd.enable-restarts-metrics"),
        start_times: settings.on("collector.systemd.enable-start-time-metrics"),
    }))
}

/// An expression for whole names, which may be given under an old name as well.
fn whole(settings: &Settings<'_>, new: &str, old: &str) -> Result<Regex, String> {
    let name = if settings.text(old).is_empty() { new } else { old };
    if name == old && given(settings.matches, new) {
        return Err(format!("--{old} and --{new} are mutually exclusive"));
    }
    let text = model::translate_re2(&format!("^(?:{})$", settings.text(name)));
    Regex::new(&text).map_err(|error| format!("--{name}: {error}"))
}

struct Systemd<C> {
    connect: C,
    include: Regex,
    exclude: Regex,
    tasks: bool,
    restarts: bool,
    start_times: bool,
}

/// A bus that has not answered by then fails the collector. All that wait for other programs end together within the usual
/// ten seconds of a scrape.
const TIMEOUT: Duration = Duration::from_secs(4);

const PRIVATE: &str = "/run/systemd/private";
const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];
/// The first version that knows the system's state and when a timer last went off.
const SYSTEM_STATE_SINCE: f64 = 212.0;

/// A row of `ListUnits`.
struct Unit<'a> {
    name: &'a str,
    load_state: &'a str,
    active_state: &'a str,
    path: &'a str,
}

/// What is asked of units: which ones, the interface after `org.freedesktop.systemd1.` and the property.
type Property<'a> = (&'a dyn Fn(&Unit<'_>) -> bool, &'a str, &'a str);

impl<C: Fn() -> Result<Connection, DbusError> + Send + Sync> Collector for Systemd<C> {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let failed = |what: &str, error: DbusError| CollectorError::failed(format!("couldn't get {what}: {error}"));
        let mut bus = (self.connect)().map_err(|error| failed("dbus connection", error))?;
        let manager =
            ["Version", "Virtualization", "SystemState"].map(|name| Call::property(SERVICE, PATH, MANAGER, name));
        let answers = bus.call_all(&manager).map_err(|error| failed("units", error))?;
        let [version, virtualization, state] = answers.try_into().unwrap_or_else(|_| unreachable!("three answers"));
        let version = show_version(page, version.ok().as_ref().and_then(Value::as_text).unwrap_or(""));
        let virtualization = match virtualization.as_ref().ok().and_then(Value::as_text) {
            None => "unknown",
            Some("") => "none",
            Some(text) => text,
        };
        page.gauge(
            "node_systemd_virtualization_info",
            "Detected virtualization technology",
            &[("virtualization_type", virtualization)],
            1.0,
        );
        let arguments = Vec::new();
        let list = Call { destination: SERVICE, path: PATH, interface: MANAGER, member: "ListUnits", arguments };
        let list = bus.call(&list).map_err(|error| failed("units", error))?;
        let rows = list.as_array().unwrap_or_default().iter().filter_map(Value::as_struct);
        let mut units: Vec<Unit<'_>> = rows.filter_map(unit).collect();
        show_summary(page, &units);
        units.retain(|unit| {
            self.include.is_match(unit.name) && !self.exclude.is_match(unit.name) && unit.load_state == "loaded"
        });
        self.show_units(&mut bus, page, &units, version).map_err(|error| failed("properties of units", error))?;
        if version >= SYSTEM_STATE_SINCE {
            let state = state.map_err(|error| failed("system state", error))?;
            let help = "Whether the system is operational (see 'systemctl is-system-running')";
            let running = state.as_text() == Some("running");
            page.gauge("node_systemd_system_running", help, &[], f64::from(u8::from(running)));
        }
        Ok(())
    }
}

impl<C> Systemd<C> {
    fn show_units(
        &self,
        bus: &mut Connection,
        page: &mut Page,
        units: &[Unit<'_>],
        version: f64,
    ) -> Result<(), DbusError> {
        let state = page.family("node_systemd_unit_state", "Systemd unit", Gauge);
        let types: [Property<'_>; 2] = [
            (&|u| u.name.ends_with(".service"), "Service", "Type"),
            (&|u| u.name.ends_with(".mount"), "Mount", "Type"),
        ];
        let mut kinds = vec![String::new(); units.len()];
        for property in types {
            read(bus, units, property, |at, value| {
                if let Value::Text(text) = value {
                    kinds[at] = text;
                }
            })?;
        }
        for (unit, kind) in units.iter().zip(&kinds) {
            for name in STATES {
                let labels = [("name", unit.name), ("state", name), ("type", kind)];
                page.sample(state, &labels, f64::from(u8::from(name == unit.active_state)));
            }
        }
        let number = |page: &mut Page, family: FamilyId, at: usize, value: &Value, divisor: f64| {
            if let Some(number) = value.as_unsigned() {
                page.sample(family, &[("name", units[at].name)], number as f64 / divisor);
            }
        };
        if self.restarts {
            let help = "Service unit count of Restart triggers";
            let family = page.family("node_systemd_service_restart_total", help, Counter);
            let property: Property<'_> = (&|u| u.name.ends_with(".service"), "Service", "NRestarts");
            read(bus, units, property, |at, value| number(page, family, at, &value, 1.0))?;
        }
        if self.start_times {
            let help = "Start time of the unit since unix epoch in seconds.";
            let family = page.family("node_systemd_unit_start_time_seconds", help, Gauge);
            let property: Property<'_> = (&|u| u.active_state == "active", "Unit", "ActiveEnterTimestamp");
            read(bus, units, property, |at, value| number(page, family, at, &value, 1e6))?;
            for unit in units.iter().filter(|u| u.active_state != "active") {
                page.sample(family, &[("name", unit.name)], 0.0);
            }
        }
        if self.tasks {
            for (name, help, property) in [
                ("node_systemd_unit_tasks_current", "Current number of tasks per Systemd unit", "TasksCurrent"),
                ("node_systemd_unit_tasks_max", "Maximum number of tasks per Systemd unit", "TasksMax"),
            ] {
                let family = page.family(name, help, Gauge);
                read(bus, units, (&|u| u.name.ends_with(".service"), "Service", property), |at, value| {
                    // the greatest number stands for none
                    if value.as_unsigned() != Some(u64::MAX) {
                        number(page, family, at, &value, 1.0);
                    }
                })?;
            }
        }
        if version >= SYSTEM_STATE_SINCE {
            let help = "Seconds since epoch of last trigger.";
            let family = page.family("node_systemd_timer_last_trigger_seconds", help, Gauge);
            let property: Property<'_> = (&|u| u.name.ends_with(".timer"), "Timer", "LastTriggerUSec");
            read(bus, units, property, |at, value| number(page, family, at, &value, 1e6))?;
        }
        for (name, help, kind, property) in [
            (
                "node_systemd_socket_accepted_connections_total",
                "Total number of accepted socket connections",
                Counter,
                "NAccepted",
            ),
            ("node_systemd_socket_current_connections", "Current number of socket connections", Gauge, "NConnections"),
            (
                "node_systemd_socket_refused_connections_total",
                "Total number of refused socket connections",
                Gauge,
                "NRefused",
            ),
        ] {
            let family = page.family(name, help, kind);
            let property: Property<'_> = (&|u| u.name.ends_with(".socket"), "Socket", property);
            read(bus, units, property, |at, value| number(page, family, at, &value, 1.0))?;
        }
        Ok(())
    }
}

fn unit(row: &[Value]) -> Option<Unit<'_>> {
    // name, description, load, active and sub state, followed unit, object
    let text = |at: usize| row.get(at)?.as_text();
    Some(Unit { name: text(0)?, load_state: text(2)?, active_state: text(3)?, path: text(6)? })
}

/// Reads a property of the units meant and gives each with its unit's place. A unit that does not have it is passed over.
fn read(
    bus: &mut Connection,
    units: &[Unit<'_>],
    (wanted, interface, property): Property<'_>,
    mut found: impl FnMut(usize, Value),
) -> Result<(), DbusError> {
    let interface = format!("{SERVICE}.{interface}");
    let places: Vec<usize> = (0..units.len()).filter(|at| wanted(&units[*at])).collect();
    let calls: Vec<Call<'_>> =
        places.iter().map(|at| Call::property(SERVICE, units[*at].path, &interface, property)).collect();
    for (at, answer) in places.iter().zip(bus.call_all(&calls)?) {
        match answer {
            Ok(value) => found(*at, value),
            Err(error) => tracing::debug!(unit = units[*at].name, property, err = %error, "no such property"),
        }
    }
    Ok(())
}

/// Shows the version and gives its number: 252.12 of `252.12-1~deb12u1`, 0 of what has none.
fn show_version(page: &mut Page, text: &str) -> f64 {
    let number = version_number(text);
    let label = if number.is_some() { text } else { "" };
    page.gauge("node_systemd_version", "Detected systemd version", &[("version", label)], number.unwrap_or(0.0));
    number.unwrap_or(0.0)
}

/// The first run of three digits or more, with what follows a dot.
fn version_number(text: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = text;
    loop {
        rest = &rest[rest.find(|c: char| c.is_ascii_digit())?..];
        let whole = digits(rest);
        if whole >= 3 {
            let fraction = rest[whole..].strip_prefix('.').map_or(0, digits);
            return rest[..if fraction > 0 { whole + 1 + fraction } else { whole }].parse().ok();
        }
        rest = &rest[whole..];
    }
}

fn show_summary(page: &mut Page, units: &[Unit<'_>]) {
    let family = page.family("node_systemd_units", "Summary of systemd unit states", Gauge);
    let mut counts: Vec<(&str, u32)> = STATES.map(|state| (state, 0)).to_vec();
    for unit in units {
        match counts.iter_mut().find(|(state, _)| *state == unit.active_state) {
            Some((_, count)) => *count += 1,
            None => counts.push((unit.active_state, 1)),
        }
    }
    for (state, count) in counts {
        page.sample(family, &[("state", state)], f64::from(count));
    }
}

#[cfg(test)]
mod tests;
