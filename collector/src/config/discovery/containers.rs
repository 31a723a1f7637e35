//! `docker_sd_configs` and `dockerswarm_sd_configs`.

use super::super::Base;
use super::super::keys::{Key, Kind, Section, Values, duration, int, text, texts};
use super::super::web_address;
use super::mechanisms::{Mechanism, one_of};

const FILTER: Section = Section::new("moby.Filter", &[text("name"), texts("values")]);
const DOCKER: Section = Section::new(
    "moby.plain",
    &[
        text("host"),
        int("port", "80"),
        Key::new("filters", Kind::Objects(&FILTER)),
        text("host_networking_host").or("localhost"),
        duration("refresh_interval", "1m"),
        Key::new("match_first_network", Kind::Bool).or("true"),
    ],
)
.with_http_client();
const SWARM: Section = Section::new(
    "moby.plain",
    &[
        text("host"),
        text("role"),
        int("port", "80"),
        Key::new("filters", Kind::Objects(&FILTER)),
        duration("refresh_interval", "1m"),
    ],
)
.with_http_client();

pub(super) const MECHANISMS: [Mechanism; 2] =
    [Mechanism::new("docker", &DOCKER, check_host), Mechanism::new("dockerswarm", &SWARM, check_swarm)];

fn check_host(values: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    values.require("host", "host missing")?;
    web_address::parse(values.text("host")).map(drop).or_else(|m| values.fault("host", m))
}

fn check_swarm(swarm: &Values<'_>, base: &Base) -> Result<(), yaml::Error> {
    check_host(swarm, base)?;
    one_of(swarm, "role", &["services", "nodes", "tasks"], |role| match role {
        "" => "role missing (one of: tasks, services, nodes)".into(),
        other => format!("invalid role {other}, expected tasks, services, or nodes"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::mechanisms::check_table;

    #[test]
    fn faults_are_named() {
        check_table(&[
            ("docker", "{host: 'unix:///run/x', filters: [{name: a, values: [b]}]}", ""),
            ("docker", "port: 1", "host missing"),
            ("docker", "{host: x, role: tasks}", "field role not found in type moby.plain"),
            ("docker", "host: '://x'", "parse \"://x\": missing protocol scheme"),
            ("dockerswarm", "{host: 'http://x', role: tasks}", ""),
            ("dockerswarm", "host: x", "role missing (one of: tasks, services, nodes)"),
            ("dockerswarm", "{host: x, role: y}", "invalid role y, expected tasks, services, or nodes"),
        ]);
    }
}
