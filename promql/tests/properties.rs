//! Properties over generated expressions and arbitrary text.

use promql::testing::MemoryStorage;
use promql::{Engine, EngineOptions, Features, QueryOptions, parse};
use proptest::prelude::*;

/// Infinity is not among them: its text `+Inf` in front of `^` is read as a sign before the power, as upstream.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|v| format!("{v:e}")),
        (0u32..100_000).prop_map(|v| v.to_string()),
        Just("0x1f".to_owned()),
        Just("NaN".to_owned()),
        Just("1h30m".to_owned()),
    ]
}

fn duration() -> impl Strategy<Value = String> {
    prop_oneof![Just("5m"), Just("1h2s"), Just("300"), Just("step() * 2"), Just("max(1m, step())"), Just("(1m + 30s)")]
        .prop_map(str::to_owned)
}

fn matchers() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("{a=\"b\"}".to_owned()),
        Just("{a!=\"\",c=~\"x|y.*\"}".to_owned()),
        Just("{\"l x\"!~\"\\\\d+\"}".to_owned()),
        "[ -~]{0,8}".prop_map(|text| format!("{{v={text:?}}}")),
    ]
}

fn modifiers() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        1 => duration().prop_map(|d| format!(" offset ({d})")),
        1 => Just(" offset -5m".to_owned()),
        1 => Just(" @ start()".to_owned()),
        1 => Just(" @ 1234.5 offset 1m".to_owned()),
        1 => Just(" @ end()".to_owned()),
    ]
}

fn vector() -> impl Strategy<Value = String> {
    let selector = || ("(foo|bar_total|job:rate5m|by|sum|offset|nan_x)", matchers(), modifiers());
    let leaf = prop_oneof![
        selector().prop_map(|(name, matchers, modifiers)| format!("{name}{matchers}{modifiers}")),
        Just("{\"utf.8 name\",a=\"b\"}".to_owned()),
        Just("vector(Inf)".to_owned()),
        number().prop_map(|n| format!("vector({n})")),
        (selector(), duration())
            .prop_map(|((name, matchers, modifiers), d)| format!("rate({name}{matchers}[{d}]{modifiers})")),
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        let operator = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("^"),
            Just("atan2"),
            Just("=="),
            Just("!= bool"),
            Just("> on (a) group_left (c)"),
            Just("<= ignoring (x)"),
            Just("+ on () group_right ()"),
            Just("</"),
            Just("and"),
            Just("or on (a)"),
            Just("unless ignoring (a, b)"),
            Just("+ fill (0)"),
            Just("* on (a) fill_left (1)"),
            Just("- fill_left (2) fill_right (3)"),
        ];
        let set = prop_oneof![
            Just("sum"),
            Just("avg by (a)"),
            Just("count without (a, b)"),
            Just("topk by (a)"),
            Just("quantile"),
            Just("limitk"),
            Just("count_values"),
            Just("stddev by (\"l x\")"),
        ];
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), number()).prop_map(|(a, b)| format!("{a} * {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            (set, inner.clone()).prop_map(|(op, a)| {
                let name = op.split(' ').next().unwrap();
                match name {
                    "topk" | "limitk" => format!("{op} (3, {a})"),
                    "quantile" => format!("{op} (0.5, {a})"),
                    "count_values" => format!("{op} (\"v\", {a})"),
                    _ => format!("{op} ({a})"),
                }
            }),
            (inner.clone(), duration()).prop_map(|(a, d)| format!("max_over_time(({a})[{d}:])")),
            (inner.clone(), duration(), modifiers()).prop_map(|(a, d, m)| format!("last_over_time(({a})[{d}:1m]{m})")),
            inner.clone().prop_map(|a| format!("label_replace({a}, \"x\", \"$1\", \"a\", \"(.*)\")")),
            inner.prop_map(|a| format!("histogram_quantile(0.9, {a})")),
        ]
    })
}

/// The JSON form has everything but positions. NaN is never equal to itself, but its text is.
fn meaning(text: &str) -> String {
    parse(text, &Features::all()).unwrap_or_else(|e| panic!("{text}: {e}")).to_json().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// The text of an expression is read as the same expression, and stays as it is.
    #[test]
    fn formatting_keeps_the_meaning(query in vector()) {
        let Ok(expr) = parse(&query, &Features::all()) else {
            // such as a set operator with fill
            return Ok(());
        };
        let text = expr.to_string();
        prop_assert_eq!(meaning(&text), meaning(&query), "{}", text);
        prop_assert_eq!(parse(&text, &Features::all()).unwrap().to_string(), text.clone());
        let pretty = expr.prettify();
        prop_assert_eq!(meaning(&pretty), meaning(&query), "{}", pretty);
    }

    /// Positions lie within the text, on character boundaries, and those of a child within its parent's.
    #[test]
    fn positions_nest(query in vector()) {
        let Ok(expr) = parse(&query, &Features::all()) else { return Ok(()) };
        expr.visit(&mut |e| {
            let (start, end) = (e.pos().start as usize, e.pos().end as usize);
            assert!(start <= end && end <= query.len(), "{query}: {start} {end}");
            assert!(query.get(start..end).is_some(), "{query}: {start} {end}");
        });
        prop_assert_eq!(expr.pos().start, 0);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        if let Err(error) = parse(&text, &Features::all()) {
            prop_assert!(error.to_string().contains("parse error: "));
        }
    }

    /// Random sequences of pieces of the language get further into the parser than random characters.
    #[test]
    fn any_pieces_are_read_or_refused(pieces in proptest::collection::vec(prop_oneof![
        Just("foo"), Just("sum"), Just("by"), Just("("), Just(")"), Just("{"), Just("}"), Just("["), Just("]"), Just(":"),
        Just("5m"), Just("1"), Just("+"), Just("-"), Just("=="), Just("=~"), Just("="), Just("\"a\""), Just(","), Just("@"),
        Just("offset"), Just("start"), Just("bool"), Just("on"), Just("group_left"), Just("rate"), Just("step"), Just("fill"),
        Just("and"), Just("anchored"), Just("\n"), Just("#"), Just("é"), Just("topk"), Just("</"), Just("max"), Just("range"),
    ], 0..14)) {
        let text = pieces.join(" ");
        match parse(&text, &Features::all()) {
            Ok(expr) => {
                let shown = expr.to_string();
                prop_assert_eq!(parse(&shown, &Features::all()).map(|e| e.to_string()).ok(), Some(shown.clone()), "{}", text);
            }
            Err(error) => prop_assert!(error.to_string().contains("parse error: "), "{}", error),
        }
    }

    /// Nothing that can be parsed panics when evaluated, and a range query's points are those of instant queries.
    #[test]
    fn range_and_instant_agree(query in vector()) {
        let mut storage = MemoryStorage::new();
        for (name, step) in [("foo", 10_000i64), ("bar_total", 15_000), ("sum", 30_000)] {
            for a in ["b", "c"] {
                let labels = model::Labels::from_pairs([("__name__", name), ("a", a), ("c", "x")]);
                for i in 0..80 {
                    let value = if i % 17 == 0 { f64::NAN } else { (i * i % 23) as f64 };
                    storage.add_float(&labels, i * step, value, 0);
                }
            }
        }
        let engine = Engine::new(EngineOptions { features: Features::all(), ..EngineOptions::default() });
        let Ok(expr) = engine.parse(&query) else { return Ok(()) };
        // these depend on the bounds of the query, and limitk on the order of the series only
        let text = expr.to_string();
        if text.contains("start()") || text.contains("end()") || text.contains("step()") { return Ok(()) }
        let options = QueryOptions::default();
        let (start, end, step) = (300_000, 700_000, 50_000);
        let Ok(range) = engine.range(&storage, &query, (start, end, step), &options) else { return Ok(()) };
        let promql::Value::Matrix(series) = range.value else { panic!("a range query gives a matrix") };
        for timestamp in (start..=end).step_by(step as usize) {
            let instant = engine.instant(&storage, &query, timestamp, &options);
            let Ok(instant) = instant else { panic!("{text}: fails at {timestamp} only alone: {instant:?}") };
            let promql::Value::Vector(samples) = instant.value else { panic!("{text}") };
            let mut alone: Vec<String> = samples
                .iter()
                .map(|s| match &s.value {
                    promql::result::SampleValue::Float(v) => format!("{} {v:?}", s.labels),
                    promql::result::SampleValue::Histogram(h) => format!("{} {h}", s.labels),
                })
                .collect();
            let mut within: Vec<String> = series
                .iter()
                .flat_map(|s| s.floats.iter().filter(|(t, _)| *t == timestamp).map(|(_, v)| format!("{} {v:?}", s.labels)))
                .collect();
            alone.sort();
            within.sort();
            prop_assert_eq!(alone, within, "{} at {}", text, timestamp);
        }
    }
}
