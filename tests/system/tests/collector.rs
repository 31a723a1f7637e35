//! The collector as a Prometheus: prefixes, reloads that touch only what changed, formats, remote write.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use harness::{
    Daemon, Reply, Series, Target, api, binary, encode, eventually, free_port, get, post, query, send, value,
};

fn start(folder: &Path, config: &str, more: &[&str]) -> (Daemon, String) {
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    let port = free_port();
    let mut arguments = vec![
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-lifecycle".to_owned(),
    ];
    arguments.extend(more.iter().map(|m| (*m).to_owned()));
    (Daemon::start(&binary("collector"), &arguments, folder), format!("http://127.0.0.1:{port}"))
}

#[test]
fn everything_lies_under_the_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, base) = start(folder.path(), "", &["--web.external-url=http://host/prom/"]);
    daemon.wait_for(&format!("{base}/prom/-/ready"));
    for path in ["/", "/prom"] {
        let answer = get(&format!("{base}{path}"));
        assert_eq!(answer.status, 307, "{path}");
        assert!(answer.head.contains("location: /prom/"), "{}", answer.head);
    }
    assert!(get(&format!("{base}/prom/")).body.contains("<title>Firewatch</title>"));
    assert_eq!(value(&format!("{base}/prom"), "1 + 1"), Some(2.0));
    assert!(get(&format!("{base}/prom/version")).body.starts_with("{\"version\":\"3.14.0\""));
    assert_eq!(daemon.stop(), Some(0));
}

/// The log of queries names who asked; a reload turns it off.
#[test]
fn queries_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: vector(3)\n";
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let config = |log: &str| format!("global: {{evaluation_interval: 200ms{log}}}\nrule_files: [rules.yml]\n");
    let (mut daemon, base) = start(folder.path(), &config(", query_log_file: queries.log"), &[]);
    daemon.wait_for(&format!("{base}/-/ready"));
    assert_eq!(value(&base, "1 + 41"), Some(42.0));
    get(&format!("{base}/api/v1/query_range?query=nonsense(&start=0&end=1&step=1"));
    get(&format!("{base}/api/v1/query_range?query=vector(1)%2Bon(x)vector(time())&start=60&end=120&step=30"));
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(folder.path().join("queries.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let rule = eventually("a rule's query in the log", 20, || {
        lines().into_iter().find(|line| line["ruleGroup"]["name"] == "g" && line["params"]["query"] == "vector(3)")
    });
    assert!(rule["ruleGroup"]["file"].as_str().unwrap().ends_with("rules.yml"), "{rule}");
    let asked: Vec<_> = lines().into_iter().filter(|line| line["httpRequest"].is_object()).collect();
    assert_eq!(asked.len(), 2, "what cannot be parsed is no query: {asked:?}");
    assert_eq!((&asked[0]["params"]["query"], &asked[0]["params"]["step"]), (&"1 + 41".into(), &0.into()));
    assert_eq!(asked[0]["httpRequest"]["path"], "/api/v1/query");
    assert_eq!(asked[0]["httpRequest"]["clientIP"], "127.0.0.1");
    assert_eq!(
        (&asked[1]["params"]["start"], &asked[1]["params"]["step"]),
        (&"1970-01-01T00:01:00.000Z".into(), &30.into())
    );
    assert!(asked[1]["stats"]["samples"]["peakSamples"].as_u64() > Some(0), "{}", asked[1]);
    let page = get(&format!("{base}/metrics")).body;
    assert!(page.contains("\nprometheus_engine_query_log_enabled 1\n"), "{page}");
    // a log that cannot be opened refuses the whole configuration
    let managers = "alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:1']}]}]}\n";
    let wrong = config(", query_log_file: /nowhere/queries.log") + managers;
    std::fs::write(folder.path().join("prometheus.yml"), wrong).unwrap();
    let answer = post(&format!("{base}/-/reload"), &[], b"");
    assert!(answer.status == 500 && answer.body.contains("query_log_file"), "{}", answer.body);
    assert_eq!(api(&base, "alertmanagers")["activeAlertmanagers"], serde_json::json!([]));
    assert!(get(&format!("{base}/metrics")).body.contains("\nprometheus_engine_query_log_enabled 1\n"));
    std::fs::write(folder.path().join("prometheus.yml"), config("")).unwrap();
    assert_eq!(post(&format!("{base}/-/reload"), &[], b"").status, 200);
    assert!(get(&format!("{base}/metrics")).body.contains("\nprometheus_engine_query_log_enabled 0\n"));
    assert_eq!(daemon.stop(), Some(0));
}

/// A query that ran when the process was killed is named at the next start, once.
#[test]
fn queries_that_were_running_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, base) = start(folder.path(), "", &[]);
    daemon.wait_for(&format!("{base}/-/ready"));
    // a billion additions take long enough to be met
    let slow = encode("sum_over_time(vector(1)[1d:1s])");
    let url = format!("{base}/api/v1/query_range?query={slow}&start=0&end=109000&step=10");
    std::thread::spawn(move || std::panic::catch_unwind(|| get(&url)));
    let file = folder.path().join("data/firewatch/queries.active");
    eventually("the running query in the file", 20, || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("1d:1s")).then_some(())
    });
    daemon.kill();
    for expected in [true, false] {
        let (mut daemon, base) = start(folder.path(), "", &[]);
        daemon.wait_for(&format!("{base}/-/ready"));
        let output = daemon.output();
        assert_eq!(
            output.contains("These queries didn't finish in prometheus' last run:") && output.contains("1d:1s"),
            expected,
            "{output}"
        );
        assert_eq!(daemon.stop(), Some(0));
    }
}

/// A query ends when its client goes away, whether it runs or waits for its turn.
#[test]
fn queries_end_with_their_clients() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, base) = start(folder.path(), "", &["--query.max-concurrency=1"]);
    daemon.wait_for(&format!("{base}/-/ready"));
    let metric = |line: &str| get(&format!("{base}/metrics")).body.contains(&format!("\n{line}\n"));
    // many times longer than anybody waits
    let slow = encode("sum_over_time(vector(1)[1d:1s])");
    let path = format!("/api/v1/query_range?query={slow}&start=0&end=1090000&step=100");
    let ask = || {
        let mut stream = TcpStream::connect(base.strip_prefix("http://").unwrap()).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let running = ask();
    eventually("a query that runs", 20, || metric("prometheus_engine_queries 1").then_some(()));
    let waiting = ask();
    eventually("a query that waits", 20, || metric("firewatch_queries_waiting 1").then_some(()));
    assert!(metric("prometheus_engine_queries 2"));
    drop(waiting);
    eventually("the end of the one that waits", 20, || metric("prometheus_engine_queries 1").then_some(()));
    drop(running);
    eventually("the end of the one that runs", 20, || metric("prometheus_engine_queries 0").then_some(()));
    assert!(metric("firewatch_queries_refused_total{reason=\"canceled\"} 1"));
    assert!(metric("firewatch_query_memory_bytes 0"));
    assert_eq!(value(&base, "1 + 1"), Some(2.0));
}

/// An answer is made as it is read: its result takes memory as long as there is somebody to read it, and no longer.
#[test]
fn answers_nobody_reads_end_with_their_clients() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, base) = start(folder.path(), "", &["--query.max-memory=400MB", "--query.max-memory-total=1GB"]);
    daemon.wait_for(&format!("{base}/-/ready"));
    let held = || -> f64 {
        let page = get(&format!("{base}/metrics")).body;
        let line = page.lines().find_map(|line| line.strip_prefix("firewatch_query_memory_bytes ")).unwrap().to_owned();
        line.parse().unwrap()
    };
    // more than any socket holds
    let path = format!("/api/v1/query?query={}", encode("vector(1)[6h:10ms]"));
    let mut stream = TcpStream::connect(base.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    eventually("a result that is being sent", 20, || {
        let page = get(&format!("{base}/metrics")).body;
        (page.contains("\nfirewatch_queries_total 1\n") && page.contains("\nprometheus_engine_queries 0\n"))
            .then_some(())
    });
    assert!(held() > 1e7, "{} bytes held", held());
    drop(stream);
    eventually("the end of the result", 20, || (held() == 0.0).then_some(()));
}

/// A query that is too large says which limit it is about; its timings and its memory are in the statistics.
#[test]
fn limits_and_plans_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ["--query.max-memory=4MB", "--query.max-memory-total=64MB", "--query.max-samples=100000000"];
    let (mut daemon, base) = start(folder.path(), "", &limits);
    daemon.wait_for(&format!("{base}/-/ready"));
    let large = encode("sum_over_time(vector(1)[1d:1s])");
    let answer = get(&format!("{base}/api/v1/query?query={large}"));
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("\"errorType\":\"execution\""), "{}", answer.body);
    assert!(answer.body.contains("the 4 MiB of memory a query may take (--query.max-memory)"), "{}", answer.body);
    let page = get(&format!("{base}/metrics")).body;
    assert!(page.contains("\nfirewatch_queries_refused_total{reason=\"memory\"} 1\n"), "{page}");
    assert!(page.contains("\nfirewatch_query_memory_limit_bytes 6.7108864e+07\n"), "{page}");
    assert!(page.contains("\nprometheus_engine_query_duration_seconds_count{slice=\"queue_time\"} 1\n"), "{page}");
    let data = api(&base, "query?query=sum(vector(3))%2B1&stats=all&explain=true");
    assert!(data["stats"]["memory"]["peakBytes"].as_u64() > Some(0), "{data}");
    let plan = data["explain"].as_array().unwrap();
    let shown: Vec<_> =
        plan.iter().map(|node| (node["depth"].as_u64().unwrap(), node["expr"].as_str().unwrap())).collect();
    assert_eq!(shown, [(0, "sum(vector(3)) + 1"), (1, "sum(vector(3))"), (2, "vector(3)"), (3, "3"), (1, "1")]);
    assert_eq!((&plan[2]["given"]["series"], &plan[2]["given"]["samples"]), (&1.into(), &1.into()));
    assert_eq!(api(&base, "query?query=1")["explain"], serde_json::Value::Null);
    let output = Command::new(binary("firewatch"))
        .args(["query", "range", "--explain", &base, "sum(vector(3))", "--start=0", "--end=60"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert!(output.status.success() && lines.len() == 4, "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(lines[0].ends_with("expression") && lines[1].ends_with("  sum(vector(3)) (once)"), "{text}");
}

#[test]
fn a_reload_touches_only_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (stays, changes) = (Target::start(Reply::Page("a 1\n".into())), Target::start(Reply::Page("b 1\n".into())));
    let rules = |more: &str| {
        let text = format!(
            "groups:\n- name: kept\n  rules:\n  - alert: Held\n    expr: vector(1)\n    for: 1h\n- name: other\n  rules:\n  - record: r\n    expr: vector(1)\n    labels: {{x: y}}\n{more}"
        );
        std::fs::write(folder.path().join("rules.yml"), text).unwrap();
    };
    let config = |label: &str| {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrule_files: [rules.yml]\nscrape_configs:\n- {{job_name: stays, static_configs: [{{targets: ['{}']}}]}}\n- {{job_name: changes, static_configs: [{{targets: ['{}'], labels: {{l: {label}}}}}]}}\n",
            stays.address, changes.address
        )
    };
    rules("");
    let (mut daemon, base) = start(folder.path(), &config("one"), &[]);
    daemon.wait_for(&format!("{base}/-/ready"));
    let held = || {
        let alerts = api(&base, "alerts");
        let alert = alerts["alerts"].as_array()?.iter().find(|a| a["labels"]["alertname"] == "Held")?.clone();
        alert["activeAt"].as_str().map(str::to_owned)
    };
    let since = eventually("the pending alert", 20, held);
    eventually("the first series", 20, || value(&base, "b{l=\"one\"}"));
    rules("  - record: s\n    expr: vector(2)\n");
    std::fs::write(folder.path().join("prometheus.yml"), config("two")).unwrap();
    assert_eq!(post(&format!("{base}/-/reload"), &[], b"").status, 200);
    eventually("the changed job", 20, || value(&base, "b{l=\"two\"}"));
    eventually("the new rule", 20, || (value(&base, "s") == Some(2.0)).then_some(()));
    eventually("the end of the old series", 20, || query(&base, "b{l=\"one\"}").as_array()?.is_empty().then_some(()));
    assert_eq!(held(), Some(since), "the alert has been pending all the time");
    // the other job goes on with the same series: it was not ended and begun anew
    eventually("further scrapes", 20, || (value(&base, "count_over_time(a[1m])")? > 8.0).then_some(()));
    assert_eq!(value(&base, "sum(max_over_time(scrape_series_added{job=\"stays\"}[1m]))"), Some(1.0));
    assert_eq!(value(&base, "sum(sum_over_time(scrape_series_added{job=\"stays\"}[1m]))"), Some(1.0));
    let stale = api(&base, "targets?scrapePool=stays");
    assert_eq!(stale["activeTargets"].as_array().map(Vec::len), Some(1));
}

#[test]
fn all_formats_are_scraped_and_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let text = Target::start(Reply::Page("# TYPE m gauge\nm{f=\"text\"} 1.5\n".into()));
    let open = Target::start(Reply::Typed(
        "application/openmetrics-text; version=1.0.0",
        "# TYPE m gauge\nm{f=\"open\"} 2.5\n# TYPE c counter\nc_total 3 # {id=\"x\"} 1\n# EOF\n".into(),
    ));
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs: [{{job_name: j, static_configs: [{{targets: ['{}', '{}']}}]}}]",
        text.address, open.address
    );
    let (mut daemon, base) = start(folder.path(), &config, &[]);
    daemon.wait_for(&format!("{base}/-/ready"));
    eventually("text", 20, || (value(&base, "m{f=\"text\"}") == Some(1.5)).then_some(()));
    eventually("OpenMetrics", 20, || (value(&base, "m{f=\"open\"}") == Some(2.5)).then_some(()));
    eventually("the counter", 20, || (value(&base, "c_total") == Some(3.0)).then_some(()));
    let exemplars = api(&base, "query_exemplars?query=c_total");
    assert_eq!(exemplars[0]["exemplars"][0]["labels"]["id"], "x", "{exemplars}");
    let request = text.requests().remove(0).to_lowercase();
    for header in [
        "accept: application/openmetrics-text;version=1.0.0",
        "accept-encoding: gzip",
        "x-prometheus-scrape-timeout-seconds: 0.2",
    ] {
        assert!(request.contains(header), "{header}\n{request}");
    }
}

#[test]
fn remote_write_is_stored_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let flag = ["--web.enable-remote-write-receiver"];
    let (mut daemon, base) = start(folder.path(), "", &flag);
    daemon.wait_for(&format!("{base}/-/ready"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let series = |value: f64, time: i64| {
        [Series {
            labels: vec![("__name__".into(), "sent".into()), ("a".into(), "b".into())],
            samples: vec![(time, value)],
            histograms: vec![],
        }]
    };
    for i in 0..20 {
        let answer = send(&base, &series(f64::from(i), now - 20_000 + i64::from(i) * 1000));
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    let late = send(&base, &series(1.0, now - 3_600_000));
    assert!(late.status == 400 && late.body.contains("out of"), "{} {}", late.status, late.body);
    let twice = send(&base, &series(99.0, now - 1000));
    assert!(twice.status == 400 && twice.body.contains("duplicate sample"), "{} {}", twice.status, twice.body);
    let future = send(&base, &series(1.0, now + 3_600_000));
    assert!(future.status == 400 && future.body.contains("out of bounds"), "{} {}", future.status, future.body);
    // acknowledged is acknowledged
    daemon.kill();
    let (mut daemon, base) = start(folder.path(), "", &flag);
    daemon.wait_for(&format!("{base}/-/ready"));
    assert_eq!(value(&base, "count_over_time(sent[1m])"), Some(20.0));
    assert_eq!(value(&base, "sum_over_time(sent[1m])"), Some(190.0));
}
