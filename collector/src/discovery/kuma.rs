//! `kuma_sd_configs`: the data planes of Kuma's meshes, by its monitoring assignments over xDS and HTTP.

use std::time::{Duration, Instant};

use http::StatusCode;
use model::Labels;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use url::Url;

use super::Slot;
use super::api::{Api, parse_url, post, with_path, with_query};
use super::json::{items, list_in, string};
use super::refresh::interval;
use super::target::{Target, group};
use crate::config::Settings;

const PREFIX: &str = "__meta_kuma_";
const RESOURCE: &str = "type.googleapis.com/kuma.observability.v1.MonitoringAssignment";
/// How much longer than the server we wait for changes.
const MARGIN: Duration = Duration::from_secs(15);

/// A control plane.
struct Kuma {
    api: Api,
    url: Url,
    client: String,
    /// The version and the mark of the answer that is known.
    known: Option<(String, String)>,
}

/// Starts asking, which waits on the server's side until something has changed.
pub(super) fn start(settings: &Settings, slot: Slot, tasks: &mut JoinSet<()>) -> Result<(), String> {
    tasks.spawn(run(Kuma::new(settings)?, interval(settings.duration("refresh_interval")), slot));
    Ok(())
}

impl Kuma {
    fn new(settings: &Settings) -> Result<Self, String> {
        let wait = settings.duration("fetch_timeout");
        let client = match settings.text("client_id") {
            "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            given => given.to_owned(),
        };
        let client = if client.is_empty() { "prometheus".to_owned() } else { client };
        let url = with_path(&parse_url(settings.text("server"))?, "v3/discovery:monitoringassignments");
        let url = with_query(&url, [("fetch-timeout", wait.to_string().as_str())]);
        Ok(Self { api: Api::with_client(&settings.http_client, wait.as_std() + MARGIN)?, url, client, known: None })
    }

    /// The targets, or nothing when they are the same as before.
    async fn fetch(&mut self) -> Result<Option<Vec<Labels>>, String> {
        let (version, nonce) = self.known.clone().unwrap_or_default();
        let body = json!({
            "version_info": version, "response_nonce": nonce, "type_url": RESOURCE, "resource_names": [],
            "node": {"id": self.client},
        });
        let mut request = post(&self.url, &body);
        request.headers_mut().insert("accept", http::HeaderValue::from_static("application/json"));
        let answer = self.api.send(request).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let answer = answer.good()?.json()?;
        let either = |snake: &str, camel: &str| {
            if answer[snake].is_null() { answer[camel].clone() } else { answer[snake].clone() }
        };
        let (kind, version) = (either("type_url", "typeUrl"), either("version_info", "versionInfo"));
        if kind != RESOURCE {
            return Err(format!("the answer is about resources of another type: {}", string(&kind)));
        }
        let targets = targets(list_in(&answer, "resources")?);
        let known = (string(&version).to_owned(), string(&answer["nonce"]).to_owned());
        let same = self.known.as_ref().is_some_and(|(version, _)| *version == known.0 && !version.is_empty());
        self.known = Some(known);
        Ok(if same { None } else { Some(targets) })
    }
}

async fn run(mut kuma: Kuma, every: Duration, slot: Slot) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let begin = Instant::now();
        let outcome = kuma.fetch().await;
        slot.metrics.kuma_fetches.observe(begin.elapsed());
        match outcome {
            Ok(Some(targets)) => slot.set(vec![group("kuma", targets)]),
            Ok(None) => slot.metrics.kuma_skipped.inc(),
            Err(error) => {
                slot.metrics.kuma_failures.inc();
                tracing::error!(discovery = "kuma", config = slot.meter.config(), err = %error, "error parsing or fetching resources");
            }
        }
    }
}

fn targets(assignments: &[Value]) -> Vec<Labels> {
    let mut targets = Vec::new();
    for assignment in assignments {
        let mut common = Target::new(PREFIX);
        common
            .each("label_", &assignment["labels"])
            .from("mesh", &assignment["mesh"])
            .from("service", &assignment["service"]);
        for entry in items(&assignment["targets"]) {
            let mut target = Target::new(PREFIX);
            target.each("label_", &entry["labels"]).merge(&common).from("dataplane", &entry["name"]);
            target.plain("__address__", string(&entry["address"])).plain("instance", string(&entry["name"]));
            target.plain("__scheme__", string(&entry["scheme"]));
            let path = if entry["metrics_path"].is_null() { &entry["metricsPath"] } else { &entry["metrics_path"] };
            target.plain("__metrics_path__", string(path));
            targets.push(target.build());
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Running, Stub, config};
    use super::*;

    fn answer(version: &str, address: &str) -> Value {
        json!({"version_info": version, "nonce": "n", "type_url": RESOURCE, "resources": [{
            "@type": RESOURCE, "mesh": "default", "service": "web", "labels": {"team.x": "a"},
            "targets": [{"name": "web-1", "address": address, "scheme": "http", "metrics_path": "/m", "labels": {"v": "2"}}]}]})
    }

    #[tokio::test]
    async fn assignments_become_targets_and_change() {
        const PATH: &str = "/v3/discovery:monitoringassignments";
        let stub = Stub::start([(PATH, answer("1", "10.0.0.1:9"))]).await;
        let text = "{server: 'http://SERVER', client_id: me, refresh_interval: 20ms, fetch_timeout: 1s}";
        let mut running = Running::start(&[config("kuma", text, Some(&stub))]);
        running
            .until(r#"{__address__="10.0.0.1:9", __meta_kuma_dataplane="web-1", __meta_kuma_label_team_x="a", __meta_kuma_label_v="2", __meta_kuma_mesh="default", __meta_kuma_service="web", __metrics_path__="/m", __scheme__="http", instance="web-1"}"#)
            .await;
        let first = &stub.seen()[0];
        assert_eq!(first.line, format!("POST {PATH}?fetch-timeout=1s"));
        assert!(first.body.contains(r#""node":{"id":"me"}"#), "{}", first.body);
        while running.metrics.kuma_skipped.get() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(stub.seen().iter().any(|seen| seen.body.contains(r#""version_info":"1","response_nonce":"n""#)));
        for fault in [
            Reply::Raw(500, "", String::new()),
            Reply::Json(json!({"type_url": "other"})),
            Reply::Raw(200, "", "x".into()),
        ] {
            let before = running.metrics.kuma_failures.get();
            stub.set(PATH, fault);
            while running.metrics.kuma_failures.get() < before + 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        running.until_addresses(&["10.0.0.1:9"]).await;
        stub.json(PATH, answer("2", "10.0.0.2:9"));
        running.until_addresses(&["10.0.0.2:9"]).await;
        stub.set(PATH, Reply::Raw(304, "", String::new()));
    }
}
