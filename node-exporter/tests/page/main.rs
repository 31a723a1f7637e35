//! The binary as a whole: its page, its query parameters, its end on a signal; and, where they are at hand, the recorded page
//! of the program it stands in for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::exposition::{Entry, labels_of, text::Parser};

mod container;
mod damaged;
mod hanging;
mod live;
mod namespace;

/// A running exporter; ends with the test.
struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    fn start(folder: &Path, flags: &[&str]) -> Self {
        Self::start_with(folder, flags, &[])
    }

    fn start_with(folder: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-exporter"));
        command.args(flags).envs(environment.iter().copied()).current_dir(folder);
        Self::of(command)
    }

    /// Runs a command that ends in an exporter's flags.
    fn of(mut command: Command) -> Self {
        let mut child = command
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
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
        self.get_within(path, "10")
    }

    /// Asks as a scraper does that waits for so many seconds.
    fn get_within(&self, path: &str, seconds: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let timeout = format!("X-Prometheus-Scrape-Timeout-Seconds: {seconds}");
        // version 1.0, so that the answer is one piece
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n{timeout}\r\n\r\n").expect("a request");
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

#[test]
fn sockets_of_systemd_are_taken_over() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address").to_string();
    // as systemd does: the socket is descriptor 3, and the variables name the process
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_node-exporter"), "--web.systemd-socket"]);
    command.args(["--collector.disable-defaults", "--collector.loadavg"]);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    let exporter = Exporter::of(command);
    assert_eq!(exporter.address, address);
    assert_eq!(collectors(&exporter.get("/metrics").1), ["loadavg"]);
}

#[test]
fn without_sockets_of_systemd_it_says_so() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_node-exporter")).arg("--web.systemd-socket").output().expect("an end");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("no socket of systemd"), "{text}");
}

#[test]
fn the_unit_files_start_this_program() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs this")).join("packaging");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a unit file");
    let (service, socket) = (read("node-exporter.service"), read("node-exporter.socket"));
    assert!(service.contains("ExecStart=/usr/bin/node-exporter ") && socket.contains("ListenStream=9100"));
    let verify =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(folder.join("node-exporter.socket")).output();
    match verify {
        // it looks for the program where it is installed
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let faults: Vec<&str> =
                text.lines().filter(|l| l.contains("node-exporter") && !l.contains("not executable")).collect();
            assert!(faults.is_empty(), "{text}");
        }
        Err(_) => println!("skipped: there is no systemd-analyze to check the unit files with"),
    }
}

/// Bytes on the heap and the stacks of a process.
fn anonymous_memory(exporter: &Exporter) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.child.id())).expect("a process");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn memory_does_not_grow() {
    let exporter = Exporter::start(Path::new("/"), &["--web.telemetry-path=/m"]);
    let scrapes = if std::env::var_os("FIREWATCH_LONG").is_some() { 100_000 } else { 1500 };
    let stream = TcpStream::connect(&exporter.address).expect("a connection");
    let mut answers = BufReader::new(stream.try_clone().expect("a connection"));
    let mut scrape = || {
        let mut stream = &stream;
        stream.write_all(b"GET /m HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n").expect("a request");
        let mut len = 0;
        loop {
            let mut line = String::new();
            answers.read_line(&mut line).expect("a header");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut answers.by_ref().take(len), &mut std::io::sink()).expect("a page");
        assert!(len > 1000);
    };
    (0..300).for_each(|_| scrape());
    let before = anonymous_memory(&exporter);
    (0..scrapes).for_each(|_| scrape());
    let after = anonymous_memory(&exporter);
    println!("{before} bytes after 300 scrapes, {after} after {scrapes} more");
    assert!(after < before + 512 * 1024, "{before} bytes have become {after} in {scrapes} scrapes");
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
    let (mut expected, mut found) = (families(&read("e2e-output.txt")), families(page.as_bytes()));
    // what this machine's own interface has dropped, under load say, is no fixture
    for (name, (_, _, samples)) in expected.iter_mut().chain(&mut found) {
        if name.starts_with("node_network_") && name.ends_with("_total") {
            let series =
                |sample: String| sample.rsplit_once(' ').map_or(String::new(), |(series, _)| series.to_owned());
            *samples = std::mem::take(samples).into_iter().map(series).collect();
        }
    }
    let mut faults = Vec::new();
    for (name, family) in expected.iter().filter(|(name, _)| !varies(name)) {
        if found.get(name) != Some(family) {
            faults.push(format!("{name}: expected {family:?}, found {:?}", found.get(name)));
        }
    }
    assert!(faults.is_empty(), "{} families differ, the first: {}", faults.len(), faults[0]);
}
