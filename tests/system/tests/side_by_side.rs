//! The same work given to the real Prometheus and to the collector: the same targets, series and answers.

use std::collections::BTreeSet;
use std::path::Path;

use harness::{Daemon, Prometheus, Series, api, binary, encode, eventually, free_port, get, send, value};
use serde_json::Value;

struct Pair {
    ours: String,
    theirs: String,
    _servers: Vec<Prometheus>,
}

/// Both servers with the same configuration, or `None` without the real one.
fn pair(folder: &Path, config: &str) -> Option<Pair> {
    let more = ["--web.enable-remote-write-receiver", "--enable-feature=promql-experimental-functions"];
    let servers = Prometheus::both(folder, config, &more);
    let [ours, theirs] = &servers[..] else { return None };
    Some(Pair { ours: ours.base.clone(), theirs: theirs.base.clone(), _servers: servers })
}

/// The label sets of a result, as text.
fn label_sets(result: &Value) -> BTreeSet<String> {
    result.as_array().into_iter().flatten().map(|s| s.get("metric").unwrap_or(s).to_string()).collect()
}

#[test]
fn scraping_gives_the_same_targets_series_and_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let arguments = [format!("--web.listen-address=127.0.0.1:{port}")];
    let mut exporter = Daemon::start(&binary("node-exporter"), &arguments, folder.path());
    exporter.wait_for(&format!("http://127.0.0.1:{port}/metrics"));
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{zone: a}}}}
rule_files: [rules.yml]
scrape_configs:
- job_name: node
  params: {{x: [y]}}
  static_configs:
  - targets: ['127.0.0.1:{port}', '127.0.0.1:1']
    labels: {{rack: r1, __meta_secret: s}}
  relabel_configs:
  - {{source_labels: [__address__], regex: '.*:(.*)', target_label: port}}
  - {{source_labels: [__meta_secret], target_label: secret}}
  - {{source_labels: [__address__], regex: '.*:1', target_label: instance, replacement: nobody}}
  metric_relabel_configs:
  - {{source_labels: [__name__], regex: 'node_network_.*|process_.*', action: drop}}
  - {{source_labels: [device], target_label: disk}}
  - {{regex: device, action: labeldrop}}
- job_name: honest
  honor_labels: true
  sample_limit: 100000
  static_configs: [{{targets: ['127.0.0.1:{port}']}}]
- job_name: dropped
  static_configs: [{{targets: ['127.0.0.1:{port}']}}]
  relabel_configs: [{{action: drop, source_labels: [job], regex: dropped}}]
"
    );
    std::fs::write(
        folder.path().join("rules.yml"),
        "groups:\n- name: g\n  rules:\n  - record: job:up:sum\n    expr: sum by (job) (up)\n    labels: {team: x}\n  - alert: Down\n    expr: up == 0\n    labels: {severity: page}\n    annotations: {summary: '{{ $labels.instance }} of {{ $externalLabels.zone }}: {{ $value }}'}\n  - alert: Waiting\n    expr: up == 1\n    for: 1h\n",
    )
    .unwrap();
    let Some(pair) = pair(folder.path(), &config) else { return };
    for base in [&pair.ours, &pair.theirs] {
        eventually("ten scrapes and the alerts", 60, || {
            let scrapes = value(base, r#"min(count_over_time(up[5m]))"#)?;
            (scrapes > 10.0 && value(base, r#"count(ALERTS{alertstate="firing"})"#) == Some(1.0)).then_some(())
        });
    }
    // targets, without what time and the run decide
    let targets = |base: &str| {
        let mut data = api(base, "targets");
        for target in data["activeTargets"].as_array_mut().unwrap() {
            for field in ["lastScrape", "lastScrapeDuration", "globalUrl", "lastError"] {
                assert!(target.as_object_mut().unwrap().remove(field).is_some(), "{field}");
            }
        }
        let mut active: Vec<String> = data["activeTargets"].as_array().unwrap().iter().map(sorted).collect();
        active.sort();
        data["activeTargets"] = active.into();
        data
    };
    assert_eq!(targets(&pair.ours), targets(&pair.theirs));
    // series, label names and values
    let everything = format!("series?match[]={}", encode(r#"{job=~".+"}"#));
    let series =
        |base: &str| -> BTreeSet<String> { api(base, &everything).as_array().unwrap().iter().map(sorted).collect() };
    let (ours, theirs) = (series(&pair.ours), series(&pair.theirs));
    assert!(ours.len() > 300, "{}", ours.len());
    let difference: Vec<_> = ours.symmetric_difference(&theirs).take(5).collect();
    assert!(difference.is_empty(), "{difference:#?}");
    for path in
        ["labels", "label/disk/values", "label/__name__/values", "label/nope/values", "scrape_pools", "alertmanagers"]
    {
        assert_eq!(api(&pair.ours, path), api(&pair.theirs, path), "{path}");
    }
    let metadata = |base: &str| sorted(&api(base, "metadata?metric=node_cpu_seconds_total"));
    assert_eq!(metadata(&pair.ours), metadata(&pair.theirs));
    // rules and alerts, without times
    let rules = |base: &str| strip(&api(base, "rules"));
    assert_eq!(rules(&pair.ours), rules(&pair.theirs));
    let alerts = |base: &str| strip(&api(base, "alerts"));
    assert_eq!(alerts(&pair.ours), alerts(&pair.theirs));
    // answers have the same label sets
    for expr in SHAPES {
        let path = format!("query?query={}", encode(expr));
        let (ours, theirs) = (api(&pair.ours, &path), api(&pair.theirs, &path));
        assert_eq!(ours["resultType"], theirs["resultType"], "{expr}");
        let (ours, theirs) = (label_sets(&ours["result"]), label_sets(&theirs["result"]));
        assert_eq!(ours, theirs, "{expr}");
    }
}

const SHAPES: [&str; 14] = [
    "up",
    "ALERTS",
    "job:up:sum",
    "scrape_samples_scraped",
    "rate(node_cpu_seconds_total[10s])",
    "sum by (mode) (rate(node_cpu_seconds_total[10s]))",
    "node_memory_MemFree_bytes / node_memory_MemTotal_bytes",
    "node_filesystem_avail_bytes",
    "count by (__name__) ({job=\"node\"})",
    "topk(100, node_cpu_seconds_total) * 0",
    "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "absent(nope{a=\"b\"})",
    "node_uname_info * on (instance, job) group_left (rack) up",
    "max_over_time(up[10s]) unless on (instance) node_load1",
];

/// JSON text with sorted keys.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k:?}:{}", sorted(v))).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

/// The same without what depends on when things happened.
fn strip(value: &Value) -> String {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for key in ["evaluationTime", "lastEvaluation", "activeAt"] {
                    if let Some(found) = map.get_mut(key) {
                        *found = Value::Null;
                    }
                }
                map.values_mut().for_each(clean);
            }
            Value::Array(items) => {
                items.iter_mut().for_each(clean);
                items.sort_by_key(sorted);
            }
            _ => {}
        }
    }
    let mut value = value.clone();
    clean(&mut value);
    sorted(&value)
}

/// Counters with resets, gauges, classic histograms, gaps, staleness markers, infinities: 30 minutes at 15 s before `end`.
fn samples(end: i64) -> Vec<Series> {
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let mut all = Vec::new();
    let mut add = |name: &str, labels: &[(&str, String)], at: &dyn Fn(i64) -> Option<f64>| {
        let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
        pairs.extend(labels.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
        pairs.sort();
        let samples = (0..120).filter_map(|i| at(i).map(|v| (end - (119 - i) * 15_000, v))).collect();
        all.push(Series { labels: pairs, samples, ..Series::default() });
    };
    let noise = |i: i64, seed: i64| ((i * 7919 + seed * 104_729) % 1000) as f64 / 1000.0;
    for instance in 0..4i64 {
        let host = ("instance", format!("host-{instance}"));
        for mode in ["user", "system", "idle"] {
            let labels = [host.clone(), ("mode", mode.to_owned()), ("job", "node".to_owned())];
            let seed = instance * 10 + mode.len() as i64;
            // the third host restarts in the middle
            let base = |i: i64| if instance == 2 && i >= 60 { i - 60 } else { i };
            add("cpu_seconds_total", &labels, &|i| Some(base(i) as f64 * (1.0 + seed as f64 / 7.0) + noise(i, seed)));
        }
        let labels = [host.clone(), ("job", "node".to_owned())];
        add("temperature", &labels, &|i| Some(20.0 + instance as f64 + noise(i, instance) * 5.0));
        add("mostly_constant", &labels, &|_| Some(4096.0 * (instance + 1) as f64));
        add("with_gaps", &labels, &|i| (i % (instance + 2) != 0).then_some(i as f64));
        add("ends", &labels, &|i| match i {
            0..70 => Some(i as f64),
            70 => Some(stale),
            _ => None,
        });
        add("wild", &labels, &|i| {
            Some([f64::INFINITY, -0.0, 1e-300, f64::NEG_INFINITY, f64::NAN, 1e300][(i % 6) as usize])
        });
        for (at, le) in ["0.1", "0.5", "1", "5", "+Inf"].iter().enumerate() {
            let labels = [host.clone(), ("le", (*le).to_owned()), ("job", "web".to_owned())];
            add("latency_seconds_bucket", &labels, &|i| Some((i * (at as i64 + 1) * (instance + 1)) as f64));
        }
        let labels = [host.clone(), ("job", "web".to_owned())];
        add("latency_seconds_sum", &labels, &|i| Some(i as f64 * 0.37 * (instance + 1) as f64));
        add("latency_seconds_count", &labels, &|i| Some((i * 5 * (instance + 1)) as f64));
        add("info", &[host, ("version", format!("1.{instance}")), ("job", "node".to_owned())], &|_| Some(1.0));
    }
    all
}

const QUERIES: [&str; 62] = [
    "cpu_seconds_total",
    "cpu_seconds_total{mode!=\"idle\", instance=~\"host-[12]\"}",
    "rate(cpu_seconds_total[5m])",
    "irate(cpu_seconds_total[5m])",
    "increase(cpu_seconds_total[10m])",
    "delta(temperature[10m])",
    "idelta(temperature[10m])",
    "deriv(temperature[10m])",
    "predict_linear(temperature[10m], 600)",
    "double_exponential_smoothing(temperature[10m], 0.5, 0.3)",
    "resets(cpu_seconds_total[20m])",
    "changes(mostly_constant[20m])",
    "sum(rate(cpu_seconds_total[5m]))",
    "sum by (mode) (rate(cpu_seconds_total[5m]))",
    "avg without (mode) (cpu_seconds_total)",
    "min by (instance) (cpu_seconds_total)",
    "max(temperature)",
    "count by (job) ({__name__=~\".+\"})",
    "stddev(temperature)",
    "stdvar by (job) (temperature)",
    "quantile(0.9, temperature)",
    "topk(2, temperature)",
    "bottomk by (mode) (1, cpu_seconds_total)",
    "count_values(\"value\", mostly_constant)",
    "group(temperature)",
    "avg_over_time(temperature[5m])",
    "sum_over_time(with_gaps[5m])",
    "min_over_time(wild[5m])",
    "max_over_time(wild[5m])",
    "count_over_time(with_gaps[5m])",
    "quantile_over_time(0.3, temperature[5m])",
    "stddev_over_time(temperature[5m])",
    "stdvar_over_time(temperature[5m])",
    "last_over_time(ends[10m])",
    "present_over_time(ends[10m])",
    "absent_over_time(ends{instance=\"host-9\"}[10m])",
    "mad_over_time(temperature[5m])",
    "histogram_quantile(0.9, rate(latency_seconds_bucket[5m]))",
    "histogram_quantile(0.5, sum by (le) (rate(latency_seconds_bucket[5m])))",
    "rate(latency_seconds_sum[5m]) / rate(latency_seconds_count[5m])",
    "temperature > 22",
    "temperature > bool 22",
    "temperature * on (instance) group_left (version) info",
    "cpu_seconds_total / ignoring (mode) group_left mostly_constant",
    "temperature and on (instance) ends",
    "temperature unless on (instance) ends",
    "temperature or mostly_constant",
    "wild + 1",
    "-wild",
    "wild % 7",
    "2 ^ temperature",
    "temperature atan2 mostly_constant",
    "with_gaps offset 5m",
    "temperature @ END",
    "temperature offset -1m",
    "max_over_time(rate(cpu_seconds_total[2m])[10m:30s])",
    "avg_over_time(sum by (mode) (cpu_seconds_total)[5m:])",
    "label_join(temperature, \"all\", \"-\", \"job\", \"instance\")",
    "sort_desc(temperature)",
    "clamp(temperature, 21, 22) + round(temperature, 0.25)",
    "sgn(wild) + ceil(temperature) - floor(temperature)",
    "time() - timestamp(temperature) + scalar(max(temperature)) + hour() + vector(1)",
];

#[test]
fn the_same_samples_give_the_same_answers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = pair(folder.path(), "global: {scrape_interval: 1h}\n") else { return };
    let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64 * 1000;
    for base in [&pair.ours, &pair.theirs] {
        let answer = send(base, &samples(end));
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    let mut compared = 0;
    for expr in QUERIES {
        let expr = encode(&expr.replace("END", &(end / 1000 - 300).to_string()));
        let (now, start) = (end / 1000, end / 1000 - 1500);
        for path in [
            format!("query?query={expr}&time={now}"),
            format!("query?query={expr}&time={}", now - 77),
            format!("query_range?query={expr}&start={start}&end={now}&step=37"),
        ] {
            // sorting a range warns since Prometheus 3.6; the peer may be older
            if path.starts_with("query_range") && expr.contains("sort") {
                continue;
            }
            let (ours, theirs) =
                (get(&format!("{}/api/v1/{path}", pair.ours)), get(&format!("{}/api/v1/{path}", pair.theirs)));
            assert_eq!(ours.status, theirs.status, "{path}\n{}\n{}", ours.body, theirs.body);
            let [ours, theirs] = [ours, theirs].map(|a| serde_json::from_str::<Value>(&a.body).unwrap());
            compared += compare(&path, &ours, &theirs);
        }
    }
    println!("{compared} values compared");
    assert!(compared > 10_000, "{compared}");
}

/// Compares two answers: everything equal but for the last digits of aggregations. Gives the number of values.
fn compare(path: &str, ours: &Value, theirs: &Value) -> usize {
    let kind = &theirs["data"]["resultType"];
    assert_eq!(&ours["data"]["resultType"], kind, "{path}");
    for texts in ["warnings", "infos"] {
        assert_eq!(ours[texts], theirs[texts], "{path}");
    }
    let list = |answer: &Value| -> Vec<Value> {
        let result = &answer["data"]["result"];
        if kind == "scalar" {
            return vec![serde_json::json!({"metric": {}, "value": result})];
        };
        let mut list = result.as_array().unwrap().clone();
        // order is part of the answer only where a function sorts
        if !path.contains("sort") {
            list.sort_by_key(|s| sorted(&s["metric"]));
        }
        list
    };
    let (ours, theirs) = (list(ours), list(theirs));
    assert_eq!(ours.len(), theirs.len(), "{path}\n{ours:?}\n{theirs:?}");
    let mut count = 0;
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!(sorted(&a["metric"]), sorted(&b["metric"]), "{path}");
        let points = |s: &Value| match s.get("values") {
            Some(values) => values.as_array().unwrap().clone(),
            None => vec![s["value"].clone()],
        };
        let (a, b) = (points(a), points(b));
        assert_eq!(a.len(), b.len(), "{path}\n{a:?}\n{b:?}");
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a[0], b[0], "{path}");
            let number = |p: &Value| p[1].as_str().unwrap().parse::<f64>().unwrap();
            let (x, y) = (number(a), number(b));
            let close = a[1] == b[1] || (x - y).abs() <= 1e-12 * x.abs().max(y.abs());
            assert!(close, "{path}: {a} and {b}");
            count += 1;
        }
    }
    count
}
