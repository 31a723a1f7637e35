//! Query results as JSON, written straight from the result columns.

use std::time::Duration;

use model::{FloatHistogram, Labels, Timestamp, format_float_json};
use promql::result::SampleValue;
use promql::{QueryResult, Value};

/// How long the parts of a query took.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryTimings {
    pub(super) waited: Duration,
    pub(super) evaluated: Duration,
}

/// The `data` of a query's answer.
pub(super) fn encode_data(result: &QueryResult, timings: Option<QueryTimings>) -> Vec<u8> {
    let mut out = String::with_capacity(4096);
    out.push_str("{\"resultType\":\"");
    out.push_str(match &result.value {
        Value::Scalar(..) => "scalar",
        Value::String(..) => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    });
    out.push_str("\",\"result\":");
    match &result.value {
        Value::Scalar(time, value) => push_point(*time, *value, &mut out),
        Value::String(time, text) => {
            out.push('[');
            push_time(*time, &mut out);
            out.push(',');
            push_text(text, &mut out);
            out.push(']');
        }
        Value::Vector(samples) => push_list(samples, &mut out, |sample, out| {
            push_metric(&sample.labels, out);
            match &sample.value {
                SampleValue::Float(value) => {
                    out.push_str(",\"value\":");
                    push_point(sample.timestamp, *value, out);
                }
                SampleValue::Histogram(histogram) => {
                    out.push_str(",\"histogram\":");
                    push_histogram_point(sample.timestamp, histogram, out);
                }
            }
            out.push('}');
        }),
        Value::Matrix(series) => push_list(series, &mut out, |series, out| {
            push_metric(&series.labels, out);
            if !series.floats.is_empty() {
                out.push_str(",\"values\":[");
                for (at, (time, value)) in series.floats.iter().enumerate() {
                    separate(at, out);
                    push_point(time, *value, out);
                }
                out.push(']');
            }
            if !series.histograms.is_empty() {
                out.push_str(",\"histograms\":[");
                for (at, (time, histogram)) in series.histograms.iter().enumerate() {
                    separate(at, out);
                    push_histogram_point(time, histogram, out);
                }
                out.push(']');
            }
            out.push('}');
        }),
    }
    if let Some(timings) = timings {
        push_stats(result, timings, &mut out);
    }
    out.push('}');
    out.into_bytes()
}

/// The `data` of `/api/v1/query_exemplars`.
pub(super) fn encode_exemplars(found: &[(Labels, Vec<tsdb::Exemplar>)]) -> Vec<u8> {
    let mut out = String::new();
    push_list(found, &mut out, |(labels, exemplars), out| {
        out.push_str("{\"seriesLabels\":");
        push_labels(labels, out);
        out.push_str(",\"exemplars\":");
        push_list(exemplars, out, |exemplar, out| {
            out.push_str("{\"labels\":");
            push_labels(&exemplar.labels, out);
            out.push_str(",\"value\":");
            push_value(exemplar.value, out);
            out.push_str(",\"timestamp\":");
            push_time(exemplar.timestamp, out);
            out.push('}');
        });
        out.push('}');
    });
    out.into_bytes()
}

fn push_stats(result: &QueryResult, timings: QueryTimings, out: &mut String) {
    let (waited, evaluated) = (timings.waited.as_secs_f64(), timings.evaluated.as_secs_f64());
    let stats = serde_json::json!({
        "timings": {
            "evalTotalTime": evaluated,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": evaluated,
            "execQueueTime": waited,
            "execTotalTime": evaluated,
        },
        "samples": {
            "totalQueryableSamples": result.stats.total_queryable_samples,
            "samplesRead": result.stats.samples_read,
            "peakSamples": result.stats.peak_samples,
        },
    });
    let mut stats = stats;
    let per_step = [
        ("totalQueryableSamplesPerStep", &result.stats.queryable_per_step),
        ("samplesReadPerStep", &result.stats.read_per_step),
    ];
    for (key, steps) in per_step {
        if let Some(steps) = steps {
            stats["samples"][key] =
                steps.iter().map(|(time, count)| serde_json::json!([seconds(*time), count])).collect();
        }
    }
    out.push_str(",\"stats\":");
    out.push_str(&stats.to_string());
}

/// A time as a number of seconds, without a fraction where it has none.
fn seconds(millis: model::Timestamp) -> serde_json::Number {
    match (millis % 1000, serde_json::Number::from_f64(millis as f64 / 1000.0)) {
        (0, _) | (_, None) => (millis / 1000).into(),
        (_, Some(number)) => number,
    }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

fn push_list<T>(items: &[T], out: &mut String, mut push: impl FnMut(&T, &mut String)) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        separate(at, out);
        push(item, out);
    }
    out.push(']');
}

fn push_metric(labels: &Labels, out: &mut String) {
    out.push_str("{\"metric\":");
    push_labels(labels, out);
}

fn push_labels(labels: &Labels, out: &mut String) {
    out.push('{');
    for (at, (name, value)) in labels.iter().enumerate() {
        separate(at, out);
        push_text(name, out);
        out.push(':');
        push_text(value, out);
    }
    out.push('}');
}

/// A JSON string with the escapes of upstream's encoder.
fn push_text(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => out.push_str(&format!("\\u{other:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Seconds with three digits of fraction where it is not zero.
fn push_time(millis: Timestamp, out: &mut String) {
    if millis < 0 {
        out.push('-');
    }
    let magnitude = millis.unsigned_abs();
    out.push_str(itoa::Buffer::new().format(magnitude / 1000));
    let fraction = magnitude % 1000;
    if fraction != 0 {
        out.push('.');
        out.push((b'0' + (fraction / 100) as u8) as char);
        out.push((b'0' + (fraction / 10 % 10) as u8) as char);
        out.push((b'0' + (fraction % 10) as u8) as char);
    }
}

fn push_value(value: f64, out: &mut String) {
    out.push('"');
    format_float_json(value, out);
    out.push('"');
}

fn push_point(time: Timestamp, value: f64, out: &mut String) {
    out.push('[');
    push_time(time, out);
    out.push(',');
    push_value(value, out);
    out.push(']');
}

fn push_histogram_point(time: Timestamp, histogram: &FloatHistogram, out: &mut String) {
    out.push('[');
    push_time(time, out);
    out.push_str(",{\"count\":");
    push_value(histogram.count, out);
    out.push_str(",\"sum\":");
    push_value(histogram.sum, out);
    let buckets: Vec<_> = histogram.all_buckets().filter(|bucket| bucket.count != 0.0).collect();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":[");
        for (at, bucket) in buckets.iter().enumerate() {
            separate(at, out);
            // which bounds belong to the bucket: 0 upper, 1 lower, 2 none, 3 both
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => '0',
                (true, false) => '1',
                (false, false) => '2',
                (true, true) => '3',
            };
            out.push('[');
            out.push(rule);
            for value in [bucket.lower, bucket.upper, bucket.count] {
                out.push(',');
                push_value(value, out);
            }
            out.push(']');
        }
        out.push(']');
    }
    out.push_str("}]");
}

#[cfg(test)]
mod tests {
    use promql::result::{QueryStats, VectorSample};

    use super::*;

    fn check(value: Value, expected: &str) {
        let result = QueryResult { value, warnings: vec![], infos: vec![], stats: QueryStats::default() };
        assert_eq!(String::from_utf8(encode_data(&result, None)).unwrap(), expected);
    }

    #[test]
    fn results_are_upstreams_json() {
        check(Value::Scalar(1_435_781_451_781, 1.0), r#"{"resultType":"scalar","result":[1435781451.781,"1"]}"#);
        check(Value::String(1000, "a\"b\n\u{1}".into()), r#"{"resultType":"string","result":[1,"a\"b\n\u0001"]}"#);
        let sample = VectorSample {
            labels: Labels::from_pairs([("__name__", "up"), ("a", "é")]),
            timestamp: 1_050,
            value: SampleValue::Float(f64::INFINITY),
        };
        check(
            Value::Vector(vec![sample]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","a":"é"},"value":[1.050,"+Inf"]}]}"#,
        );
        check(Value::Matrix(vec![]), r#"{"resultType":"matrix","result":[]}"#);
    }

    #[test]
    fn times_before_the_epoch_keep_their_sign() {
        let mut out = String::new();
        push_time(-1_500, &mut out);
        assert_eq!(out, "-1.500");
    }
}
