//! The one-line form, the pretty form and the JSON form of expressions.

use promql::{Features, parse};

fn check(query: &str, want: &str) {
    let expr = parse(query, &Features::all()).unwrap_or_else(|e| panic!("{query}: {e}"));
    let text = expr.to_string();
    assert_eq!(text, want, "{query}");
    let again = parse(&text, &Features::all()).unwrap_or_else(|e| panic!("{text}: {e}")).to_string();
    assert_eq!(again, text, "not a fixed point");
    let pretty = expr.prettify();
    let from_pretty = parse(&pretty, &Features::all()).unwrap_or_else(|e| panic!("{pretty}: {e}"));
    assert_eq!(from_pretty.to_string(), text, "the pretty form means something else");
    assert_eq!(from_pretty.prettify(), pretty, "the pretty form is not a fixed point");
}

#[test]
fn one_line() {
    check(
        "sum by (a,b) (rate(foo{x=\"1\"}[5m] offset 1h @ 10)) + on(a) group_left(c) bar",
        "sum by (a, b) (rate(foo{x=\"1\"}[5m] @ 10.000 offset 1h)) + on (a) group_left (c) bar",
    );
    check("sum(foo)by(a,)", "sum by (a) (foo)");
    check("foo and on() bar unless ignoring(x) baz or q", "foo and on () bar unless ignoring (x) baz or q");
    check(
        "topk without(a)(2+1, {\"my.metric\",'l x'=~\"y\"})",
        "topk without (a) (2 + 1, {\"l x\"=~\"y\",__name__=\"my.metric\"})",
    );
    check("a == bool 1e3", "a == bool 1000");
    check("x[1h:5m] offset -3m @ start()", "x[1h:5m] @ start() offset -3m");
    check("max_over_time(rate(foo[5m])[1h:] @ end())", "max_over_time(rate(foo[5m])[1h:] @ end())");
    check("0x1F + 1_000 + .5 + 1h30m + Inf + NaN", "31 + 1000 + 0.5 + 1h30m + +Inf + NaN");
    check("'a\\nb\"c'", "\"a\\nb\\\"c\"");
    check("`a\\n`", "\"a\\\\n\"");
    check("((((foo))))", "((((foo))))");
    check("foo{a!~\"b|c\",d!=\"e\"}", "foo{a!~\"b|c\",d!=\"e\"}");
    check("count_values(\"x\", (foo))", "count_values(\"x\", (foo))");
    check("rate(foo[5m]smoothed)", "rate(foo[5m] smoothed)");
    check("foo[step()+1m]", "foo[step() + 1m]");
    check("foo offset (1m*2)", "foo offset (1m * 2)");
    check("limit_ratio(-0.1,foo)", "limit_ratio(-0.1, foo)");
}

/// Each pair: an expression, and the same with all parentheses its precedence implies.
#[test]
fn precedence_and_associativity() {
    let same = |query: &str, grouped: &str| {
        let strip = |text: &str| {
            let json = parse(text, &Features::all()).unwrap().to_json();
            unwrap_parentheses(json)
        };
        assert_eq!(strip(query), strip(grouped), "{query} is not {grouped}");
    };
    same("a + b * c", "a + (b * c)");
    same("a * b + c", "(a * b) + c");
    same("a - b - c", "(a - b) - c");
    same("a ^ b ^ c", "a ^ (b ^ c)");
    same("-a ^ b", "-(a ^ b)");
    same("-a * b", "(-a) * b");
    same("a ^ -b", "a ^ (-b)");
    same("a % b atan2 c", "(a % b) atan2 c");
    same("a + b > c", "(a + b) > c");
    same("a > b and c", "(a > b) and c");
    same("a or b and c", "a or (b and c)");
    same("a and b unless c", "(a and b) unless c");
    same("a or b or c", "(a or b) or c");
    same("a == b != c", "(a == b) != c");
    same("sum(a) by (x) + b", "(sum by (x) (a)) + b");
    let differ = parse("a - (b - c)", &Features::all()).unwrap().to_json();
    let flat = parse("a - b - c", &Features::all()).unwrap().to_json();
    assert_ne!(unwrap_parentheses(differ), unwrap_parentheses(flat));
}

fn unwrap_parentheses(json: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match json {
        Value::Object(mut fields) if fields.get("type") == Some(&Value::from("parenExpr")) => {
            unwrap_parentheses(fields.remove("expr").unwrap())
        }
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, unwrap_parentheses(v))).collect(),
        Value::Array(items) => items.into_iter().map(unwrap_parentheses).collect(),
        other => other,
    }
}

#[test]
fn pretty() {
    let check = |query: &str, want: &str| assert_eq!(parse(query, &Features::all()).unwrap().prettify(), want);
    check("foo", "foo");
    check(
        "sum by (job, instance) (rate(some_quite_long_metric_name_total{job=\"api\", instance=~\"host.*\"}[5m])) / 2",
        "  sum by (job, instance) (rate(some_quite_long_metric_name_total{instance=~\"host.*\",job=\"api\"}[5m]))\n/\n  2",
    );
    check(
        "histogram_quantile(0.99, sum by (le, cluster) (rate(requests_bucket{verb=~\"LIST|GET\", job=\"apiserver\"}[5m]) + \
         rate(others_bucket{verb=~\"LIST|GET\"}[5m])))",
        "histogram_quantile(\n  0.99,\n  sum by (le, cluster) (\n      rate(requests_bucket{job=\"apiserver\",verb=~\"LIST|GET\"}[5m])\n    \
         +\n      rate(others_bucket{verb=~\"LIST|GET\"}[5m])\n  )\n)",
    );
}

#[test]
fn json() {
    let check = |query: &str, want: &str| {
        let want: serde_json::Value = serde_json::from_str(want).unwrap();
        assert_eq!(strip_new(parse(query, &Features::default()).unwrap().to_json()), want, "{query}");
    };
    check(
        "rate(foo{x=\"1\"}[5m] offset 1m)",
        r#"{"args":[{"matchers":[{"name":"x","type":"=","value":"1"},{"name":"__name__","type":"=","value":"foo"}],
        "name":"foo","offset":60000,"range":300000,"startOrEnd":null,"timestamp":null,"type":"matrixSelector"}],
        "func":{"argTypes":["matrix"],"name":"rate","returnType":"vector","variadic":0},"type":"call"}"#,
    );
    check(
        "count_values(\"y\",(z @ 5))",
        r#"{"expr":{"expr":{"matchers":[{"name":"__name__","type":"=","value":"z"}],"name":"z","offset":0,
        "startOrEnd":null,"timestamp":5000,"type":"vectorSelector"},"type":"parenExpr"},"grouping":[],
        "op":"count_values","param":{"type":"stringLiteral","val":"y"},"type":"aggregation","without":false}"#,
    );
    check(
        "1 > bool -2",
        r#"{"bool":true,"lhs":{"type":"numberLiteral","val":"1"},"matching":null,"op":">",
        "rhs":{"type":"numberLiteral","val":"-2"},"type":"binaryExpr"}"#,
    );
}

/// Fields newer servers add to selectors.
fn strip_new(json: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match json {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(k, _)| k != "anchored" && k != "smoothed")
            .map(|(k, v)| (k, strip_new(v)))
            .collect(),
        Value::Array(items) => items.into_iter().map(strip_new).collect(),
        other => other,
    }
}
