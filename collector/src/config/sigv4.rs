//! Signing requests for Amazon: the section `sigv4`.

use common::http::client::AwsSettings;
use common::secret::Secret;

use super::Base;
use super::keys::{Section, Settings, flag, text};

/// Service that requests are signed for unless the section names one: Amazon's Prometheus.
const DEFAULT_SERVICE: &str = "aps";

pub(super) const SECTION: Section = Section::new(
    "sigv4.plain",
    &[
        text("region"),
        text("access_key"),
        text("secret_key"),
        text("profile"),
        text("role_arn"),
        text("external_id"),
        flag("use_fips_sts_endpoint"),
        text("service_name").or(DEFAULT_SERVICE),
    ],
);

/// How requests are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigV4 {
    /// Who signs.
    pub settings: AwsSettings,
    /// The service that the signature is for.
    pub service: String,
}

impl SigV4 {
    /// Reads the section.
    pub(super) fn read(node: &yaml::Node, base: &Base) -> Result<Self, yaml::Error> {
        let section = SECTION.read(node, base)?;
        if section.has("access_key") != section.has("secret_key") {
            return section.fault(
                "access_key",
                "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config",
            );
        }
        let service = if section.has("service_name") { section.text("service_name") } else { DEFAULT_SERVICE };
        Ok(Self { settings: section.aws(), service: service.to_owned() })
    }
}

impl Settings {
    /// Who signs for Amazon, by the keys that all sections about that have in common; of those a section lacks, nothing is set.
    pub(crate) fn aws(&self) -> AwsSettings {
        let text = |key| self.text(key).to_owned();
        AwsSettings {
            region: text("region"),
            access_key: text("access_key"),
            secret_key: Secret::new(text("secret_key")),
            profile: text("profile"),
            role_arn: text("role_arn"),
            external_id: text("external_id"),
            fips_token_service: self.flag("use_fips_sts_endpoint"),
        }
    }
}
