//! The runner of test scripts: a script that holds passes, and any wrong expectation in it fails at its line.

use promql::testing::{Summary, run_script, run_scripts};

fn run(script: &str) -> (Summary, String) {
    let mut out = Vec::new();
    let summary = run_script("script", script, &mut out).unwrap();
    (summary, String::from_utf8(out).unwrap())
}

/// Cases of every kind. The load has values 0, 10, 20 ... at 0 m, 5 m, 10 m ...
const GOOD: &str = "\
# a comment
load 5m
  requests{job=\"api\"} 0+10x10
  requests{job=\"db\"} 0+20x4 _x2 140 stale
  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}x4

eval instant at 20m requests
  requests{job=\"api\"} 40
  requests{job=\"db\"} 80

eval instant at 20m sort_desc(requests)
  expect ordered
  requests{job=\"db\"} 80
  requests{job=\"api\"} 40

eval instant at 40m requests
  requests{job=\"api\"} 80

eval range from 0 to 30m step 10m sum(requests)
  {} 0 60 120 60

eval range from 0 to 20m step 10m requests{job=\"db\"} > 30
  requests{job=\"db\"} _ 40 80

eval instant at 5m latency
  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}

eval instant at 0 1 + 1
  2

eval instant at 0 \"text\"
  expect string \"text\"

eval instant at 10m requests[10m]
  expect range vector from 5m to 10m step 5m
  requests{job=\"api\"} 10 20
  requests{job=\"db\"} 20 40

eval instant at 20m rate(latency_sum[10m])

eval instant at 20m requests * on () group_right() requests
  expect fail regex: many-to-many matching not allowed

eval instant at 20m rate(requests{job=\"api\"}[10m])
  expect info msg: PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
\"requests\" (1:6)
  expect no_warn
  {job=\"api\"} 0.03333333333333333

eval instant at 20m histogram_quantile(2, latency)
  expect warn regex: quantile value should be between 0 and 1, got 2
  {} Inf
";

#[test]
fn a_right_script_passes() {
    let (summary, out) = run(GOOD);
    assert_eq!(out, "");
    assert_eq!(summary, Summary { passed: 13, failed: 0 });
}

#[test]
fn each_wrong_expectation_fails_at_its_line() {
    // the text to replace, what with, and the start of the failed case
    let mutations = [
        (
            "requests{job=\"db\"} 80\n\neval instant at 20m sort",
            "requests{job=\"db\"} 81\n\neval instant at 20m sort",
            "requests",
        ),
        ("  requests{job=\"api\"} 40\n  requests{job=\"db\"} 80\n", "  requests{job=\"api\"} 40\n", "requests"),
        (
            "  requests{job=\"api\"} 40\n  requests{job=\"db\"} 80\n",
            "  requests{job=\"api\"} 40\n  requests{job=\"db\"} 80\n  requests{job=\"x\"} 1\n",
            "requests",
        ),
        (
            "  requests{job=\"api\"} 40\n  requests{job=\"db\"} 80\n",
            "  requests{job=\"app\"} 40\n  requests{job=\"db\"} 80\n",
            "requests",
        ),
        (
            "  requests{job=\"api\"} 40\n  requests{job=\"db\"} 80\n",
            "  {job=\"api\"} 40\n  requests{job=\"db\"} 80\n",
            "requests",
        ),
        (
            "  requests{job=\"db\"} 80\n  requests{job=\"api\"} 40\n",
            "  requests{job=\"api\"} 40\n  requests{job=\"db\"} 80\n",
            "sort_desc(requests)",
        ),
        ("  requests{job=\"api\"} 80\n", "  requests{job=\"api\"} 80\n  requests{job=\"db\"} 140\n", "requests"),
        ("{} 0 60 120 60", "{} 0 60 120", "sum(requests)"),
        ("{} 0 60 120 60", "{} 0 60 _ 60", "sum(requests)"),
        ("{} 0 60 120 60", "{} 0 60 120 60.001", "sum(requests)"),
        ("{} 0 60 120 60", "{} 0 60 120 60 60", "sum(requests)"),
        ("_ 40 80", "20 40 80", "requests{job=\"db\"} > 30"),
        (
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}",
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 buckets:[1 3 2]}}",
            "latency",
        ),
        (
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}",
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:13 buckets:[1 2 3]}}",
            "latency",
        ),
        (
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}",
            "eval instant at 5m latency\n  latency {{schema:1 count:6 sum:12 buckets:[1 2 3]}}",
            "latency",
        ),
        (
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}",
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 offset:1 buckets:[1 2 3]}}",
            "latency",
        ),
        (
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}",
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 counter_reset_hint:gauge buckets:[1 2 3]}}",
            "latency",
        ),
        (
            "eval instant at 5m latency\n  latency {{schema:0 count:6 sum:12 buckets:[1 2 3]}}",
            "eval instant at 5m latency\n  latency 6",
            "latency",
        ),
        ("1 + 1\n  2", "1 + 1\n  3", "1 + 1"),
        ("1 + 1\n  2", "1 + 1\n  {} 2", "1 + 1"),
        ("string \"text\"", "string \"test\"", "\"text\""),
        ("from 5m to 10m step 5m", "from 0 to 5m step 5m", "requests[10m]"),
        ("at 20m rate(latency_sum[10m])\n", "at 20m rate(latency_sum[10m])\n  {} 1\n", "rate(latency_sum[10m])"),
        ("  expect fail regex: many-to-many matching not allowed\n", "", "requests * on"),
        ("many-to-many matching not allowed\n", "many-to-one matching not allowed\n", "requests * on"),
        (
            "  expect fail regex: many-to-many matching not",
            "  expect fail msg: many-to-many matching not",
            "requests * on",
        ),
        ("1 + 1\n  2", "1 + 1\n  expect fail", "1 + 1"),
        ("\"requests\" (1:6)", "\"requests\" (1:7)", "rate(requests"),
        ("expect info msg: PromQL info", "expect warn msg: PromQL info", "rate(requests"),
        ("expect no_warn", "expect no_info", "rate(requests"),
        ("expect no_warn", "expect info msg: another", "rate(requests"),
        ("got 2\n", "got 3\n", "histogram_quantile"),
        (
            "  expect warn regex: quantile value should be between 0 and 1, got 2\n",
            "  expect no_warn\n",
            "histogram_quantile",
        ),
        ("  {} Inf", "  {} -Inf", "histogram_quantile"),
        ("  {} Inf", "  {} NaN", "histogram_quantile"),
    ];
    for (from, to, query) in mutations {
        assert_eq!(GOOD.matches(from).count(), 1, "{from:?}");
        let script = GOOD.replace(from, to);
        let (summary, out) = run(&script);
        assert_eq!((summary.passed, summary.failed), (12, 1), "{from:?} -> {to:?}: {out}");
        let line: usize = out.split(':').nth(1).unwrap().parse().unwrap();
        let at = script.lines().nth(line - 1).unwrap();
        assert!(at.starts_with("eval ") && at.contains(query), "{from:?} -> {to:?}: {out}");
        assert_eq!(out.lines().count(), 1, "{out}");
    }
}

/// An error of the script fails every case from there to the end of the file.
#[test]
fn script_errors_fail_the_rest() {
    let cases = GOOD.matches("\neval").count();
    assert_eq!(cases, 13);
    for (from, to, left) in [
        ("# a comment", "comment", 13),
        ("load 5m", "load 5", 13),
        ("load 5m", "store 5m", 13),
        ("0+10x10", "0+10y10", 13),
        ("0+10x10", "0+10x99999999999", 13),
        ("0+10x10", "0+10x10 {{schema:0", 13),
        ("0+10x10", "0x1p3", 13),
        ("count:6 sum:12 buckets:[1 2 3]}}x4", "count:6 sum:12 colour:1 buckets:[1 2 3]}}x4", 13),
        ("count:6 sum:12 buckets:[1 2 3]}}x4", "count:6 count:6 buckets:[1 2 3]}}x4", 13),
        ("eval instant at 20m sort_desc", "eval instantly at 20m sort_desc", 12),
        ("  expect ordered", "  expect order", 12),
        ("  expect string \"text\"", "  expect string text", 6),
        ("expect fail regex: many-to-many matching not allowed", "expect fail regex: (", 3),
    ] {
        assert_eq!(GOOD.matches(from).count(), 1, "{from:?}");
        let (summary, out) = run(&GOOD.replace(from, to));
        assert_eq!((summary.passed, summary.failed), (13 - left, left), "{from:?} -> {to:?}: {out}");
        assert_eq!(out.lines().count(), 1, "{out}");
    }
}

#[test]
fn clear_removes_everything() {
    let (summary, out) = run("load 1m\n  a 1\n\nclear\n\neval instant at 0 a\n");
    assert_eq!((summary.passed, summary.failed), (1, 0), "{out}");
    let (summary, _) = run("load 1m\n  a 1\n\neval instant at 0 a\n");
    assert_eq!((summary.passed, summary.failed), (0, 1));
}

#[test]
fn series_of_a_matrix_must_be_listed_by_label_but_a_vector_is_free() {
    let (summary, out) =
        run("load 1m\n  a{x=\"1\"} 1\n  a{x=\"2\"} 2\n\neval instant at 0 a\n  a{x=\"2\"} 2\n  a{x=\"1\"} 1\n");
    assert_eq!((summary.passed, summary.failed), (1, 0), "{out}");
}

#[test]
fn start_timestamps_and_converted_histograms() {
    let (summary, out) = run("\
load 1m
  c_total@st -30s -30s
  c_total    5    7

eval instant at 1m increase(c_total[1m])
  {} 7

clear
load_with_nhcb 1m
  h_bucket{le=\"1\"} 1 2
  h_bucket{le=\"+Inf\"} 3 6
  h_count 3 6
  h_sum 5 10

eval instant at 1m h
  h {{schema:-53 count:6 sum:10 custom_values:[1] buckets:[2 4]}}
");
    assert_eq!(summary.failed, 0, "{out}");
}

#[test]
fn folders_are_searched_and_the_last_line_counts() {
    let folder = std::env::temp_dir().join(format!("promql-scripts-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("deeper")).unwrap();
    std::fs::write(folder.join("a.test"), "eval instant at 0 1\n  1\n").unwrap();
    std::fs::write(folder.join("deeper/b.test"), "\neval instant at 0 1\n  2\n").unwrap();
    std::fs::write(folder.join("notes.txt"), "no script").unwrap();
    let mut out = Vec::new();
    let summary = run_scripts(std::slice::from_ref(&folder), &mut out).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(summary, Summary { passed: 1, failed: 1 });
    assert!(out.contains("b.test:2: "), "{out}");
    assert!(out.ends_with("\n1 passed, 1 failed\n"), "{out}");
    assert!(run_scripts(&[folder], &mut Vec::new()).is_err(), "a missing folder");
}
