//! PromQL: what parses is written as text that parses to the same, in one line and in many.

use promql::ast::Expr;
use promql::{Features, parse};
use serde_json::Value;

use crate::{Target, kind_of, no_seeds};

pub(crate) const TARGET: Target = Target {
    name: "promql",
    run,
    words: &[
        "sum",
        "by (",
        "without (",
        "rate(",
        "[5m]",
        "[1h:5m]",
        " offset ",
        " offset -5m",
        " @ ",
        "start()",
        "end()",
        " == bool ",
        " and ",
        " or ",
        " unless ",
        " on (",
        " ignoring (",
        " group_left (",
        " group_right () ",
        "{",
        "}",
        "=~\".*\"",
        "!=\"\"",
        "1e3",
        "0x1f",
        "NaN",
        "Inf",
        "1h30m",
        "\"",
        "'",
        "`",
        "\\x41",
        "\\u00e9",
        "#",
        "^",
        "%",
        "-",
        "(",
        ")",
        "topk(",
        "quantile(",
        "histogram_quantile(",
        "label_replace(",
        "absent(",
        "{\"a.b\"}",
        "anchored",
        "smoothed",
        ">/",
        "</",
        "limitk(",
        "__name__",
    ],
    seeds: no_seeds,
};

fn run(input: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let mut kinds = 1;
    for features in [Features::default(), Features::all()] {
        match parse(text, &features) {
            Ok(expr) => {
                let line = expr.to_string();
                let again = parse(&line, &features).unwrap_or_else(|e| panic!("{text:?} is written as {line:?}: {e}"));
                assert_eq!(again.to_string(), line, "of {text:?}");
                assert_eq!(tree(&again), tree(&expr), "{text:?} is written as {line:?}");
                let pretty = expr.prettify();
                let again =
                    parse(&pretty, &features).unwrap_or_else(|e| panic!("{text:?} is laid out as {pretty:?}: {e}"));
                assert_eq!(tree(&again), tree(&expr), "{text:?} is laid out as {pretty:?}");
                kinds = kinds * 31 + line.bytes().filter(|b| b"({[@=".contains(b)).count() as u64;
            }
            Err(error) => kinds = kinds * 31 + kind_of(&error.to_string()),
        }
    }
    kinds
}

/// The tree without the order of matchers, which are written sorted.
fn tree(expr: &Expr) -> Value {
    let mut tree = expr.to_json();
    sort_matchers(&mut tree);
    tree
}

fn sort_matchers(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(sort_matchers),
        Value::Object(fields) => {
            if let Some(Value::Array(matchers)) = fields.get_mut("matchers") {
                matchers.sort_by_key(Value::to_string);
            }
            fields.values_mut().for_each(sort_matchers);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
