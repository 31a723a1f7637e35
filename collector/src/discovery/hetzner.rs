//! `hetzner_sd_configs`: Hetzner's cloud servers, and the dedicated ones that its Robot knows.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use model::Labels;
use serde_json::Value;
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, with_path, with_query};
use super::json::{items, list, list_in, string, text};
use super::refresh::Source;
use super::target::{Target, group};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_hetzner_";
const CLOUD: &str = "https://api.hetzner.cloud";
const ROBOT: &str = "https://robot-ws.your-server.de";

/// Lists servers.
pub(super) struct Hetzner {
    api: Api,
    base: Url,
    robot: bool,
    label_selector: String,
    port: i64,
}

impl Hetzner {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::at(if settings.text("role") == "robot" { ROBOT } else { CLOUD }, settings)
    }

    fn at(server: &str, settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            api: Api::new(settings)?,
            base: parse_url(server)?,
            robot: settings.text("role") == "robot",
            label_selector: settings.text("label_selector").to_owned(),
            port: settings.int("port"),
        })
    }

    async fn list(&self, path: &str, key: &str, selector: &str) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        let mut page = 1;
        for _ in 0..MAX_PAGES {
            let number = page.to_string();
            let mut query = vec![("page", number.as_str()), ("per_page", "50")];
            if !selector.is_empty() {
                query.push(("label_selector", selector));
            }
            let answer = self.api.get(&with_query(&with_path(&self.base, path), query)).await?;
            found.extend_from_slice(list_in(&answer, key)?);
            match answer["meta"]["pagination"]["next_page"].as_u64() {
                Some(next) if next > page => page = next,
                _ => return Ok(found),
            }
        }
        Err(format!("the list of {key} has no end"))
    }

    async fn cloud(&self) -> Result<Vec<Labels>, String> {
        let servers = self.list("v1/servers", "servers", &self.label_selector).await?;
        let networks = self.list("v1/networks", "networks", "").await?;
        let networks: BTreeMap<u64, &str> =
            networks.iter().map(|network| (network["id"].as_u64().unwrap_or(0), string(&network["name"]))).collect();
        Ok(servers.iter().map(|server| self.cloud_target(server, &networks)).collect())
    }

    fn cloud_target(&self, server: &Value, networks: &BTreeMap<u64, &str>) -> Labels {
        let (kind, image, public) = (&server["server_type"], &server["image"], &server["public_net"]);
        let location =
            if server["location"].is_object() { &server["location"] } else { &server["datacenter"]["location"] };
        let ip = string(&public["ipv4"]["ip"]);
        let mut target = Target::new(PREFIX);
        target.address(ip, self.port).set("role", "hcloud").set("public_ipv4", ip);
        target.from("server_id", &server["id"]).from("server_name", &server["name"]);
        target.from("server_status", &server["status"]).from("datacenter", &server["datacenter"]["name"]);
        target.from("public_ipv6_network", &public["ipv6"]["ip"]);
        for start in ["hcloud_location", "hcloud_datacenter_location"] {
            target.from(start, &location["name"]).from(&format!("{start}_network_zone"), &location["network_zone"]);
        }
        target.from("hcloud_server_type", &kind["name"]).from("hcloud_cpu_cores", &kind["cores"]);
        target.from("hcloud_cpu_type", &kind["cpu_type"]).from("hcloud_disk_size_gb", &kind["disk"]);
        target.set("hcloud_memory_size_gb", kind["memory"].as_f64().unwrap_or(0.0) as i64);
        target.from("hcloud_image_name", &image["name"]).from("hcloud_image_description", &image["description"]);
        target
            .from("hcloud_image_os_flavor", &image["os_flavor"])
            .from("hcloud_image_os_version", &image["os_version"]);
        for private in items(&server["private_net"]) {
            if let Some(name) = private["network"].as_u64().and_then(|id| networks.get(&id)) {
                target.named("hcloud_private_ipv4_", name, text(&private["ip"]));
            }
        }
        let labels = server["labels"].as_object().into_iter().flatten();
        target.each_present(
            "hcloud_label_",
            "hcloud_labelpresent_",
            labels.map(|(name, value)| (name.as_str(), string(value))),
        );
        target.build()
    }

    fn robot_target(&self, server: &Value) -> Labels {
        let ip = string(&server["server_ip"]);
        let mut target = Target::new(PREFIX);
        target.address(ip, self.port).set("role", "robot").set("public_ipv4", ip);
        target.from("server_id", &server["server_number"]).from("server_name", &server["server_name"]);
        target.from("server_status", &server["status"]).from("robot_product", &server["product"]);
        target.set("robot_cancelled", server["cancelled"] == true);
        let datacenter = string(&server["dc"]).to_lowercase();
        target.set("datacenter", &datacenter).set("robot_datacenter", &datacenter);
        let mut subnets = items(&server["subnet"]);
        if let Some(subnet) = subnets.find(|subnet| string(&subnet["ip"]).parse::<Ipv6Addr>().is_ok()) {
            target.set("public_ipv6_network", format!("{}/{}", text(&subnet["ip"]), text(&subnet["mask"])));
        }
        target.build()
    }
}

impl Source for Hetzner {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let targets = if self.robot {
            let answer = self.api.get(&with_path(&self.base, "server")).await?;
            list(&answer, "servers")?.iter().map(|entry| self.robot_target(&entry["server"])).collect()
        } else {
            self.cloud().await?
        };
        Ok(vec![group("hetzner", targets)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    fn at(stub: &Stub, text: &str) -> Hetzner {
        Hetzner::at(&stub.address.to_string(), &settings("hetzner", text, None)).unwrap()
    }

    #[tokio::test]
    async fn cloud_servers_become_targets() {
        let server = json!({"id": 42, "name": "web", "status": "running", "public_net": {"ipv4": {"ip": "1.2.3.4"}, "ipv6": {"ip": "2001:db8::/64"}},
            "private_net": [{"network": 4711, "ip": "10.0.0.2"}, {"network": 1, "ip": "10.9.9.9"}], "labels": {"my.key": "v", "empty": ""},
            "server_type": {"name": "cx11", "cores": 1, "memory": 2.0, "disk": 25, "cpu_type": "x86"},
            "image": {"name": "ubuntu", "description": "U 20", "os_flavor": "ubuntu", "os_version": "20.04"},
            "datacenter": {"name": "fsn1-dc8", "location": {"name": "fsn1", "network_zone": "eu-central"}}});
        let stub = Stub::start([
            (
                "/v1/servers?page=1&per_page=50&label_selector=a%3Db",
                json!({"servers": [server], "meta": {"pagination": {"next_page": 2}}}),
            ),
            (
                "/v1/servers?page=2&per_page=50&label_selector=a%3Db",
                json!({"servers": [], "meta": {"pagination": {"next_page": null}}}),
            ),
            ("/v1/networks?page=1&per_page=50", json!({"networks": [{"id": 4711, "name": "my-net"}]})),
        ])
        .await;
        check(
            &at(&stub, "{role: hcloud, label_selector: a=b}").refresh().await.unwrap(),
            PREFIX,
            "1.2.3.4:80 role=hcloud public_ipv4=1.2.3.4 server_id=42 server_name=web server_status=running datacenter=fsn1-dc8 public_ipv6_network=2001:db8::/64 hcloud_location=fsn1 hcloud_location_network_zone=eu-central hcloud_datacenter_location=fsn1 hcloud_datacenter_location_network_zone=eu-central hcloud_server_type=cx11 hcloud_cpu_cores=1 hcloud_cpu_type=x86 hcloud_disk_size_gb=25 hcloud_memory_size_gb=2 hcloud_image_name=ubuntu 'hcloud_image_description=U 20' hcloud_image_os_flavor=ubuntu hcloud_image_os_version=20.04 hcloud_private_ipv4_my_net=10.0.0.2 hcloud_label_my_key=v hcloud_labelpresent_my_key=true hcloud_labelpresent_empty=true",
        );
    }

    #[tokio::test]
    async fn dedicated_servers_become_targets() {
        let server = json!({"server_ip": "1.1.1.1", "server_number": 321, "server_name": "s1", "product": "DS 3000", "dc": "NBG1-DC1", "status": "ready",
            "cancelled": false, "subnet": [{"ip": "1.1.1.0", "mask": "24"}, {"ip": "2a01:4f8::", "mask": "64"}]});
        let stub = Stub::start([("/server", json!([{"server": server}]))]).await;
        check(
            &at(&stub, "{role: robot, basic_auth: {username: u, password: p}}").refresh().await.unwrap(),
            PREFIX,
            "1.1.1.1:80 role=robot public_ipv4=1.1.1.1 server_id=321 server_name=s1 server_status=ready 'robot_product=DS 3000' robot_cancelled=false datacenter=nbg1-dc1 robot_datacenter=nbg1-dc1 public_ipv6_network=2a01:4f8::/64",
        );
        stub.json("/server", json!({"error": {"status": 401}}));
        assert!(at(&stub, "role: robot").refresh().await.is_err());
    }
}
