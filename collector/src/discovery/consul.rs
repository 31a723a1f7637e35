//! `consul_sd_configs`: the instances of the services in Consul's catalogue, followed by long polling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::http::client::{BasicAuth, HttpClientConfig};
use common::secret::Secret;
use http::header::{HeaderMap, HeaderValue};
use model::Labels;
use reqwest::{Method, Request};
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

use super::api::{Api, parse_url, set_secret, with_path, with_query};
use super::json::{items, list, string, strings, text};
use super::refresh::interval;
use super::target::Target;
use super::{Children, DiscoveryMetrics, Slot};
use crate::config::{Settings, TargetGroup};
use crate::durations::Durations;

const PREFIX: &str = "__meta_consul_";
/// How long the server may wait for a change before it answers, and how much longer we wait for it.
const WATCH: Duration = Duration::from_secs(120);
const MARGIN: Duration = Duration::from_secs(15);
/// The longest time before a request that failed is made again.
const RETRY: Duration = Duration::from_secs(15);

/// A Consul server and what is wanted of it.
struct Consul {
    api: Api,
    base: Url,
    settings: Settings,
    /// Parameters of every request.
    query: Vec<(String, String)>,
    every: Duration,
    slot: Slot,
}

/// Starts following the catalogue, or the services that are named.
pub(super) fn start(settings: &Settings, slot: Slot, tasks: &mut JoinSet<()>) -> Result<(), String> {
    let consul = Arc::new(Consul::new(settings, slot)?);
    tasks.spawn(run(consul));
    Ok(())
}

impl Consul {
    fn new(settings: &Settings, slot: Slot) -> Result<Self, String> {
        let api = Api::with_client(&client(settings), WATCH + MARGIN)?;
        let server = settings.text("server");
        let whole =
            if server.contains("://") { server.to_owned() } else { format!("{}://{server}", settings.text("scheme")) };
        let base = with_path(&parse_url(&whole)?, settings.text("path_prefix"));
        let mut query = Vec::new();
        for (name, key) in [("dc", "datacenter"), ("ns", "namespace"), ("partition", "partition")] {
            if settings.has(key) {
                query.push((name.to_owned(), settings.text(key).to_owned()));
            }
        }
        let every = interval(settings.duration("refresh_interval"));
        Ok(Self { api, base, settings: settings.clone(), query, every, slot })
    }

    /// The answer at a path, and the index of the state that it shows.
    async fn ask(&self, path: &str, more: &[(&str, &str)]) -> Result<(Value, u64), String> {
        let mut url =
            with_query(&with_path(&self.base, path), self.query.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        url = with_query(&url, more.iter().copied());
        let mut request = Request::new(Method::GET, url);
        if self.settings.has("token") {
            set_secret(&mut request, "x-consul-token", self.settings.text("token"))?;
        }
        let (value, headers) = self.api.json_with_headers(request).await?;
        Ok((value, index_of(&headers)))
    }

    /// The same, as soon as there is another state than that of `index`.
    async fn watch(
        &self,
        path: &str,
        index: u64,
        more: Vec<(&str, &str)>,
        durations: &Durations,
    ) -> Result<(Value, u64), String> {
        let (index_text, wait) = (index.to_string(), format!("{}ms", WATCH.as_millis()));
        let mut query = more;
        if index > 0 {
            query.push(("index", &index_text));
        }
        query.push(("wait", &wait));
        if self.settings.flag("allow_stale") {
            query.push(("stale", ""));
        }
        let node_meta: Vec<String> =
            self.settings.text_map("node_meta").map(|(key, value)| format!("{key}:{value}")).collect();
        query.extend(node_meta.iter().map(|meta| ("node-meta", meta.as_str())));
        let begin = Instant::now();
        let answer = self.ask(path, &query).await;
        durations.observe(begin.elapsed());
        answer
    }

    /// The data centre that the targets are labelled with: the configured one, or the server's own.
    async fn datacenter(&self) -> String {
        if self.settings.has("datacenter") {
            return self.settings.text("datacenter").to_owned();
        }
        loop {
            let error = match self.ask("v1/agent/self", &[]).await {
                Ok((answer, _)) => match answer["Config"]["Datacenter"].as_str() {
                    Some(name) => return name.to_owned(),
                    None => "the answer has no Config.Datacenter".to_owned(),
                },
                Err(error) => error,
            };
            self.failed("Error retrieving datacenter name", &error).await;
        }
    }

    /// Counts a failure, and waits before it is tried again.
    async fn failed(&self, what: &str, error: &str) {
        self.metrics().consul_failures.inc();
        tracing::error!(discovery = "consul", config = self.slot.meter.config(), err = error, "{what}");
        tokio::time::sleep(RETRY.min(self.every)).await;
    }

    fn metrics(&self) -> &DiscoveryMetrics {
        &self.slot.metrics
    }

    /// Whether a service of the catalogue is wanted.
    fn wants(&self, name: &str, tags: &Value) -> bool {
        let services = self.settings.texts("services");
        let tagged = |wanted: &String| strings(tags).any(|tag| tag == wanted);
        (services.is_empty() || services.iter().any(|service| service == name))
            && self.settings.texts("tags").iter().all(tagged)
    }
}

/// The client's configuration: user and password may stand outside of `basic_auth`.
fn client(settings: &Settings) -> HttpClientConfig {
    let mut config = settings.http_client.clone();
    if settings.has("username") || settings.has("password") {
        config.basic_auth = Some(BasicAuth {
            username: settings.text("username").to_owned(),
            password: Secret::new(settings.text("password")),
            ..BasicAuth::default()
        });
    }
    config
}

fn index_of(headers: &HeaderMap) -> u64 {
    let text = headers.get("x-consul-index").map(HeaderValue::as_bytes).unwrap_or_default();
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

async fn run(consul: Arc<Consul>) {
    let datacenter = consul.datacenter().await;
    let mut children = Children::new();
    let (services, tags) = (consul.settings.texts("services"), consul.settings.texts("tags"));
    if !services.is_empty() && tags.is_empty() && !consul.settings.has("filter") {
        for name in services {
            children.spawn(follow_service(Arc::clone(&consul), name.clone(), datacenter.clone()));
        }
        std::future::pending::<()>().await;
    }
    let mut followed: BTreeMap<String, AbortHandle> = BTreeMap::new();
    let mut index = 0;
    let mut ticks = tokio::time::interval(consul.every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let filter = consul.settings.text("filter");
        let more = if filter.is_empty() { Vec::new() } else { vec![("filter", filter)] };
        let answer = consul.watch("v1/catalog/services", index, more, &consul.metrics().consul_services).await;
        let services = match answer.and_then(|(value, index)| as_services(value).map(|services| (services, index))) {
            // nothing new in all the time
            Ok((_, seen)) if seen == index && seen > 0 => continue,
            Ok((services, seen)) => {
                index = seen;
                services
            }
            Err(error) => {
                consul.failed("Error refreshing service list", &error).await;
                continue;
            }
        };
        for (name, tags) in &services {
            if consul.wants(name, tags) && !followed.contains_key(name) {
                let task = follow_service(Arc::clone(&consul), name.clone(), datacenter.clone());
                followed.insert(name.clone(), children.spawn(task));
            }
        }
        followed.retain(|name, task| {
            let stays = services.contains_key(name);
            if !stays {
                task.abort();
            }
            stays
        });
        consul.slot.retain(|source| followed.contains_key(source));
    }
}

fn as_services(value: Value) -> Result<serde_json::Map<String, Value>, String> {
    match value {
        Value::Object(services) => Ok(services),
        Value::Null => Ok(serde_json::Map::new()),
        _ => Err("the answer has no services".to_owned()),
    }
}

async fn follow_service(consul: Arc<Consul>, name: String, datacenter: String) {
    let path = format!("v1/health/service/{}", encode_segment(&name));
    let mut index = 0;
    let mut ticks = tokio::time::interval(consul.every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut more: Vec<(&str, &str)> =
            consul.settings.texts("tags").iter().map(|tag| ("tag", tag.as_str())).collect();
        if consul.settings.has("health_filter") {
            more.push(("filter", consul.settings.text("health_filter")));
        }
        let answer = consul.watch(&path, index, more, &consul.metrics().consul_service).await;
        let separator = consul.settings.text("tag_separator");
        match answer.and_then(|(value, seen)| Ok((group(&name, &datacenter, separator, &value)?, seen))) {
            Ok((_, seen)) if seen == index && seen > 0 => {}
            Ok((group, seen)) => {
                index = seen;
                consul.slot.put(group);
            }
            Err(error) => consul.failed(&format!("Error refreshing service {name}"), &error).await,
        }
    }
}

fn encode_segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The targets of a service.
fn group(name: &str, datacenter: &str, separator: &str, answer: &Value) -> Result<TargetGroup, String> {
    let mut common = Target::new(PREFIX);
    common.set("service", name).set("dc", datacenter);
    let targets: Vec<Labels> = list(answer, "instances")?.iter().map(|entry| target(entry, separator)).collect();
    Ok(TargetGroup { targets, labels: common.build(), source: name.to_owned() })
}

fn target(entry: &Value, separator: &str) -> Labels {
    let (node, service) = (&entry["Node"], &entry["Service"]);
    let mut target = Target::new(PREFIX);
    // separators at both ends even without tags: expressions need not care where a tag stands
    let tags: Vec<&str> = strings(&service["Tags"]).collect();
    target.set("tags", format!("{separator}{}{separator}", tags.join(separator)));
    target.from("address", &node["Address"]).from("node", &node["Node"]);
    target.from("namespace", &service["Namespace"]).from("partition", &service["Partition"]);
    target.from("service_address", &service["Address"]).from("service_id", &service["ID"]);
    let port = service["Port"].as_i64().unwrap_or(0);
    target.set("service_port", port).set("health", health(&entry["Checks"]));
    target.each("metadata_", &node["Meta"]).each("service_metadata_", &service["Meta"]);
    target.each("tagged_address_", &node["TaggedAddresses"]);
    let own = text(&service["Address"]);
    target.address(if own.is_empty() { string(&node["Address"]) } else { &own }, port);
    target.build()
}

/// The worst of the checks' states.
fn health(checks: &Value) -> &'static str {
    const STATES: [&str; 4] = ["passing", "warning", "critical", "maintenance"];
    let mut worst = 0;
    for check in items(checks) {
        let id = string(&check["CheckID"]);
        let state = if id == "_node_maintenance" || id.starts_with("_service_maintenance:") {
            "maintenance"
        } else {
            string(&check["Status"])
        };
        let Some(rank) = STATES.iter().position(|known| *known == state) else { return "" };
        worst = worst.max(rank);
    }
    STATES[worst]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Reply, Running, Stub, check, config};
    use super::*;

    fn instance(address: &str, port: u16) -> Value {
        json!({"Node": {"Node": "n", "Address": address}, "Service": {"ID": "i", "Port": port}, "Checks": []})
    }

    fn indexed(index: &'static str, value: &Value) -> Reply {
        Reply::Raw(200, index, value.to_string())
    }

    const ONE: &str = "X-Consul-Index: 1\r\n";
    const TWO: &str = "X-Consul-Index: 2\r\n";

    #[test]
    fn instances_become_targets() {
        let answer = json!([
            {"Node": {"Node": "node1", "Address": "10.0.0.1", "Datacenter": "dc1", "Meta": {"rack-id": "r1"},
                      "TaggedAddresses": {"lan": "10.0.0.1", "wan": "1.2.3.4"}},
             "Service": {"ID": "web-1", "Service": "web", "Tags": ["a", "b"], "Address": "fd00::1", "Port": 80,
                         "Meta": {"version": "2"}, "Namespace": "ns", "Partition": "p"},
             "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "c", "Status": "warning"}]},
            {"Node": {"Node": "node2", "Address": "10.0.0.2"},
             "Service": {"ID": "web-2", "Tags": null, "Address": "", "Port": 81},
             "Checks": [{"CheckID": "_service_maintenance:web-2", "Status": "critical"}]}
        ]);
        let got = group("web", "dc1", "|", &answer).unwrap();
        check(
            &[got],
            PREFIX,
            "[fd00::1]:80 service=web dc=dc1 tags=|a|b| address=10.0.0.1 node=node1 namespace=ns partition=p service_address=fd00::1 service_id=web-1 service_port=80 health=warning metadata_rack_id=r1 service_metadata_version=2 tagged_address_lan=10.0.0.1 tagged_address_wan=1.2.3.4
             10.0.0.2:81 service=web dc=dc1 tags=|| address=10.0.0.2 node=node2 service_id=web-2 service_port=81 health=maintenance",
        );
        assert!(group("web", "dc1", ",", &json!({"error": 1})).is_err());
        for (checks, expected) in [
            (json!(null), "passing"),
            (json!([{"Status": "critical"}, {"Status": "warning"}]), "critical"),
            (json!([{"Status": "strange"}]), ""),
        ] {
            assert_eq!(health(&checks), expected);
        }
    }

    #[tokio::test]
    async fn services_and_instances_come_change_fail_and_go() {
        let stub = Stub::start([("/p/v1/agent/self", json!({"Config": {"Datacenter": "east"}}))]).await;
        let (services, web, db) = ("/p/v1/catalog/services", "/p/v1/health/service/web", "/p/v1/health/service/db");
        stub.set(services, indexed(ONE, &json!({"web": ["x"], "other": []})));
        stub.set(web, indexed(ONE, &json!([instance("a", 1)])));
        stub.set(db, indexed(ONE, &json!([instance("b", 2)])));
        let text = "{server: SERVER, path_prefix: /p, tags: [x], token: secret, refresh_interval: 50ms, namespace: n, allow_stale: true, node_meta: {rack: r}, health_filter: 'Service.Port > 0'}";
        let mut running = Running::start(&[config("consul", text, Some(&stub))]);
        running.until_addresses(&["a:1"]).await;
        let groups = running.groups.borrow().clone();
        assert_eq!((groups.len(), groups[0].labels.value("__meta_consul_dc")), (1, "east"));
        let first = stub.seen().into_iter().find(|s| s.line.contains(web)).unwrap();
        let expected =
            format!("GET {web}?ns=n&tag=x&filter=Service.Port+%3E+0&wait=120000ms&stale=&node-meta=rack%3Ar");
        assert_eq!(first.line, expected);
        assert!(first.headers.iter().any(|h| h == "x-consul-token: secret"), "{:?}", first.headers);

        // an instance more; what is asked next names the state that is known
        stub.set(web, indexed(TWO, &json!([instance("a", 1), instance("c", 3)])));
        running.until_addresses(&["a:1", "c:3"]).await;
        while !stub.lines().iter().any(|line| line.contains(web) && line.contains("&index=2&")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        // faults change nothing
        for fault in [Reply::Raw(500, "", "no leader".into()), Reply::Raw(200, TWO, "{\"a\": 1}".into())] {
            let before = running.metrics.consul_failures.get();
            stub.set(web, fault);
            while running.metrics.consul_failures.get() < before + 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            running.until_addresses(&["a:1", "c:3"]).await;
        }

        // another service comes, and the first goes
        stub.set(services, indexed("X-Consul-Index: 5\r\n", &json!({"db": ["x", "y"]})));
        running.until_addresses(&["b:2"]).await;
        stub.set(services, indexed("X-Consul-Index: 6\r\n", &json!({})));
        running.until_addresses(&[]).await;
    }

    /// Waits for a request line with all of these parts.
    async fn asked(stub: &Stub, parts: &[&str]) {
        while !stub.lines().iter().any(|line| parts.iter().all(|part| line.contains(part))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_server_that_fails_and_comes_back_with_an_older_state_is_followed() {
        let stub = Stub::start([]).await;
        let (own, services, web) = ("/v1/agent/self", "/v1/catalog/services", "/v1/health/service/web");
        for path in [own, services, web] {
            stub.set(path, Reply::Raw(500, "", "No cluster leader".into()));
        }
        let text =
            "{server: SERVER, partition: q, filter: 'ServiceName == web', refresh_interval: 20ms, allow_stale: false}";
        let mut running = Running::start(&[config("consul", text, Some(&stub))]);
        // the name of the data centre is asked for until it is known
        asked(&stub, &[own, "partition=q"]).await;
        while running.metrics.consul_failures.get() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!stub.lines().iter().any(|line| line.contains(services)));
        stub.set(own, Reply::Raw(200, "", json!({"Config": {"Datacenter": "east"}}).to_string()));
        // then the catalogue, then the service
        asked(&stub, &[services, "partition=q", "filter=ServiceName+%3D%3D+web"]).await;
        stub.set(services, indexed("X-Consul-Index: 900\r\n", &json!({"web": []})));
        asked(&stub, &[web]).await;
        stub.set(web, indexed("X-Consul-Index: 900\r\n", &json!([instance("a", 1)])));
        running.until_addresses(&["a:1"]).await;
        asked(&stub, &[web, "index=900"]).await;
        asked(&stub, &[services, "index=900"]).await;
        assert!(stub.lines().iter().all(|line| !line.contains("stale")));

        // a server restored from a copy counts from an older state on, which is a new one for us
        stub.set(services, indexed("X-Consul-Index: 7\r\n", &json!({"web": []})));
        stub.set(web, indexed("X-Consul-Index: 7\r\n", &json!([instance("b", 2)])));
        running.until_addresses(&["b:2"]).await;
        asked(&stub, &[web, "index=7&"]).await;
        // without an index there is nothing to wait for: it is asked again at the interval, and believed each time
        stub.set(web, Reply::Raw(200, "", json!([instance("c", 3)]).to_string()));
        running.until_addresses(&["c:3"]).await;
        stub.set(web, Reply::Raw(200, "", json!([instance("d", 4)]).to_string()));
        running.until_addresses(&["d:4"]).await;
        // an answer of the same state says that nothing has changed, whatever it holds
        stub.set(web, indexed("X-Consul-Index: 8\r\n", &json!([instance("e", 5)])));
        running.until_addresses(&["e:5"]).await;
        stub.set(web, indexed("X-Consul-Index: 8\r\n", &json!([instance("f", 6)])));
        let before = stub.lines().len();
        while stub.lines().len() < before + 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.until_addresses(&["e:5"]).await;
        // the last instance goes, the service stays
        stub.set(web, indexed("X-Consul-Index: 9\r\n", &json!([])));
        running.until_addresses(&[]).await;
        assert_eq!(running.groups.borrow().len(), 1);
    }

    #[tokio::test]
    async fn named_services_need_no_catalogue() {
        let stub = Stub::start([("/v1/health/service/a%2Fb", json!([instance("h", 9)]))]).await;
        let text = "{server: SERVER, services: [a/b], datacenter: d, refresh_interval: 50ms, username: u, password: p}";
        let mut running = Running::start(&[config("consul", text, Some(&stub))]);
        running.until_addresses(&["h:9"]).await;
        let seen = stub.seen();
        assert!(seen.iter().all(|s| s.line.contains("dc=d") && !s.line.contains("catalog")), "{seen:?}");
        assert!(seen[0].headers.iter().any(|h| h == "authorization: Basic dTpw"), "{seen:?}");
    }
}
