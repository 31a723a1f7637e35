//! The built-in page, and the guard for servers on one machine.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use common::http::{landing_response, text_response};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode};

use crate::api::Server;

const PAGE: &str = include_str!("web/page.html");

/// The page, and redirections from where Prometheus has its pages.
pub(crate) fn routes() -> Router<Arc<Server>> {
    let mut router = Router::new().route("/", get(page));
    for path in ["/graph", "/alerts", "/targets", "/rules", "/query"] {
        router = router.route(path, get(to_page));
    }
    router
}

async fn page() -> Response {
    landing_response(PAGE.to_owned())
}

/// Links of alerts lead to `/graph?g0.expr=...`; the page understands the same parameters.
async fn to_page(request: Request) -> Response {
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    Redirect::temporary(&format!("./{query}")).into_response()
}

/// Refuses requests that name another host than `hosts`: a page of somebody else that a browser was led to believe is ours
/// (DNS rebinding), or one that posts across origins.
pub(crate) fn guard(router: Router, hosts: Vec<String>) -> Router {
    let hosts: Arc<[String]> = hosts.into();
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let hosts = Arc::clone(&hosts);
        async move {
            if is_allowed(request.headers(), &hosts) {
                return next.run(request).await;
            }
            text_response(StatusCode::FORBIDDEN, "the Host or Origin of this request is not allowed\n")
        }
    }))
}

fn is_allowed(headers: &HeaderMap, hosts: &[String]) -> bool {
    let known = |authority: &str| {
        let name = match authority.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => authority,
        };
        hosts.iter().any(|h| h.eq_ignore_ascii_case(name.trim_matches(['[', ']'])))
    };
    let host = headers.get(HOST).map(|h| h.to_str().unwrap_or_default());
    let origin = headers.get(ORIGIN).map(|o| o.to_str().unwrap_or_default());
    host.is_none_or(known) && origin.is_none_or(|o| o.split_once("://").is_some_and(|(_, authority)| known(authority)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let check = |host: &str, origin: Option<&str>, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_allowed(&headers, &hosts), expected, "{host} {origin:?}");
        };
        check("localhost:9090", None, true);
        check("127.0.0.1", None, true);
        check("[::1]:9090", None, true);
        check("evil.example:9090", None, false);
        check("localhost:9090", Some("http://localhost:9090"), true);
        check("localhost:9090", Some("http://evil.example"), false);
        check("localhost:9090", Some("null"), false);
    }
}
