//! What the server is and how it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::{format_rfc3339_millis, now_millis};
use serde::Serialize;
use tsdb::NamedCount;

use super::Server;
use super::params::Params;
use super::response::{ApiError, ApiResult, plain, success};
use super::search::blocking;

#[derive(Serialize)]
struct ShownConfig {
    yaml: String,
}

/// `/api/v1/status/config`
pub(super) async fn config(State(server): State<Arc<Server>>) -> Response {
    success(ShownConfig { yaml: server.config.read().shown.clone() })
}

/// `/api/v1/status/flags`
pub(super) async fn flags(State(server): State<Arc<Server>>) -> Response {
    let flags: BTreeMap<&str, &str> = server.options.flags.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    success(flags)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfo {
    start_time: String,
    #[serde(rename = "CWD")]
    cwd: String,
    hostname: String,
    server_time: String,
    reload_config_success: bool,
    last_config_time: String,
    corruption_count: u64,
    /// Threads: what comes nearest to goroutines.
    goroutine_count: usize,
    #[serde(rename = "GOMAXPROCS")]
    gomaxprocs: usize,
    #[serde(rename = "GOMEMLIMIT")]
    gomemlimit: i64,
    #[serde(rename = "GOGC")]
    gogc: &'static str,
    #[serde(rename = "GODEBUG")]
    godebug: &'static str,
    storage_retention: String,
}

/// `/api/v1/status/runtimeinfo`. The fields about Go's runtime are there for clients that want them; the limits are none.
pub(super) async fn runtime_info(State(server): State<Arc<Server>>) -> Response {
    let reload = *server.reload_state.lock();
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    success(RuntimeInfo {
        start_time: format_rfc3339_millis(server.started),
        cwd: std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default(),
        hostname: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        server_time: format_rfc3339_millis(now_millis()),
        reload_config_success: reload.success,
        last_config_time: format_rfc3339_millis(reload.last_success / 1000 * 1000),
        corruption_count: server.store.db().map_or(0, |db| db.metrics().wal_corruptions),
        goroutine_count: threads,
        gomaxprocs: std::thread::available_parallelism().map_or(1, Into::into),
        gomemlimit: i64::MAX,
        gogc: "",
        godebug: "",
        storage_retention: server.options.retention_text.clone(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildInfo {
    version: &'static str,
    revision: &'static str,
    branch: &'static str,
    build_user: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    firewatch_version: &'static str,
}

/// `/api/v1/status/buildinfo`: the version is that of the Prometheus this server stands in for, as clients choose features by it.
pub(super) async fn build_info() -> Response {
    success(this_build())
}

/// `/version`: the same without the envelope.
pub(super) async fn version() -> Response {
    plain(&this_build())
}

fn this_build() -> BuildInfo {
    let program = crate::PROGRAM;
    BuildInfo {
        version: program.version,
        revision: program.revision(),
        branch: program.branch(),
        build_user: "",
        build_date: "",
        go_version: "",
        firewatch_version: program.firewatch_version,
    }
}

#[derive(Serialize)]
struct Count {
    name: String,
    value: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStats {
    num_series: u64,
    num_label_pairs: u64,
    chunk_count: u64,
    min_time: i64,
    max_time: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TsdbStatus {
    head_stats: HeadStats,
    series_count_by_metric_name: Vec<Count>,
    label_value_count_by_label_name: Vec<Count>,
    memory_in_bytes_by_label_name: Vec<Count>,
    series_count_by_label_value_pair: Vec<Count>,
}

/// `/api/v1/status/tsdb`
pub(super) async fn tsdb(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let limit = match params.get("limit") {
        None => 10,
        Some(text) => match text.parse::<usize>() {
            Ok(limit) if (1..=10_000).contains(&limit) => limit,
            Ok(limit) if limit > 10_000 => return Err(ApiError::bad("limit must not exceed 10000")),
            _ => return Err(ApiError::bad("limit must be a positive number")),
        },
    };
    blocking(move || {
        let status = server.store.db()?.status(limit);
        let counts = |list: Vec<NamedCount>| list.into_iter().map(|c| Count { name: c.name, value: c.value }).collect();
        Ok(success(TsdbStatus {
            head_stats: HeadStats {
                num_series: status.num_series,
                num_label_pairs: status.num_label_pairs,
                chunk_count: status.chunk_count,
                min_time: status.min_time,
                max_time: status.max_time,
            },
            series_count_by_metric_name: counts(status.series_count_by_metric_name),
            label_value_count_by_label_name: counts(status.label_value_count_by_label_name),
            memory_in_bytes_by_label_name: counts(status.memory_in_bytes_by_label_name),
            series_count_by_label_value_pair: counts(status.series_count_by_label_value_pair),
        }))
    })
    .await
}

#[derive(Serialize)]
struct WalReplay {
    min: u64,
    max: u64,
    current: u64,
}

/// `/api/v1/status/walreplay`: numbers of segments, the last of which is being written to once all have been read.
pub(super) async fn wal_replay(State(server): State<Arc<Server>>) -> Response {
    let (min, max, current) = match server.store.replay() {
        Some(progress) => progress.segments(),
        None => {
            let segment = server.store.db().map_or(0, |db| db.metrics().wal_segment_current);
            (0, segment, segment)
        }
    };
    success(WalReplay { min, max, current })
}
