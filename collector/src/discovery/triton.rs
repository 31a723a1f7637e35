//! `triton_sd_configs`: the containers and compute nodes of Joyent's Triton, by its container monitor.

use serde_json::Value;
use url::Url;

use super::api::{Api, parse_url, with_query};
use super::json::{list_in, string, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_triton_";

/// Lists what its role says.
pub(super) struct Triton {
    api: Api,
    url: Url,
    nodes: bool,
    suffix: String,
    port: i64,
}

impl Triton {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let server = format!("https://{}:{}", settings.text("endpoint"), settings.int("port"));
        Self::at(&server, settings)
    }

    fn at(server: &str, settings: &Settings) -> Result<Self, String> {
        let nodes = settings.text("role") == "cn";
        let path = if nodes { "gz/discover" } else { "discover" };
        let mut url = parse_url(&format!("{server}/v{}/{path}", settings.int("version")))?;
        let groups = settings.texts("groups").join(",");
        if !groups.is_empty() {
            url = with_query(&url, [("groups", groups.as_str())]);
        }
        let suffix = settings.text("dns_suffix").to_owned();
        Ok(Self { api: Api::new(settings)?, url, nodes, suffix, port: settings.int("port") })
    }

    fn target(&self, entry: &Value) -> model::Labels {
        let mut target = Target::new(PREFIX);
        let id = if self.nodes {
            target.from("machine_alias", &entry["server_hostname"]);
            string(&entry["server_uuid"])
        } else {
            target.from("machine_alias", &entry["vm_alias"]).from("machine_brand", &entry["vm_brand"]);
            target.from("machine_image", &entry["vm_image_uuid"]).from("server_id", &entry["server_uuid"]);
            target.set("groups", surrounded(strings(&entry["groups"]), ","));
            string(&entry["vm_uuid"])
        };
        target.set("machine_id", id).plain("__address__", format!("{id}.{}:{}", self.suffix, self.port)).build()
    }
}

impl Source for Triton {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let answer = self.api.get(&self.url).await;
        let answer = answer
            .map_err(|e| format!("an error occurred when requesting targets from the discovery endpoint: {e}"))?;
        let entries = list_in(&answer, if self.nodes { "cns" } else { "containers" })?;
        Ok(vec![group(self.url.as_str(), entries.iter().map(|entry| self.target(entry)).collect())])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn containers_and_nodes_become_targets() {
        let container = json!({"server_uuid": "s", "vm_alias": "web", "vm_brand": "lx", "vm_image_uuid": "img", "vm_uuid": "u1", "groups": ["a", "b"]});
        let stub = Stub::start([
            ("/v1/discover?groups=a%2Cb", json!({"containers": [container, {"vm_uuid": "u2"}]})),
            ("/v1/gz/discover", json!({"cns": [{"server_uuid": "n1", "server_hostname": "host"}]})),
        ])
        .await;
        let server = format!("http://{}", stub.address);
        for (text, expected) in [
            (
                "{account: a, dns_suffix: cmon.x, endpoint: e, groups: [a, b]}",
                "u1.cmon.x:9163 machine_id=u1 machine_alias=web machine_brand=lx machine_image=img server_id=s groups=,a,b,
                 u2.cmon.x:9163 machine_id=u2",
            ),
            ("{account: a, dns_suffix: cmon.x, endpoint: e, role: cn, port: 9}", "n1.cmon.x:9 machine_id=n1 machine_alias=host"),
        ] {
            let mut triton = Triton::at(&server, &settings("triton", text, None)).unwrap();
            check(&triton.refresh().await.unwrap(), PREFIX, expected);
        }
    }

    #[test]
    fn the_monitor_is_asked_over_tls() {
        let settings = settings("triton", "{account: a, dns_suffix: x, endpoint: cmon.x, version: 2}", None);
        assert_eq!(Triton::new(&settings).unwrap().url.as_str(), "https://cmon.x:9163/v2/discover");
    }
}
