//! Query results as JSON, written straight from the result columns.

use std::sync::Arc;

use model::{FloatHistogram, Labels, Timestamp};
use promql::result::{MatrixSeries, SampleValue, VectorSample};
use promql::{Extent, PlanNode, QueryResult, Value};
use serde_json::json;

use super::json_text::{NumberText, TimeText, push_number, push_text, push_text_bytes, push_time, push_value};
use crate::query_log::{QueryTimings, stats_json};

/// About so many bytes of JSON are made at a time: little in the beginning, as most answers are short and take little memory then.
const FIRST_PARTS: usize = 64 << 10;
const LATER_PARTS: usize = 256 << 10;

/// Parts of the first size.
const FIRST: usize = 16;

/// Parts that are made by who sends them: those of the first size, but for the two that are there from the start.
pub(super) const IN_TURN: usize = FIRST - 2;

/// The answer to a query, made part by part as it is sent: the result is not held twice, and nothing is made for a client that has
/// gone away. There is nothing that could go wrong on the way.
pub(super) struct Answer {
    result: QueryResult,
    /// The statistics and the plan, if they were asked for.
    about: [(&'static str, Option<String>); 2],
    next: Place,
    /// Parts that have been made.
    parts: usize,
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
        Self {
            result,
            about: [("stats", stats), ("explain", plan)],
            next: Place::Start,
            parts: 0,
            times: Times::default(),
        }
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

    /// An item, or what makes a part of so many bytes.
    fn item(&mut self, at: usize, point: usize, part: usize, out: &mut Vec<u8>) -> Place {
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
                push_points(series, point, part, times, out)
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
        let part = if self.parts < FIRST { FIRST_PARTS } else { LATER_PARTS };
        self.parts += 1;
        let mut out = Vec::with_capacity(if self.next == Place::Start { 4096 } else { part + part / 4 });
        while out.len() < part && self.next != Place::Nowhere {
            self.next = match self.next {
                Place::Start => self.start(&mut out),
                Place::Item(at, point) => self.item(at, point, part, &mut out),
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

/// The points of a series from one on, at least one, as many as make a part of so many bytes. Gives the next one if there are more.
fn push_points(series: &MatrixSeries, from: usize, part: usize, times: &mut Times, out: &mut Vec<u8>) -> Option<usize> {
    let MatrixSeries { floats, histograms, .. } = series;
    times.are_of(&floats.timestamps);
    let mut number = NumberText::default();
    for point in from..floats.len() {
        if point > from && out.len() >= part {
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
        if point > first && out.len() >= part {
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

pub(super) fn separate(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

pub(super) fn push_list<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut push: impl FnMut(T, &mut Vec<u8>),
) {
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

pub(super) fn push_labels(labels: &Labels, out: &mut Vec<u8>) {
    push_pairs(labels.iter_bytes(), out, push_text_bytes);
}

pub(super) fn push_pairs<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
    push: impl Fn(&[u8], &mut Vec<u8>),
) {
    out.push(b'{');
    for (at, (name, value)) in pairs.enumerate() {
        separate(at, out);
        push(name, out);
        out.push(b':');
        push(value, out);
    }
    out.push(b'}');
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
            push_list(sets, &mut out, push_labels);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(encode(&sets), serde_json::to_string(&sets).unwrap());
        assert_eq!(encode(&[]), "[]");
    }

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
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() < 2 * FIRST_PARTS), "{}", parts.len());
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
}
