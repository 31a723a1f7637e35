//! `azure_sd_configs`: Azure's virtual machines, those of scale sets included.

use std::time::Duration;

use common::http::client::HttpClientConfig;
use http::header::{AUTHORIZATION, HeaderValue};
use model::Labels;
use reqwest::{Method, Request, StatusCode};
use serde_json::Value;
use url::Url;

use super::DiscoveryMetrics;
use super::api::{Api, MAX_PAGES, Question, parse_url, set_secret, several, with_path, with_query};
use super::json::{items, list_in, string};
use super::refresh::Source;
use super::target::{Target, group};
use super::token::{self, TokenCache};
use crate::config::{Settings, TargetGroup};
use crate::scrape::Counter;

const PREFIX: &str = "__meta_azure_";
const COMPUTE_VERSION: &str = "2023-09-01";
const NETWORK_VERSION: &str = "2023-09-01";
/// The version that knows the interfaces of machines in scale sets.
const SCALE_SET_NETWORK_VERSION: &str = "2018-10-01";
/// Interfaces that are asked about at once.
const CONCURRENCY: usize = 10;
/// The instance metadata service answers at once, or there is none.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Lists machines with their interfaces.
pub(super) struct Azure {
    api: Api,
    /// Asks for tokens.
    identity: Api,
    cloud: Cloud,
    settings: Settings,
    token: TokenCache,
}

/// Where a cloud is.
#[derive(Debug)]
struct Cloud {
    login: Url,
    management: Url,
    instance: Url,
}

impl Cloud {
    fn named(name: &str) -> Result<Self, String> {
        let (login, management) = match name.to_uppercase().as_str() {
            "AZURECLOUD" | "AZUREPUBLICCLOUD" => ("https://login.microsoftonline.com", "https://management.azure.com"),
            "AZURECHINACLOUD" => ("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn"),
            "AZUREGOVERNMENT" | "AZUREUSGOVERNMENT" | "AZUREUSGOVERNMENTCLOUD" => {
                ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net")
            }
            _ => return Err(format!("there is no cloud configuration matching the name {}", model::quote(name))),
        };
        let instance = parse_url("http://169.254.169.254")?;
        Ok(Self { login: parse_url(login)?, management: parse_url(management)?, instance })
    }
}

impl Azure {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::in_cloud(Cloud::named(settings.text("environment"))?, settings)
    }

    fn in_cloud(cloud: Cloud, settings: &Settings) -> Result<Self, String> {
        let tls = settings.http_client.tls_config.clone();
        let identity = HttpClientConfig { tls_config: tls, ..HttpClientConfig::default() };
        Ok(Self {
            api: Api::new(settings)?,
            identity: Api::with_client(&identity, INSTANCE_TIMEOUT)?,
            cloud,
            settings: settings.clone(),
            token: TokenCache::default(),
        })
    }

    async fn token(&mut self) -> Result<String, String> {
        let (identity, cloud, settings) = (&self.identity, &self.cloud, &self.settings);
        let fetched = self.token.get(fetch_token(identity, cloud, settings)).await;
        fetched.map_err(|e| format!("could not create Azure client: {e}"))
    }

    async fn get(&self, url: &Url, token: &str) -> Result<Option<Value>, String> {
        let mut request = Request::new(Method::GET, url.clone());
        set_secret(&mut request, AUTHORIZATION.as_str(), &format!("Bearer {token}"))?;
        let answer = self.api.send(request).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.good()?.json().map(Some)
    }

    /// All pages of a list.
    async fn list(&self, path: &str, token: &str) -> Result<Vec<Value>, String> {
        let base = &self.cloud.management;
        let mut url = with_query(&with_path(base, path), [("api-version", COMPUTE_VERSION)]);
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.get(&url, token).await?.ok_or_else(|| format!("{path} does not exist"))?;
            found.extend_from_slice(list_in(&answer, "value")?);
            let next = string(&answer["nextLink"]);
            if next.is_empty() {
                return Ok(found);
            }
            url = Url::parse(next).map_err(|e| format!("the link to the next page: {e}"))?;
            // the token is for nobody else
            if url.origin() != base.origin() {
                return Err(format!("the link to the next page leads to {}", url.host_str().unwrap_or_default()));
            }
        }
        Err(format!("{path}: the list has no end"))
    }

    fn path(&self, kind: &str) -> String {
        let mut path = format!("subscriptions/{}", self.settings.text("subscription_id"));
        if self.settings.has("resource_group") {
            path.push_str(&format!("/resourceGroups/{}", self.settings.text("resource_group")));
        }
        format!("{path}/providers/Microsoft.Compute/{kind}")
    }

    /// Machines, each with the name of its scale set, empty where it is in none.
    async fn machines(&self, token: &str) -> Result<Vec<(Value, String)>, String> {
        let machines = self.list(&self.path("virtualMachines"), token).await;
        let machines = machines.map_err(|e| format!("could not get virtual machines: {e}"))?;
        let mut all: Vec<(Value, String)> = machines.into_iter().map(|machine| (machine, String::new())).collect();
        let scale_sets = self.list(&self.path("virtualMachineScaleSets"), token).await;
        for set in scale_sets.map_err(|e| format!("could not get virtual machine scale sets: {e}"))? {
            let machines = self.list(&format!("{}/virtualMachines", string(&set["id"])), token).await;
            let machines = machines.map_err(|e| format!("could not get virtual machine scale set vms: {e}"))?;
            all.extend(machines.into_iter().map(|machine| (machine, string(&set["name"]).to_owned())));
        }
        Ok(all)
    }

    async fn target(&self, machine: &Value, scale_set: &str, token: &str) -> Result<Option<Labels>, String> {
        let (id, properties) = (string(&machine["id"]), &machine["properties"]);
        let mut target = Target::new(PREFIX);
        target.set("subscription_id", self.settings.text("subscription_id"));
        target.set("tenant_id", self.settings.text("tenant_id")).set("machine_id", id);
        target.from("machine_name", &machine["name"]).from("machine_location", &machine["location"]);
        target.from("machine_computer_name", &properties["osProfile"]["computerName"]);
        target.from("machine_os_type", &properties["storageProfile"]["osDisk"]["osType"]);
        target.from("machine_size", &properties["hardwareProfile"]["vmSize"]);
        target.set("machine_resource_group", resource_group(id).ok_or_else(|| format!("invalid ID '{id}'"))?);
        target.set("machine_scale_set", scale_set).each("machine_tag_", &machine["tags"]);
        let version = if scale_set.is_empty() { NETWORK_VERSION } else { SCALE_SET_NETWORK_VERSION };
        for reference in items(&properties["networkProfile"]["networkInterfaces"]) {
            let path = with_path(&self.cloud.management, string(&reference["id"]));
            let query = [("api-version", version), ("$expand", "IPConfigurations/PublicIPAddress")];
            let Some(interface) = self.get(&with_query(&path, query), token).await? else {
                tracing::warn!(
                    discovery = "azure",
                    name = string(&reference["id"]),
                    "Network interface does not exist"
                );
                return Ok(None);
            };
            // without an answer to this the machine is not allocated
            let Some(primary) = interface["properties"]["primary"].as_bool() else { return Ok(None) };
            let configurations = &interface["properties"]["ipConfigurations"];
            if let (true, Some(configuration)) = (primary, items(configurations).next()) {
                let properties = &configuration["properties"];
                target.from("machine_public_ip", &properties["publicIPAddress"]["properties"]["ipAddress"]);
                let private = string(&properties["privateIPAddress"]);
                if private.is_empty() {
                    return Err(format!("unable to find a private IP for VM {}", string(&machine["name"])));
                }
                target.set("machine_private_ip", private).address(private, self.settings.int("port"));
                return Ok(Some(target.build()));
            }
        }
        Ok(None)
    }
}

/// The word after `resourceGroups` of an identifier.
fn resource_group(id: &str) -> Option<&str> {
    let mut parts = id.split('/');
    parts.find(|part| part.eq_ignore_ascii_case("resourceGroups"))?;
    parts.next().filter(|name| !name.is_empty())
}

async fn fetch_token(api: &Api, cloud: &Cloud, settings: &Settings) -> Result<(String, u64), String> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let or = |key: &str, name: &str| if settings.has(key) { settings.text(key).to_owned() } else { variable(name) };
    match settings.text("authentication_method") {
        "OAuth" => {
            let (tenant, client) = (settings.text("tenant_id"), settings.text("client_id"));
            by_secret(api, cloud, tenant, client, settings.text("client_secret")).await
        }
        "WorkloadIdentity" => {
            by_workload(api, cloud, &or("tenant_id", "AZURE_TENANT_ID"), &or("client_id", "AZURE_CLIENT_ID")).await
        }
        "ManagedIdentity" => by_instance(api, cloud, settings.text("client_id")).await,
        // what the surroundings give, in the order of Azure's own libraries
        _ => {
            let (tenant, client) = (or("tenant_id", "AZURE_TENANT_ID"), or("client_id", "AZURE_CLIENT_ID"));
            let secret = variable("AZURE_CLIENT_SECRET");
            if !secret.is_empty() {
                by_secret(api, cloud, &tenant, &client, &secret).await
            } else if !variable("AZURE_FEDERATED_TOKEN_FILE").is_empty() {
                by_workload(api, cloud, &tenant, &client).await
            } else {
                by_instance(api, cloud, &client).await
            }
        }
    }
}

fn scope(cloud: &Cloud) -> String {
    format!("{}.default", cloud.management)
}

fn token_url(cloud: &Cloud, tenant: &str) -> Url {
    with_path(&cloud.login, &format!("{tenant}/oauth2/v2.0/token"))
}

async fn by_secret(
    api: &Api,
    cloud: &Cloud,
    tenant: &str,
    client: &str,
    secret: &str,
) -> Result<(String, u64), String> {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_secret", secret),
        ("scope", &scope(cloud)),
    ];
    token::by_form(api, &token_url(cloud, tenant), &form).await
}

async fn by_workload(api: &Api, cloud: &Cloud, tenant: &str, client: &str) -> Result<(String, u64), String> {
    let file = std::env::var("AZURE_FEDERATED_TOKEN_FILE").map_err(|_| "AZURE_FEDERATED_TOKEN_FILE is not set")?;
    let assertion = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.trim()),
        ("scope", &scope(cloud)),
    ];
    token::by_form(api, &token_url(cloud, tenant), &form).await
}

/// A token of the identity that the machine has which we run on.
async fn by_instance(api: &Api, cloud: &Cloud, client: &str) -> Result<(String, u64), String> {
    let resource = cloud.management.as_str().trim_end_matches('/').to_owned();
    let mut query = vec![("api-version", "2018-02-01"), ("resource", resource.as_str())];
    if !client.is_empty() {
        query.push(("client_id", client));
    }
    let url = with_query(&with_path(&cloud.instance, "metadata/identity/oauth2/token"), query);
    let mut request = Request::new(Method::GET, url);
    request.headers_mut().insert("metadata", HeaderValue::from_static("true"));
    token::read(&api.json(request).await?)
}

impl Source for Azure {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let token = self.token().await?;
        let azure = &*self;
        let machines = azure.machines(&token).await;
        let targets: Result<Vec<Option<Labels>>, String> = match &machines {
            Ok(machines) => {
                let mut questions: Vec<Question<'_, Option<Labels>>> = Vec::new();
                for (machine, set) in machines {
                    questions.push(Box::pin(azure.target(machine, set, &token)));
                }
                several(questions, CONCURRENCY).await
            }
            Err(error) => Err(error.clone()),
        };
        if targets.is_err() {
            // it may have been taken back
            self.token.forget();
        }
        let targets = targets.map_err(|e| format!("unable to complete Azure service discovery: {e}"))?;
        Ok(vec![group("azure", targets.into_iter().flatten().collect())])
    }

    fn failures(metrics: &DiscoveryMetrics) -> Option<&Counter> {
        Some(&metrics.azure_failures)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    const ROOT: &str = "/subscriptions/sub/providers/Microsoft.Compute";

    fn at(stub: &Stub, text: &str) -> Azure {
        let base = parse_url(&stub.address.to_string()).unwrap();
        let cloud = Cloud { login: base.clone(), management: base.clone(), instance: base };
        Azure::in_cloud(cloud, &settings("azure", text, None)).unwrap()
    }

    fn interface(primary: Option<bool>, private: &str) -> Value {
        json!({"properties": {"primary": primary, "ipConfigurations": [{"properties": {"privateIPAddress": private,
            "publicIPAddress": {"properties": {"ipAddress": "1.2.3.4"}}}}]}})
    }

    async fn stub() -> Stub {
        let machine = |id: &str, name: &str, interface: &str| {
            json!({"id": id, "name": name, "location": "westeurope", "tags": {"env.x": "prod"}, "properties": {
                "hardwareProfile": {"vmSize": "Standard_D2"}, "osProfile": {"computerName": "host"}, "storageProfile": {"osDisk": {"osType": "Linux"}},
                "networkProfile": {"networkInterfaces": [{"id": interface}]}}})
        };
        let stub = Stub::start([
            ("/tenant/oauth2/v2.0/token", json!({"access_token": "T", "expires_in": 3600})),
            ("/metadata/identity/oauth2/token", json!({"access_token": "M", "expires_in": "3600"})),
            ("/nic1", interface(Some(true), "10.0.0.1")),
            ("/nic2", interface(None, "10.0.0.2")),
            ("/nic4", interface(Some(true), "10.0.0.4")),
        ])
        .await;
        let vms = format!("{ROOT}/virtualMachines");
        let next = format!("http://{}{vms}?page=2&api-version=x", stub.address);
        stub.json(
            &vms,
            json!({"value": [machine("/subscriptions/sub/resourceGroups/rg/p/vm1", "vm1", "/nic1")], "nextLink": next}),
        );
        let second =
            [machine("/x/resourceGroups/rg/vm2", "vm2", "/nic2"), machine("/x/resourceGroups/rg/vm3", "vm3", "/gone")];
        stub.json(&format!("{vms}?page=2&api-version=x"), json!({"value": second}));
        stub.json(
            &format!("{ROOT}/virtualMachineScaleSets"),
            json!({"value": [{"id": "/scale/set1", "name": "set1"}]}),
        );
        stub.json(
            "/scale/set1/virtualMachines",
            json!({"value": [machine("/x/resourceGroups/RG/vm4", "set1_0", "/nic4")]}),
        );
        stub
    }

    const COMMON: &str = "subscription_id=sub machine_location=westeurope machine_computer_name=host machine_os_type=Linux machine_size=Standard_D2 machine_tag_env_x=prod machine_public_ip=1.2.3.4";

    #[tokio::test]
    async fn machines_become_targets() {
        let stub = stub().await;
        let mut azure = at(&stub, "{subscription_id: sub, tenant_id: tenant, client_id: c, client_secret: s}");
        for _ in 0..2 {
            check(
                &azure.refresh().await.unwrap(),
                PREFIX,
                &format!(
                    "10.0.0.1:80 {COMMON} tenant_id=tenant machine_id=/subscriptions/sub/resourceGroups/rg/p/vm1 machine_name=vm1 machine_resource_group=rg machine_private_ip=10.0.0.1
                     10.0.0.4:80 {COMMON} tenant_id=tenant machine_id=/x/resourceGroups/RG/vm4 machine_name=set1_0 machine_resource_group=RG machine_scale_set=set1 machine_private_ip=10.0.0.4"
                ),
            );
        }
        let seen = stub.seen();
        let asked: Vec<_> = seen.iter().filter(|s| s.line.contains("token")).collect();
        assert_eq!(asked.len(), 1, "one token is enough");
        let scope = format!("scope=http%3A%2F%2F127.0.0.1%3A{}%2F.default", stub.address.port());
        assert!(asked[0].body.contains("client_secret=s") && asked[0].body.contains(&scope), "{}", asked[0].body);
        assert!(seen[1].headers.contains(&"authorization: Bearer T".to_owned()));
        assert!(
            seen.iter()
                .any(|s| s.line == "GET /nic4?api-version=2018-10-01&%24expand=IPConfigurations%2FPublicIPAddress")
        );
    }

    #[tokio::test]
    async fn the_machines_own_identity_will_do_and_tokens_stay_here() {
        let stub = stub().await;
        let mut azure =
            at(&stub, "{subscription_id: sub, authentication_method: ManagedIdentity, client_id: me, port: 9}");
        assert_eq!(azure.refresh().await.unwrap()[0].targets.len(), 2);
        let first = &stub.seen()[0];
        assert!(
            first.headers.contains(&"metadata: true".to_owned()) && first.line.contains("client_id=me"),
            "{first:?}"
        );
        let vms = format!("{ROOT}/virtualMachines");
        stub.json(&vms, json!({"value": [], "nextLink": "http://elsewhere/x"}));
        assert!(azure.refresh().await.unwrap_err().contains("leads to elsewhere"));
        stub.set(&vms, Reply::Raw(401, "", "expired".into()));
        assert!(azure.refresh().await.unwrap_err().contains("could not get virtual machines"));
        assert!(Cloud::named("x").is_err());
    }
}
