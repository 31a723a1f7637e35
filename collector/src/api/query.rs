//! Queries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, State};
use http::request::Parts;
use promql::ast::Expr;
use promql::{QueryError, QueryOptions, QueryResult, Value};

use super::Server;
use super::params::{MAX_TIME, MIN_TIME, Params, now};
use super::query_json::{Answer, IN_TURN};
use super::response::{ApiError, ApiResult, ErrorType, json_parts, success, success_raw};
use crate::query::{AskedQuery, CancelOnDrop, NoTurn, QueryTime};
use crate::query_log::{Origin, QueryTimings};

/// A range query gives at most this many points per series.
const MAX_POINTS: i64 = 11_000;

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::Parse(_) => return Self::parameter("query", &error),
            QueryError::BadData(_) => return Self::parameter("query", &error),
            QueryError::Canceled => ErrorType::Canceled,
            QueryError::Timeout => ErrorType::Timeout,
            QueryError::Storage(_) => ErrorType::Internal,
            QueryError::Execution(_)
            | QueryError::TooManySamples
            | QueryError::TooManySeries { .. }
            | QueryError::TooMuchMemory { .. } => ErrorType::Execution,
            QueryError::MemoryTaken { .. } => ErrorType::Unavailable,
        };
        Self { kind, message: error.to_string() }
    }
}

impl From<NoTurn> for ApiError {
    fn from(error: NoTurn) -> Self {
        let kind = match error {
            NoTurn::Full(_) => ErrorType::Unavailable,
            NoTurn::Timeout => ErrorType::Timeout,
        };
        Self { kind, message: error.to_string() }
    }
}

fn parse(server: &Server, params: &Params) -> Result<(String, Expr), ApiError> {
    let text = params.get("query").unwrap_or_default().to_owned();
    let expr = server.querier.engine().parse(&text).map_err(|e| ApiError::parameter("query", e))?;
    Ok((text, expr))
}

/// The client of a request, as the log of queries names it.
pub(super) struct Client(pub(super) Origin);

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Origin::Http {
            client: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()),
            method: parts.method.to_string(),
            path: parts.extensions.get::<MatchedPath>().map_or(parts.uri.path(), MatchedPath::as_str).to_owned(),
        }))
    }
}

struct Asked {
    options: QueryOptions,
    limit: usize,
    stats: bool,
}

fn asked(params: &Params) -> Result<Asked, ApiError> {
    let timeout = params.duration("timeout")?.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs()));
    let lookback = params.duration("lookback_delta")?;
    let stats = params.get("stats");
    let explain = params.get("explain").is_some_and(|text| text == "true");
    let options = QueryOptions {
        timeout,
        lookback: lookback.filter(|l| *l > 0),
        per_step_stats: stats == Some("all"),
        explain,
        ..QueryOptions::default()
    };
    Ok(Asked { options, limit: params.limit()?, stats: stats.is_some() })
}

/// `/api/v1/query`
pub(super) async fn instant(State(server): State<Arc<Server>>, client: Client, params: Params) -> ApiResult {
    let time = match params.get("time") {
        None => now(),
        Some(_) => params.time("time", 0)?,
    };
    let asked = asked(&params)?;
    let (text, expr) = parse(&server, &params)?;
    run(server, asked, client, expr, text, QueryTime::Instant(time)).await
}

/// `/api/v1/query_range`
pub(super) async fn range(State(server): State<Arc<Server>>, client: Client, params: Params) -> ApiResult {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = super::params::parse_duration(params.get("step").unwrap_or_default())
        .map_err(|e| ApiError::parameter("step", e))?;
    if step <= 0 {
        let fault = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", fault));
    }
    if end.saturating_sub(start) / step > MAX_POINTS {
        return Err(ApiError::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let asked = asked(&params)?;
    let (text, expr) = parse(&server, &params)?;
    run(server, asked, client, expr, text, QueryTime::Range((start, end, step))).await
}

/// Runs a query when its turn comes, and ends it when the client goes away (this future is dropped).
async fn run(
    server: Arc<Server>,
    asked: Asked,
    Client(origin): Client,
    expr: Expr,
    text: String,
    at: QueryTime,
) -> ApiResult {
    let cancel = CancelOnDrop::default();
    let mut options = QueryOptions { cancel: cancel.0.clone(), ..asked.options };
    let (slot, waited) = server.querier.turn(&origin, options.timeout).await?;
    server.querier.metrics().begun.inc();
    // waiting counts
    let timeout = server.querier.engine().options().timeout.into_iter().chain(options.timeout).min();
    options.timeout = timeout.map(|timeout| timeout.saturating_sub(waited));
    let query = AskedQuery { expr: &expr, text: &text, at, origin: &origin, waited };
    if super::search::others_serve()
        && let Some(found) = server.querier.query_if_short(&query, &options)
    {
        cancel.done();
        return answer(&server, found, asked.limit, asked.stats);
    }
    let work = tokio::task::spawn_blocking(move || {
        // for as long as there is work, whether or not anybody waits for it
        let _slot = slot;
        let query = AskedQuery { expr: &expr, text: &text, at, origin: &origin, waited };
        let found = server.querier.query(&query, &options);
        answer(&server, found, asked.limit, asked.stats)
    });
    let answer = work.await;
    cancel.done();
    answer.unwrap_or_else(|_| Err(ApiError::internal("the query panicked")))
}

/// The answer to a query that has been evaluated.
fn answer(
    server: &Server,
    found: Result<(QueryResult, QueryTimings), QueryError>,
    limit: usize,
    stats: bool,
) -> ApiResult {
    let (mut result, timings) = found?;
    if truncate(&mut result, limit) {
        result.warnings.push("results truncated due to limit".to_owned());
    }
    server.querier.metrics().evaluated.add(timings.evaluated.as_nanos() as u64);
    Ok(json_parts(Answer::new(result, stats.then_some(timings)), IN_TURN))
}

/// Cuts a result to `limit` series (0: none). Gives whether it was longer.
fn truncate(result: &mut QueryResult, limit: usize) -> bool {
    if limit == 0 {
        return false;
    }
    match &mut result.value {
        Value::Vector(samples) if samples.len() > limit => samples.truncate(limit),
        Value::Matrix(series) if series.len() > limit => series.truncate(limit),
        _ => return false,
    }
    true
}

/// `/api/v1/format_query`
pub(super) async fn format(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let (_, expr) = parse(&server, &params)?;
    Ok(success(expr.prettify()))
}

/// `/api/v1/parse_query`
pub(super) async fn parse_query(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let (_, expr) = parse(&server, &params)?;
    Ok(success(expr.to_json()))
}

/// `/api/v1/query_exemplars`
pub(super) async fn exemplars(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let (from, to) = (params.time("start", MIN_TIME)?, params.time("end", MAX_TIME)?);
    if to < from {
        return Err(ApiError::bad("end timestamp must not be before start timestamp"));
    }
    let (_, expr) = parse(&server, &params)?;
    let selectors: Vec<_> = expr.selectors().into_iter().map(|selector| selector.matchers.clone()).collect();
    super::search::blocking(move || {
        let found = server.store.db()?.exemplars(&selectors, from, to);
        Ok(success_raw(|out| super::query_json::push_exemplars(&found, out)))
    })
    .await
}
