//! `digitalocean_sd_configs`: DigitalOcean's droplets and managed databases.

use model::Labels;
use serde_json::Value;
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, with_path, with_query};
use super::json::{items, list_in, string, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_digitalocean_";
const SERVER: &str = "https://api.digitalocean.com";

/// Lists what its role says.
pub(super) struct DigitalOcean {
    api: Api,
    base: Url,
    databases: bool,
    port: i64,
}

impl DigitalOcean {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::at(SERVER, settings)
    }

    fn at(server: &str, settings: &Settings) -> Result<Self, String> {
        let databases = settings.text("role") == "databases";
        Ok(Self { api: Api::new(settings)?, base: parse_url(server)?, databases, port: settings.int("port") })
    }

    async fn list(&self, path: &str, key: &str) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for page in 1..=MAX_PAGES {
            let page = page.to_string();
            let url = with_query(&with_path(&self.base, path), [("page", page.as_str()), ("per_page", "200")]);
            let answer = self.api.get(&url).await?;
            found.extend_from_slice(list_in(&answer, key)?);
            if string(&answer["links"]["pages"]["next"]).is_empty() {
                return Ok(found);
            }
        }
        Err(format!("the list of {key} has no end"))
    }

    fn droplet(&self, droplet: &Value) -> Labels {
        let address = |family: &str, kind: &str| {
            let found = items(&droplet["networks"][family]).find(|network| network["type"] == kind);
            found.map(|network| string(&network["ip_address"])).unwrap_or_default().to_owned()
        };
        let public = address("v4", "public");
        let mut target = Target::new(PREFIX);
        target.address(&public, self.port).from("droplet_id", &droplet["id"]).from("droplet_name", &droplet["name"]);
        target.from("image", &droplet["image"]["slug"]).from("image_name", &droplet["image"]["name"]);
        target.set("private_ipv4", address("v4", "private")).set("public_ipv4", &public);
        target.set("public_ipv6", address("v6", "public")).from("region", &droplet["region"]["slug"]);
        target.from("size", &droplet["size_slug"]).from("status", &droplet["status"]).from("vpc", &droplet["vpc_uuid"]);
        target.set("features", surrounded(strings(&droplet["features"]), ","));
        target.set("tags", surrounded(strings(&droplet["tags"]), ","));
        target.build()
    }

    fn database(&self, database: &Value) -> Option<Labels> {
        let (public, private) =
            (string(&database["connection"]["host"]), string(&database["private_connection"]["host"]));
        let host = if private.is_empty() { public } else { private };
        if host.is_empty() {
            return None;
        }
        let mut target = Target::new(PREFIX);
        target.address(host, self.port).set("db_host", public).set("db_private_host", private);
        for name in ["id", "name", "engine", "version", "status", "region", "size", "num_nodes"] {
            target.from(&format!("db_{name}"), &database[name]);
        }
        for tag in strings(&database["tags"]) {
            target.set(&format!("db_tag_{tag}"), "true");
        }
        Some(target.build())
    }
}

impl Source for DigitalOcean {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let targets: Vec<Labels> = if self.databases {
            self.list("v2/databases", "databases")
                .await?
                .iter()
                .filter_map(|database| self.database(database))
                .collect()
        } else {
            self.list("v2/droplets", "droplets").await?.iter().map(|droplet| self.droplet(droplet)).collect()
        };
        Ok(vec![group("DigitalOcean", targets)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    fn at(stub: &Stub, text: &str) -> DigitalOcean {
        DigitalOcean::at(&stub.address.to_string(), &settings("digitalocean", text, None)).unwrap()
    }

    #[tokio::test]
    async fn droplets_become_targets_page_by_page() {
        let first = json!({"id": 7, "name": "web", "size_slug": "s-1", "status": "active", "vpc_uuid": "v", "features": ["backups", "ipv6"], "tags": [],
            "image": {"slug": "debian", "name": "12 x64"}, "region": {"slug": "fra1"},
            "networks": {"v4": [{"ip_address": "10.0.0.2", "type": "private"}, {"ip_address": "1.1.1.1", "type": "public"}],
                         "v6": [{"ip_address": "fd00::1", "type": "public"}]}});
        let second = json!({"id": 8, "name": "db", "tags": ["a", "b"], "networks": {"v4": [{"ip_address": "2.2.2.2", "type": "public"}]}});
        let stub = Stub::start([
            (
                "/v2/droplets?page=1&per_page=200",
                json!({"droplets": [first], "links": {"pages": {"next": "http://x/?page=2"}}}),
            ),
            ("/v2/droplets?page=2&per_page=200", json!({"droplets": [second], "links": {"pages": {"prev": "x"}}})),
        ])
        .await;
        check(
            &at(&stub, "{bearer_token: secret}").refresh().await.unwrap(),
            PREFIX,
            "1.1.1.1:80 droplet_id=7 droplet_name=web image=debian 'image_name=12 x64' private_ipv4=10.0.0.2 public_ipv4=1.1.1.1 public_ipv6=fd00::1 region=fra1 size=s-1 status=active vpc=v features=,backups,ipv6,
             2.2.2.2:80 droplet_id=8 droplet_name=db public_ipv4=2.2.2.2 tags=,a,b,",
        );
        assert!(stub.seen()[0].headers.contains(&"authorization: Bearer secret".to_owned()));
    }

    #[tokio::test]
    async fn databases_become_targets() {
        let database = json!({"id": "u", "name": "pg", "engine": "pg", "version": "16", "status": "online", "region": "fra1", "size": "db-1", "num_nodes": 2,
            "connection": {"host": "pub.db", "port": 25060}, "private_connection": {"host": "priv.db"}, "tags": ["prod", "team:a"]});
        let stub = Stub::start([("/v2/databases", json!({"databases": [database, {"id": "x"}]}))]).await;
        check(
            &at(&stub, "{role: databases, port: 9273}").refresh().await.unwrap(),
            PREFIX,
            "priv.db:9273 db_id=u db_name=pg db_engine=pg db_version=16 db_status=online db_region=fra1 db_size=db-1 db_num_nodes=2 db_host=pub.db db_private_host=priv.db db_tag_prod=true db_tag_team:a=true",
        );
    }
}
