//! Every benchmark once, with our programs only and very little work: that they run, and that our programs do the work.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// Runs a benchmark and gives its report.
fn bench(name: &str, file: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_bench"));
    let programs = bench.parent().expect("the folder of the binaries");
    assert!(programs.join("collector").exists(), "run `cargo build --release --workspace --bins` first");
    let output = Command::new(&bench)
        .args([name, "--only", "us", "--quick", "--bin"])
        .arg(programs)
        .arg("--out")
        .arg(folder.path())
        .args(arguments)
        .output()
        .expect("the benchmark starts");
    let shown = [output.stdout, output.stderr].map(|o| String::from_utf8_lossy(&o).into_owned()).concat();
    assert!(output.status.success(), "{shown}");
    let text = std::fs::read_to_string(folder.path().join(format!("{file}.json"))).expect("the report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["benchmark"], file);
    assert_eq!(report["problems"], Value::Array(Vec::new()));
    assert!(report["results"].as_array().is_some_and(|rows| !rows.is_empty()), "{shown}");
    report
}

fn figures(report: &Value, key: &str) -> Vec<f64> {
    let rows = report["results"].as_array().into_iter().flatten();
    rows.filter_map(|row| row["values"][key].as_f64()).collect()
}

#[test]
fn ingest() {
    let report =
        bench("ingest", "ingest", &["--targets", "5", "--series", "100", "--warm-up", "10", "--seconds", "10"]);
    assert_eq!(figures(&report, "targets_up"), [5.0]);
}

#[test]
fn disk() {
    let report = bench("disk", "disk", &["--targets", "2", "--series", "300", "--hours", "4"]);
    let bytes = figures(&report, "bytes_per_sample")[0];
    assert!(bytes > 0.01 && bytes < 8.0, "{bytes} bytes per sample");
}

#[test]
fn query() {
    let report = bench("query", "query", &["--targets", "2", "--series", "600", "--hours", "3"]);
    assert!(figures(&report, "median_seconds").len() >= 19, "{report:#}");
    assert!(figures(&report, "answer_bytes").iter().all(|bytes| *bytes > 60.0));
    assert!(figures(&report, "peak_bytes").iter().all(|bytes| *bytes > 1e6));
}

#[test]
fn restart() {
    let report = bench("restart", "restart", &["--targets", "3", "--series", "200"]);
    assert_eq!(figures(&report, "samples"), [3.0 * 200.0 * 360.0]);
}

#[test]
fn node() {
    let report = bench("node", "node", &[]);
    assert!(figures(&report, "series")[0] > 100.0);
}

#[test]
fn large_node() {
    let report = bench("node", "node-large", &["--large"]);
    assert!(figures(&report, "series")[0] > 10_000.0);
}

#[test]
fn startup() {
    let report = bench("startup", "startup", &[]);
    assert!(figures(&report, "ready_median_seconds").len() >= 3, "{report:#}");
}

#[test]
fn series() {
    let report = bench("series", "series", &["--targets", "3", "--series", "200"]);
    assert!(figures(&report, "median_seconds").len() >= 20, "{report:#}");
    assert!(figures(&report, "answer_bytes").iter().all(|bytes| *bytes > 25.0));
}

#[test]
fn rules() {
    if std::env::var_os("FIREWATCH_CONFORMANCE").is_none() {
        // the rules are there only
        return;
    }
    let report = bench("rules", "rules", &["--cluster", "500", "--seconds", "6"]);
    assert_eq!(figures(&report, "failures"), [0.0]);
    assert!(figures(&report, "rules")[0] > 200.0 && figures(&report, "samples_per_evaluation")[0] > 0.0, "{report:#}");
}
