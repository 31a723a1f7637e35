//! Reading the configuration anew: what people are told, and files that are watched. Beside the real Prometheus where it is at hand.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use harness::{Prometheus, api, eventually, get};
use serde_json::{Value, json};

/// A stream of events, as a browser reads it.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(base: &str) -> Self {
        let address = base.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!("GET /api/v1/notifications/live HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut events = Self(BufReader::new(stream));
        let head: Vec<String> = std::iter::from_fn(|| events.line().filter(|line| !line.is_empty())).collect();
        assert!(head[0].contains("200"), "{head:?}");
        assert!(head.iter().any(|line| line.eq_ignore_ascii_case("content-type: text/event-stream")), "{head:?}");
        events
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event: its text, and whether it holds. `None` at the end of the stream.
    fn next(&mut self) -> Option<(String, bool)> {
        loop {
            // lines between are the sizes of chunks
            if let Some(data) = self.line()?.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(data).unwrap();
                assert!(event["date"].as_str().unwrap().contains('T'), "{event}");
                return Some((event["text"].as_str().unwrap().to_owned(), event["active"].as_bool().unwrap()));
            }
        }
    }
}

#[test]
fn a_failed_reload_is_told_until_one_succeeds() {
    const FAILED: &str = "Configuration reload has failed.";
    let folder = tempfile::tempdir().unwrap();
    for server in Prometheus::both(folder.path(), "", &["--web.max-notifications-subscribers=1"]) {
        let base = &server.base;
        assert_eq!(api(base, "notifications"), json!([]));
        let mut events = Events::open(base);
        assert_eq!(get(&format!("{base}/api/v1/notifications/live")).status, 204, "one listens already");
        assert_eq!(server.reload("nonsense: true").status, 500);
        let mut told = api(base, "notifications");
        assert!(told[0]["date"].take().is_string());
        assert_eq!(told, json!([{ "text": FAILED, "date": null, "active": true }]));
        assert_eq!(events.next(), Some((FAILED.to_owned(), true)));
        assert_eq!(server.reload("").status, 200);
        assert_eq!(api(base, "notifications"), json!([]));
        assert_eq!(events.next(), Some((FAILED.to_owned(), false)));
        let metrics = get(&format!("{base}/metrics")).body;
        for line in ["notification_active_subscribers 1", "notification_updates_sent_total 2"] {
            assert!(metrics.contains(&format!("\nprometheus_api_{line}\n")), "{line}");
        }
        // the end is told too, and the open stream does not hold it up
        assert_eq!(server.stop(), Some(0));
        let stopping = "Prometheus is shutting down and gracefully stopping all operations.";
        assert_eq!(events.next(), Some((stopping.to_owned(), true)));
    }
}

#[test]
fn changed_files_are_read_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--enable-feature=auto-reload-config", "--config.auto-reload-interval=1s"];
    for (at, server) in Prometheus::both(folder.path(), "", &arguments).into_iter().enumerate() {
        let (jobs, rules) = (format!("jobs{at}.yml"), format!("rules{at}.yml"));
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        let base = &server.base;
        let pools = |wanted: Value| {
            eventually(&format!("the jobs {wanted}"), 20, || {
                (api(base, "scrape_pools")["scrapePools"] == wanted).then_some(())
            });
        };
        let succeeded = |wanted: u8| {
            eventually(&format!("a reload with outcome {wanted}"), 20, || {
                let line = format!("\nprometheus_config_last_reload_successful {wanted}\n");
                get(&format!("{base}/metrics")).body.contains(&line).then_some(())
            });
        };
        let config = format!("rule_files: [{rules}]\nscrape_config_files: [{jobs}]\n");
        write(&jobs, "scrape_configs: [{job_name: first}]");
        server.write(&config);
        pools(json!(["first"]));
        write(&jobs, "scrape_configs: [{job_name: second}]");
        pools(json!(["second"]));
        write(&rules, "groups: [{name: watched, rules: [{record: r, expr: vector(1)}]}]");
        eventually("the rule group", 20, || (api(base, "rules")["groups"][0]["name"] == "watched").then_some(()));
        server.write("nonsense: true");
        succeeded(0);
        assert_eq!(api(base, "notifications")[0]["active"], true);
        pools(json!(["second"]));
        // back to what is in force: tried again, and told no longer
        server.write(&format!("{config}# mended\n"));
        succeeded(1);
        assert_eq!(api(base, "notifications"), json!([]));
        assert_eq!(server.stop(), Some(0));
    }
}
