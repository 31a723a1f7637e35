//! Wrong files and wicked targets: a clear message, and the collector goes on with what it had.

use std::path::Path;
use std::process::Command;

use harness::{Daemon, Reply, Target, api, binary, encode, eventually, free_port, get, post, value};

struct Collector {
    daemon: Daemon,
    base: String,
    config: std::path::PathBuf,
}

fn start(folder: &Path, config: &str) -> Collector {
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let port = free_port();
    let base = format!("http://127.0.0.1:{port}");
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-lifecycle".to_owned(),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let mut daemon = Daemon::start(&binary("collector"), &arguments, folder);
    daemon.wait_for(&format!("{base}/-/ready"));
    Collector { daemon, base, config: file }
}

fn config_for(target: &Target, more: &str) -> String {
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}\nscrape_configs:\n- job_name: t\n  static_configs: [{{targets: ['{}']}}]\n{more}",
        target.address
    )
}

fn last_error(base: &str) -> String {
    let targets = api(base, "targets?scrapePool=t");
    targets["activeTargets"][0]["lastError"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_broken_configuration_stops_the_start_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("bad-rules.yml");
    std::fs::write(&rules, "groups:\n- name: g\n  rules:\n  - record: a\n    expr: rate(x\n").unwrap();
    for (config, expected) in [
        ("global:\n  nope: 1\n", "line 2: field nope not found"),
        ("scrape_configs:\n- job_name: a\n- job_name: a\n", "found multiple scrape configs with job name"),
        (
            "scrape_configs:\n- job_name: a\n  metric_relabel_configs:\n  - {regex: '(', action: drop}\n",
            "line 4: error parsing regexp",
        ),
        ("global: [\n", "line "),
        ("remote_write: [{url: 'http://x'}]\n", "not supported by this version of Firewatch: remote_write"),
        ("rule_files: [bad-rules.yml]\n", "could not parse expression: 1:7: parse error: unclosed left parenthesis"),
    ] {
        let file = folder.path().join("bad.yml");
        std::fs::write(&file, config).unwrap();
        let arguments = [format!("--config.file={}", file.display()), "--web.listen-address=127.0.0.1:0".to_owned()];
        let (code, output) = Daemon::start(&binary("collector"), &arguments, folder.path()).ended();
        assert_eq!(code, Some(1), "{config}\n{output}");
        assert!(output.contains(expected), "{config}\n{output}");
        assert!(!output.contains("panicked"), "{output}");
    }
    let arguments = ["--config.file=missing.yml".to_owned()];
    let (code, output) = Daemon::start(&binary("collector"), &arguments, folder.path()).ended();
    assert!(code == Some(1) && output.contains("open missing.yml"), "{output}");
}

#[test]
fn a_bad_reload_keeps_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(Reply::Page("good_metric 1\n".into()));
    let good = config_for(&target, "");
    let collector = start(folder.path(), &good);
    let base = &collector.base;
    eventually("data", 20, || value(base, "good_metric"));
    std::fs::write(&collector.config, "scrape_configs:\n- job_name: t\n  nope: x\n").unwrap();
    let answer = post(&format!("{base}/-/reload"), &[], b"");
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("line 3: field nope not found"), "{}", answer.body);
    assert!(get(&format!("{base}/metrics")).body.contains("prometheus_config_last_reload_successful 0"));
    let count = target.requests().len();
    eventually("further scrapes", 20, || (target.requests().len() > count + 2).then_some(()));
    std::fs::write(&collector.config, good).unwrap();
    collector.daemon.signal(rustix::process::Signal::HUP);
    eventually("a good reload", 20, || {
        get(&format!("{base}/metrics")).body.contains("prometheus_config_last_reload_successful 1").then_some(())
    });
}

#[test]
fn wicked_targets_fail_alone_and_recover() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(Reply::Page("m{a=\"b\"} 1\n".into()));
    let honest = Target::start(Reply::Page("honest 1\n".into()));
    let more = format!("- job_name: honest\n  static_configs: [{{targets: ['{}']}}]\n", honest.address);
    let collector = start(folder.path(), &config_for(&target, &more));
    let base = &collector.base;
    let up = r#"up{job="t"}"#;
    eventually("data", 20, || value(base, "m"));
    for (reply, expected) in [
        (Reply::Page("m{a=\"b\"} 1\nbroken{ 2\n".into()), "line 2, column "),
        (Reply::Page("m{a=\"b\"} one\n".into()), "line 1, column "),
        (Reply::Status(503), "server returned HTTP status 503 Fault"),
        (Reply::CutShort("m{a=\"b\"} 2\n".into()), "unexpected EOF"),
        (Reply::Silence, "context deadline exceeded"),
        (Reply::Endless(1 << 30), ""),
        (Reply::Garbage, "malformed HTTP response"),
        (Reply::Typed("text/html", "<html>".into()), "received unsupported Content-Type \"text/html\""),
    ] {
        target.set(reply.clone());
        let error = eventually(&format!("{reply:?} to fail"), 20, || {
            (value(base, up) == Some(0.0)).then(|| last_error(base)).filter(|e| !e.is_empty() && e.contains(expected))
        });
        // nothing of a failed page is kept, and its series have ended
        assert_eq!(value(base, "m"), None, "{reply:?}: {error}");
        assert_eq!(value(base, r#"up{job="honest"}"#), Some(1.0), "{reply:?}");
        target.set(Reply::Page("m{a=\"b\"} 1\n".into()));
        eventually(&format!("recovery from {reply:?}"), 20, || value(base, "m"));
    }
    assert!(!collector.daemon.output().contains("panicked"), "{}", collector.daemon.output());
}

#[test]
fn limits_refuse_whole_pages() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(Reply::Page("a 1\nb 2\nc 3\n".into()));
    for (limit, expected) in [
        ("sample_limit: 2", "sample limit exceeded"),
        ("label_limit: 2", "label_limit exceeded"),
        ("label_value_length_limit: 3", "label_value_length_limit exceeded"),
        ("body_size_limit: 10B", "body size limit exceeded"),
    ] {
        let folder = folder.path().join(limit.split(':').next().unwrap());
        std::fs::create_dir(&folder).unwrap();
        let config = config_for(&target, "").replace("  static_configs", &format!("  {limit}\n  static_configs"));
        let collector = start(&folder, &config);
        let error = eventually(limit, 20, || Some(last_error(&collector.base)).filter(|e| !e.is_empty()));
        assert!(error.contains(expected), "{limit}: {error}");
        assert_eq!((value(&collector.base, "a"), value(&collector.base, "up")), (None, Some(0.0)), "{limit}");
    }
}

#[test]
fn wrong_requests_are_answered_with_the_fault() {
    let folder = tempfile::tempdir().unwrap();
    let collector = start(folder.path(), "");
    let base = &collector.base;
    for (path, status, expected) in [
        ("query?query=rate(", 400, r#"invalid parameter \"query\": 1:6: parse error: unclosed left parenthesis"#),
        ("query?query=up&time=x", 400, r#"cannot parse \"x\" to a valid timestamp"#),
        ("query_range?query=up&start=2&end=1&step=1", 400, "end timestamp must not be before start time"),
        (
            "query_range?query=up&start=1&end=2&step=0",
            400,
            "zero or negative query resolution step widths are not accepted",
        ),
        ("query_range?query=up&start=1&end=900000&step=1", 400, "exceeded maximum resolution of 11,000 points"),
        ("series", 400, "no match[] parameter provided"),
        ("series?match[]={}", 400, "match[] must contain at least one non-empty matcher"),
        ("query?query=up%20%2B%20on(x)%20group_left%20up&timeout=x", 400, "cannot parse"),
        ("nope", 404, "404 page not found"),
    ] {
        let answer = get(&format!("{base}/api/v1/{path}"));
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(expected), "{path}: {}", answer.body);
    }
    let deep = encode(&"(".repeat(100_000));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = post(&format!("{base}/api/v1/query"), &form, format!("query={deep}").as_bytes());
    assert_eq!(answer.status, 400, "{}", answer.body);
    for body in [&b"nonsense"[..], b"", &[0xff; 100]] {
        let answer = post(&format!("{base}/api/v1/write"), &[("Content-Encoding", "snappy")], body);
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
    assert!(!collector.daemon.output().contains("panicked"), "{}", collector.daemon.output());
    assert_eq!(get(&format!("{base}/-/healthy")).status, 200);
}

#[test]
fn the_checker_names_file_line_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let check = |arguments: &[&str]| {
        let output = Command::new(binary("firewatch")).arg("check").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let good = write("good.yml", "scrape_configs: [{job_name: a}]\n");
    let bad = write("bad.yml", "scrape_configs:\n- job_name: a\n  nope: 1\n");
    let rules = write("rules.yml", "groups: [{name: g, rules: [{record: a, expr: up}, {record: a, expr: up}]}]\n");
    let manifest = write(
        "manifest.yml",
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: x}\nspec:\n  groups:\n  - name: g\n    rules:\n    - alert: A\n      expr: up == 0\n",
    );
    assert_eq!(check(&["config", good.to_str().unwrap()]).0, Some(0));
    let (code, text) = check(&["config", bad.to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("bad.yml: line 3: field nope not found"), "{text}");
    assert_eq!(check(&["rules", rules.to_str().unwrap()]).0, Some(0));
    assert_eq!(check(&["rules", "--lint-fatal", rules.to_str().unwrap()]).0, Some(3));
    let (code, text) = check(&["rules", manifest.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("SUCCESS: 1 rules found"), "{text}");
    assert_eq!(check(&["nope"]).0, Some(1));
}
