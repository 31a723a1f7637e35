use std::borrow::Cow;

use model::{BUCKET_LABEL, MetricType, QUANTILE_LABEL, Timestamp, escape_label_value, is_legacy_metric_name};

use crate::exposition::EscapingScheme;
use crate::exposition::number::push_value;
use crate::exposition::series::SeriesLabels;
use crate::metrics::{Families, HistogramValue, Sample, SummaryValue, Value};

/// Appends a page in text 0.0.4 or 1.0.0, which differ in the escaping only.
pub fn encode(families: &Families<'_>, escaping: EscapingScheme, out: &mut Vec<u8>) {
    let mut page = String::with_capacity(16 * 1024);
    for family in families.iter() {
        let writer = LabelWriter::new(family.name, escaping);
        page.push_str("# HELP ");
        writer.push_name(&mut page);
        page.push(' ');
        push_help(family.help, &mut page);
        page.push_str("\n# TYPE ");
        writer.push_name(&mut page);
        page.push_str(match family.metric_type {
            MetricType::Counter => " counter\n",
            MetricType::Gauge | MetricType::Info | MetricType::StateSet => " gauge\n",
            MetricType::Histogram | MetricType::GaugeHistogram => " histogram\n",
            MetricType::Summary => " summary\n",
            MetricType::Unknown => " untyped\n",
        });
        for sample in family.samples() {
            match sample.value {
                Value::Float(value) => {
                    writer.push_series("", sample.labels, None, &mut page);
                    push_end(value, sample.timestamp, &mut page);
                }
                Value::Histogram(value) => push_histogram(&writer, &sample, value, &mut page),
                Value::Summary(value) => push_summary(&writer, &sample, value, &mut page),
            }
        }
        if page.len() > 12 * 1024 {
            out.extend_from_slice(page.as_bytes());
            page.clear();
        }
    }
    out.extend_from_slice(page.as_bytes());
}

fn push_histogram(writer: &LabelWriter<'_>, sample: &Sample<'_>, value: &HistogramValue, out: &mut String) {
    let mut bound = String::new();
    for bucket in &value.buckets {
        bound.clear();
        push_value(bucket.upper_bound, &mut bound);
        writer.push_series("_bucket", sample.labels, Some((BUCKET_LABEL, &bound)), out);
        push_end(bucket.cumulative_count as f64, sample.timestamp, out);
    }
    if value.buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        writer.push_series("_bucket", sample.labels, Some((BUCKET_LABEL, "+Inf")), out);
        push_end(value.count as f64, sample.timestamp, out);
    }
    writer.push_series("_sum", sample.labels, None, out);
    push_end(value.sum, sample.timestamp, out);
    writer.push_series("_count", sample.labels, None, out);
    push_end(value.count as f64, sample.timestamp, out);
}

fn push_summary(writer: &LabelWriter<'_>, sample: &Sample<'_>, value: &SummaryValue, out: &mut String) {
    let mut quantile = String::new();
    for q in &value.quantiles {
        quantile.clear();
        push_value(q.quantile, &mut quantile);
        writer.push_series("", sample.labels, Some((QUANTILE_LABEL, &quantile)), out);
        push_end(q.value, sample.timestamp, out);
    }
    writer.push_series("_sum", sample.labels, None, out);
    push_end(value.sum, sample.timestamp, out);
    writer.push_series("_count", sample.labels, None, out);
    push_end(value.count as f64, sample.timestamp, out);
}

fn push_end(value: f64, timestamp: Option<Timestamp>, out: &mut String) {
    out.push(' ');
    push_value(value, out);
    if let Some(timestamp) = timestamp {
        out.push(' ');
        out.push_str(itoa::Buffer::new().format(timestamp));
    }
    out.push('\n');
}

fn push_help(help: &str, out: &mut String) {
    for (at, line) in help.split('\n').enumerate() {
        if at > 0 {
            out.push_str("\\n");
        }
        for (at, part) in line.split('\\').enumerate() {
            if at > 0 {
                out.push_str("\\\\");
            }
            out.push_str(part);
        }
    }
}

/// Writes the series of one family, names escaped or quoted.
pub(in crate::exposition) struct LabelWriter<'a> {
    name: Cow<'a, str>,
    quoted: bool,
    escaping: EscapingScheme,
}

impl<'a> LabelWriter<'a> {
    pub(in crate::exposition) fn new(name: &'a str, escaping: EscapingScheme) -> Self {
        let name = escaping.escape(name);
        let quoted = !is_legacy_metric_name(&name);
        Self { name, quoted, escaping }
    }

    /// The family's name as metadata lines show it.
    pub(in crate::exposition) fn push_name(&self, out: &mut String) {
        if self.quoted {
            out.push('"');
            escape_label_value(&self.name, out);
            out.push('"');
        } else {
            out.push_str(&self.name);
        }
    }

    pub(in crate::exposition) fn push_series(
        &self,
        suffix: &str,
        labels: &str,
        extra: Option<(&str, &str)>,
        out: &mut String,
    ) {
        let mut separator = '{';
        if self.quoted {
            out.push_str("{\"");
            escape_label_value(&self.name, out);
            out.push_str(suffix);
            out.push('"');
            separator = ',';
        } else {
            out.push_str(&self.name);
            out.push_str(suffix);
        }
        if !labels.is_empty() {
            out.push(separator);
            self.push_labels(labels, out);
            separator = ',';
        }
        if let Some((name, value)) = extra {
            out.push(separator);
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(value);
            out.push('"');
            separator = ',';
        }
        if separator == ',' {
            out.push('}');
        }
    }

    fn push_labels(&self, labels: &str, out: &mut String) {
        // A page's labels are in their written form; only names that are to be escaped need a closer look.
        let may_be_quoted = || labels.starts_with('"') || labels.contains("\",\"");
        let as_they_are = match self.escaping {
            EscapingScheme::AllowUtf8 => true,
            EscapingScheme::Underscores | EscapingScheme::Values => !may_be_quoted(),
            EscapingScheme::Dots => false,
        };
        if as_they_are {
            out.push_str(labels);
            return;
        }
        for (at, (name, value)) in SeriesLabels::bare(labels).flatten().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&self.escaping.escape(&name));
            out.push_str("=\"");
            escape_label_value(&value, out);
            out.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ClassicBucket, Page, Quantile};

    fn encoded(page: &Page, escaping: EscapingScheme) -> String {
        let mut out = Vec::new();
        encode(&page.families().0, escaping, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn sample_page() -> Page {
        let mut page = Page::new();
        page.gauge("temp", "In °C \\ or\nso.", &[("place", "a\"b\\c\nd")], -1.5);
        let h = page.family("lat", "Latency.", MetricType::Histogram);
        let bucket = |upper_bound, cumulative_count| ClassicBucket { upper_bound, cumulative_count, exemplar: None };
        let value =
            HistogramValue { buckets: vec![bucket(0.5, 1), bucket(1.0, 2)], count: 3, sum: 4.5, ..Default::default() };
        page.histogram(h, &[("a", "b")], value);
        let s = page.family("dur", "Durations.", MetricType::Summary);
        let quantiles = vec![Quantile { quantile: 0.99, value: 7.0 }];
        page.summary_at(s, &[], SummaryValue { quantiles, count: 2, sum: 1e6, created: None }, Some(99));
        page.untyped("my.metric", "UTF-8.", &[("a.b", "x"), ("c", "y")], 1.0);
        page
    }

    #[test]
    fn a_page_in_text() {
        expect_test::expect![[r#"
            # HELP dur Durations.
            # TYPE dur summary
            dur{quantile="0.99"} 7 99
            dur_sum 1e+06 99
            dur_count 2 99
            # HELP lat Latency.
            # TYPE lat histogram
            lat_bucket{a="b",le="0.5"} 1
            lat_bucket{a="b",le="1"} 2
            lat_bucket{a="b",le="+Inf"} 3
            lat_sum{a="b"} 4.5
            lat_count{a="b"} 3
            # HELP "my.metric" UTF-8.
            # TYPE "my.metric" untyped
            {"my.metric","a.b"="x",c="y"} 1
            # HELP temp In °C \\ or\nso.
            # TYPE temp gauge
            temp{place="a\"b\\c\nd"} -1.5
        "#]]
        .assert_eq(&encoded(&sample_page(), EscapingScheme::AllowUtf8));
    }

    #[test]
    fn names_are_escaped_as_agreed() {
        for (escaping, line) in [
            (EscapingScheme::Underscores, "my_metric{a_b=\"x\",c=\"y\"} 1"),
            (EscapingScheme::Dots, "my_dot_metric{a_dot_b=\"x\",c=\"y\"} 1"),
            (EscapingScheme::Values, "U__my_2e_metric{U__a_2e_b=\"x\",c=\"y\"} 1"),
        ] {
            let page = encoded(&sample_page(), escaping);
            assert!(page.lines().any(|l| l == line), "{escaping:?} {page}");
        }
    }

    #[test]
    fn values_that_look_like_names_stay() {
        let mut page = Page::new();
        page.gauge("m", "", &[("a", ","), ("b", "\",\"")], 1.0);
        assert_eq!(
            encoded(&page, EscapingScheme::Underscores),
            "# HELP m \n# TYPE m gauge\nm{a=\",\",b=\"\\\",\\\"\"} 1\n"
        );
    }
}
