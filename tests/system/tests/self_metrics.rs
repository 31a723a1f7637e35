//! What the collector says about itself, beside the families that Prometheus 3.14 has on its page: each is there with the same type,
//! or `self_metrics/missing.tsv` says why not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::{Prometheus, Receiver, eventually, get, query, value};

/// The rows of a table but the first: a name and what stands behind it.
fn table(text: &str) -> BTreeMap<String, String> {
    let rows = text.lines().skip(1).filter_map(|line| line.split_once('\t'));
    rows.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
}

#[test]
fn the_page_has_what_dashboards_ask_for() {
    let Some(folder) = std::env::var_os("FIREWATCH_CONFORMANCE").map(PathBuf::from) else {
        println!("skipped: FIREWATCH_CONFORMANCE does not name a folder");
        return;
    };
    let theirs = table(&std::fs::read_to_string(folder.join("prometheus/self-metrics-all.tsv")).unwrap());
    let missing = table(include_str!("self_metrics/missing.tsv"));
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let rules = "groups: [{name: g, interval: 1s, rules: [{alert: Always, expr: vector(1)}]}]";
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let config = |port: &str| {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nrule_files: [rules.yml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['{port}']}}]}}]\n",
            receiver.address
        )
    };
    let server = Prometheus::ours(folder.path(), &config("127.0.0.1:1"), &[]);
    assert_eq!(server.reload(&config(server.base.trim_start_matches("http://"))).status, 200);
    eventually("an alert", 30, || (!receiver.received().is_empty()).then_some(()));
    // what has labels is there when something has happened
    eventually("a few scrapes", 30, || {
        value(&server.base, "count_over_time(prometheus_target_interval_length_seconds_count[1m]) > 1")
    });
    let page = get(&format!("{}/metrics", server.base)).body;
    let ours: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut faults = Vec::new();
    for (name, kind) in &theirs {
        // of Go, and of rules
        if name.starts_with("go_") || kind.contains("synthesised") {
            continue;
        }
        match (ours.get(name.as_str()), missing.get(name)) {
            (Some(own), None) if own == kind => {}
            (Some(own), None) => faults.push(format!("{name} is a {own}, not a {kind}")),
            (Some(_), Some(_)) => faults.push(format!("{name} is there, and missing.tsv says that it is not")),
            (None, None) => faults.push(format!("{name} is missing")),
            (None, Some(reason)) => assert!(reason.len() > 10, "{name}: a reason"),
        }
    }
    faults.extend(missing.keys().filter(|n| !theirs.contains_key(*n)).map(|n| format!("{n} is nothing of theirs")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // requests are counted by route, with their sizes
    assert_eq!(get(&format!("{}/api/v1/label/job/values", server.base)).status, 200);
    assert_eq!(get(&format!("{}/api/v1/query?query=(", server.base)).status, 400);
    let counted = r#"prometheus_http_requests_total{handler="/api/v1/label/:name/values",code="200"}"#;
    let counted = eventually("a scrape with the request", 30, || value(&server.base, counted));
    assert_eq!(counted, 1.0);
    let refused = r#"prometheus_http_requests_total{handler="/api/v1/query",code="400"}"#;
    assert_eq!(eventually("a scrape with the refusal", 30, || value(&server.base, refused)), 1.0);
    let sizes = query(&server.base, r#"prometheus_http_response_size_bytes_sum{handler="/metrics"} > 10000"#);
    assert_eq!(sizes.as_array().map(Vec::len), Some(1), "{sizes}");
    server.stop();
}
