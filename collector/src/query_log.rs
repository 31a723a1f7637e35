//! The log of queries (`global.query_log_file`): a line of JSON for each, as Prometheus writes it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use model::{Timestamp, now_millis};
use promql::result::QueryStats;
use serde_json::{Value, json};

use crate::json_log::{JsonLog, Opened, with_millis};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A request to the API.
    Http {
        /// The client's address, if it is known.
        client: Option<IpAddr>,
        /// The request's method.
        method: String,
        /// The path of the request's URL.
        path: String,
    },
    /// A rule.
    Rule {
        /// The rule file.
        file: String,
        /// The group's name.
        group: String,
    },
    /// The collector itself, which is not logged.
    Internal,
}

/// How long the parts of answering a query took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueryTimings {
    /// In the queue.
    pub(crate) waited: Duration,
    /// Evaluating.
    pub(crate) evaluated: Duration,
}

/// The statistics of a query, as the API and the log give them.
pub(crate) fn stats_json(stats: &QueryStats, timings: QueryTimings) -> Value {
    let (waited, evaluated) = (timings.waited.as_secs_f64(), timings.evaluated.as_secs_f64());
    let mut json = json!({
        "timings": {
            "evalTotalTime": evaluated,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": evaluated,
            "execQueueTime": waited,
            "execTotalTime": (timings.waited + timings.evaluated).as_secs_f64(),
        },
        "samples": {
            "totalQueryableSamples": stats.total_queryable_samples,
            "samplesRead": stats.samples_read,
            "peakSamples": stats.peak_samples,
        },
        // ours alone
        "memory": { "peakBytes": stats.peak_bytes },
    });
    let per_step =
        [("totalQueryableSamplesPerStep", &stats.queryable_per_step), ("samplesReadPerStep", &stats.read_per_step)];
    for (key, steps) in per_step {
        if let Some(steps) = steps {
            json["samples"][key] = steps.iter().map(|(time, count)| json!([seconds(*time), count])).collect();
        }
    }
    json
}

/// A time as a number of seconds, without a fraction where it has none.
fn seconds(millis: Timestamp) -> serde_json::Number {
    match (millis % 1000, serde_json::Number::from_f64(millis as f64 / 1000.0)) {
        (0, _) | (_, None) => (millis / 1000).into(),
        (_, Some(number)) => number,
    }
}

/// A query that has ended.
#[derive(Debug)]
pub(crate) struct EndedQuery<'a> {
    pub(crate) text: &'a str,
    /// First time, last time and step; the step of an instant query is 0.
    pub(crate) range: (Timestamp, Timestamp, i64),
    pub(crate) origin: &'a Origin,
    pub(crate) timings: QueryTimings,
    /// What it counted, or why it failed.
    pub(crate) outcome: Result<&'a QueryStats, String>,
}

impl EndedQuery<'_> {
    fn json(&self) -> Value {
        let (start, end, step) = self.range;
        let mut line = json!({
            "time": with_millis(now_millis()),
            "level": "INFO",
            "msg": "promql query logged",
            "params": {
                "end": with_millis(end),
                "query": self.text,
                "start": with_millis(start),
                "step": step / 1000,
            },
        });
        let none = QueryStats::default();
        let stats = match &self.outcome {
            Ok(stats) => stats,
            Err(error) => {
                line["error"] = error.as_str().into();
                &none
            }
        };
        line["stats"] = stats_json(stats, self.timings);
        line["spanID"] = "0000000000000000".into();
        match self.origin {
            Origin::Http { client, method, path } => {
                let client = client.map(|ip| ip.to_canonical().to_string()).unwrap_or_default();
                line["httpRequest"] = json!({ "clientIP": client, "method": method, "path": path });
            }
            Origin::Rule { file, group } => line["ruleGroup"] = json!({ "file": file, "name": group }),
            Origin::Internal => {}
        }
        line
    }
}

/// The file that queries are logged to, if there is one.
#[derive(Debug, Default)]
pub struct QueryLog {
    log: JsonLog,
}

impl QueryLog {
    /// Logs to this file from now on, opened anew so that a file that was moved away is let go of. Empty: logs nothing.
    ///
    /// # Errors
    /// When the file cannot be opened; nothing changes then.
    pub fn apply(&self, path: &str) -> Result<(), String> {
        let opened = match path {
            "" => None,
            path => Some(Opened::open(Path::new(path)).map_err(|e| format!("global.query_log_file: {e}"))?),
        };
        self.log.set(opened);
        Ok(())
    }

    /// Whether queries are logged.
    pub fn is_enabled(&self) -> bool {
        self.log.is_enabled()
    }

    /// Queries that could not be logged.
    pub fn failures(&self) -> u64 {
        self.log.failures()
    }

    pub(crate) fn note(&self, query: &EndedQuery<'_>) {
        self.log.write(|| query.json());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_prometheus_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queries.log");
        let log = QueryLog::default();
        let origin = Origin::Http {
            client: Some("::ffff:127.0.0.1".parse().unwrap()),
            method: "POST".into(),
            path: "/api/v1/query_range".into(),
        };
        let stats = QueryStats {
            total_queryable_samples: 7,
            samples_read: 5,
            peak_samples: 3,
            peak_bytes: 4096,
            ..QueryStats::default()
        };
        let query = EndedQuery {
            text: "sum(up)",
            range: (1_700_000_000_000, 1_700_000_060_500, 15_000),
            origin: &origin,
            timings: QueryTimings { waited: Duration::from_millis(1), evaluated: Duration::from_millis(2) },
            outcome: Ok(&stats),
        };
        log.note(&query);
        assert!(!log.is_enabled() && log.apply("/nowhere/at/all").unwrap_err().contains("query_log_file"));
        log.apply(path.to_str().unwrap()).unwrap();
        log.note(&query);
        let origin = Origin::Rule { file: "r.yml".into(), group: "g".into() };
        log.note(&EndedQuery { outcome: Err("broken".into()), range: (0, 0, 0), origin: &origin, ..query });
        log.apply("").unwrap();
        assert!(!log.is_enabled() && log.failures() == 0);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(
            lines[0]["params"],
            json!({
                "query": "sum(up)", "step": 15,
                "start": "2023-11-14T22:13:20.000Z", "end": "2023-11-14T22:14:20.500Z",
            })
        );
        assert_eq!(lines[0]["stats"]["samples"]["totalQueryableSamples"], 7);
        assert_eq!(lines[0]["stats"]["timings"]["execQueueTime"], 0.001);
        assert_eq!(lines[0]["stats"]["timings"]["execTotalTime"], 0.003);
        assert_eq!(lines[0]["stats"]["memory"]["peakBytes"], 4096);
        assert_eq!(
            lines[0]["httpRequest"],
            json!({ "clientIP": "127.0.0.1", "method": "POST", "path": "/api/v1/query_range" })
        );
        assert_eq!(
            (&lines[1]["error"], &lines[1]["ruleGroup"]),
            (&json!("broken"), &json!({ "file": "r.yml", "name": "g" }))
        );
    }
}
