//! Requests of pages from elsewhere (`--web.cors.origin`): browsers hand on the answers that say so.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, StatusCode};
use model::LabelRegex;

const API: &str = "/api/v1/";

/// Lets the answers of the API be used by pages of the origins that `allowed` matches, and answers the question that browsers ask
/// before (`OPTIONS`, any path of the API). With `None` nothing is said to browsers.
pub(super) fn layer(router: Router, allowed: Option<LabelRegex>) -> Router {
    let allowed = Arc::new(allowed);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let allowed = Arc::clone(&allowed);
        async move {
            if !request.uri().path().starts_with(API) {
                return next.run(request).await;
            }
            let headers = headers(request.headers().get(ORIGIN), allowed.as_ref().as_ref());
            let mut response: Response = if request.method() == Method::OPTIONS {
                StatusCode::NO_CONTENT.into_response()
            } else {
                next.run(request).await
            };
            response.headers_mut().extend(headers);
            response
        }
    }))
}

fn headers(origin: Option<&HeaderValue>, allowed: Option<&LabelRegex>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(allowed) = allowed else { return headers };
    // for caches on the way: another page gets another answer
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return headers };
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if origin.to_str().is_ok_and(|origin| allowed.is_match(origin)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_that_match_are_allowed() {
        let check = |allowed: Option<&str>, origin: Option<&'static str>, expected: Option<&str>| {
            let allowed = allowed.map(|text| LabelRegex::new(text).unwrap());
            let found = headers(origin.map(HeaderValue::from_static).as_ref(), allowed.as_ref());
            let origin_allowed = found.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|v| v.to_str().unwrap());
            assert_eq!(origin_allowed, expected, "{allowed:?} {origin:?}");
            assert_eq!(found.contains_key(VARY), allowed.is_some());
        };
        check(Some(".*"), Some("http://a.example"), Some("http://a.example"));
        check(Some("https?://(a|b)\\.example"), Some("http://a.example"), Some("http://a.example"));
        check(Some("https?://(a|b)\\.example"), Some("http://a.example.org"), None);
        check(Some(".*"), None, None);
        check(None, Some("http://a.example"), None);
    }
}
