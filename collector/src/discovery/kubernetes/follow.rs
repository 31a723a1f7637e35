//! Following the objects of one kind in one namespace: a list, then the changes since.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use url::Url;

use super::super::DiscoveryMetrics;
use super::super::api::{Api, MAX_PAGES, with_path, with_query};
use super::objects::Object;

/// Objects that a page of a list has.
const PAGE: &str = "500";
/// How long the server may keep a watch open.
const WATCH_SECONDS: u64 = 300;
/// And how much longer we wait for it to end.
const MARGIN: Duration = Duration::from_secs(30);
/// The waits between attempts, as the clients of the ecosystem have them.
const FIRST_WAIT: Duration = Duration::from_millis(800);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A watch that ends sooner than this is taken for a failure: the next one has to wait.
const SHORT: Duration = Duration::from_secs(1);
/// Bytes of one event.
const MAX_EVENT: usize = 16 << 20;

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Resource {
    Nodes,
    Pods,
    Services,
    Endpoints,
    EndpointSlices,
    Ingresses,
    Namespaces,
    ReplicaSets,
    Jobs,
}

impl Resource {
    /// The path of its group, and its name there.
    fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::Nodes => ("api/v1", "nodes"),
            Self::Pods => ("api/v1", "pods"),
            Self::Services => ("api/v1", "services"),
            Self::Endpoints => ("api/v1", "endpoints"),
            Self::Namespaces => ("api/v1", "namespaces"),
            Self::EndpointSlices => ("apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Ingresses => ("apis/networking.k8s.io/v1", "ingresses"),
            Self::ReplicaSets => ("apis/apps/v1", "replicasets"),
            Self::Jobs => ("apis/batch/v1", "jobs"),
        }
    }

    /// The role that it is the main object of, as selectors and metrics name it.
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::Nodes => "node",
            Self::Pods => "pod",
            Self::Services => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlices => "endpointslice",
            Self::Ingresses => "ingress",
            Self::Namespaces | Self::ReplicaSets | Self::Jobs => "",
        }
    }

    /// Whether its objects belong to namespaces.
    pub(super) fn is_in_namespaces(self) -> bool {
        !matches!(self, Self::Nodes | Self::Namespaces)
    }
}

/// What has become of objects.
#[derive(Debug)]
pub(super) enum Change {
    /// These are all there are.
    All { resource: Resource, namespace: String, objects: Vec<Object> },
    /// There is this one, new or changed.
    Put(Resource, Box<Object>),
    /// This one is gone.
    Gone(Resource, Box<Object>),
}

/// Follows objects, and tells of changes.
pub(super) struct Follower {
    pub(super) api: Api,
    pub(super) base: Url,
    pub(super) resource: Resource,
    /// Empty for all of them.
    pub(super) namespace: String,
    pub(super) labels: String,
    pub(super) fields: String,
    pub(super) changes: mpsc::Sender<Change>,
    pub(super) metrics: Arc<DiscoveryMetrics>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Fault {
    code: u16,
    message: String,
}

/// Why following ends.
enum End {
    /// The server has forgotten the version that we know: all is listed anew.
    Forgotten,
    /// It failed.
    Failed(String),
    /// Nobody wants to know any more.
    Unwanted,
}

impl Follower {
    pub(super) async fn run(self) {
        let mut wait = FIRST_WAIT;
        let mut version = String::new();
        loop {
            let outcome = if version.is_empty() { self.list(&mut version).await } else { Ok(()) };
            let begin = Instant::now();
            let outcome = match outcome {
                Ok(()) => self.watch(&mut version).await,
                Err(end) => Err(end),
            };
            match outcome {
                // the server ended it in its own time
                Ok(()) if begin.elapsed() > SHORT => {
                    wait = FIRST_WAIT;
                    continue;
                }
                Ok(()) => {}
                Err(End::Unwanted) => return,
                Err(End::Forgotten) => version.clear(),
                Err(End::Failed(error)) => {
                    self.metrics.kubernetes_failures.inc();
                    let (_, resource) = self.resource.path();
                    tracing::error!(discovery = "kubernetes", resource, err = %error, "Failed to follow objects");
                }
            }
            if begin.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            // others that lost the same server do not come back at the same moment
            let jitter = 1.0 + f64::from(model::now_millis() as u8) / 255.0;
            tokio::time::sleep(wait.mul_f64(jitter)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn request(&self, more: &[(&str, &str)]) -> Request {
        let (group, name) = self.resource.path();
        let path = match self.namespace.as_str() {
            "" => format!("{group}/{name}"),
            namespace => format!("{group}/namespaces/{namespace}/{name}"),
        };
        let selectors = [("labelSelector", self.labels.as_str()), ("fieldSelector", self.fields.as_str())];
        let selectors = selectors.into_iter().filter(|(_, value)| !value.is_empty());
        Request::new(Method::GET, with_query(&with_path(&self.base, &path), selectors.chain(more.iter().copied())))
    }

    /// Tells of all objects; sets the version that changes are followed from.
    async fn list(&self, version: &mut String) -> Result<(), End> {
        let mut objects = Vec::new();
        let mut next = String::new();
        for _ in 0..MAX_PAGES {
            let mut more = vec![("limit", PAGE)];
            if !next.is_empty() {
                more.push(("continue", &next));
            }
            let answer = self.api.send(self.request(&more)).await.map_err(End::Failed)?;
            if answer.status == StatusCode::GONE {
                return Err(End::Forgotten);
            }
            let answer = answer.good().map_err(End::Failed)?;
            let list: List<'_> = serde_json::from_slice(&answer.body).map_err(|e| End::Failed(format!("list: {e}")))?;
            let Some(items) = list.items else { return Err(End::Failed("the answer is no list of objects".into())) };
            for item in items {
                objects.push(Object::read(self.resource, item.get()).map_err(End::Failed)?);
            }
            next = list.metadata.next;
            if next.is_empty() {
                let (resource, namespace) = (self.resource, self.namespace.clone());
                self.tell(Change::All { resource, namespace, objects }).await?;
                // a server that gives no version is asked for changes from now on
                *version =
                    if list.metadata.resource_version.is_empty() { "0".into() } else { list.metadata.resource_version };
                return Ok(());
            }
        }
        Err(End::Failed("the list has no end".into()))
    }

    /// Tells of changes until the server ends the watch.
    async fn watch(&self, version: &mut String) -> Result<(), End> {
        let seconds = WATCH_SECONDS.to_string();
        let request = self.request(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", &seconds),
        ]);
        let mut response = self.api.open(request).await.map_err(End::Failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::GONE => return Err(End::Forgotten),
            status => return Err(End::Failed(format!("watch: server returned HTTP status {status}"))),
        }
        let mut pending = Vec::new();
        loop {
            let chunk = tokio::time::timeout(Duration::from_secs(WATCH_SECONDS) + MARGIN, response.chunk()).await;
            let chunk = chunk.map_err(|_| End::Failed("watch: the server does not end it".into()))?;
            let Some(chunk) = chunk.map_err(|e| End::Failed(common::http::client::error_chain(&e)))? else {
                return Ok(());
            };
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if !line.trim_ascii().is_empty() {
                    self.event(&line, version).await?;
                }
            }
            if pending.len() > MAX_EVENT {
                return Err(End::Failed(format!("watch: an event is larger than {MAX_EVENT} bytes")));
            }
        }
    }

    async fn event(&self, line: &[u8], version: &mut String) -> Result<(), End> {
        let event: Event<'_> = serde_json::from_slice(line).map_err(|e| End::Failed(format!("watch: {e}")))?;
        if event.kind == "ERROR" {
            let fault: Fault = serde_json::from_str(event.object.get()).unwrap_or_default();
            let forgotten = fault.code == StatusCode::GONE.as_u16();
            return Err(if forgotten { End::Forgotten } else { End::Failed(format!("watch: {}", fault.message)) });
        }
        let object = Object::read(self.resource, event.object.get()).map_err(End::Failed)?;
        let seen = object.meta().resource_version.clone();
        match event.kind {
            "ADDED" | "MODIFIED" => self.tell(Change::Put(self.resource, Box::new(object))).await?,
            "DELETED" => self.tell(Change::Gone(self.resource, Box::new(object))).await?,
            // bookmarks say only how far we are
            _ => {}
        }
        if !seen.is_empty() {
            *version = seen;
        }
        Ok(())
    }

    async fn tell(&self, change: Change) -> Result<(), End> {
        self.changes.send(change).await.map_err(|_| End::Unwanted)
    }
}
