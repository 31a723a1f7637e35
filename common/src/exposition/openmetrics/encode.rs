use model::{BUCKET_LABEL, MetricType, QUANTILE_LABEL, Timestamp, escape_label_value};

use crate::exposition::EscapingScheme;
use crate::exposition::number::push_value;
use crate::exposition::series_text::push_label;
use crate::exposition::text::LabelWriter;
use crate::metrics::{Exemplar, Families, Family, HistogramValue, Sample, SummaryValue, Value};

/// Whether `_created` samples are written. Prometheus' client libraries leave them out unless asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// Written where the time is known.
    Show,
    /// Left out.
    Hide,
}

/// Appends a page in OpenMetrics text, ended by `# EOF` (`expfmt.MetricFamilyToOpenMetrics`). A counter whose name does not end
/// in `_total` is announced as `unknown`.
pub fn encode(families: &Families<'_>, escaping: EscapingScheme, created: Created, out: &mut Vec<u8>) {
    let mut page = String::with_capacity(16 * 1024);
    for family in families.iter() {
        push_family(&family, escaping, created, &mut page);
        if page.len() > 12 * 1024 {
            out.extend_from_slice(page.as_bytes());
            page.clear();
        }
    }
    page.push_str("# EOF\n");
    out.extend_from_slice(page.as_bytes());
}

fn push_family(family: &Family<'_>, escaping: EscapingScheme, created: Created, out: &mut String) {
    let (short, kind, suffix) = match family.metric_type {
        MetricType::Counter => match family.name.strip_suffix("_total") {
            Some(short) => (short, "counter", "_total"),
            None => (family.name, "unknown", ""),
        },
        MetricType::Info => match family.name.strip_suffix("_info") {
            Some(short) => (short, "info", "_info"),
            None => (family.name, "gauge", ""),
        },
        other => (family.name, other.as_str(), ""),
    };
    let unit_known = !family.unit.is_empty() && short.strip_suffix(family.unit).is_some_and(|s| s.ends_with('_'));
    let writer = LabelWriter::new(short, escaping);
    let mut line = |keyword: &str, text: &str| {
        out.push_str(keyword);
        writer.push_name(out);
        out.push(' ');
        escape_label_value(text, out);
        out.push('\n');
    };
    line("# HELP ", family.help);
    line("# TYPE ", kind);
    if unit_known {
        line("# UNIT ", family.unit);
    }
    for sample in family.samples() {
        match sample.value {
            Value::Float(value) => {
                writer.push_series(suffix, sample.labels, None, out);
                out.push(' ');
                push_float(value, out);
                push_end(sample.timestamp, sample.exemplar, out);
                if kind == "counter" {
                    push_created(&writer, &sample, sample.created, created, out);
                }
            }
            Value::Histogram(value) => push_histogram(&writer, &sample, value, created, out),
            Value::Summary(value) => push_summary(&writer, &sample, value, created, out),
        }
    }
}

fn push_histogram(
    writer: &LabelWriter<'_>,
    sample: &Sample<'_>,
    value: &HistogramValue,
    created: Created,
    out: &mut String,
) {
    let mut bound = String::new();
    let mut bucket = |upper: f64, count: u64, exemplar: Option<&Exemplar>, out: &mut String| {
        bound.clear();
        push_float(upper, &mut bound);
        writer.push_series("_bucket", sample.labels, Some((BUCKET_LABEL, &bound)), out);
        push_count(count, out);
        push_end(sample.timestamp, exemplar, out);
    };
    for b in &value.buckets {
        bucket(b.upper_bound, b.cumulative_count, b.exemplar.as_ref(), out);
    }
    if value.buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        bucket(f64::INFINITY, value.count, None, out);
    }
    push_sum_count(writer, sample, value.sum, value.count, out);
    push_created(writer, sample, value.created, created, out);
}

fn push_summary(
    writer: &LabelWriter<'_>,
    sample: &Sample<'_>,
    value: &SummaryValue,
    created: Created,
    out: &mut String,
) {
    let mut quantile = String::new();
    for q in &value.quantiles {
        quantile.clear();
        push_float(q.quantile, &mut quantile);
        writer.push_series("", sample.labels, Some((QUANTILE_LABEL, &quantile)), out);
        out.push(' ');
        push_float(q.value, out);
        push_end(sample.timestamp, None, out);
    }
    push_sum_count(writer, sample, value.sum, value.count, out);
    push_created(writer, sample, value.created, created, out);
}

fn push_sum_count(writer: &LabelWriter<'_>, sample: &Sample<'_>, sum: f64, count: u64, out: &mut String) {
    writer.push_series("_sum", sample.labels, None, out);
    out.push(' ');
    push_float(sum, out);
    push_end(sample.timestamp, None, out);
    writer.push_series("_count", sample.labels, None, out);
    push_count(count, out);
    push_end(sample.timestamp, None, out);
}

fn push_created(
    writer: &LabelWriter<'_>,
    sample: &Sample<'_>,
    time: Option<Timestamp>,
    created: Created,
    out: &mut String,
) {
    if let (Some(time), Created::Show) = (time, created) {
        writer.push_series("_created", sample.labels, None, out);
        push_seconds(time, out);
        out.push('\n');
    }
}

fn push_count(count: u64, out: &mut String) {
    out.push(' ');
    out.push_str(itoa::Buffer::new().format(count));
}

fn push_seconds(time: Timestamp, out: &mut String) {
    out.push(' ');
    push_float(time as f64 / 1000.0, out);
}

fn push_end(timestamp: Option<Timestamp>, exemplar: Option<&Exemplar>, out: &mut String) {
    if let Some(time) = timestamp {
        push_seconds(time, out);
    }
    if let Some(exemplar) = exemplar {
        out.push_str(" # {");
        for (at, (name, value)) in exemplar.labels.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_label(name, value, out);
        }
        out.push_str("} ");
        push_float(exemplar.value, out);
        if let Some(time) = exemplar.timestamp {
            push_seconds(time, out);
        }
    }
    out.push('\n');
}

/// A float that shows that it is one: `1.0`.
pub(in crate::exposition) fn push_float(value: f64, out: &mut String) {
    let start = out.len();
    push_value(value, out);
    if value.is_finite() && !out[start..].contains(['.', 'e']) {
        out.push_str(".0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ClassicBucket, Page};

    #[test]
    fn a_page_in_openmetrics() {
        let mut page = Page::new();
        let exemplar =
            |value| Some(Exemplar { labels: vec![("id".into(), "x\"y".into())], value, timestamp: Some(1500) });
        let c = page.family_with_unit("io_seconds_total", "Time.\n\"quoted\"", "seconds", MetricType::Counter);
        page.counter_sample(c, &[("a", "b")], 2.0, exemplar(0.5), Some(1000));
        page.counter("odd", "No total.", &[], 1e21);
        page.gauge("inf", "Infinite.", &[], f64::INFINITY);
        let i = page.family("build_info", "Build.", MetricType::Info);
        page.sample(i, &[("version", "1")], 1.0);
        let h = page.family("lat", "Latency.", MetricType::Histogram);
        let buckets = vec![ClassicBucket { upper_bound: 1.0, cumulative_count: 2, exemplar: exemplar(0.25) }];
        page.histogram_at(h, &[], HistogramValue { buckets, count: 3, sum: 4.0, ..Default::default() }, Some(12_500));
        let u = page.family("my.unknown", "?", MetricType::Unknown);
        page.sample(u, &[], 1.0);
        let mut out = Vec::new();
        encode(&page.families().0, EscapingScheme::AllowUtf8, Created::Show, &mut out);
        expect_test::expect![[r##"
            # HELP build Build.
            # TYPE build info
            build_info{version="1"} 1.0
            # HELP inf Infinite.
            # TYPE inf gauge
            inf +Inf
            # HELP io_seconds Time.\n\"quoted\"
            # TYPE io_seconds counter
            # UNIT io_seconds seconds
            io_seconds_total{a="b"} 2.0 # {id="x\"y"} 0.5 1.5
            io_seconds_created{a="b"} 1.0
            # HELP lat Latency.
            # TYPE lat histogram
            lat_bucket{le="1.0"} 2 12.5 # {id="x\"y"} 0.25 1.5
            lat_bucket{le="+Inf"} 3 12.5
            lat_sum 4.0 12.5
            lat_count 3 12.5
            # HELP "my.unknown" ?
            # TYPE "my.unknown" unknown
            {"my.unknown"} 1.0
            # HELP odd No total.
            # TYPE odd unknown
            odd 1e+21
            # EOF
        "##]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
