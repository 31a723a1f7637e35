//! Random expressions give the same answers as the real Prometheus.
//!
//! `FIREWATCH_LONG=1` asks for 20,000 expressions over several data sets instead of a few hundred over one.
//! `FIREWATCH_SEED` and `FIREWATCH_COUNT` choose another seed and number.

use conformance::fuzz::{Report, run};
use conformance::known::Known;
use conformance::pair::Pair;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn random_expressions_give_the_answers_of_prometheus() {
    let long = std::env::var_os("FIREWATCH_LONG").is_some_and(|v| v != "0");
    let first = number("FIREWATCH_SEED").unwrap_or(1);
    let (seeds, count) = if long { (8, 2500) } else { (1, 400) };
    let count = number("FIREWATCH_COUNT").unwrap_or(count);
    let known = Known::load();
    let mut report = Report::default();
    for seed in first..first + seeds {
        let folder = tempfile::tempdir().unwrap();
        let Some(pair) = Pair::start(folder.path()) else { return };
        report.merge(run(&pair, &known, seed, count));
        println!("seed {seed}: {} expressions so far, {} differences", report.expressions, report.differences.len());
    }
    println!("{}", report.coverage);
    println!(
        "{} expressions, {} answers, {:.1} % not empty, {:.1} % refused by both, {} with known differences",
        report.expressions,
        report.answers,
        report.non_empty as f64 * 100.0 / report.expressions as f64,
        report.errors as f64 * 100.0 / report.expressions as f64,
        report.explained,
    );
    for (entry, uses) in known.uses() {
        println!("known difference, used {uses} times: {}", entry.reason);
    }
    for entry in known.unused() {
        println!("unused known difference: {} {} {}", entry.kinds.join(","), entry.expression, entry.reason);
    }
    for difference in &report.differences {
        println!("\n{difference}");
    }
    let gaps = report.language.map(|language| report.coverage.gaps(&language)).unwrap_or_default();
    println!("not used with floats, histograms and mixtures each: {}", gaps.join(", "));
    assert!(report.differences.is_empty(), "{} differences, see above", report.differences.len());
    assert!(report.non_empty * 100 >= report.expressions * 60, "too few expressions have an answer");
    if long {
        assert!(gaps.is_empty(), "something was not exercised, see above");
        assert!(known.unused().is_empty(), "known_differences.tsv has lines that explain nothing, see above");
    }
}
