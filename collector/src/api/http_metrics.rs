//! What the server counts about the requests that it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use common::metrics::Page;
use futures::StreamExt;
use model::MetricType;
use parking_lot::Mutex;

use super::Server;
use crate::buckets::Buckets;

/// Seconds, as upstream has them.
const DURATIONS: [f64; 9] = [0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
/// Bytes, as upstream has them.
const SIZES: [f64; 8] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Requests by the route that answered them. There are as many as the server has routes.
#[derive(Debug, Default)]
pub struct HttpMetrics(Mutex<BTreeMap<String, Answers>>);

#[derive(Debug)]
struct Answers {
    by_status: BTreeMap<u16, u64>,
    durations: Buckets,
    sizes: Buckets,
}

impl Default for Answers {
    fn default() -> Self {
        Self { by_status: BTreeMap::new(), durations: Buckets::new(&DURATIONS), sizes: Buckets::new(&SIZES) }
    }
}

impl HttpMetrics {
    pub(super) fn collect(&self, page: &mut Page) {
        let help = "Counter of HTTP requests.";
        let requests = page.family("prometheus_http_requests_total", help, MetricType::Counter);
        let help = "Histogram of latencies for HTTP requests.";
        let durations = page.family("prometheus_http_request_duration_seconds", help, MetricType::Histogram);
        let help = "Histogram of response size for HTTP requests.";
        let sizes = page.family("prometheus_http_response_size_bytes", help, MetricType::Histogram);
        for (handler, answers) in &*self.0.lock() {
            for (status, count) in &answers.by_status {
                page.sample(requests, &[("handler", handler), ("code", &status.to_string())], *count as f64);
            }
            page.histogram(durations, &[("handler", handler)], answers.durations.value());
            page.histogram(sizes, &[("handler", handler)], answers.sizes.value());
        }
    }
}

/// An answer that is being sent; counted when that ends, also early.
struct Answered {
    server: Arc<Server>,
    handler: String,
    status: u16,
    begun: Instant,
    size: u64,
}

impl Drop for Answered {
    fn drop(&mut self) {
        let mut all = self.server.metrics.http.0.lock();
        let answers = all.entry(std::mem::take(&mut self.handler)).or_default();
        *answers.by_status.entry(self.status).or_default() += 1;
        answers.durations.observe(self.begun.elapsed().as_secs_f64());
        answers.sizes.observe(self.size as f64);
    }
}

/// Counts what the routes answer. What no route answers is not counted.
pub(super) fn layer(router: Router, server: &Arc<Server>) -> Router {
    let server = Arc::clone(server);
    router.route_layer(middleware::from_fn(move |request: Request, next: Next| {
        let server = Arc::clone(&server);
        async move {
            let begun = Instant::now();
            let Some(handler) = request.extensions().get::<MatchedPath>().map(|p| handler(&server, p.as_str())) else {
                return next.run(request).await;
            };
            let response = next.run(request).await;
            let status = response.status().as_u16();
            counted(response, Answered { server, handler, status, begun, size: 0 })
        }
    }))
}

/// A route as upstream writes it: without the prefix, `:name` for its parts.
fn handler(server: &Server, path: &str) -> String {
    let prefix = server.options.route_prefix.trim_end_matches('/');
    path.strip_prefix(prefix).unwrap_or(path).replace('{', ":").replace('}', "")
}

fn counted(response: Response, mut answered: Answered) -> Response {
    if let Some(size) = response.body().size_hint().exact() {
        answered.size = size;
        return response;
    }
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |part| {
            // all of it moves in, to be dropped with the body
            let answered = &mut answered;
            answered.size += part.as_ref().map_or(0, |bytes| bytes.len() as u64);
        }))
    })
}
