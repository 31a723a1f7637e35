//! Delivery of alerts to Alertmanagers (API v2).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use common::http::client::{AwsSigner, Client, ClientError, HttpClientConfig};
use http::header::{CONTENT_TYPE, HeaderValue};
use model::{Labels, Timestamp, format_rfc3339_millis};
use parking_lot::{Mutex, RwLock};
use reqwest::{Method, Request, Response};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Alerting, AlertmanagerConfig};
use crate::discovery::{self, Consumer, DiscoveryMetrics, Groups};
use crate::relabel;
use crate::rules::Alert;
use crate::scrape::{ADDRESS, Counter};

/// Settings of the way to Alertmanagers.
#[derive(Clone, Copy, Debug)]
pub struct NotifierOptions {
    /// Alerts waiting for one set of Alertmanagers; more push the oldest out.
    pub queue_capacity: usize,
    /// Alerts of one message at most.
    pub batch_size: usize,
    /// Whether what waits is sent when the server stops.
    pub drain: bool,
}

impl Default for NotifierOptions {
    /// Upstream's.
    fn default() -> Self {
        Self { queue_capacity: 10_000, batch_size: 256, drain: true }
    }
}

/// Time that is given to sending what waits when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// An alert as it goes to Alertmanagers.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    labels: Labels,
    annotations: BTreeMap<String, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    generator_url: String,
}

#[derive(Serialize)]
struct Body<'a> {
    annotations: &'a BTreeMap<String, String>,
    #[serde(rename = "endsAt")]
    ends_at: String,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    labels: Labels,
}

impl Notification {
    /// The message about an alert.
    pub fn new(alert: Alert, generator_url: &str) -> Self {
        Self {
            labels: alert.labels,
            annotations: alert.annotations,
            starts_at: alert.fired_at.unwrap_or(alert.active_at),
            ends_at: alert.resolved_at.unwrap_or(alert.valid_until),
            generator_url: generator_url.to_owned(),
        }
    }
}

/// What the notifier counts about itself.
#[derive(Debug, Default)]
pub struct NotifierMetrics {
    /// `prometheus_notifications_dropped_total`.
    pub dropped: Counter,
    /// Per Alertmanager address: alerts sent, and alerts that could not be sent.
    pub by_address: Mutex<BTreeMap<String, (u64, u64)>>,
}

/// Sends alerts to all Alertmanagers of the configuration.
pub struct Notifier {
    shutdown: CancellationToken,
    tasks: TaskTracker,
    options: NotifierOptions,
    metrics: Arc<NotifierMetrics>,
    discovery: Arc<DiscoveryMetrics>,
    settings: RwLock<Settings>,
}

#[derive(Default)]
struct Settings {
    external_labels: Labels,
    alert_relabel: Vec<crate::relabel::RelabelRule>,
    sets: Vec<Set>,
}

struct Set {
    config: AlertmanagerConfig,
    shared: Arc<SetShared>,
    gone: CancellationToken,
}

/// What a set of Alertmanagers and its task share.
#[derive(Default)]
struct SetShared {
    queue: Mutex<VecDeque<Notification>>,
    wake: Notify,
    /// Where alerts are posted to.
    active: RwLock<Vec<String>>,
    dropped: RwLock<Vec<String>>,
}

impl Notifier {
    /// A notifier without Alertmanagers. Its tasks end with `shutdown`.
    pub(crate) fn new(options: NotifierOptions, discovery: Arc<DiscoveryMetrics>, shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            tasks: TaskTracker::new(),
            options,
            metrics: Arc::default(),
            discovery,
            settings: RwLock::default(),
        }
    }

    /// Counters.
    pub fn metrics(&self) -> &NotifierMetrics {
        &self.metrics
    }

    /// Alerts that wait, and the room for them.
    pub fn queue(&self) -> (usize, usize) {
        let waiting = self.settings.read().sets.iter().map(|set| set.shared.queue.lock().len()).max().unwrap_or(0);
        (waiting, self.options.queue_capacity)
    }

    /// The addresses alerts go to, and those that relabelling dropped.
    pub fn alertmanagers(&self) -> (Vec<String>, Vec<String>) {
        let settings = self.settings.read();
        let all = |pick: fn(&SetShared) -> Vec<String>| settings.sets.iter().flat_map(|s| pick(&s.shared)).collect();
        (all(|s| s.active.read().clone()), all(|s| s.dropped.read().clone()))
    }

    /// Takes a new configuration. Sets of Alertmanagers that have not changed keep their queues.
    ///
    /// # Errors
    /// When an HTTP client cannot be set up; then nothing changes.
    pub fn apply(&self, alerting: &Alerting, external_labels: &Labels) -> Result<(), String> {
        let mut settings = self.settings.write();
        let mut fresh = Vec::new();
        for config in &alerting.alertmanagers {
            let known = settings.sets.iter().any(|set| set.config == *config);
            let sender =
                if known { None } else { Some(Sender::new(config).map_err(|e| format!("alertmanager: {e}"))?) };
            fresh.push((config, sender));
        }
        let mut old = std::mem::take(&mut settings.sets);
        for (at, (config, sender)) in fresh.into_iter().enumerate() {
            match sender {
                None => {
                    if let Some(place) = old.iter().position(|set| set.config == *config) {
                        settings.sets.push(old.swap_remove(place));
                    }
                }
                Some(sender) => settings.sets.push(self.start(config.clone(), at, sender)),
            }
        }
        for set in old {
            set.gone.cancel();
        }
        settings.external_labels = external_labels.clone();
        settings.alert_relabel.clone_from(&alerting.alert_relabel_configs);
        Ok(())
    }

    fn start(&self, config: AlertmanagerConfig, at: usize, sender: Sender) -> Set {
        let gone = self.shutdown.child_token();
        let shared = Arc::new(SetShared::default());
        let name = format!("config-{at}");
        let groups = discovery::start(&config.discovery, Consumer::Notify, &name, None, &self.discovery, &gone);
        let task = SetTask {
            options: self.options,
            config: config.clone(),
            sender,
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&self.metrics),
        };
        self.tasks.spawn(task.run(groups, gone.clone()));
        Set { config, shared, gone }
    }

    /// Queues alerts for all Alertmanagers. Never waits: what does not fit pushes out what waits longest.
    pub fn send(&self, alerts: Vec<Notification>) {
        let settings = self.settings.read();
        let names = model::NameValidation::Utf8;
        let mut prepared = Vec::with_capacity(alerts.len());
        for mut alert in alerts {
            let mut labels = alert.labels.to_builder();
            for (name, value) in &settings.external_labels {
                labels.set_missing(name, value);
            }
            if relabel::apply(&mut labels, &settings.alert_relabel, names) {
                alert.labels = labels.build();
                prepared.push(alert);
            }
        }
        for set in &settings.sets {
            let mut queue = set.shared.queue.lock();
            for alert in &prepared {
                let Some(labels) = relabel::relabel(&alert.labels, &set.config.alert_relabel_configs, names) else {
                    continue;
                };
                if queue.len() >= self.options.queue_capacity {
                    queue.pop_front();
                    self.metrics.dropped.inc();
                    tracing::warn!("Alert notification queue full, dropping alerts");
                }
                queue.push_back(Notification { labels, ..alert.clone() });
            }
            drop(queue);
            set.shared.wake.notify_one();
        }
    }

    /// Waits until all tasks have ended after `shutdown`: what was queued has been sent, or tried once.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// How a set of Alertmanagers is spoken to.
struct Sender {
    client: Client,
    /// Signs for the service of this name.
    signer: Option<(AwsSigner, String)>,
}

impl Sender {
    fn new(config: &AlertmanagerConfig) -> Result<Self, ClientError> {
        let client = crate::client::build(&config.http_client)?;
        let signer = match &config.sigv4 {
            None => None,
            // keys are asked for without what Alertmanagers may want
            Some(sigv4) => {
                let client = crate::client::build(&HttpClientConfig::default())?;
                Some((AwsSigner::new(sigv4.settings.clone(), client), sigv4.service.clone()))
            }
        };
        Ok(Self { client, signer })
    }

    async fn send(&self, mut request: Request) -> Result<Response, ClientError> {
        if let Some((signer, service)) = &self.signer {
            signer.sign(&mut request, service).await?;
        }
        self.client.execute(request).await
    }
}

struct SetTask {
    options: NotifierOptions,
    config: AlertmanagerConfig,
    sender: Sender,
    shared: Arc<SetShared>,
    metrics: Arc<NotifierMetrics>,
}

impl SetTask {
    async fn run(self, mut groups: watch::Receiver<Groups>, gone: CancellationToken) {
        let mut open = true;
        loop {
            self.sync(&groups.borrow_and_update().clone());
            tokio::select! {
                biased;
                () = gone.cancelled() => break,
                changed = groups.changed(), if open => {
                    open = changed.is_ok();
                    continue;
                }
                () = self.shared.wake.notified() => {}
            }
            while self.send_batch().await {}
        }
        if !self.options.drain {
            return;
        }
        let drain = async { while self.send_batch().await {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drain).await.is_err() {
            tracing::warn!(left = self.shared.queue.lock().len(), "Alerts could not be sent before the end");
        }
    }

    fn sync(&self, groups: &Groups) {
        let (mut active, mut dropped) = (Vec::new(), Vec::new());
        for group in groups.iter() {
            for target in &group.targets {
                let mut labels = target.to_builder();
                for (name, value) in &group.labels {
                    labels.set_missing(name, value);
                }
                labels.set("__scheme__", &self.config.scheme);
                let path = format!("{}/api/v2/alerts", self.config.path_prefix.trim_end_matches('/'));
                labels.set("__alerts_path__", &path);
                let before = url_of(&labels);
                if relabel::apply(&mut labels, &self.config.relabel_configs, model::NameValidation::Utf8)
                    && !labels.get(ADDRESS).is_empty()
                {
                    active.push(url_of(&labels));
                } else {
                    dropped.push(before);
                }
            }
        }
        active.sort();
        active.dedup();
        *self.shared.active.write() = active;
        *self.shared.dropped.write() = dropped;
    }

    /// Sends what waits, up to a message's worth. Gives whether more waits.
    async fn send_batch(&self) -> bool {
        let batch: Vec<Notification> = {
            let mut queue = self.shared.queue.lock();
            let count = queue.len().min(self.options.batch_size);
            queue.drain(..count).collect()
        };
        if batch.is_empty() {
            return false;
        }
        let body: Vec<Body<'_>> = batch
            .iter()
            .map(|alert| Body {
                annotations: &alert.annotations,
                ends_at: format_rfc3339_millis(alert.ends_at),
                starts_at: format_rfc3339_millis(alert.starts_at),
                generator_url: &alert.generator_url,
                labels: alert.labels.clone(),
            })
            .collect();
        let Ok(body) = serde_json::to_vec(&body) else { return true };
        let addresses = self.shared.active.read().clone();
        let sends = addresses.iter().map(|address| self.post(address, body.clone(), batch.len()));
        let sent = futures::future::join_all(sends).await;
        if !sent.contains(&true) {
            self.metrics.dropped.add(batch.len() as u64);
        }
        !self.shared.queue.lock().is_empty()
    }

    async fn post(&self, address: &str, body: Vec<u8>, count: usize) -> bool {
        let timeout: Duration = self.config.timeout.as_std();
        let attempt = async {
            let url = url::Url::parse(address).map_err(|e| e.to_string())?;
            let mut request = Request::new(Method::POST, url);
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.into());
            let response = self.sender.send(request).await.map_err(|e| e.to_string())?;
            if response.status().is_success() {
                Ok(())
            } else {
                Err(format!("bad response status {}", response.status()))
            }
        };
        let result =
            tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| Err("context deadline exceeded".into()));
        let mut by_address = self.metrics.by_address.lock();
        let (sent, failed) = by_address.entry(address.to_owned()).or_default();
        match result {
            Ok(()) => {
                *sent += count as u64;
                true
            }
            Err(error) => {
                *failed += count as u64;
                tracing::error!(alertmanager = %address, count, err = %error, "Error sending alerts");
                false
            }
        }
    }
}

fn url_of(labels: &model::LabelsBuilder) -> String {
    format!("{}://{}{}", labels.get("__scheme__"), labels.get(ADDRESS), labels.get("__alerts_path__"))
}
