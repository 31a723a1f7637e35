//! `linode_sd_configs`: Linode's virtual machines.

use std::collections::BTreeMap;

use http::header::HeaderValue;
use model::Labels;
use reqwest::{Method, Request};
use serde_json::{Value, json};
use url::Url;

use super::DiscoveryMetrics;
use super::api::{Api, MAX_PAGES, parse_url, with_path, with_query};
use super::json::{list_in, string, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};
use crate::scrape::Counter;

const PREFIX: &str = "__meta_linode_";
const SERVER: &str = "https://api.linode.com";

/// Lists instances with their addresses.
pub(super) struct Linode {
    api: Api,
    base: Url,
    region: String,
    separator: String,
    port: i64,
}

impl Linode {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::at(SERVER, settings)
    }

    fn at(server: &str, settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            api: Api::new(settings)?,
            base: parse_url(server)?,
            region: settings.text("region").to_owned(),
            separator: settings.text("tag_separator").to_owned(),
            port: settings.int("port"),
        })
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for page in 1..=MAX_PAGES {
            let number = page.to_string();
            let url = with_query(&with_path(&self.base, path), [("page", number.as_str()), ("page_size", "500")]);
            let mut request = Request::new(Method::GET, url);
            if !self.region.is_empty() {
                let filter = json!({"region": self.region}).to_string();
                let filter = HeaderValue::from_str(&filter).map_err(|_| "the region is no word".to_owned())?;
                request.headers_mut().insert("x-filter", filter);
            }
            let answer = self.api.json(request).await?;
            found.extend_from_slice(list_in(&answer, "data")?);
            if answer["pages"].as_u64().unwrap_or(0) <= page as u64 {
                return Ok(found);
            }
        }
        Err(format!("{path}: the list has no end"))
    }

    fn target(&self, instance: &Value, addresses: &BTreeMap<&str, &Value>, ranges: &[Value]) -> Option<Labels> {
        let known = |ip: &str| addresses.get(ip).copied();
        let mut own = strings(&instance["ipv4"]).peekable();
        own.peek()?;
        let (mut public, mut private, mut extra) = (&Value::Null, &Value::Null, Vec::new());
        for address in own.filter_map(known) {
            if address["public"] == true && public.is_null() {
                public = address;
            } else if address["public"] != true && private.is_null() {
                private = address;
            } else {
                extra.push(string(&address["address"]));
            }
        }
        let ipv6 = string(&instance["ipv6"]).split('/').next().and_then(known).unwrap_or(&Value::Null);
        let routed = |range: &&Value| !ipv6.is_null() && range["route_target"] == ipv6["address"];
        let ranges = ranges
            .iter()
            .filter(routed)
            .map(|range| format!("{}/{}", string(&range["range"]), range["prefix"].as_u64().unwrap_or(0)));
        let mut target = Target::new(PREFIX);
        target.address(string(&public["address"]), self.port);
        target.from("instance_id", &instance["id"]).from("instance_label", &instance["label"]);
        for (name, address) in [("private_ipv4", private), ("public_ipv4", public), ("public_ipv6", ipv6)] {
            let reverse = string(&address["rdns"]);
            target.from(name, &address["address"]);
            target.set(&format!("{name}_rdns"), if reverse == "null" { "" } else { reverse });
        }
        for name in ["image", "region", "type", "status", "group", "hypervisor"] {
            target.from(name, &instance[name]);
        }
        let specs = &instance["specs"];
        let number = |name: &str| specs[name].as_i64().unwrap_or(0);
        target.set("backups", if instance["backups"]["enabled"] == true { "enabled" } else { "disabled" });
        target.set("gpus", number("gpus")).set("specs_vcpus", number("vcpus"));
        for name in ["disk", "memory", "transfer"] {
            target.set(&format!("specs_{name}_bytes"), number(name).saturating_mul(1 << 20));
        }
        target.set("tags", surrounded(strings(&instance["tags"]), &self.separator));
        target
            .set("extra_ips", surrounded(extra, &self.separator))
            .set("ipv6_ranges", surrounded(ranges, &self.separator));
        Some(target.build())
    }
}

impl Source for Linode {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let instances = self.list("v4/linode/instances").await?;
        let addresses = self.list("v4/networking/ips").await?;
        let ranges = self.list("v4/networking/ipv6/ranges").await?;
        let addresses: BTreeMap<&str, &Value> = addresses.iter().map(|a| (string(&a["address"]), a)).collect();
        let targets = instances.iter().filter_map(|instance| self.target(instance, &addresses, &ranges)).collect();
        Ok(vec![group("Linode", targets)])
    }

    fn failures(metrics: &DiscoveryMetrics) -> Option<&Counter> {
        Some(&metrics.linode_failures)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn instances_become_targets() {
        let instance = json!({"id": 1, "label": "web", "region": "eu", "type": "g6", "status": "running", "image": "linode/debian12", "group": "", "hypervisor": "kvm",
            "ipv4": ["1.1.1.1", "192.168.0.1", "1.1.1.2"], "ipv6": "fd00::1/128", "tags": ["a"], "backups": {"enabled": false},
            "specs": {"disk": 2, "memory": 1, "vcpus": 1, "gpus": 0, "transfer": 3}});
        let stub = Stub::start([
            ("/v4/linode/instances?page=1&page_size=500", json!({"data": [instance], "pages": 2})),
            ("/v4/linode/instances?page=2&page_size=500", json!({"data": [{"id": 2, "ipv4": []}], "pages": 2})),
            ("/v4/networking/ips", json!({"pages": 1, "data": [{"address": "1.1.1.1", "public": true, "rdns": "a.b"}, {"address": "1.1.1.2", "public": true},
                {"address": "192.168.0.1", "public": false, "rdns": "null"}, {"address": "fd00::1", "public": true, "rdns": null}]})),
            ("/v4/networking/ipv6/ranges", json!({"pages": 1, "data": [{"range": "fd01::", "prefix": 64, "route_target": "fd00::1"}, {"range": "fd02::", "prefix": 64}]})),
        ])
        .await;
        let settings = settings("linode", "{region: eu, tag_separator: ';'}", None);
        let groups = Linode::at(&stub.address.to_string(), &settings).unwrap().refresh().await.unwrap();
        check(
            &groups,
            PREFIX,
            "1.1.1.1:80 instance_id=1 instance_label=web private_ipv4=192.168.0.1 public_ipv4=1.1.1.1 public_ipv4_rdns=a.b public_ipv6=fd00::1 image=linode/debian12 region=eu type=g6 status=running hypervisor=kvm backups=disabled gpus=0 specs_vcpus=1 specs_disk_bytes=2097152 specs_memory_bytes=1048576 specs_transfer_bytes=3145728 tags=;a; extra_ips=;1.1.1.2; ipv6_ranges=;fd01::/64;",
        );
        assert!(stub.seen()[0].headers.contains(&r#"x-filter: {"region":"eu"}"#.to_owned()));
    }
}
