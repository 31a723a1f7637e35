use common::http::client::HttpClientConfig;
use model::{Duration, NameValidation};
use serde::Deserialize;

use super::discovery::DiscoveryConfig;
use super::sigv4::SigV4;
use super::{Base, http_client, relabel_rules};
use crate::relabel::RelabelRule;

/// The `alerting` section: where alerts go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerting {
    /// Rules for the labels of every alert.
    pub alert_relabel_configs: Vec<RelabelRule>,
    /// Alertmanagers, by discovery.
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

/// One set of Alertmanagers.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertmanagerConfig {
    /// How requests are made.
    pub http_client: HttpClientConfig,
    /// Where their addresses come from.
    pub discovery: Vec<DiscoveryConfig>,
    /// `http` or `https`.
    pub scheme: String,
    /// Path before `/api/v2/alerts`.
    pub path_prefix: String,
    /// Time a request may take.
    pub timeout: Duration,
    /// How requests are signed for Amazon, if they are.
    pub sigv4: Option<SigV4>,
    /// Rules for the addresses.
    pub relabel_configs: Vec<RelabelRule>,
    /// Rules for the labels of alerts sent to this set.
    pub alert_relabel_configs: Vec<RelabelRule>,
}

#[derive(Deserialize)]
#[serde(default, rename = "config.plain")]
struct Written {
    scheme: String,
    path_prefix: String,
    timeout: Duration,
    api_version: String,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            scheme: "http".into(),
            path_prefix: String::new(),
            timeout: Duration::from_secs(10),
            api_version: "v2".into(),
        }
    }
}

impl Alerting {
    pub(super) fn read(node: &yaml::Node, base: &Base) -> Result<Self, yaml::Error> {
        let (known, rest) = node.split(|key| key == "alert_relabel_configs" || key == "alertmanagers")?;
        if let yaml::Kind::Mapping(entries) = &rest.kind
            && let Some((key, _)) = entries.first()
        {
            return Err(key.error(format!("field {} not found in type config.plain", key.as_str().unwrap_or_default())));
        }
        let names = NameValidation::Utf8;
        let alertmanagers = match known.get("alertmanagers").map(|n| &n.kind) {
            Some(yaml::Kind::Sequence(items)) => {
                items.iter().map(|item| AlertmanagerConfig::read(item, base)).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        Ok(Self {
            alert_relabel_configs: relabel_rules(&known, "alert_relabel_configs", names, "alert relabeling rule")?,
            alertmanagers,
        })
    }
}

impl AlertmanagerConfig {
    fn read(node: &yaml::Node, base: &Base) -> Result<Self, yaml::Error> {
        let (discovery, rest) = node.split(|key| key == "static_configs" || key.ends_with("_sd_configs"))?;
        let (relabelling, rest) = rest.split(|key| key == "relabel_configs" || key == "alert_relabel_configs")?;
        let (signing, rest) = rest.split(|key| key == "sigv4")?;
        let sigv4 = signing.get("sigv4").filter(|n| !n.is_null());
        let sigv4 = sigv4.map(|node| SigV4::read(node, base)).transpose()?;
        let (http_client, rest) = http_client::split(&rest, base)?;
        let other =
            http_client.basic_auth.is_some() || http_client.authorization.is_some() || http_client.oauth2.is_some();
        if other && sigv4.is_some() {
            return Err(node.error("at most one of basic_auth, authorization, oauth2, & sigv4 must be configured"));
        }
        let w: Written = rest.read()?;
        if w.api_version != "v2" {
            return Err(
                node.error(format!("expected Alertmanager api version to be one of [v2] but got {}", w.api_version))
            );
        }
        let names = NameValidation::Utf8;
        Ok(Self {
            http_client,
            discovery: DiscoveryConfig::read_all(&discovery, base)?,
            scheme: w.scheme,
            path_prefix: w.path_prefix,
            timeout: w.timeout,
            sigv4,
            relabel_configs: relabel_rules(
                &relabelling,
                "relabel_configs",
                names,
                "Alertmanager target relabeling rule",
            )?,
            alert_relabel_configs: relabel_rules(
                &relabelling,
                "alert_relabel_configs",
                names,
                "Alertmanager alert relabeling rule",
            )?,
        })
    }
}
