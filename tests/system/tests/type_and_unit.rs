//! `--enable-feature=type-and-unit-labels` beside the real Prometheus: the labels `__type__` and `__unit__` of scraped series, and
//! what queries make of them.

use std::collections::BTreeSet;

use harness::metric_family::{Metric, MetricFamily, Value as Number};
use harness::{Prometheus, Reply, Target, encode, eventually, get, peer, value};

/// Pages of text 0.0.4.
const TEXT: &[&str] = &[
    "# TYPE a counter\na_total 1\na 2\n",
    "# TYPE a gauge\na 1\nb 2\n# TYPE c counter\nc 3\n",
    "# TYPE a untyped\na{__type__=\"own\",__unit__=\"own\"} 1\n",
    "# TYPE a gauge\na{__type__=\"own\",__unit__=\"own\",x=\"y\"} 1\n",
    "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\n",
    "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 2\ns_sum 3\n",
    "a 1\n# TYPE a gauge\na{x=\"1\"} 1\n",
    "# TYPE a nonsense\na 1\n",
];

/// Pages of OpenMetrics, with one unit each: the real Prometheus (3.5) gives it to the families after it too.
const OPEN: &[&str] = &[
    "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1\n",
    "# UNIT a_seconds seconds\n# TYPE a_seconds counter\na_seconds_total{__unit__=\"own\"} 1\n",
    "# TYPE a_seconds gauge\n# UNIT a_seconds \na_seconds{__unit__=\"own\"} 1\n",
    "# TYPE a unknown\na 1\n# TYPE i info\ni_info{x=\"1\"} 1\n# TYPE t stateset\nt{t=\"on\"} 1\n",
    "# TYPE g gaugehistogram\ng_bucket{le=\"1.0\"} 1\ng_bucket{le=\"+Inf\"} 2\ng_gcount 2\ng_gsum 3\n",
    "# TYPE \"my.metric_bytes\" gauge\n# UNIT \"my.metric_bytes\" bytes\n{\"my.metric_bytes\"} 1\n",
];

fn protobuf() -> Vec<Vec<MetricFamily>> {
    let number = |value: f64| Some(Number::of(value));
    let family = |name: &str, kind: i32, unit: &str, metric: Metric| MetricFamily {
        name: name.into(),
        kind,
        metrics: vec![metric],
        unit: unit.into(),
        ..MetricFamily::default()
    };
    let counter = || Metric { counter: number(1.0), ..Metric::default() };
    let untyped = || Metric { untyped: number(1.0), ..Metric::default() };
    vec![
        vec![family("a_seconds_total", 0, "seconds", counter()), family("b_total", 0, "", counter())],
        vec![family("u", 3, "", untyped()), family("u_seconds", 3, "seconds", untyped())],
    ]
}

/// What queries make of the labels.
const QUERIES: &[&str] = &[
    "up + 1",
    "-{case=\"text 1\",__name__=~\"a|b|c\"}",
    "-{case=\"open 0\",__type__=\"counter\"}",
    "{__name__=~\"a.*|b|c|u.*\"} > bool 1",
    "{__name__=~\"a.*|b|c|u.*\"} >= 1",
    "abs({__name__=~\"a.*|b|c|u.*\"})",
    "count by (__type__, __unit__) ({case=~\".+\"})",
    "max_over_time({__name__=~\"a.*|b|c\"}[1m])",
    "last_over_time({__name__=~\"a.*|b|c\"}[1m])",
    "{__type__=\"counter\"}",
    "{__unit__=\"seconds\"}",
    "a_seconds * on (case) group_left (__type__) a_seconds",
    "topk(3, {__type__=\"gauge\", case=\"text 1\"})",
    "count_values(\"v\", {__type__=\"gauge\"})",
    "absent({__type__=\"gauge\", case=\"none\"})",
    "label_replace({__type__=\"counter\"}, \"t\", \"$1\", \"__type__\", \"(.*)\")",
];

/// What a query gives, or its error.
fn series(base: &str, expr: &str) -> BTreeSet<String> {
    let answer = get(&format!("{base}/api/v1/query?query={}", encode(expr)));
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let shown = |s: &serde_json::Value| format!("{} {}", s["metric"], s["value"][1]);
    match answer["data"]["result"].as_array() {
        Some(result) => result.iter().map(shown).collect(),
        None => BTreeSet::from([answer["error"].to_string()]),
    }
}

#[test]
fn series_have_the_labels_that_prometheus_gives_them() {
    let Some(real) = peer("prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut cases = Vec::new();
    for (at, page) in TEXT.iter().enumerate() {
        cases.push((format!("text {at}"), Target::start(Reply::Page((*page).into()))));
    }
    for (at, page) in OPEN.iter().enumerate() {
        cases.push((format!("open {at}"), Target::start(Reply::Typed(open, format!("{page}# EOF\n")))));
    }
    for (at, page) in protobuf().iter().enumerate() {
        let body = MetricFamily::page(page);
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            MetricFamily::MEDIA_TYPE,
            body.len()
        );
        let answer = [head.as_bytes(), &body].concat();
        cases.push((format!("protobuf {at}"), Target::start(Reply::Raw(answer.into()))));
    }
    let mut config = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (name, target) in &cases {
        let address = target.address;
        config.push_str(&format!(
            "- {{job_name: '{name}', static_configs: [{{targets: ['{address}'], labels: {{case: '{name}'}}}}]}}\n"
        ));
    }
    let feature = "--enable-feature=type-and-unit-labels";
    let servers = [
        Prometheus::ours(folder.path(), &config, &[feature]),
        Prometheus::start(&real, folder.path(), &config, &[feature]),
    ];
    for server in &servers {
        eventually("two scrapes of each page", 60, || {
            let scraped = value(&server.base, "count(count_over_time(up[1m]) > 1)")?;
            (scraped == cases.len() as f64).then_some(())
        });
    }
    let mut faults = Vec::new();
    let pages = cases
        .iter()
        .map(|(name, _)| format!("{{case=\"{name}\",__name__!~\"scrape_duration_seconds|scrape_series_added\"}}"));
    for expr in pages.chain(QUERIES.iter().map(|q| (*q).to_owned())) {
        let [a, b] = [0, 1].map(|at| series(&servers[at].base, &expr));
        // their own times differ
        let own = |line: &&String| !line.contains("scrape_duration_seconds");
        let [a, b]: [Vec<_>; 2] =
            [a.difference(&b).filter(own).cloned().collect(), b.difference(&a).filter(own).cloned().collect()];
        if !(a.is_empty() && b.is_empty()) {
            faults.push(format!(
                "{expr}\n  only ours\n    {}\n  only theirs\n    {}",
                a.join("\n    "),
                b.join("\n    ")
            ));
        }
    }
    assert!(faults.is_empty(), "{} differences\n{}", faults.len(), faults.join("\n"));
    assert!(!series(&servers[0].base, "{__type__=\"counter\",__unit__=\"seconds\"}").is_empty());
}
