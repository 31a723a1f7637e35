//! The server's metrics about itself as JSON: `io.prometheus.client.MetricFamily` messages, as protobuf maps them to JSON. Whole
//! numbers of 64 bits are strings there, and so are numbers that JSON does not have.

use std::sync::Arc;

use axum::extract::State;
use common::exposition::{LabelError, labels_of};
use common::metrics::{Family, HistogramValue, Sample, SummaryValue, Value as Measured};
use model::{LabelRegex, MetricType};
use serde_json::{Map, Value, json};

use super::Server;
use super::metrics_page;
use super::params::Params;
use super::response::{ApiError, ApiResult, success};

/// `/api/v1/status/self_metrics`
pub(super) async fn self_metrics(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let wanted = match params.get("metric_name_pattern") {
        None => None,
        Some(pattern) => Some(LabelRegex::new(pattern).map_err(|e| ApiError::parameter("metric_name_pattern", e))?),
    };
    let page = metrics_page::page(&server);
    let (families, errors) = page.families();
    if let Some(error) = errors.first() {
        return Err(ApiError::internal(error.to_string()));
    }
    let chosen = families.iter().filter(|family| wanted.as_ref().is_none_or(|w| w.is_match(family.name)));
    let shown: Result<Vec<Value>, LabelError> = chosen.map(|f| show(&f)).collect();
    shown.map(success).map_err(|e| ApiError::internal(e.to_string()))
}

fn show(family: &Family<'_>) -> Result<Value, LabelError> {
    let kind = match family.metric_type {
        MetricType::Counter => "COUNTER",
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => "GAUGE",
        MetricType::Summary => "SUMMARY",
        MetricType::Unknown => "UNTYPED",
        MetricType::Histogram => "HISTOGRAM",
        MetricType::GaugeHistogram => "GAUGE_HISTOGRAM",
    };
    let metrics: Result<Vec<Value>, LabelError> = family.samples().map(|sample| metric(kind, &sample)).collect();
    let mut shown = json!({ "name": family.name, "help": family.help, "type": kind, "metric": metrics? });
    if !family.unit.is_empty() {
        shown["unit"] = family.unit.into();
    }
    Ok(shown)
}

fn metric(kind: &str, sample: &Sample<'_>) -> Result<Value, LabelError> {
    let mut metric = Map::new();
    if !sample.labels.is_empty() {
        let labels = labels_of(format!("{{{}}}", sample.labels).as_bytes())?;
        let pairs = labels.iter().map(|(name, value)| json!({ "name": name, "value": value }));
        metric.insert("label".to_owned(), pairs.collect());
    }
    let (field, value) = match &sample.value {
        Measured::Float(value) => (kind.to_lowercase(), json!({ "value": number(*value) })),
        Measured::Summary(summary) => ("summary".to_owned(), show_summary(summary)),
        Measured::Histogram(histogram) => ("histogram".to_owned(), show_histogram(histogram)),
    };
    metric.insert(field, value);
    Ok(Value::Object(metric))
}

fn show_summary(summary: &SummaryValue) -> Value {
    let quantiles = summary.quantiles.iter().map(|q| json!({ "quantile": q.quantile, "value": number(q.value) }));
    json!({
        "sampleCount": summary.count.to_string(),
        "sampleSum": number(summary.sum),
        "quantile": quantiles.collect::<Vec<_>>(),
    })
}

/// The classic form: the server has no native histograms about itself.
fn show_histogram(histogram: &HistogramValue) -> Value {
    let buckets = histogram
        .buckets
        .iter()
        .map(|b| json!({ "cumulativeCount": b.cumulative_count.to_string(), "upperBound": number(b.upper_bound) }));
    json!({
        "sampleCount": histogram.count.to_string(),
        "sampleSum": number(histogram.sum),
        "bucket": buckets.collect::<Vec<_>>(),
    })
}

fn number(value: f64) -> Value {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else if value.fract() == 0.0 && value.abs() < 1e15 {
        (value as i64).into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use common::metrics::{ClassicBucket, Page, Quantile};

    use super::*;

    #[test]
    fn families_are_written_as_protobuf_writes_json() {
        let mut page = Page::new();
        page.gauge("g", "Help.", &[("a", "x\"y"), ("b", "")], 0.5);
        page.counter("c_total", "", &[], 3.0);
        let s = page.family("s", "", MetricType::Summary);
        let quantiles = vec![Quantile { quantile: 0.5, value: f64::NAN }];
        page.summary(s, &[], SummaryValue { quantiles, count: 0, sum: 0.0, created: None });
        let h = page.family_with_unit("h_bytes", "", "bytes", MetricType::Histogram);
        let buckets = vec![ClassicBucket { upper_bound: 2.5, cumulative_count: 1, exemplar: None }];
        page.histogram(h, &[], HistogramValue { buckets, count: 2, sum: f64::INFINITY, ..Default::default() });
        let shown: Vec<Value> = page.families().0.iter().map(|family| show(&family).unwrap()).collect();
        assert_eq!(
            Value::from(shown),
            json!([
                { "name": "c_total", "help": "", "type": "COUNTER", "metric": [{ "counter": { "value": 3 } }] },
                {
                    "name": "g", "help": "Help.", "type": "GAUGE",
                    "metric": [{ "label": [{ "name": "a", "value": "x\"y" }], "gauge": { "value": 0.5 } }],
                },
                {
                    "name": "h_bytes", "help": "", "type": "HISTOGRAM", "unit": "bytes",
                    "metric": [{ "histogram": {
                        "sampleCount": "2", "sampleSum": "Infinity",
                        "bucket": [{ "cumulativeCount": "1", "upperBound": 2.5 }],
                    } }],
                },
                {
                    "name": "s", "help": "", "type": "SUMMARY",
                    "metric": [{ "summary": {
                        "sampleCount": "0", "sampleSum": 0, "quantile": [{ "quantile": 0.5, "value": "NaN" }],
                    } }],
                },
            ])
        );
    }
}
