//! The HTTP API, with Prometheus' paths, parameters and answers.

mod admin;
mod body_parts;
mod cors;
mod features;
mod federate;
mod http_metrics;
mod json_text;
mod list_json;
mod metrics_page;
mod notifications;
mod params;
mod query;
mod query_json;
mod relabel_steps;
pub mod remote_write;
mod response;
mod rules;
mod search;
mod self_metrics;
mod series;
mod status;
mod targets;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use common::http::{MetricsHandlerStats, health_routes, text_response};
use http::StatusCode;
use model::{LabelRegex, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::discovery::DiscoveryMetrics;
use crate::notifications::Notifications;
use crate::notifier::Notifier;
use crate::query::Querier;
use crate::rules::{RuleDurations, RuleManager};
use crate::scrape::{Counter, ScrapeManager};
use crate::storage::Store;

pub use remote_write::{BucketSpan, WireHistogram};
pub(crate) use remote_write::{KnownSeries, WriteSlots};

/// What the server was told on the command line, as far as the API is concerned.
#[derive(Clone, Debug, Default)]
pub struct ApiOptions {
    /// The server's address for users.
    pub external_url: String,
    /// Path that all others begin with, without a slash at its end.
    pub route_prefix: String,
    /// Whether `/-/reload` and `/-/quit` work.
    pub enable_lifecycle: bool,
    /// Whether data can be deleted and copied.
    pub enable_admin_api: bool,
    /// Whether `/api/v1/write` works.
    pub enable_remote_write_receiver: bool,
    /// Pages of which origins may use answers of the API in browsers; `None` says nothing to browsers.
    pub cors_origin: Option<LabelRegex>,
    /// How old the newest sample of a series may be for `/federate`, in milliseconds. The engine's at a start.
    pub lookback: i64,
    /// Clients that may listen to notifications at once.
    pub max_notifications_subscribers: usize,
    /// The folder of the store.
    pub storage_path: PathBuf,
    /// The retention, for people.
    pub retention_text: String,
    /// All flags with their values.
    pub flags: Vec<(String, String)>,
}

/// How the last reading of the configuration went.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReloadState {
    /// Whether it succeeded.
    pub success: bool,
    /// When it last did.
    pub last_success: Timestamp,
}

/// A wish to read the configuration anew; the answer tells what is wrong with it.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// What the API counts.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    /// Samples received by remote write.
    pub remote_write_samples: Counter,
    /// `prometheus_web_federation_errors_total`.
    pub federation_errors: Counter,
    /// `prometheus_web_federation_warnings_total`.
    pub federation_warnings: Counter,
    /// Requests.
    pub http: http_metrics::HttpMetrics,
    /// The page about the server itself.
    pub metrics_handler: MetricsHandlerStats,
}

/// Everything the API shows and does.
pub struct Server {
    /// From the command line.
    pub options: ApiOptions,
    /// The store.
    pub store: Store,
    /// Answers queries.
    pub querier: Querier,
    /// The jobs.
    pub scrapes: ScrapeManager,
    /// The rules.
    pub rules: RuleManager,
    /// How long they take.
    pub rule_durations: Arc<RuleDurations>,
    /// The way to the Alertmanagers.
    pub notifier: Arc<Notifier>,
    /// The configuration in force.
    pub config: RwLock<Config>,
    /// How its last reading went.
    pub reload_state: Mutex<ReloadState>,
    /// Takes wishes to read it anew.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Ends the server.
    pub shutdown: CancellationToken,
    /// What is told to people who look at it.
    pub(crate) notifications: Arc<Notifications>,
    /// What discovery counts.
    pub(crate) discovery: Arc<DiscoveryMetrics>,
    /// When it was started.
    pub started: Timestamp,
    /// What the API counts.
    pub metrics: ApiMetrics,
    /// Series that remote writers have named.
    pub(crate) written: KnownSeries,
    /// Those of their requests that are being stored hold one each.
    pub(crate) write_slots: WriteSlots,
}

/// The routes of the server.
pub fn router(server: &Arc<Server>) -> Router {
    let api = Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/query_exemplars", get(query::exemplars).post(query::exemplars))
        .route("/format_query", get(query::format).post(query::format))
        .route("/parse_query", get(query::parse_query).post(query::parse_query))
        .route("/labels", get(series::labels).post(series::labels))
        .route("/label/{name}/values", get(series::label_values))
        .route("/series", get(series::series).post(series::series))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(targets::target_metadata))
        .route("/targets/relabel_steps", get(relabel_steps::relabel_steps))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/scrape_pools/config", get(targets::scrape_pool_config))
        .route("/features", get(features::features))
        .route("/metadata", get(targets::metadata))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/alertmanagers", get(rules::alertmanagers))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtime_info))
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/self_metrics", get(self_metrics::self_metrics))
        .route("/status/walreplay", get(status::wal_replay))
        .route("/notifications", get(notifications::notifications))
        .route("/notifications/live", get(notifications::live))
        .route("/write", post(remote_write::write))
        .route("/admin/tsdb/delete_series", post(admin::delete_series).put(admin::delete_series))
        .route("/admin/tsdb/clean_tombstones", post(admin::clean_tombstones).put(admin::clean_tombstones))
        .route("/admin/tsdb/snapshot", post(admin::snapshot).put(admin::snapshot));
    let routes = Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(metrics_page::metrics))
        .route("/federate", get(federate::federate))
        .route("/-/reload", any(reload))
        .route("/-/quit", any(quit))
        .route("/version", get(status::version))
        .merge(crate::web::routes())
        .fallback(|| async { text_response(StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(Arc::clone(server))
        .merge(health_routes("Prometheus Server", {
            let store = server.store.clone();
            move || store.db().is_ok()
        }));
    let routes = http_metrics::layer(routes, server);
    let routes = cors::layer(routes, server.options.cors_origin.clone());
    match server.options.route_prefix.trim_end_matches('/') {
        "" => routes,
        prefix => {
            let home = format!("{prefix}/");
            let to_home = move || std::future::ready(Redirect::temporary(&home));
            // `/prefix` alone would make the page's relative addresses wrong
            Router::new()
                .route("/", get(to_home.clone()))
                .route(prefix, get(to_home))
                .nest(&format!("{prefix}/"), routes)
        }
    }
}

fn lifecycle(server: &Server, method: &http::Method) -> Option<Response> {
    if !matches!(*method, http::Method::POST | http::Method::PUT) {
        return Some(text_response(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed"));
    }
    (!server.options.enable_lifecycle).then(|| text_response(StatusCode::FORBIDDEN, "Lifecycle API is not enabled."))
}

async fn reload(State(server): State<Arc<Server>>, method: http::Method) -> Response {
    if let Some(refusal) = lifecycle(&server, &method) {
        return refusal;
    }
    let (answer, outcome) = oneshot::channel();
    if server.reload.send(answer).await.is_err() {
        return text_response(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n");
    }
    match outcome.await {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(fault)) => {
            text_response(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {fault}\n"))
        }
        Err(_) => text_response(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n"),
    }
}

async fn quit(State(server): State<Arc<Server>>, method: http::Method) -> Response {
    if let Some(refusal) = lifecycle(&server, &method) {
        return refusal;
    }
    server.shutdown.cancel();
    text_response(StatusCode::OK, "Requesting termination... Goodbye!")
}
