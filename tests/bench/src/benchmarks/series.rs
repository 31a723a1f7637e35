//! `series`: a million series in the head of a store: instant queries over all of them, and what finds a few among them.

use std::time::{Duration, Instant};

use crate::answers;
use crate::benchmark::{BenchError, Benchmark, Found, Settings};
use crate::datasets::{self, Million};
use crate::history;
use crate::report::{Column, Report, Row, Unit};
use crate::store::{RunningStore, STORES, StoreKind};
use harness::client::Connection;
use harness::encode;

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "series", about: "A million series in the head: instant queries and searches of labels.", run };

const COLUMNS: [Column; 6] = [
    Column { key: "median_seconds", title: "median", unit: Unit::Milliseconds, compared: true },
    Column { key: "first_seconds", title: "first", unit: Unit::Milliseconds, compared: true },
    Column { key: "cpu_seconds", title: "CPU", unit: Unit::Milliseconds, compared: true },
    Column { key: "rss_peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
    Column { key: "answer_bytes", title: "answer", unit: Unit::Count, compared: false },
    Column { key: "different_answers", title: "different", unit: Unit::Count, compared: false },
];

/// Runs of each question after the first.
const RUNS: usize = 7;

/// Longest time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// Relative difference of values that is none: sums over series have no defined order.
const TOLERANCE: f64 = 1e-12;

/// A question by its name, and its path without times.
struct Question {
    name: &'static str,
    path: String,
    /// Whether answers of others are to be the same: those of `status/tsdb` are about the program.
    same: bool,
}

fn questions() -> Vec<Question> {
    let query = |name, expr: &str| Question { name, path: format!("query?query={}&", encode(expr)), same: true };
    let labels = |name, path: &str| Question { name, path: format!("{path}&"), same: true };
    let matching = |selector: &str| format!("match[]={}", encode(selector));
    vec![
        query("count", "count({job=\"load\"})"),
        query("sum", "sum({job=\"load\"})"),
        query("sum by zone", "sum by (zone) ({job=\"load\"})"),
        query("count by name", "count by (__name__) ({job=\"load\"})"),
        query("max by instance", "max by (instance) ({job=\"load\"})"),
        query("sum of rates", "sum by (zone) (rate({job=\"load\"}[1m]))"),
        query("topk", "topk(5, {job=\"load\"})"),
        query("comparison", "count({job=\"load\"} < 0)"),
        query("a metric", "count(load_metric_07_total)"),
        query("regex with prefix", "count({pod=~\"pod-0012.*\"})"),
        query("regex with suffix", "count({pod=~\".*-01277\"})"),
        query("alternation", "count({pod=~\"pod-00017|pod-00023|pod-09999\"})"),
        labels("series of a pair", &format!("series?{}", matching("{pod=\"pod-00017\"}"))),
        labels("label names", "labels?"),
        labels("label names, matching", &format!("labels?{}", matching("{zone=\"zone-3\"}"))),
        labels("label values", "label/pod/values?"),
        labels("label values, prefix", &format!("label/pod/values?{}", matching("{pod=~\"pod-012.*\"}"))),
        labels("label values, contains", &format!("label/pod/values?{}", matching("{pod=~\".*123.*\"}"))),
        labels("label values, of a metric", &format!("label/pod/values?{}", matching("load_metric_07_total"))),
        labels("label values, of a zone", &format!("label/instance/values?{}", matching("{zone=\"zone-3\"}"))),
        Question { name: "cardinality", path: "status/tsdb?limit=10&".to_owned(), same: false },
    ]
}

/// What a program answered to a question.
struct Asked {
    found: Found,
    body: Vec<u8>,
    times: Vec<f64>,
    first: f64,
    cpu: f64,
    peak: f64,
}

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let mut report = Report::new("series", settings.quick, &COLUMNS);
    report.by_group = true;
    let plan = Million::new(settings);
    report.work = plan.about();
    let contestants = settings.enlist(&STORES[..2], &mut report)?;
    let now = datasets::now()?;
    let questions = questions();
    let mut asked: Vec<Vec<Asked>> = questions.iter().map(|_| Vec::new()).collect();
    for found in &contestants {
        eprintln!("{} {}: {}", found.name, found.version, report.work);
        if let Err(error) = measure(settings, plan, found, now, &questions, &mut asked) {
            report.problems.push(error.to_string());
        }
    }
    for (question, mut asked) in questions.iter().zip(asked) {
        let reference = asked.iter().find(|a| a.found.name == "prometheus").map(|a| a.body.clone());
        for asked in &mut asked {
            let other = reference.as_ref().filter(|_| question.same && asked.found.name != "prometheus");
            let difference = other.and_then(|other| answers::difference(&asked.body, other, TOLERANCE));
            if let Some(reason) = &difference {
                report.problems.push(format!("{}: not Prometheus' answer: {reason}", question.name));
            }
            asked.times.sort_by(f64::total_cmp);
            let figure = |value: f64| Some(value).filter(|_| difference.is_none());
            report.rows.push(Row {
                values: vec![
                    asked.times.get(asked.times.len() / 2).copied().and_then(figure),
                    figure(asked.first),
                    figure(asked.cpu),
                    figure(asked.peak),
                    Some(asked.body.len() as f64),
                    reference.as_ref().map(|_| f64::from(u8::from(difference.is_some()))),
                ],
                ..asked.found.row(question.name, Vec::new())
            });
        }
    }
    Ok(report)
}

fn measure(
    settings: &Settings,
    plan: Million,
    found: &Found,
    now: i64,
    questions: &[Question],
    answers: &mut [Vec<Asked>],
) -> Result<(), BenchError> {
    let folder = settings.data_folder()?;
    let mut store = RunningStore::start(found, folder.path(), &[])?;
    let window = plan.window(now);
    let sent = history::send(plan.batches(window), store.address, Million::INTERVAL)?;
    let taken = StoreKind::of(found).samples(&store.metrics()?);
    if taken < sent.samples as f64 {
        return Err(store.running.failure(&format!("it took {taken} samples of {}", sent.samples)));
    }
    store.wait_idle()?;
    let seconds = |millis: i64| format!("{}.{:03}", millis / 1000, millis % 1000);
    let last = window.end - Million::INTERVAL;
    let times = format!("time={}&start={}&end={}", seconds(last), seconds(window.start), seconds(window.end));
    let mut connection = Connection::open(store.address, ANSWER_LIMIT).map_err(|e| BenchError::io(found.name, e))?;
    for (question, answers) in questions.iter().zip(answers) {
        let path = format!("/api/v1/{}{times}", question.path);
        let mut ask = || {
            let began = Instant::now();
            let answer = connection.get(&path, &[]).map_err(|e| store.running.failure(&format!("{path}: {e}")))?;
            if answer.status != 200 {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(store.running.failure(&format!("{path}: {}: {text}", answer.status)));
            }
            Ok((began.elapsed().as_secs_f64(), answer.body))
        };
        let (first, body) = ask()?;
        let before = store.running.processor_time()?;
        let times = (0..RUNS).map(|_| Ok(ask()?.0)).collect::<Result<Vec<f64>, BenchError>>()?;
        let cpu = store.running.processor_time()?.saturating_sub(before).as_secs_f64() / RUNS as f64;
        let peak = store.running.memory()?.peak as f64;
        answers.push(Asked { found: found.clone(), body, times, first, cpu, peak });
    }
    store.running.stop()
}
