//! The exporter as an HTTP server.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get};
use common::http::{
    Limits, MetricsHandlerStats, Server, ServerError, ServerOptions, ServerStats, landing_response, metrics_response,
    text_response,
};
use common::metrics::Page;
use common::selfmetrics::{ProcessCollector, collect_build_info};
use futures::StreamExt;
use model::MetricType;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, IpProtocol, Module};
use crate::failure::Failure;
use crate::flags::{Options, PROGRAM};
use crate::history::History;
use crate::probe::{self, Environment, Order, Outcome};
use crate::request::{self, Parameters};

/// Why the exporter does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server does not start.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Names that are looked up at once: each takes a thread.
const LOOKUPS: usize = 32;
/// Probes at once where the limit of open files would allow more.
const MOST_IN_FLIGHT: usize = 16_384;
/// Open files that are not for probes.
const OTHER_FILES: u64 = 64;
/// Connections that wait while all probes run.
const SPARE_CONNECTIONS: usize = 64;

struct Exporter {
    options: Options,
    config: ArcSwap<Config>,
    environment: Environment,
    history: History,
    stats: Stats,
}

#[derive(Debug, Default)]
struct Stats {
    handler: MetricsHandlerStats,
    unknown_modules: AtomicU64,
    in_flight: AtomicU64,
    probes: AtomicU64,
    failures: Mutex<std::collections::BTreeMap<(&'static str, Failure), u64>>,
    reload_failed: AtomicU64,
    /// Milliseconds since 1970.
    reloaded_at: AtomicU64,
}

/// An exporter that listens and does not answer yet.
pub struct Bound {
    exporter: Arc<Exporter>,
    server: Server,
}

/// A probe that is counted as running until this is dropped.
struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the configuration and begins to listen. Needs a Tokio runtime.
///
/// # Errors
/// When the configuration is wrong or an address cannot be listened on.
pub fn bind(options: Options) -> Result<Bound, StartError> {
    tracing::info!(version = PROGRAM.version, firewatch = PROGRAM.firewatch_version, "Starting blackbox_exporter");
    let config = load(&options)?;
    tracing::info!("Loaded config file");
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // a probe has its own connection and that of who asked for it
    let by_files = usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX).max(1);
    let slots = if options.max_in_flight > 0 { options.max_in_flight } else { MOST_IN_FLIGHT }.min(by_files);
    let server = Server::bind(ServerOptions {
        listen: options.listen.clone(),
        web_config: options.web_config.clone(),
        limits: Limits { connections: slots + SPARE_CONNECTIONS.min(slots), ..Limits::default() },
    })?;
    let environment = Environment {
        guard: options.guard.clone(),
        log_level: options.log_prober,
        lookups: Arc::new(Semaphore::new(LOOKUPS)),
        slots: Semaphore::new(slots),
    };
    let exporter = Exporter {
        history: History::new(options.history_limit),
        config: ArcSwap::from_pointee(config),
        environment,
        stats: Stats::default(),
        options,
    };
    exporter.stats.reloaded_at.store(now(), Ordering::Relaxed);
    Ok(Bound { exporter: Arc::new(exporter), server })
}

fn now() -> u64 {
    model::now_millis().unsigned_abs()
}

fn load(options: &Options) -> Result<Config, ConfigError> {
    match &options.config_text {
        Some(text) => Config::parse(text, "built-in configuration"),
        None => Config::load(&options.config_file),
    }
}

impl Bound {
    /// The addresses listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.server.addresses()
    }

    /// What will have happened in its server.
    pub fn stats(&self) -> Arc<ServerStats> {
        self.server.stats()
    }

    /// Serves until the token is cancelled. Each message on `reload` has the configuration read again.
    pub async fn serve(self, shutdown: CancellationToken, reload: mpsc::Receiver<()>) {
        let Self { exporter, server } = self;
        for address in server.addresses() {
            tracing::info!(%address, tls = server.is_tls(), "Listening on");
        }
        let reloading = keep_reloading(&exporter, reload);
        let serving = server.serve(router(exporter.clone()), shutdown);
        tokio::select! {
            () = serving => {}
            () = reloading => {}
        }
    }
}

/// Reloads when asked to, and when the file has changed if that is wanted. Never ends.
async fn keep_reloading(exporter: &Exporter, mut reload: mpsc::Receiver<()>) {
    let stamp =
        || std::fs::metadata(&exporter.options.config_file).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
    let mut seen = stamp();
    let interval = exporter.options.auto_reload;
    let mut open = true;
    loop {
        let look = async {
            match interval {
                Some(interval) => tokio::time::sleep(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = reload.recv(), if open => match asked {
                Some(()) => drop(exporter.reload()),
                None => open = false,
            },
            () = look => {
                let current = stamp();
                if current.is_some() && current != seen {
                    tracing::info!("Configuration file change detected, reloading the configuration.");
                    seen = current;
                    drop(exporter.reload());
                }
            }
        }
    }
}

impl Exporter {
    /// Takes over the file as it is now, or leaves everything as it was.
    fn reload(&self) -> Result<(), ConfigError> {
        match load(&self.options) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                self.stats.reload_failed.store(0, Ordering::Relaxed);
                self.stats.reloaded_at.store(now(), Ordering::Relaxed);
                tracing::info!("Reloaded config file");
                Ok(())
            }
            Err(error) => {
                self.stats.reload_failed.store(1, Ordering::Relaxed);
                tracing::error!(err = %error, "Error reloading config");
                Err(error)
            }
        }
    }

    /// Runs a probe and counts it.
    async fn probe(&self, module: Arc<Module>, order: Order) -> Arc<Outcome> {
        self.stats.in_flight.fetch_add(1, Ordering::Relaxed);
        let _running = Running(&self.stats.in_flight);
        let outcome = Arc::new(probe::run(module, order, &self.environment).await);
        self.stats.probes.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = outcome.failure {
            *self.stats.failures.lock().entry((outcome.module.prober.name(), failure)).or_insert(0) += 1;
        }
        self.history.add(outcome.clone());
        outcome
    }

    fn collect(&self, page: &mut Page) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let stats = &self.stats;
        page.counter(
            "blackbox_module_unknown_total",
            "Count of unknown modules requested by probes",
            &[],
            load(&stats.unknown_modules),
        );
        page.gauge(
            "blackbox_exporter_config_last_reload_successful",
            "Blackbox exporter config loaded successfully.",
            &[],
            1.0 - load(&stats.reload_failed),
        );
        page.gauge(
            "blackbox_exporter_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload.",
            &[],
            load(&stats.reloaded_at) / 1000.0,
        );
        page.counter("blackbox_exporter_probes_total", "Probes that have ended.", &[], load(&stats.probes));
        page.gauge(
            "blackbox_exporter_probes_in_flight",
            "Probes that run or wait for their turn.",
            &[],
            load(&stats.in_flight),
        );
        let help = "Probes that have failed, by prober and reason.";
        let failures = page.family("blackbox_exporter_probe_failures_total", help, MetricType::Counter);
        for ((prober, failure), count) in stats.failures.lock().iter() {
            page.sample(failures, &[("prober", prober), ("reason", failure.name())], *count as f64);
        }
        collect_build_info(page, &PROGRAM);
        ProcessCollector::default().collect(page);
        stats.handler.collect(page);
    }
}

fn router(exporter: Arc<Exporter>) -> Router {
    let prefix = exporter.options.route_prefix.clone();
    let at = |path: &str| format!("{prefix}{path}");
    let mut router = Router::new()
        .route(&at("/probe"), any(answer_probe))
        .route(&at("/metrics"), get(metrics))
        .route(&at("/config"), get(config))
        .route(&at("/logs"), get(logs))
        .route(&at("/-/healthy"), get(|| async { text_response(StatusCode::OK, "Healthy") }))
        .route(&at("/-/reload"), any(reload))
        .route(&at("/"), get(index));
    if !prefix.is_empty() {
        let target = format!("{}/", exporter.options.external_prefix);
        let redirect = move || std::future::ready(redirect_to(&target));
        router = router.route(&prefix, get(redirect.clone())).route("/", get(redirect));
    }
    router.with_state(exporter)
}

fn redirect_to(target: &str) -> Response {
    let mut response = text_response(StatusCode::FOUND, "Found\n");
    if let Ok(value) = HeaderValue::from_str(target) {
        response.headers_mut().insert(axum::http::header::LOCATION, value);
    }
    response
}

fn refused(text: impl Into<String>) -> Box<Response> {
    Box::new(text_response(StatusCode::BAD_REQUEST, format!("{}\n", text.into())))
}

/// What a request to `/probe` asks for.
struct Asked {
    module: Arc<Module>,
    orders: Vec<Order>,
    debug: bool,
    /// Whether series say which target they are of.
    name_targets: bool,
    /// Whether series say which version of IP they are of.
    name_protocols: bool,
    /// The headers that the form of the answer depends on.
    accepts: HeaderMap,
}

impl Asked {
    /// Writes the metrics of a probe to a page.
    fn write(&self, outcome: &Outcome, page: &mut Page) {
        let mut labels = Vec::with_capacity(2);
        if self.name_targets {
            labels.push(("target", outcome.target.as_str()));
        }
        match outcome.ip_protocol {
            Some(IpProtocol::V4) if self.name_protocols => labels.push(("ip_protocol", "4")),
            Some(IpProtocol::V6) if self.name_protocols => labels.push(("ip_protocol", "6")),
            _ => {}
        }
        outcome.metrics.write(page, &labels);
    }
}

impl Exporter {
    /// Reads a request; the error is the answer to a wrong one.
    fn asked(&self, query: &str, headers: &HeaderMap) -> Result<Asked, Box<Response>> {
        let parameters = Parameters::parse(query).map_err(refused)?;
        let config = self.config.load();
        let Some(module) = config.module(&parameters.module) else {
            self.stats.unknown_modules.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(module = parameters.module, "Unknown module");
            return Err(refused(format!("Unknown module {}", model::quote(&parameters.module))));
        };
        if !self.environment.guard.allows_module(&parameters.module) {
            let text = format!("Module {} is not allowed\n", model::quote(&parameters.module));
            return Err(Box::new(text_response(StatusCode::FORBIDDEN, text)));
        }
        let timeout = request::timeout(headers, module, self.options.timeout_offset).map_err(|error| {
            let text = format!("Failed to parse timeout from Prometheus header: {error}\n");
            Box::new(text_response(StatusCode::INTERNAL_SERVER_ERROR, text))
        })?;
        let mut targets = parameters.targets;
        if let Some(name) = &parameters.targets_file {
            targets.extend(request::read_targets(self.options.targets_folder.as_deref(), name).map_err(refused)?);
        }
        if targets.is_empty() {
            return Err(refused("Target parameter is missing"));
        }
        if targets.len() > self.options.max_targets {
            return Err(refused(format!("{} targets are more than --probe.max-targets", targets.len())));
        }
        request::check_hostname(&parameters.hostname, module).map_err(refused)?;
        targets.sort();
        targets.dedup();
        let name_targets = targets.len() > 1 || parameters.targets_file.is_some();
        // one deadline and one number of connections at once for all of them
        let deadline = Instant::now() + timeout;
        let mut orders = Vec::with_capacity(targets.len() * parameters.protocols.len());
        for target in targets {
            for protocol in &parameters.protocols {
                orders.push(Order {
                    target: target.clone(),
                    hostname: parameters.hostname.clone(),
                    timeout,
                    deadline,
                    extended: parameters.extended,
                    ip_protocol: *protocol,
                    verbose: parameters.debug,
                });
            }
        }
        Ok(Asked {
            module: module.clone(),
            orders,
            debug: parameters.debug,
            name_targets,
            name_protocols: parameters.protocols.len() > 1,
            accepts: accepts(headers),
        })
    }
}

/// Copies of the headers that the form of an answer depends on. The others are let go: they hold the buffer they came in, which a
/// probe would keep for as long as it waits.
fn accepts(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in [ACCEPT, ACCEPT_ENCODING] {
        for value in headers.get_all(&name) {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                kept.append(name.clone(), value);
            }
        }
    }
    kept
}

async fn answer_probe(
    State(exporter): State<Arc<Exporter>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let asked = exporter.asked(query.as_deref().unwrap_or_default(), &headers);
    drop((query, headers));
    let mut asked = match asked {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    let mut outcomes = Vec::new();
    if asked.orders.len() == 1
        && let Some(order) = asked.orders.pop()
    {
        outcomes.push(exporter.probe(asked.module.clone(), order).await);
    } else {
        let orders = std::mem::take(&mut asked.orders).into_iter();
        let probes = orders.map(|order| exporter.probe(asked.module.clone(), order));
        let several = futures::stream::iter(probes).buffer_unordered(exporter.options.request_concurrency);
        outcomes = Box::pin(several.collect()).await;
    }
    if asked.debug {
        let text: String = outcomes.iter().map(|outcome| outcome.to_text()).collect();
        let mut response = text_response(StatusCode::OK, text);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        return response;
    }
    let mut page = Page::new();
    outcomes.iter().for_each(|outcome| asked.write(outcome, &mut page));
    metrics_response(&page, &asked.accepts, false).0
}

async fn metrics(State(exporter): State<Arc<Exporter>>, headers: HeaderMap) -> Response {
    let _in_flight = exporter.stats.handler.begin(0);
    let mut page = Page::new();
    exporter.collect(&mut page);
    let (response, errors) = metrics_response(&page, &headers, true);
    exporter.stats.handler.gathering_failed(errors.len());
    exporter.stats.handler.answered(response.status());
    response
}

async fn config(State(exporter): State<Arc<Exporter>>) -> Response {
    text_response(StatusCode::OK, exporter.config.load().to_yaml())
}

async fn reload(State(exporter): State<Arc<Exporter>>, method: Method) -> Response {
    if method != Method::POST && method != Method::PUT {
        return text_response(StatusCode::METHOD_NOT_ALLOWED, "This endpoint requires a POST request.\n");
    }
    match exporter.reload() {
        Ok(()) => text_response(StatusCode::OK, ""),
        Err(error) => text_response(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")),
    }
}

async fn logs(State(exporter): State<Arc<Exporter>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let parameter = |wanted: &str| {
        common::http::query_pairs(&query).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let found = match (parameter("id"), parameter("target")) {
        (Some(id), _) => match id.parse() {
            Ok(id) => exporter.history.by_id(id),
            Err(_) => return text_response(StatusCode::INTERNAL_SERVER_ERROR, "Invalid probe id\n"),
        },
        (None, Some(target)) => exporter.history.by_target(&target, &parameter("module").unwrap_or_default()),
        (None, None) => return text_response(StatusCode::INTERNAL_SERVER_ERROR, "Invalid probe id\n"),
    };
    match found {
        Some(entry) => {
            let mut response = text_response(StatusCode::OK, entry.outcome.to_text());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        None => text_response(StatusCode::NOT_FOUND, "Probe id not found\n"),
    }
}

async fn index(State(exporter): State<Arc<Exporter>>) -> Response {
    let base = &exporter.options.external_prefix;
    let mut html = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Blackbox Exporter</title>\n<style>\
         body{font-family:system-ui,sans-serif;margin:2rem;color:#222}table{border-collapse:collapse}\
         td,th{border:1px solid #999;padding:.2rem .6rem;text-align:left}strong{color:#b00}\
         @media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}a{color:#8ab4f8}strong{color:#f88}}\
         </style>\n</head>\n<body>\n<h1>Blackbox Exporter</h1>\n",
    );
    for (path, text) in [
        ("/probe?target=prometheus.io&amp;module=http_2xx", "Probe prometheus.io for http_2xx"),
        ("/probe?target=prometheus.io&amp;module=http_2xx&amp;debug=true", "Debug probe prometheus.io for http_2xx"),
        ("/metrics", "Metrics"),
        ("/config", "Configuration"),
    ] {
        let _ = writeln!(html, "<p><a href=\"{base}{path}\">{text}</a></p>");
    }
    html.push_str(
        "<h2>Recent Probes</h2>\n<table>\n<tr><th>Module</th><th>Target</th><th>Result</th><th>Debug</th></tr>\n",
    );
    for entry in exporter.history.newest_first() {
        let result = match entry.outcome.failure {
            None => "Success".to_owned(),
            Some(failure) => format!("<strong>Failure</strong> ({})", failure.name()),
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{result}</td><td><a href=\"{base}/logs?id={}\">Logs</a></td></tr>",
            escaped(&entry.outcome.module.name),
            escaped(&entry.outcome.target),
            entry.id
        );
    }
    html.push_str("</table>\n</body>\n</html>\n");
    landing_response(html)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}
