//! Parts of the HTTP API that other programs rely on, beside the real Prometheus where it is at hand.

use std::time::Duration;

use harness::client::Connection;
use harness::{Prometheus, Receiver, Reply, Target, api, encode, eventually, get, value};
use serde_json::json;

fn connection(server: &Prometheus) -> Connection {
    let address = server.base.strip_prefix("http://").unwrap().parse().unwrap();
    Connection::open(address, Duration::from_secs(20)).unwrap()
}

#[test]
fn browsers_are_told_which_pages_may_use_the_answers() {
    let folder = tempfile::tempdir().unwrap();
    for (argument, asked) in [
        (None, vec!["http://a.example"]),
        (Some("--web.cors.origin=https?://(a|b)\\.example"), vec!["http://a.example", "http://c.example"]),
    ] {
        let servers = Prometheus::both(folder.path(), "", argument.as_slice());
        let answers = |server: &Prometheus| {
            let mut connection = connection(server);
            let mut found = Vec::new();
            for origin in asked.iter().map(|origin| Some(*origin)).chain([None]) {
                for (method, path) in [
                    ("GET", "/api/v1/labels"),
                    ("GET", "/api/v1/status/config"),
                    ("GET", "/api/v1/query?query=("),
                    ("OPTIONS", "/api/v1/query"),
                    ("OPTIONS", "/api/v1/no/such/path"),
                    ("GET", "/-/healthy"),
                ] {
                    let origin: Vec<(&str, &str)> = origin.into_iter().map(|origin| ("Origin", origin)).collect();
                    let answer = connection.request(method, path, &origin, None).unwrap();
                    let mut headers: Vec<_> = answer.headers;
                    headers.retain(|(name, _)| name.starts_with("access-control-") || name == "vary");
                    headers.sort();
                    found.push((method, path, origin.first().copied(), answer.status, headers));
                }
            }
            found
        };
        let ours = answers(&servers[0]);
        let allowed = ours[0].4.iter().find(|(name, _)| name == "access-control-allow-origin");
        assert_eq!(allowed.map(|(_, value)| value.as_str()), Some("http://a.example"));
        for theirs in &servers[1..] {
            for (ours, theirs) in ours.iter().zip(answers(theirs)) {
                assert_eq!(*ours, theirs);
            }
        }
    }
}

#[test]
fn federation_gives_the_newest_samples() {
    let folder = tempfile::tempdir().unwrap();
    let now = model::now_millis();
    let page = format!(
        "# TYPE b counter\nb{{x=\"2\"}} 2 {now}\nb{{x=\"1\",zone=\"own\"}} 1.5 {now}\na{{q=\"\\\"\"}} NaN {now}\nold 1 {}\n\"é\" 1\n",
        now - 400_000
    );
    let page = page.replace("\"é\" 1\n", &format!("{{\"a.b\"}} 7 {now}\n"));
    let target = Target::start(Reply::Page(page));
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, external_labels: {{zone: z, region: r}}}}\nscrape_configs: [{{job_name: j, static_configs: [{{targets: ['{}']}}]}}]",
        target.address
    );
    let servers = Prometheus::both(folder.path(), &config, &[]);
    let pages = servers.iter().map(|server| {
        eventually("the first scrape", 20, || value(&server.base, "b{x=\"2\"}"));
        let matches =
            ["{job=\"j\",__name__!~\"up|scrape_.*\"}", "a", "nope"].map(|m| format!("match[]={}", encode(m))).join("&");
        let answer = get(&format!("{}/federate?{matches}", server.base));
        assert_eq!(answer.status, 200, "{}", answer.body);
        // ours says `# HELP a ` for a metric without help
        answer.body.lines().filter(|line| !line.starts_with("# HELP ")).map(str::to_owned).collect::<Vec<_>>()
    });
    let pages: Vec<_> = pages.collect();
    let instance = target.address;
    assert!(
        pages[0].contains(&format!("b{{x=\"2\",instance=\"{instance}\",job=\"j\",region=\"r\",zone=\"z\"}} 2 {now}"))
            || pages[0]
                .contains(&format!("b{{instance=\"{instance}\",job=\"j\",region=\"r\",x=\"2\",zone=\"z\"}} 2 {now}")),
        "{:#?}",
        pages[0]
    );
    assert!(!pages[0].iter().any(|line| line.starts_with("old")), "{:#?}", pages[0]);
    let sorted_labels = |page: &[String]| -> Vec<String> {
        let line =
            |line: &String| match line.split_once('{').and_then(|(name, rest)| Some((name, rest.rsplit_once('}')?))) {
                Some((name, (labels, end))) => {
                    let mut labels: Vec<&str> = labels.split(',').collect();
                    labels.sort_unstable();
                    format!("{name}{{{}}}{end}", labels.join(","))
                }
                None => line.clone(),
            };
        let mut lines: Vec<String> = page.iter().map(line).collect();
        lines.sort();
        lines
    };
    for theirs in &pages[1..] {
        assert_eq!(sorted_labels(&pages[0]), sorted_labels(theirs));
    }
    for server in &servers {
        assert_eq!(get(&format!("{}/federate?match[]=%7B", server.base)).status, 400);
        let nothing = get(&format!("{}/federate", server.base));
        assert_eq!((nothing.status, nothing.body.as_str()), (200, ""));
    }
}

#[test]
fn each_rule_shows_what_it_makes_of_a_target() {
    let folder = tempfile::tempdir().unwrap();
    let config = "scrape_configs:\n- job_name: j\n  relabel_configs:\n  - {source_labels: [__address__], regex: '(.*):.*', target_label: host}\n  - {regex: x, action: labeldrop}\n  - {source_labels: [host], regex: a, action: keep}\n  - {target_label: late, replacement: y}\n";
    let server = Prometheus::ours(folder.path(), config, &[]);
    let steps = |labels: &str| {
        let path = format!("targets/relabel_steps?scrapePool=j&labels={}", encode(labels));
        api(&server.base, &path)["steps"].take()
    };
    let found = steps(r#"{"__address__":"a:1","x":"y"}"#);
    assert_eq!(
        found[0],
        json!({
            "rule": {
                "source_labels": ["__address__"], "separator": ";", "regex": "(.*):.*", "target_label": "host",
                "replacement": "$1", "action": "replace",
            },
            "output": { "__address__": "a:1", "host": "a", "x": "y" },
            "keep": true,
        })
    );
    assert_eq!(found[3]["output"], json!({ "__address__": "a:1", "host": "a", "late": "y" }));
    let found = steps(r#"{"__address__":"b:1"}"#);
    assert_eq!(found[1]["keep"], true);
    for dropped in [&found[2], &found[3]] {
        assert_eq!((&dropped["keep"], &dropped["output"]), (&json!(false), &json!({})));
    }
    for (parameters, fault) in [
        ("labels={}", "no scrapePool parameter provided"),
        ("scrapePool=j", "no labels parameter provided"),
        ("scrapePool=j&labels=[1]", "error parsing labels: "),
        ("scrapePool=k&labels=%7B%7D", "error retrieving scrape pool config: scrape pool \"k\" not found"),
    ] {
        let answer = get(&format!("{}/api/v1/targets/relabel_steps?{parameters}", server.base));
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &body["errorType"]), (400, &json!("bad_data")), "{parameters}");
        assert!(body["error"].as_str().unwrap().starts_with(fault), "{body}");
    }
}

#[test]
fn alerts_are_signed_for_amazon() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("rules.yml"),
        "groups: [{name: g, interval: 200ms, rules: [{alert: Always, expr: vector(1)}]}]",
    )
    .unwrap();
    let receiver = Receiver::start();
    let config = format!(
        "rule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - sigv4: {{region: eu-west-1, access_key: AKID, secret_key: hidden}}\n    static_configs: [{{targets: ['{}']}}]\n",
        receiver.address
    );
    // the real one has no Alertmanagers at first, and sends again what it could not
    for server in Prometheus::both(folder.path(), &config, &["--rules.alert.resend-delay=1s"]) {
        let before = receiver.received().len();
        let (head, body) = eventually("an alert", 20, || receiver.received().get(before).cloned());
        let head = head.to_lowercase();
        let line = head.lines().find(|line| line.starts_with("authorization: ")).unwrap_or_else(|| panic!("{head}"));
        assert!(line.starts_with("authorization: aws4-hmac-sha256 credential=akid/"), "{line}");
        assert!(
            line.contains("/eu-west-1/aps/aws4_request, signedheaders=") && line.contains("host;x-amz-date"),
            "{line}"
        );
        assert!(head.contains("\r\nx-amz-date: ") && body.contains("\"Always\""));
        let shown = api(&server.base, "status/config");
        assert!(!shown.to_string().contains("hidden"), "{shown}");
        server.stop();
    }
}

/// Names and values of a part of the features.
fn part(features: &serde_json::Value, name: &str) -> std::collections::BTreeMap<String, bool> {
    serde_json::from_value(features[name].clone()).unwrap_or_else(|e| panic!("{name}: {e}: {features}"))
}

#[test]
fn the_server_tells_what_it_can_do() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Prometheus::ours(folder.path(), "", &[]);
    let features = api(&plain.base, "features");
    let (promql, scrape) = (part(&features, "promql"), part(&features, "scrape"));
    assert_eq!((promql["fill"], promql["offset"], part(&features, "api")["admin"]), (false, true, false));
    assert!(!scrape["start_timestamp_zero_ingestion"] && !scrape["type_and_unit_labels"]);
    let functions = part(&features, "promql_functions");
    assert!(functions["rate"] && !functions["mad_over_time"]);
    let (providers, templates) =
        (part(&features, "service_discovery_providers"), part(&features, "templating_functions"));
    for (name, found) in [("consul", &providers), ("static", &providers), ("humanize", &templates)] {
        assert_eq!(found.get(name), Some(&true), "{name}");
    }
    // what it says it can do, it does
    for (name, on) in &functions {
        let answer = get(&format!("{}/api/v1/parse_query?query={name}(1,1,1,1,1,1,1,1,1)", plain.base));
        assert_eq!(answer.body.contains("not enabled"), !on, "{name}: {}", answer.body);
    }
    plain.stop();

    let all = "--enable-feature=promql-experimental-functions,promql-binop-fill-modifiers,created-timestamp-zero-ingestion,st-storage,type-and-unit-labels,auto-reload-config";
    let server = Prometheus::ours(folder.path(), "", &[all, "--web.enable-admin-api"]);
    let features = api(&server.base, "features");
    for (name, feature) in [
        ("promql_functions", "mad_over_time"),
        ("promql_operators", "limitk"),
        ("promql", "fill"),
        ("promql", "type_and_unit_labels"),
        ("scrape", "start_timestamp_zero_ingestion"),
        ("scrape", "type_and_unit_labels"),
        ("tsdb", "st_storage"),
        ("prometheus", "auto_reload_config"),
        ("api", "admin"),
        ("api", "lifecycle"),
    ] {
        assert!(part(&features, name)[feature], "{feature}");
    }
    server.stop();
}

#[test]
fn jobs_and_metrics_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let config = "global: {scrape_interval: 7s}\nscrape_configs:\n- {job_name: j, static_configs: [{targets: ['127.0.0.1:1']}]}\n";
    let server = Prometheus::ours(folder.path(), config, &[]);
    let yaml = api(&server.base, "scrape_pools/config?scrapePool=j")["yaml"].as_str().unwrap().to_owned();
    assert!(yaml.starts_with("job_name: j\n") && yaml.contains("\nscrape_interval: 7s\n"), "{yaml}");
    for (path, fault) in [
        ("scrape_pools/config", "no scrapePool parameter provided"),
        ("scrape_pools/config?scrapePool=k", "error retrieving scrape pool config: scrape pool \"k\" not found"),
        ("status/self_metrics?metric_name_pattern=(", "invalid parameter \"metric_name_pattern\": "),
    ] {
        let answer = get(&format!("{}/api/v1/{path}", server.base));
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &body["errorType"]), (400, &json!("bad_data")), "{path}");
        assert!(body["error"].as_str().unwrap().starts_with(fault), "{body}");
    }
    let families = |pattern: &str| -> Vec<String> {
        let found = api(&server.base, &format!("status/self_metrics{pattern}"));
        found.as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
    };
    // the whole name has to match
    assert_eq!(families("?metric_name_pattern=prometheus_tsdb_head_ser.*s"), ["prometheus_tsdb_head_series"]);
    assert_eq!(families("?metric_name_pattern=prometheus_tsdb_head"), [""; 0]);
    let page = get(&format!("{}/metrics", server.base)).body;
    let named = page.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned()));
    assert_eq!(families(""), named.collect::<Vec<_>>());
    server.stop();
}
