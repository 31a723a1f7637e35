//! Deleting and copying data (`--web.enable-admin-api`).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::Server;
use super::params::{MAX_TIME, MIN_TIME, Params};
use super::response::{ApiError, ApiResult, ErrorType, success};
use super::search::blocking;

fn enabled(server: &Server) -> Result<(), ApiError> {
    if server.options.enable_admin_api {
        return Ok(());
    }
    Err(ApiError { kind: ErrorType::Unavailable, message: "admin APIs disabled".into() })
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// `/api/v1/admin/tsdb/delete_series`
pub(super) async fn delete_series(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    enabled(&server)?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad("no match[] parameter provided"));
    }
    let (from, to) = (params.time("start", MIN_TIME)?, params.time("end", MAX_TIME)?);
    let selectors: Vec<_> = params
        .all("match[]")
        .map(|text| promql::parse_metric_selector(text).map_err(|e| ApiError::parameter("match[]", e)))
        .collect::<Result<_, _>>()?;
    blocking(move || {
        for matchers in &selectors {
            server.store.db()?.delete(matchers, from, to).map_err(|e| ApiError::internal(e.to_string()))?;
        }
        Ok(no_content())
    })
    .await
}

/// `/api/v1/admin/tsdb/clean_tombstones`
pub(super) async fn clean_tombstones(State(server): State<Arc<Server>>) -> ApiResult {
    enabled(&server)?;
    blocking(move || {
        server.store.db()?.clean_tombstones().map_err(|e| ApiError::internal(e.to_string()))?;
        Ok(no_content())
    })
    .await
}

#[derive(Serialize)]
struct Snapshot {
    name: String,
}

/// `/api/v1/admin/tsdb/snapshot`
pub(super) async fn snapshot(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    enabled(&server)?;
    let skip_head = match params.get("skip_head") {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => return Err(ApiError::parameter("skip_head", "unable to parse boolean")),
    };
    blocking(move || {
        let now = model::format_rfc3339_millis(model::now_millis());
        let name: String = now.chars().filter(char::is_ascii_alphanumeric).collect();
        let db = server.store.db()?;
        let folder = server.options.storage_path.join("snapshots").join(&name);
        std::fs::create_dir_all(&folder).map_err(|e| ApiError::internal(format!("create snapshot directory: {e}")))?;
        db.snapshot(&folder, !skip_head).map_err(|e| ApiError::internal(e.to_string()))?;
        Ok(success(Snapshot { name }))
    })
    .await
}
