use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use common::http::{
    LandingLink, LandingPage, Limits, MetricsHandlerStats, Server, ServerError, ServerOptions, landing_response,
    metrics_response, text_response,
};
use tokio_util::sync::CancellationToken;

use crate::exporter::{Exporter, Selection};
use crate::flags::{Config, PROGRAM};

/// Why the exporter does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server does not start.
    #[error(transparent)]
    Server(#[from] ServerError),
}

struct Handler {
    exporter: Exporter,
    stats: MetricsHandlerStats,
    max_requests: u64,
    self_metrics: bool,
}

/// An exporter that listens and does not answer yet.
pub struct Bound {
    config: Config,
    server: Server,
}

/// Begins to listen. Needs a Tokio runtime.
pub fn bind(config: Config) -> Result<Bound, StartError> {
    tracing::info!(version = PROGRAM.version, firewatch = PROGRAM.firewatch_version, "Starting node_exporter");
    if rustix::process::geteuid().is_root() {
        tracing::warn!(
            "Node Exporter is running as root user. This exporter is designed to run as unprivileged user, root is not required."
        );
    }
    let server = Server::bind(ServerOptions {
        listen: config.listen.clone(),
        web_config: config.web_config.clone(),
        limits: Limits::default(),
    })?;
    Ok(Bound { config, server })
}

impl Bound {
    /// The addresses listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.server.addresses()
    }

    /// Serves metrics until the token is cancelled.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self { config, server } = self;
        for address in server.addresses() {
            tracing::info!(%address, tls = server.is_tls(), "Listening on");
        }
        let exporter = Exporter::new(&config);
        for name in exporter.names() {
            tracing::info!(collector = name, "Enabled collector");
        }
        server.serve(router(&config, exporter), shutdown).await;
    }
}

/// Listens and serves metrics until the token is cancelled.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    bind(config)?.serve(shutdown).await;
    Ok(())
}

fn router(config: &Config, exporter: Exporter) -> Router {
    let handler = Arc::new(Handler {
        exporter,
        stats: MetricsHandlerStats::default(),
        max_requests: config.max_requests,
        self_metrics: !config.disable_exporter_metrics,
    });
    let mut router = Router::new().route(&config.telemetry_path, get(metrics));
    if config.telemetry_path != "/" {
        let page = LandingPage {
            name: "Node Exporter".to_owned(),
            description: "Prometheus Node Exporter".to_owned(),
            version: PROGRAM.version_text().lines().next().unwrap_or("").to_owned(),
            links: vec![LandingLink {
                address: config.telemetry_path.clone(),
                text: "Metrics".to_owned(),
                description: String::new(),
            }],
        };
        let html = page.to_html();
        router = router.route("/", get(move || std::future::ready(landing_response(html.clone()))));
    }
    router.with_state(handler)
}

async fn metrics(State(handler): State<Arc<Handler>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let gathered =
        tokio::task::spawn_blocking(move || answer(&handler, query.as_deref().unwrap_or(""), &headers)).await;
    gathered.unwrap_or_else(|_| text_response(StatusCode::INTERNAL_SERVER_ERROR, "gathering metrics panicked\n"))
}

fn answer(handler: &Handler, query: &str, headers: &HeaderMap) -> Response {
    let selection = selection(query);
    let plain = selection == Selection::default();
    let Some(_in_flight) = handler.stats.begin(handler.max_requests) else {
        handler.stats.answered(StatusCode::SERVICE_UNAVAILABLE);
        return MetricsHandlerStats::over_limit(handler.max_requests);
    };
    let gathered = handler.exporter.gather(&selection, |page| {
        if handler.self_metrics && plain {
            handler.stats.collect(page);
        }
        let (response, errors) = metrics_response(page, headers, false);
        for error in &errors {
            tracing::error!(err = %error, "error gathering metrics");
        }
        if !errors.is_empty() {
            handler.stats.gathering_failed(1);
        }
        response
    });
    let response = gathered.unwrap_or_else(|error| text_response(StatusCode::BAD_REQUEST, error.to_string()));
    if plain {
        handler.stats.answered(response.status());
    }
    response
}

/// The values of `collect[]` and `exclude[]`.
fn selection(query: &str) -> Selection {
    let mut selection = Selection::default();
    for (name, value) in common::http::query_pairs(query) {
        match name.as_ref() {
            "collect[]" => selection.collect.push(value.into_owned()),
            "exclude[]" => selection.exclude.push(value.into_owned()),
            _ => {}
        }
    }
    selection
}
