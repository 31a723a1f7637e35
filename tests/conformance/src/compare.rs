//! Comparison of two answers of the HTTP API.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// In what two answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// One failed or they failed in different ways.
    Error,
    /// The type of the result.
    Type,
    /// The label sets.
    Series,
    /// The order, where a function defines it.
    Order,
    /// Times, floats or histograms.
    Values,
    /// Warnings.
    Warnings,
    /// Infos.
    Infos,
    /// Samples read, at each step.
    Read,
    /// The most samples held at a time.
    Held,
}

impl What {
    /// As the table of known differences writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Type => "type",
            Self::Series => "series",
            Self::Order => "order",
            Self::Values => "values",
            Self::Warnings => "warnings",
            Self::Infos => "infos",
            Self::Read => "read",
            Self::Held => "held",
        }
    }
}

/// A difference between two answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In what.
    pub what: What,
    /// `ours: ... theirs: ...`; for warnings and infos the text that only one of them has.
    pub detail: String,
}

/// How strictly to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Relative difference of floats that counts as none, where the order of additions is not defined.
    pub tolerance: f64,
    /// The order of an instant vector counts.
    pub ordered: Ordered,
    /// What of the series is defined.
    pub choice: Choice,
    /// The series are worked on in no defined order, so which of several pairs tells why it has no result is not either.
    pub unordered_pairs: bool,
    /// Histograms are read. Prometheus stores those of a chunk with the buckets of all of them, so their size is not defined; and
    /// when the window of a range function moves on, it lets go of the histograms it keeps instead of those it drops, so what it
    /// holds means nothing.
    pub histograms: bool,
}

/// What of the order of an instant vector is defined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordered {
    /// Nothing.
    #[default]
    No,
    /// The values: series of one value may change places.
    ByValue,
    /// The series.
    Entirely,
}

/// What is defined of the answer of an aggregation that chooses some of several equal samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Everything.
    #[default]
    All,
    /// How many samples of each value there are at each time.
    Values,
    /// How many samples there are at each time.
    Number,
    /// Nothing: only success, type and annotations count.
    Nothing,
}

/// The most annotations of a level that an answer holds.
const MAX_ANNOTATIONS: usize = 10;

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(700);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn both(ours: &dyn ToString, theirs: &dyn ToString) -> String {
    format!("ours: {} theirs: {}", shorten(&ours.to_string()), shorten(&theirs.to_string()))
}

/// All differences of two answers.
pub fn compare(ours: &Value, theirs: &Value, rules: Rules) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut push = |what, detail| found.push(Difference { what, detail });
    let fault = |answer: &Value| match answer["status"].as_str() {
        Some("success") => "success".to_owned(),
        _ => format!("{}: {}", answer["errorType"].as_str().unwrap_or("?"), answer["error"].as_str().unwrap_or("?")),
    };
    if fault(ours) != fault(theirs) {
        push(What::Error, both(&fault(ours), &fault(theirs)));
        return found;
    }
    for (what, key) in [(What::Warnings, "warnings"), (What::Infos, "infos")] {
        let texts = |answer: &Value| -> BTreeSet<String> {
            answer[key].as_array().into_iter().flatten().filter_map(|t| t.as_str().map(ToOwned::to_owned)).collect()
        };
        let (mut a, mut b) = (texts(ours), texts(theirs));
        if rules.unordered_pairs {
            let of_a_pair = |text: &String| text.contains("for binary operator");
            if a.iter().any(of_a_pair) && b.iter().any(of_a_pair) {
                a.retain(|text| !of_a_pair(text));
                b.retain(|text| !of_a_pair(text));
            }
        }
        // which ones are left out of a long list is not defined
        if a.len() >= MAX_ANNOTATIONS && b.len() >= MAX_ANNOTATIONS {
            continue;
        }
        a.difference(&b).for_each(|text| push(what, format!("only ours: {text}")));
        b.difference(&a).for_each(|text| push(what, format!("only theirs: {text}")));
    }
    let (ours, theirs) = (&ours["data"], &theirs["data"]);
    let counted = [
        (What::Read, "totalQueryableSamplesPerStep"),
        (What::Read, "totalQueryableSamples"),
        (What::Held, "peakSamples"),
    ];
    for (what, key) in counted {
        let (ours, theirs) = (&ours["stats"]["samples"][key], &theirs["stats"]["samples"][key]);
        let same = match (ours.as_f64(), theirs.as_f64()) {
            (Some(a), Some(b)) if rules.histograms && what == What::Read => (a - b).abs() <= 0.35 * a.max(b),
            _ => ours == theirs || rules.histograms,
        };
        if !same {
            push(what, format!("{key} {}", both(ours, theirs)));
        }
    }
    if ours["resultType"] != theirs["resultType"] {
        push(What::Type, both(&ours["resultType"], &theirs["resultType"]));
        return found;
    }
    match theirs["resultType"].as_str() {
        _ if rules.choice == Choice::Nothing => {}
        _ if rules.choice != Choice::All => {
            let (a, b) = (ranks(&ours["result"], rules.choice), ranks(&theirs["result"], rules.choice));
            if a != b {
                push(What::Values, both(&format!("{a:?}"), &format!("{b:?}")));
            }
        }
        Some("vector" | "matrix") => found.extend(compare_series(&ours["result"], &theirs["result"], rules)),
        Some("scalar") => {
            if !same_point(&ours["result"], &theirs["result"], rules) {
                push(What::Values, both(&ours["result"], &theirs["result"]));
            }
        }
        _ => {
            if ours["result"] != theirs["result"] {
                push(What::Values, both(&ours["result"], &theirs["result"]));
            }
        }
    }
    found
}

type Name = BTreeMap<String, String>;

fn name_of(series: &Value) -> Name {
    let pairs = series["metric"].as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn compare_series(ours: &Value, theirs: &Value, rules: Rules) -> Vec<Difference> {
    let list = |result: &Value| -> Vec<(Name, Value)> {
        result.as_array().into_iter().flatten().map(|series| (name_of(series), series.clone())).collect()
    };
    let (mut ours, mut theirs) = (list(ours), list(theirs));
    let names = |list: &[(Name, Value)]| list.iter().map(|s| s.0.clone()).collect::<Vec<_>>();
    let (in_order, expected) = (names(&ours), names(&theirs));
    let values = |list: &[(Name, Value)]| list.iter().map(|s| s.1["value"][1].clone()).collect::<Vec<_>>();
    let value_order = values(&ours) == values(&theirs);
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    theirs.sort_by(|a, b| a.0.cmp(&b.0));
    if names(&ours) != names(&theirs) {
        let detail = both(&format!("{:?}", names(&ours)), &format!("{:?}", names(&theirs)));
        return vec![Difference { what: What::Series, detail }];
    }
    let mut found = Vec::new();
    for (a, b) in ours.iter().zip(&theirs) {
        if let Some(detail) = differing_points(&a.1, &b.1, rules) {
            found.push(Difference { what: What::Values, detail: format!("{:?} {detail}", a.0) });
            break;
        }
    }
    let disordered = match rules.ordered {
        Ordered::No => false,
        Ordered::ByValue => !value_order,
        Ordered::Entirely => in_order != expected,
    };
    if disordered && found.is_empty() {
        let detail = both(&format!("{in_order:?}"), &format!("{expected:?}"));
        found.push(Difference { what: What::Order, detail });
    }
    found
}

/// The samples of each time, without their series: sorted values, or as many nothings.
fn ranks(result: &Value, choice: Choice) -> BTreeMap<String, Vec<String>> {
    let mut ranks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for series in result.as_array().into_iter().flatten() {
        for points in ["value", "histogram", "values", "histograms"].iter().filter_map(|key| series.get(*key)) {
            let list = if points[0].is_array() {
                points.as_array().cloned().unwrap_or_default()
            } else {
                vec![points.clone()]
            };
            for point in list {
                let value = if choice == Choice::Values { point[1].to_string() } else { String::new() };
                ranks.entry(point[0].as_f64().unwrap_or_default().to_string()).or_default().push(value);
            }
        }
    }
    ranks.values_mut().for_each(|values| values.sort());
    ranks
}

/// The first point in which two series differ.
fn differing_points(a: &Value, b: &Value, rules: Rules) -> Option<String> {
    for (one, many) in [("value", "values"), ("histogram", "histograms")] {
        let points = |series: &Value| -> Vec<Value> {
            let single = series.get(one).into_iter().cloned();
            single.chain(series[many].as_array().into_iter().flatten().cloned()).collect()
        };
        let (a, b) = (points(a), points(b));
        if a.len() != b.len() {
            let times = |points: &[Value]| points.iter().map(|p| p[0].to_string()).collect::<Vec<_>>().join(" ");
            return Some(format!("{one}: {} and {} points, {}", a.len(), b.len(), both(&times(&a), &times(&b))));
        }
        if let Some((a, b)) = a.iter().zip(&b).find(|(a, b)| !same_point(a, b, rules)) {
            return Some(both(a, b));
        }
    }
    None
}

fn same_point(a: &Value, b: &Value, rules: Rules) -> bool {
    // times are numbers with or without a fraction
    a[0].as_f64() == b[0].as_f64() && same_value(&a[1], &b[1], rules)
}

fn same_value(a: &Value, b: &Value, rules: Rules) -> bool {
    match (a, b) {
        (Value::String(x), Value::String(y)) => {
            x == y
                || match (x.parse::<f64>(), y.parse::<f64>()) {
                    (Ok(x), Ok(y)) => (x - y).abs() <= rules.tolerance * x.abs().max(y.abs()),
                    _ => false,
                }
        }
        (Value::Array(x), Value::Array(y)) => {
            // Prometheus' chunks gain empty buckets where a later histogram of the chunk has some. That shows only when
            // something makes NaN of nothing.
            let full =
                |buckets: &[Value]| -> Vec<Value> { buckets.iter().filter(|b| b[3] != "NaN").cloned().collect() };
            let (x, y) = (full(x), full(y));
            x.len() == y.len() && x.iter().zip(&y).all(|(x, y)| same_value(x, y, rules))
        }
        (Value::Object(x), Value::Object(y)) => ["count", "sum", "buckets"].iter().all(|key| {
            let none = Value::Array(Vec::new());
            same_value(x.get(*key).unwrap_or(&none), y.get(*key).unwrap_or(&none), rules)
        }),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(result: &Value) -> Value {
        json!({"status": "success", "data": {"resultType": "vector", "result": result}})
    }

    fn check(a: &Value, b: &Value, rules: Rules, expected: &[What]) {
        let found: Vec<_> = compare(a, b, rules).into_iter().map(|d| d.what).collect();
        assert_eq!(found, expected, "{a}\n{b}");
    }

    #[test]
    fn differences_are_found_and_named() {
        let strict = Rules::default();
        let loose = Rules { tolerance: 1e-12, ..Rules::default() };
        let one = |value: &str| answer(&json!([{"metric": {"a": "b"}, "value": [1, value]}]));
        check(&one("1"), &one("1"), strict, &[]);
        check(&one("NaN"), &one("NaN"), strict, &[]);
        check(&one("1"), &one("2"), strict, &[What::Values]);
        check(&one("0.30000000000000004"), &one("0.3"), strict, &[What::Values]);
        check(&one("0.30000000000000004"), &one("0.3"), loose, &[]);
        check(&one("1"), &answer(&json!([])), strict, &[What::Series]);
        let other_time = answer(&json!([{"metric": {"a": "b"}, "value": [1.5, "1"]}]));
        check(&one("1"), &other_time, strict, &[What::Values]);
        let histogram = answer(&json!([{"metric": {"a": "b"}, "histogram": [1, {"count": "1", "sum": "1"}]}]));
        check(&one("1"), &histogram, strict, &[What::Values]);
        check(&histogram, &histogram, strict, &[]);
        let fault = json!({"status": "error", "errorType": "execution", "error": "no"});
        check(&one("1"), &fault, strict, &[What::Error]);
        let mut warned = one("1");
        warned["warnings"] = json!(["PromQL warning: w"]);
        check(&one("1"), &warned, strict, &[What::Warnings]);
    }

    #[test]
    fn choices_among_equals_are_compared_by_rank() {
        let list = |pairs: &[(&str, &str)]| {
            answer(&pairs.iter().map(|(n, v)| json!({"metric": {"a": n}, "value": [1, v]})).collect())
        };
        let rules = |choice| Rules { choice, ..Rules::default() };
        let (a, b, c) =
            (list(&[("x", "1"), ("y", "2")]), list(&[("y", "1"), ("z", "2")]), list(&[("y", "1"), ("z", "3")]));
        check(&a, &b, rules(Choice::All), &[What::Series]);
        check(&a, &b, rules(Choice::Values), &[]);
        check(&a, &c, rules(Choice::Values), &[What::Values]);
        check(&a, &c, rules(Choice::Number), &[]);
        check(&a, &list(&[("x", "1")]), rules(Choice::Number), &[What::Values]);
        check(&a, &list(&[]), rules(Choice::Nothing), &[]);
    }

    #[test]
    fn order_counts_only_where_it_is_defined() {
        let list = |names: [&str; 2], values: [&str; 2]| {
            answer(&json!([
                {"metric": {"a": names[0]}, "value": [1, values[0]]},
                {"metric": {"a": names[1]}, "value": [1, values[1]]},
            ]))
        };
        let rules = |ordered| Rules { ordered, ..Rules::default() };
        let (up, down) = (list(["x", "y"], ["1", "2"]), list(["y", "x"], ["2", "1"]));
        check(&up, &down, rules(Ordered::No), &[]);
        check(&up, &down, rules(Ordered::ByValue), &[What::Order]);
        let (up, down) = (list(["x", "y"], ["1", "1"]), list(["y", "x"], ["1", "1"]));
        check(&up, &down, rules(Ordered::ByValue), &[]);
        check(&up, &down, rules(Ordered::Entirely), &[What::Order]);
    }
}
