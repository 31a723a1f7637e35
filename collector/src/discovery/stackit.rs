//! `stackit_sd_configs`: STACKIT's servers.

use common::http::client::{HttpClientConfig, RsaAlgorithm, json_web_token};
use http::header::AUTHORIZATION;
use model::Labels;
use reqwest::{Method, Request};
use serde_json::{Value, json};
use url::Url;

use super::api::{Api, parse_url, secret, set_secret, with_path, with_query};
use super::json::{items, list_in, string};
use super::refresh::{Source, interval};
use super::target::{Target, group};
use super::token::{self, TokenCache};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_stackit_";
const TOKENS: &str = "https://service-account.api.stackit.cloud/token";

/// Lists the servers of a project.
pub(super) struct Stackit {
    api: Api,
    /// Asks for tokens.
    identity: Api,
    url: Url,
    tokens: Url,
    settings: Settings,
    token: TokenCache,
}

impl Stackit {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::with_tokens(TOKENS, settings)
    }

    fn with_tokens(tokens: &str, settings: &Settings) -> Result<Self, String> {
        if settings.has("credentials_file_path") && !has_key(settings) {
            // upstream reads it for nothing but where the key is, and that only when it has been told
            tracing::warn!(discovery = "stackit", "credentials_file_path has no effect without a service account key");
        }
        let endpoint = match settings.text("endpoint") {
            "" => format!("https://iaas.api.{}.stackit.cloud", settings.text("region")),
            given => given.to_owned(),
        };
        let path = format!("v1/projects/{}/servers", settings.text("project"));
        let url = with_query(&with_path(&parse_url(&endpoint)?, &path), [("details", "true")]);
        let tls = settings.http_client.tls_config.clone();
        let identity = HttpClientConfig { tls_config: tls, ..HttpClientConfig::default() };
        Ok(Self {
            api: Api::new(settings)?,
            identity: Api::with_client(&identity, interval(settings.duration("refresh_interval")))?,
            url,
            tokens: parse_url(tokens)?,
            settings: settings.clone(),
            token: TokenCache::default(),
        })
    }

    fn target(&self, server: &Value) -> Option<Labels> {
        let mut target = Target::new(PREFIX);
        target.set("project", self.settings.text("project")).from("id", &server["id"]).from("name", &server["name"]);
        target.from("availability_zone", &server["availabilityZone"]).from("status", &server["status"]);
        target.from("power_status", &server["powerStatus"]).from("type", &server["machineType"]);
        let (mut public, mut first) = ("", "");
        for interface in items(&server["nics"]) {
            let (own, private) = (string(&interface["publicIp"]), string(&interface["ipv4"]));
            if public.is_empty() {
                public = own;
            }
            if first.is_empty() {
                first = private;
            }
            if !private.is_empty() {
                target.named("private_ipv4_", string(&interface["networkName"]), private);
            }
        }
        let address = if public.is_empty() { first } else { public };
        if address.is_empty() {
            return None;
        }
        target.set("public_ipv4", public).address(address, self.settings.int("port"));
        let labels = server["labels"].as_object().into_iter().flatten();
        let labels = labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        target.each_present("label_", "labelpresent_", labels);
        Some(target.build())
    }
}

fn has_key(settings: &Settings) -> bool {
    settings.has("service_account_key") || settings.has("service_account_key_path")
}

/// A token for the key of a service account.
async fn fetch_token(api: &Api, url: &Url, settings: &Settings) -> Result<(String, u64), String> {
    let key = secret(settings, "service_account_key", "service_account_key_path")?;
    let key: Value = serde_json::from_str(&key).map_err(|e| format!("the service account key is not JSON: {e}"))?;
    let credentials = &key["credentials"];
    let mut private = secret(settings, "private_key", "private_key_path")?;
    if private.is_empty() {
        string(&credentials["privateKey"]).clone_into(&mut private);
    }
    let now = model::now_millis() / 1000;
    let header = json!({"alg": RsaAlgorithm::Rs512.name(), "typ": "JWT", "kid": credentials["kid"]});
    let claims = json!({
        "iss": credentials["iss"], "sub": credentials["sub"], "aud": credentials["aud"],
        "jti": format!("{now}-{}", std::process::id()), "iat": now, "exp": now + 600,
    });
    let assertion = json_web_token(&header, &claims, RsaAlgorithm::Rs512, &private);
    let assertion = assertion.map_err(|e| format!("the private key of the service account: {e}"))?;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    token::by_form(api, url, &[("grant_type", grant), ("assertion", &assertion)]).await
}

impl Source for Stackit {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let mut request = Request::new(Method::GET, self.url.clone());
        if has_key(&self.settings) {
            let token = self.token.get(fetch_token(&self.identity, &self.tokens, &self.settings)).await?;
            set_secret(&mut request, AUTHORIZATION.as_str(), &format!("Bearer {token}"))?;
        }
        let answer = self.api.json(request).await;
        if answer.is_err() {
            // the token may have been taken back
            self.token.forget();
        }
        let answer = answer?;
        let servers = list_in(&answer, "items")?;
        Ok(vec![group("stackit", servers.iter().filter_map(|server| self.target(server)).collect())])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{RSA_KEY, Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn servers_become_targets() {
        let server = json!({"id": "i", "name": "web", "availabilityZone": "eu01-1", "status": "ACTIVE", "powerStatus": "RUNNING", "machineType": "c1.2",
            "labels": {"env.x": "prod", "empty": "", "number": 1}, "nics": [{"ipv4": "10.0.0.1", "networkName": "net-a"}, {"ipv4": "10.1.0.1", "networkName": "b", "publicIp": "1.2.3.4"}]});
        let private = json!({"id": "j", "nics": [{"ipv4": "10.0.0.2", "networkName": "net-a"}]});
        let stub = Stub::start([
            ("/v1/projects/p/servers?details=true", json!({"items": [server, private, {"id": "k"}]})),
            ("/token", json!({"access_token": "T", "expires_in": 3600})),
        ])
        .await;
        let key =
            json!({"credentials": {"kid": "K", "iss": "me", "sub": "S", "aud": "https://x", "privateKey": RSA_KEY}})
                .to_string();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key).unwrap();
        let text =
            format!("{{project: p, endpoint: 'http://SERVER', service_account_key_path: {}}}", file.path().display());
        let mut stackit =
            Stackit::with_tokens(&format!("{}/token", stub.address), &settings("stackit", &text, Some(&stub))).unwrap();
        check(
            &stackit.refresh().await.unwrap(),
            PREFIX,
            "1.2.3.4:80 project=p id=i name=web availability_zone=eu01-1 status=ACTIVE power_status=RUNNING type=c1.2 private_ipv4_net_a=10.0.0.1 private_ipv4_b=10.1.0.1 public_ipv4=1.2.3.4 label_env_x=prod labelpresent_env_x=true labelpresent_empty=true
             10.0.0.2:80 project=p id=j private_ipv4_net_a=10.0.0.2",
        );
        let seen = stub.seen();
        assert!(seen[0].body.contains("assertion=ey"), "{}", seen[0].body);
        assert!(seen[1].headers.contains(&"authorization: Bearer T".to_owned()));
    }

    #[tokio::test]
    async fn other_ways_in_are_those_of_the_client() {
        let stub = Stub::start([("/v1/projects/p/servers", json!({"items": []}))]).await;
        let text = "{project: p, endpoint: 'http://SERVER', bearer_token: B}";
        Stackit::new(&settings("stackit", text, Some(&stub))).unwrap().refresh().await.unwrap();
        assert!(stub.seen()[0].headers.contains(&"authorization: Bearer B".to_owned()));
        let text = "{project: p, endpoint: 'http://SERVER', service_account_key: nonsense}";
        let error = Stackit::new(&settings("stackit", text, Some(&stub))).unwrap().refresh().await.unwrap_err();
        assert!(error.starts_with("the service account key is not JSON"), "{error}");
    }
}
