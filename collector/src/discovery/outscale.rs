//! `outscale_sd_configs`: Outscale's virtual machines.

use common::http::client::{AwsCredentials, sign};
use common::secret::Secret;
use jiff::Timestamp;
use model::Labels;
use serde_json::{Value, json};
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, post, secret, with_path};
use super::json::{items, list_in, string};
use super::refresh::Source;
use super::target::{Target, group};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_outscale_vm_";

/// Lists machines.
pub(super) struct Outscale {
    api: Api,
    url: Url,
    settings: Settings,
}

impl Outscale {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let url = match settings.text("endpoint") {
            "" => with_path(
                &parse_url(&format!("https://api.{}.outscale.com", settings.text("region")))?,
                "api/v1/ReadVms",
            ),
            given => with_path(&parse_url(given)?, "ReadVms"),
        };
        Ok(Self { api: Api::new(settings)?, url, settings: settings.clone() })
    }

    async fn machines(&self) -> Result<Vec<Value>, String> {
        let secret_key = Secret::new(secret(&self.settings, "secret_key", "secret_key_file")?);
        let access_key = self.settings.text("access_key").to_owned();
        let credentials = AwsCredentials { access_key, secret_key, ..AwsCredentials::default() };
        let (mut found, mut body) = (Vec::new(), json!({}));
        for _ in 0..MAX_PAGES {
            let mut request = post(&self.url, &body);
            // the service takes Amazon's signatures
            sign(&mut request, &credentials, self.settings.text("region"), "oapi", Timestamp::now())
                .map_err(|e| e.to_string())?;
            let answer = self.api.json(request).await?;
            found.extend_from_slice(list_in(&answer, "Vms")?);
            match string(&answer["NextPageToken"]) {
                "" => return Ok(found),
                token => body = json!({"NextPageToken": token}),
            }
        }
        Err("the list has no end".into())
    }

    fn target(&self, machine: &Value) -> Option<Labels> {
        let (private, public) = (string(&machine["PrivateIp"]), string(&machine["PublicIp"]));
        let address = [private, public].into_iter().find(|address| !address.is_empty())?;
        let mut target = Target::new(PREFIX);
        target.address(address, self.settings.int("port")).set("region", self.settings.text("region"));
        target.from("instance_id", &machine["VmId"]).from("state", &machine["State"]);
        target.from("subregion", &machine["Placement"]["SubregionName"]);
        target.set("private_ip", private).set("public_ip", public);
        for tag in items(&machine["Tags"]).filter(|tag| !string(&tag["Key"]).is_empty()) {
            target.named("tag_", string(&tag["Key"]), string(&tag["Value"]));
        }
        Some(target.build())
    }
}

impl Source for Outscale {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let machines = self.machines().await.map_err(|e| format!("outscale ReadVms: {e}"))?;
        let targets = machines.iter().filter_map(|machine| self.target(machine)).collect();
        Ok(vec![group(self.settings.text("region"), targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn machines_become_targets() {
        let machine = json!({"VmId": "i-1", "State": "running", "PrivateIp": "10.0.0.1", "PublicIp": "1.2.3.4", "Placement": {"SubregionName": "eu-west-2a"},
            "Tags": [{"Key": "Name", "Value": "web"}, {"Key": "a.b", "Value": "c"}, {"Key": "", "Value": "x"}]});
        let stub =
            Stub::start([("/api/v1/ReadVms", json!({"Vms": [machine, {"PublicIp": "5.5.5.5"}, {"VmId": "none"}]}))])
                .await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk\n").unwrap();
        let text =
            format!("{{endpoint: 'http://SERVER/api/v1', access_key: ak, secret_key_file: {}}}", file.path().display());
        let mut outscale = Outscale::new(&settings("outscale", &text, Some(&stub))).unwrap();
        check(
            &outscale.refresh().await.unwrap(),
            PREFIX,
            "10.0.0.1:80 region=eu-west-2 instance_id=i-1 state=running subregion=eu-west-2a private_ip=10.0.0.1 public_ip=1.2.3.4 tag_Name=web tag_a_b=c
             5.5.5.5:80 region=eu-west-2 public_ip=5.5.5.5",
        );
        let headers = &stub.seen()[0].headers;
        assert!(
            headers.iter().any(|h| h.contains("Credential=ak/") && h.contains("/eu-west-2/oapi/aws4_request")),
            "{headers:?}"
        );
        stub.set("/api/v1/ReadVms", Reply::Raw(401, "", "denied".into()));
        assert!(outscale.refresh().await.unwrap_err().starts_with("outscale ReadVms: "));
    }
}
