use model::{MetricType, Span, Timestamp};

use super::wire::{put_bytes, put_double, put_message, put_sint, put_uint, put_varint};
use crate::exposition::EscapingScheme;
use crate::exposition::series::SeriesLabels;
use crate::metrics::{Exemplar, Families, Family, HistogramValue, NativeHistogram, Sample, SummaryValue, Value};

/// Appends a page as delimited messages. Infos and state sets, which the schema does not know, are gauges.
pub fn encode(families: &Families<'_>, escaping: EscapingScheme, out: &mut Vec<u8>) {
    let (mut message, mut metric) = (Vec::new(), Vec::new());
    for family in families.iter() {
        message.clear();
        put_family(&family, escaping, &mut metric, &mut message);
        put_varint(message.len() as u64, out);
        out.extend_from_slice(&message);
    }
}

fn put_family(family: &Family<'_>, escaping: EscapingScheme, metric: &mut Vec<u8>, out: &mut Vec<u8>) {
    put_bytes(1, escaping.escape(family.name).as_bytes(), out);
    put_bytes(2, family.help.as_bytes(), out);
    let (kind, field) = match family.metric_type {
        MetricType::Counter => (0, 3),
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => (1, 2),
        MetricType::Summary => (2, 4),
        MetricType::Unknown => (3, 5),
        MetricType::Histogram => (4, 7),
        MetricType::GaugeHistogram => (5, 7),
    };
    put_uint(3, kind, out);
    for sample in family.samples() {
        metric.clear();
        for (name, value) in SeriesLabels::bare(sample.labels).flatten() {
            put_message(1, metric, |m| {
                put_bytes(1, escaping.escape(&name).as_bytes(), m);
                put_bytes(2, value.as_bytes(), m);
            });
        }
        put_message(field, metric, |m| match sample.value {
            Value::Float(value) => put_float(&sample, value, m),
            Value::Histogram(value) => put_histogram(value, m),
            Value::Summary(value) => put_summary(value, m),
        });
        if let Some(timestamp) = sample.timestamp {
            put_uint(6, timestamp as u64, metric);
        }
        put_bytes(4, metric, out);
    }
    if !family.unit.is_empty() {
        put_bytes(5, family.unit.as_bytes(), out);
    }
}

fn put_float(sample: &Sample<'_>, value: f64, out: &mut Vec<u8>) {
    put_double(1, value, out);
    if let Some(exemplar) = sample.exemplar {
        put_message(2, out, |m| put_exemplar(exemplar, m));
    }
    put_created(3, sample.created, out);
}

fn put_summary(value: &SummaryValue, out: &mut Vec<u8>) {
    put_uint(1, value.count, out);
    put_double(2, value.sum, out);
    for q in &value.quantiles {
        put_message(3, out, |m| {
            put_double(1, q.quantile, m);
            put_double(2, q.value, m);
        });
    }
    put_created(4, value.created, out);
}

fn put_histogram(value: &HistogramValue, out: &mut Vec<u8>) {
    match &value.native {
        Some(NativeHistogram::Float(native)) => put_double(4, native.count, out),
        _ => put_uint(1, value.count, out),
    }
    put_double(2, value.sum, out);
    for bucket in &value.buckets {
        put_message(3, out, |m| {
            put_uint(1, bucket.cumulative_count, m);
            put_double(2, bucket.upper_bound, m);
            if let Some(exemplar) = &bucket.exemplar {
                put_message(3, m, |m| put_exemplar(exemplar, m));
            }
        });
    }
    match &value.native {
        None => {}
        Some(NativeHistogram::Integer(native)) => {
            put_sint(5, native.schema.into(), out);
            put_double(6, native.zero_threshold, out);
            put_uint(7, native.zero_count, out);
            put_spans(9, &native.negative_spans, out);
            native.negative_buckets.iter().for_each(|d| put_sint(10, *d, out));
            put_spans(12, &native.positive_spans, out);
            native.positive_buckets.iter().for_each(|d| put_sint(13, *d, out));
            put_no_op_span(
                native.zero_threshold,
                native.zero_count == 0,
                &native.positive_spans,
                &native.negative_spans,
                out,
            );
        }
        Some(NativeHistogram::Float(native)) => {
            put_sint(5, native.schema.into(), out);
            put_double(6, native.zero_threshold, out);
            put_double(8, native.zero_count, out);
            put_spans(9, &native.negative_spans, out);
            native.negative_buckets.iter().for_each(|c| put_double(11, *c, out));
            put_spans(12, &native.positive_spans, out);
            native.positive_buckets.iter().for_each(|c| put_double(14, *c, out));
            put_no_op_span(
                native.zero_threshold,
                native.zero_count == 0.0,
                &native.positive_spans,
                &native.negative_spans,
                out,
            );
        }
    }
    put_created(15, value.created, out);
    for exemplar in &value.exemplars {
        put_message(16, out, |m| put_exemplar(exemplar, m));
    }
}

fn put_spans(number: u32, spans: &[Span], out: &mut Vec<u8>) {
    for span in spans {
        put_message(number, out, |m| {
            put_sint(1, span.offset.into(), m);
            put_uint(2, span.length.into(), m);
        });
    }
}

/// An empty span tells readers that an empty native histogram is one, as client libraries do.
fn put_no_op_span(zero_threshold: f64, no_zeros: bool, positive: &[Span], negative: &[Span], out: &mut Vec<u8>) {
    if zero_threshold == 0.0 && no_zeros && positive.is_empty() && negative.is_empty() {
        put_spans(12, &[Span::default()], out);
    }
}

fn put_exemplar(exemplar: &Exemplar, out: &mut Vec<u8>) {
    for (name, value) in &exemplar.labels {
        put_message(1, out, |m| {
            put_bytes(1, name.as_bytes(), m);
            put_bytes(2, value.as_bytes(), m);
        });
    }
    put_double(2, exemplar.value, out);
    put_created(3, exemplar.timestamp, out);
}

/// A `google.protobuf.Timestamp`.
fn put_created(number: u32, time: Option<Timestamp>, out: &mut Vec<u8>) {
    if let Some(millis) = time {
        put_message(number, out, |m| {
            put_uint(1, millis.div_euclid(1000) as u64, m);
            put_uint(2, (millis.rem_euclid(1000) * 1_000_000) as u64, m);
        });
    }
}
