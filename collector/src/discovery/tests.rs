//! What holds for all mechanisms.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::testing::{Reply, Running, Stub, config, show};
use super::*;
use crate::notifier::{Notifier, NotifierOptions};

/// Settings that each mechanism takes; `SERVER` is where it is to ask.
const SETTINGS: [(&str, &str); 33] = [
    ("azure", "{subscription_id: s, authentication_method: SDK}"),
    ("consul", "server: SERVER"),
    ("digitalocean", "port: 1"),
    ("dns", "names: [nobody.invalid]"),
    ("docker", "host: http://SERVER"),
    ("dockerswarm", "{host: 'http://SERVER', role: tasks}"),
    ("ec2", AWS),
    ("ecs", AWS),
    ("elasticache", AWS),
    ("lightsail", AWS),
    ("msk", AWS),
    ("rds", AWS),
    ("aws", "{role: ec2, endpoint: 'http://SERVER', region: r, access_key: a, secret_key: b}"),
    ("eureka", "server: http://SERVER"),
    ("gce", "{project: p, zone: z}"),
    ("hetzner", "role: hcloud"),
    ("ionos", "datacenter_id: d"),
    ("kubernetes", "{role: endpointslice, api_server: 'http://SERVER'}"),
    ("kuma", "server: http://SERVER"),
    ("linode", "port: 1"),
    ("marathon", "servers: ['http://SERVER']"),
    ("nerve", "{servers: [SERVER], paths: [/a]}"),
    ("nomad", "server: http://SERVER"),
    ("openstack", "{role: instance, identity_endpoint: 'http://SERVER', username: u}"),
    ("outscale", "{endpoint: 'http://SERVER', access_key: a, secret_key: b}"),
    (
        "ovhcloud",
        "{endpoint: 'http://SERVER', application_key: a, application_secret: b, consumer_key: c, service: vps}",
    ),
    ("puppetdb", "{url: 'http://SERVER', query: q}"),
    ("scaleway", "{role: baremetal, api_url: 'http://SERVER', project_id: p, access_key: a, secret_key: b}"),
    ("serverset", "{servers: [SERVER], paths: [/a]}"),
    ("stackit", "{endpoint: 'http://SERVER', project: p}"),
    ("triton", "{account: a, dns_suffix: b, endpoint: c}"),
    ("uyuni", "{server: 'http://SERVER', username: u, password: p}"),
    ("vultr", "port: 1"),
];
const AWS: &str = "{endpoint: 'http://SERVER', region: r, access_key: a, secret_key: b}";

/// Mechanisms that always ask the same place on the Internet, or the machine they run on: tests leave them alone.
const ELSEWHERE: [&str; 9] = ["azure", "digitalocean", "dns", "gce", "hetzner", "ionos", "linode", "triton", "vultr"];

#[tokio::test]
async fn every_mechanism_of_the_configuration_can_be_started() {
    let stub = Stub::start([]).await;
    for name in DiscoveryConfig::mechanisms().filter(|name| *name != "oci" && !ELSEWHERE.contains(name)) {
        let (_, text) =
            SETTINGS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("settings of {name}"));
        let running = Running::start(&[config(name, text, Some(&stub))]);
        assert_eq!(running.failed_configs(), 0, "{name}");
    }
    for name in ELSEWHERE {
        let settings =
            super::testing::settings(name, SETTINGS.iter().find(|(known, _)| *known == name).unwrap().1, None);
        let (metrics, mut tasks) = (Arc::<DiscoveryMetrics>::default(), JoinSet::new());
        let shared = Arc::new(Shared { places: Mutex::default(), changed: Notify::new() });
        let slot = Slot { place: 0, shared, meter: metrics.job(Consumer::Scrape, "j"), metrics };
        // nothing runs before this gives way
        assert_eq!(registry::start(name, &settings, slot, &mut tasks), Ok(()), "{name}");
        tasks.abort_all();
    }
}

/// Values with the keys that mechanisms look for, and anything under them.
fn answers() -> impl Strategy<Value = Value> {
    const KEYS: [&str; 40] = [
        "items",
        "metadata",
        "name",
        "Node",
        "Service",
        "Services",
        "Tags",
        "services",
        "servers",
        "addresses",
        "Id",
        "Names",
        "Ports",
        "NetworkSettings",
        "Networks",
        "Status",
        "Spec",
        "Endpoint",
        "Endpoints",
        "VirtualIPs",
        "Addr",
        "instances",
        "networkInterfaces",
        "networks",
        "apps",
        "tasks",
        "container",
        "portMappings",
        "ports",
        "resources",
        "targets",
        "labels",
        "token",
        "catalog",
        "endpoints",
        "Vms",
        "data",
        "nextToken",
        "subsets",
        "resourceVersion",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9:/.%é\\[]{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(KEYS.to_vec()), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// A mechanism whose task has panicked is counted among those that failed.
#[tokio::test]
async fn no_answer_makes_a_panic() {
    let stub = Stub::start([]).await;
    let configs: Vec<DiscoveryConfig> = SETTINGS
        .iter()
        .filter(|(name, _)| !ELSEWHERE.contains(name))
        .map(|(name, text)| config(name, text, Some(&stub)))
        .collect();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for round in 0..40 {
        let mut value = answers().new_tree(&mut runner).unwrap().current();
        // some mechanisms want a list, some an object with one, some XML
        match round % 4 {
            0 => value = json!([value]),
            1 => stub.set("*", Reply::Raw(200, "Content-Type: application/json\r\n", xml_of(&value))),
            _ => {}
        }
        if round % 4 != 1 {
            stub.json("*", value.clone());
        }
        let running = Running::start(&configs);
        // those that ask once in a while have asked
        for name in ["docker", "ec2", "eureka", "marathon", "nomad", "openstack", "puppetdb", "uyuni"] {
            let meter = running.metrics.refreshes(name, "job");
            while meter.durations.count() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        assert_eq!(running.failed_configs(), 0, "{value}");
    }
}

/// The same shape in XML, beneath the elements that mechanisms look for.
fn xml_of(value: &Value) -> String {
    let inner = match value {
        Value::Object(entries) => {
            entries.iter().map(|(name, value)| format!("<{name}>{}</{name}>", xml_of(value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| format!("<item>{}</item>", xml_of(item))).collect(),
        other => json::text(other).replace(['<', '&'], ""),
    };
    if matches!(value, Value::Object(_)) {
        return inner;
    }
    format!("<application>{inner}</application>")
}

fn http(stub: &Stub, more: &str) -> DiscoveryConfig {
    let text = format!("http_sd_configs: [{{url: 'http://{}/sd', refresh_interval: 100ms{more}}}]", stub.address);
    DiscoveryConfig::parse(&text).unwrap().remove(0)
}

#[tokio::test]
async fn twenty_thousand_targets_come_flap_and_go() {
    let targets = |count: usize| json!([{"targets": (0..count).map(|i| format!("10.0.{}.{}:80", i / 256, i % 256)).collect::<Vec<_>>()}]);
    let stub = Stub::start([("/sd", targets(20_000))]).await;
    let mut running = Running::start(&[http(&stub, "")]);
    let count = |groups: &Groups| groups.iter().map(|group| group.targets.len()).sum::<usize>();
    for (wanted, reply) in [
        (20_000, None),
        (0, Some(Reply::Json(json!([])))),
        (20_000, Some(Reply::Json(targets(20_000)))),
        (1, Some(Reply::Json(targets(1)))),
    ] {
        if let Some(reply) = reply {
            stub.set("/sd", reply);
        }
        while count(&running.groups.borrow_and_update()) != wanted {
            tokio::time::timeout(Duration::from_secs(30), running.groups.changed()).await.unwrap().unwrap();
        }
    }
    // what fails is neither nothing nor new
    for fault in [Reply::Raw(429, "", String::new()), Reply::Raw(200, "", "[".into()), Reply::Silence] {
        let before = running.metrics.http_failures.get();
        stub.set("/sd", fault);
        while running.metrics.http_failures.get() < before + 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(count(&running.groups.borrow()), 1);
    }
}

#[tokio::test]
async fn a_job_ends_while_a_refresh_is_under_way() {
    let stub = Stub::start([]).await;
    stub.set("/sd", Reply::Silence);
    let text = format!("http_sd_configs: [{{url: 'http://{}/sd'}}]", stub.address);
    let running = Running::start(&DiscoveryConfig::parse(&text).unwrap());
    while stub.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut groups = running.groups.clone();
    running.shutdown.cancel();
    // the channel is closed when all tasks have ended
    while groups.changed().await.is_ok() {}
}

#[tokio::test]
async fn a_mechanism_that_cannot_be_set_up_does_no_harm() {
    let text = "http_sd_configs: [{url: 'http://127.0.0.1:1', tls_config: {ca_file: /nowhere}}]\nstatic_configs: [{targets: ['a:1']}]";
    let running = Running::start(&DiscoveryConfig::parse(text).unwrap());
    assert_eq!(show(&running.groups.borrow()), r#"{__address__="a:1"}"#);
    assert_eq!(running.failed_configs(), 1);
}

#[tokio::test]
async fn alertmanagers_are_discovered_like_targets() {
    let stub = Stub::start([("/sd", json!([{"targets": ["am:9093"]}]))]).await;
    let text = format!("alerting: {{alertmanagers: [{{http_sd_configs: [{{url: 'http://{}/sd'}}]}}]}}", stub.address);
    let options = crate::config::LoadOptions::default();
    let config = crate::config::Config::parse(&text, "p.yml".as_ref(), "/".into(), options).unwrap();
    let (metrics, shutdown) = (Arc::<DiscoveryMetrics>::default(), CancellationToken::new());
    let notifier = Notifier::new(NotifierOptions::default(), Arc::clone(&metrics), shutdown.clone());
    notifier.apply(&config.alerting, &config.global.external_labels).unwrap();
    while notifier.alertmanagers().0 != ["http://am:9093/api/v2/alerts"] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut page = common::metrics::Page::new();
    metrics.collect(&mut page);
    let mut text = Vec::new();
    common::exposition::text::encode(&page.families().0, common::exposition::EscapingScheme::Underscores, &mut text);
    let text = String::from_utf8(text).unwrap();
    let line = "prometheus_sd_discovered_targets{config=\"config-0\",name=\"notify\"} 1";
    assert!(text.contains(line), "{text}");
    shutdown.cancel();
    notifier.stopped().await;
}
