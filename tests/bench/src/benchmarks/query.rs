//! `query`: how long questions take on the stores that `disk` filled, and on others with many series.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::answers;
use crate::benchmark::{BenchError, Benchmark, Found, Maker, Settings};
use crate::datasets::{Which, Window};
use crate::filled;
use crate::queries::{self, Query};
use crate::report::{Column, Report, Row, Unit};
use crate::store::{RunningStore, STORES, StoreKind, forget_files};
use harness::client::Connection;

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "query", about: "Time and processor time of queries, with equal answers.", run };

const COLUMNS: [Column; 9] = [
    Column { key: "cold_seconds", title: "cold", unit: Unit::Milliseconds, compared: true },
    Column { key: "cold_cpu_seconds", title: "cold CPU", unit: Unit::Milliseconds, compared: true },
    Column { key: "median_seconds", title: "median", unit: Unit::Milliseconds, compared: true },
    Column { key: "cpu_seconds", title: "CPU", unit: Unit::Milliseconds, compared: true },
    Column { key: "peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
    Column { key: "p99_seconds", title: "p99", unit: Unit::Milliseconds, compared: true },
    Column { key: "runs", title: "runs", unit: Unit::Count, compared: false },
    Column { key: "answer_bytes", title: "answer", unit: Unit::Count, compared: false },
    Column { key: "different_answers", title: "different", unit: Unit::Count, compared: false },
];

/// How long one query may be repeated.
const REPEAT_LIMIT: Duration = Duration::from_secs(15);

/// Longest time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// Passes over the expressions of kube-prometheus.
const PASSES: usize = 5;

/// What VictoriaMetrics must be told so that it does not answer from its cache of results.
const NO_CACHE: &str = "&nocache=1";

/// New processes of which each query is asked cold.
const COLD_RUNS: usize = 3;

/// Time and processor time of an answer, in seconds.
type Measured = (f64, f64);

/// The median of each.
fn medians(all: &[Measured]) -> Option<Measured> {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    median(all.iter().map(|one| one.0).collect()).zip(median(all.iter().map(|one| one.1).collect()))
}

/// What a program answered to a query, and how fast.
#[derive(Clone, Debug, Default)]
struct Asked {
    body: Vec<u8>,
    /// The first answers of new processes with nothing of the store in memory, and the processor time of those: the medians.
    cold: Option<Measured>,
    times: Vec<f64>,
    /// Processor time of a run.
    cpu: f64,
    /// Most memory that the program had resident meanwhile, in bytes.
    peak: u64,
}

impl Asked {
    fn median(&self) -> Option<f64> {
        self.times.get(self.times.len() / 2).copied()
    }
}

/// A program as a row of the report: VictoriaMetrics has two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Asker {
    name: String,
    version: String,
    ours: bool,
}

type Answers = HashMap<(Asker, String), Asked>;

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let name = if settings.hostile { "query-hostile" } else { "query" };
    let mut report = Report::new(name, settings.quick, &COLUMNS);
    report.by_group = true;
    report.work = "the stores of `disk` and others with more series; time and processor time of one query".to_owned();
    let contestants = settings.enlist(&STORES, &mut report)?;
    let mut sets = vec![Which::Disk, Which::Wide];
    match settings.kube_prometheus() {
        Some(_) => sets.push(Which::KubePrometheus),
        None => {
            let reason = "FIREWATCH_CONFORMANCE does not name a folder with kube-prometheus";
            report.left_out.push(("expressions of kube-prometheus".to_owned(), reason.to_owned()));
        }
    }
    for which in sets {
        let (set, failures) = filled::ready(settings, which, &contestants)?;
        report.problems.extend(failures);
        report.notes.push(format!("{}: {}", set.name, set.about));
        let queries: Vec<Query> = match which {
            Which::KubePrometheus => queries::kube_prometheus(&settings.kube_prometheus().unwrap_or_default()),
            _ => queries::all().into_iter().filter(|q| q.set == which).collect(),
        };
        let mut answers = Answers::new();
        let mut askers = Vec::new();
        for found in &contestants {
            eprintln!("{} {}: {} queries on {}", found.name, found.version, queries.len(), set.name);
            let folder = filled::folder(settings, &set, found);
            let program = Program { settings, found, folder: &folder, window: set.window };
            let outcome = match which {
                Which::KubePrometheus => program.pass(&queries, &mut answers),
                _ => program.each(&queries, &mut answers),
            };
            match outcome {
                Ok(more) => askers.extend(more),
                Err(error) => report.problems.push(error.to_string()),
            }
        }
        let judge = Judge::new(&askers, &answers);
        match which {
            Which::KubePrometheus => judge.totals(&queries, &mut report),
            _ => judge.rows(&queries, &mut report),
        }
        if judge.reference.is_none() {
            report.notes.push(format!("{}: answers were compared with nobody's, as Prometheus did not run", set.name));
        }
    }
    Ok(report)
}

/// A program with its filled store.
struct Program<'a> {
    settings: &'a Settings,
    found: &'a Found,
    folder: &'a Path,
    window: Window,
}

impl Program<'_> {
    /// Its names in the report with what each asks in addition.
    fn askers(&self) -> Vec<(Asker, &'static str)> {
        let Found { name, version, maker, .. } = self.found;
        let asker = |suffix: &str| Asker {
            name: format!("{name}{suffix}"),
            version: version.clone(),
            ours: *maker == Maker::Us,
        };
        match StoreKind::of(self.found) {
            StoreKind::Victoria => vec![(asker(""), NO_CACHE), (asker(" (cache)"), "")],
            _ => vec![(asker(""), "")],
        }
    }

    fn start(&self) -> Result<RunningStore, BenchError> {
        RunningStore::start(self.found, self.folder, &[])
    }

    /// Starts it with nothing of the store in memory.
    fn start_cold(&self) -> Result<RunningStore, BenchError> {
        forget_files(self.folder);
        self.start()
    }

    /// Asks each query of several new processes with nothing of the store in memory, and then often of the last of these.
    fn each(&self, queries: &[Query], answers: &mut Answers) -> Result<Vec<Asker>, BenchError> {
        let askers = self.askers();
        let cold_runs = if self.settings.quick { 1 } else { COLD_RUNS };
        for query in queries {
            let mut cold = Vec::new();
            for _ in 1..cold_runs {
                let store = self.start_cold()?;
                let path = query.path(self.window) + askers[0].1;
                cold.push(measured(&store, &mut self.connect(&store)?, &path)?.0);
                store.running.stop()?;
            }
            let store = self.start_cold()?;
            for (number, (asker, more)) in askers.iter().enumerate() {
                let (first, mut asked) = self.ask(&store, query, &(query.path(self.window) + more))?;
                if number == 0 {
                    cold.push(first);
                    asked.cold = medians(&cold);
                }
                answers.insert((asker.clone(), query.name.clone()), asked);
            }
            store.running.stop()?;
        }
        Ok(askers.into_iter().map(|a| a.0).collect())
    }

    /// The first answer's time and processor time, and those of many that follow.
    fn ask(&self, store: &RunningStore, query: &Query, path: &str) -> Result<(Measured, Asked), BenchError> {
        let runs = match (query.named, self.settings.quick) {
            (true, false) => 100,
            (false, false) => 20,
            (_, true) => 5,
        };
        let mut connection = self.connect(store)?;
        let (first, body) = measured(store, &mut connection, path)?;
        let mut asked = Asked { body, ..Asked::default() };
        store.running.forget_peak()?;
        let before = store.running.processor_time()?;
        let began = Instant::now();
        while asked.times.len() < runs && (began.elapsed() < REPEAT_LIMIT || asked.times.len() < 3) {
            asked.times.push(once(store, &mut connection, path)?.0);
        }
        asked.cpu = (store.running.processor_time()? - before).as_secs_f64() / asked.times.len() as f64;
        asked.peak = store.running.memory()?.peak;
        asked.times.sort_by(f64::total_cmp);
        Ok((first, asked))
    }

    /// Asks all queries one after another, and that several times.
    fn pass(&self, queries: &[Query], answers: &mut Answers) -> Result<Vec<Asker>, BenchError> {
        let askers = self.askers();
        let store = self.start()?;
        let mut connection = self.connect(&store)?;
        for (asker, more) in &askers {
            let mut all: Vec<Asked> = vec![Asked::default(); queries.len()];
            store.running.forget_peak()?;
            for _ in 0..PASSES {
                for (asked, query) in all.iter_mut().zip(queries) {
                    let path = query.path(self.window) + more;
                    let ((time, cpu), body) = measured(&store, &mut connection, &path)?;
                    asked.times.push(time);
                    asked.cpu += cpu / PASSES as f64;
                    asked.body = body;
                }
            }
            let peak = store.running.memory()?.peak;
            for (mut asked, query) in all.into_iter().zip(queries) {
                asked.peak = peak;
                asked.times.sort_by(f64::total_cmp);
                answers.insert((asker.clone(), query.name.clone()), asked);
            }
        }
        store.running.stop()?;
        Ok(askers.into_iter().map(|a| a.0).collect())
    }

    fn connect(&self, store: &RunningStore) -> Result<Connection, BenchError> {
        Connection::open(store.address, ANSWER_LIMIT).map_err(|e| BenchError::io(self.found.name, e))
    }
}

/// How long an answer took, and the answer.
fn measured(store: &RunningStore, connection: &mut Connection, path: &str) -> Result<(Measured, Vec<u8>), BenchError> {
    let before = store.running.processor_time()?;
    let (time, body) = once(store, connection, path)?;
    Ok(((time, (store.running.processor_time()? - before).as_secs_f64()), body))
}

/// Asks once: seconds to the last byte, and the body whatever the status, for a refusal is an answer too.
fn once(store: &RunningStore, connection: &mut Connection, path: &str) -> Result<(f64, Vec<u8>), BenchError> {
    let began = Instant::now();
    let answer = connection.get(path, &[]).map_err(|e| store.running.failure(&format!("{path}: {e}")))?;
    Ok((began.elapsed().as_secs_f64(), answer.body))
}

/// Compares everyone's answers with Prometheus'.
struct Judge<'a> {
    askers: &'a [Asker],
    answers: &'a Answers,
    reference: Option<&'a Asker>,
}

impl<'a> Judge<'a> {
    fn new(askers: &'a [Asker], answers: &'a Answers) -> Self {
        Self { askers, answers, reference: askers.iter().find(|a| a.name == "prometheus") }
    }

    fn asked(&self, asker: &Asker, query: &Query) -> Option<&'a Asked> {
        self.answers.get(&(asker.clone(), query.name.clone()))
    }

    fn difference(&self, asker: &Asker, query: &Query) -> Option<String> {
        let reference = self.reference.filter(|r| *r != asker)?;
        let (ours, theirs) = (self.asked(asker, query)?, self.asked(reference, query)?);
        answers::difference(&ours.body, &theirs.body, query.tolerance)
    }

    /// A row for each query and program.
    fn rows(&self, queries: &[Query], report: &mut Report) {
        for query in queries {
            for asker in self.askers {
                let Some(asked) = self.asked(asker, query) else { continue };
                let difference = self.difference(asker, query);
                if let Some(reason) = &difference {
                    note(report, asker, &query.name, reason);
                }
                // our time counts only for the right answer
                let counts = difference.is_none() || !asker.ours;
                let p99 = query.named.then(|| asked.times.get(asked.times.len() * 99 / 100).copied()).flatten();
                report.rows.push(Row {
                    group: query.name.clone(),
                    program: asker.name.clone(),
                    ours: asker.ours,
                    version: asker.version.clone(),
                    values: vec![
                        asked.cold.map(|cold| cold.0).filter(|_| counts),
                        asked.cold.map(|cold| cold.1).filter(|_| counts),
                        asked.median().filter(|_| counts),
                        Some(asked.cpu).filter(|_| counts),
                        Some(asked.peak as f64).filter(|_| counts),
                        p99.filter(|_| counts),
                        Some(asked.times.len() as f64),
                        Some(asked.body.len() as f64),
                        self.reference.map(|_| f64::from(u8::from(difference.is_some()))),
                    ],
                });
            }
        }
    }

    /// Two rows for each program: sums over the queries with a result, and over those without.
    fn totals(&self, queries: &[Query], report: &mut Report) {
        let Some(reference) = self.reference.or(self.askers.first()) else { return };
        let is_empty = |query: &Query| self.asked(reference, query).is_none_or(|a| answers::is_empty(&a.body));
        let (empty, full): (Vec<&Query>, Vec<&Query>) = queries.iter().partition(|q| is_empty(q));
        for (part, what) in [(full, "with results"), (empty, "without")] {
            for asker in self.askers {
                let mut totals = [0.0; 4];
                let mut peak = 0;
                for query in &part {
                    let Some(asked) = self.asked(asker, query) else { continue };
                    let difference = self.difference(asker, query);
                    if let Some(reason) = difference.as_ref().filter(|_| asker.ours) {
                        note(report, asker, &query.name, reason);
                    }
                    totals[0] += asked.median().unwrap_or(0.0);
                    totals[1] += asked.cpu;
                    peak = peak.max(asked.peak);
                    totals[2] += asked.body.len() as f64;
                    totals[3] += f64::from(u8::from(difference.is_some()));
                }
                let counts = totals[3] == 0.0 || !asker.ours;
                report.rows.push(Row {
                    group: format!("kube-prometheus, {} {what}", part.len()),
                    program: asker.name.clone(),
                    ours: asker.ours,
                    version: asker.version.clone(),
                    values: vec![
                        None,
                        None,
                        Some(totals[0]).filter(|_| counts),
                        Some(totals[1]).filter(|_| counts),
                        Some(peak as f64).filter(|_| counts),
                        None,
                        Some(PASSES as f64),
                        Some(totals[2]),
                        self.reference.map(|_| totals[3]),
                    ],
                });
            }
        }
    }
}

/// A wrong answer of ours is a problem; others may answer as they like.
fn note(report: &mut Report, asker: &Asker, query: &str, reason: &str) {
    let text = format!("{}: {query}: not Prometheus' answer: {reason}", asker.name);
    if asker.ours { report.problems.push(text) } else { report.notes.push(text) }
}
