//! `gce_sd_configs`: Google's virtual machines.

use std::path::PathBuf;

use common::http::client::{HttpClientConfig, RsaAlgorithm, json_web_token};
use http::header::{AUTHORIZATION, HeaderValue};
use model::Labels;
use reqwest::{Method, Request};
use serde_json::{Value, json};
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, set_secret, with_path, with_query};
use super::json::{items, list_in, string, strings};
use super::refresh::{Source, interval};
use super::target::{Target, group, surrounded};
use super::token::{self, TokenCache};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_gce_";
const SERVER: &str = "https://compute.googleapis.com/compute/v1";
const SCOPE: &str = "https://www.googleapis.com/auth/compute.readonly";
const TOKENS: &str = "https://oauth2.googleapis.com/token";

/// Lists the instances of a zone.
pub(super) struct Gce {
    api: Api,
    base: Url,
    metadata: Url,
    settings: Settings,
    credentials: Option<PathBuf>,
    token: TokenCache,
}

impl Gce {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let host = std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| "metadata.google.internal".into());
        Self::at(SERVER, &host, credentials_file(), settings)
    }

    fn at(server: &str, metadata: &str, credentials: Option<PathBuf>, settings: &Settings) -> Result<Self, String> {
        // the section has no keys of the HTTP client
        let api = Api::with_client(&HttpClientConfig::default(), interval(settings.duration("refresh_interval")))?;
        let (base, metadata) = (parse_url(server)?, parse_url(metadata)?);
        Ok(Self { api, base, metadata, settings: settings.clone(), credentials, token: TokenCache::default() })
    }

    async fn instances(&mut self) -> Result<Vec<Value>, String> {
        let (api, metadata, file) = (&self.api, &self.metadata, self.credentials.as_ref());
        let token = self.token.get(fetch_token(api, metadata, file)).await?;
        let (project, zone) = (self.settings.text("project"), self.settings.text("zone"));
        let url = with_path(&self.base, &format!("projects/{project}/zones/{zone}/instances"));
        let (mut found, mut page) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let pairs = [("filter", self.settings.text("filter")), ("pageToken", page.as_str())];
            let mut request =
                Request::new(Method::GET, with_query(&url, pairs.into_iter().filter(|(_, v)| !v.is_empty())));
            set_secret(&mut request, AUTHORIZATION.as_str(), &format!("Bearer {token}"))?;
            let answer = self.api.json(request).await?;
            found.extend_from_slice(list_in(&answer, "items")?);
            page = string(&answer["nextPageToken"]).to_owned();
            if page.is_empty() {
                return Ok(found);
            }
        }
        Err("the list of instances has no end".into())
    }

    fn target(&self, instance: &Value) -> Option<Labels> {
        let primary = items(&instance["networkInterfaces"]).next()?;
        let mut target = Target::new(PREFIX);
        target.address(string(&primary["networkIP"]), self.settings.int("port"));
        target.set("project", self.settings.text("project")).from("zone", &instance["zone"]);
        target.from("instance_id", &instance["id"]).from("instance_name", &instance["name"]);
        target.from("instance_status", &instance["status"]).from("machine_type", &instance["machineType"]);
        target.from("network", &primary["network"]).from("subnetwork", &primary["subnetwork"]);
        target.from("private_ip", &primary["networkIP"]);
        for interface in items(&instance["networkInterfaces"]) {
            target.named("interface_ipv4_", string(&interface["name"]), string(&interface["networkIP"]));
        }
        let separator = self.settings.text("tag_separator");
        target.set("tags", surrounded(strings(&instance["tags"]["items"]), separator));
        for entry in items(&instance["metadata"]["items"]) {
            target.named("metadata_", string(&entry["key"]), string(&entry["value"]));
        }
        target.each("label_", &instance["labels"]);
        if let Some(access) = items(&primary["accessConfigs"]).next().filter(|a| a["type"] == "ONE_TO_ONE_NAT") {
            target.from("public_ip", &access["natIP"]);
        }
        Some(target.build())
    }
}

/// Where the credentials of applications are: the file that the environment names, or that of the command-line tool.
fn credentials_file() -> Option<PathBuf> {
    if let Ok(path) = std::env::var("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(path.into());
    }
    let home = std::env::var("HOME").ok()?;
    let path = PathBuf::from(home).join(".config/gcloud/application_default_credentials.json");
    path.exists().then_some(path)
}

async fn fetch_token(api: &Api, metadata: &Url, file: Option<&PathBuf>) -> Result<(String, u64), String> {
    let Some(file) = file else {
        let path = "computeMetadata/v1/instance/service-accounts/default/token";
        let mut request = Request::new(Method::GET, with_query(&with_path(metadata, path), [("scopes", SCOPE)]));
        request.headers_mut().insert("metadata-flavor", HeaderValue::from_static("Google"));
        return token::read(&api.json(request).await?);
    };
    let fault = |e: &dyn std::fmt::Display| format!("credentials in {}: {e}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| fault(&e))?;
    let credentials: Value = serde_json::from_str(&text).map_err(|e| fault(&e))?;
    let field = |name: &str| string(&credentials[name]);
    let url = parse_url(if field("token_uri").is_empty() { TOKENS } else { field("token_uri") })?;
    match field("type") {
        "service_account" => {
            let now = model::now_millis() / 1000;
            let header = json!({"alg": RsaAlgorithm::Rs256.name(), "typ": "JWT", "kid": field("private_key_id")});
            let claims = json!({"iss": field("client_email"), "scope": SCOPE, "aud": url.as_str(), "iat": now, "exp": now + 3600});
            let assertion = json_web_token(&header, &claims, RsaAlgorithm::Rs256, field("private_key"));
            let assertion = assertion.map_err(|e| fault(&format!("private_key: {e}")))?;
            let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            token::by_form(api, &url, &[("grant_type", grant), ("assertion", &assertion)]).await
        }
        "authorized_user" => {
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", field("client_id")),
                ("client_secret", field("client_secret")),
                ("refresh_token", field("refresh_token")),
            ];
            token::by_form(api, &url, &form).await
        }
        other => Err(fault(&format!(
            "type {} is not supported; service_account, authorized_user and the metadata server are",
            model::quote(other)
        ))),
    }
}

impl Source for Gce {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let instances = self.instances().await;
        if instances.is_err() {
            // the token may have been taken back
            self.token.forget();
        }
        let instances = instances.map_err(|e| format!("error retrieving refresh targets from gce: {e}"))?;
        let source = format!("GCE_{}_{}", self.settings.text("project"), self.settings.text("zone"));
        Ok(vec![group(source, instances.iter().filter_map(|instance| self.target(instance)).collect())])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn instances_become_targets() {
        let instance = json!({"id": "77", "name": "web", "zone": "z/a", "status": "RUNNING", "machineType": "m/n1", "labels": {"a-b": "c"},
            "networkInterfaces": [{"name": "nic0", "network": "n/d", "subnetwork": "s/d", "networkIP": "10.0.0.1", "accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": "1.1.1.1"}]},
                                  {"name": "nic1", "networkIP": "10.1.0.1"}],
            "tags": {"items": ["http", "x"]}, "metadata": {"items": [{"key": "k.y", "value": "v"}, {"key": "none"}]}});
        let stub = Stub::start([
            (
                "/computeMetadata/v1/instance/service-accounts/default/token",
                json!({"access_token": "T", "expires_in": 3599}),
            ),
            ("/projects/p/zones/z/instances?filter=labels.a%3Db", json!({"items": [instance], "nextPageToken": "n"})),
            ("/projects/p/zones/z/instances?filter=labels.a%3Db&pageToken=n", json!({"kind": "compute#instanceList"})),
        ])
        .await;
        let server = stub.address.to_string();
        let settings = settings("gce", "{project: p, zone: z, filter: labels.a=b, port: 9100}", None);
        let mut gce = Gce::at(&server, &server, None, &settings).unwrap();
        check(
            &gce.refresh().await.unwrap(),
            PREFIX,
            "10.0.0.1:9100 project=p zone=z/a instance_id=77 instance_name=web instance_status=RUNNING machine_type=m/n1 network=n/d subnetwork=s/d private_ip=10.0.0.1 interface_ipv4_nic0=10.0.0.1 interface_ipv4_nic1=10.1.0.1 tags=,http,x, metadata_k_y=v label_a_b=c public_ip=1.1.1.1",
        );
        let seen = stub.seen();
        assert!(seen[0].headers.contains(&"metadata-flavor: Google".to_owned()));
        assert!(seen[1].headers.contains(&"authorization: Bearer T".to_owned()));
    }

    #[tokio::test]
    async fn accounts_in_files_are_used() {
        let stub =
            Stub::start([("/token", json!({"access_token": "F"})), ("/projects/p/zones/z/instances", json!({}))]).await;
        let server = stub.address.to_string();
        let settings = settings("gce", "{project: p, zone: z}", None);
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |value: Value| std::fs::write(file.path(), value.to_string()).unwrap();
        let gce = || Gce::at(&server, &server, Some(file.path().into()), &settings).unwrap();
        let url = format!("http://{server}/token");
        write(
            json!({"type": "authorized_user", "refresh_token": "R", "client_id": "C", "client_secret": "S", "token_uri": url}),
        );
        assert_eq!(gce().refresh().await.unwrap()[0].targets, []);
        assert_eq!(stub.seen()[0].body, "grant_type=refresh_token&client_id=C&client_secret=S&refresh_token=R");

        let key = super::super::testing::RSA_KEY;
        write(
            json!({"type": "service_account", "client_email": "me@p", "private_key_id": "K", "private_key": key, "token_uri": url}),
        );
        assert_eq!(gce().refresh().await.unwrap()[0].targets, []);
        let sent = stub.seen()[2].body.clone();
        assert!(
            sent.starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey"),
            "{sent}"
        );

        write(json!({"type": "external_account"}));
        let error = gce().refresh().await.unwrap_err();
        assert!(error.contains("external_account") && error.contains("not supported"), "{error}");
    }
}
