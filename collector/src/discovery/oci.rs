//! `oci_sd_configs`: the instances of Oracle's cloud.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::http::client::{RsaAlgorithm, rsa_signature};
use http::header::{AUTHORIZATION, DATE, HeaderValue};
use model::Labels;
use reqwest::{Method, Request};
use serde_json::Value;
use url::Url;

use super::api::{Api, MAX_PAGES, Question, parse_url, set_secret, several, with_path, with_query};
use super::json::{list, string, strings};
use super::refresh::Source;
use super::target::{Target, group, sanitize, surrounded};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_oci_";
const VERSION: &str = "20160918";
/// Interfaces that are asked about at once.
const CONCURRENCY: usize = 10;

/// Lists the instances of compartments.
pub(super) struct Oci {
    api: Api,
    base: Url,
    settings: Settings,
}

impl Oci {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let base = format!("https://iaas.{}.oraclecloud.com", settings.text("region"));
        Self::at(&base, settings)
    }

    fn at(base: &str, settings: &Settings) -> Result<Self, String> {
        if settings.text("auth") != "api_key" {
            return Err("oci_sd: auth instance_principal is not supported, use api_key".into());
        }
        if settings.has("key_passphrase") || settings.has("key_passphrase_file") {
            return Err("oci_sd: keys with a passphrase are not supported, use a key_file that is not encrypted".into());
        }
        for key in ["tenancy", "user", "fingerprint", "key_file", "region"] {
            if !settings.has(key) {
                return Err(format!("oci_sd: {key} is missing"));
            }
        }
        Ok(Self { api: Api::new(settings)?, base: parse_url(base)?, settings: settings.clone() })
    }

    /// Signs a request as the service's documentation has it: the target, the host and the date.
    fn signed(&self, url: Url) -> Result<Request, String> {
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", url.host_str().unwrap_or_default());
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let message = format!("date: {date}\n(request-target): get {path}\nhost: {host}");
        let file = self.settings.text("key_file");
        let key = std::fs::read_to_string(file).map_err(|e| format!("unable to read key_file {file}: {e}"))?;
        let signature = rsa_signature(&key, RsaAlgorithm::Rs256, message.as_bytes());
        let signature = STANDARD.encode(signature.map_err(|e| format!("key_file {file}: {e}"))?);
        let text = |key| self.settings.text(key);
        let authorization = format!(
            "Signature version=\"1\",keyId=\"{}/{}/{}\",algorithm=\"rsa-sha256\",headers=\"date (request-target) host\",signature=\"{signature}\"",
            text("tenancy"),
            text("user"),
            text("fingerprint")
        );
        let mut request = Request::new(Method::GET, url);
        set_secret(&mut request, AUTHORIZATION.as_str(), &authorization)?;
        let date = HeaderValue::from_str(&date).map_err(|e| e.to_string())?;
        request.headers_mut().insert(DATE, date);
        Ok(request)
    }

    async fn list(&self, what: &str, compartment: &str) -> Result<Vec<Value>, String> {
        let url = with_path(&self.base, &format!("{VERSION}/{what}"));
        let (mut found, mut page) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let mut query = vec![("compartmentId", compartment), ("limit", "500")];
            if !page.is_empty() {
                query.push(("page", &page));
            }
            let (answer, headers) = self.api.json_with_headers(self.signed(with_query(&url, query))?).await?;
            found.extend_from_slice(list(&answer, what)?);
            page = headers.get("opc-next-page").and_then(|next| next.to_str().ok()).unwrap_or_default().to_owned();
            if page.is_empty() {
                return Ok(found);
            }
        }
        Err(format!("the list of {what} has no end"))
    }

    async fn interface(&self, id: &str) -> Result<Value, String> {
        self.api.json(self.signed(with_path(&self.base, &format!("{VERSION}/vnics/{id}")))?).await
    }

    fn target(&self, instance: &Value, interface: &Value) -> Option<Labels> {
        let (private, public) = (string(&interface["privateIp"]), string(&interface["publicIp"]));
        let ipv6: Vec<&str> = strings(&interface["ipv6Addresses"]).collect();
        let address =
            [Some(private), ipv6.first().copied()].into_iter().flatten().find(|address| !address.is_empty())?;
        let mut target = Target::new(PREFIX);
        target.address(address, self.settings.int("port")).set("tenancy_id", self.settings.text("tenancy"));
        target.set("region", self.settings.text("region"));
        for (label, key) in [
            ("availability_domain", "availabilityDomain"),
            ("compartment_id", "compartmentId"),
            ("fault_domain", "faultDomain"),
            ("instance_id", "id"),
            ("instance_name", "displayName"),
            ("instance_shape", "shape"),
            ("instance_state", "lifecycleState"),
        ] {
            target.from(label, &instance[key]);
        }
        let image = &instance["sourceDetails"]["imageId"];
        target.from("image_id", if image.is_null() { &instance["imageId"] } else { image });
        target.set("private_ip", private).set("public_ip", public).set("ipv6_addresses", surrounded(ipv6, ","));
        target.from("hostname_label", &interface["hostnameLabel"]).from("vnic_id", &interface["id"]);
        target.each("tag_", &instance["freeformTags"]);
        for (space, tags) in instance["definedTags"].as_object().into_iter().flatten() {
            target.each(&format!("defined_tag_{}_", sanitize(space)), tags);
        }
        Some(target.build())
    }

    async fn targets(&self, compartment: &str) -> Result<Vec<Labels>, String> {
        let instances = self.list("instances", compartment).await;
        let instances = instances.map_err(|e| format!("could not obtain list of instances: {e}"))?;
        let attachments = self.list("vnicAttachments", compartment).await;
        let attachments = attachments.map_err(|e| format!("could not obtain list of vnic attachments: {e}"))?;
        let attached: Vec<&Value> = attachments.iter().filter(|a| a["lifecycleState"] == "ATTACHED").collect();
        let mut questions: Vec<Question<'_, Value>> = Vec::new();
        for attachment in &attached {
            questions.push(Box::pin(self.interface(string(&attachment["vnicId"]))));
        }
        let interfaces = several(questions, CONCURRENCY).await?;
        let mut primary: BTreeMap<&str, &Value> = BTreeMap::new();
        for (attachment, interface) in attached.iter().zip(&interfaces) {
            if interface["isPrimary"] == true {
                primary.insert(string(&attachment["instanceId"]), interface);
            }
        }
        let targets =
            instances.iter().filter_map(|instance| self.target(instance, primary.get(string(&instance["id"]))?));
        Ok(targets.collect())
    }
}

impl Source for Oci {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let mut compartments = self.settings.texts("compartments").to_vec();
        if compartments.is_empty() {
            compartments.push(self.settings.text("tenancy").to_owned());
        }
        let mut targets = Vec::new();
        for compartment in &compartments {
            targets.extend(self.targets(compartment).await?);
        }
        Ok(vec![group(self.settings.text("region"), targets)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{RSA_KEY, Reply, Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn instances_become_targets() {
        let instance = json!({"id": "i1", "displayName": "web", "compartmentId": "c", "availabilityDomain": "AD-1", "faultDomain": "FD-1", "shape": "VM.S", "lifecycleState": "RUNNING",
            "sourceDetails": {"imageId": "img"}, "freeformTags": {"a.b": "c"}, "definedTags": {"Ops-1": {"Cost.Center": "42"}}});
        let stub = Stub::start([
            ("/20160918/instances?compartmentId=c&limit=500&page=2", json!([{"id": "unattached"}])),
            ("/20160918/vnicAttachments", json!([{"instanceId": "i1", "vnicId": "v0", "lifecycleState": "ATTACHED"}, {"instanceId": "i1", "vnicId": "v1", "lifecycleState": "ATTACHED"}, {"instanceId": "i1", "vnicId": "gone", "lifecycleState": "DETACHED"}])),
            ("/20160918/vnics/v0", json!({"id": "v0", "isPrimary": false, "privateIp": "10.9.9.9"})),
            ("/20160918/vnics/v1", json!({"id": "v1", "isPrimary": true, "privateIp": "10.0.0.1", "publicIp": "1.2.3.4", "hostnameLabel": "h", "ipv6Addresses": ["fd00::1"]})),
        ])
        .await;
        stub.set("/20160918/instances", Reply::Raw(200, "opc-next-page: 2\r\n", json!([instance]).to_string()));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), RSA_KEY).unwrap();
        let text = format!(
            "{{tenancy: t, user: u, fingerprint: f, key_file: {}, region: r, compartments: [c], port: 9100}}",
            file.path().display()
        );
        let mut oci = Oci::at(&stub.address.to_string(), &settings("oci", &text, None)).unwrap();
        check(
            &oci.refresh().await.unwrap(),
            PREFIX,
            "10.0.0.1:9100 tenancy_id=t region=r availability_domain=AD-1 compartment_id=c fault_domain=FD-1 instance_id=i1 instance_name=web instance_shape=VM.S instance_state=RUNNING image_id=img private_ip=10.0.0.1 public_ip=1.2.3.4 ipv6_addresses=,fd00::1, hostname_label=h vnic_id=v1 tag_a_b=c defined_tag_Ops_1_Cost_Center=42",
        );
        let headers = &stub.seen()[0].headers;
        assert!(
            headers.iter().any(|h| h.starts_with("authorization: Signature version=\"1\",keyId=\"t/u/f\"")),
            "{headers:?}"
        );
        assert!(headers.iter().any(|h| h.starts_with("date: ") && h.ends_with(" GMT")), "{headers:?}");
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for (text, expected) in [
            ("auth: instance_principal", "oci_sd: auth instance_principal is not supported"),
            ("key_passphrase: x", "oci_sd: keys with a passphrase are not supported"),
            ("{tenancy: t, user: u}", "oci_sd: fingerprint is missing"),
        ] {
            let error = Oci::new(&settings("oci", text, None)).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
