//! Query results as JSON, written straight from the result columns.

use std::sync::Arc;

use model::{FloatHistogram, Labels, Timestamp, format_float_json};
use promql::result::{MatrixSeries, SampleValue, VectorSample};
use promql::{Extent, PlanNode, QueryResult, Value};
use serde_json::json;
use tsdb::Texts;

use crate::query_log::{QueryTimings, stats_json};

/// About so many bytes of JSON are made at a time.
const PART: usize = 64 << 10;

/// The answer to a query, made part by part as it is sent: the result is not held twice, and nothing is made for a client that has
/// gone away. There is nothing that could go wrong on the way.
pub(super) struct Answer {
    result: QueryResult,
    /// The statistics and the plan, if they were asked for.
    about: [(&'static str, Option<String>); 2],
    next: Place,
    times: Times,
}

/// Where an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// An item of the result, and which of its points, histograms behind floats.
    Item(usize, usize),
    End,
    Nowhere,
}

impl Answer {
    /// The answer with a result, and with statistics if there are timings.
    pub(super) fn new(result: QueryResult, timings: Option<QueryTimings>) -> Self {
        let stats = timings.map(|timings| stats_json(&result.stats, timings).to_string());
        let plan = result.plan.as_ref().map(|plan| plan_json(plan).to_string());
        Self { result, about: [("stats", stats), ("explain", plan)], next: Place::Start, times: Times::default() }
    }

    fn start(&self, out: &mut Vec<u8>) -> Place {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"");
        out.extend_from_slice(match &self.result.value {
            Value::Scalar(..) => b"scalar",
            Value::String(..) => b"string",
            Value::Vector(_) => b"vector",
            Value::Matrix(_) => b"matrix",
        });
        out.extend_from_slice(b"\",\"result\":");
        match &self.result.value {
            Value::Scalar(time, value) => {
                push_point(*time, *value, out);
                return Place::End;
            }
            Value::String(time, text) => {
                out.push(b'[');
                push_time(*time, out);
                out.push(b',');
                push_text(text, out);
                out.push(b']');
                return Place::End;
            }
            Value::Vector(_) | Value::Matrix(_) => out.push(b'['),
        }
        Place::Item(0, 0)
    }

    /// An item, or a part of it.
    fn item(&mut self, at: usize, point: usize, out: &mut Vec<u8>) -> Place {
        let Self { result, times, .. } = self;
        let more = match &result.value {
            Value::Vector(samples) => samples.get(at).map(|sample| {
                separate(at, out);
                push_sample(sample, out);
                None
            }),
            Value::Matrix(matrix) => matrix.get(at).map(|series| {
                if point == 0 {
                    separate(at, out);
                    push_metric(&series.labels, out);
                }
                push_points(series, point, times, out)
            }),
            Value::Scalar(..) | Value::String(..) => None,
        };
        match more {
            Some(Some(point)) => Place::Item(at, point),
            Some(None) => Place::Item(at + 1, 0),
            None => {
                out.push(b']');
                Place::End
            }
        }
    }

    fn end(&self, out: &mut Vec<u8>) -> Place {
        for (name, json) in &self.about {
            if let Some(json) = json {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                out.extend_from_slice(json.as_bytes());
            }
        }
        out.push(b'}');
        for (name, texts) in [("warnings", &self.result.warnings), ("infos", &self.result.infos)] {
            if !texts.is_empty() {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                push_list(texts, out, |text, out| push_text(text, out));
            }
        }
        out.push(b'}');
        Place::Nowhere
    }
}

/// The nodes of a plan, operands behind what is made of them: flat, as queries can be nested deeper than readers of JSON allow.
fn plan_json(plan: &PlanNode) -> serde_json::Value {
    let extent = |extent: Extent| json!({ "series": extent.series, "samples": extent.samples, "bytes": extent.bytes });
    let mut nodes = Vec::new();
    let mut left = vec![(plan, 0)];
    while let Some((node, depth)) = left.pop() {
        nodes.push(json!({
            "depth": depth,
            "expr": node.expr,
            "once": node.once,
            "shared": node.shared,
            "seconds": node.time.as_secs_f64(),
            "given": extent(node.given),
            "read": extent(node.read),
        }));
        left.extend(node.operands.iter().rev().map(|operand| (operand, depth + 1)));
    }
    nodes.into()
}

impl Iterator for Answer {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.next == Place::Nowhere {
            return None;
        }
        let mut out = Vec::with_capacity(if self.next == Place::Start { 4096 } else { PART + PART / 4 });
        while out.len() < PART && self.next != Place::Nowhere {
            self.next = match self.next {
                Place::Start => self.start(&mut out),
                Place::Item(at, point) => self.item(at, point, &mut out),
                Place::End | Place::Nowhere => self.end(&mut out),
            };
        }
        Some(out)
    }
}

/// The texts of the times that series have in common, made once for all of them.
#[derive(Default)]
struct Times {
    of: Option<Arc<[Timestamp]>>,
    texts: Vec<TimeText>,
    scratch: Vec<u8>,
}

impl Times {
    /// More times than this are written anew for each series, which few have then.
    const MOST: usize = 20_000;

    /// These are the times from now on. Their texts are made when a second series has them.
    fn are_of(&mut self, times: &Arc<[Timestamp]>) {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, times)) {
            self.of = Some(times.clone());
            self.texts.clear();
        } else if self.texts.is_empty() && times.len() <= Self::MOST {
            self.texts.extend(times.iter().map(|time| TimeText::new(*time, &mut self.scratch)));
        }
    }

    fn push(&mut self, at: usize, time: Timestamp, out: &mut Vec<u8>) {
        match self.texts.get(at) {
            Some(text) => text.push_to(out),
            None => TimeText::new(time, &mut self.scratch).push_to(out),
        }
    }
}

/// What stands before the value of a point: `[time,"`.
struct TimeText {
    /// The whole array is copied, which is faster than as much as is needed.
    bytes: [u8; 32],
    len: u8,
}

impl TimeText {
    fn new(time: Timestamp, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.push(b'[');
        push_time(time, scratch);
        scratch.extend_from_slice(b",\"");
        // at most 16 digits of seconds, and 8 bytes around them
        let mut bytes = [0; 32];
        bytes[..scratch.len()].copy_from_slice(scratch);
        Self { bytes, len: scratch.len() as u8 }
    }

    #[inline]
    fn push_to(&self, out: &mut Vec<u8>) {
        let len = out.len() + usize::from(self.len);
        out.extend_from_slice(&self.bytes);
        out.truncate(len);
    }
}

fn push_sample(sample: &VectorSample, out: &mut Vec<u8>) {
    push_metric(&sample.labels, out);
    match &sample.value {
        SampleValue::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            push_point(sample.timestamp, *value, out);
        }
        SampleValue::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            push_histogram_point(sample.timestamp, histogram, out);
        }
    }
    out.push(b'}');
}

/// The points of a series from one on, at least one, as many as make a part. Gives the next one if there are more.
fn push_points(series: &MatrixSeries, from: usize, times: &mut Times, out: &mut Vec<u8>) -> Option<usize> {
    let MatrixSeries { floats, histograms, .. } = series;
    times.are_of(&floats.timestamps);
    let mut number = NumberText::default();
    for point in from..floats.len() {
        if point > from && out.len() >= PART {
            return Some(point);
        }
        if point == 0 {
            out.extend_from_slice(b",\"values\":[");
        } else {
            out.push(b',');
        }
        times.push(point, floats.timestamps[point], out);
        push_number(floats.values[point], &mut number, out);
        out.extend_from_slice(b"\"]");
        if point + 1 == floats.len() {
            out.push(b']');
        }
    }
    let first = from.saturating_sub(floats.len());
    for point in first..histograms.len() {
        if point > first && out.len() >= PART {
            return Some(floats.len() + point);
        }
        out.extend_from_slice(if point == 0 { &b",\"histograms\":["[..] } else { b"," });
        push_histogram_point(histograms.timestamps[point], &histograms.values[point], out);
        if point + 1 == histograms.len() {
            out.push(b']');
        }
    }
    out.push(b'}');
    None
}

/// The `data` of `/api/v1/series`.
pub(super) fn push_series(series: &[Labels], out: &mut Vec<u8>) {
    push_list(series, out, push_labels);
}

/// The `data` of `/api/v1/labels` and `/api/v1/label/NAME/values`.
pub(super) fn push_texts(texts: &Texts, out: &mut Vec<u8>) {
    push_list(texts.iter(), out, push_text);
}

/// The `data` of `/api/v1/query_exemplars`.
pub(super) fn push_exemplars(found: &[(Labels, Vec<tsdb::Exemplar>)], out: &mut Vec<u8>) {
    push_list(found, out, |(labels, exemplars), out| {
        out.extend_from_slice(b"{\"seriesLabels\":");
        push_labels(labels, out);
        out.extend_from_slice(b",\"exemplars\":");
        push_list(exemplars, out, |exemplar, out| {
            out.extend_from_slice(b"{\"labels\":");
            push_labels(&exemplar.labels, out);
            out.extend_from_slice(b",\"value\":");
            push_value(exemplar.value, out);
            out.extend_from_slice(b",\"timestamp\":");
            push_time(exemplar.timestamp, out);
            out.push(b'}');
        });
        out.push(b'}');
    });
}

fn separate(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

fn push_list<T>(items: impl IntoIterator<Item = T>, out: &mut Vec<u8>, mut push: impl FnMut(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        separate(at, out);
        push(item, out);
    }
    out.push(b']');
}

fn push_metric(labels: &Labels, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(labels, out);
}

fn push_labels(labels: &Labels, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in labels.iter_bytes().enumerate() {
        separate(at, out);
        push_text_bytes(name, out);
        out.push(b':');
        push_text_bytes(value, out);
    }
    out.push(b'}');
}

/// A JSON string with the escapes of upstream's encoder.
fn push_text(text: &str, out: &mut Vec<u8>) {
    push_text_bytes(text.as_bytes(), out);
}

/// The same of the bytes of a text.
fn push_text_bytes(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if has_escapes(text) {
        push_escaped(text, out);
    } else {
        out.extend_from_slice(text);
    }
    out.push(b'"');
}

/// These bytes are no part of another character.
fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Whether a byte of a text is escaped; eight are looked at at a time.
fn has_escapes(text: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    // the high bit of each byte says whether it is below a limit, for bytes that are below 128
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & (ONES << 7);
    let (words, rest) = text.as_chunks::<8>();
    let in_word = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        below(word, u64::from(b' ')) | equal(b'"') | equal(b'\\') != 0
    };
    words.iter().any(in_word) || rest.iter().any(|byte| is_escaped(*byte))
}

fn push_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| is_escaped(*byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Seconds with three digits of fraction where it is not zero.
fn push_time(millis: Timestamp, out: &mut Vec<u8>) {
    if millis < 0 {
        out.push(b'-');
    }
    let magnitude = millis.unsigned_abs();
    push_digits(magnitude / 1000, out);
    let fraction = magnitude % 1000;
    if fraction != 0 {
        out.push(b'.');
        out.push(b'0' + (fraction / 100) as u8);
        out.push(b'0' + (fraction / 10 % 10) as u8);
        out.push(b'0' + (fraction % 10) as u8);
    }
}

fn push_value(value: f64, out: &mut Vec<u8>) {
    out.push(b'"');
    push_number(value, &mut NumberText::default(), out);
    out.push(b'"');
}

/// A number as [`format_float_json`] makes it, which is slow for most of the numbers there are.
#[inline]
fn push_number(value: f64, text: &mut NumberText, out: &mut Vec<u8>) {
    // numbers that are whole and exact
    let whole = value as i64;
    if value.abs() < 9e15 && whole as f64 == value && (whole != 0 || value.is_sign_positive()) {
        if whole < 0 {
            out.push(b'-');
        }
        push_digits(whole.unsigned_abs(), out);
    } else {
        out.extend_from_slice(text.of(value).as_bytes());
    }
}

/// A number below 10^16 in decimal digits, made and written eight at a time. A library writes them elsewhere first; to copy them from there was
/// measured to take as long as making them, since a processor waits for small writes that are read as a large one.
#[inline]
fn push_digits(number: u64, out: &mut Vec<u8>) {
    const EIGHT: u64 = 100_000_000;
    let (high, low) = (number / EIGHT, eight_digits(number % EIGHT));
    let first = if high == 0 { low } else { eight_digits(high) };
    // without the zeros in front, but for the last digit
    let zeros = ((first & !ZEROS).trailing_zeros() / 8).min(7);
    let end = out.len() + 8 - zeros as usize;
    out.extend_from_slice(&(first >> (8 * zeros)).to_le_bytes());
    out.truncate(end);
    if high != 0 {
        out.extend_from_slice(&low.to_le_bytes());
    }
}

/// Eight times `0`.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below 10^8, the first in the lowest byte: halves are taken apart side by side, until each has one digit.
#[inline]
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | (number % 10_000) << 32;
    // division by multiplication, exact for numbers that are this small
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    ZEROS | tens | (twos - tens * 10) << 8
}

/// Where the texts of numbers are made that are not whole.
#[derive(Default)]
struct NumberText {
    quick: zmij::Buffer,
    other: String,
}

impl NumberText {
    fn of(&mut self, value: f64) -> &str {
        if value.is_finite() {
            let text = self.quick.format_finite(value);
            if !text.contains('e') {
                return text.strip_suffix(".0").unwrap_or(text);
            }
        }
        self.other.clear();
        format_float_json(value, &mut self.other);
        &self.other
    }
}

fn push_point(time: Timestamp, value: f64, out: &mut Vec<u8>) {
    out.push(b'[');
    push_time(time, out);
    out.push(b',');
    push_value(value, out);
    out.push(b']');
}

fn push_histogram_point(time: Timestamp, histogram: &FloatHistogram, out: &mut Vec<u8>) {
    out.push(b'[');
    push_time(time, out);
    out.extend_from_slice(b",{\"count\":");
    push_value(histogram.count, out);
    out.extend_from_slice(b",\"sum\":");
    push_value(histogram.sum, out);
    let buckets: Vec<_> = histogram.all_buckets().filter(|bucket| bucket.count != 0.0).collect();
    if !buckets.is_empty() {
        out.extend_from_slice(b",\"buckets\":[");
        for (at, bucket) in buckets.iter().enumerate() {
            separate(at, out);
            // which bounds belong to the bucket: 0 upper, 1 lower, 2 none, 3 both
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => b'0',
                (true, false) => b'1',
                (false, false) => b'2',
                (true, true) => b'3',
            };
            out.push(b'[');
            out.push(rule);
            for value in [bucket.lower, bucket.upper, bucket.count] {
                out.push(b',');
                push_value(value, out);
            }
            out.push(b']');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"}]");
}

#[cfg(test)]
mod tests {
    use promql::result::{Points, QueryStats};

    use super::*;

    fn answer(value: Value) -> Answer {
        let (warnings, infos) = (vec![], vec!["so \"it\" is".to_owned()]);
        let result = QueryResult { value, warnings, infos, stats: QueryStats::default(), plan: None, held: None };
        Answer::new(result, None)
    }

    fn check(value: Value, expected: &str) {
        let json: Vec<u8> = answer(value).flatten().collect();
        let expected = format!("{{\"status\":\"success\",\"data\":{expected},\"infos\":[\"so \\\"it\\\" is\"]}}");
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn label_sets_are_json() {
        let sets = [
            Labels::empty(),
            Labels::from_pairs([("__name__", "up"), ("path", "C:\\\"x\"\n"), ("é", "ü\u{1f600}/")]),
            Labels::from_pairs([("a", "1")]),
        ];
        let encode = |sets: &[Labels]| {
            let mut out = Vec::new();
            push_series(sets, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(encode(&sets), serde_json::to_string(&sets).unwrap());
        assert_eq!(encode(&[]), "[]");
    }

    #[test]
    fn texts_are_escaped_wherever_they_must_be() {
        for at in 0..20 {
            for byte in (0..=127u8).chain([0xc3]) {
                let mut text = "0123456789abcdefghij".as_bytes().to_vec();
                text.splice(at..=at, if byte == 0xc3 { "é".bytes().collect::<Vec<_>>() } else { vec![byte] });
                let text = String::from_utf8(text).unwrap();
                let mut out = Vec::new();
                push_text(&text, &mut out);
                assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
                assert_eq!(has_escapes(text.as_bytes()), text.bytes().any(is_escaped), "{text:?}");
            }
        }
    }

    /// A series longer than a part, one that ends with it, and one without samples are the same as if made at once.
    #[test]
    fn long_answers_are_made_in_parts() {
        let points = |count: usize| Points { timestamps: (0..count as i64).collect(), values: vec![0.5; count] };
        let histogram = Arc::new(FloatHistogram { count: 2.0, sum: 3.0, ..FloatHistogram::default() });
        // times in common, of three series
        let same = points(3);
        let series = |floats: usize, histograms: usize| MatrixSeries {
            labels: Labels::from_pairs([("n", format!("{floats}-{histograms}"))]),
            floats: if floats == 3 { same.clone() } else { points(floats) },
            histograms: Points {
                timestamps: (0..histograms as i64).collect(),
                values: vec![histogram.clone(); histograms],
            },
        };
        let sizes = [(10_000, 0), (1, 1), (0, 7_000), (0, 0), (5_000, 5_000), (3, 0), (3, 1), (3, 2)];
        let all: Vec<MatrixSeries> = sizes.iter().map(|(floats, histograms)| series(*floats, *histograms)).collect();
        let parts: Vec<Vec<u8>> = answer(Value::Matrix(all)).collect();
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() < 2 * PART), "{}", parts.len());
        let json: serde_json::Value = serde_json::from_slice(&parts.concat()).unwrap();
        for (series, (floats, histograms)) in json["data"]["result"].as_array().unwrap().iter().zip(sizes) {
            let count = |name: &str| series[name].as_array().map_or(0, Vec::len);
            assert_eq!((count("values"), count("histograms")), (floats, histograms), "{}", series["metric"]);
            let last = floats.checked_sub(1).and_then(|last| series["values"][last][0].as_f64());
            assert_eq!(last, floats.checked_sub(1).map(|last| last as f64 / 1000.0));
        }
        let vector: Vec<VectorSample> = (0..5_000)
            .map(|n| VectorSample {
                labels: Labels::from_pairs([("n", n.to_string())]),
                timestamp: 5,
                value: SampleValue::Float(1.0),
            })
            .collect();
        let parts: Vec<Vec<u8>> = answer(Value::Vector(vector)).collect();
        let json: serde_json::Value = serde_json::from_slice(&parts.concat()).unwrap();
        assert!(parts.len() > 2 && json["data"]["result"].as_array().unwrap().len() == 5_000);
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

    /// A part ends behind any byte of a series: nothing is there twice or not at all.
    #[test]
    fn parts_end_anywhere() {
        for shift in 0..40 {
            let series = |n: usize| MatrixSeries {
                labels: Labels::from_pairs([("n", format!("{n:0width$}", width = 1 + (n + shift) % 50))]),
                floats: Points { timestamps: Arc::from([1000, 2000]), values: vec![1.0, 2.5] },
                histograms: Points::default(),
            };
            let count = 4_000;
            let parts: Vec<Vec<u8>> = answer(Value::Matrix((0..count).map(series).collect())).collect();
            assert!(parts.len() > 2, "{} parts", parts.len());
            let json: serde_json::Value = serde_json::from_slice(&parts.concat()).unwrap();
            let result = json["data"]["result"].as_array().unwrap();
            assert_eq!(result.len(), count);
            for (n, series) in result.iter().enumerate() {
                assert_eq!(series["metric"]["n"].as_str().unwrap().parse(), Ok(n));
                assert_eq!(series["values"], serde_json::json!([[1, "1"], [2, "2.5"]]));
            }
        }
    }

    /// The quick way gives the same digits; the real Prometheus gives these where two texts are equally short and near.
    #[test]
    fn numbers_are_those_of_the_slow_way() {
        for (number, expected) in [
            (1_658_206_780_088_562.0 + 0.25, "1658206780088562.2"),
            (1_658_206_780_088_563.0 + 0.25, "1658206780088563.2"),
            (662_936_471_232_937.0 + 0.25, "662936471232937.2"),
            (662_936_471_232_937.0 + 0.75, "662936471232937.8"),
            (8.0 + 1.0 / 65_536.0, "8.000015258789062"),
            (100_000_000_000_000.0 + 0.125, "100000000000000.12"),
        ] {
            let mut quick = Vec::new();
            push_number(number, &mut NumberText::default(), &mut quick);
            assert_eq!(quick, expected.as_bytes());
        }
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        let mut numbers =
            vec![0.0, -0.0, 1.0, -1.0, 0.1, 1e-5, 1e-6, 9e-7, 1e15, 9e15, 1e16, 1e20, 1e21, 123.456, 5e-324];
        numbers.extend([
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
            9_007_199_254_740_993.0,
        ]);
        for n in 0..200_000u64 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            numbers.push(f64::from_bits(bits));
            // as they are measured: some digits, and sums of them
            numbers.push((bits % 10_000_000) as f64 / 10f64.powi((n % 9) as i32));
            numbers.push((bits % 100_000) as f64 * 0.1 + n as f64 / 3.0);
            numbers.push((bits >> 14) as f64 * 0.25);
            numbers.push((bits >> 16) as f64 * 0.125);
        }
        for number in numbers.into_iter().flat_map(|number| [number, -number]) {
            let (mut quick, mut slow) = (Vec::new(), String::new());
            push_number(number, &mut NumberText::default(), &mut quick);
            format_float_json(number, &mut slow);
            assert_eq!(quick, slow.as_bytes(), "{number:e}");
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let powers = (0..16).map(|n| 10u64.pow(n)).flat_map(|power| [power - 1, power, power + 1, power * 7 / 3]);
        // all there is of four digits, as the first and as the last ones
        let fours = (0..10_000).flat_map(|n| [n, 43_210_000 + n, n * 10_000 + 99, n * 1_000_000_000_000 + 100_000_000]);
        for number in powers.chain(fours).chain([9_999_999_999_999_999]) {
            let mut out = b"x".to_vec();
            push_digits(number, &mut out);
            assert_eq!(out, format!("x{number}").as_bytes());
        }
    }

    #[test]
    fn times_before_the_epoch_keep_their_sign() {
        let mut out = Vec::new();
        push_time(-1_500, &mut out);
        assert_eq!(out, b"-1.500");
        for time in [Timestamp::MIN, -1, 0, 1_435_781_451_781, Timestamp::MAX] {
            let (mut text, mut expected) = (Vec::new(), b"[".to_vec());
            TimeText::new(time, &mut Vec::new()).push_to(&mut text);
            push_time(time, &mut expected);
            assert_eq!(text, [&expected[..], b",\""].concat());
        }
    }
}
