use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use axum::routing::get;
use common::http::{
    LandingLink, LandingPage, Limits, MetricsHandlerStats, Server, ServerError, ServerOptions, ServerStats,
    landing_response, metrics_response, text_response,
};
use tokio_util::sync::CancellationToken;

use crate::exporter::{Exporter, GatherError, Selection};
use crate::flags::{Config, PROGRAM};

/// Why the exporter does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server does not start.
    #[error(transparent)]
    Server(#[from] ServerError),
}

struct Handler {
    exporter: Arc<Exporter>,
    timeout: Option<Duration>,
    max_requests: u64,
}

/// An exporter that listens and does not answer yet.
pub struct Bound {
    config: Config,
    server: Server,
}

/// Begins to listen. Needs a Tokio runtime.
pub fn bind(config: Config) -> Result<Bound, StartError> {
    tracing::info!(version = PROGRAM.version, firewatch = PROGRAM.firewatch_version, "Starting node_exporter");
    for flag in &config.ignored {
        tracing::warn!("--{flag} has no effect here");
    }
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

    /// What will have happened in its server.
    pub fn stats(&self) -> Arc<ServerStats> {
        self.server.stats()
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

fn router(config: &Config, exporter: Exporter) -> Router {
    let handler =
        Arc::new(Handler { exporter: Arc::new(exporter), timeout: config.timeout, max_requests: config.max_requests });
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
    let selection = selection(query.as_deref().unwrap_or(""));
    let plain = selection == Selection::default();
    let stats = handler.exporter.stats();
    let Some(_in_flight) = stats.begin(handler.max_requests) else {
        stats.answered(StatusCode::SERVICE_UNAVAILABLE);
        return MetricsHandlerStats::over_limit(handler.max_requests);
    };
    let deadline = Instant::now() + patience(handler.timeout, &headers);
    let gathered = handler.exporter.gather(selection, deadline, move |page| metrics_response(page, &headers, false));
    let response = match gathered.await {
        Ok((response, errors)) => {
            for error in &errors {
                tracing::error!(err = %error, "error gathering metrics");
            }
            if !errors.is_empty() {
                stats.gathering_failed(1);
            }
            response
        }
        Err(GatherError::Selection(error)) => text_response(StatusCode::BAD_REQUEST, error.to_string()),
        Err(error @ GatherError::Panicked) => text_response(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    if plain {
        stats.answered(response.status());
    }
    response
}

/// The scraper's own limit.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
/// That of a scraper that does not say.
const DEFAULT_SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is left for writing the page and its way to the scraper.
const MARGIN: Duration = Duration::from_millis(500);

/// How long collectors are waited for: less than the scraper waits, and no longer than `limit`.
fn patience(limit: Option<Duration>, headers: &HeaderMap) -> Duration {
    let announced = headers.get(&SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok()?.parse().ok());
    let scraper = announced.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|t| !t.is_zero());
    let (given, scraper) = (scraper.is_some(), scraper.unwrap_or(DEFAULT_SCRAPE_TIMEOUT));
    let within = scraper.saturating_sub(MARGIN.min(scraper / 2)).min(Duration::from_secs(3600));
    match limit {
        Some(limit) if given => limit.min(within),
        Some(limit) => limit,
        None => within,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_have_less_time_than_the_scraper() {
        let check = |limit: Option<u64>, header: Option<&str>, expected: u64| {
            let mut headers = HeaderMap::new();
            if let Some(text) = header {
                headers.insert(SCRAPE_TIMEOUT, text.parse().unwrap());
            }
            let found = patience(limit.map(Duration::from_millis), &headers);
            assert_eq!(found, Duration::from_millis(expected), "{limit:?} {header:?}");
        };
        check(None, None, 9500);
        check(None, Some("15"), 14_500);
        check(None, Some("3.000000"), 2500);
        check(None, Some("0.5"), 250);
        for nonsense in ["x", "-1", "0", "NaN", "inf"] {
            check(None, Some(nonsense), 9500);
        }
        check(None, Some("1e18"), 3_600_000);
        check(Some(2000), Some("15"), 2000);
        check(Some(2000), Some("1"), 500);
        check(Some(60_000), None, 60_000);
    }
}
