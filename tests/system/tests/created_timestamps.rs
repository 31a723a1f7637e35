//! Times from which counters, histograms and summaries count, beside the real Prometheus: with
//! `--enable-feature=created-timestamp-zero-ingestion` they become samples of value 0, or none.

use std::time::{SystemTime, UNIX_EPOCH};

use harness::metric_family::{
    Bucket, BucketSpan, HistogramValue, LabelPair, Metric, MetricFamily, Moment, Quantile, SummaryValue,
    Value as Number,
};
use harness::{Prometheus, Reply, Target, api, encode, eventually, peer, value};

fn now_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A target and what it answers one after another.
struct Case {
    name: String,
    pages: Vec<Reply>,
    target: Target,
}

impl Case {
    fn new(name: String, pages: Vec<Reply>) -> Self {
        let target = Target::start(pages[0].clone());
        Self { name, pages, target }
    }
}

/// Pages of OpenMetrics. `@N` stands for the time N seconds before the test; a page goes on with the next text.
fn open_pages() -> Vec<Vec<&'static str>> {
    vec![
        vec!["# TYPE a counter\na_total 1\na_created @60\n"],
        vec!["# TYPE a counter\na_total 1\na_created @60.789\n"],
        vec![
            "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} @60\na_total{x=\"2\"} 2\na_created{x=\"2\"} @50\n",
        ],
        vec![
            "# TYPE a counter\na_total{x=\"1\"} 1\na_total{x=\"2\"} 2\na_created{x=\"2\"} @60\na_created{x=\"1\"} @50\n",
        ],
        vec!["# TYPE a counter\na_total{x=\"1\",y=\"2\"} 1\na_created{y=\"2\",x=\"1\"} @60\n"],
        vec!["# TYPE a counter\na_created @60\na_total 1\n"],
        vec!["# TYPE a counter\na_total 1\n# TYPE b counter\na_created @60\nb_total 1\nb_created @50\n"],
        vec!["# TYPE a counter\na_total 1\n# HELP a Help.\na_created @60\n"],
        vec![
            "# HELP a Help.\n# TYPE a counter\na_total 1\na_created @60\n# HELP b Help.\n# TYPE b gauge\nb 1\nb_created 5\n",
        ],
        vec!["# TYPE a_total counter\na_total 1\na_created @60\n"],
        vec!["# TYPE ab counter\nab_total 1\na_total 2\na_created @60\nab_created @50\n"],
        vec!["a_total 1\na_created @60\n"],
        vec!["# TYPE a unknown\na_total 1\na_created @60\n"],
        vec![
            "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1 # {id=\"1\"} 2\na_seconds_created @60\n",
        ],
        vec![
            "# TYPE \"my.metric\" counter\n{\"my.metric_total\",\"b.c\"=\"d\"} 1\n{\"my.metric_created\",\"b.c\"=\"d\"} @60\n",
        ],
        vec!["# TYPE a counter\na_total 1\na_created 0\n"],
        vec!["# TYPE a counter\na_total 1\na_created -5\n"],
        vec!["# TYPE a counter\na_total 1\na_created NaN\n"],
        vec!["# TYPE a counter\na_total 1\na_created 1e20\n"],
        // too old for the store, and in the future
        vec!["# TYPE a counter\na_total 1\na_created @7200\n"],
        vec!["# TYPE a counter\na_total 1\na_created @-500\n"],
        vec!["# TYPE a counter\na_total 1\na_created x\n"],
        vec!["# TYPE a counter\na_total 1 @30\na_created @60 @40\n"],
        vec!["# TYPE a counter\na_total 1 @30\na_created @20\n"],
        vec!["# TYPE a counter\na_total 1 @30\na_created @30\n"],
        vec!["# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\nh_created @60\n"],
        vec!["# TYPE h histogram\nh_created @60\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\n"],
        vec![
            "# TYPE h histogram\nh_bucket{a=\"1\",le=\"+Inf\"} 2\nh_count{a=\"1\"} 2\nh_sum{a=\"1\"} 3\nh_created{a=\"1\"} @60\nh_bucket{a=\"2\",le=\"+Inf\"} 2\nh_count{a=\"2\"} 2\nh_created{a=\"2\"} @50\nh_sum{a=\"2\"} 3\n",
        ],
        vec!["# TYPE h gaugehistogram\nh_bucket{le=\"+Inf\"} 2\nh_gcount 2\nh_gsum 3\nh_created @60\n"],
        vec!["# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 2\ns_sum 3\ns_created @60\n"],
        vec!["# TYPE s summary\ns_count{a=\"b\"} 2\ns_created{a=\"b\"} @60\ns{a=\"b\",quantile=\"0.5\"} 1\n"],
        // a counter that starts again and again, the samples with times of their own
        vec![
            "# TYPE a counter\na_total 1 @50\na_created @60\n",
            "# TYPE a counter\na_total 2 @30\na_created @40\n",
            "# TYPE a counter\na_total 3 @20\na_created @35\n",
            "# TYPE a counter\na_total 4 @15\na_created @10\n",
            "# TYPE a counter\na_total 5 @8\na_created @10\n",
            "# TYPE a counter\na_total 6 @7\na_created @8\n",
            "# TYPE a counter\na_total 7 @6\na_created @7\n",
        ],
        // that comes and goes
        vec!["# TYPE a counter\na_total 1\na_created @60\n", "b 1\n", "# TYPE a counter\na_total 1\na_created @60\n"],
        vec!["# TYPE a counter\na_total 1\n", "# TYPE a counter\na_total 1\na_created @60\n"],
        vec!["# TYPE a counter\na_total 1\na_total 2\na_created @60\n"],
    ]
}

fn protobuf_pages(now: i64) -> Vec<Vec<Vec<MetricFamily>>> {
    let at = |age: i64| Some(Moment::at_millis((now - age) * 1000 + 1));
    let family = |name: &str, kind: i32, metric: Metric| MetricFamily {
        name: name.into(),
        kind,
        metrics: vec![metric],
        ..MetricFamily::default()
    };
    let counter = |value: f64, age: i64, sample: i64| {
        let counter = Some(Number { value, created: at(age) });
        let timestamp_ms = if sample == 0 { 0 } else { (now - sample) * 1000 };
        family("c_total", 0, Metric { counter, timestamp_ms, ..Metric::default() })
    };
    let buckets = |all: u64| vec![Bucket { cumulative_count: all - 1, upper_bound: 1.0 }];
    let native = |all: u64, age: i64| HistogramValue {
        count: all,
        sum: 4.5,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: all - 1,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_deltas: vec![1],
        created: at(age),
        ..HistogramValue::default()
    };
    let histogram = |kind: i32, value: HistogramValue, sample: i64| {
        let timestamp_ms = if sample == 0 { 0 } else { (now - sample) * 1000 };
        family("h", kind, Metric { histogram: Some(value), timestamp_ms, ..Metric::default() })
    };
    let label = LabelPair { name: "a".into(), value: "b".into() };
    let summary =
        SummaryValue { count: 7, sum: 1.5, quantiles: vec![Quantile { quantile: 0.5, value: 3.0 }], created: at(60) };
    vec![
        vec![vec![counter(5.0, 60, 0)]],
        vec![vec![counter(5.0, -500, 0)]],
        vec![
            vec![counter(1.0, 60, 50)],
            vec![counter(2.0, 40, 30)],
            vec![counter(3.0, 35, 20)],
            vec![counter(4.0, 10, 15)],
            vec![counter(5.0, 10, 8)],
        ],
        vec![vec![family("s", 2, Metric { labels: vec![label], summary: Some(summary), ..Metric::default() })]],
        vec![vec![histogram(
            4,
            HistogramValue { count: 3, sum: 1.5, buckets: buckets(3), created: at(60), ..HistogramValue::default() },
            0,
        )]],
        vec![vec![histogram(4, native(3, 60), 0)]],
        vec![vec![histogram(5, native(3, 60), 0)]],
        vec![vec![histogram(4, HistogramValue { buckets: buckets(3), ..native(3, 60) }, 0)]],
        vec![
            vec![histogram(4, native(3, 60), 50)],
            vec![histogram(4, native(2, 40), 30)],
            vec![histogram(4, native(4, 35), 20)],
            vec![histogram(4, native(2, 10), 15)],
            vec![histogram(4, native(3, 10), 8)],
        ],
        // a histogram becomes a counter
        vec![
            vec![histogram(4, native(3, 60), 50)],
            vec![family(
                "h",
                0,
                Metric {
                    counter: Some(Number { value: 1.0, created: at(40) }),
                    timestamp_ms: (now - 30) * 1000,
                    ..Metric::default()
                },
            )],
            vec![histogram(4, native(3, 20), 10)],
        ],
    ]
}

fn protobuf(page: &[MetricFamily]) -> Reply {
    let body = MetricFamily::page(page);
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        MetricFamily::MEDIA_TYPE,
        body.len()
    );
    Reply::Raw([head.as_bytes(), &body].concat().into())
}

/// A page of OpenMetrics with its times.
fn open(page: &str, now: i64) -> Reply {
    let mut parts = page.split('@');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find([' ', '\n', '.']).unwrap_or(part.len());
        let age: i64 = part[..end].parse().unwrap();
        text.push_str(&format!("{}{}", now - age, &part[end..]));
    }
    Reply::Typed("application/openmetrics-text; version=1.0.0; charset=utf-8", format!("{text}# EOF\n"))
}

/// The samples of a case: zeros and those with times of the page with their times, the others without, and once.
fn samples(base: &str, case: &str, pages: (i64, i64)) -> Vec<String> {
    let expr = format!("{{case=\"{case}\",__name__!~\"scrape_.*|up\"}}[3h]");
    let found = api(base, &format!("query?time={}&query={}", pages.1, encode(&expr)));
    let mut all = Vec::new();
    for series in found["result"].as_array().unwrap() {
        let empty = Vec::new();
        let of = |name: &str| series[name].as_array().unwrap_or(&empty).clone();
        let mut line = vec![series["metric"].to_string()];
        for sample in of("values").into_iter().chain(of("histograms")) {
            let time = sample[0].as_f64().unwrap();
            // scrapes come after the time that the pages are about
            let time = if time <= pages.0 as f64 { format!("@{time}") } else { String::new() };
            let shown = format!("{}{time}", sample[1]);
            if line.last() != Some(&shown) {
                line.push(shown);
            }
        }
        all.push(line.join(" "));
    }
    all.sort();
    all
}

#[test]
fn counting_begins_where_prometheus_has_it_begin() {
    let Some(real) = peer("prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    // a head with a sample, so that both stores take the same as too old
    let warm = Target::start(Reply::Page("warm 1\n".into()));
    let config = |jobs: &str| {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- {{job_name: warm, static_configs: [{{targets: ['{}']}}]}}\n{jobs}",
            warm.address
        )
    };
    let feature = "--enable-feature=created-timestamp-zero-ingestion";
    let ours = Prometheus::ours(folder.path(), &config(""), &[feature]);
    let theirs = Prometheus::start(&real, folder.path(), &config(""), &[feature, "--enable-feature=native-histograms"]);
    let servers = [&ours, &theirs];
    for server in servers {
        eventually("the first sample", 30, || value(&server.base, "warm"));
    }
    let now = now_seconds();
    let mut cases = Vec::new();
    for (at, pages) in open_pages().iter().enumerate() {
        cases.push(Case::new(format!("open {at}"), pages.iter().map(|page| open(page, now)).collect()));
    }
    for (at, pages) in protobuf_pages(now).iter().enumerate() {
        cases.push(Case::new(format!("protobuf {at}"), pages.iter().map(|page| protobuf(page)).collect()));
    }
    let jobs = |native: &str| -> String {
        let job = |case: &Case| {
            let (name, address) = (&case.name, case.target.address);
            format!(
                "- job_name: '{name}'{native}\n  static_configs: [{{targets: ['{address}'], labels: {{case: '{name}'}}}}]\n"
            )
        };
        cases.iter().map(job).collect()
    };
    assert_eq!(ours.reload(&config(&jobs("\n  scrape_native_histograms: true"))).status, 200);
    assert_eq!(theirs.reload(&config(&jobs(""))).status, 200);
    let phases = cases.iter().map(|case| case.pages.len()).max().unwrap();
    for phase in 0..phases {
        for case in &cases {
            case.target.set(case.pages[phase.min(case.pages.len() - 1)].clone());
        }
        let set = now_seconds() + 1;
        for server in servers {
            eventually("a scrape of each page", 60, || {
                let fresh = format!("count(timestamp(up{{case!=\"\"}}) > {set})");
                (value(&server.base, &fresh) == Some(cases.len() as f64)).then_some(())
            });
        }
    }
    let pages = (now, now_seconds());
    let mut faults = Vec::new();
    let mut zeros = 0;
    for case in &cases {
        let [a, b] = servers.map(|server| samples(&server.base, &case.name, pages));
        zeros += a.iter().filter(|line| line.contains("\"0\"@")).count();
        if a != b {
            faults.push(format!("{}\n  ours\n    {}\n  theirs\n    {}", case.name, a.join("\n    "), b.join("\n    ")));
        }
    }
    assert!(faults.is_empty(), "{} differences\n{}", faults.len(), faults.join("\n"));
    assert!(zeros > 20, "{zeros} zeros");
    // and both ask for protobuf first
    for head in cases[0].target.requests() {
        let head = head.to_ascii_lowercase();
        assert!(head.contains("\naccept: application/vnd.google.protobuf;"), "{head}");
    }
}
