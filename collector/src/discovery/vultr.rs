//! `vultr_sd_configs`: Vultr's instances.

use serde_json::Value;
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, with_path, with_query};
use super::json::{list_in, string, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_vultr_instance_";
const SERVER: &str = "https://api.vultr.com";

/// Lists instances.
pub(super) struct Vultr {
    api: Api,
    url: Url,
    port: i64,
}

impl Vultr {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::at(SERVER, settings)
    }

    fn at(server: &str, settings: &Settings) -> Result<Self, String> {
        let url = with_path(&parse_url(server)?, "v2/instances");
        Ok(Self { api: Api::new(settings)?, url, port: settings.int("port") })
    }

    async fn instances(&self) -> Result<Vec<Value>, String> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let pairs = [("per_page", "100"), ("cursor", cursor.as_str())];
            let answer = self.api.get(&with_query(&self.url, pairs.into_iter().filter(|(_, v)| !v.is_empty()))).await?;
            found.extend_from_slice(list_in(&answer, "instances")?);
            cursor = string(&answer["meta"]["links"]["next"]).to_owned();
            if cursor.is_empty() {
                return Ok(found);
            }
        }
        Err("the list of instances has no end".into())
    }
}

impl Source for Vultr {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let instances = self.instances().await?;
        let targets = instances.iter().map(|instance| {
            let mut target = Target::new(PREFIX);
            target.address(string(&instance["main_ip"]), self.port);
            for (label, key) in [
                ("id", "id"),
                ("label", "label"),
                ("os", "os"),
                ("os_id", "os_id"),
                ("region", "region"),
                ("plan", "plan"),
                ("main_ip", "main_ip"),
                ("internal_ip", "internal_ip"),
                ("main_ipv6", "v6_main_ip"),
                ("hostname", "hostname"),
                ("server_status", "server_status"),
                ("vcpu_count", "vcpu_count"),
                ("ram_mb", "ram"),
                ("disk_gb", "disk"),
                ("allowed_bandwidth_gb", "allowed_bandwidth"),
            ] {
                target.from(label, &instance[key]);
            }
            for list in ["features", "tags"] {
                target.set(list, surrounded(strings(&instance[list]), ","));
            }
            target.build()
        });
        Ok(vec![group("Vultr", targets.collect())])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn instances_become_targets_page_by_page() {
        let first = json!({"id": "i", "label": "l", "os": "Debian", "os_id": 215, "region": "ewr", "plan": "vc2", "main_ip": "1.1.1.1", "internal_ip": "10.0.0.1", "v6_main_ip": "fd00::1",
            "hostname": "h", "server_status": "ok", "vcpu_count": 2, "ram": 1024, "disk": 55, "allowed_bandwidth": 1000, "features": ["ipv6"], "tags": ["a", "b"]});
        let stub = Stub::start([
            ("/v2/instances?per_page=100", json!({"instances": [first], "meta": {"links": {"next": "CUR"}}})),
            (
                "/v2/instances?per_page=100&cursor=CUR",
                json!({"instances": [{"id": "j", "main_ip": "2.2.2.2"}], "meta": {"links": {"next": ""}}}),
            ),
        ])
        .await;
        let settings = settings("vultr", "bearer_token: t", None);
        check(
            &Vultr::at(&stub.address.to_string(), &settings).unwrap().refresh().await.unwrap(),
            PREFIX,
            "1.1.1.1:80 id=i label=l os=Debian os_id=215 region=ewr plan=vc2 main_ip=1.1.1.1 internal_ip=10.0.0.1 main_ipv6=fd00::1 hostname=h server_status=ok vcpu_count=2 ram_mb=1024 disk_gb=55 allowed_bandwidth_gb=1000 features=,ipv6, tags=,a,b,
             2.2.2.2:80 id=j main_ip=2.2.2.2",
        );
    }
}
