//! The messages of `io.prometheus.client`, decoded as far as a scrape needs them.

use model::{CounterResetHint, FloatHistogram, Histogram, MetricType, Span, Timestamp};

use super::wire::{Field, Fields, WireError, unzigzag, varint};
use crate::metrics::NativeHistogram;

/// A family without its metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FamilyHeader<'a> {
    pub(super) name: &'a str,
    pub(super) help: &'a str,
    pub(super) unit: &'a str,
    pub(super) metric_type: MetricType,
}

impl<'a> FamilyHeader<'a> {
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        // an enum that is not given is its first value
        let mut header = Self { metric_type: MetricType::Counter, ..Self::default() };
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => header.name = field.text()?,
                2 => header.help = field.text()?,
                3 => {
                    header.metric_type = match field.uint()? {
                        0 => MetricType::Counter,
                        1 => MetricType::Gauge,
                        2 => MetricType::Summary,
                        3 => MetricType::Unknown,
                        4 => MetricType::Histogram,
                        5 => MetricType::GaugeHistogram,
                        _ => return Err("a metric type is not known"),
                    }
                }
                4 => {
                    field.bytes()?;
                }
                5 => header.unit = field.text()?,
                _ => {}
            }
        }
        if header.name.is_empty() { Err("a family has no name") } else { Ok(header) }
    }
}

/// A metric: labels, and the value message not decoded yet.
#[derive(Debug, Default)]
pub(super) struct Metric<'a> {
    pub(super) labels: Vec<(&'a str, &'a str)>,
    pub(super) value: Option<(u32, &'a [u8])>,
    pub(super) timestamp: Option<Timestamp>,
}

impl<'a> Metric<'a> {
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let mut metric = Self::default();
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => metric.labels.push(label(field.bytes()?)?),
                2..=5 | 7 => metric.value = Some((number, field.bytes()?)),
                6 => metric.timestamp = Some(field.int()?).filter(|t| *t != 0),
                _ => {}
            }
        }
        Ok(metric)
    }
}

fn label(message: &[u8]) -> Result<(&str, &str), WireError> {
    let (mut name, mut value) = ("", "");
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    if name.is_empty() { Err("a label has no name") } else { Ok((name, value)) }
}

/// An exemplar.
#[derive(Debug, Default)]
pub(super) struct ExemplarMessage<'a> {
    pub(super) labels: Vec<(&'a str, &'a str)>,
    pub(super) value: f64,
    pub(super) timestamp: Option<Timestamp>,
}

impl<'a> ExemplarMessage<'a> {
    fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let mut exemplar = Self::default();
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => exemplar.labels.push(label(field.bytes()?)?),
                2 => exemplar.value = field.double()?,
                3 => exemplar.timestamp = Some(timestamp(field.bytes()?)?),
                _ => {}
            }
        }
        Ok(exemplar)
    }
}

/// A `google.protobuf.Timestamp` in milliseconds.
fn timestamp(message: &[u8]) -> Result<Timestamp, WireError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => seconds = field.int()?,
            2 => nanos = field.int()?,
            _ => {}
        }
    }
    let millis = seconds.checked_mul(1000).and_then(|s| s.checked_add(nanos / 1_000_000));
    millis.ok_or("a timestamp is out of range")
}

/// A counter, gauge or untyped value.
#[derive(Debug, Default)]
pub(super) struct FloatMessage<'a> {
    pub(super) value: f64,
    pub(super) exemplar: Option<ExemplarMessage<'a>>,
    pub(super) created: Option<Timestamp>,
}

impl<'a> FloatMessage<'a> {
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let mut float = Self::default();
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => float.value = field.double()?,
                2 => float.exemplar = Some(ExemplarMessage::decode(field.bytes()?)?),
                3 => float.created = Some(timestamp(field.bytes()?)?),
                _ => {}
            }
        }
        Ok(float)
    }
}

/// A summary.
#[derive(Debug, Default)]
pub(super) struct SummaryMessage {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) quantiles: Vec<(f64, f64)>,
    pub(super) created: Option<Timestamp>,
}

impl SummaryMessage {
    pub(super) fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut summary = Self::default();
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => summary.count = field.uint()?,
                2 => summary.sum = field.double()?,
                3 => {
                    let (mut quantile, mut value) = (0.0, 0.0);
                    let mut fields = Fields(field.bytes()?);
                    while let Some((number, field)) = fields.next()? {
                        match number {
                            1 => quantile = field.double()?,
                            2 => value = field.double()?,
                            _ => {}
                        }
                    }
                    summary.quantiles.push((quantile, value));
                }
                4 => summary.created = Some(timestamp(field.bytes()?)?),
                _ => {}
            }
        }
        Ok(summary)
    }
}

/// A classic bucket.
#[derive(Debug, Default)]
pub(super) struct BucketMessage<'a> {
    pub(super) count: f64,
    pub(super) upper_bound: f64,
    pub(super) exemplar: Option<ExemplarMessage<'a>>,
}

/// A histogram, classic and native.
#[derive(Debug, Default)]
pub(super) struct HistogramMessage<'a> {
    pub(super) count: u64,
    pub(super) count_float: f64,
    pub(super) sum: f64,
    pub(super) buckets: Vec<BucketMessage<'a>>,
    pub(super) created: Option<Timestamp>,
    pub(super) exemplars: Vec<ExemplarMessage<'a>>,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    negative: Side,
    positive: Side,
}

/// The buckets on one side of zero.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl<'a> HistogramMessage<'a> {
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let mut h = Self::default();
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => h.count = field.uint()?,
                2 => h.sum = field.double()?,
                3 => h.buckets.push(bucket(field.bytes()?)?),
                4 => h.count_float = field.double()?,
                5 => h.schema = i32::try_from(field.zigzag()?).map_err(|_| "a schema is out of range")?,
                6 => h.zero_threshold = field.double()?,
                7 => h.zero_count = field.uint()?,
                8 => h.zero_count_float = field.double()?,
                9 => h.negative.spans.push(span(field.bytes()?)?),
                10 => deltas(field, &mut h.negative.deltas)?,
                11 => counts(field, &mut h.negative.counts)?,
                12 => h.positive.spans.push(span(field.bytes()?)?),
                13 => deltas(field, &mut h.positive.deltas)?,
                14 => counts(field, &mut h.positive.counts)?,
                15 => h.created = Some(timestamp(field.bytes()?)?),
                16 => h.exemplars.push(ExemplarMessage::decode(field.bytes()?)?),
                _ => {}
            }
        }
        Ok(h)
    }

    /// Whether there is a native histogram: any span (client libraries write an empty one if they have no buckets), or a zero
    /// bucket.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
            || self.zero_count_float > 0.0
    }

    pub(super) fn native(&mut self, hint: CounterResetHint) -> Result<NativeHistogram, WireError> {
        let (positive, negative) = (std::mem::take(&mut self.positive), std::mem::take(&mut self.negative));
        let float = self.count_float > 0.0 || self.zero_count_float > 0.0;
        for side in [&positive, &negative] {
            let buckets = if float { side.counts.len() } else { side.deltas.len() };
            if side.spans.iter().map(|s| u64::from(s.length)).sum::<u64>() != buckets as u64 {
                return Err("a histogram's spans and buckets do not agree");
            }
        }
        let positive_spans = compacted(&positive.spans)?;
        let negative_spans = compacted(&negative.spans)?;
        Ok(if float {
            NativeHistogram::Float(FloatHistogram {
                counter_reset_hint: hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count_float,
                count: self.count_float,
                sum: self.sum,
                positive_spans,
                negative_spans,
                positive_buckets: positive.counts,
                negative_buckets: negative.counts,
                custom_values: None,
            })
        } else {
            NativeHistogram::Integer(Histogram {
                counter_reset_hint: hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count,
                count: self.count,
                sum: self.sum,
                positive_spans,
                negative_spans,
                positive_buckets: positive.deltas,
                negative_buckets: negative.deltas,
                custom_values: None,
            })
        })
    }
}

/// Spans without empty ones, neighbours joined.
fn compacted(spans: &[Span]) -> Result<Vec<Span>, WireError> {
    const RANGE: WireError = "a histogram's spans are out of range";
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    let mut gap = 0i32;
    for span in spans {
        gap = gap.checked_add(span.offset).ok_or(RANGE)?;
        if span.length == 0 {
            continue;
        }
        match out.last_mut() {
            Some(last) if gap == 0 => last.length = last.length.checked_add(span.length).ok_or(RANGE)?,
            _ => out.push(Span { offset: gap, length: span.length }),
        }
        gap = 0;
    }
    Ok(out)
}

fn bucket(message: &[u8]) -> Result<BucketMessage<'_>, WireError> {
    let mut bucket = BucketMessage::default();
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => bucket.count = field.uint()? as f64,
            2 => bucket.upper_bound = field.double()?,
            3 => bucket.exemplar = Some(ExemplarMessage::decode(field.bytes()?)?),
            4 => bucket.count = field.double()?,
            _ => {}
        }
    }
    Ok(bucket)
}

fn span(message: &[u8]) -> Result<Span, WireError> {
    let mut span = Span::default();
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => span.offset = i32::try_from(field.zigzag()?).map_err(|_| "a span's offset is out of range")?,
            2 => span.length = u32::try_from(field.uint()?).map_err(|_| "a span's length is out of range")?,
            _ => {}
        }
    }
    Ok(span)
}

/// Repeated numbers come one by one or packed.
fn deltas(field: Field<'_>, out: &mut Vec<i64>) -> Result<(), WireError> {
    if let Field::Bytes(mut packed) = field {
        while !packed.is_empty() {
            out.push(unzigzag(varint(&mut packed)?));
        }
    } else {
        out.push(field.zigzag()?);
    }
    Ok(())
}

fn counts(field: Field<'_>, out: &mut Vec<f64>) -> Result<(), WireError> {
    if let Field::Bytes(packed) = field {
        let (doubles, rest) = packed.as_chunks::<8>();
        if !rest.is_empty() {
            return Err("a list of doubles is cut off");
        }
        out.extend(doubles.iter().map(|d| f64::from_le_bytes(*d)));
    } else {
        out.push(field.double()?);
    }
    Ok(())
}
