//! `/federate`: the newest sample of each series that is asked for, as a page that another server scrapes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use common::exposition::{FormatKind, negotiate};
use common::http::{metrics_response, text_response};
use common::metrics::{HistogramValue, NativeHistogram, Page};
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use model::{
    CounterResetHint, FloatHistogram, INSTANCE, Labels, METRIC_NAME, MetricType, Timestamp, is_stale, now_millis,
};
use promql::storage::{KeptLabels, SelectRequest, Wanted};
use promql::{QueryError, Search};

use super::Server;
use super::params::Params;
use super::query::Client;
use super::search::search;

/// About so long is a line of the page, without its labels that are held as well.
const LINE: usize = 64;

/// Series whose samples are held at once.
const CHUNK: usize = 1024;

enum Newest {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// `/federate`
pub(super) async fn federate(
    State(server): State<Arc<Server>>,
    client: Client,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let selectors = match params.selectors() {
        Ok(selectors) => selectors,
        Err(error) => return text_response(StatusCode::BAD_REQUEST, format!("{}\n", error.message)),
    };
    if let Err(error) = server.store.db() {
        return text_response(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));
    }
    let to = now_millis();
    let from = to - server.options.lookback;
    let reader = Arc::clone(&server);
    let page = search(&server, &client, None, (from, to), move |mut search| {
        let mut found = Vec::new();
        for matchers in &selectors {
            let request = SelectRequest::new(matchers, (from, to), Wanted::Samples);
            newest(&reader, &request, &mut search, &mut found)?;
        }
        found.sort_by(|a, b| a.0.metric_name().cmp(b.0.metric_name()).then_with(|| a.0.cmp(&b.0)));
        found.dedup_by(|a, b| a.0 == b.0);
        Ok(shown(&reader, &found, &headers))
    })
    .await;
    page.unwrap_or_else(|error| {
        server.metrics.federation_errors.inc();
        text_response(StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", error.message))
    })
}

/// Appends the newest sample of each series, unless it says that the series has ended.
fn newest(
    server: &Server,
    request: &SelectRequest<'_>,
    search: &mut Search,
    out: &mut Vec<(Labels, Timestamp, Newest)>,
) -> Result<(), QueryError> {
    let selection = search.look(|watch| server.store.find(&SelectRequest { watch, ..request.clone() }))?;
    server.metrics.federation_warnings.add(selection.warnings().len() as u64);
    let count = selection.len();
    for start in (0..count).step_by(CHUNK) {
        let range = start..count.min(start + CHUNK);
        let mut bytes = 0;
        let samples = selection.read(range.clone(), request.mint, request.maxt)?;
        for (labels, samples) in selection.labels(range, KeptLabels::All).into_iter().zip(samples) {
            let (floats, histograms) = (&samples.floats, &samples.histograms);
            let float = floats.timestamps.last().copied().zip(floats.values.last().copied());
            let histogram = histograms.timestamps.last().copied().zip(histograms.values.last());
            let newest = match (float, histogram) {
                (Some((at, _)), Some((later, histogram))) if later > at => {
                    (later, Newest::Histogram(histogram.clone()))
                }
                (Some((at, value)), _) => (at, Newest::Float(value)),
                (None, Some((at, histogram))) => (at, Newest::Histogram(histogram.clone())),
                (None, None) => continue,
            };
            let ended = match &newest.1 {
                Newest::Float(value) => is_stale(*value),
                Newest::Histogram(histogram) => histogram.is_stale(),
            };
            if !ended && !labels.metric_name().is_empty() {
                bytes += size_of::<(Labels, Timestamp, Newest)>() + 2 * labels.as_bytes().len() + LINE;
                out.push((labels, newest.0, newest.1));
            }
        }
        search.hold(bytes)?;
    }
    Ok(())
}

/// The page: series under the external labels that they do not have themselves, an empty instance among them so that the server
/// that scrapes does not put its own there. Native histograms have a place in protobuf only.
fn shown(server: &Server, found: &[(Labels, Timestamp, Newest)], headers: &HeaderMap) -> Response {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let histograms = negotiate(&accept.join(","), false).kind == FormatKind::Protobuf;
    let mut external = server.config.read().global.external_labels.clone().to_builder();
    let instance = external.get(INSTANCE).to_owned();
    let external = external.remove(INSTANCE).build();
    let mut page = Page::new();
    let mut family = None;
    for (labels, at, newest) in found {
        let metric_type = match newest {
            Newest::Float(_) => MetricType::Unknown,
            // the format has no place for bounds of custom buckets
            Newest::Histogram(h) if !histograms || h.uses_custom_buckets() => continue,
            Newest::Histogram(h) if h.counter_reset_hint == CounterResetHint::Gauge => MetricType::GaugeHistogram,
            Newest::Histogram(_) => MetricType::Histogram,
        };
        let name = labels.metric_name();
        let id = match family {
            Some((known, kind, id)) if (known, kind) == (name, metric_type) => id,
            _ => page.family(name, "", metric_type),
        };
        family = Some((name, metric_type, id));
        let mut pairs: Vec<(&str, &str)> = labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
        pairs.extend(external.iter().filter(|(name, _)| labels.get(name).is_none()));
        if labels.get(INSTANCE).is_none() {
            pairs.push((INSTANCE, &instance));
        }
        match newest {
            Newest::Float(value) => page.sample_at(id, &pairs, *value, *at),
            Newest::Histogram(histogram) => {
                let native = Some(NativeHistogram::Float(FloatHistogram::clone(histogram)));
                let value = HistogramValue { sum: histogram.sum, native, ..HistogramValue::default() };
                page.histogram_at(id, &pairs, value, Some(*at));
            }
        }
    }
    let (response, errors) = metrics_response(&page, headers, false);
    server.metrics.federation_errors.add(errors.len() as u64);
    response
}
