//! Notifications about the server itself, as a list and as a stream of events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::Server;
use super::response::success;
use crate::notifications::SHUTTING_DOWN;

/// `/api/v1/notifications`
pub(super) async fn notifications(State(server): State<Arc<Server>>) -> Response {
    success(server.notifications.current())
}

/// `/api/v1/notifications/live`: what holds, then every change, as events of a stream; 204 if too many listen. The stream ends with
/// the server.
pub(super) async fn live(State(server): State<Arc<Server>>) -> Response {
    let Some(subscription) = server.notifications.subscribe() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let events = stream::unfold(Some(subscription), |subscription| async {
        let mut subscription = subscription?;
        let notification = subscription.next().await?;
        let event = format!("data: {}\n\n", serde_json::to_string(&notification).unwrap_or_default());
        // an open stream would hold up the end
        let goes_on = notification.text != SHUTTING_DOWN;
        Some((Ok::<_, Infallible>(Bytes::from(event)), goes_on.then_some(subscription)))
    });
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (headers, Body::from_stream(events)).into_response()
}
