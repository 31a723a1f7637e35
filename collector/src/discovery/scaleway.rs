//! `scaleway_sd_configs`: Scaleway's instances and bare-metal servers.

use std::collections::BTreeMap;

use model::Labels;
use reqwest::{Method, Request};
use serde_json::Value;
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, secret, set_secret, with_path, with_query};
use super::json::{items, list_in, string, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};

/// Servers of a page.
const PAGE: usize = 100;

/// Lists the servers of a zone.
pub(super) struct Scaleway {
    api: Api,
    base: Url,
    settings: Settings,
}

impl Scaleway {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self { api: Api::new(settings)?, base: parse_url(settings.text("api_url"))?, settings: settings.clone() })
    }

    async fn list(&self, product: &str, what: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, String> {
        let url = with_path(&self.base, &format!("{product}/v1/zones/{}/{what}", self.settings.text("zone")));
        let mut found = Vec::new();
        for page in 1..=MAX_PAGES {
            let (page, size) = (page.to_string(), PAGE.to_string());
            // the two products call it differently
            let size_name = if product == "instance" { "per_page" } else { "page_size" };
            let paging = [("page", page.as_str()), (size_name, size.as_str())];
            let mut request = Request::new(Method::GET, with_query(&url, query.iter().copied().chain(paging)));
            set_secret(&mut request, "x-auth-token", &secret(&self.settings, "secret_key", "secret_key_file")?)?;
            let answer = self.api.json(request).await?;
            let items = list_in(&answer, what)?;
            found.extend_from_slice(items);
            if items.len() < PAGE {
                return Ok(found);
            }
        }
        Err(format!("the list of {what} has no end"))
    }

    async fn servers(&self, product: &str, project: &str) -> Result<Vec<Value>, String> {
        let tags = self.settings.texts("tags_filter").join(",");
        let mut query = vec![
            (project, self.settings.text("project_id")),
            ("name", self.settings.text("name_filter")),
            ("tags", &tags),
        ];
        query.retain(|(_, value)| !value.is_empty());
        self.list(product, "servers", &query).await
    }

    fn instance(&self, server: &Value) -> Option<Labels> {
        let mut target = Target::new("__meta_scaleway_instance_");
        for (label, key) in [
            ("boot_type", "boot_type"),
            ("hostname", "hostname"),
            ("id", "id"),
            ("name", "name"),
            ("organization_id", "organization"),
            ("project_id", "project"),
            ("status", "state"),
            ("type", "commercial_type"),
            ("zone", "zone"),
        ] {
            target.from(label, &server[key]);
        }
        for (object, keys) in [
            ("image", &["arch", "id", "name"][..]),
            ("location", &["cluster_id", "hypervisor_id", "node_id"]),
            ("security_group", &["id", "name"]),
        ] {
            for key in keys {
                target.from(&format!("{object}_{key}"), &server[object][key]);
            }
        }
        // the region is the zone without its number
        let region = string(&server["zone"]).rsplit_once('-').map_or("", |(region, _)| region);
        target.set("region", region).set("tags", surrounded(strings(&server["tags"]), ","));
        let family = |family: &'static str| {
            items(&server["public_ips"]).filter(move |ip| ip["family"] == family).map(|ip| string(&ip["address"]))
        };
        target.set("public_ipv4_addresses", surrounded(family("inet"), ","));
        target.set("public_ipv6_addresses", surrounded(family("inet6"), ","));
        let (public4, public6) = (string(&server["public_ip"]["address"]), string(&server["ipv6"]["address"]));
        let private = string(&server["private_ip"]);
        target.set("public_ipv4", public4).set("public_ipv6", public6).set("private_ipv4", private);
        let lists = [family("inet").next(), family("inet6").next()].map(Option::unwrap_or_default);
        let address =
            [private, public4, public6, lists[0], lists[1]].into_iter().find(|address| !address.is_empty())?;
        target.address(address, self.settings.int("port"));
        Some(target.build())
    }

    async fn bare_metal(&self) -> Result<Vec<Labels>, String> {
        let servers = self.servers("baremetal", "project_id").await?;
        let by_id = |list: Vec<Value>| -> BTreeMap<String, Value> {
            list.into_iter().map(|entry| (string(&entry["id"]).to_owned(), entry)).collect()
        };
        let offers = by_id(self.list("baremetal", "offers", &[]).await?);
        let systems = by_id(self.list("baremetal", "os", &[]).await?);
        let mut targets = Vec::new();
        for server in &servers {
            let mut target = Target::new("__meta_scaleway_baremetal_");
            for key in ["id", "name", "project_id", "status", "zone"] {
                target.from(key, &server[key]);
            }
            let named = |list: &BTreeMap<String, Value>, id: &Value, key: &str| {
                list.get(string(id)).map_or("", |entry| string(&entry[key])).to_owned()
            };
            target.set("type", named(&offers, &server["offer_id"], "name"));
            let system = &server["install"]["os_id"];
            target
                .set("os_name", named(&systems, system, "name"))
                .set("os_version", named(&systems, system, "version"));
            target.set("tags", surrounded(strings(&server["tags"]), ","));
            let first = |version: &str| {
                items(&server["ips"]).find(|ip| ip["version"] == version).map(|ip| string(&ip["address"]))
            };
            let (ipv4, ipv6) = (first("IPv4"), first("IPv6"));
            target.set("public_ipv4", ipv4.unwrap_or_default()).set("public_ipv6", ipv6.unwrap_or_default());
            if let Some(address) = ipv4.or(ipv6) {
                targets.push(target.address(address, self.settings.int("port")).build());
            }
        }
        Ok(targets)
    }
}

impl Source for Scaleway {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let targets = if self.settings.text("role") == "baremetal" {
            self.bare_metal().await?
        } else {
            let servers = self.servers("instance", "project").await?;
            servers.iter().filter_map(|server| self.instance(server)).collect()
        };
        Ok(vec![group("scaleway", targets)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    const KEYS: &str = "api_url: 'http://SERVER', project_id: p, access_key: a, secret_key: s";

    #[tokio::test]
    async fn instances_become_targets() {
        let server = json!({"id": "i", "name": "web", "hostname": "h", "organization": "o", "project": "p", "state": "running", "boot_type": "local", "commercial_type": "DEV1-S",
            "zone": "fr-par-1", "tags": ["a", "b"], "image": {"arch": "x86_64", "id": "im", "name": "deb"}, "location": {"cluster_id": "40", "hypervisor_id": "1", "node_id": "8"},
            "security_group": {"id": "sg", "name": "Default"}, "public_ip": {"address": "1.1.1.1"}, "ipv6": {"address": "fd00::1"}, "private_ip": "10.0.0.1",
            "public_ips": [{"address": "1.1.1.1", "family": "inet"}, {"address": "fd00::1", "family": "inet6"}]});
        let other = json!({"id": "j", "zone": "nl-ams-1", "public_ips": [{"address": "fd00::2", "family": "inet6"}]});
        let path = "/instance/v1/zones/fr-par-1/servers?project=p&name=n&tags=x%2Cy&page=1&per_page=100";
        let stub = Stub::start([(path, json!({"servers": [server, other, {"id": "none"}]}))]).await;
        let text = format!("{{role: instance, name_filter: n, tags_filter: [x, y], {KEYS}}}");
        check(
            &Scaleway::new(&settings("scaleway", &text, Some(&stub))).unwrap().refresh().await.unwrap(),
            "__meta_scaleway_instance_",
            "10.0.0.1:80 id=i name=web hostname=h organization_id=o project_id=p status=running boot_type=local type=DEV1-S zone=fr-par-1 region=fr-par tags=,a,b, image_arch=x86_64 image_id=im image_name=deb location_cluster_id=40 location_hypervisor_id=1 location_node_id=8 security_group_id=sg security_group_name=Default public_ipv4=1.1.1.1 public_ipv6=fd00::1 private_ipv4=10.0.0.1 public_ipv4_addresses=,1.1.1.1, public_ipv6_addresses=,fd00::1,
             [fd00::2]:80 id=j zone=nl-ams-1 region=nl-ams public_ipv6_addresses=,fd00::2,",
        );
        assert!(stub.seen()[0].headers.contains(&"x-auth-token: s".to_owned()));
    }

    #[tokio::test]
    async fn bare_metal_servers_become_targets() {
        let server = json!({"id": "i", "name": "db", "project_id": "p", "status": "ready", "zone": "fr-par-2", "offer_id": "of", "install": {"os_id": "os1"}, "tags": ["t"],
            "ips": [{"address": "fd00::1", "version": "IPv6"}, {"address": "1.1.1.1", "version": "IPv4"}, {"address": "1.1.1.2", "version": "IPv4"}]});
        let root = "/baremetal/v1/zones/fr-par-2";
        let stub = Stub::start([]).await;
        stub.json(&format!("{root}/servers"), json!({"servers": [server, {"id": "none"}]}));
        stub.json(&format!("{root}/offers"), json!({"offers": [{"id": "of", "name": "GP"}]}));
        stub.json(&format!("{root}/os"), json!({"os": [{"id": "os1", "name": "Debian", "version": "12"}]}));
        let text = format!("{{role: baremetal, zone: fr-par-2, port: 9, {KEYS}}}");
        check(
            &Scaleway::new(&settings("scaleway", &text, Some(&stub))).unwrap().refresh().await.unwrap(),
            "__meta_scaleway_baremetal_",
            "1.1.1.1:9 id=i name=db project_id=p status=ready zone=fr-par-2 type=GP os_name=Debian os_version=12 tags=,t, public_ipv4=1.1.1.1 public_ipv6=fd00::1",
        );
    }
}
