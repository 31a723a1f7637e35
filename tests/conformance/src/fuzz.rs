//! The loop: generate, ask both, compare, shrink, count.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use model::MatchOp;
use promql::ast::{Aggregate, AggregateOp, Expr};
use promql::{Features, parse};
use serde_json::Value;

use crate::compare::{Choice, Difference, Ordered, Rules, compare};
use crate::coverage::Coverage;
use crate::data;
use crate::generate::{Generator, Language};
use crate::known::Known;
use crate::pair::{Pair, Query};
use crate::shrink::shrink;

/// What a run has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Expressions asked.
    pub expressions: usize,
    /// Those with an answer that is not empty, at one of the times at least.
    pub non_empty: usize,
    /// Those that both servers refuse at all times, with the same text.
    pub errors: usize,
    /// Answers compared.
    pub answers: usize,
    /// Expressions with differences that the table explains.
    pub explained: usize,
    /// Unexplained differences, as they are to be printed.
    pub differences: Vec<String>,
    /// What was exercised.
    pub coverage: Coverage,
    /// What could be exercised, once known.
    pub language: Option<Language>,
}

impl Report {
    /// Takes in the report of another run.
    pub fn merge(&mut self, other: Self) {
        self.expressions += other.expressions;
        self.non_empty += other.non_empty;
        self.errors += other.errors;
        self.answers += other.answers;
        self.explained += other.explained;
        self.differences.extend(other.differences);
        self.coverage.merge(other.coverage);
        self.language = self.language.take().or(other.language);
    }
}

/// Differences after which a run stops: more would not help anyone.
const MAX_DIFFERENCES: usize = 40;

/// How the answers to an expression are to be compared.
fn rules(expr: &Expr, query: Query) -> Rules {
    let range = matches!(query, Query::Range(..));
    let (mut tolerance, mut subquery, mut unordered_choice) = (0.0f64, false, false);
    expr.visit(&mut |part| subquery |= matches!(part, Expr::Subquery(_)));
    expr.visit(&mut |part| {
        if let Expr::Aggregate(a) = part {
            use AggregateOp::{Count, CountValues, Group, Max, Min, Stddev, Stdvar};
            let allowed: f64 = match a.op {
                Min | Max | Count | Group | CountValues => 0.0,
                // the last digits that differ are those of the values, whose spread may be much smaller
                Stddev | Stdvar if range || subquery => 1e-9,
                _ => 1e-12,
            };
            tolerance = allowed.max(tolerance);
            unordered_choice |= is_choice(a) && !is_ordered(&a.expr, range || subquery);
            // the last digits of a sum become part of a label
            let mut sums = false;
            a.expr.visit(&mut |part| sums |= matches!(part, Expr::Aggregate(_)));
            unordered_choice |= a.op == CountValues && sums && (range || subquery);
        }
    });
    let (mut ordered, mut choice) = (Ordered::No, if unordered_choice { Choice::Nothing } else { Choice::All });
    match expr.unparen() {
        Expr::Call(call) if !range => match call.function.name {
            "sort" | "sort_desc" => ordered = Ordered::ByValue,
            "sort_by_label" | "sort_by_label_desc" => ordered = Ordered::Entirely,
            _ => {}
        },
        Expr::Aggregate(a) if is_choice(a) => {
            let mut inner = false;
            a.expr.visit(&mut |part| inner |= matches!(part, Expr::Aggregate(a) if is_choice(a)));
            if unordered_choice && !inner {
                choice = if a.op == AggregateOp::Limitk { Choice::Number } else { Choice::Values };
            }
            // groups follow one another in no defined order
            if !range && a.op != AggregateOp::Limitk && a.grouping.is_empty() && !a.without {
                ordered = Ordered::ByValue;
            }
        }
        _ => {}
    }
    Rules { tolerance, ordered, choice, unordered_pairs: range || subquery, histograms: reads_histograms(expr) }
}

/// Whether a selector of the expression may find histograms.
fn reads_histograms(expr: &Expr) -> bool {
    let floats_only = |name: &str| data::METRICS.iter().any(|m| m.name == name && m.kind == data::Kind::Floats);
    expr.selectors().iter().any(|selector| {
        let mut names = selector.matchers.iter().filter(|m| &*m.name == "__name__" && m.op() == MatchOp::Equal);
        !names.any(|m| floats_only(&m.value))
    })
}

/// Whether this takes some of several series, by their order where samples are equal.
fn is_choice(aggregate: &Aggregate) -> bool {
    matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk)
}

/// Whether Prometheus' series come in a defined order. `count_values`, and over several steps every function and operator,
/// gather them in a map.
fn is_ordered(expr: &Expr, steps: bool) -> bool {
    let mut ordered = true;
    expr.visit(&mut |part| {
        ordered &= match part {
            Expr::Aggregate(a) => {
                !(steps || is_choice(a) || matches!(a.op, AggregateOp::CountValues | AggregateOp::LimitRatio))
            }
            // equal values are sorted in any order, classic histograms are gathered in a map
            Expr::Call(call) if call.function.name.starts_with("sort") => false,
            Expr::Call(call) if ["histogram_quantile", "histogram_fraction"].contains(&call.function.name) => false,
            Expr::Call(call) => !steps || call.args.iter().any(|a| matches!(a.unparen(), Expr::Matrix(_))),
            Expr::Binary(_) => !steps,
            _ => true,
        }
    });
    ordered
}

/// The differences that the table does not explain, and whether there were explained ones.
fn unexplained(pair: &Pair, known: &Known, text: &str, query: Query) -> (Vec<Difference>, bool, Value, Value) {
    let (ours, theirs) = pair.ask(text, query);
    let rules = parse(text, &Features::all()).map_or_else(|_| Rules::default(), |expr| rules(&expr, query));
    let (explained, rest): (Vec<_>, Vec<_>) =
        compare(&ours, &theirs, rules).into_iter().partition(|difference| known.explains(text, difference));
    (rest, !explained.is_empty(), ours, theirs)
}

fn is_empty(answer: &Value) -> bool {
    answer["data"]["result"].as_array().is_none_or(Vec::is_empty)
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 1500 { text.chars().take(1500).collect::<String>() + "..." } else { text }
}

/// Asks for expression `number` of `seed` and compares.
fn one(pair: &Pair, known: &Known, language: &Language, seed: u64, number: u64) -> Report {
    let mut generator = Generator::new(seed, number, language);
    let text = generator.expression();
    let times = generator.times();
    let mut report = Report { expressions: 1, ..Report::default() };
    match parse(&text, &Features::all()) {
        Ok(expr) => report.coverage.add(&expr),
        Err(error) => {
            report.differences.push(format!("seed {seed}, expression {number}: {text}\ndoes not parse: {error:?}"));
            return report;
        }
    }
    let (start, end, step) = times.range;
    let queries = times.instants.iter().map(|t| Query::Instant(*t)).chain([Query::Range(start, end, step)]);
    let (mut answered, mut failed) = (false, true);
    for query in queries {
        let (rest, explained, ours, theirs) = unexplained(pair, known, &text, query);
        report.answers += 1;
        answered |= theirs["status"] == "success" && !is_empty(&theirs);
        failed &= theirs["status"] != "success";
        report.explained = report.explained.max(usize::from(explained));
        let Some(first) = rest.first() else { continue };
        // first to what the table does not explain, then to the root of it, which the table may explain
        let small = shrink(&text, |t| !unexplained(pair, known, t, query).0.is_empty());
        let root = shrink(&small, |t| {
            let (rest, explained, ..) = unexplained(pair, known, t, query);
            explained || !rest.is_empty()
        });
        if unexplained(pair, known, &root, query).0.is_empty() {
            report.explained = 1;
            continue;
        }
        let (found, _, small_ours, small_theirs) = unexplained(pair, known, &small, query);
        let shown = found.first().unwrap_or(first);
        report.differences.push(format!(
            "seed {seed}, expression {number}, {query:?}: {text}\n  smallest: {small}\n  {}: {}\n  ours:   {}\n  theirs: {}",
            shown.what.as_str(),
            shown.detail,
            shorten(if found.is_empty() { &ours } else { &small_ours }),
            shorten(if found.is_empty() { &theirs } else { &small_theirs }),
        ));
        break;
    }
    report.non_empty = usize::from(answered);
    report.errors = usize::from(failed);
    report
}

/// Loads the data of `seed` and asks for `count` expressions, on two threads.
pub fn run(pair: &Pair, known: &Known, seed: u64, count: u64) -> Report {
    pair.load(&data::generate(seed));
    let language = pair.language();
    let (next, total) = (AtomicU64::new(0), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let report = one(pair, known, &language, seed, number);
                    let mut total = total.lock().expect("the other thread has not panicked");
                    total.merge(report);
                    if total.differences.len() >= MAX_DIFFERENCES {
                        return;
                    }
                }
            });
        }
    });
    let total = total.into_inner().expect("no thread has panicked");
    Report { language: Some(language), ..total }
}
