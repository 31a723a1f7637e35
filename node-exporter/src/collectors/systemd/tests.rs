use super::*;
use crate::collectors::dbus::fake::{FakeBus, Sent};
use crate::collectors::fixture::samples;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn listed(name: &str, load: &str, active: &str) -> Value {
    let path = format!("/unit/{name}");
    let texts = [name, "A unit", load, active, "sub", "", &path].map(text);
    let mut row = texts.to_vec();
    row.extend([Value::Unsigned(0), text(""), text("/")]);
    Value::Struct(row)
}

/// A systemd of the given version with a few units.
fn systemd(version: &'static str) -> FakeBus {
    FakeBus::start(move |member, path, arguments| {
        if member == "ListUnits" {
            let units = [
                listed("web.service", "loaded", "active"),
                listed("job.service", "loaded", "failed"),
                listed("gone.service", "not-found", "inactive"),
                listed("tmp.mount", "loaded", "active"),
                listed("daily.timer", "loaded", "active"),
                listed("api.socket", "loaded", "active"),
                listed("odd.target", "loaded", "reloading"),
            ];
            return Sent::Plain("a(ssssssouso)", Value::Array(units.to_vec()));
        }
        let number = |number| Sent::Variant("t", Value::Unsigned(number));
        let small = |number| Sent::Variant("u", Value::Unsigned(number));
        match (path.trim_start_matches("/unit/"), &*arguments[0], &*arguments[1]) {
            (PATH, MANAGER, "Version") => Sent::Variant("s", text(version)),
            (PATH, MANAGER, "Virtualization") => Sent::Variant("s", text("")),
            (PATH, MANAGER, "SystemState") => Sent::Variant("s", text("running")),
            ("web.service", "org.freedesktop.systemd1.Service", "Type") => Sent::Variant("s", text("notify")),
            ("web.service", "org.freedesktop.systemd1.Service", "NRestarts") => small(3),
            ("web.service", "org.freedesktop.systemd1.Service", "TasksCurrent") => number(5),
            ("web.service", "org.freedesktop.systemd1.Service", "TasksMax") => number(u64::MAX),
            ("web.service", "org.freedesktop.systemd1.Unit", "ActiveEnterTimestamp") => number(1_700_000_000_500_000),
            ("tmp.mount", "org.freedesktop.systemd1.Mount", "Type") => Sent::Variant("s", text("tmpfs")),
            ("daily.timer", "org.freedesktop.systemd1.Timer", "LastTriggerUSec") => number(1_700_000_001_000_000),
            ("api.socket", "org.freedesktop.systemd1.Socket", "NAccepted") => small(9),
            ("api.socket", "org.freedesktop.systemd1.Socket", "NConnections") => small(2),
            _ => Sent::Error,
        }
    })
}

fn collector(
    bus: &FakeBus,
    include: &str,
    exclude: &str,
    all: bool,
) -> Systemd<impl Fn() -> Result<Connection, DbusError> + use<>> {
    let path = bus.path().to_str().expect("a path").to_owned();
    let pattern = |text: &str| Regex::new(&format!("^(?:{text})$")).expect("an expression");
    Systemd {
        connect: move || Connection::bus(&path, Duration::from_secs(10)),
        include: pattern(include),
        exclude: pattern(exclude),
        tasks: all,
        restarts: all,
        start_times: all,
    }
}

/// The samples but for the states a unit is not in.
fn shown(systemd: &impl Collector) -> Vec<String> {
    let (mut lines, result) = samples(systemd);
    assert_eq!(result, Ok(()));
    lines.retain(|line| !(line.starts_with("node_systemd_unit_state") && line.ends_with(" 0")));
    lines
}

#[test]
fn units_and_their_properties_are_shown() {
    let bus = systemd("252.12-1~deb12u1");
    assert_eq!(
        shown(&collector(&bus, ".+", "x", true)),
        [
            "node_systemd_service_restart_total{name=\"web.service\"} 3",
            "node_systemd_socket_accepted_connections_total{name=\"api.socket\"} 9",
            "node_systemd_socket_current_connections{name=\"api.socket\"} 2",
            "node_systemd_system_running 1",
            "node_systemd_timer_last_trigger_seconds{name=\"daily.timer\"} 1.700000001e+09",
            "node_systemd_unit_start_time_seconds{name=\"job.service\"} 0",
            "node_systemd_unit_start_time_seconds{name=\"odd.target\"} 0",
            "node_systemd_unit_start_time_seconds{name=\"web.service\"} 1.7000000005e+09",
            "node_systemd_unit_state{name=\"api.socket\",state=\"active\",type=\"\"} 1",
            "node_systemd_unit_state{name=\"daily.timer\",state=\"active\",type=\"\"} 1",
            "node_systemd_unit_state{name=\"job.service\",state=\"failed\",type=\"\"} 1",
            "node_systemd_unit_state{name=\"tmp.mount\",state=\"active\",type=\"tmpfs\"} 1",
            "node_systemd_unit_state{name=\"web.service\",state=\"active\",type=\"notify\"} 1",
            "node_systemd_unit_tasks_current{name=\"web.service\"} 5",
            "node_systemd_units{state=\"activating\"} 0",
            "node_systemd_units{state=\"active\"} 4",
            "node_systemd_units{state=\"deactivating\"} 0",
            "node_systemd_units{state=\"failed\"} 1",
            "node_systemd_units{state=\"inactive\"} 1",
            "node_systemd_units{state=\"reloading\"} 1",
            "node_systemd_version{version=\"252.12-1~deb12u1\"} 252.12",
            "node_systemd_virtualization_info{virtualization_type=\"none\"} 1",
        ]
    );
}

#[test]
fn units_are_chosen_by_whole_names() {
    let bus = systemd("252");
    let lines = shown(&collector(&bus, r".+\.service|tmp", "job.+", false));
    let states: Vec<_> = lines.iter().filter(|l| l.starts_with("node_systemd_unit_")).collect();
    assert_eq!(states, ["node_systemd_unit_state{name=\"web.service\",state=\"active\",type=\"notify\"} 1"]);
}

#[test]
fn an_old_systemd_is_not_asked_for_what_it_does_not_know() {
    let bus = systemd("systemd 208");
    let lines = shown(&collector(&bus, ".+", "x", false));
    assert!(lines.contains(&"node_systemd_version{version=\"systemd 208\"} 208".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|l| l.contains("timer_last") || l.contains("system_running")), "{lines:?}");
}

#[test]
fn versions_are_numbers_in_a_text() {
    for (text, expected) in [
        ("252", Some(252.0)),
        ("v255-rc1", Some(255.0)),
        ("252.12-1~deb12u1", Some(252.12)),
        ("deb12 249.", Some(249.0)),
        ("12.34", None),
        ("", None),
    ] {
        assert_eq!(version_number(text), expected, "{text:?}");
    }
}

#[test]
fn no_bus_is_a_failure() {
    let mut systemd = collector(&systemd("252"), ".+", "x", false);
    systemd.tasks = true;
    // the bus is gone with its folder
    let text = "couldn't get dbus connection: No such file or directory (os error 2)";
    assert_eq!(samples(&systemd), (vec![], Err(CollectorError::failed(text))));
}

#[test]
fn old_names_of_flags_exclude_the_new_ones() {
    let parsed = |flags: &[&str]| {
        let base = ["--collector.disable-defaults", "--collector.systemd"];
        crate::flags::parse(base.iter().chain(flags).map(std::ffi::OsString::from))
    };
    assert!(parsed(&["--collector.systemd.unit-whitelist=a"]).is_ok());
    let exit = parsed(&["--collector.systemd.unit-whitelist=a", "--collector.systemd.unit-include=b"]).unwrap_err();
    assert!(
        exit.text.ends_with(
            "--collector.systemd.unit-whitelist and --collector.systemd.unit-include are mutually exclusive"
        ),
        "{exit:?}"
    );
    assert!(
        parsed(&["--collector.systemd.unit-exclude=("])
            .unwrap_err()
            .text
            .contains("--collector.systemd.unit-exclude: ")
    );
}
