//! Amazon's services: one mechanism each, and `aws`, which is all of them by role.

use super::super::Base;
use super::super::keys::{Key, Kind, Section, Values, duration, int, text, texts};
use super::mechanisms::{Mechanism, keys_only, one_of};

/// The keys of every service, then its own.
macro_rules! service {
    ($($own:expr),* $(,)?) => {
        Section::new("aws.plain", &[
            text("endpoint"), text("region"), text("access_key"), text("secret_key"), text("profile"),
            text("role_arn"), text("external_id"), $($own),*
        ]).with_http_client()
    };
}

const FILTERS: Key = Key::new("filters", Kind::Objects(&FILTER));
const FILTER: Section = Section::new("aws.EC2Filter", &[text("name"), texts("values")]);
const REFRESH: Key = duration("refresh_interval", "1m");
const PORT: Key = int("port", "80");

const AWS: Section =
    service!(text("role"), duration("refresh_interval", "0s"), int("port", "0"), FILTERS, texts("clusters"));
const EC2: Section = service!(REFRESH, PORT, FILTERS);
const LIGHTSAIL: Section = service!(REFRESH, PORT);
const ECS: Section = service!(REFRESH, PORT, texts("clusters"), int("request_concurrency", "20"));
const CLUSTERS: Section = service!(REFRESH, PORT, texts("clusters"), int("request_concurrency", "10"));
const RDS: Section = service!(REFRESH, PORT, texts("clusters"), FILTERS, int("request_concurrency", "10"));

pub(super) const MECHANISMS: [Mechanism; 7] = [
    Mechanism::new("aws", &AWS, check_role),
    Mechanism::new("ec2", &EC2, check_ec2),
    Mechanism::new("ecs", &ECS, keys_only),
    Mechanism::new("elasticache", &CLUSTERS, keys_only),
    Mechanism::new("lightsail", &LIGHTSAIL, keys_only),
    Mechanism::new("msk", &CLUSTERS, keys_only),
    Mechanism::new("rds", &RDS, |rds, base| check_filters(rds, base, "RDS")),
];

fn check_role(aws: &Values<'_>, base: &Base) -> Result<(), yaml::Error> {
    one_of(aws, "role", &["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"], |role| {
        format!("unknown AWS SD role {}", model::quote(role))
    })?;
    check_filters(aws, base, "EC2")
}

fn check_ec2(ec2: &Values<'_>, base: &Base) -> Result<(), yaml::Error> {
    check_filters(ec2, base, "EC2")
}

fn check_filters(values: &Values<'_>, base: &Base, service: &str) -> Result<(), yaml::Error> {
    for item in values.items("filters") {
        let filter = FILTER.read(item, base)?;
        if filter.texts("values").is_empty() {
            return filter.fault("values", format!("{service} SD configuration filter values cannot be empty"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::mechanisms::check_table;

    #[test]
    fn faults_are_named() {
        check_table(&[
            ("ec2", "{region: r, filters: [{name: a, values: [b]}]}", ""),
            ("ec2", "filters: [{name: a}]", "EC2 SD configuration filter values cannot be empty"),
            ("ec2", "clusters: [a]", "field clusters not found in type aws.plain"),
            ("ec2", "filters: [{nope: a}]", "field nope not found in type aws.EC2Filter"),
            ("ecs", "{clusters: [a], request_concurrency: 3}", ""),
            ("lightsail", "{bearer_token: a, bearer_token_file: b}", "at most one of bearer_token"),
            ("aws", "{role: msk, region: r}", ""),
            ("aws", "region: r", "unknown AWS SD role \"\""),
            ("rds", "filters: [{name: a, values: []}]", "RDS SD configuration filter values cannot be empty"),
            ("elasticache", "port: x", "cannot unmarshal `x` into an integer"),
        ]);
    }
}
