//! The expressions of kube-prometheus parse, format, and evaluate as in the real Prometheus.

use std::path::Path;

use conformance::compare::{Rules, compare};
use conformance::known::Known;
use conformance::kube_prometheus::{Found, LAST, expressions, samples};
use conformance::pair::{Pair, Query, ask_one, start_ours};
use harness::send;
use promql::{Features, parse};

/// The expressions, if they are at hand.
fn found() -> Option<Vec<Found>> {
    let Some(folder) = std::env::var_os("FIREWATCH_CONFORMANCE") else {
        println!("skipped: FIREWATCH_CONFORMANCE is not set");
        return None;
    };
    let found = expressions(&Path::new(&folder).join("kube-prometheus"));
    println!("{} expressions", found.len());
    assert!(found.len() > 500, "only {} expressions", found.len());
    Some(found)
}

#[test]
fn expressions_parse_and_format_to_a_fixed_point() {
    for Found { place, expr } in found().unwrap_or_default() {
        let read = |text: &str| parse(text, &Features::default()).unwrap_or_else(|e| panic!("{place}\n{text}\n{e:?}"));
        let formatted = read(&expr).to_string();
        assert_eq!(read(&formatted).to_string(), formatted, "{place}");
    }
}

#[test]
fn expressions_evaluate_without_error() {
    let Some(found) = found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (base, _daemon) = start_ours(folder.path());
    for part in samples(&found).chunks(500) {
        let answer = send(&base, part);
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    let mut answered = 0;
    for Found { place, expr } in &found {
        for query in [Query::Instant(LAST), Query::Range(LAST - 300_000, LAST, 60_000)] {
            let answer = ask_one(&base, expr, query);
            assert_eq!(answer["status"], "success", "{place}\n{answer}");
            answered += usize::from(answer["data"]["result"].as_array().is_some_and(|list| !list.is_empty()));
        }
    }
    println!("{answered} of {} answers are not empty", found.len() * 2);
    assert!(answered > found.len(), "only {answered} answers");
}

#[test]
fn expressions_format_and_evaluate_as_in_prometheus() {
    let Some(found) = found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = Pair::start(folder.path()) else { return };
    for part in samples(&found).chunks(500) {
        for base in [&pair.ours, &pair.theirs] {
            let answer = send(base, part);
            assert_eq!(answer.status, 204, "{}", answer.body);
        }
    }
    let known = Known::load();
    let rules = Rules { tolerance: 1e-12, unordered_pairs: true, ..Rules::default() };
    for Found { place, expr } in &found {
        let (ours, theirs) = pair.format(expr);
        assert_eq!(ours, theirs, "{place}");
        for query in [Query::Instant(LAST), Query::Range(LAST - 300_000, LAST, 60_000)] {
            let (ours, theirs) = pair.ask(expr, query);
            let mut differences = compare(&ours, &theirs, rules);
            differences.retain(|difference| !known.explains(expr, difference));
            assert!(differences.is_empty(), "{place}\n{differences:#?}");
        }
    }
}
