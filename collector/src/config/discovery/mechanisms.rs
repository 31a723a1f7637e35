//! The mechanisms that are described by tables of their keys: which they are, and what reads and checks their configurations.

use super::super::Base;
use super::super::keys::{Section, Settings, Values};
use super::{aws, clouds, containers, directories, kubernetes, openstack, zookeeper};

/// A mechanism.
#[derive(Clone, Copy)]
pub(super) struct Mechanism {
    /// What stands before `_sd_configs`.
    name: &'static str,
    section: &'static Section,
    /// What the table of keys does not say.
    check: fn(&Values<'_>, &Base) -> Result<(), yaml::Error>,
}

impl Mechanism {
    pub(super) const fn new(
        name: &'static str,
        section: &'static Section,
        check: fn(&Values<'_>, &Base) -> Result<(), yaml::Error>,
    ) -> Self {
        Self { name, section, check }
    }

    /// The mechanism whose configurations stand under `key`.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let name = key.strip_suffix("_sd_configs")?;
        Self::all().find(|mechanism| mechanism.name == name).copied()
    }

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        [
            &aws::MECHANISMS[..],
            &clouds::MECHANISMS,
            &containers::MECHANISMS,
            &directories::MECHANISMS,
            &kubernetes::MECHANISMS,
            &openstack::MECHANISMS,
            &zookeeper::MECHANISMS,
        ]
        .into_iter()
        .flatten()
    }

    /// Reads and checks one configuration.
    pub(super) fn read(&self, node: &yaml::Node, base: &Base) -> Result<Settings, yaml::Error> {
        let values = self.section.read(node, base)?;
        (self.check)(&values, base)?;
        Ok(values.into_settings())
    }

    /// What stands before `_sd_configs`.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// For mechanisms whose keys say everything.
pub(super) fn keys_only(_: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    Ok(())
}

/// An error unless the key has one of the values.
pub(super) fn one_of(
    values: &Values<'_>,
    key: &str,
    allowed: &[&str],
    message: impl Fn(&str) -> String,
) -> Result<(), yaml::Error> {
    let value = values.text(key);
    if allowed.contains(&value) { Ok(()) } else { values.fault(key, message(value)) }
}

/// What [`one_of`] is for, with a role: no role at all has a message of its own.
pub(super) fn role(values: &Values<'_>, shown: &str, allowed: &[&str]) -> Result<(), yaml::Error> {
    one_of(values, "role", allowed, |role| match role {
        "" => format!("role missing (one of: {})", allowed.join(", ")),
        other => format!("unknown {shown}role {}", model::quote(other)),
    })
}

/// Table tests of mechanisms: (mechanism, configuration, start of the message; empty where it is right).
#[cfg(test)]
pub(super) fn check_table(table: &[(&str, &str, &str)]) {
    for (name, text, expected) in table {
        let mechanism = Mechanism::of_key(&format!("{name}_sd_configs")).unwrap_or_else(|| panic!("no {name}"));
        let node = yaml::Node::parse(text).unwrap();
        let message = mechanism.read(&node, &Base::default()).map_or_else(|e| e.message, |_| String::new());
        assert!(
            message.starts_with(expected) && message.is_empty() == expected.is_empty(),
            "{name}: {text}\n{message}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_mechanisms() {
        for (key, known) in
            [("consul_sd_configs", true), ("vultr_sd_configs", true), ("consul", false), ("consult_sd_configs", false)]
        {
            assert_eq!(Mechanism::of_key(key).is_some(), known, "{key}");
        }
    }
}
