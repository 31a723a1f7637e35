//! `openstack_sd_configs`: the instances, hypervisors and load balancers of an OpenStack.

use std::collections::{BTreeMap, BTreeSet};

use model::Labels;
use reqwest::{Method, Request};
use serde_json::{Map, Value, json};
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, post, set_secret, with_path, with_query};
use super::json::{self, items, list_in, string, strings, text};
use super::refresh::Source;
use super::target::{Target, group};
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_openstack_";

/// Lists what its role says, as a user that logs in for each refresh.
pub(super) struct OpenStack {
    api: Api,
    settings: Settings,
}

/// A login: a token and where services are.
struct Session<'a> {
    api: &'a Api,
    token: String,
    catalog: Value,
    region: &'a str,
    interface: &'a str,
}

impl OpenStack {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self { api: Api::new(settings)?, settings: settings.clone() })
    }

    async fn log_in(&self) -> Result<Session<'_>, String> {
        let endpoint = self.setting("identity_endpoint", "OS_AUTH_URL");
        if endpoint.is_empty() {
            return Err("there is no identity_endpoint, and no OS_AUTH_URL".into());
        }
        let mut base = parse_url(&endpoint)?;
        if !base.path().trim_end_matches('/').ends_with("/v3") {
            base = with_path(&base, "v3");
        }
        let body = json!({"auth": self.credentials()?});
        let answer = self.api.send(post(&with_path(&base, "auth/tokens"), &body)).await?.good()?;
        let token = answer.headers.get("x-subject-token").and_then(|value| value.to_str().ok());
        let token = token.ok_or("the answer has no token")?.to_owned();
        let mut answer = answer.json()?;
        Ok(Session {
            api: &self.api,
            token,
            catalog: json::take(&mut json::take(&mut answer, "token"), "catalog"),
            region: self.settings.text("region"),
            interface: self.settings.text("availability"),
        })
    }

    /// A value of the configuration; where that says nothing at all about who logs in, one of the environment.
    fn setting(&self, key: &str, variable: &str) -> String {
        if self.settings.has("identity_endpoint") {
            return self.settings.text(key).to_owned();
        }
        std::env::var(variable).unwrap_or_default()
    }

    /// The identity and what it is for, as the identity service takes them.
    fn credentials(&self) -> Result<Value, String> {
        let setting = |key, variable| self.setting(key, variable);
        let (domain_id, domain_name) = (setting("domain_id", "OS_DOMAIN_ID"), setting("domain_name", "OS_DOMAIN_NAME"));
        let domain = || {
            if domain_id.is_empty() { json!({"name": domain_name}) } else { json!({"id": domain_id}) }
        };
        let (user, user_id) = (setting("username", "OS_USERNAME"), setting("userid", "OS_USERID"));
        let application_id = setting("application_credential_id", "OS_APPLICATION_CREDENTIAL_ID");
        let application = setting("application_credential_name", "OS_APPLICATION_CREDENTIAL_NAME");
        let has_domain = !domain_id.is_empty() || !domain_name.is_empty();
        let who = || {
            let mut who = Map::new();
            if user_id.is_empty() {
                who.insert("name".into(), user.clone().into());
                if has_domain {
                    who.insert("domain".into(), domain());
                }
            } else {
                who.insert("id".into(), user_id.clone().into());
            }
            who
        };
        if !application_id.is_empty() || !application.is_empty() {
            let mut credential = Map::new();
            if application_id.is_empty() {
                credential.insert("name".into(), application.into());
                credential.insert("user".into(), Value::Object(who()));
            } else {
                credential.insert("id".into(), application_id.into());
            }
            let secret = setting("application_credential_secret", "OS_APPLICATION_CREDENTIAL_SECRET");
            credential.insert("secret".into(), secret.into());
            // what it is for is a part of it
            return Ok(
                json!({"identity": {"methods": ["application_credential"], "application_credential": credential}}),
            );
        }
        if user.is_empty() && user_id.is_empty() {
            return Err("there is no username, userid or application credential".into());
        }
        let mut who = who();
        who.insert("password".into(), setting("password", "OS_PASSWORD").into());
        let mut credentials = json!({"identity": {"methods": ["password"], "password": {"user": who}}});
        let (project, name) = (setting("project_id", "OS_PROJECT_ID"), setting("project_name", "OS_PROJECT_NAME"));
        if !project.is_empty() {
            credentials["scope"] = json!({"project": {"id": project}});
        } else if !name.is_empty() {
            credentials["scope"] = json!({"project": {"name": name, "domain": domain()}});
        } else if has_domain {
            credentials["scope"] = json!({"domain": domain()});
        }
        Ok(credentials)
    }

    async fn instances(&self, session: &Session<'_>) -> Result<Vec<Labels>, String> {
        let network = session.endpoint(&["network"], "v2.0")?;
        let ports = session.list(&with_path(&network, "ports"), "ports", &[]).await?;
        let devices: BTreeMap<&str, &str> = ports.iter().map(|p| (string(&p["id"]), string(&p["device_id"]))).collect();
        let floating = session.list(&with_path(&network, "floatingips"), "floatingips", &[]).await?;
        let (mut public, mut all_public) = (BTreeMap::new(), BTreeSet::new());
        for ip in &floating {
            let fixed = string(&ip["fixed_ip_address"]);
            if let (Some(device), false) = (devices.get(string(&ip["port_id"])), fixed.is_empty()) {
                let address = string(&ip["floating_ip_address"]);
                public.insert((project_of(ip), *device, fixed), address);
                all_public.insert(address);
            }
        }
        let compute = session.endpoint(&["compute"], "")?;
        let query: &[(&str, &str)] = if self.settings.flag("all_tenants") { &[("all_tenants", "true")] } else { &[] };
        let servers = session.list(&with_path(&compute, "servers/detail"), "servers", query).await?;
        let mut targets = Vec::new();
        for server in &servers {
            let mut common = Target::new(PREFIX);
            common.from("instance_id", &server["id"]).from("instance_status", &server["status"]);
            common.from("instance_name", &server["name"]).from("project_id", &server["tenant_id"]);
            common.from("user_id", &server["user_id"]).from("instance_image", &server["image"]["id"]);
            let flavor = &server["flavor"];
            let name = if flavor["original_name"].is_string() { &flavor["original_name"] } else { &flavor["id"] };
            common.from("instance_flavor", name).each("tag_", &server["metadata"]);
            for (pool, addresses) in server["addresses"].as_object().into_iter().flatten() {
                for address in items(addresses) {
                    let ip = string(&address["addr"]);
                    if ip.is_empty() || all_public.contains(ip) {
                        continue;
                    }
                    let mut target = common.clone();
                    target.address(ip, self.settings.int("port")).set("address_pool", pool).set("private_ip", ip);
                    let key = (string(&server["tenant_id"]), string(&server["id"]), ip);
                    target.set("public_ip", public.get(&key).copied().unwrap_or_default());
                    targets.push(target.build());
                }
            }
        }
        Ok(targets)
    }

    async fn hypervisors(&self, session: &Session<'_>) -> Result<Vec<Labels>, String> {
        let compute = session.endpoint(&["compute"], "")?;
        let hypervisors = session.list(&with_path(&compute, "os-hypervisors/detail"), "hypervisors", &[]).await?;
        let targets = hypervisors.iter().map(|hypervisor| {
            let mut target = Target::new(PREFIX);
            target.address(string(&hypervisor["host_ip"]), self.settings.int("port"));
            for (label, key) in [
                ("id", "id"),
                ("hostname", "hypervisor_hostname"),
                ("host_ip", "host_ip"),
                ("status", "status"),
                ("state", "state"),
                ("type", "hypervisor_type"),
            ] {
                target.from(&format!("hypervisor_{label}"), &hypervisor[key]);
            }
            target.build()
        });
        Ok(targets.collect())
    }

    async fn load_balancers(&self, session: &Session<'_>) -> Result<Vec<Labels>, String> {
        let balancing = session.endpoint(&["load-balancer"], "v2.0")?;
        let network = session.endpoint(&["network"], "v2.0")?;
        let balancers = session.list(&with_path(&balancing, "lbaas/loadbalancers"), "loadbalancers", &[]).await?;
        let listeners = session.list(&with_path(&balancing, "lbaas/listeners"), "listeners", &[]).await?;
        let floating = session.list(&with_path(&network, "floatingips"), "floatingips", &[]).await?;
        let floating: BTreeMap<&str, &Value> =
            floating.iter().map(|ip| (string(&ip["port_id"]), &ip["floating_ip_address"])).collect();
        let mut targets = Vec::new();
        for balancer in &balancers {
            let of_balancer = |listener: &&Value| {
                listener["protocol"] == "PROMETHEUS"
                    && items(&listener["loadbalancers"]).any(|b| b["id"] == balancer["id"])
            };
            let Some(listener) = listeners.iter().find(of_balancer) else { continue };
            let mut target = Target::new(PREFIX);
            target.address(string(&balancer["vip_address"]), text(&listener["protocol_port"]));
            for name in ["id", "name", "operating_status", "provisioning_status", "availability_zone", "provider"] {
                target.from(&format!("loadbalancer_{name}"), &balancer[name]);
            }
            target.from("loadbalancer_vip", &balancer["vip_address"]).from("project_id", &balancer["project_id"]);
            let tags: Vec<&str> = strings(&balancer["tags"]).collect();
            target.set("loadbalancer_tags", tags.join(","));
            if let Some(ip) = floating.get(string(&balancer["vip_port_id"])) {
                target.from("loadbalancer_floating_ip", ip);
            }
            targets.push(target.build());
        }
        Ok(targets)
    }
}

fn project_of(object: &Value) -> &str {
    let tenant = string(&object["tenant_id"]);
    if tenant.is_empty() { string(&object["project_id"]) } else { tenant }
}

impl Session<'_> {
    /// Where a service of one of these types is, in the version that we speak.
    fn endpoint(&self, types: &[&str], version: &str) -> Result<Url, String> {
        let service = items(&self.catalog).filter(|service| types.contains(&string(&service["type"])));
        let fits = |endpoint: &&Value| {
            let region =
                self.region.is_empty() || endpoint["region"] == self.region || endpoint["region_id"] == self.region;
            region && endpoint["interface"] == self.interface
        };
        let endpoint = service.flat_map(|service| items(&service["endpoints"])).find(fits);
        let endpoint = endpoint.ok_or_else(|| {
            format!(
                "no suitable {} endpoint of service {} in region {}",
                self.interface,
                types.join(", "),
                model::quote(self.region)
            )
        })?;
        let url = parse_url(string(&endpoint["url"]))?;
        let there = version.is_empty() || url.path().trim_end_matches('/').ends_with(version);
        Ok(if there { url } else { with_path(&url, version) })
    }

    /// All pages of a list.
    async fn list(&self, url: &Url, key: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        let mut page = with_query(url, query.iter().copied());
        for _ in 0..MAX_PAGES {
            let mut request = Request::new(Method::GET, page.clone());
            set_secret(&mut request, "x-auth-token", &self.token)?;
            let answer = self.api.json(request).await?;
            found.extend_from_slice(list_in(&answer, key)?);
            let next = items(&answer[format!("{key}_links")]).find(|link| link["rel"] == "next");
            let Some(next) = next else { return Ok(found) };
            // services behind proxies may name themselves otherwise: only what is asked for is taken from the link
            let next = url.join(string(&next["href"])).map_err(|e| format!("the link to the next page: {e}"))?;
            page.set_query(next.query());
        }
        Err(format!("the list of {key} has no end"))
    }
}

impl Source for OpenStack {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let session = self.log_in().await.map_err(|e| format!("could not authenticate to OpenStack: {e}"))?;
        let targets = match self.settings.text("role") {
            "hypervisor" => self.hypervisors(&session).await?,
            "loadbalancer" => self.load_balancers(&session).await?,
            _ => self.instances(&session).await?,
        };
        Ok(vec![group(format!("OS_{}", session.region), targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    async fn stub() -> Stub {
        let stub = Stub::start([
            ("/net/v2.0/ports", json!({"ports": [{"id": "port1", "device_id": "s1"}]})),
            (
                "/net/v2.0/floatingips",
                json!({"floatingips": [{"tenant_id": "t", "port_id": "port1", "fixed_ip_address": "10.0.0.1", "floating_ip_address": "1.2.3.4"},
                    {"port_id": "vip1", "floating_ip_address": "5.6.7.8"}]}),
            ),
        ])
        .await;
        let endpoint = |path: &str, interface: &str| json!({"interface": interface, "region": "r", "url": format!("http://{}{path}", stub.address)});
        let catalog = json!({"token": {"catalog": [
            {"type": "compute", "endpoints": [endpoint("/wrong", "internal"), endpoint("/nova/v2.1", "public")]},
            {"type": "network", "endpoints": [endpoint("/net", "public")]},
            {"type": "load-balancer", "endpoints": [endpoint("/lb", "public")]}]}});
        stub.set("/identity/v3/auth/tokens", Reply::Raw(201, "X-Subject-Token: TOKEN\r\n", catalog.to_string()));
        stub
    }

    const LOGIN: &str = "identity_endpoint: 'http://SERVER/identity', region: r, username: u, password: p, domain_name: d, project_name: n";

    async fn refresh(stub: &Stub, more: &str) -> Result<Vec<TargetGroup>, String> {
        OpenStack::new(&settings("openstack", &format!("{{{LOGIN}, {more}}}"), Some(stub))).unwrap().refresh().await
    }

    #[tokio::test]
    async fn instances_become_targets() {
        let stub = stub().await;
        let first = json!({"id": "s1", "name": "web", "status": "ACTIVE", "tenant_id": "t", "user_id": "u", "flavor": {"id": "f1"}, "image": {"id": "i"},
            "metadata": {"env.x": "prod"}, "addresses": {"pool": [{"addr": "10.0.0.1"}, {"addr": "1.2.3.4"}]}});
        let second = json!({"id": "s2", "flavor": {"original_name": "m1"}, "image": "", "addresses": {"v6": [{"addr": "fd00::2"}]}});
        let next = json!([{"rel": "next", "href": "http://inner/nova/servers/detail?marker=s1"}]);
        stub.json("/nova/v2.1/servers/detail?all_tenants=true", json!({"servers": [first], "servers_links": next}));
        stub.json("/nova/v2.1/servers/detail?marker=s1", json!({"servers": [second, {"id": "s3", "addresses": {}}]}));
        check(
            &refresh(&stub, "role: instance, all_tenants: true, port: 9").await.unwrap(),
            PREFIX,
            "10.0.0.1:9 instance_id=s1 instance_name=web instance_status=ACTIVE project_id=t user_id=u instance_flavor=f1 instance_image=i tag_env_x=prod address_pool=pool private_ip=10.0.0.1 public_ip=1.2.3.4
             [fd00::2]:9 instance_id=s2 instance_flavor=m1 address_pool=v6 private_ip=fd00::2",
        );
        let seen = stub.seen();
        let expected = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "u", "domain": {"name": "d"}, "password": "p"}}},
            "scope": {"project": {"name": "n", "domain": {"name": "d"}}}}});
        assert_eq!(serde_json::from_str::<Value>(&seen[0].body).unwrap(), expected);
        assert!(seen[1].headers.contains(&"x-auth-token: TOKEN".to_owned()));
    }

    #[tokio::test]
    async fn hypervisors_and_load_balancers_become_targets() {
        let stub = stub().await;
        stub.json("/nova/v2.1/os-hypervisors/detail", json!({"hypervisors": [{"id": 1, "hypervisor_hostname": "h", "host_ip": "10.1.0.1", "status": "enabled", "state": "up", "hypervisor_type": "QEMU"}]}));
        check(
            &refresh(&stub, "role: hypervisor").await.unwrap(),
            PREFIX,
            "10.1.0.1:80 hypervisor_id=1 hypervisor_hostname=h hypervisor_host_ip=10.1.0.1 hypervisor_status=enabled hypervisor_state=up hypervisor_type=QEMU",
        );
        let balancer = json!({"id": "b1", "name": "lb", "vip_address": "10.2.0.1", "vip_port_id": "vip1", "operating_status": "ONLINE", "provisioning_status": "ACTIVE",
            "availability_zone": "az", "provider": "amphora", "project_id": "p", "tags": ["a", "b"]});
        stub.json("/lb/v2.0/lbaas/loadbalancers", json!({"loadbalancers": [balancer, {"id": "b2"}]}));
        stub.json("/lb/v2.0/lbaas/listeners", json!({"listeners": [{"protocol": "HTTP", "loadbalancers": [{"id": "b2"}]}, {"protocol": "PROMETHEUS", "protocol_port": 9101, "loadbalancers": [{"id": "b1"}]}]}));
        check(
            &refresh(&stub, "role: loadbalancer").await.unwrap(),
            PREFIX,
            "10.2.0.1:9101 loadbalancer_id=b1 loadbalancer_name=lb loadbalancer_operating_status=ONLINE loadbalancer_provisioning_status=ACTIVE loadbalancer_availability_zone=az loadbalancer_provider=amphora loadbalancer_vip=10.2.0.1 project_id=p loadbalancer_tags=a,b loadbalancer_floating_ip=5.6.7.8",
        );
        let error = refresh(&stub, "role: hypervisor, availability: admin").await.unwrap_err();
        assert_eq!(error, "no suitable admin endpoint of service compute in region \"r\"");
        stub.set("/identity/v3/auth/tokens", Reply::Raw(401, "", "no".into()));
        assert!(
            refresh(&stub, "role: instance")
                .await
                .unwrap_err()
                .starts_with("could not authenticate to OpenStack: server returned HTTP status 401")
        );
    }
}
