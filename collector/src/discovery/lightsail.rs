//! `lightsail_sd_configs`: Amazon Lightsail's virtual machines.

use serde_json::{Value, json};

use super::api::MAX_PAGES;
use super::aws::Service;
use super::json::{items, list_in, string, strings};
use super::refresh::Source;
use super::target::{Target, group, surrounded};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_lightsail_";

/// Lists instances.
pub(super) struct Lightsail {
    service: Service,
}

impl Lightsail {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self { service: Service::new(settings, "lightsail")? })
    }

    async fn instances(&self) -> Result<Vec<Value>, String> {
        let (mut instances, mut body) = (Vec::new(), json!({}));
        for _ in 0..MAX_PAGES {
            let answer = self.service.json("Lightsail_20161128.GetInstances", &body).await?;
            instances.extend_from_slice(list_in(&answer, "instances")?);
            match string(&answer["nextPageToken"]) {
                "" => return Ok(instances),
                token => body = json!({"pageToken": token}),
            }
        }
        Err("the list of instances has no end".into())
    }
}

impl Source for Lightsail {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let region = self.service.region().await?;
        let mut targets = Vec::new();
        for instance in self.instances().await? {
            let ip = string(&instance["privateIpAddress"]);
            if ip.is_empty() {
                continue;
            }
            let mut target = Target::new(PREFIX);
            target.address(ip, self.service.port).set("private_ip", ip).set("region", &region);
            target.from("public_ip", &instance["publicIpAddress"]);
            target.from("availability_zone", &instance["location"]["availabilityZone"]);
            target.from("blueprint_id", &instance["blueprintId"]).from("bundle_id", &instance["bundleId"]);
            target.from("instance_name", &instance["name"]).from("instance_state", &instance["state"]["name"]);
            target.from("instance_support_code", &instance["supportCode"]);
            target.set("ipv6_addresses", surrounded(strings(&instance["ipv6Addresses"]), ","));
            for tag in items(&instance["tags"]) {
                target.named("tag_", string(&tag["key"]), string(&tag["value"]));
            }
            targets.push(target.build());
        }
        Ok(vec![group(region, targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn instances_become_targets() {
        let answer = json!({"instances": [
            {"name": "a", "privateIpAddress": "172.26.0.1", "publicIpAddress": "1.1.1.1", "ipv6Addresses": ["fd00::1"], "supportCode": "s/1",
             "blueprintId": "debian", "bundleId": "nano", "location": {"availabilityZone": "r-1a"}, "state": {"name": "running"},
             "tags": [{"key": "t.x", "value": "v"}, {"key": "only"}]},
            {"name": "starting"}
        ]});
        let stub = Stub::start([("*", answer)]).await;
        let text = "{endpoint: 'http://SERVER', region: r-1, access_key: a, secret_key: b}";
        let groups = Lightsail::new(&settings("lightsail", text, Some(&stub))).unwrap().refresh().await.unwrap();
        check(
            &groups,
            PREFIX,
            "172.26.0.1:80 private_ip=172.26.0.1 public_ip=1.1.1.1 region=r-1 availability_zone=r-1a blueprint_id=debian bundle_id=nano instance_name=a instance_state=running instance_support_code=s/1 ipv6_addresses=,fd00::1, tag_t_x=v",
        );
        assert!(stub.seen()[0].headers.contains(&"x-amz-target: Lightsail_20161128.GetInstances".to_owned()));
    }
}
