//! The envelope of every API answer.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::task::JoinError;

use super::body_parts::made_in_turn;
use crate::storage::NotReady;

/// Why a request is not answered, as upstream sorts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorType {
    /// The request is wrong.
    BadData,
    /// The query failed while it ran.
    Execution,
    /// The client went away.
    Canceled,
    /// The query took too long.
    Timeout,
    /// The server is at fault.
    Internal,
    /// Not now, or not on this server.
    Unavailable,
}

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ApiError {
    /// The kind of fault.
    pub(super) kind: ErrorType,
    /// What is wrong.
    pub(super) message: String,
}

/// The answer of an API function.
pub(super) type ApiResult = Result<Response, ApiError>;

impl From<NotReady> for ApiError {
    fn from(error: NotReady) -> Self {
        Self { kind: ErrorType::Unavailable, message: error.to_string() }
    }
}

impl ApiError {
    /// A wrong request.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self { kind: ErrorType::BadData, message: message.into() }
    }

    /// A wrong parameter.
    pub(super) fn parameter(name: &str, fault: impl std::fmt::Display) -> Self {
        Self::bad(format!("invalid parameter {}: {fault}", model::quote(name)))
    }

    /// No job has that name.
    pub(super) fn no_pool(name: &str) -> Self {
        Self::bad(format!("error retrieving scrape pool config: scrape pool {} not found", model::quote(name)))
    }

    /// A fault of the server.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { kind: ErrorType::Internal, message: message.into() }
    }

    fn parts(&self) -> (StatusCode, &'static str) {
        match self.kind {
            ErrorType::BadData => (StatusCode::BAD_REQUEST, "bad_data"),
            ErrorType::Execution => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            // 499 has no name: nginx's "client closed request"
            ErrorType::Canceled => (StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), "canceled"),
            ErrorType::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            ErrorType::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            ErrorType::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    #[serde(rename = "errorType", skip_serializing_if = "Option::is_none")]
    error_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    infos: &'a [String],
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, name) = self.parts();
        let envelope: Envelope<'_, ()> = Envelope {
            status: "error",
            data: None,
            error_type: Some(name),
            error: Some(&self.message),
            warnings: &[],
            infos: &[],
        };
        let mut response = json(&envelope);
        *response.status_mut() = status;
        response
    }
}

/// For `serialize_with`: a number as Go writes it, without the `.0` of whole ones.
pub(super) fn go_number<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

/// JSON without the envelope.
pub(super) fn plain<T: Serialize>(value: &T) -> Response {
    json(value)
}

/// A good answer.
pub(super) fn success<T: Serialize>(data: T) -> Response {
    success_with(data, &[])
}

/// A good answer with warnings.
pub(super) fn success_with<T: Serialize>(data: T, warnings: &[String]) -> Response {
    json(&Envelope { status: "success", data: Some(data), error_type: None, error: None, warnings, infos: &[] })
}

/// A good answer, whose data is written as JSON.
pub(super) fn success_raw(write: impl FnOnce(&mut Vec<u8>)) -> Response {
    let mut body = b"{\"status\":\"success\",\"data\":".to_vec();
    write(&mut body);
    body.push(b'}');
    json_bytes(body)
}

/// JSON that is made while it is sent, a part at a time; the first `in_turn` of them take little time each. What has one part is sent whole.
pub(super) fn json_parts(mut parts: impl Iterator<Item = Vec<u8>> + Send + 'static, in_turn: usize) -> Response {
    let first = parts.next().unwrap_or_default();
    let Some(second) = parts.next() else { return json_bytes(first) };
    let begun = futures::stream::iter([first, second].map(Ok::<_, JoinError>));
    json_body(Body::from_stream(begun.chain(made_in_turn(parts, in_turn))))
}

fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes(body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn json_bytes(body: Vec<u8>) -> Response {
    json_body(Body::from(body))
}

fn json_body(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
