//! The real server and ours with the same configuration and data.

use std::path::Path;

use harness::{Daemon, Series, binary, encode, free_port, get, peer, send};
use promql::{FUNCTIONS, Function};
use serde_json::Value;

use crate::data::{self, FIRST};
use crate::generate::Language;

/// Both servers.
#[derive(Debug)]
pub struct Pair {
    /// Address of ours.
    pub ours: String,
    /// Address of the real one.
    pub theirs: String,
    _daemons: [Daemon; 2],
}

/// One query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// At a time in milliseconds.
    Instant(i64),
    /// From, to and step in milliseconds.
    Range(i64, i64, i64),
}

impl Query {
    fn path(self, expr: &str) -> String {
        let seconds = |millis: i64| format!("{}.{:03}", millis / 1000, millis % 1000);
        let query = encode(expr);
        match self {
            Self::Instant(time) => format!("query?query={query}&time={}&stats=all", seconds(time)),
            Self::Range(start, end, step) => {
                let (start, end, step) = (seconds(start), seconds(end), seconds(step));
                format!("query_range?query={query}&start={start}&end={end}&step={step}&stats=all")
            }
        }
    }
}

/// Starts a server with its data in `folder`/`name`; gives its address.
fn start(program: &Path, folder: &Path, name: &str, features: &str) -> (String, Daemon) {
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, "global: {evaluation_interval: 1m}\n").expect("a configuration file");
    let port = free_port();
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", folder.join(name).display()),
        "--storage.tsdb.retention.time=100y".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
        format!("--enable-feature={features}"),
    ];
    let base = format!("http://127.0.0.1:{port}");
    let mut daemon = Daemon::start(program, &arguments, folder);
    daemon.wait_for(&format!("{base}/-/ready"));
    (base, daemon)
}

/// Starts our server alone; gives its address.
///
/// # Panics
/// When it does not start.
pub fn start_ours(folder: &Path) -> (String, Daemon) {
    start(&binary("collector"), folder, "ours", "promql-experimental-functions,promql-per-step-stats")
}

/// The answer of one server.
///
/// # Panics
/// When there is none.
pub fn ask_one(base: &str, expr: &str, query: Query) -> Value {
    ask(base, &query.path(expr))
}

fn ask(base: &str, path: &str) -> Value {
    let answer = get(&format!("{base}/api/v1/{path}"));
    serde_json::from_str(&answer.body)
        .unwrap_or_else(|e| panic!("{path}: status {}, {e}: {}", answer.status, answer.body))
}

impl Pair {
    /// Starts both, or gives `None` without the real one.
    ///
    /// # Panics
    /// When one does not start.
    pub fn start(folder: &Path) -> Option<Self> {
        let real = peer("prometheus")?;
        let (ours, our_daemon) = start_ours(folder);
        // what 3.14 has without asking
        let features = "promql-experimental-functions,promql-per-step-stats,native-histograms,promql-duration-expr";
        let (theirs, their_daemon) = start(&real, folder, "theirs", features);
        Some(Self { ours, theirs, _daemons: [our_daemon, their_daemon] })
    }

    /// Sends samples to both, slice by slice of time, as they would come in reality.
    ///
    /// # Panics
    /// When one refuses some.
    pub fn load(&self, all: &[Series]) {
        const SLICE: i64 = 10 * 60 * 1000;
        let slices = data::STEPS * data::INTERVAL / SLICE;
        for slice in 0..=slices {
            let (from, to) = (FIRST + slice * SLICE, FIRST + (slice + 1) * SLICE);
            let part: Vec<Series> = all
                .iter()
                .map(|series| Series {
                    labels: series.labels.clone(),
                    samples: series.samples.iter().filter(|s| (from..to).contains(&s.0)).copied().collect(),
                    histograms: series.histograms.iter().filter(|s| (from..to).contains(&s.0)).cloned().collect(),
                })
                .filter(|series| !series.samples.is_empty() || !series.histograms.is_empty())
                .collect();
            // a series that has both is sent sample by sample of time, for a request adds floats first
            for base in [&self.ours, &self.theirs] {
                for request in in_order(&part) {
                    let answer = send(base, &request);
                    assert_eq!(answer.status, 204, "{base}: {}", answer.body);
                }
            }
        }
    }

    /// The answers of both.
    pub fn ask(&self, expr: &str, query: Query) -> (Value, Value) {
        let path = query.path(expr);
        (ask(&self.ours, &path), ask(&self.theirs, &path))
    }

    /// The formatted expression, from both.
    pub fn format(&self, expr: &str) -> (Value, Value) {
        let path = format!("format_query?query={}", encode(expr));
        (ask(&self.ours, &path), ask(&self.theirs, &path))
    }

    /// What the real server knows of the language; prints what it does not know.
    pub fn language(&self) -> Language {
        let knows = |function: &&Function| {
            let answer = ask(&self.theirs, &format!("parse_query?query={}", encode(&format!("{}()", function.name))));
            !answer["error"].as_str().unwrap_or_default().contains("unknown function")
        };
        let (functions, missing): (Vec<&'static Function>, Vec<&'static Function>) = FUNCTIONS.iter().partition(knows);
        let names: Vec<_> = missing.iter().map(|f| f.name).collect();
        println!("not in the peer: {}", names.join(", "));
        let aggregations = [
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "topk",
            "bottomk",
            "quantile",
            "count_values",
            "limitk",
            "limit_ratio",
        ];
        Language { functions, aggregations: aggregations.to_vec() }
    }
}

/// Requests in which no series has both kinds, each series in order of time.
fn in_order(part: &[Series]) -> Vec<Vec<Series>> {
    let (both, simple): (Vec<&Series>, Vec<&Series>) =
        part.iter().partition(|s| !s.samples.is_empty() && !s.histograms.is_empty());
    let mut requests: Vec<Vec<Series>> =
        simple.chunks(40).map(|chunk| chunk.iter().map(|s| (*s).clone()).collect()).collect();
    let mut times: Vec<i64> =
        both.iter().flat_map(|s| s.samples.iter().map(|p| p.0).chain(s.histograms.iter().map(|p| p.0))).collect();
    times.sort_unstable();
    times.dedup();
    for time in times {
        let request = both.iter().map(|s| Series {
            labels: s.labels.clone(),
            samples: s.samples.iter().filter(|p| p.0 == time).copied().collect(),
            histograms: s.histograms.iter().filter(|p| p.0 == time).cloned().collect(),
        });
        requests.push(request.collect());
    }
    requests
}
