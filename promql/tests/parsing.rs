//! Error texts and positions of the parser, its limits, and what the optional parts of the language need.

use promql::{Features, MAX_QUERY_BYTES, parse, parse_metric_selector};

fn error(query: &str, features: Features) -> String {
    match parse(query, &features) {
        Ok(expr) => panic!("{query:?} is understood as {expr}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn texts_and_positions() {
    let check = |query: &str, want: &str| assert_eq!(error(query, Features::default()), want, "{query}");
    check("sum(", "1:5: parse error: unclosed left parenthesis");
    check("foo{", "1:5: parse error: unexpected end of input inside braces");
    check("foo{a=1}", "1:7: parse error: unexpected character inside braces: '1'");
    check("foo[5m", "1:7: parse error: unclosed left bracket");
    check("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
    check("1 + \"a\"", "1:5: parse error: binary expression must contain only scalar and instant vector types");
    check("foo and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    check("foo{} bar", "1:7: parse error: unexpected identifier \"bar\"");
    check(
        "topk(foo)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    check("foo[5m] [1h]", "1:9: parse error: ranges only allowed for vector selectors");
    check("\"abc", "1:1: parse error: unterminated quoted string");
    check("nosuch(1)", "1:1: parse error: unknown function with name \"nosuch\"");
    check("1 == 2", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    check("foo{a=\"b\",}[0s]", "1:13: parse error: duration must be greater than 0");
    check(
        "-\"a\"",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    );
    check("foo offset 5m offset 6m", "1:1: parse error: offset may not be set multiple times");
    check("foo and on(a) group_left bar", "1:1: parse error: no grouping allowed for \"and\" operation");
    check("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check("{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check("clamp(foo)", "1:1: parse error: expected 3 argument(s) in call to \"clamp\", got 1");
    check("'\\q'", "1:1: parse error: unknown escape sequence U+0071 'q'");
    check("1 2", "1:3: parse error: unexpected number \"2\"");
    check("#only", "1:1: parse error: no expression found in input");
    check("", "unknown position: parse error: no expression found in input");
    check(
        "foo + on(a) group_left(a) bar",
        "1:5: parse error: label \"a\" must not occur in ON and GROUP clause at once",
    );
    check("5mm", "1:1: parse error: bad number or duration syntax: \"5mm\"");
    check(
        "time() offset 5m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or \
         a subquery",
    );
}

#[test]
fn lines_are_counted() {
    let error = error("foo +\n\n  bar{x=1}", Features::default());
    assert_eq!(error, "3:9: parse error: unexpected character inside braces: '1'");
}

#[test]
fn optional_parts_need_their_feature() {
    for query in [
        "limitk(2, foo)",
        "limit_ratio(0.5, foo)",
        "mad_over_time(foo[5m])",
        "sort_by_label(foo, \"a\")",
        "info(foo)",
        "foo anchored",
        "rate(foo[5m] smoothed)",
        "foo + fill(0) bar",
        "foo + fill_left(0) fill_right(1) bar",
    ] {
        assert!(parse(query, &Features::default()).is_err(), "{query} without the feature");
        let with = parse(query, &Features::all());
        assert!(with.is_ok() || query == "foo anchored", "{query}: {:?}", with.err());
    }
}

#[test]
fn selectors_alone() {
    let matchers = parse_metric_selector("foo{a=\"b\",c!~\"d\"}").unwrap();
    assert_eq!(matchers.len(), 3);
    assert!(parse_metric_selector("foo + bar").is_err());
    assert!(parse_metric_selector("foo[5m]").is_err());
}

/// Inputs made to exhaust the stack or the memory.
#[test]
fn depth_and_size_are_limited() {
    let deep = 200_000;
    for query in [
        "(".repeat(deep) + "1" + &")".repeat(deep),
        "-".repeat(deep) + "1",
        "abs(".repeat(deep) + "a" + &")".repeat(deep),
        "sum ".repeat(deep) + "(a)",
        "a".to_owned() + &"[5m:]".repeat(deep / 2),
        "1".to_owned() + &" ^ 1".repeat(deep),
        "1".to_owned() + &" + 1".repeat(deep),
        "a[".to_owned() + &"(".repeat(deep) + "5m" + &")".repeat(deep) + "]",
        "(".repeat(deep),
        "a[".repeat(deep),
        "{".repeat(deep),
        "x".repeat(MAX_QUERY_BYTES + 1),
    ] {
        let error = error(&query, Features::all());
        assert!(error.len() < 2000, "{} bytes of error text", error.len());
    }
}

#[test]
fn long_flat_expressions_are_fine() {
    let sum = "a".to_owned() + &" + a".repeat(1000);
    assert_eq!(parse(&sum, &Features::default()).unwrap().to_string(), sum);
    let many = format!("sum(a{{b=~\"{}\"}})", "c|".repeat(20_000));
    assert!(parse(&many, &Features::default()).is_ok());
}
