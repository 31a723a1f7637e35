//! `nomad_sd_configs`: the services that Nomad knows.

use model::Labels;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::Url;

use super::DiscoveryMetrics;
use super::api::{Api, parse_url, with_path, with_query};
use super::json::{items, list, string, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};
use crate::scrape::Counter;

const PREFIX: &str = "__meta_nomad_";

/// Lists the instances of services.
pub(super) struct Nomad {
    api: Api,
    base: Url,
    query: Vec<(&'static str, String)>,
    separator: String,
}

impl Nomad {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let mut query =
            vec![("namespace", settings.text("namespace").to_owned()), ("region", settings.text("region").to_owned())];
        query.retain(|(_, value)| !value.is_empty());
        if settings.flag("allow_stale") {
            query.push(("stale", String::new()));
        }
        let separator = settings.text("tag_separator").to_owned();
        Ok(Self { api: Api::new(settings)?, base: parse_url(settings.text("server"))?, query, separator })
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let query = self.query.iter().map(|(name, value)| (*name, value.as_str()));
        self.api.get(&with_query(&with_path(&self.base, path), query)).await
    }

    fn target(&self, instance: &Value) -> Labels {
        let (host, port) = (string(&instance["Address"]), instance["Port"].as_i64().unwrap_or(0));
        let mut target = Target::new(PREFIX);
        target.address(host, port).set("address", host).set("service_address", host).set("service_port", port);
        target.from("dc", &instance["Datacenter"]).from("namespace", &instance["Namespace"]);
        target.from("node_id", &instance["NodeID"]).from("service_id", &instance["ID"]);
        target.from("service", &instance["ServiceName"]);
        target.set("tags", surrounded(strings(&instance["Tags"]), &self.separator));
        target.build()
    }
}

impl Source for Nomad {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let answer = self.get("v1/services").await?;
        let mut targets = Vec::new();
        for service in list(&answer, "services")?.iter().flat_map(|entry| items(&entry["Services"])) {
            let name = utf8_percent_encode(string(&service["ServiceName"]), NON_ALPHANUMERIC).to_string();
            let instances = self.get(&format!("v1/service/{name}")).await;
            let instances = instances.map_err(|e| format!("failed to fetch services: {e}"))?;
            targets.extend(list(&instances, "instances")?.iter().map(|instance| self.target(instance)));
        }
        Ok(vec![group("Nomad", targets)])
    }

    fn failures(metrics: &DiscoveryMetrics) -> Option<&Counter> {
        Some(&metrics.nomad_failures)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn instances_become_targets() {
        let instance = json!({"ID": "i", "ServiceName": "a/b", "Namespace": "default", "NodeID": "n", "Datacenter": "dc1", "Tags": ["x", "y"], "Address": "fd00::1", "Port": 30456});
        let stub = Stub::start([
            (
                "/v1/services?namespace=default&region=global&stale=",
                json!([{"Namespace": "default", "Services": [{"ServiceName": "a/b", "Tags": []}]}]),
            ),
            (
                "/v1/service/a%2Fb?namespace=default&region=global&stale=",
                json!([instance, {"Address": "h", "Port": 1}]),
            ),
        ])
        .await;
        let groups =
            Nomad::new(&settings("nomad", "server: http://SERVER", Some(&stub))).unwrap().refresh().await.unwrap();
        check(
            &groups,
            PREFIX,
            "[fd00::1]:30456 address=fd00::1 service_address=fd00::1 service_port=30456 dc=dc1 namespace=default node_id=n service_id=i service=a/b tags=,x,y,
             h:1 address=h service_address=h service_port=1",
        );
    }
}
