//! `firewatch up` on this machine: data comes in, survives SIGKILL, and an alert gets through.

use std::path::Path;

use harness::{Daemon, Receiver, binary, eventually, free_port, get, post, query, value};

fn start(folder: &Path, port: u16, more: &[String]) -> Daemon {
    let mut arguments = vec!["up".to_owned(), "--interval=1s".to_owned(), format!("--port={port}")];
    arguments.push(format!("--data={}", folder.join("data").display()));
    arguments.extend_from_slice(more);
    let mut daemon = Daemon::start(&binary("firewatch"), &arguments, folder);
    daemon.wait_for(&format!("http://127.0.0.1:{port}/-/ready"));
    daemon
}

fn memory_total() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|l| l.starts_with("MemTotal:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

#[test]
fn one_command_monitors_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let rules = folder.path().join("more.yml");
    std::fs::write(
        &rules,
        "groups:\n- name: test\n  rules:\n  - alert: AlwaysThere\n    expr: node_memory_MemTotal_bytes > 0\n    labels: {severity: test}\n    annotations: {summary: '{{ $labels.instance }} has {{ $value | humanize1024 }}B'}\n",
    )
    .unwrap();
    let port = free_port();
    let base = format!("http://127.0.0.1:{port}");
    let more = [format!("--rules={}", rules.display()), format!("--alertmanager={}", receiver.address)];
    let daemon = start(folder.path(), port, &more);
    assert!(daemon.output().contains(&format!("Firewatch is up: {base}")), "{}", daemon.output());

    // the machine is seen as it is
    eventually("node exporter, blackbox exporter and collector are up", 20, || {
        (value(&base, "sum(up)") == Some(3.0)).then_some(())
    });
    assert_eq!(value(&base, "node_memory_MemTotal_bytes"), Some(memory_total()));
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    eventually("a rate of all CPUs", 30, || {
        let busy = value(&base, "sum(rate(node_cpu_seconds_total[10s]))")?;
        (busy > cpus * 0.7 && busy < cpus * 1.3).then_some(())
    });

    // the alert arrives, as Alertmanagers expect it
    let (head, body) = eventually("the alert's message", 20, || {
        receiver.received().into_iter().find(|(_, body)| body.contains("AlwaysThere"))
    });
    assert!(head.starts_with("POST /api/v2/alerts "), "{head}");
    let alerts: serde_json::Value = serde_json::from_str(&body).unwrap();
    let alert = alerts.as_array().unwrap().iter().find(|a| a["labels"]["alertname"] == "AlwaysThere").unwrap();
    assert_eq!((&alert["labels"]["severity"], &alert["labels"]["job"]), (&"test".into(), &"node".into()));
    let summary = alert["annotations"]["summary"].as_str().unwrap();
    assert!(summary.contains(" has ") && summary.ends_with("iB"), "{summary}");
    for field in ["startsAt", "endsAt", "generatorURL"] {
        assert!(alert[field].as_str().is_some_and(|t| !t.is_empty()), "{field}: {alert}");
    }

    // a person sees it
    let page = get(&base);
    assert!(page.body.contains("<title>Firewatch</title>") && page.head.contains("text/html"), "{}", page.head);

    // samples from before a SIGKILL are there after it
    let before = query(&base, "node_memory_MemTotal_bytes[1m]")[0]["values"].as_array().unwrap().clone();
    assert!(!before.is_empty());
    daemon.kill();
    let daemon = start(folder.path(), port, &more);
    let after = query(&base, "node_memory_MemTotal_bytes[5m]");
    let after: Vec<_> = after[0]["values"].as_array().unwrap().clone();
    for sample in &before {
        assert!(after.contains(sample), "lost: {sample}");
    }
    eventually("new samples", 20, || {
        let count = value(&base, "count_over_time(node_memory_MemTotal_bytes[5m])")?;
        (count > before.len() as f64 + 2.0).then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_taken_port_is_named_and_foreign_pages_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    let arguments =
        ["up".to_owned(), format!("--port={taken}"), format!("--data={}", folder.path().join("d").display())];
    let daemon = Daemon::start(&binary("firewatch"), &arguments, folder.path());
    let url = eventually("the address", 20, || {
        let output = daemon.output();
        let line = output.lines().find_map(|l| l.strip_prefix("Firewatch is up: "))?.to_owned();
        output.contains("Stop it with").then_some(line)
    });
    assert!(daemon.output().contains(&format!("port {taken} is taken")), "{}", daemon.output());
    eventually("an answer", 10, || harness::try_get(&format!("{url}/-/ready")).ok().filter(|a| a.status == 200));
    let foreign = post(&format!("{url}/api/v1/query"), &[("Host", "evil.example")], b"");
    assert_eq!(foreign.status, 403, "{}", foreign.body);
    let origin = post(&format!("{url}/api/v1/query"), &[("Origin", "http://evil.example")], b"");
    assert_eq!(origin.status, 403, "{}", origin.body);
    // what changes something is off
    assert_eq!(post(&format!("{url}/-/quit"), &[], b"").status, 403);
    assert_eq!(post(&format!("{url}/api/v1/write"), &[], b"").status, 404);
    assert_eq!(post(&format!("{url}/api/v1/admin/tsdb/clean_tombstones"), &[], b"").status, 503);
    drop(holder);
}
