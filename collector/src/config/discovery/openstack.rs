//! `openstack_sd_configs`.

use super::super::Base;
use super::super::keys::{Key, Kind, Section, Values, duration, flag, int, text};
use super::mechanisms::{Mechanism, one_of, role};

const OPENSTACK: Section = Section::new(
    "openstack.plain",
    &[
        text("identity_endpoint"),
        text("username"),
        text("userid"),
        text("password"),
        text("project_name"),
        text("project_id"),
        text("domain_name"),
        text("domain_id"),
        text("application_credential_name"),
        text("application_credential_id"),
        text("application_credential_secret"),
        text("role"),
        text("region"),
        duration("refresh_interval", "1m"),
        int("port", "80"),
        flag("all_tenants"),
        Key::new("tls_config", Kind::Tls),
        text("availability").or("public"),
    ],
);

pub(super) const MECHANISMS: [Mechanism; 1] = [Mechanism::new("openstack", &OPENSTACK, check)];

fn check(openstack: &Values<'_>, _: &Base) -> Result<(), yaml::Error> {
    one_of(openstack, "availability", &["admin", "internal", "public"], |other| {
        format!("unknown availability {other}, must be one of admin, internal or public")
    })?;
    role(openstack, "OpenStack SD ", &["instance", "hypervisor", "loadbalancer"])
}

#[cfg(test)]
mod tests {
    use super::super::mechanisms::check_table;

    #[test]
    fn faults_are_named() {
        check_table(&[
            ("openstack", "{role: loadbalancer, availability: admin, tls_config: {ca_file: a}}", ""),
            ("openstack", "availability: x", "unknown availability x, must be one of admin, internal or public"),
            ("openstack", "region: x", "role missing (one of: instance, hypervisor, loadbalancer)"),
            ("openstack", "role: x", "unknown OpenStack SD role \"x\""),
            ("openstack", "{role: instance, bearer_token: x}", "field bearer_token not found in type openstack.plain"),
        ]);
    }
}
