use std::borrow::Cow;
use std::ops::Range;

use model::{BUCKET_LABEL, CounterResetHint, MetricType, NORMAL_NAN, QUANTILE_LABEL, Timestamp};

use super::family::{ExemplarMessage, FamilyHeader, FloatMessage, HistogramMessage, Metric, SummaryMessage};
use super::wire::{Fields, WireError, varint};
use crate::exposition::entry::{Entry, HistogramEntry, ParseError, ParseErrorKind, RawExemplar, Sample};
use crate::exposition::openmetrics::push_float;
use crate::exposition::parser::ParseOptions;
use crate::exposition::series_text::{close, push_label, push_name};
use crate::metrics::NativeHistogram;

/// Reads delimited `MetricFamily` messages. Classic histograms and summaries are given as the samples they have in the text
/// formats, bounds written as OpenMetrics does (`le="1.0"`); series bytes are the text form too.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    messages: usize,
    options: ParseOptions,
    header: FamilyHeader<'a>,
    /// What is left of the family's fields.
    fields: Fields<'a>,
    stage: Stage,
    /// Samples of the current metric, the next one last; their texts lie in `buffer`.
    pending: Vec<Pending>,
    buffer: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Type,
    Unit,
    Metrics,
}

#[derive(Clone, Debug)]
struct Pending {
    series: Range<usize>,
    value: PendingValue,
    timestamp: Option<Timestamp>,
    created: Option<Timestamp>,
    exemplars: Vec<(Range<usize>, f64, Option<Timestamp>)>,
}

#[derive(Clone, Debug)]
enum PendingValue {
    Float(f64),
    Histogram(Box<NativeHistogram>),
}

impl<'a> Parser<'a> {
    /// A parser at the page's start.
    pub fn new(input: &'a [u8], options: ParseOptions) -> Self {
        Self {
            input,
            at: 0,
            messages: 0,
            options,
            header: FamilyHeader::default(),
            fields: Fields(&[]),
            stage: Stage::Metrics,
            pending: Vec::new(),
            buffer: String::new(),
        }
    }

    /// The next entry, `None` at the page's end.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ParseError> {
        match self.advance() {
            Ok(entry) => Ok(entry),
            Err((line, column, reason)) => Err(ParseError { line, column, kind: ParseErrorKind::Protobuf(reason) }),
        }
    }

    fn advance(&mut self) -> Result<Option<Entry<'_>>, (usize, usize, WireError)> {
        let header = self.header;
        let family = Cow::Borrowed(header.name);
        match self.stage {
            Stage::Type => {
                self.stage = if header.unit.is_empty() { Stage::Metrics } else { Stage::Unit };
                return Ok(Some(Entry::Type { family, metric_type: header.metric_type }));
            }
            Stage::Unit => {
                self.stage = Stage::Metrics;
                return Ok(Some(Entry::Unit { family, unit: header.unit }));
            }
            Stage::Metrics => {}
        }
        while self.pending.is_empty() {
            let place = (self.messages, self.at - self.fields.0.len() + 1);
            let located = |reason| (place.0, place.1, reason);
            match self.fields.next().map_err(located)? {
                Some((4, field)) => {
                    field.bytes().and_then(|message| self.metric(message)).map_err(located)?;
                    self.pending.reverse();
                }
                Some(_) => {}
                None if self.at == self.input.len() => return Ok(None),
                None => {
                    self.messages += 1;
                    let located = |reason| (self.messages, 1, reason);
                    let mut rest = &self.input[self.at..];
                    let len = varint(&mut rest).map_err(located)?;
                    let cut = || located("a family is cut off");
                    let message = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or_else(cut)?;
                    self.header = FamilyHeader::decode(message).map_err(located)?;
                    self.fields = Fields(message);
                    self.at = self.input.len() - rest.len() + message.len();
                    self.stage = Stage::Type;
                    return Ok(Some(Entry::Help {
                        family: Cow::Borrowed(self.header.name),
                        help: Cow::Borrowed(self.header.help),
                    }));
                }
            }
        }
        Ok(self.pending.pop().map(|p| self.entry(p)))
    }

    fn entry(&self, pending: Pending) -> Entry<'_> {
        let text = |range: Range<usize>| self.buffer[range].as_bytes();
        let mut exemplars = pending.exemplars.into_iter().map(|(labels, value, timestamp)| RawExemplar {
            labels: text(labels),
            value,
            timestamp,
        });
        let (series, timestamp, created) = (text(pending.series), pending.timestamp, pending.created);
        match pending.value {
            PendingValue::Float(value) => {
                let value = if value.is_nan() { NORMAL_NAN } else { value };
                Entry::Sample(Sample { series, value, timestamp, exemplar: exemplars.next(), created })
            }
            PendingValue::Histogram(histogram) => Entry::Histogram(Box::new(HistogramEntry {
                series,
                histogram: *histogram,
                timestamp,
                created,
                exemplars: exemplars.collect(),
            })),
        }
    }

    fn metric(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        self.buffer.clear();
        let metric = Metric::decode(message)?;
        let expected = match self.header.metric_type {
            MetricType::Counter => 3,
            MetricType::Gauge | MetricType::Info | MetricType::StateSet => 2,
            MetricType::Summary => 4,
            MetricType::Unknown => 5,
            MetricType::Histogram | MetricType::GaugeHistogram => 7,
        };
        let value = match metric.value {
            Some((number, value)) if number == expected => value,
            Some(_) => return Err("a metric's value is of another type than its family"),
            // proto3 leaves out what is empty
            None => &[],
        };
        match expected {
            4 => {
                let summary = SummaryMessage::decode(value)?;
                self.float(&metric, "_count", None, summary.count as f64, None, summary.created);
                self.float(&metric, "_sum", None, summary.sum, None, summary.created);
                for (quantile, value) in summary.quantiles {
                    self.float(&metric, "", Some((QUANTILE_LABEL, quantile)), value, None, summary.created);
                }
            }
            7 => self.histogram(&metric, HistogramMessage::decode(value)?)?,
            _ => {
                let float = FloatMessage::decode(value)?;
                self.float(&metric, "", None, float.value, float.exemplar.as_ref(), float.created);
            }
        }
        Ok(())
    }

    fn histogram(&mut self, metric: &Metric<'a>, mut h: HistogramMessage<'a>) -> Result<(), WireError> {
        let native = h.is_native() && !self.options.ignore_native_histograms;
        if native {
            let gauge = self.header.metric_type == MetricType::GaugeHistogram;
            let histogram = h.native(if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown })?;
            let series = self.push_series(metric, "", None);
            let mut exemplars = Vec::new();
            let of_buckets = h.buckets.iter().filter_map(|b| b.exemplar.as_ref());
            let own = h.exemplars.iter();
            let chosen: Vec<_> = if h.exemplars.is_empty() { of_buckets.collect() } else { own.collect() };
            // exemplars of native histograms need a time of their own
            for exemplar in chosen.into_iter().filter(|e| e.timestamp.is_some()) {
                exemplars.push(self.push_exemplar(exemplar));
            }
            self.pending.push(Pending {
                series,
                value: PendingValue::Histogram(Box::new(histogram)),
                timestamp: metric.timestamp,
                created: h.created,
                exemplars,
            });
            if !self.options.classic_histograms {
                return Ok(());
            }
        }
        if native && h.buckets.is_empty() {
            return Ok(());
        }
        let count = if h.count_float > 0.0 { h.count_float } else { h.count as f64 };
        self.float(metric, "_count", None, count, None, h.created);
        self.float(metric, "_sum", None, h.sum, None, h.created);
        for b in &h.buckets {
            let bound = Some((BUCKET_LABEL, b.upper_bound));
            self.float(metric, "_bucket", bound, b.count, b.exemplar.as_ref(), h.created);
        }
        if h.buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
            self.float(metric, "_bucket", Some((BUCKET_LABEL, f64::INFINITY)), count, None, h.created);
        }
        Ok(())
    }

    fn float(
        &mut self,
        metric: &Metric<'a>,
        suffix: &str,
        extra: Option<(&str, f64)>,
        value: f64,
        exemplar: Option<&ExemplarMessage<'a>>,
        created: Option<Timestamp>,
    ) {
        let series = self.push_series(metric, suffix, extra);
        let exemplars = exemplar.map(|e| self.push_exemplar(e)).into_iter().collect();
        let value = PendingValue::Float(value);
        self.pending.push(Pending { series, value, timestamp: metric.timestamp, created, exemplars });
    }

    fn push_series(&mut self, metric: &Metric<'a>, suffix: &str, extra: Option<(&str, f64)>) -> Range<usize> {
        let out = &mut self.buffer;
        let start = out.len();
        let mut separator = push_name(self.header.name, suffix, out);
        for (name, value) in &metric.labels {
            out.push(separator);
            push_label(name, value, out);
            separator = ',';
        }
        if let Some((name, value)) = extra {
            out.push(separator);
            out.push_str(name);
            out.push_str("=\"");
            push_float(value, out);
            out.push('"');
            separator = ',';
        }
        close(separator, out);
        start..out.len()
    }

    fn push_exemplar(&mut self, exemplar: &ExemplarMessage<'a>) -> (Range<usize>, f64, Option<Timestamp>) {
        let out = &mut self.buffer;
        let start = out.len();
        out.push('{');
        for (at, (name, value)) in exemplar.labels.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_label(name, value, out);
        }
        out.push('}');
        (start..out.len(), exemplar.value, exemplar.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{EscapingScheme, protobuf};
    use crate::metrics::{ClassicBucket, Exemplar, HistogramValue, Page, Quantile, SummaryValue};
    use model::{FloatHistogram, Histogram, Span};

    fn shown(page: &[u8], options: ParseOptions) -> Vec<String> {
        let mut parser = Parser::new(page, options);
        let mut lines = Vec::new();
        loop {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            lines.push(match parser.next_entry() {
                Ok(None) => return lines,
                Ok(Some(Entry::Sample(s))) => {
                    let exemplar = s.exemplar.map(|e| (text(e.labels), e.value, e.timestamp));
                    format!("{} {} {:?} {:?} {exemplar:?}", text(s.series), s.value, s.timestamp, s.created)
                }
                Ok(Some(Entry::Histogram(h))) => {
                    let kind = match &h.histogram {
                        NativeHistogram::Integer(h) => format!("{:?} {:?}", h.positive_spans, h.positive_buckets),
                        NativeHistogram::Float(h) => format!("{:?} {:?}", h.positive_spans, h.positive_buckets),
                    };
                    format!("{} {kind} {:?} {}", text(h.series), h.created, h.exemplars.len())
                }
                Ok(Some(other)) => format!("{other:?}"),
                Err(error) => {
                    lines.push(error.to_string());
                    return lines;
                }
            });
        }
    }

    fn page() -> Vec<u8> {
        let mut page = Page::new();
        let exemplar = Exemplar { labels: vec![("id".into(), "7".into())], value: 0.5, timestamp: Some(-1500) };
        let c = page.family_with_unit("c_total", "Help.", "bytes", MetricType::Counter);
        page.counter_sample(c, &[("a.b", "x\"")], 2.0, Some(exemplar.clone()), Some(1001));
        let h = page.family("h", "", MetricType::Histogram);
        let native = Histogram {
            schema: 3,
            zero_threshold: 0.01,
            zero_count: 1,
            count: 4,
            sum: 9.0,
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
            positive_buckets: vec![1, 0, 0],
            ..Histogram::default()
        };
        let buckets = vec![ClassicBucket { upper_bound: 1.0, cumulative_count: 3, exemplar: Some(exemplar) }];
        let native = Some(NativeHistogram::Integer(native));
        page.histogram_at(
            h,
            &[],
            HistogramValue { buckets, count: 4, sum: 9.0, native, ..Default::default() },
            Some(77),
        );
        let f = page.family("hf", "", MetricType::GaugeHistogram);
        let positive_spans = vec![Span { offset: 0, length: 1 }];
        let native = FloatHistogram { count: 1.5, positive_spans, positive_buckets: vec![1.5], ..Default::default() };
        page.histogram(f, &[], HistogramValue { native: Some(NativeHistogram::Float(native)), ..Default::default() });
        let e = page.family("he", "", MetricType::Histogram);
        let native = Some(NativeHistogram::Integer(Histogram::default()));
        page.histogram(e, &[], HistogramValue { native, ..Default::default() });
        let s = page.family("my.summary", "", MetricType::Summary);
        let quantiles = vec![Quantile { quantile: 0.5, value: 1.0 }];
        page.summary(s, &[("l", "v")], SummaryValue { quantiles, count: 2, sum: 3.0, created: Some(5) });
        let mut out = Vec::new();
        protobuf::encode(&page.families().0, EscapingScheme::AllowUtf8, &mut out);
        out
    }

    #[test]
    fn what_is_written_reads_back() {
        let lines = shown(&page(), ParseOptions { classic_histograms: true, ..ParseOptions::default() });
        expect_test::expect![[r#"
            Help { family: "c_total", help: "Help." }
            Type { family: "c_total", metric_type: Counter }
            Unit { family: "c_total", unit: "bytes" }
            c_total{"a.b"="x\""} 2 None Some(1001) Some(("{id=\"7\"}", 0.5, Some(-1500)))
            Help { family: "h", help: "" }
            Type { family: "h", metric_type: Histogram }
            h [Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }] [1, 0, 0] None 1
            h_count 4 Some(77) None None
            h_sum 9 Some(77) None None
            h_bucket{le="1.0"} 3 Some(77) None Some(("{id=\"7\"}", 0.5, Some(-1500)))
            h_bucket{le="+Inf"} 4 Some(77) None None
            Help { family: "he", help: "" }
            Type { family: "he", metric_type: Histogram }
            he [] [] None 0
            Help { family: "hf", help: "" }
            Type { family: "hf", metric_type: GaugeHistogram }
            hf [Span { offset: 0, length: 1 }] [1.5] None 0
            Help { family: "my.summary", help: "" }
            Type { family: "my.summary", metric_type: Summary }
            {"my.summary_count",l="v"} 2 None Some(5) None
            {"my.summary_sum",l="v"} 3 None Some(5) None
            {"my.summary",l="v",quantile="0.5"} 1 None Some(5) None"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn histograms_come_as_the_options_say() {
        let native_only = shown(&page(), ParseOptions::default());
        assert!(!native_only.iter().any(|l| l.starts_with("h_bucket")), "{native_only:?}");
        let ignore = ParseOptions { ignore_native_histograms: true, ..ParseOptions::default() };
        let classic_only = shown(&page(), ignore);
        assert!(classic_only.iter().any(|l| l.starts_with("h_bucket{le=\"1.0\"} 3")), "{classic_only:?}");
        assert!(!classic_only.iter().any(|l| l.starts_with("h [")), "{classic_only:?}");
    }

    #[test]
    fn damaged_messages_are_named() {
        let good = page();
        let lines = shown(&good[..good.len() - 1], ParseOptions::default());
        assert_eq!(lines.last().map(String::as_str), Some("line 5, column 1: protobuf: a family is cut off"));
        assert_eq!(shown(&[0], ParseOptions::default()), ["line 1, column 1: protobuf: a family has no name"]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            let options = ParseOptions { classic_histograms: true, ..ParseOptions::default() };
            shown(&bytes, options);
            let mut damaged = page();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            shown(&damaged, options);
        }
    }
}
