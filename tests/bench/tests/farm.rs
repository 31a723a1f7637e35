//! The farm as benchmarks use it: a process that serves pages to whoever connects.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use bench::farm::address;
use bench::pages::{Kind, Page, PageSpec};
use harness::client::{self as http, Connection};

struct Farm {
    child: Child,
    input: Option<ChildStdin>,
    port: u16,
}

impl Farm {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .arg("farm")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the farm starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let port = line.trim().strip_prefix("port ").expect("a port").parse().expect("a number");
        let input = child.stdin.take();
        Self { child, input, port }
    }

    fn connect(&self, target: usize) -> Connection {
        Connection::open(SocketAddr::new(address(target), self.port), Duration::from_secs(20)).expect("to connect")
    }

    fn fetch(&self, target: usize, path: &str) -> (u16, String) {
        let answer = self.connect(target).get(path, &[]).expect("an answer");
        (answer.status, answer.text().expect("text"))
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn page(target: usize, generation: u64, tick: u64) -> String {
    let kind = Kind::of(target);
    let mut page = Page::new(&PageSpec { seed: 5, kind, target, generation, series: 300, flapping: 0.0, moving: 0.0 });
    (0..tick).for_each(|_| page.advance());
    let mut text = String::new();
    page.render(None, &mut text);
    text
}

const SMALL: [&str; 6] = ["--targets", "12", "--series", "300", "--seed", "5"];

#[test]
fn each_target_serves_its_pages_one_after_another() {
    let farm = Farm::start(&SMALL);
    let gzip = [("Accept-Encoding", "gzip")];
    let mut connection = farm.connect(3);
    for tick in 0..4 {
        let answer = connection.get("/t/3/0", &gzip).expect("an answer");
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(answer.text().expect("text"), page(3, 0, tick), "scrape {tick}");
    }
    // other targets are not touched by that, and a replaced target starts anew
    assert_eq!(farm.fetch(9, "/t/9/0"), (200, page(9, 0, 0)));
    assert_eq!(farm.fetch(3, "/t/3/1"), (200, page(3, 1, 0)));
    assert_eq!(farm.fetch(3, "/t/3/1"), (200, page(3, 1, 1)));
}

#[test]
fn the_farm_counts_what_it_serves() {
    let farm = Farm::start(&SMALL);
    for _ in 0..3 {
        farm.fetch(1, "/t/1/0");
    }
    let text = http::get(SocketAddr::new(address(0), farm.port), "/farm").expect("an answer").text().expect("text");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((json["pages"].as_u64(), json["samples"].as_u64()), (Some(3), Some(900)));
    let bytes: usize = (0..3).map(|tick| page(1, 0, tick).len()).sum();
    assert_eq!(json["bytes"].as_u64(), Some(bytes as u64));
}

#[test]
fn what_is_not_there_is_a_404() {
    let farm = Farm::start(&SMALL);
    for path in ["/t/12/0", "/metrics", "/t/x/0"] {
        assert_eq!(farm.fetch(0, path).0, 404, "{path}");
    }
}

#[test]
fn the_farm_ends_with_the_process_that_started_it() {
    let mut farm = Farm::start(&SMALL);
    drop(farm.input.take());
    assert!(farm.child.wait().expect("to end").success());
}

#[test]
fn impossible_farms_are_refused() {
    for (arguments, reason) in [(["--targets", "0"], "from 1 to"), (["--series", "many"], "invalid value")] {
        let output = Command::new(env!("CARGO_BIN_EXE_bench")).arg("farm").args(arguments).output().expect("to run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(reason), "{errors}");
    }
}
