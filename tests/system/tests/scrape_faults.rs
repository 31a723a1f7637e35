//! Faults of targets, of discovery and of those who reload, in numbers: what is sound is scraped without a missed interval.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use harness::{Crowd, Prometheus, Reply, Target, api, binary, eventually, get, post, query, try_get, value};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::Value;

/// Writes a file so that nobody sees half of it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// The samples of each series that a range selector gives: times in seconds and values.
fn samples(base: &str, selector: &str) -> Vec<Vec<(f64, f64)>> {
    let result = query(base, selector);
    let point = |p: &Value| (p[0].as_f64().unwrap(), p[1].as_str().unwrap().parse().unwrap());
    let series = result.as_array().unwrap().iter();
    series.map(|s| s["values"].as_array().unwrap().iter().map(point).collect()).collect()
}

/// The longest time between two samples of a series, in seconds.
fn longest_gap(samples: &[(f64, f64)]) -> f64 {
    samples.windows(2).map(|two| two[1].0 - two[0].0).fold(0.0, f64::max)
}

/// Bytes of a process's memory of one kind, such as `VmRSS`.
fn memory(server: &Prometheus, kind: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// An answer with these header lines and this body.
fn raw(status: &str, headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let mut answer =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n").into_bytes();
    answer.extend_from_slice(body);
    Reply::Raw(answer.into())
}

const GZIPPED: &str = "Content-Type: text/plain; version=0.0.4\r\nContent-Encoding: gzip\r\n";

#[test]
fn bombs_and_circles_fail_alone_and_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (target, honest) =
        (Target::start(Reply::Page("m 1\n".into())), Target::start(Reply::Page("honest 1\n".into())));
    let server = Prometheus::ours(
        folder.path(),
        &format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
- {{job_name: t, body_size_limit: 1MB, static_configs: [{{targets: ['{}']}}]}}
- {{job_name: honest, scrape_interval: 1s, static_configs: [{{targets: ['{}']}}]}}
",
            target.address, honest.address
        ),
        &[],
    );
    let base = &server.base;
    eventually("data", 20, || value(base, "m"));
    let before = memory(&server, "VmHWM");
    let page = gzip(&b"m 1\n".repeat(60 << 20));
    let mut liar = page.clone();
    let trailer = liar.len() - 4;
    liar[trailer..].copy_from_slice(&1000u32.to_le_bytes());
    let circle = format!("Location: http://{}/metrics\r\n", target.address);
    for (name, reply, expected) in [
        ("a bomb", raw("200 OK", GZIPPED, &page), "body size limit exceeded"),
        ("a bomb that lies about its size", raw("200 OK", GZIPPED, &liar), "body size limit exceeded"),
        ("half of a compressed page", raw("200 OK", GZIPPED, &gzip(b"m 1\n")[..15]), "cannot decompress"),
        ("a page that is not compressed", raw("200 OK", GZIPPED, b"m 1\n"), "cannot decompress"),
        ("a circle", raw("302 Found", &circle, b""), "redirect"),
        ("a redirect to nowhere", raw("302 Found", "Location: http://127.0.0.1:1/\r\n", b""), "connection refused"),
        ("a redirect without an address", raw("302 Found", "", b""), ""),
        ("no end of header lines", raw("200 OK", &"X: y\r\n".repeat(200_000), b"m 1\n"), ""),
        ("half of a head", Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Ty"[..].into()), ""),
        (
            "a wrong chunk",
            Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nm 1\r\n"[..].into()),
            "",
        ),
        ("nothing", Reply::Raw(b""[..].into()), ""),
        ("zeros", raw("200 OK", "Content-Type: text/plain; version=0.0.4\r\n", &[0; 1000]), "line 1"),
    ] {
        target.set(reply);
        let error = eventually(name, 20, || {
            let targets = api(base, "targets?scrapePool=t");
            let target = &targets["activeTargets"][0];
            let error = target["lastError"].as_str().unwrap_or_default().to_lowercase();
            (target["health"] == "down" && error.contains(expected) && !error.is_empty()).then_some(error)
        });
        println!("{name}: {error}");
        eventually("the end of the series", 20, || (value(base, "up{job=\"t\"}") == Some(0.0)).then_some(()));
        assert_eq!(value(base, "m"), None, "{name}: {error}");
        target.set(Reply::Page("m 1\n".into()));
        eventually(&format!("recovery from {name}"), 20, || value(base, "m"));
    }
    for samples in samples(base, "up{job=\"honest\"}[1m]") {
        assert!(samples.iter().all(|(_, up)| *up == 1.0) && longest_gap(&samples) < 2.0, "{samples:?}");
    }
    let more = memory(&server, "VmHWM").saturating_sub(before);
    assert!(more < 64 << 20, "the peak of memory has grown by {more} bytes");
    assert!(!server.output().contains("panicked"), "{}", server.output());
}

/// One group for each target: half answer, half take the request and are silent.
fn groups(crowds: &[Crowd], silent: &Crowd, count: usize) -> String {
    let mut text = String::from("[");
    for target in 0..count {
        let separator = if target == 0 { "" } else { ",\n" };
        let (address, path, half) = if target % 2 == 0 {
            (crowds[target / 2 % crowds.len()].address, "answers", "sound")
        } else {
            (silent.address, "silent", "silent")
        };
        let _ = write!(
            text,
            r#"{separator}{{"targets": ["{address}"], "labels": {{"half": "{half}", "n": "{target}", "__metrics_path__": "/{path}/{target}"}}}}"#
        );
    }
    text + "]"
}

#[test]
fn ten_thousand_targets_of_which_half_time_out_are_scraped_in_time() {
    // this process has the other end of each connection
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    const TARGETS: usize = 10_000;
    const INTERVAL: f64 = 6.0;
    let folder = tempfile::tempdir().unwrap();
    let crowds: Vec<Crowd> = (0..50).map(|_| Crowd::start()).collect();
    let silent = Crowd::start();
    std::fs::write(folder.path().join("targets.json"), groups(&crowds, &silent, TARGETS)).unwrap();
    let config = "global: {scrape_interval: 6s, scrape_timeout: 1s}
scrape_configs: [{job_name: crowd, file_sd_configs: [{files: [targets.json]}]}]
";
    // as many files as a service is given to begin with; it may ask for more
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 512 && exec \"$@\"", "sh"]).arg(binary("collector"));
    let server = Prometheus::run(command, folder.path(), config, &[]);
    let base = &server.base;
    let half = TARGETS as f64 / 2.0;
    eventually("all targets", 30, || (value(base, "count(up)") == Some(TARGETS as f64)).then_some(()));
    let all = value(base, "time()").unwrap();
    // each target three times more
    eventually("three intervals", 60, || (value(base, "time()")? > all + 3.2 * INTERVAL).then_some(()));
    let served: usize = crowds.iter().map(Crowd::served).sum();
    let accepted: usize = crowds.iter().map(Crowd::accepted).sum();
    let resident = memory(&server, "VmRSS");

    assert_eq!(value(base, "sum(up)"), Some(half));
    assert_eq!(value(base, "sum(up{half=\"silent\"})"), Some(0.0));
    assert_eq!(value(base, "count(answered)"), Some(half));
    let sound = samples(base, "up{half=\"sound\"}[2m]");
    assert_eq!(sound.len() as f64, half);
    let end = sound.iter().filter_map(|samples| samples.last()).fold(0.0, |latest, (time, _)| f64::max(latest, *time));
    let worst = sound.iter().max_by(|a, b| longest_gap(a).total_cmp(&longest_gap(b))).unwrap();
    assert!(longest_gap(worst) < INTERVAL * 1.5, "a missed interval: {worst:?}");
    for samples in &sound {
        assert!(samples.len() >= 4 && samples.iter().all(|(_, up)| *up == 1.0), "{samples:?}");
        assert!(end - samples[samples.len() - 1].0 < INTERVAL * 1.5, "no longer scraped: {samples:?}");
    }
    println!("{served} pages over {accepted} connections, {} KiB a target", (resident >> 10) / TARGETS as u64);
    assert!(served as f64 >= half * 4.0, "{served}");
    assert!(accepted * 10 < served, "{accepted} connections for {served} pages");
    assert!(resident < TARGETS as u64 * (24 << 10), "{resident} bytes");
    assert!(!server.output().contains("panicked"), "{}", server.output());
}

#[test]
fn discovery_may_flap_and_be_empty_wrong_or_huge() {
    let folder = tempfile::tempdir().unwrap();
    let (sound, flapping) = (Target::start(Reply::Page("a 1\n".into())), Target::start(Reply::Page("b 1\n".into())));
    let json = |groups: String| Reply::Typed("application/json", groups);
    let one = format!("[{{\"targets\": [\"{}\"]}}]", flapping.address);
    let source = Target::start(json(one.clone()));
    let server = Prometheus::ours(
        folder.path(),
        &format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
- {{job_name: sound, scrape_interval: 1s, static_configs: [{{targets: ['{}']}}]}}
- {{job_name: found, http_sd_configs: [{{url: 'http://{}/', refresh_interval: 100ms}}]}}
",
            sound.address, source.address
        ),
        &[],
    );
    let base = &server.base;
    let active = || api(base, "targets?scrapePool=found&state=active")["activeTargets"].as_array().unwrap().len();
    let found = |count: usize| eventually(&format!("{count} targets"), 60, || (active() == count).then_some(()));
    eventually("data", 20, || value(base, "b"));

    // nothing that is wrong takes a target away
    for reply in
        [Reply::Status(500), json("[{]".into()), json("{}".into()), Reply::Silence, Reply::CutShort(one.clone())]
    {
        source.set(reply.clone());
        let failures = || value_of(base, "prometheus_sd_http_failures_total");
        let before = failures();
        if !matches!(reply, Reply::Silence) {
            eventually(&format!("{reply:?} to fail"), 20, || (failures() > before + 1.0).then_some(()));
        }
        assert_eq!(active(), 1, "{reply:?}");
        source.set(json(one.clone()));
    }
    // a target that comes and goes faster than its series would end has no end in between
    let asked = source.requests().len();
    for turn in 0..40 {
        source.set(json(if turn % 2 == 0 { "[]".into() } else { one.clone() }));
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    assert!(source.requests().len() > asked);
    found(1);
    eventually("data after the flapping", 20, || value(base, "b"));

    // nothing at all, with success: the target is gone, and its series end
    source.set(json("[]".into()));
    found(0);
    eventually("the end of the series", 20, || (query(base, "b") == serde_json::json!([])).then_some(()));

    // twenty thousand, and back; scrapes that are refused take long intervals
    let many: Vec<String> = (0..20_000)
        .map(|n| {
            format!("{{\"targets\":[\"127.0.0.1:1\"],\"labels\":{{\"n\":\"{n}\",\"__scrape_interval__\":\"10m\"}}}}")
        })
        .collect();
    source.set(json(format!("[{}]", many.join(","))));
    found(20_000);
    let page = get(&format!("{base}/metrics")).body;
    assert!(page.contains("prometheus_sd_discovered_targets{config=\"found\",name=\"scrape\"} 20000"), "{page}");
    source.set(json(one));
    found(1);
    eventually("data after the crowd", 20, || value(base, "b"));

    let steady = samples(base, "up{job=\"sound\"}[5m]");
    assert_eq!(steady.len(), 1);
    assert!(longest_gap(&steady[0]) < 2.0 && steady[0].iter().all(|(_, up)| *up == 1.0), "{steady:?}");
    assert!(!server.output().contains("panicked"), "{}", server.output());
}

/// The sum of a metric on the server's own page.
fn value_of(base: &str, metric: &str) -> f64 {
    let page = get(&format!("{base}/metrics")).body;
    let of_metric = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values = page.lines().filter(of_metric).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// The system's clock as a file says: what a process sees is moved by the seconds in it.
struct MovedClock {
    library: std::path::PathBuf,
    offset: std::path::PathBuf,
}

impl MovedClock {
    fn new(folder: &Path) -> Self {
        let clock = Self { library: folder.join("moved_clock.so"), offset: folder.join("offset") };
        clock.set(0);
        let source = folder.join("moved_clock.c");
        std::fs::write(&source, include_str!("moved_clock.c")).unwrap();
        let output =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&clock.library).arg(source).output();
        let output = output.expect("a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        clock
    }

    fn set(&self, seconds: i64) {
        // in place: the process has the file mapped
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.offset).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).unwrap();
    }
}

#[test]
fn scrapes_and_rules_go_on_when_the_clock_jumps() {
    let folder = tempfile::tempdir().unwrap();
    let clock = MovedClock::new(folder.path());
    let target = Target::start(Reply::Page("a 1\n".into()));
    std::fs::write(folder.path().join("rules.yml"), "groups: [{name: g, rules: [{record: r, expr: vector(1)}]}]")
        .unwrap();
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: [rules.yml]
scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{}']}}]}}]
",
        target.address
    );
    let mut command = Command::new(binary("collector"));
    command.env("LD_PRELOAD", &clock.library).env("MOVED_CLOCK", &clock.offset);
    let server = Prometheus::run(command, folder.path(), &config, &[]);
    let base = &server.base;
    let now = || value(base, "time()").unwrap();
    let latest = |series: &str| value(base, &format!("max(max_over_time(timestamp({series})[1d:]))"));
    let evaluations = || value_of(base, "prometheus_rule_evaluations_total");
    eventually("data", 20, || value(base, "a").and(value(base, "r")));
    const HOUR: i64 = 3600;
    let mut was = 0;
    for (offset, stored) in
        [(HOUR, true), (-HOUR, false), (0, false), (HOUR - 60, false), (2 * HOUR, true), (2 * HOUR + 1, true)]
    {
        let before = now();
        clock.set(offset);
        assert!((now() - before - (offset - was) as f64).abs() < 30.0, "the clock has not moved");
        was = offset;
        let (scrapes, rules) = (target.requests().len(), evaluations());
        std::thread::sleep(std::time::Duration::from_secs(4));
        let (scrapes, rules) = (target.requests().len() - scrapes, evaluations() - rules);
        // eight intervals have passed: nothing waits for a time that was, nor catches up with times that were not
        assert!((4..=11).contains(&scrapes), "{scrapes} scrapes at {offset}");
        assert!((4.0..=11.0).contains(&rules), "{rules} evaluations at {offset}");
        if stored {
            for series in ["a", "r"] {
                let time = latest(series).unwrap();
                assert!(now() - time < 3.0, "{series} at {offset}: {time} of {}", now());
            }
        }
    }
    assert!(!server.output().contains("panicked"), "{}", server.output());
}

#[test]
fn a_storm_of_reloads_leaves_unchanged_targets_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (stays, changes) = (Target::start(Reply::Page("a 1\n".into())), Target::start(Reply::Page("b 1\n".into())));
    let config = |turn: u32| {
        format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
- {{job_name: stays, scrape_interval: 1s, static_configs: [{{targets: ['{}']}}]}}
- {{job_name: changes, static_configs: [{{targets: ['{}'], labels: {{turn: t{turn}}}}}]}}
",
            stays.address, changes.address
        )
    };
    let server = Prometheus::ours(folder.path(), &config(0), &[]);
    let (base, file) = (&server.base, &server.config);
    eventually("data", 20, || value(base, "a").and(value(base, "b")));
    let files = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let (files_before, scrapes) = (files(), stays.requests().len());
    for turn in 1..=100 {
        replace(file, &if turn % 10 == 0 { "nonsense: true\n".to_owned() } else { config(turn) });
        if turn % 2 == 0 {
            server.signal(Signal::HUP);
        } else {
            assert_eq!(post(&format!("{base}/-/reload"), &[], b"").status, 200, "{turn}");
        }
    }
    replace(file, &config(101));
    server.signal(Signal::HUP);
    let pool = || api(base, "targets?scrapePool=changes")["activeTargets"].clone();
    eventually("the last configuration", 20, || (pool()[0]["labels"]["turn"] == "t101").then_some(()));
    assert_eq!(pool().as_array().map(Vec::len), Some(1));
    // what the storm began and ended is gone after its markers
    eventually("the ends of all other series", 20, || (value(base, "count(b)") == Some(1.0)).then_some(()));
    eventually("the last target", 20, || value(base, "b{turn=\"t101\"}"));
    eventually("a few more scrapes", 20, || (stays.requests().len() > scrapes + 3).then_some(()));
    assert_eq!(pool()[0]["labels"]["turn"], "t101");

    let steady = samples(base, "a[5m]");
    assert_eq!(steady.len(), 1);
    assert!(longest_gap(&steady[0]) < 2.0, "{:?}", steady[0]);
    assert_eq!(value(base, "sum(sum_over_time(scrape_series_added{job=\"stays\"}[5m]))"), Some(1.0));
    eventually("files to be closed", 20, || (files() <= files_before + 8).then_some(()));
    assert!(try_get(&format!("{base}/-/healthy")).is_ok_and(|answer| answer.status == 200));
    assert!(!server.output().contains("panicked"), "{}", server.output());
}
