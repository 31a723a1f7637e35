//! Queries that would take a server down if it let them: it goes on to answer, to scrape, to take remote write and to evaluate
//! rules, within the memory it was given.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Daemon, Reply, Series, Target, binary, encode, eventually, free_port, get, send, value};
use model::now_millis;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Memory of the whole server, and what of it queries may have.
const MEMORY: u64 = 512 << 20;
const LIMITS: [&str; 3] = ["--query.max-memory=64MB", "--query.max-memory-total=160MB", "--query.timeout=3s"];

/// Bad queries that are asked at once.
const FLOOD: usize = 6;

/// Series of the history, and its length and step in milliseconds.
const SERIES: usize = 3000;
const LENGTH: i64 = 6 * 3_600_000;
const STEP: i64 = 60_000;

/// A counter, as buckets of histograms, oldest samples first.
fn load(base: &str, end: i64) {
    let mut from = end - LENGTH;
    while from < end {
        let times: Vec<i64> = (0..10).map(|i| from + i * STEP).filter(|t| *t < end).collect();
        let series = (0..SERIES).map(|n| {
            let label = |name: &str, value: String| (name.to_owned(), value);
            Series {
                labels: vec![
                    label("__name__", "big".into()),
                    label("instance", format!("instance-{:02}", n % 50)),
                    label("le", ["0.1", "1", "10", "+Inf"][n / 50 % 4].into()),
                    label("n", format!("{n:04}")),
                    label("pod", format!("a-name-of-some-length-{}", n * 7919)),
                ],
                samples: times.iter().map(|t| (*t, ((t / STEP) * (n as i64 % 17 + 1)) as f64 * 0.7)).collect(),
                histograms: Vec::new(),
            }
        });
        let answer = send(base, &series.collect::<Vec<_>>());
        assert_eq!(answer.status, 204, "{}", answer.body);
        from += 10 * STEP;
    }
}

/// Every way to make much of little: wide selectors, long ranges, short steps, many groups, growing labels, nested subqueries.
fn worst() -> Vec<(String, Option<i64>)> {
    let nested =
        |text: &str, times: usize, inner: &str| (0..times).fold(inner.to_owned(), |inner, _| text.replace('@', &inner));
    let (fine, coarse) = (Some(2000), Some(15_000));
    let mut queries: Vec<(String, Option<i64>)> = [
        ("{__name__=~\".+\"}", fine),
        ("{__name__=~\".+\"}[6h]", None),
        ("{n=~\".*1.*|.*2.*|.*3.*\"}", fine),
        ("{pod=~\"(a|a-)*name.*\", __name__!=\"\"}", coarse),
        ("big[6h]", None),
        ("big[6h:1s]", None),
        ("rate(big[5m])[6h:1s]", None),
        ("rate(big[6h])", fine),
        ("quantile_over_time(0.99, big[6h])", fine),
        ("mad_over_time(big[6h])", fine),
        ("stddev_over_time(big[6h])", fine),
        ("predict_linear(big[6h], 3600)", fine),
        ("double_exponential_smoothing(big[6h], 0.5, 0.5)", fine),
        ("sum_over_time(vector(1)[1y:1s])", None),
        ("sum_over_time(vector(1)[1d:1s])", fine),
        ("max_over_time(rate(big[5m])[6h:1s])", coarse),
        ("max_over_time(max_over_time(max_over_time(big[1h:1m])[1h:1m])[1h:1m])", coarse),
        ("count_over_time(big[6h:1ms])", None),
        ("count_values(\"v\", big)", fine),
        ("count_values by (n, pod, instance) (\"v\", big * 1.1)", fine),
        ("quantile(0.5, big)", fine),
        ("quantile without () (0.5, big)", fine),
        ("stddev without (le) (big)", fine),
        ("avg by (n, pod) (big)", fine),
        ("topk(100000, big)", fine),
        ("bottomk without () (1, big)", fine),
        ("limitk(100000, big)", fine),
        ("sort_desc(big)", fine),
        ("big + on (n) big + on (n) big", fine),
        ("big * on () group_left () count(big)", fine),
        ("big + on (instance) group_left () big", fine),
        ("big and on (instance) big or on (n) big unless on (pod) big", fine),
        ("big or rate(big[1m]) or -big or big * 2", fine),
        ("histogram_quantile(0.9, big)", fine),
        ("histogram_quantile(0.9, rate(big[1h]))", fine),
        ("histogram_fraction(0, 1, big)", fine),
        ("absent(big > 1e300)", fine),
        ("absent_over_time(big[6h])", fine),
        ("timestamp(big)", fine),
        ("big @ end() - big @ start()", fine),
        ("big ^ big ^ big ^ big", fine),
        ("sin(cos(tan(exp(ln(sqrt(abs(big)))))))", fine),
        ("changes(big[6h]) + resets(big[6h])", fine),
        ("label_join(big, \"x\", \"-\", \"pod\", \"pod\", \"pod\", \"pod\", \"pod\", \"pod\", \"pod\", \"pod\")", fine),
        ("(big > bool 1) + (big < bool 2) + (big == bool 3)", fine),
    ]
    .map(|(text, step)| (text.to_owned(), step))
    .to_vec();
    queries.push((nested("label_replace(@, \"pod\", \"$1$1$1$1\", \"pod\", \"(.*)\")", 30, "big"), None));
    queries.push((nested("abs(@)", 90, "big"), fine));
    queries.push((format!("big{}", " + on (n) big".repeat(300)), fine));
    queries.push((nested("sum_over_time(@[1h:1m])", 6, "big"), None));
    queries.push((format!("{{n=~\"{}\"}}", (0..3000).map(|n| format!("{n:04}|.*x{n}")).collect::<String>()), fine));
    queries
}

/// A request from another address of this machine, as if from another client. Gives the status.
fn ask_from(address: [u8; 4], port: u16, path: &str) -> std::io::Result<u16> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((address, 0)))?;
    connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port)))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no HTTP"))
}

fn most_memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn the_worst_queries_do_not_take_the_server_down() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(Reply::Page("scraped 1\n".into()));
    std::fs::write(folder.path().join("rules.yml"), "groups: [{name: g, rules: [{record: r, expr: count(up)}]}]\n")
        .unwrap();
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\nrule_files: [rules.yml]\nscrape_configs: [{{job_name: t, static_configs: [{{targets: ['{}']}}]}}]\n",
        target.address
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let port = free_port();
    let base = format!("http://127.0.0.1:{port}");
    let mut arguments = vec![
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
        "--enable-feature=promql-experimental-functions".to_owned(),
    ];
    arguments.extend(LIMITS.map(str::to_owned));
    // what is old must come first
    std::fs::write(folder.path().join("empty.yml"), "").unwrap();
    let empty: Vec<String> = arguments.iter().map(|a| a.replace("prometheus.yml", "empty.yml")).collect();
    let mut daemon = Daemon::start(&binary("collector"), &empty, folder.path());
    daemon.wait_for(&format!("{base}/-/ready"));
    let end = now_millis() / STEP * STEP;
    load(&base, end);
    daemon.stop();
    let mut daemon = Daemon::start(&binary("collector"), &arguments, folder.path());
    daemon.wait_for(&format!("{base}/-/ready"));
    assert_eq!(value(&base, &format!("count(big @ {})", end / 1000)), Some(SERIES as f64));
    eventually("a scrape and a rule", 30, || value(&base, "scraped + on () r"));

    println!("{} MiB before", most_memory(&daemon) >> 20);
    let queries = worst();
    assert_eq!(queries.len(), 50);
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let statuses: Vec<AtomicUsize> = (0..600).map(|_| AtomicUsize::new(0)).collect();
    let (answered, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..FLOOD)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((text, step)) = queries.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let shown: String = text.chars().take(60).collect();
                        let (text, to) = (encode(text), end / 1000);
                        let path = match step {
                            None => format!("/api/v1/query?query={text}&time={to}"),
                            Some(step) => format!(
                                "/api/v1/query_range?query={text}&start={}&end={to}&step={}",
                                to - LENGTH / 1000,
                                *step as f64 / 1000.0
                            ),
                        };
                        let status = ask_from([127, 0, 0, 1], port, &path).unwrap_or_else(|e| panic!("{text}: {e}"));
                        println!("{status} {shown}");
                        statuses[usize::from(status)].fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let status = ask_from([127, 0, 0, 2], port, "/api/v1/query?query=count(up)%2B1").unwrap();
                assert_eq!(status, 200, "another client's small query");
                answered.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let number = sent.load(Ordering::Relaxed);
                let labels = vec![("__name__".to_owned(), "sent".to_owned())];
                let series = Series { labels, samples: vec![(now_millis(), number as f64)], histograms: Vec::new() };
                let answer = send(&base, &[series]);
                assert_eq!(answer.status, 204, "{}", answer.body);
                sent.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for client in flood {
            client.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    let count = |status: usize| statuses[status].load(Ordering::Relaxed);
    println!(
        "200: {}, 400: {}, 422: {}, 503: {}; {} small queries answered, {} writes, {} MiB at most",
        count(200),
        count(400),
        count(422),
        count(503),
        answered.load(Ordering::Relaxed),
        sent.load(Ordering::Relaxed),
        most_memory(&daemon) >> 20,
    );
    assert_eq!(count(400), 0, "a query of the list is not one");
    assert_eq!(count(200) + count(422) + count(503), 50);
    assert!(count(422) + count(503) > 10, "the queries are not bad enough");
    assert!(answered.load(Ordering::Relaxed) > 0);
    assert!(most_memory(&daemon) < MEMORY, "{} MiB", most_memory(&daemon) >> 20);
    // nothing that was sent or scraped is missing, and the rules went on
    let sent = sent.load(Ordering::Relaxed) as f64;
    assert_eq!(value(&base, "count_over_time(sent[30m])"), Some(sent));
    assert_eq!(value(&base, "min_over_time(up[30m])"), Some(1.0));
    eventually("every page that was served in the store", 20, || {
        let served = target.requests().len() as f64;
        let stored = value(&base, "count_over_time(scraped[30m])")?;
        (stored == served || stored + 1.0 == served).then_some(())
    });
    let page = get(&format!("{base}/metrics")).body;
    let metric = |name: &str| -> f64 {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("{name}"));
        line.parse().unwrap()
    };
    let failures: Vec<&str> =
        page.lines().filter(|l| l.starts_with("prometheus_rule_evaluation_failures_total{rule_group=")).collect();
    assert!(!failures.is_empty() && failures.iter().all(|line| line.ends_with(" 0")), "{failures:?}");
    assert!(metric("firewatch_queries_refused_total{reason=\"memory\"}") > 0.0, "{page}");
    eventually("all memory given back", 20, || {
        let page = get(&format!("{base}/metrics")).body;
        (page.contains("\nfirewatch_query_memory_bytes 0\n") && page.contains("\nprometheus_engine_queries 0\n"))
            .then_some(())
    });
    assert!(!daemon.output().contains("panicked"), "{}", daemon.output());
    assert_eq!(daemon.stop(), Some(0));
}
