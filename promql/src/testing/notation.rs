//! Series as rule unit tests and test scripts write them: `up{job="a"} 0+1x5 _ stale {{count:3}}`.

use model::{CounterResetHint, FloatHistogram, Labels, LabelsBuilder, MatchOp, Span};

use crate::parse_metric_selector;

/// What a series has at one point.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceValue {
    /// No sample.
    Gap,
    /// A float, or a staleness marker.
    Float(f64),
    /// A native histogram, and whether its counter reset hint was stated.
    Histogram(FloatHistogram, bool),
}

/// Why a text is no series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotationError(String);

fn error<T>(text: impl Into<String>) -> Result<T, NotationError> {
    Err(NotationError(text.into()))
}

/// Points that one line may describe.
const MAX_POINTS: usize = 10_000_000;

/// Reads a line of a series and its points.
///
/// # Errors
/// When the line is not of that form.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<SequenceValue>), NotationError> {
    let (labels, rest) = parse_labels(line)?;
    Ok((labels, parse_values(rest)?))
}

/// The labels at the start of a line, and what follows.
pub(super) fn parse_labels(line: &str) -> Result<(Labels, &str), NotationError> {
    let name_end = line.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(line.len());
    let end = if line[name_end..].starts_with('{') {
        closing_brace(line, name_end).ok_or_else(|| NotationError(format!("unclosed brace in {line:?}")))?
    } else {
        // `name@st` names start timestamps
        line[..name_end].find('@').unwrap_or(name_end)
    };
    let text = &line[..end];
    let matchers = parse_metric_selector(text).map_err(|e| NotationError(format!("not a series: {e}")))?;
    let mut labels = LabelsBuilder::default();
    for matcher in &matchers {
        if matcher.op() != MatchOp::Equal {
            return error(format!("labels of a series are set with `=`, not {matcher}"));
        }
        labels.set(&matcher.name, &matcher.value);
    }
    Ok((labels.build(), &line[end..]))
}

/// The index behind the brace that closes the one at `open`.
fn closing_brace(line: &str, open: usize) -> Option<usize> {
    let mut quote = None;
    let mut chars = line[open..].char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some('"' | '\''), '\\') => {
                chars.next();
            }
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') => return Some(open + at + 1),
            (None, _) => {}
        }
    }
    None
}

/// Cuts a text at blanks outside of `{{...}}`.
pub(super) fn items(text: &str) -> Result<Vec<&str>, NotationError> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut end = 0;
        while let Some(c) = rest[end..].chars().next().filter(|c| !c.is_whitespace()) {
            if rest[end..].starts_with("{{") {
                match rest[end..].find("}}") {
                    Some(close) => end += close + 2,
                    None => return error(format!("unclosed histogram: {rest}")),
                }
            } else {
                end += c.len_utf8();
            }
        }
        items.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    Ok(items)
}

fn parse_values(text: &str) -> Result<Vec<SequenceValue>, NotationError> {
    let mut values = Vec::new();
    for item in items(text)? {
        parse_item(item, &mut values)?;
        if values.len() > MAX_POINTS {
            return error(format!("more than {MAX_POINTS} points"));
        }
    }
    Ok(values)
}

fn parse_item(item: &str, values: &mut Vec<SequenceValue>) -> Result<(), NotationError> {
    let bad = || NotationError(format!("not a series value: {item}"));
    if item.starts_with("{{") {
        return parse_histograms(item, values);
    }
    if let Some(rest) = item.strip_prefix('_') {
        let count = if rest.is_empty() { 1 } else { repetition(rest).ok_or_else(bad)? };
        values.extend(std::iter::repeat_n(SequenceValue::Gap, count));
        return Ok(());
    }
    if item == "stale" {
        values.push(SequenceValue::Float(model::STALE_NAN));
        return Ok(());
    }
    let (mut value, rest) = number(item).ok_or_else(bad)?;
    if rest.is_empty() {
        values.push(SequenceValue::Float(value));
        return Ok(());
    }
    let (step, rest) = if rest.starts_with(['+', '-']) { number(rest).ok_or_else(bad)? } else { (0.0, rest) };
    let constant = !item[item.len() - rest.len()..].is_empty() && step == 0.0;
    for _ in 0..=repetition(rest).ok_or_else(bad)? {
        values.push(SequenceValue::Float(value));
        if !constant {
            value += step;
        }
    }
    Ok(())
}

/// The n of `xn`.
pub(super) fn repetition(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('x')?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|n| all_digits && *n <= MAX_POINTS)
}

/// The float at the start of a text, and what follows.
fn number(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.get(..3).map(str::to_ascii_lowercase);
    let end = text.len() - unsigned.len()
        + match lower.as_deref() {
            Some("inf" | "nan") => 3,
            _ => {
                let digits = |from: usize| unsigned[from..].bytes().take_while(u8::is_ascii_digit).count();
                let mut end = digits(0);
                if unsigned[end..].starts_with('.') {
                    end += 1 + digits(end + 1);
                }
                if unsigned[end..].starts_with(['e', 'E']) {
                    let sign = usize::from(unsigned[end + 1..].starts_with(['+', '-']));
                    let exponent = digits(end + 1 + sign);
                    if exponent > 0 {
                        end += 1 + sign + exponent;
                    }
                }
                end
            }
        };
    let value: f64 = text[..end].parse().ok()?;
    Some((if value.is_nan() { model::NORMAL_NAN } else { value }, &text[end..]))
}

fn parse_histograms(item: &str, values: &mut Vec<SequenceValue>) -> Result<(), NotationError> {
    let close = item.find("}}").ok_or_else(|| NotationError(format!("unclosed histogram: {item}")))?;
    let (first, stated) = parse_histogram(&item[2..close])?;
    let rest = &item[close + 2..];
    let bad = || NotationError(format!("not a repetition of histograms: {item}"));
    if rest.is_empty() {
        values.push(SequenceValue::Histogram(first, stated));
        return Ok(());
    }
    if let Some(count) = repetition(rest) {
        values.extend(std::iter::repeat_n(SequenceValue::Histogram(first, stated), count + 1));
        return Ok(());
    }
    let subtract = rest.starts_with('-');
    let body = rest.strip_prefix(['+', '-']).and_then(|r| r.strip_prefix("{{")).ok_or_else(bad)?;
    let close = body.find("}}").ok_or_else(bad)?;
    let (step, _) = parse_histogram(&body[..close])?;
    let count = repetition(&body[close + 2..]).ok_or_else(bad)?;
    if first.schema > step.schema {
        return error(format!(
            "error combining histograms: cannot merge from schema {} to {}",
            step.schema, first.schema
        ));
    }
    let mut current = first;
    for i in 0..=count {
        if i > 0 {
            let result = if subtract { current.sub(&step) } else { current.add(&step) };
            result.map_err(|e| NotationError(e.to_string()))?;
        }
        values.push(SequenceValue::Histogram(current.clone(), stated));
    }
    Ok(())
}

/// Reads the inside of `{{...}}`; tells whether the counter reset hint was given.
fn parse_histogram(text: &str) -> Result<(FloatHistogram, bool), NotationError> {
    let mut histogram = FloatHistogram::default();
    let mut seen: Vec<&str> = Vec::new();
    let (mut offset, mut negative_offset) = (0i32, 0i32);
    let (mut buckets, mut negative_buckets) = (Vec::new(), Vec::new());
    let mut custom_values: Option<Vec<f64>> = None;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once(':') else {
            return error(format!("missing `:` in histogram: {rest}"));
        };
        if seen.contains(&key) {
            return error(format!("duplicate key \"{key}\" in histogram"));
        }
        seen.push(key);
        let end = if after.starts_with('[') {
            after.find(']').ok_or_else(|| NotationError(format!("unclosed list in histogram: {after}")))? + 1
        } else {
            after.find(char::is_whitespace).unwrap_or(after.len())
        };
        let value = &after[..end];
        rest = after[end..].trim_start();
        let float = || match number(value) {
            Some((number, "")) => Ok(number),
            _ => error(format!("not a number in histogram: {key}:{value}")),
        };
        let whole = || value.parse::<i32>().map_err(|_| NotationError(format!("not an integer: {key}:{value}")));
        let list = || -> Result<Vec<f64>, NotationError> {
            let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
            let inner = inner.ok_or_else(|| NotationError(format!("not a list: {key}:{value}")))?;
            inner
                .split_whitespace()
                .map(|text| match number(text) {
                    Some((number, "")) => Ok(number),
                    _ => error(format!("not a number in histogram: {key}:{value}")),
                })
                .collect()
        };
        match key {
            "schema" => histogram.schema = whole()?,
            "count" => histogram.count = float()?,
            "sum" => histogram.sum = float()?,
            "z_bucket" => histogram.zero_count = float()?,
            "z_bucket_w" => histogram.zero_threshold = float()?,
            "custom_values" => custom_values = Some(list()?),
            "buckets" => buckets = list()?,
            "n_buckets" => negative_buckets = list()?,
            "offset" => offset = whole()?,
            "n_offset" => negative_offset = whole()?,
            "counter_reset_hint" => {
                histogram.counter_reset_hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    _ => return error(format!("not a counter reset hint: {value}")),
                }
            }
            _ => return error(format!("bad histogram descriptor found: {key:?}")),
        }
    }
    if histogram.uses_custom_buckets() || custom_values.is_some() {
        histogram.custom_values = Some(custom_values.unwrap_or_default().into());
    }
    let spans = |offset, counts: &[f64]| match counts.len() {
        0 => Vec::new(),
        n => vec![Span { offset, length: u32::try_from(n).unwrap_or(u32::MAX) }],
    };
    histogram.positive_spans = spans(offset, &buckets);
    histogram.negative_spans = spans(negative_offset, &negative_buckets);
    histogram.positive_buckets = buckets;
    histogram.negative_buckets = negative_buckets;
    Ok((histogram, seen.contains(&"counter_reset_hint")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, labels: &str, values: &[Option<f64>]) {
        let (found, points) = parse_series(line).unwrap();
        let points: Vec<Option<f64>> = points
            .into_iter()
            .map(|p| match p {
                SequenceValue::Gap => None,
                SequenceValue::Float(value) => Some(value),
                SequenceValue::Histogram(histogram, _) => Some(histogram.count),
            })
            .collect();
        assert_eq!((found.to_string().as_str(), points.as_slice()), (labels, values), "{line}");
    }

    #[test]
    fn series_expand_to_points() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        check("up 1 -3 1e2", r#"{__name__="up"}"#, &some(&[1.0, -3.0, 100.0]));
        check("{} 2x2", "{}", &some(&[2.0; 3]));
        check(r#"a{b="} x"}  1+2x2 5-1x1"#, r#"{__name__="a", b="} x"}"#, &some(&[1.0, 3.0, 5.0, 5.0, 4.0]));
        check(
            "a 1e1-1e0x1 _ _x2 Inf",
            r#"{__name__="a"}"#,
            &[Some(10.0), Some(9.0), None, None, None, Some(f64::INFINITY)],
        );
        check(
            "h {{count:1 buckets:[1 2 ] }} {{count:1}}+{{count:2}}x2",
            r#"{__name__="h"}"#,
            &some(&[1.0, 1.0, 3.0, 5.0]),
        );
        check(r#"{"a.b", c="d"} 1"#, r#"{__name__="a.b", c="d"}"#, &some(&[1.0]));
    }

    #[test]
    fn what_is_no_series_is_refused() {
        for line in [
            "a 1y",
            "a 0x1F",
            "a {{count:1",
            "a {{count:1 count:2}}",
            "a {{what:1}}",
            "a{b=~\"c\"} 1",
            "a 1+x3",
            "a _3",
        ] {
            assert!(parse_series(line).is_err(), "{line}");
        }
    }
}
