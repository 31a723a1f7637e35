//! Random expressions that are well-typed and, mostly, have an answer on the data of [`crate::data`].

use promql::{Function, ValueType};

use crate::data::{FIRST, INTERVAL, Kind, METRICS, Metric, STEPS, TARGETS, time};
use crate::random::Random;

/// What the peer knows of the language.
#[derive(Clone, Debug)]
pub struct Language {
    /// Functions.
    pub functions: Vec<&'static Function>,
    /// Aggregations by name.
    pub aggregations: Vec<&'static str>,
}

/// The times at which an expression is asked for, in milliseconds.
#[derive(Clone, Debug)]
pub struct Times {
    /// Instant queries.
    pub instants: Vec<i64>,
    /// Start, end and step of a range query.
    pub range: (i64, i64, i64),
}

/// Generates expressions.
#[derive(Debug)]
pub struct Generator<'a> {
    pub(crate) random: Random,
    pub(crate) language: &'a Language,
    /// No `@` here: in a parameter of an aggregation Prometheus moves its time on with every step, in `timestamp` it makes
    /// Prometheus forget the offset.
    without_at: bool,
}

/// A vector expression with what is known about its answer.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) text: String,
    /// Labels that its series probably have, sorted.
    pub(crate) labels: Vec<String>,
    /// Needs parentheses as an operand.
    pub(crate) loose: bool,
}

impl Vector {
    fn call(text: String, labels: Vec<String>) -> Self {
        Self { text, labels, loose: false }
    }

    pub(crate) fn operand(&self) -> String {
        if self.loose { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// Functions whose operand is meant to be histograms.
const FOR_HISTOGRAMS: [&str; 8] = [
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantile",
    "histogram_quantiles",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
];

/// Functions that take floats and histograms alike.
const FOR_BOTH: [&str; 22] = [
    "absent",
    "absent_over_time",
    "avg_over_time",
    "changes",
    "count_over_time",
    "delta",
    "first_over_time",
    "idelta",
    "increase",
    "info",
    "irate",
    "label_join",
    "label_replace",
    "last_over_time",
    "present_over_time",
    "rate",
    "resets",
    "sort_by_label",
    "sort_by_label_desc",
    "sum_over_time",
    "timestamp",
    "ts_of_last_over_time",
];

impl<'a> Generator<'a> {
    /// The generator of one expression: `number` of `seed`.
    pub fn new(seed: u64, number: u64, language: &'a Language) -> Self {
        Self {
            random: Random::new(seed.wrapping_mul(0x1_0000_01b3) ^ number.wrapping_mul(0x9e37_79b9)),
            language,
            without_at: false,
        }
    }

    /// The next expression.
    pub fn expression(&mut self) -> String {
        match self.random.below(100) {
            0..7 => self.scalar(2),
            7..8 => self.text(&["up", "a \\\"quoted\\\" text", "é", ""]),
            8..11 => self.matrix(1, Kind::Floats, false).text,
            11..13 => self.matrix(1, Kind::Mixture, false).text,
            _ => {
                let depth = 1 + self.random.below(3);
                let kind = self.kind(50, 30);
                self.vector(depth, kind).text
            }
        }
    }

    /// The times to ask for.
    pub fn times(&mut self) -> Times {
        let mut at = |from: i64| time(from) + self.random.below(((STEPS - from) * INTERVAL) as usize) as i64;
        let instants = vec![at(60), at(120), time(STEPS - 1)];
        let start = at(40);
        let step = *self.random.pick(&[15_000, 30_000, 60_000, 37_000, 300_000, 1_500]);
        let count = self.random.below(25) as i64;
        Times { instants, range: (start, start + count * step, step) }
    }

    /// Floats and histograms in so many of 100 cases, else a mixture.
    fn kind(&mut self, floats: usize, histograms: usize) -> Kind {
        match self.random.below(100) {
            n if n < floats => Kind::Floats,
            n if n < floats + histograms => Kind::Histograms,
            _ => Kind::Mixture,
        }
    }

    pub(crate) fn text(&mut self, texts: &[&str]) -> String {
        let text = *self.random.pick(texts);
        if self.random.chance(80) || text.contains(['\\', '\'', '`']) {
            format!("\"{text}\"")
        } else {
            format!("'{text}'")
        }
    }

    pub(crate) fn vector(&mut self, depth: usize, kind: Kind) -> Vector {
        if depth == 0 {
            return self.selector(kind);
        }
        match self.random.below(100) {
            0..6 => self.selector(kind),
            6..48 => self.call(depth, kind),
            48..70 => self.aggregation(depth, kind),
            70..92 => self.binary(depth, kind),
            92..96 => {
                let inner = self.vector(depth - 1, kind);
                Vector::call(format!("({})", inner.text), inner.labels)
            }
            _ => {
                let inner = self.vector(depth - 1, kind);
                let sign = if self.random.chance(75) { '-' } else { '+' };
                Vector { text: format!("{sign}{}", inner.operand()), labels: inner.labels, loose: true }
            }
        }
    }

    fn metric(&mut self, kind: Kind) -> Metric {
        let suited: Vec<&Metric> = METRICS.iter().filter(|m| m.kind == kind).collect();
        **self.random.pick(&suited)
    }

    /// Name and matchers, and the labels of what they select.
    fn series(&mut self, kind: Kind) -> (String, Vec<String>) {
        let metric = self.metric(kind);
        let mut labels: Vec<String> = metric.labels.iter().map(|l| (*l).to_owned()).collect();
        let mut name = metric.name;
        let mut matchers = Vec::new();
        match self.random.below(30) {
            0 => matchers.push(format!("__name__=\"{}\"", std::mem::take(&mut name))),
            1 => matchers.push(format!("\"{}\"", std::mem::take(&mut name))),
            2 => {
                labels = vec!["instance".into(), "job".into()];
                let names = match kind {
                    Kind::Floats => ["latency_seconds_(sum|count)", "temperature|capacity"],
                    Kind::Histograms => ["(duration|custom)_seconds", "sizes_bytes|balance"],
                    Kind::Mixture => ["mixed|temperature", "switch.*|dur.*"],
                };
                name = "";
                let names = *self.random.pick(&names);
                matchers.push(format!("__name__=~\"{names}\""));
            }
            _ => {}
        }
        for _ in 0..[0, 0, 0, 1, 1, 2][self.random.below(6)] {
            let target = *self.random.pick(&TARGETS);
            let instance = target.1;
            let matcher = match self.random.below(14) {
                0..4 => format!("job=\"{}\"", target.0),
                4 => format!("job!=\"{}\"", target.0),
                5 => format!("instance=\"{instance}\""),
                6..8 => format!("instance!=\"{instance}\""),
                8 => format!("instance=~\"i[1-3]|{instance}\""),
                9 => "instance=~\".+\"".to_owned(),
                10 => format!("instance!~\"{instance}|x.*\""),
                11 => "job=~\"a.*|web\"".to_owned(),
                12 => "nothing=\"\"".to_owned(),
                _ if labels.iter().any(|l| l == "le") => "le=~\".*\"".to_owned(),
                _ => "job!~\"w.b\"".to_owned(),
            };
            matchers.push(matcher);
        }
        let text = if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", matchers.join(", ")) };
        (text, labels)
    }

    pub(crate) fn selector(&mut self, kind: Kind) -> Vector {
        let (text, labels) = self.series(kind);
        let shift = self.shift();
        Vector::call(text + &shift, labels)
    }

    /// `offset` and `@`, mostly neither.
    fn shift(&mut self) -> String {
        let mut parts = Vec::new();
        if self.random.chance(10) {
            let offset = match self.random.below(8) {
                0 => "-1m".to_owned(),
                1 => "-7m".to_owned(),
                2 => "(1m + 30s)".to_owned(),
                3 => "90".to_owned(),
                _ => self.duration(),
            };
            parts.push(format!(" offset {offset}"));
        }
        if self.random.chance(8) && !self.without_at {
            let at = match self.random.below(4) {
                0 => "start()".to_owned(),
                1 => "end()".to_owned(),
                _ => {
                    let millis = FIRST + 900_000 + self.random.below(4_500_000) as i64;
                    if self.random.chance(50) {
                        (millis / 1000).to_string()
                    } else {
                        format!("{}.{:03}", millis / 1000, millis % 1000)
                    }
                }
            };
            parts.push(format!(" @ {at}"));
        }
        if self.random.chance(50) {
            parts.reverse();
        }
        parts.concat()
    }

    fn duration(&mut self) -> String {
        let durations = ["30s", "1m", "90s", "2m", "5m", "5m", "7m30s", "10m", "10m", "15m", "20m", "1m1ms", "300"];
        (*self.random.pick(&durations)).to_owned()
    }

    /// A range vector; `counters` asks for ranges that hold several samples.
    pub(crate) fn matrix(&mut self, depth: usize, kind: Kind, subquery: bool) -> Vector {
        let range = match self.random.below(40) {
            0 => "2m + 3m".to_owned(),
            1 => "(2 ^ 2) * 1m".to_owned(),
            _ => self.duration(),
        };
        if depth > 0 && (subquery || self.random.chance(22)) {
            let inner = self.vector(depth - 1, kind);
            let step = *self.random.pick(&["", "", "1m", "30s", "15s", "2m", "37s", "10s"]);
            let shift = self.shift();
            return Vector::call(format!("{}[{range}:{step}]{shift}", inner.operand()), inner.labels);
        }
        let (text, labels) = self.series(kind);
        let shift = self.shift();
        Vector::call(format!("{text}[{range}]{shift}"), labels)
    }

    pub(crate) fn number(&mut self) -> String {
        const NUMBERS: [&str; 20] = [
            "0", "1", "2", "3", "5", "10", "0.5", "0.1", "64", "100", "-1", "1e3", "0x1f", "1_000", "5m", "Inf",
            "-Inf", "NaN", "1.5e-3", "7.25",
        ];
        (*self.random.pick(&NUMBERS)).to_owned()
    }

    pub(crate) fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.random.below(12) {
            0..4 => self.number(),
            4 => "time()".to_owned(),
            5 => "pi()".to_owned(),
            6..8 => {
                let inner = self.aggregation(depth - 1, Kind::Floats);
                format!("scalar({})", inner.text)
            }
            8 => {
                let inner = self.vector(depth - 1, Kind::Floats);
                format!("scalar({})", inner.text)
            }
            9 => {
                let inner = self.scalar(depth - 1);
                format!("-({inner})")
            }
            10 => {
                let (a, b) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let op = *self.random.pick(&["==", "!=", "<", ">", "<=", ">="]);
                format!("({a} {op} bool {b})")
            }
            _ => {
                let (a, b) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let op = *self.random.pick(&["+", "-", "*", "/", "%", "^", "atan2"]);
                format!("({a} {op} {b})")
            }
        }
    }

    /// The kind that an operand of `function` should have: mostly one that it is meant for.
    fn kind_for(&mut self, function: &str, wanted: Kind) -> Kind {
        if FOR_BOTH.contains(&function) {
            if self.random.chance(60) { wanted } else { self.kind(40, 35) }
        } else if FOR_HISTOGRAMS.contains(&function) {
            self.kind(8, 74)
        } else {
            self.kind(72, 13)
        }
    }

    fn call(&mut self, depth: usize, wanted: Kind) -> Vector {
        let functions = &self.language.functions;
        let function = loop {
            let function = functions[self.random.below(functions.len())];
            // functions of one float to another are many and alike
            let elementary = function.arg_types == [ValueType::Vector] && function.name.len() < 6;
            if function.return_type == ValueType::Vector && !(elementary && self.random.chance(60)) {
                break function;
            }
        };
        let name = function.name;
        let kind = self.kind_for(name, wanted);
        match name {
            "vector" => {
                let scalar = self.scalar(depth - 1);
                return Vector::call(format!("vector({scalar})"), vec![]);
            }
            "label_replace" => return self.label_replace(depth, kind),
            "label_join" => return self.label_join(depth, kind),
            "sort_by_label" | "sort_by_label_desc" => {
                let inner = self.vector(depth - 1, kind);
                let by = self.text(&["instance", "job", "version", "code"]);
                return Vector::call(format!("{name}({}, {by})", inner.text), inner.labels);
            }
            "info" => {
                let inner = self.selector(kind);
                let labels = *self.random.pick(&[
                    "",
                    ", {region=~\".+\"}",
                    ", {__name__=\"build_info\"}",
                    ", {version=\"2.0\"}",
                ]);
                return Vector::call(format!("info({}{labels})", inner.text), inner.labels);
            }
            "histogram_quantile" | "histogram_fraction" if self.random.chance(35) => return self.classic(name, depth),
            _ => {}
        }
        self.without_at |= name == "timestamp";
        let mut labels = Vec::new();
        let mut arguments = Vec::new();
        let optional = matches!(function.arity, promql::Arity::Optional(_));
        let count =
            if optional && self.random.chance(25) { function.arg_types.len() - 1 } else { function.arg_types.len() };
        for (at, argument) in function.arg_types[..count].iter().enumerate() {
            let text = match argument {
                ValueType::Vector => {
                    let inner = self.vector(depth - 1, kind);
                    labels = inner.labels;
                    inner.text
                }
                ValueType::Matrix => {
                    let inner = self.matrix(depth - 1, kind, false);
                    labels = inner.labels;
                    inner.text
                }
                ValueType::Scalar => self.parameter(name, at),
                ValueType::String => self.text(&["q", "quantile"]),
            };
            arguments.push(text);
        }
        if name == "timestamp" {
            self.without_at = false;
        }
        if name.starts_with("absent") {
            labels.clear();
        }
        if name.starts_with("histogram_quantile") || name == "histogram_fraction" {
            labels.retain(|l| l != "le");
        }
        Vector::call(format!("{name}({})", arguments.join(", ")), labels)
    }

    /// A scalar that makes sense as this argument, sometimes one that does not.
    fn parameter(&mut self, function: &str, at: usize) -> String {
        if self.random.chance(10) {
            return self.scalar(1);
        }
        let choices: &[&str] = match function {
            "quantile_over_time" | "histogram_quantile" | "histogram_quantiles" | "quantile" => {
                &["0.5", "0.9", "0.99", "0", "1", "0.25", "-1", "1.5", "NaN"]
            }
            "histogram_fraction" => [&["0", "-Inf", "0.1", "-1", "0.5"], &["1", "Inf", "2", "10", "0.75"]][at.min(1)],
            "double_exponential_smoothing" => &["0.1", "0.5", "0.9", "0.3", "2"],
            "predict_linear" => &["60", "3600", "-300", "5m", "0"],
            "round" => &["0.1", "5", "1", "0.25", "-3", "0"],
            "clamp" => [&["-5", "0", "10"], &["20", "100", "-10"]][at.saturating_sub(1).min(1)],
            _ => &["0", "10", "50", "-3"],
        };
        (*self.random.pick(choices)).to_owned()
    }

    /// A function over classic histograms, sometimes together with native ones.
    fn classic(&mut self, name: &str, depth: usize) -> Vector {
        let metric = *self.random.pick(&[
            "latency_seconds_bucket",
            "latency_seconds_bucket",
            "odd_bucket",
            "{__name__=~\"latency_seconds_bucket|mixed\"}",
        ]);
        let range = self.duration();
        let (buckets, labels): (String, &[&str]) = match self.random.below(4) {
            0 => (metric.to_owned(), &["instance", "job"]),
            1 => (format!("rate({metric}[{range}])"), &["instance", "job"]),
            2 => (format!("sum by (le) (increase({metric}[{range}]))"), &[]),
            _ => (format!("sum by (job, le) (rate({metric}[{range}]))"), &["job"]),
        };
        let parameters: Vec<_> = match name {
            "histogram_fraction" => vec![self.parameter(name, 0), self.parameter(name, 1)],
            _ if depth > 1 && self.random.chance(20) => vec![self.scalar(1)],
            _ => vec![self.parameter(name, 0)],
        };
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        Vector::call(format!("{name}({}, {buckets})", parameters.join(", ")), labels)
    }

    fn label_replace(&mut self, depth: usize, kind: Kind) -> Vector {
        let mut inner = self.vector(depth - 1, kind);
        let target = *self.random.pick(&["zone", "zone", "host", "job", "instance", "__name__"]);
        let replacement = self.text(&["$1", "x-${1}", "fixed", "", "$name"]);
        let source = self.text(&["instance", "job", "missing", "instance"]);
        let regex = self.text(&["(.*)", "i(.)", "(?P<name>.).*", "nothing", ""]);
        let text = format!("label_replace({}, \"{target}\", {replacement}, {source}, {regex})", inner.text);
        if ["zone", "host"].contains(&target) && !inner.labels.iter().any(|l| l == target) {
            inner.labels.push(target.to_owned());
            inner.labels.sort();
        }
        Vector::call(text, inner.labels)
    }

    fn label_join(&mut self, depth: usize, kind: Kind) -> Vector {
        let mut inner = self.vector(depth - 1, kind);
        let separator = self.text(&["-", "", ", "]);
        let sources = *self.random.pick(&["", ", \"job\"", ", \"job\", \"instance\"", ", \"missing\", \"instance\""]);
        let text = format!("label_join({}, \"all\", {separator}{sources})", inner.text);
        if !inner.labels.iter().any(|l| l == "all") {
            inner.labels.push("all".into());
            inner.labels.sort();
        }
        Vector::call(text, inner.labels)
    }

    pub(crate) fn aggregation(&mut self, depth: usize, wanted: Kind) -> Vector {
        let op = *self.random.pick(&self.language.aggregations);
        let kind =
            match op {
                // the text of a histogram shows empty buckets that chunks have gained, and fails for odd custom buckets
                "count_values" if depth > 1 => Kind::Floats,
                "sum" | "avg" | "count" | "group" | "limitk" | "limit_ratio" | "count_values" => {
                    if self.random.chance(55) { wanted } else { self.kind(40, 40) }
                }
                _ => self.kind(80, 5),
            };
        let inner = self.vector(depth.saturating_sub(1), kind);
        let parameter = match op {
            "topk" | "bottomk" | "limitk" => format!(
                "{}, ",
                self.random.pick(&["1", "2", "3", "5", "0", "2.7", "scalar(capacity{instance='i1'}) / 32"])
            ),
            "quantile" => {
                self.without_at = true;
                let parameter = self.parameter("quantile", 0);
                self.without_at = false;
                format!("{parameter}, ")
            }
            "count_values" => format!("{}, ", self.text(&["value", "version", "instance"])),
            "limit_ratio" => format!("{}, ", self.random.pick(&["0.5", "-0.5", "0.2", "1", "-1", "0.9", "2"])),
            _ => String::new(),
        };
        let chosen: Vec<String> = inner.labels.iter().filter(|_| self.random.chance(55)).cloned().collect();
        let keeps = ["topk", "bottomk", "limitk", "limit_ratio"].contains(&op);
        let list = chosen.join(", ");
        let (grouping, mut labels) = match self.random.below(10) {
            0..5 => (format!("by ({list})"), chosen),
            5 => (format!("by ({list}{}missing)", if list.is_empty() { "" } else { ", " }), chosen),
            6 | 7 => {
                (format!("without ({list})"), inner.labels.iter().filter(|l| !chosen.contains(l)).cloned().collect())
            }
            _ => (String::new(), vec![]),
        };
        if keeps {
            labels.clone_from(&inner.labels);
        }
        let arguments = format!("({parameter}{})", inner.text);
        let text = match grouping.as_str() {
            "" => format!("{op}{arguments}"),
            _ if self.random.chance(70) => format!("{op} {grouping} {arguments}"),
            _ => format!("{op}{arguments} {grouping}"),
        };
        Vector::call(text, labels)
    }
}

#[cfg(test)]
mod tests {
    use promql::{FUNCTIONS, Features, parse};

    use super::*;

    pub(crate) fn everything() -> Language {
        let aggregations = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk"];
        let more = ["quantile", "count_values", "limitk", "limit_ratio"];
        Language { functions: FUNCTIONS.iter().collect(), aggregations: [&aggregations[..], &more].concat() }
    }

    #[test]
    fn expressions_are_well_typed_and_the_same_for_a_seed() {
        let language = everything();
        for number in 0..5000 {
            let text = Generator::new(1, number, &language).expression();
            assert_eq!(text, Generator::new(1, number, &language).expression());
            if let Err(error) = parse(&text, &Features::all()) {
                panic!("{text}: {error:?}");
            }
        }
    }
}
