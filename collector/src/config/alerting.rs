use common::http::client::HttpClientConfig;
use model::{Duration, NameValidation};
use serde::Deserialize;

use super::discovery::DiscoveryConfig;
use super::{Base, http_client, relabel_rules, remote_credentials};
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
    /// Whether requests are to be signed for Amazon, which this version cannot do.
    pub sigv4: bool,
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
        if let Some(sigv4) = sigv4 {
            remote_credentials::check_sigv4(sigv4, base)?;
        }
        let (http_client, rest) = http_client::split(&rest, base)?;
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
            sigv4: sigv4.is_some(),
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
