use std::borrow::Cow;

use model::{BUCKET_LABEL, Labels, METRIC_NAME, MetricType, QUANTILE_LABEL, parse_float};

use super::openmetrics::push_float;
use super::tokens::{name_end, quoted_end, skip_blanks};

/// Why bytes do not name a series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The bytes are none that a parser of ours has given.
    #[error("{0:?} is not a series")]
    Malformed(String),
    /// A label is given twice.
    #[error("label name {0:?} is not unique: invalid sample")]
    Duplicate(String),
}

/// The label set of the series bytes that a parser gave, the metric name included. Labels with an empty value are left out. A
/// name given twice is an error, as in a Prometheus scrape.
pub fn labels_of(series: &[u8]) -> Result<Labels, LabelError> {
    collect(SeriesLabels::new(series)?)
}

/// The same for a series below a `# TYPE` line: bounds of histograms (`le`) and quantiles of summaries are written as OpenMetrics
/// writes numbers, `1` as `1.0`, so that a series keeps its name whatever the format, as Prometheus 3 has it.
pub fn labels_of_typed(series: &[u8], metric_type: MetricType) -> Result<Labels, LabelError> {
    let labels = labels_of(series)?;
    let name = match metric_type {
        MetricType::Histogram => BUCKET_LABEL,
        MetricType::Summary => QUANTILE_LABEL,
        _ => return Ok(labels),
    };
    let Some(number) = labels.get(name).and_then(parse_float) else { return Ok(labels) };
    let mut text = String::new();
    // a zero has no sign there
    push_float(number + 0.0, &mut text);
    if labels.value(name) == text {
        return Ok(labels);
    }
    Ok(labels.to_builder().set(name, &text).build())
}

/// The label set of an exemplar's bytes.
pub fn labels_of_exemplar(labels: &[u8]) -> Result<Labels, LabelError> {
    collect(SeriesLabels::new(labels)?)
}

fn collect(labels: SeriesLabels<'_>) -> Result<Labels, LabelError> {
    let mut pairs = Vec::with_capacity(16);
    for pair in labels {
        pairs.push(pair?);
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(two) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(LabelError::Duplicate(two[0].0.clone().into_owned()));
    }
    Ok(Labels::from_sorted(pairs.iter().filter(|(_, value)| !value.is_empty()).map(|(n, v)| (&**n, &**v))))
}

/// The labels of series bytes in the order of the page, the metric name as `__name__` where it stands. Borrows what needs no
/// unescaping.
#[derive(Clone, Debug)]
pub struct SeriesLabels<'a> {
    text: &'a str,
    at: usize,
    /// The name before the brace, not given yet.
    name: Option<&'a str>,
}

impl<'a> SeriesLabels<'a> {
    /// The labels of these bytes.
    pub fn new(series: &'a [u8]) -> Result<Self, LabelError> {
        let Ok(text) = std::str::from_utf8(series) else {
            return Err(LabelError::Malformed(String::from_utf8_lossy(series).into_owned()));
        };
        let end = name_end(series, 0);
        let name = (end > 0).then(|| &text[..end]);
        let mut at = skip_blanks(series, end);
        match series.get(at) {
            Some(b'{') => at += 1,
            None if name.is_some() => {}
            _ => return Err(LabelError::Malformed(text.to_owned())),
        }
        Ok(Self { text, at, name })
    }

    /// The labels of text without braces, as pages hold it.
    pub(super) fn bare(text: &'a str) -> Self {
        Self { text, at: 0, name: None }
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let end = quoted_end(self.text.as_bytes(), self.at, true)?;
        let inner = &self.text[self.at + 1..end - 1];
        self.at = end;
        Some(unescape(inner))
    }

    fn pair(&mut self) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
        let bytes = self.text.as_bytes();
        let name = if bytes[self.at] == b'"' {
            let name = self.string()?;
            self.at = skip_blanks(bytes, self.at);
            if matches!(bytes.get(self.at), Some(b',' | b'}')) {
                return Some((Cow::Borrowed(METRIC_NAME), name));
            }
            name
        } else {
            let start = self.at;
            self.at = name_end(bytes, self.at);
            (self.at > start).then(|| Cow::Borrowed(&self.text[start..self.at]))?
        };
        self.at = skip_blanks(bytes, self.at);
        if bytes.get(self.at) != Some(&b'=') {
            return None;
        }
        self.at = skip_blanks(bytes, self.at + 1);
        if bytes.get(self.at) != Some(&b'"') {
            return None;
        }
        let value = self.string()?;
        self.at = skip_blanks(bytes, self.at);
        Some((name, value))
    }
}

impl<'a> Iterator for SeriesLabels<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), LabelError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(name) = self.name.take() {
            return Some(Ok((Cow::Borrowed(METRIC_NAME), Cow::Borrowed(name))));
        }
        let bytes = self.text.as_bytes();
        loop {
            self.at = skip_blanks(bytes, self.at);
            match bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') | None => {
                    self.at = bytes.len();
                    return None;
                }
                Some(_) => break,
            }
        }
        let pair = self.pair();
        if pair.is_none() {
            self.at = bytes.len();
        }
        Some(pair.ok_or_else(|| LabelError::Malformed(self.text.to_owned())))
    }
}

/// `\\`, `\"` and `\n` are escapes; a backslash before anything else stands for itself.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('\\') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut chars = text[first..].chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c @ ('\\' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(series: &str, expected: &str) {
        let shown = match labels_of(series.as_bytes()) {
            Ok(labels) => labels.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{series}");
    }

    #[test]
    fn series_bytes_become_labels() {
        check("up", r#"{__name__="up"}"#);
        check(r#"up{}"#, r#"{__name__="up"}"#);
        check(r#"up{b="2",a="1"}"#, r#"{__name__="up", a="1", b="2"}"#);
        check(r#"up { b = "2" , a = "1" , }"#, r#"{__name__="up", a="1", b="2"}"#);
        check(r#"up{a="1" b="2"}"#, r#"{__name__="up", a="1", b="2"}"#);
        check(r#"{"my.metric","a.b"="x",c=""}"#, r#"{__name__="my.metric", "a.b"="x"}"#);
        check(r#"{a="1","q\"x"}"#, r#"{__name__="q\"x", a="1"}"#);
        check(r#"m{a="q\"\\\n\t}"}"#, r#"{__name__="m", a="q\"\\\n\\t}"}"#);
        check(r#"m{a="1",a="2"}"#, r#"label name "a" is not unique: invalid sample"#);
        check(r#"m{__name__="x"}"#, r#"label name "__name__" is not unique: invalid sample"#);
    }

    #[test]
    fn other_bytes_are_refused() {
        for series in [&b"m{a"[..], b"m{a=}", b"m{a=\"", b"{=\"\"}", b"\xff", b"", b"m x"] {
            assert!(labels_of(series).is_err(), "{series:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, text in "[a\"\\\\{}=, \n]{0,20}") {
            let _ = labels_of(&bytes);
            let _ = labels_of(text.as_bytes());
        }
    }

    #[test]
    fn bounds_and_quantiles_are_written_one_way() {
        for (series, metric_type, expected) in [
            (r#"h_bucket{le="1"}"#, MetricType::Histogram, r#"{__name__="h_bucket", le="1.0"}"#),
            (r#"h_bucket{le="1e3"}"#, MetricType::Histogram, r#"{__name__="h_bucket", le="1000.0"}"#),
            (r#"h_bucket{le="0.50"}"#, MetricType::Histogram, r#"{__name__="h_bucket", le="0.5"}"#),
            (r#"h_bucket{le="Inf"}"#, MetricType::Histogram, r#"{__name__="h_bucket", le="+Inf"}"#),
            (r#"h_bucket{le="-0"}"#, MetricType::Histogram, r#"{__name__="h_bucket", le="0.0"}"#),
            (r#"h_bucket{le="x"}"#, MetricType::Histogram, r#"{__name__="h_bucket", le="x"}"#),
            (r#"h_bucket{le="1"}"#, MetricType::Gauge, r#"{__name__="h_bucket", le="1"}"#),
            (r#"s{quantile="1"}"#, MetricType::Summary, r#"{__name__="s", quantile="1.0"}"#),
            (r#"s{quantile="1"}"#, MetricType::Histogram, r#"{__name__="s", quantile="1"}"#),
            (r#"s{le="1"}"#, MetricType::Summary, r#"{__name__="s", le="1"}"#),
        ] {
            assert_eq!(labels_of_typed(series.as_bytes(), metric_type).unwrap().to_string(), expected);
        }
    }
}
