//! Series, label names and label values.

use std::sync::Arc;

use axum::extract::{Path, State};
use model::{Matcher, Timestamp};
use promql::storage::{KeptLabels, SelectRequest, Storage, Wanted};
use tsdb::{Answer, Texts};

use super::Server;
use super::params::{MAX_TIME, MIN_TIME, Params};
use super::query_json::{push_selected, push_series, push_texts};
use super::response::{ApiError, ApiResult, success_raw};

const TRUNCATED: &str = "results truncated due to limit";

/// About so long is the JSON of a label set.
const SERIES_BYTES: usize = 128;

struct Range {
    from: Timestamp,
    to: Timestamp,
    limit: usize,
}

impl Range {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let (from, to) = (params.time("start", MIN_TIME)?, params.time("end", MAX_TIME)?);
        Ok(Self { from, to, limit: params.limit()? })
    }
}

/// `/api/v1/series`
pub(super) async fn series(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad("no match[] parameter provided"));
    }
    let (range, selectors) = (Range::read(&params)?, params.selectors()?);
    blocking(move || {
        let select = |matchers: &Vec<Matcher>| {
            let request = SelectRequest::new(matchers, (range.from, range.to), Wanted::Labels);
            server.store.select(&request).map_err(|e| ApiError::internal(e.to_string()))
        };
        let selections = selectors.iter().map(select).collect::<Result<Vec<_>, _>>()?;
        let mut warnings = selections.iter().flat_map(|selection| selection.warnings()).cloned().collect::<Vec<_>>();
        let mut cut = |found: usize| {
            if range.limit == 0 || found <= range.limit {
                return found;
            }
            warnings.push(TRUNCATED.to_owned());
            range.limit
        };
        // what one selector finds is in order, each once
        if let [selection] = &selections[..] {
            let count = cut(selection.len());
            return Ok(success_raw(count * SERIES_BYTES, |out| push_selected(&**selection, count, out), &warnings));
        }
        let all = selections.iter().flat_map(|selection| selection.labels(0..selection.len(), KeptLabels::All));
        let mut series = all.collect::<Vec<_>>();
        series.sort();
        series.dedup();
        series.truncate(cut(series.len()));
        Ok(success_raw(series.len() * SERIES_BYTES, |out| push_series(&series, out), &warnings))
    })
    .await
}

/// `/api/v1/labels`
pub(super) async fn labels(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let (range, selectors) = (Range::read(&params)?, params.selectors()?);
    let names = move |matchers: &[Matcher]| server.store.label_names(matchers, range.from, range.to);
    blocking(move || gather(&selectors, range.limit, names)).await
}

/// `/api/v1/label/NAME/values`
pub(super) async fn label_values(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult {
    let name = unescape(&name);
    if name.is_empty() {
        return Err(ApiError::bad("invalid label name: \"\""));
    }
    let (range, selectors) = (Range::read(&params)?, params.selectors()?);
    let values = move |matchers: &[Matcher]| server.store.label_values(&name, matchers, range.from, range.to);
    blocking(move || gather(&selectors, range.limit, values)).await
}

/// A name as the "values" escaping scheme puts it into a path (`U__a_2e_b` for `a.b`), or as it is.
fn unescape(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = rest.split_once('_').and_then(|(hex, after)| {
            let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?;
            Some((c, after))
        });
        let Some((c, after)) = code else { return name.to_owned() };
        out.push(c);
        rest = after;
    }
    out + rest
}

/// What any of the selectors gives, or everything without one.
fn gather(
    selectors: &[Vec<Matcher>],
    limit: usize,
    ask: impl Fn(&[Matcher]) -> Result<Answer, tsdb::ReadError>,
) -> ApiResult {
    let (mut values, mut warnings) = (Texts::default(), Vec::new());
    let everything = [Vec::new()];
    for matchers in if selectors.is_empty() { &everything } else { selectors } {
        let answer = ask(matchers).map_err(|e| ApiError::internal(e.to_string()))?;
        values.append(answer.values);
        warnings.extend(answer.warnings);
    }
    values.sort();
    if limit > 0 && values.len() > limit {
        values.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
    let bytes = values.concatenated().len() + 3 * values.len();
    Ok(success_raw(bytes, |out| push_texts(&values, out), &warnings))
}

/// Runs work that reads the store off the threads that serve connections.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::internal("the request panicked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_understood() {
        for (escaped, name) in [("job", "job"), ("U__a_2e_b", "a.b"), ("U__a__b", "a_b"), ("U__a_zz_b", "U__a_zz_b")] {
            assert_eq!(unescape(escaped), name);
        }
    }
}
