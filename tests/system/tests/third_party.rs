//! Exporters of other people, with real servers behind them where they are small: what is stored is what their pages say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::{Daemon, Page, Prometheus, ThirdParty, api, client, encode, eventually, free_port, post, value};
use rustix::process::Signal;
use serde_json::Value;

type Labels = BTreeMap<String, String>;

/// Series about the scrape itself.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// The jobs: the second honours the page's labels.
const JOBS: [&str; 2] = ["plain", "honest"];

/// An exporter that is scraped by our collector, and by the real one if it is there.
struct Scraped {
    exporter: String,
    servers: Vec<Prometheus>,
}

impl Scraped {
    fn start(folder: &Path, port: u16, interval: &str) -> Self {
        let exporter = format!("127.0.0.1:{port}");
        let config = format!(
            "global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
- job_name: plain
  static_configs: [{{targets: ['{exporter}'], labels: {{pool: plain}}}}]
- job_name: honest
  honor_labels: true
  static_configs: [{{targets: ['{exporter}'], labels: {{pool: honest}}}}]
"
        );
        let servers = Prometheus::both(folder, &config, &[]);
        Self { exporter, servers }
    }

    fn page(&self) -> Page {
        let answer = client::get(self.exporter.parse().unwrap(), "/metrics").unwrap();
        assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/plain; version=0.0.4")));
        Page::parse(&answer.text().unwrap())
    }

    /// Waits until every server's every job gives `expected` for `expr`, in which POOL stands for a matcher of the job.
    fn until(&self, expr: &str, expected: f64) {
        for server in &self.servers {
            for job in JOBS {
                let expr = expr.replace("POOL", &format!("pool=\"{job}\""));
                eventually(&format!("{expr} to be {expected} at {}", server.base), 60, || {
                    (value(&server.base, &expr) == Some(expected)).then_some(())
                });
            }
        }
    }

    /// Checks what each server has stored for one scrape of each job against the pages before and after that scrape.
    fn check(&self) {
        for server in &self.servers {
            for job in JOBS {
                let mut faults = Vec::new();
                // a value that goes and comes back from page to page does not do so every time
                for _ in 0..5 {
                    faults = self.round(&server.base, job);
                    if faults.is_empty() {
                        break;
                    }
                }
                assert!(faults.is_empty(), "{job} of {}:\n{}", server.base, faults.join("\n"));
            }
        }
    }

    /// What is wrong with one scrape.
    fn round(&self, base: &str, job: &str) -> Vec<String> {
        let before = self.page();
        let asked = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let up = format!("timestamp(up{{pool=\"{job}\"}})");
        let time = eventually("a scrape", 60, || value(base, &up).filter(|time| *time > asked));
        let after = self.page();
        let stored = stored(base, job, time);
        let target = Labels::from([
            ("job".to_owned(), job.to_owned()),
            ("instance".to_owned(), self.exporter.clone()),
            ("pool".to_owned(), job.to_owned()),
        ]);
        let series = |page: &Page| -> BTreeMap<Labels, f64> {
            let stored = |labels: &Labels| merged(&normal(labels, page), &target, job == "honest");
            page.samples.iter().map(|(labels, value)| (stored(labels), *value)).collect()
        };
        let (old, new) = (series(&before), series(&after));
        let mut faults = Vec::new();
        for (labels, value) in &old {
            // an exporter's own memory and files go up and down between any two looks, and so does how many ask it at the moment
            let own = ["go_", "process_", "promhttp_metric_handler_requests_in_flight"]
                .iter()
                .any(|prefix| labels["__name__"].starts_with(prefix));
            // so does how long the server behind it takes for what each look asks it
            let asked = labels["__name__"] == "redis_latency_percentiles_usec";
            let steady = !own && !asked && new.get(labels).is_some_and(|v| v.to_bits() == value.to_bits());
            match stored.get(labels) {
                Some(found) if !steady || found == value || (found.is_nan() && value.is_nan()) => {}
                None if !new.contains_key(labels) => {}
                found => faults.push(format!("{labels:?}: {found:?} instead of {value}")),
            }
        }
        for labels in stored.keys().filter(|l| !REPORTS.contains(&l["__name__"].as_str())) {
            if !old.contains_key(labels) && !new.contains_key(labels) {
                faults.push(format!("{labels:?} is on no page"));
            }
        }
        for (name, expected) in [("up", 1.0), ("scrape_samples_scraped", before.samples.len() as f64)] {
            let labels = merged(&Labels::from([("__name__".to_owned(), name.to_owned())]), &target, false);
            if stored.get(&labels) != Some(&expected) {
                faults.push(format!("{name}: {:?} instead of {expected}", stored.get(&labels)));
            }
        }
        let said = families(base, job);
        for (name, (kind, help)) in &before.families {
            let kind = if kind == "untyped" { "unknown" } else { kind };
            if said.get(name).is_none_or(|(k, h)| k != kind || h != help) {
                faults.push(format!("{name}: {:?} instead of {kind}, {help:?}", said.get(name)));
            }
        }
        faults
    }
}

/// All samples of exactly one scrape.
fn stored(base: &str, job: &str, time: f64) -> BTreeMap<Labels, f64> {
    let samples = encode(&format!("{{pool=\"{job}\"}}[1ms]"));
    let result = api(base, &format!("query?time={time}&query={samples}"));
    let series = result["result"].as_array().unwrap().iter();
    series
        .map(|series| {
            let labels = series["metric"].as_object().unwrap().iter().map(|(n, v)| (n.clone(), text(v))).collect();
            (labels, text(&series["values"][0][1]).parse().unwrap())
        })
        .collect()
}

/// Types and help texts as the server knows them.
fn families(base: &str, job: &str) -> BTreeMap<String, (String, String)> {
    let target = encode(&format!("{{job=\"{job}\"}}"));
    let said = api(base, &format!("targets/metadata?match_target={target}"));
    let entry = |m: &Value| (text(&m["metric"]), (text(&m["type"]), text(&m["help"])));
    said.as_array().unwrap().iter().map(entry).collect()
}

/// The labels of a series with the bounds of its histogram or summary as Prometheus 3 has them: always floats.
fn normal(labels: &Labels, page: &Page) -> Labels {
    let mut labels = labels.clone();
    let name = labels["__name__"].clone();
    for (label, family, kind) in [("le", name.trim_end_matches("_bucket"), "histogram"), ("quantile", &name, "summary")]
    {
        if let Some(bound) = labels.get_mut(label)
            && page.families.get(family).is_some_and(|(k, _)| k == kind)
            && bound.bytes().all(|b| b.is_ascii_digit())
        {
            bound.push_str(".0");
        }
    }
    labels
}

/// The labels a series of the page is stored under. An empty label counts as one of the page.
fn merged(page: &Labels, target: &Labels, honor: bool) -> Labels {
    let mut labels = page.clone();
    for (name, value) in target {
        match labels.get(name) {
            Some(_) if honor => continue,
            Some(own) if !own.is_empty() => {
                let own = own.clone();
                labels.insert(format!("exported_{name}"), own);
            }
            _ => {}
        }
        labels.insert(name.clone(), value.clone());
    }
    labels.retain(|_, value| !value.is_empty());
    labels
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn redis(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

#[test]
fn the_redis_exporter_shows_a_real_redis() {
    let Some(programs) = ThirdParty::find(&["redis-server", "prometheus-redis-exporter"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (port, exporter_port) = (free_port(), free_port());
    let mut server = programs.command("redis-server");
    server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder.path());
    let server = Daemon::run(&mut server, folder.path());
    eventually("Redis", 20, || TcpStream::connect(("127.0.0.1", port)).ok());
    for key in 0..25 {
        assert_eq!(redis(port, &format!("SET key:{key} {}", key * 2)), "+OK");
    }
    assert_eq!(redis(port, "EXPIRE key:3 10000"), ":1");
    let mut exporter = programs.command("prometheus-redis-exporter");
    exporter.args(["-redis.addr", &format!("redis://127.0.0.1:{port}"), "-check-single-keys", "db0=key:4,db0=key:7"]);
    exporter.args(["-web.listen-address", &format!("127.0.0.1:{exporter_port}")]);
    let mut exporter = Daemon::run(&mut exporter, folder.path());
    exporter.wait_for(&format!("http://127.0.0.1:{exporter_port}/metrics"));

    let scraped = Scraped::start(folder.path(), exporter_port, "1s");
    scraped.check();
    scraped.until("redis_db_keys{db=\"db0\", POOL}", 25.0);
    scraped.until("redis_db_keys_expiring{db=\"db0\", POOL}", 1.0);
    scraped.until("sum(redis_db_keys{POOL})", 25.0);
    scraped.until("redis_key_value{key=\"key:7\", POOL}", 14.0);
    scraped.until("redis_up{POOL}", 1.0);

    assert_eq!(redis(port, "DEL key:7"), ":1");
    scraped.until("redis_db_keys{db=\"db0\", POOL}", 24.0);
    // a series that is gone from the page has ended
    scraped.until("count(redis_key_value{POOL})", 1.0);
    drop(server);
    scraped.until("redis_up{POOL}", 0.0);
    scraped.until("absent(redis_db_keys{POOL})", 1.0);
    scraped.until("up{POOL}", 1.0);
}

/// A real PostgreSQL with its data in a folder of the test; ended in the end by a fast shutdown, which leaves nothing behind.
struct Postgres {
    port: u16,
    _server: Daemon,
}

impl Postgres {
    const USER: &str = "firewatch";

    fn start(programs: &ThirdParty, folder: &Path) -> Option<Self> {
        let data = folder.join("postgres");
        let mut initdb = programs.unprivileged("initdb")?;
        initdb.arg("-D").arg(&data).args(["-U", Self::USER, "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"]);
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let port = free_port();
        let mut server = programs.unprivileged("postgres")?;
        server.arg("-D").arg(&data);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            "unix_socket_directories=",
            "dynamic_shared_memory_type=mmap",
            "fsync=off",
            "jit=off",
            "autovacuum=off",
        ] {
            server.args(["-c", setting]);
        }
        let server = Daemon::run(&mut server, folder).ended_by(Signal::INT);
        eventually("PostgreSQL", 30, || server.output().contains("ready to accept connections").then_some(()));
        Some(Self { port, _server: server })
    }

    fn run(&self, programs: &ThirdParty, statements: &str) {
        let mut psql: Command = programs.command("psql");
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", Self::USER, "-d", "postgres", "-q"]);
        let output = psql.args(["-v", "ON_ERROR_STOP=1", "-c", statements]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_postgres_exporter_shows_a_real_postgresql() {
    let Some(programs) = ThirdParty::find(&["initdb", "postgres", "psql", "prometheus-postgres-exporter"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Postgres::start(&programs, folder.path()) else { return };
    server.run(&programs, "CREATE TABLE stock (name text, amount bigint, price double precision)");
    server.run(
        &programs,
        r#"INSERT INTO stock VALUES ('apples', 7, 0.1), (E'"Birnen"\\ \n für {}', 9007199254740993, 'NaN')"#,
    );
    let queries = folder.path().join("queries.yml");
    let table = "stock:
  query: SELECT name, amount, price FROM stock
  metrics:
  - name: {usage: LABEL, description: What it is.}
  - amount: {usage: COUNTER, description: 'How many there are, \"about\" \\ .'}
  - price: {usage: GAUGE, description: What one costs.}
";
    std::fs::write(&queries, table).unwrap();
    let port = free_port();
    let mut exporter = programs.command("prometheus-postgres-exporter");
    exporter
        .env("DATA_SOURCE_NAME", format!("postgresql://firewatch@127.0.0.1:{}/postgres?sslmode=disable", server.port));
    exporter.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--extend.query-path").arg(&queries);
    let mut exporter = Daemon::run(&mut exporter, folder.path());
    exporter.wait_for(&format!("http://127.0.0.1:{port}/metrics"));

    let scraped = Scraped::start(folder.path(), port, "1s");
    scraped.check();
    scraped.until("pg_up{POOL}", 1.0);
    scraped.until("stock_amount{name=\"apples\", POOL}", 7.0);
    scraped.until("stock_amount{name=\"\\\"Birnen\\\"\\\\ \\n für {}\", POOL}", 9_007_199_254_740_992.0);
    scraped.until("count(stock_price{POOL} != stock_price)", 1.0);
    scraped.until("count(pg_database_size_bytes{datname=\"postgres\", POOL} > 1e6)", 1.0);
    scraped.until("pg_settings_jit{POOL}", 0.0);

    server
        .run(&programs, "UPDATE stock SET amount = 8 WHERE name = 'apples'; DELETE FROM stock WHERE name <> 'apples'");
    scraped.until("sum(stock_amount{POOL})", 8.0);
}

#[test]
fn the_mysqld_exporter_shows_that_it_has_no_server() {
    let Some(programs) = ThirdParty::find(&["prometheus-mysqld-exporter"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut exporter = programs.command("prometheus-mysqld-exporter");
    exporter.env("DATA_SOURCE_NAME", "user:password@(127.0.0.1:1)/");
    exporter.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut exporter = Daemon::run(&mut exporter, folder.path());
    exporter.wait_for(&format!("http://127.0.0.1:{port}/"));
    let scraped = Scraped::start(folder.path(), port, "1s");
    scraped.check();
    scraped.until("mysql_up{POOL}", 0.0);
    scraped.until("count(mysql_exporter_last_scrape_error{POOL})", 1.0);
    scraped.until("count(mysqld_exporter_build_info{version!=\"\", POOL})", 1.0);
}

/// It answers only after it has looked for its server for more than ten seconds.
#[test]
fn the_slow_mongodb_exporter_shows_that_it_has_no_server() {
    let Some(programs) = ThirdParty::find(&["prometheus-mongodb-exporter"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut exporter = programs.command("prometheus-mongodb-exporter");
    exporter.args(["-mongodb.uri", "mongodb://127.0.0.1:1", "-logtostderr"]);
    exporter.args(["-web.listen-address", &format!("127.0.0.1:{port}")]);
    let exporter = Daemon::run(&mut exporter, folder.path());
    eventually("the exporter", 20, || exporter.output().contains("Listening on").then_some(()));
    let scraped = Scraped::start(folder.path(), port, "14s");
    scraped.until("mongodb_up{POOL}", 0.0);
    scraped.until("up{POOL}", 1.0);
    scraped.until("count({__name__=~\"go_gc_duration_seconds.*\", POOL})", 7.0);
}

#[test]
fn what_is_pushed_to_the_pushgateway_is_scraped() {
    let Some(programs) = ThirdParty::find(&["prometheus-pushgateway"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut gateway = programs.command("prometheus-pushgateway");
    gateway.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--persistence.file=");
    let base = format!("http://127.0.0.1:{port}");
    let mut gateway = Daemon::run(&mut gateway, folder.path());
    gateway.wait_for(&format!("{base}/-/ready"));
    let push = |group: &str, page: &str| {
        let answer = post(&format!("{base}/metrics/{group}"), &[], page.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    push(
        "job/batch/instance/one",
        "# HELP rows Rows \\\\ of\\nall.\n# TYPE rows counter\nrows{table=\"a \\\"b\\\" \\\\\"} 12\nrows{table=\"c\"} 3e-5\n\
         # TYPE took histogram\ntook_bucket{le=\"1\"} 2\ntook_bucket{le=\"+Inf\"} 3\ntook_sum 4.5\ntook_count 3\n\
         # TYPE part summary\npart{quantile=\"0.5\"} NaN\npart_sum 0\npart_count 0\nplain -Inf\n",
    );
    // without an instance of its own it is shown with an empty one
    push("job/nightly", "done 1\n");
    let scraped = Scraped::start(folder.path(), port, "1s");
    scraped.check();
    for server in &scraped.servers {
        for (expr, expected) in [
            ("rows{pool=\"plain\", exported_job=\"batch\", exported_instance=\"one\", table=\"c\"}", 3e-5),
            ("rows{pool=\"honest\", job=\"batch\", instance=\"one\", table=\"a \\\"b\\\" \\\\\"}", 12.0),
            ("took_bucket{pool=\"honest\", le=\"+Inf\"}", 3.0),
            ("done{pool=\"honest\", job=\"nightly\", instance=\"\"}", 1.0),
            ("count(push_time_seconds{pool=\"plain\"} > 1e9)", 2.0),
        ] {
            let base = &server.base;
            eventually(&format!("{expr} to be {expected} at {base}"), 20, || {
                (value(base, expr) == Some(expected)).then_some(())
            });
        }
    }
    let mut connection =
        client::Connection::open(scraped.exporter.parse().unwrap(), std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(connection.request("DELETE", "/metrics/job/batch/instance/one", &[], None).unwrap().status, 202);
    scraped.until("absent(rows{POOL})", 1.0);
    scraped.until("count(done{POOL})", 1.0);
    scraped.check();
}
