//! `serverset_sd_configs` and `nerve_sd_configs`: what services write into ZooKeeper.

use super::super::Base;
use super::super::keys::{Section, Values, duration, texts};
use super::mechanisms::Mechanism;

const ZOOKEEPER: Section =
    Section::new("zookeeper.plain", &[texts("servers"), texts("paths"), duration("timeout", "10s")]);

pub(super) const MECHANISMS: [Mechanism; 2] = [
    Mechanism::new("serverset", &ZOOKEEPER, |values, base| check(values, base, "serverset")),
    Mechanism::new("nerve", &ZOOKEEPER, |values, base| check(values, base, "nerve")),
];

fn check(values: &Values<'_>, _: &Base, name: &str) -> Result<(), yaml::Error> {
    if values.texts("servers").is_empty() {
        return values.fault("servers", format!("{name} SD config must contain at least one Zookeeper server"));
    }
    let paths = values.texts("paths");
    if paths.is_empty() {
        return values.fault("paths", format!("{name} SD config must contain at least one path"));
    }
    match paths.iter().find(|path| !path.starts_with('/')) {
        Some(path) => values.fault("paths", format!("{name} SD config paths must begin with '/': {path}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::mechanisms::check_table;

    #[test]
    fn faults_are_named() {
        check_table(&[
            ("nerve", "{servers: [a], paths: [/b]}", ""),
            ("nerve", "paths: [/b]", "nerve SD config must contain at least one Zookeeper server"),
            ("serverset", "servers: [a]", "serverset SD config must contain at least one path"),
            ("serverset", "{servers: [a], paths: [b]}", "serverset SD config paths must begin with '/': b"),
        ]);
    }
}
