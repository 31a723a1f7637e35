//! `restart`: how long a store that was killed takes to be back with everything that it had acknowledged.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::benchmark::{BenchError, Benchmark, Found, Settings};
use crate::datasets::{self, Restart};
use crate::history;
use crate::report::{Column, Report, Unit};
use crate::store::{RunningStore, STORES, StoreKind, file_bytes};
use harness::client::Connection;
use harness::encode;

pub(crate) const BENCHMARK: Benchmark = Benchmark {
    name: "restart",
    about: "From kill -9 to the first complete answer, and the memory to get there.",
    run,
};

const COLUMNS: [Column; 10] = [
    Column { key: "ready_seconds", title: "ready", unit: Unit::Seconds, compared: true },
    Column { key: "first_answer_seconds", title: "first answer", unit: Unit::Seconds, compared: true },
    Column { key: "cpu_seconds_ready", title: "CPU to ready", unit: Unit::Seconds, compared: true },
    Column { key: "rss_before_bytes", title: "RSS before", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_anon_before_bytes", title: "anon before", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_peak_replay_bytes", title: "peak replaying", unit: Unit::Megabytes, compared: true },
    Column { key: "peak_share_of_before", title: "of before", unit: Unit::Percent, compared: false },
    Column { key: "folder_bytes", title: "folder", unit: Unit::Megabytes, compared: true },
    Column { key: "cpu_seconds_per_million_samples", title: "taking, CPU/M", unit: Unit::Milliseconds, compared: true },
    Column { key: "samples", title: "samples", unit: Unit::Count, compared: false },
];

/// Longest time to the first complete answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let name = if settings.bulk { "restart-bulk" } else { "restart" };
    let mut report = Report::new(name, settings.quick, &COLUMNS);
    let plan = Restart::new(settings);
    let requests = if settings.bulk { "10 min of a target" } else { "one scrape" };
    report.work = format!("{}; {requests} in a request", plan.about());
    // VictoriaMetrics has no log: it loses what it had in memory
    let contestants = settings.enlist(&STORES[..2], &mut report)?;
    for found in &contestants {
        eprintln!("{} {}: {}", found.name, found.version, report.work);
        match measure(settings, &plan, found) {
            Ok(values) => report.rows.push(found.row("store", values)),
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    Ok(report)
}

fn measure(settings: &Settings, plan: &Restart, found: &Found) -> Result<Vec<Option<f64>>, BenchError> {
    let folder = settings.data_folder()?;
    let kind = StoreKind::of(found);
    let window = plan.window(datasets::now()?);
    let mut store = RunningStore::start(found, folder.path(), &[])?;
    // a request for each scrape leaves the log as scrapes do
    let slice = if settings.bulk { history::BULK } else { datasets::RESTART_INTERVAL };
    let sent = history::send(plan.batches(window), store.address, slice)?;
    let taken = kind.samples(&store.metrics()?);
    if taken < sent.samples as f64 {
        return Err(store.running.failure(&format!("it took {taken} samples of {}", sent.samples)));
    }
    store.wait_idle()?;
    // what the questions take is not the fill's
    let filled = store.running.memory()?;
    let taking = store.running.processor_time()?;
    // a range of all series at once would drop their names and find them equal
    let counted = format!("sum(count_over_time(node_cpu_seconds_total[{}s]))", (window.end - window.start) / 1000);
    let questions = [counted, "count({job=\"farm\"})".to_owned()].map(|expr| {
        let end = window.end - 1;
        format!("/api/v1/query?query={}&time={}.{:03}", encode(&expr), end / 1000, end % 1000)
    });
    let complete = ask_all(&store, &questions).map_err(|reason| store.running.failure(&reason))?;
    if complete[1] != (plan.series_count()) as f64 {
        return Err(store.running.failure(&format!("it has {} series of {}", complete[1], plan.series_count())));
    }
    store.running.kill()?;
    let folder_bytes = file_bytes(&folder.path().join("data"));

    let mut store = RunningStore::start(found, folder.path(), &[])?;
    let ready = store.ready;
    let ready_cpu = store.running.processor_time()?;
    let peak = store.running.memory()?.peak;
    let mut last = String::new();
    let began = Instant::now();
    let first_answer = loop {
        store.running.check()?;
        if began.elapsed() > ANSWER_LIMIT {
            return Err(store.running.failure(&format!("it does not find all of {complete:?} again: {last}")));
        }
        match ask_all(&store, &questions) {
            Ok(found) if found == complete => break store.running.age(),
            Ok(found) => last = format!("it has {found:?}"),
            Err(reason) => last = reason,
        }
        sleep(Duration::from_millis(10));
    };
    store.running.stop()?;
    let values = [
        ready.as_secs_f64(),
        first_answer.as_secs_f64(),
        ready_cpu.as_secs_f64(),
        filled.resident as f64,
        filled.anonymous as f64,
        peak as f64,
        peak as f64 / filled.resident as f64,
        folder_bytes as f64,
        taking.as_secs_f64() / (sent.samples as f64 / 1e6),
        sent.samples as f64,
    ];
    Ok(values.map(Some).to_vec())
}

fn ask_all(store: &RunningStore, paths: &[String]) -> Result<Vec<f64>, String> {
    paths.iter().map(|path| ask(store, path)).collect()
}

/// The value of an instant query.
fn ask(store: &RunningStore, path: &str) -> Result<f64, String> {
    let answer = Connection::open(store.address, ANSWER_LIMIT)
        .and_then(|mut connection| connection.get(path, &[("Connection", "close")]))
        .and_then(|answer| answer.text())
        .map_err(|e| e.to_string())?;
    let json: Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
    let value = &json["data"]["result"][0]["value"][1];
    value.as_str().and_then(|v| v.parse().ok()).ok_or_else(|| format!("no result in {answer}"))
}
