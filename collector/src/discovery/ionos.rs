//! `ionos_sd_configs`: the servers of a data centre of IONOS.

use std::collections::BTreeMap;

use model::Labels;
use serde_json::Value;
use url::Url;

use super::api::{Api, parse_url, with_path, with_query};
use super::json::{items, list_in, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_ionos_server_";
const SERVER: &str = "https://api.ionos.com/cloudapi/v6";

/// Lists servers.
pub(super) struct Ionos {
    api: Api,
    url: Url,
    port: i64,
}

impl Ionos {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::at(SERVER, settings)
    }

    fn at(server: &str, settings: &Settings) -> Result<Self, String> {
        let path = format!("datacenters/{}/servers", settings.text("datacenter_id"));
        let url = with_query(&with_path(&parse_url(server)?, &path), [("depth", "3")]);
        Ok(Self { api: Api::new(settings)?, url, port: settings.int("port") })
    }

    fn target(&self, server: &Value, list_id: &Value) -> Option<Labels> {
        let (properties, entities) = (&server["properties"], &server["entities"]);
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut ips: Vec<&str> = Vec::new();
        for interface in items(&entities["nics"]["items"]) {
            let properties = &interface["properties"];
            let name = properties["name"].as_str().unwrap_or("unnamed");
            // what comes later stands before, as upstream has it
            ips.splice(0..0, strings(&properties["ips"]));
            by_name.entry(name).or_default().splice(0..0, strings(&properties["ips"]));
        }
        let mut target = Target::new(PREFIX);
        target.address(ips.first()?, self.port).set("ip", surrounded(&ips, ","));
        target.from("availability_zone", &properties["availabilityZone"]).from("cpu_family", &properties["cpuFamily"]);
        target.from("servers_id", list_id).from("id", &server["id"]).from("lifecycle", &server["metadata"]["state"]);
        target
            .from("name", &properties["name"])
            .from("state", &properties["vmState"])
            .from("type", &properties["type"]);
        target.from("boot_cdrom_id", &properties["bootCdrom"]["id"]);
        target.from("boot_volume_id", &properties["bootVolume"]["id"]);
        target.from("boot_image_id", &entities["volumes"]["items"][0]["properties"]["image"]);
        for (name, ips) in by_name {
            target.named("nic_ip_", name, surrounded(ips, ","));
        }
        Some(target.build())
    }
}

impl Source for Ionos {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let answer = self.api.get(&self.url).await?;
        let servers = list_in(&answer, "items")?;
        Ok(vec![group("ionos", servers.iter().filter_map(|server| self.target(server, &answer["id"])).collect())])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn servers_become_targets() {
        let server = json!({"id": "s1", "metadata": {"state": "AVAILABLE"}, "properties": {"name": "web", "availabilityZone": "ZONE_1", "cpuFamily": "INTEL", "vmState": "RUNNING", "type": "CUBE",
            "bootVolume": {"id": "vol"}, "bootCdrom": {"id": "cd"}}, "entities": {"volumes": {"items": [{"properties": {"image": "img"}}]},
            "nics": {"items": [{"properties": {"name": "eth 0", "ips": ["1.1.1.1", "1.1.1.2"]}}, {"properties": {"ips": ["10.0.0.1"]}}]}}});
        let stub = Stub::start([(
            "/datacenters/dc/servers?depth=3",
            json!({"id": "dc/servers", "items": [server, {"id": "s2"}]}),
        )])
        .await;
        let settings = settings("ionos", "{datacenter_id: dc, bearer_token: t}", None);
        check(
            &Ionos::at(&stub.address.to_string(), &settings).unwrap().refresh().await.unwrap(),
            PREFIX,
            "10.0.0.1:80 ip=,10.0.0.1,1.1.1.1,1.1.1.2, availability_zone=ZONE_1 cpu_family=INTEL servers_id=dc/servers id=s1 lifecycle=AVAILABLE name=web state=RUNNING type=CUBE boot_cdrom_id=cd boot_volume_id=vol boot_image_id=img nic_ip_eth_0=,1.1.1.1,1.1.1.2, nic_ip_unnamed=,10.0.0.1,",
        );
    }
}
