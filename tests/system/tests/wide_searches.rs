//! Searches beside queries (series, names and values of labels, federation) that would take a server down if it let them.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use harness::{Daemon, Series, binary, encode, eventually, free_port, get, send};
use model::now_millis;

/// Series in the store, each with a label value of its own of a hundred bytes.
const SERIES: usize = 100_000;

/// How many clients search at once.
const CLIENTS: usize = 8;

fn load(base: &str, time: i64) {
    let label = |name: &str, value: String| (name.to_owned(), value);
    for from in (0..SERIES).step_by(10_000) {
        let series = (from..from + 10_000).map(|n| Series {
            labels: vec![
                label("__name__", "wide".into()),
                label("few", (n % 5).to_string()),
                label("many", format!("{n:06}{}", "x".repeat(94))),
            ],
            samples: vec![(time, n as f64)],
            histograms: Vec::new(),
        });
        let answer = send(base, &series.collect::<Vec<_>>());
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
}

fn start(folder: &std::path::Path, limits: &[&str]) -> (Daemon, String) {
    std::fs::write(folder.join("prometheus.yml"), "").unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut arguments = vec![
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--web.enable-remote-write-receiver".to_owned(),
        format!("--web.listen-address={address}"),
    ];
    arguments.extend(limits.iter().map(ToString::to_string));
    let mut daemon = Daemon::start(&binary("collector"), &arguments, folder);
    daemon.wait_for(&format!("http://{address}/-/ready"));
    (daemon, address)
}

/// The value of a metric of the server's own.
fn metric(base: &str, name: &str) -> f64 {
    let page = get(&format!("{base}/metrics")).body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {page}")).parse().unwrap()
}

#[test]
fn searches_take_no_more_memory_than_queries() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, address) = start(folder.path(), &["--query.max-memory=4MB", "--query.max-memory-total=16MB"]);
    let base = format!("http://{address}");
    load(&base, now_millis());
    let series = |selector: &str| format!("{base}/api/v1/series?match[]={}", encode(selector));
    let federate = |selector: &str| format!("{base}/federate?match[]={}", encode(selector));
    let values = format!("{base}/api/v1/label/many/values");
    let too_much = [
        (series("wide"), 422),
        (format!("{}&match[]=up", series("{few=~\".+\"}")), 422),
        (values.clone(), 422),
        (format!("{values}?match[]={}", encode("wide{few!=\"7\"}")), 422),
        (federate("wide"), 500),
    ];
    let little = [
        series("wide{many=~\"00000.*\"}"),
        format!("{}&match[]={}", series("wide{many=~\"00000.*\"}"), encode("wide{many=~\"00001.*\"}")),
        format!("{values}?match[]={}", encode("wide{many=~\"00000.*\"}")),
        format!("{base}/api/v1/label/few/values"),
        format!("{base}/api/v1/labels?match[]=wide"),
        federate("wide{many=~\"00000.*\"}"),
    ];
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (too_much, little) = (&too_much, &little);
            scope.spawn(move || {
                for (at, (path, status)) in too_much.iter().enumerate() {
                    let answer = get(path);
                    // as many as there are may take all there is for all
                    assert!([*status, 503].contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
                    assert!(answer.body.contains("--query.max-memory"), "{path}: {}", answer.body);
                    let answer = get(&little[(client + at) % little.len()]);
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
            });
        }
    });
    assert!(metric(&base, "firewatch_queries_refused_total{reason=\"memory\"}") > 0.0);
    assert_eq!(get(&little[2]).body.matches("xxx\"").count(), 10);
    assert_eq!(get(&little[1]).body.matches("\"many\"").count(), 20);
    assert_eq!(get(&little[3]).body, r#"{"status":"success","data":["0","1","2","3","4"]}"#);
    assert_eq!(get(&little[4]).body, r#"{"status":"success","data":["__name__","few","many"]}"#);
    assert_eq!(get(&little[5]).body.matches("\nwide{").count(), 10);
    eventually("all memory given back", 20, || (metric(&base, "firewatch_query_memory_bytes") == 0.0).then_some(()));
    assert!(!daemon.output().contains("panicked"), "{}", daemon.output());
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn searches_end_when_the_client_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, address) = start(folder.path(), &[]);
    let base = format!("http://{address}");
    load(&base, now_millis());
    // each of the patterns is asked of a hundred thousand values
    let path = "/api/v1/label/many/values";
    let patterns = (0..200).map(|n| format!("match[]={}&", encode(&format!("wide{{many=~\".*{n}(x|y)+.*z{n}\"}}"))));
    let body: String = patterns.collect();
    let canceled = "firewatch_queries_refused_total{reason=\"canceled\"}";
    assert_eq!(metric(&base, canceled), 0.0);
    let mut client = TcpStream::connect(&address).unwrap();
    client.write_all(format!("GET {path}?{body} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(client);
    eventually("the search ended", 5, || (metric(&base, canceled) == 1.0).then_some(()));
    eventually("its memory given back", 5, || (metric(&base, "firewatch_query_memory_bytes") == 0.0).then_some(()));
    assert_eq!(daemon.stop(), Some(0));
}
