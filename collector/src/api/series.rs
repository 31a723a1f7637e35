//! Series, label names and label values.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use model::{Matcher, Timestamp};
use promql::storage::{SelectRequest, StorageError, Wanted, Watch};
use promql::{QueryError, Search};
use tsdb::{Answer, Texts};

use super::Server;
use super::list_json::{IN_TURN, List, ListedTexts, MergedSeries, SelectedSeries};
use super::params::{MAX_TIME, MIN_TIME, Params};
use super::query::Client;
use super::response::{ApiError, ApiResult, json_parts};
use super::search::search;

struct Range {
    from: Timestamp,
    to: Timestamp,
    /// Without a limit the largest number.
    limit: usize,
}

impl Range {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let (from, to) = (params.time("start", MIN_TIME)?, params.time("end", MAX_TIME)?);
        let limit = match params.limit()? {
            0 => usize::MAX,
            limit => limit,
        };
        Ok(Self { from, to, limit })
    }
}

/// `/api/v1/series`
pub(super) async fn series(State(server): State<Arc<Server>>, client: Client, params: Params) -> ApiResult {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad("no match[] parameter provided"));
    }
    let (range, selectors) = (Range::read(&params)?, params.selectors()?);
    let store = server.store.clone();
    let text = text_of("series", &params);
    search(&server, &client, Some(&text), (range.from, range.to), move |mut search| {
        let mut select = |matchers: &Vec<Matcher>| {
            search.look(|watch| {
                let request = SelectRequest::new(matchers, (range.from, range.to), Wanted::Labels);
                store.find(&SelectRequest { watch, ..request })
            })
        };
        let mut selections = selectors.iter().map(&mut select).collect::<Result<Vec<_>, _>>()?;
        let warnings = selections.iter().flat_map(|selection| selection.warnings()).cloned().collect::<Vec<_>>();
        // what one selector finds is in order, each once
        let one = if selections.len() == 1 { selections.pop() } else { None };
        Ok(match one {
            Some(selection) => {
                json_parts(List::new(SelectedSeries::new(selection, range.limit), warnings, search), IN_TURN)
            }
            None => json_parts(List::new(MergedSeries::new(selections, range.limit), warnings, search), IN_TURN),
        })
    })
    .await
}

/// `/api/v1/labels`
pub(super) async fn labels(State(server): State<Arc<Server>>, client: Client, params: Params) -> ApiResult {
    let (range, selectors) = (Range::read(&params)?, params.selectors()?);
    let store = server.store.clone();
    let names = move |matchers: &[Matcher], watch: Watch<'_>| store.label_names(matchers, range.from, range.to, watch);
    let text = text_of("labels", &params);
    let look = move |search| gather(&selectors, range.limit, search, &names);
    search(&server, &client, Some(&text), (range.from, range.to), look).await
}

/// `/api/v1/label/NAME/values`
pub(super) async fn label_values(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
    client: Client,
    params: Params,
) -> ApiResult {
    let name = unescape(&name);
    if name.is_empty() {
        return Err(ApiError::bad("invalid label name: \"\""));
    }
    let (range, selectors) = (Range::read(&params)?, params.selectors()?);
    let store = server.store.clone();
    let text = text_of(&format!("values of {name}"), &params);
    let values =
        move |matchers: &[Matcher], watch: Watch<'_>| store.label_values(&name, matchers, range.from, range.to, watch);
    let look = move |search| gather(&selectors, range.limit, search, &values);
    search(&server, &client, Some(&text), (range.from, range.to), look).await
}

/// What is looked for in all or among some series, as a text.
fn text_of(what: &str, params: &Params) -> String {
    std::iter::once(what).chain(params.all("match[]")).collect::<Vec<_>>().join("\n")
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
    mut search: Search,
    ask: impl Fn(&[Matcher], Watch<'_>) -> Result<Answer, StorageError>,
) -> Result<Response, QueryError> {
    let (mut values, mut warnings) = (Texts::default(), Vec::new());
    let everything = [Vec::new()];
    for matchers in if selectors.is_empty() { &everything } else { selectors } {
        let answer = search.look(|watch| ask(matchers, watch))?;
        values.merge(answer.values);
        warnings.extend(answer.warnings);
    }
    Ok(json_parts(List::new(ListedTexts::new(values, limit), warnings, search), IN_TURN))
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
