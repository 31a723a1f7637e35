//! Whether a result is the expected one.

use std::collections::BTreeMap;

use model::{FloatHistogram, Labels, Timestamp};

use super::notation::SequenceValue;
use super::script::{Eval, TextCheck, When};
use crate::result::{MatrixSeries, QueryResult, SampleValue, Value, VectorSample};

/// Relative difference up to which floats count as equal.
const TOLERANCE: f64 = 1e-6;

/// Whether two floats are equal but for rounding.
pub(super) fn same_float(a: f64, b: f64) -> bool {
    if model::is_stale(a) || model::is_stale(b) {
        return model::is_stale(a) && model::is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

/// Whether two histograms are equal but for rounding and the way their buckets are written.
fn same_histogram(expected: &FloatHistogram, hint_stated: bool, found: &FloatHistogram) -> bool {
    let buckets = |h: &FloatHistogram| -> BTreeMap<(bool, i32), f64> {
        let positive = h.positive_buckets_iter().map(|b| ((true, b.index), b.count));
        let negative = h.negative_buckets_iter().map(|b| ((false, b.index), b.count));
        positive.chain(negative).filter(|(_, count)| *count != 0.0).collect()
    };
    let (a, b) = (buckets(expected), buckets(found));
    expected.schema == found.schema
        && expected.zero_threshold == found.zero_threshold
        && expected.custom_bounds() == found.custom_bounds()
        && same_float(expected.count, found.count)
        && same_float(expected.sum, found.sum)
        && same_float(expected.zero_count, found.zero_count)
        && (!hint_stated || expected.counter_reset_hint == found.counter_reset_hint)
        && a.keys().chain(b.keys()).all(|key| {
            let of = |buckets: &BTreeMap<_, f64>| buckets.get(key).copied().unwrap_or(0.0);
            same_float(of(&a), of(&b))
        })
}

fn same_value(expected: &SequenceValue, found: Option<&SampleValue>) -> bool {
    match (expected, found) {
        (SequenceValue::Gap, None) => true,
        (SequenceValue::Float(a), Some(SampleValue::Float(b))) => same_float(*a, *b),
        (SequenceValue::Histogram(a, stated), Some(SampleValue::Histogram(b))) => same_histogram(a, *stated, b),
        _ => false,
    }
}

fn show(value: Option<&SampleValue>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(SampleValue::Float(value)) => value.to_string(),
        Some(SampleValue::Histogram(h)) => format!("{h} (schema {}, hint {:?})", h.schema, h.counter_reset_hint),
    }
}

fn show_expected(value: &SequenceValue) -> String {
    match value {
        SequenceValue::Gap => "nothing".to_owned(),
        SequenceValue::Float(value) => value.to_string(),
        SequenceValue::Histogram(h, _) => format!("{h} (schema {}, hint {:?})", h.schema, h.counter_reset_hint),
    }
}

impl Eval {
    /// Compares a result of the query as it was asked.
    pub(super) fn check_value(&self, value: &Value) -> Result<(), String> {
        if let Some(expected) = &self.string {
            return match value {
                Value::String(_, found) if found == expected => Ok(()),
                Value::String(_, found) => Err(format!("expected the string {expected:?}, got {found:?}")),
                other => Err(format!("expected a string, got a {}", other.value_type())),
            };
        }
        if let Some(expected) = self.scalar {
            return match value {
                Value::Scalar(_, found) if same_float(expected, *found) => Ok(()),
                Value::Scalar(_, found) => Err(format!("expected the scalar {expected}, got {found}")),
                other => Err(format!("expected a scalar, got a {}", other.value_type())),
            };
        }
        match (value, self.when, self.range_vector) {
            (Value::Matrix(series), When::Instant(_), Some(times)) => self.check_matrix(series, times),
            (Value::Matrix(series), When::Range { start, end, step }, _) => {
                self.check_matrix(series, (start, end, step))
            }
            (Value::Vector(samples), When::Instant(_), None) => self.check_vector(samples, self.ordered),
            (other, _, range) => {
                let wanted = if range.is_some() { "a range vector" } else { "an instant vector" };
                Err(format!("expected {wanted}, got a {}", other.value_type()))
            }
        }
    }

    /// Compares the samples of one time.
    pub(super) fn check_vector(&self, found: &[VectorSample], ordered: bool) -> Result<(), String> {
        let mut seen: Vec<&Labels> = Vec::new();
        for (at, sample) in found.iter().enumerate() {
            let labels = &sample.labels;
            if seen.contains(&labels) {
                return Err(format!("series {labels} is there twice"));
            }
            seen.push(labels);
            let Some(position) = self.series.iter().position(|(_, expected, _)| expected == labels) else {
                return Err(format!("unexpected series {labels} with {}", show(Some(&sample.value))));
            };
            let (line, _, values) = &self.series[position];
            let [expected] = &values[..] else {
                return Err(format!("line {line}: an instant query needs exactly one value a series"));
            };
            if !same_value(expected, Some(&sample.value)) {
                let (expected, got) = (show_expected(expected), show(Some(&sample.value)));
                return Err(format!("line {line}: expected {expected} for {labels}, got {got}"));
            }
            if ordered && position != at {
                return Err(format!(
                    "line {line}: series {labels} is at position {}, expected {}",
                    at + 1,
                    position + 1
                ));
            }
        }
        match self.series.iter().find(|(_, labels, _)| !seen.contains(&labels)) {
            Some((line, labels, _)) => Err(format!("line {line}: series {labels} is missing")),
            None => Ok(()),
        }
    }

    fn check_matrix(
        &self,
        found: &[MatrixSeries],
        (start, end, step): (Timestamp, Timestamp, i64),
    ) -> Result<(), String> {
        if let Some(pair) = found.windows(2).find(|pair| pair[0].labels >= pair[1].labels) {
            return Err(format!("series are not sorted by labels: {} before {}", pair[0].labels, pair[1].labels));
        }
        for series in found {
            let Some((line, labels, values)) = self.series.iter().find(|(_, labels, _)| *labels == series.labels)
            else {
                return Err(format!("unexpected series {}", series.labels));
            };
            let mut points = points_of(series);
            for (at, expected) in values.iter().enumerate() {
                let time = start + step * at as i64;
                if time > end && !matches!(expected, SequenceValue::Gap) {
                    return Err(format!("line {line}: more values than steps"));
                }
                let got = points.remove(&time);
                if !same_value(expected, got.as_ref()) {
                    let (expected, got) = (show_expected(expected), show(got.as_ref()));
                    return Err(format!("line {line}: expected {expected} for {labels} at {time} ms, got {got}"));
                }
            }
            if let Some((time, value)) = points.first_key_value() {
                return Err(format!("line {line}: unexpected {} for {labels} at {time} ms", show(Some(value))));
            }
        }
        let is_there = |labels: &Labels| found.iter().any(|series| series.labels == *labels);
        let is_expected = |values: &[SequenceValue]| values.iter().any(|v| !matches!(v, SequenceValue::Gap));
        match self.series.iter().find(|(_, labels, values)| is_expected(values) && !is_there(labels)) {
            Some((line, labels, _)) => Err(format!("line {line}: series {labels} is missing")),
            None => Ok(()),
        }
    }

    /// Compares the annotations of a result.
    pub(super) fn check_annotations(&self, result: &QueryResult) -> Result<(), String> {
        for (kind, found, expected, none) in [
            ("warning", &result.warnings, &self.warnings, self.no_warnings),
            ("info", &result.infos, &self.infos, self.no_infos),
        ] {
            check_texts(kind, found, expected, none)?;
        }
        Ok(())
    }
}

fn check_texts(kind: &str, found: &[String], expected: &[TextCheck], none: bool) -> Result<(), String> {
    if none && !found.is_empty() {
        return Err(format!("expected no {kind}, got {found:?}"));
    }
    if expected.is_empty() {
        return Ok(());
    }
    if found.is_empty() {
        return Err(format!("expected a {kind}, {}, got none", expected[0].describe()));
    }
    if let Some(missing) = expected.iter().find(|check| !found.iter().any(|text| check.accepts(text))) {
        return Err(format!("expected a {kind}, {}, got {found:?}", missing.describe()));
    }
    match found.iter().find(|text| !expected.iter().any(|check| check.accepts(text))) {
        Some(unexpected) => Err(format!("unexpected {kind} {unexpected:?}")),
        None => Ok(()),
    }
}

/// The points of a series by time.
pub(super) fn points_of(series: &MatrixSeries) -> BTreeMap<Timestamp, SampleValue> {
    let floats = series.floats.iter().map(|(time, value)| (time, SampleValue::Float(*value)));
    let histograms = series.histograms.iter().map(|(time, value)| (time, SampleValue::Histogram(value.clone())));
    floats.chain(histograms).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_equal_within_rounding() {
        for (a, b, equal) in [
            (1.0, 1.000_001, true),
            (1.0, 1.000_01, false),
            (0.0, 1e-300, false),
            (0.0, -0.0, true),
            (f64::NAN, f64::NAN, true),
            (f64::NAN, model::STALE_NAN, false),
            (f64::INFINITY, f64::MAX, false),
        ] {
            assert_eq!(same_float(a, b), equal, "{a} {b}");
        }
    }
}
