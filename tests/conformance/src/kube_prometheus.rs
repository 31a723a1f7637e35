//! The expressions of kube-prometheus' rules and dashboards, and samples that answer them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::Series;
use model::MatchOp;
use promql::{Features, parse};
use regex::{Captures, Regex};
use serde_json::Value;
use yaml::{Kind, Limits, Node};

use crate::data::FIRST;

/// Where an expression stands, and the expression with variables put in.
#[derive(Clone, Debug)]
pub struct Found {
    /// File and place.
    pub place: String,
    /// The expression.
    pub expr: String,
}

/// Milliseconds between samples.
const INTERVAL: i64 = 30_000;
/// Samples of each series.
const SAMPLES: i64 = 20;

/// The time of the last sample.
pub const LAST: i64 = FIRST + (SAMPLES - 1) * INTERVAL;

/// Labels of every series, and the values of dashboard variables of these names.
const COMMON: [(&str, &str); 7] = [
    ("cluster", "c1"),
    ("container", "main"),
    ("instance", "i1"),
    ("job", "j1"),
    ("namespace", "ns1"),
    ("node", "n1"),
    ("pod", "p1"),
];

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let list = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = list.map(|entry| entry.expect("a folder entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All expressions of a kube-prometheus folder with `rules` and `dashboards`.
///
/// # Panics
/// When a file cannot be read.
pub fn expressions(folder: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for path in files(&folder.join("rules"), "yaml") {
        let documents = Node::parse_documents(&read(&path), Limits::default());
        for document in documents.unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
            in_yaml(&document, &mut |expr| found.push(at(&path, expr, expr.to_owned())));
        }
    }
    for path in files(&folder.join("dashboards"), "json") {
        let dashboard = serde_json::from_str(&read(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        in_json(&dashboard, &mut |expr| found.push(at(&path, expr, substitute(expr))));
    }
    found
}

fn at(path: &Path, written: &str, expr: String) -> Found {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Found { place: format!("{file}: {written}"), expr }
}

fn in_yaml(node: &Node, take: &mut dyn FnMut(&str)) {
    match &node.kind {
        Kind::Scalar { .. } | Kind::Binary(_) => {}
        Kind::Sequence(items) => items.iter().for_each(|item| in_yaml(item, take)),
        Kind::Mapping(pairs) => {
            for (key, value) in pairs {
                match value.as_str() {
                    Some(text) if key.as_str() == Some("expr") => take(text),
                    _ => in_yaml(value, take),
                }
            }
        }
    }
}

fn in_json(value: &Value, take: &mut dyn FnMut(&str)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| in_json(item, take)),
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(text) if key == "expr" => take(text),
                    _ => in_json(value, take),
                }
            }
        }
        _ => {}
    }
}

/// Puts values for a dashboard's variables: durations for intervals, else what [`COMMON`] has or a plain word.
pub fn substitute(expr: &str) -> String {
    let variable = Regex::new(r"\$\{(\w+)(?::\w+)?\}|\$([A-Za-z_]\w*)|\[\[(\w+)\]\]").expect("a valid pattern");
    let value = |captures: &Captures<'_>| {
        let name = (1..=3).find_map(|group| captures.get(group)).map_or("", |m| m.as_str());
        match name {
            "__range" => "1h",
            _ if name.contains("interval") || name.contains("resolution") => "5m",
            _ => COMMON.iter().find(|(label, _)| *label == name).map_or("x1", |(_, value)| value),
        }
        .to_owned()
    };
    variable.replace_all(expr, value).into_owned()
}

/// Series that the selectors of the expressions select: for each metric one of each set of label values asked for.
pub fn samples(found: &[Found]) -> Vec<Series> {
    let mut wanted: BTreeMap<String, BTreeSet<BTreeMap<String, String>>> = BTreeMap::new();
    for expr in found.iter().filter_map(|f| parse(&f.expr, &Features::default()).ok()) {
        for selector in expr.selectors() {
            let mut labels: BTreeMap<String, String> =
                COMMON.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            for matcher in &selector.matchers {
                let value = match matcher.op() {
                    MatchOp::Equal => &matcher.value,
                    // the first alternative, if it is a plain word
                    MatchOp::Regex => matcher.value.split('|').next().unwrap_or_default(),
                    MatchOp::NotEqual | MatchOp::NotRegex => continue,
                };
                if value.chars().all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c)) {
                    labels.insert(matcher.name.to_string(), value.to_owned());
                }
            }
            labels.retain(|_, value| !value.is_empty());
            if let Some(name) = labels.remove("__name__") {
                wanted.entry(name).or_default().insert(labels);
            }
        }
    }
    let mut all = Vec::new();
    for (name, sets) in wanted {
        for labels in sets {
            let bounds: &[&str] = if name.ends_with("_bucket") { &["0.1", "1", "+Inf"] } else { &[""] };
            for (at, bound) in bounds.iter().enumerate() {
                let mut labels = labels.clone();
                labels.insert("__name__".to_owned(), name.clone());
                if !bound.is_empty() {
                    labels.insert("le".to_owned(), (*bound).to_owned());
                }
                let value = |sample: i64| (sample * (at as i64 + 1)) as f64 + 1.0;
                all.push(Series {
                    labels: labels.into_iter().collect(),
                    samples: (0..SAMPLES).map(|sample| (FIRST + sample * INTERVAL, value(sample))).collect(),
                    ..Series::default()
                });
            }
        }
    }
    all.dedup_by(|a, b| a.labels == b.labels);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_get_values_and_references_stay() {
        let check = |expr: &str, expected: &str| assert_eq!(substitute(expr), expected);
        check("rate(a{cluster=\"$cluster\"}[$__rate_interval])", "rate(a{cluster=\"c1\"}[5m])");
        check("a{b=~\"${b:regex}\", c=\"[[c]]\"}[$interval]", "a{b=~\"x1\", c=\"x1\"}[5m]");
        check("label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")", "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")");
    }

    #[test]
    fn selectors_get_series() {
        let found = Found { place: String::new(), expr: "a_bucket{b=\"c\", d=~\"e|f\", g=~\".+\"}".to_owned() };
        let series = samples(&[found]);
        assert_eq!(series.len(), 3);
        for pair in [("b", "c"), ("d", "e"), ("le", "0.1"), ("namespace", "ns1")] {
            assert!(series[1].labels.contains(&(pair.0.into(), pair.1.into())) || pair.0 == "le", "{pair:?}");
        }
    }
}
