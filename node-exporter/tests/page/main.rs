//! The binary as a whole: its page, its query parameters, its end on a signal; and, where they are at hand, the recorded page
//! of the program it stands in for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::exposition::{Entry, labels_of, text::Parser};

/// A running exporter; ends with the test.
struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    fn start(folder: &Path, flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_node-exporter"))
            .args(flags)
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut address = None;
        while let Some(Ok(line)) = log.next() {
            if line.contains("Listening on") {
                address = line.split("address=").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
                break;
            }
        }
        // what it says later must not fill the pipe
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address: address.expect("an address in the log") }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, body.to_owned())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn collectors(page: &str) -> Vec<String> {
    let successes = page.lines().filter_map(|l| l.strip_prefix("node_scrape_collector_success{collector=\""));
    successes.filter_map(|l| l.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn requests_choose_collectors() {
    let flags = ["--collector.disable-defaults", "--collector.loadavg", "--collector.uname", "--collector.stat"];
    let exporter = Exporter::start(Path::new("/"), &flags);
    let (status, page) = exporter.get("/metrics");
    assert_eq!((status, collectors(&page)), (200, vec!["loadavg".into(), "stat".into(), "uname".into()]));
    for name in [
        "node_load1 ",
        "node_exporter_build_info{",
        "process_open_fds ",
        "promhttp_metric_handler_requests_in_flight 1",
    ] {
        assert!(page.lines().any(|l| l.starts_with(name)), "{name} in {page}");
    }
    let (_, page) = exporter.get("/metrics?collect[]=uname");
    assert_eq!(collectors(&page), ["uname"]);
    assert!(!page.contains("process_open_fds"), "{page}");
    assert_eq!(collectors(&exporter.get("/metrics?exclude[]=uname&exclude%5B%5D=stat").1), ["loadavg"]);
    for (query, words) in [
        ("collect[]=uname&exclude[]=stat", "Combined collect and exclude queries are not allowed."),
        ("collect[]=cpu", "disabled collector: cpu"),
        ("collect[]=nonsense", "missing collector: nonsense"),
    ] {
        let (status, body) = exporter.get(&format!("/metrics?{query}"));
        assert!(status == 400 && body.contains(words), "{query}: {status} {body}");
    }
    let (status, landing) = exporter.get("/");
    assert!(status == 200 && landing.contains("Node Exporter") && landing.contains("href=\"/metrics\""), "{landing}");
    assert_eq!(exporter.get("/nonsense").0, 404);
}

#[test]
fn it_ends_on_sigterm() {
    let mut exporter = Exporter::start(Path::new("/"), &["--collector.disable-defaults", "--collector.loadavg"]);
    let pid = rustix::process::Pid::from_child(&exporter.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert!(exporter.child.wait().expect("an end").success());
}

/// Families with their type, help and samples.
type Families = BTreeMap<String, (String, String, BTreeSet<String>)>;

fn families(page: &[u8]) -> Families {
    let mut found = Families::new();
    let mut parser = Parser::new(page);
    let mut current = String::new();
    while let Some(entry) = parser.next_entry().expect("a page") {
        match entry {
            Entry::Help { family, help } => {
                current = family.clone().into_owned();
                found.entry(family.into_owned()).or_default().1 = help.into_owned();
            }
            Entry::Type { family, metric_type } => {
                current = family.clone().into_owned();
                found.entry(family.into_owned()).or_default().0 = metric_type.to_string();
            }
            Entry::Sample(sample) => {
                let labels = labels_of(sample.series).expect("a series");
                let line = format!("{labels} {}", sample.value);
                found.entry(current.clone()).or_default().2.insert(line);
            }
            _ => {}
        }
    }
    found
}

/// Unpacks a plain-text archive of a folder tree.
fn unpack(archive: &Path, folder: &Path) {
    let text = String::from_utf8(std::fs::read(archive).expect("an archive")).expect("an archive is text");
    let mut lines = text.lines();
    let mut path = PathBuf::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("Path: ") {
            path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        } else if let Some(name) = line.strip_prefix("Directory: ") {
            std::fs::create_dir_all(folder.join(name)).expect("a folder");
        } else if let Some(target) = line.strip_prefix("SymlinkTo: ") {
            std::os::unix::fs::symlink(target, &path).expect("a link");
        } else if let Some(count) = line.strip_prefix("Lines: ") {
            let count: usize = count.parse().expect("a number");
            let mut content = String::new();
            for line in lines.by_ref().take(count) {
                content.push_str(line);
                content.push('\n');
            }
            if content.ends_with("EOF\n") && !content.ends_with("\\EOF\n") {
                content.truncate(content.len() - 4);
            }
            let content = content.replace("\\NULLBYTE", "\u{1}").replace("NULLBYTE", "\0").replace('\u{1}', "NULLBYTE");
            std::fs::write(&path, content.replace("\\EOF", "EOF")).expect("a file");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|e| e.expect("an entry")) {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).expect("a link"), target).expect("a link");
        } else {
            std::fs::write(target, std::fs::read(entry.path()).expect("a file")).expect("a file");
        }
    }
}

/// The folder of references with a copy of its fixture trees, unpacked; `None`, with a line that says so, if there is none.
fn reference() -> Option<(PathBuf, tempfile::TempDir)> {
    let Ok(reference) = std::env::var("FIREWATCH_CONFORMANCE") else {
        println!("skipped: FIREWATCH_CONFORMANCE names no folder with a recorded page");
        return None;
    };
    let base = Path::new(&reference).join("node-exporter");
    let folder = tempfile::tempdir().expect("a folder");
    let fixtures = folder.path().join("collector/fixtures");
    copy(&base.join("fixtures"), &fixtures);
    for name in ["sys", "udev"] {
        unpack(&base.join(format!("fixtures/{name}.ttar")), &fixtures);
    }
    Some((base, folder))
}

#[test]
fn subsystems_of_the_reference_tree_are_counted() {
    let Some((_, folder)) = reference() else { return };
    let flags = ["--collector.disable-defaults", "--collector.nvmesubsystem", "--path.sysfs=collector/fixtures/sys"];
    let page = Exporter::start(folder.path(), &flags).get("/metrics").1;
    for line in [
        "node_nvmesubsystem_info{iopolicy=\"round-robin\",model=\"Dell PowerStore\",nqn=\"nqn.2014-08.org.nvmexpress:uuid:a34c4f3a-0d6f-5cec-dead-beefcafebabe\",serial=\"SN12345678\",subsystem=\"nvme-subsys0\"} 1",
        "node_nvmesubsystem_path_state{controller=\"nvme3\",state=\"dead\",subsystem=\"nvme-subsys0\",transport=\"fc\"} 1",
        "node_nvmesubsystem_path_state{controller=\"nvme3\",state=\"deleting\",subsystem=\"nvme-subsys0\",transport=\"fc\"} 0",
        "node_nvmesubsystem_paths{subsystem=\"nvme-subsys0\"} 4",
        "node_nvmesubsystem_paths_live{subsystem=\"nvme-subsys0\"} 3",
        "node_scrape_collector_success{collector=\"nvmesubsystem\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} in {page}");
    }
}

#[test]
fn the_recorded_page_is_met() {
    let Some((base, folder)) = reference() else { return };
    let read = |name: &str| std::fs::read(base.join(name)).expect("a reference file");
    let flags = String::from_utf8(read("flags.txt")).expect("text").replace("=fixtures", "=collector/fixtures");
    let exporter = Exporter::start(folder.path(), &flags.lines().collect::<Vec<_>>());
    let (status, page) = exporter.get("/metrics");
    assert_eq!(status, 200);
    let vary = String::from_utf8(read("lines-that-vary.txt")).expect("text");
    let varies = |name: &str| vary.lines().any(|prefix| name.starts_with(prefix.trim_start_matches('^')));
    let (expected, found) = (families(&read("e2e-output.txt")), families(page.as_bytes()));
    let mut faults = Vec::new();
    for (name, family) in expected.iter().filter(|(name, _)| !varies(name)) {
        if found.get(name) != Some(family) {
            faults.push(format!("{name}: expected {family:?}, found {:?}", found.get(name)));
        }
    }
    assert!(faults.is_empty(), "{} families differ, the first: {}", faults.len(), faults[0]);
}
