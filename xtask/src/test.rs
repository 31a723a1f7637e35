//! `cargo xtask test`: everything that CI runs. Installs what it needs and says so; prints the time of each part, and each part
//! that is left out with the reason.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::command::{self, binaries, cargo, exists, root, show};

/// The release of cargo-deny that is installed where there is none.
const CARGO_DENY: &str = "0.20.2";

#[derive(Default)]
struct Report {
    passed: u64,
    failed: u64,
    faults: Vec<String>,
    times: Vec<(&'static str, f64)>,
    left_out: Vec<(&'static str, String)>,
}

impl Report {
    /// Runs a part; its fault does not stop the others.
    fn part(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Result<(), String>) {
        println!("\n==> {name}");
        let started = Instant::now();
        if let Err(fault) = work(self) {
            self.failed += 1;
            self.faults.push(format!("{name}: {fault}"));
        }
        self.times.push((name, started.elapsed().as_secs_f64()));
    }

    fn leave_out(&mut self, name: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        println!("\n==> {name}: left out, {reason}");
        self.left_out.push((name, reason));
    }

    /// Runs a program that prints counts as cargo's test runner or as `N passed, N failed`, and adds them up.
    fn counted(&mut self, command: &mut Command) -> Result<(), String> {
        let shown = show(command);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{shown}: {e}"))?;
        let output = child.stdout.take().ok_or("no output")?;
        let before = self.failed;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            if let Some((passed, failed)) = counts(&line) {
                self.passed += passed;
                self.failed += failed;
            }
        }
        let status = child.wait().map_err(|e| format!("{shown}: {e}"))?;
        if status.success() {
            return Ok(());
        }
        if self.failed > before {
            self.faults.push(format!("{shown}: tests failed"));
            return Ok(());
        }
        Err(format!("{shown} failed ({status})"))
    }
}

/// `test result: ok. 3 passed; 0 failed; ...` or `3 passed, 0 failed`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let text = line
        .trim()
        .strip_prefix("test result: ")
        .and_then(|l| l.split_once(". "))
        .map_or(line.trim(), |(_, rest)| rest);
    let mut parts = text.split([';', ',']);
    let number = |part: Option<&str>, word: &str| part?.trim().strip_suffix(word)?.trim().parse().ok();
    Some((number(parts.next(), "passed")?, number(parts.next(), "failed")?))
}

/// Runs all tests.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let long = match arguments {
        [] => false,
        [flag] if flag == "--long" => true,
        _ => return Err("usage: cargo xtask test [--long]".into()),
    };
    let conformance = conformance_folder();
    println!(
        "This will use: cargo (crates.io), rustfmt and clippy; cargo-deny {CARGO_DENY} if it is missing (cargo install);"
    );
    println!(
        "the real Prometheus and its exporters from Debian sid, and other people's exporters, Redis and PostgreSQL from the"
    );
    println!(
        "machine's own release, in the user's cache folder (apt-get download, no root, nothing is installed or started)."
    );
    let mut report = Report::default();
    report.part("format", |_| command::run(cargo().args(["fmt", "--all", "--check"])));
    report.part("clippy", |_| {
        command::run(cargo().args(["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
    });
    deny(&mut report);
    report.part("build", |_| command::run(cargo().args(["build", "--release", "--workspace", "--bins"])));
    let peers = peers(&mut report);
    let third_party = third_party(&mut report);
    let browser = browser(&mut report);
    report.part("tests", |report| {
        let mut tests = cargo();
        tests.args(["test", "--release", "--workspace", "--quiet", "--no-fail-fast"]);
        if let Some(folder) = &conformance {
            tests.env("FIREWATCH_CONFORMANCE", folder);
        }
        if let Some(folder) = &peers {
            tests.env("FIREWATCH_PEERS", folder);
        }
        if let Some(folder) = &third_party {
            tests.env("FIREWATCH_THIRD_PARTY", folder);
        }
        if let Some(browser) = browser {
            tests.env("FIREWATCH_BROWSER", browser);
        }
        if long {
            tests.env("FIREWATCH_LONG", "1");
        }
        report.counted(&mut tests)
    });
    match &conformance {
        Some(folder) => report.part("PromQL scripts", |report| {
            report.counted(
                Command::new(binaries("release").join("firewatch")).args(["test", "promql"]).arg(folder.join("promql")),
            )
        }),
        None => report.leave_out("PromQL scripts", "FIREWATCH_CONFORMANCE does not name a folder"),
    }
    if !long {
        report.leave_out("long simulations", "they are part of `cargo xtask test --long`");
    }
    summary(&report)
}

/// Reference data, if there is any: named by `FIREWATCH_CONFORMANCE`.
fn conformance_folder() -> Option<PathBuf> {
    std::env::var_os("FIREWATCH_CONFORMANCE").map(PathBuf::from).filter(|path| path.is_dir())
}

fn deny(report: &mut Report) {
    // in the user's cache, so that it is built once a machine and not once a checkout
    let tools = user_cache().join("firewatch/tools");
    let local = tools.join("bin/cargo-deny");
    let installed = exists("cargo-deny") || local.exists();
    if !installed {
        report.part("install cargo-deny", |_| {
            let mut install = cargo();
            install.args([
                "install",
                "--quiet",
                "--locked",
                "--no-default-features",
                "--version",
                CARGO_DENY,
                "cargo-deny",
            ]);
            command::run(install.arg("--root").arg(&tools).arg("--target-dir").arg(tools.join("target")))
        });
    }
    let program = if local.exists() { local } else { PathBuf::from("cargo-deny") };
    // advisories need a clone of their database, which not every machine can make
    report.part("licences, bans and sources of dependencies", |_| {
        command::run(Command::new(program).current_dir(root()).args([
            "--workspace",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))
    });
}

fn user_cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| ".".into())).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).unwrap_or_else(home)
}

/// The real programs that tests compare with.
fn peers(report: &mut Report) -> Option<PathBuf> {
    const PART: &str = "comparison with the real programs";
    if !exists("apt-get") {
        report.leave_out(PART, "there is no apt-get to fetch them with");
        return None;
    }
    let folder = fetched(report, "fetch the real programs", &[]);
    if folder.is_none() {
        report.leave_out(PART, "they cannot be fetched from Debian sid");
    }
    folder
}

/// Exporters of other people and the servers behind them.
fn third_party(report: &mut Report) -> Option<PathBuf> {
    const PART: &str = "third-party exporters, with Redis and PostgreSQL";
    if !exists("apt-get") {
        report.leave_out(PART, "there is no apt-get to fetch them with");
        return None;
    }
    let folder = fetched(report, "fetch third-party exporters, Redis and PostgreSQL", &["--third-party"]);
    let Some(bin) = &folder else {
        report.leave_out(PART, "they cannot be fetched from the machine's package sources");
        return None;
    };
    for (part, program) in [
        ("the Redis exporter", "prometheus-redis-exporter"),
        ("the PostgreSQL exporter", "prometheus-postgres-exporter"),
        ("the MySQL exporter", "prometheus-mysqld-exporter"),
        ("the MongoDB exporter", "prometheus-mongodb-exporter"),
        ("the pushgateway", "prometheus-pushgateway"),
    ] {
        if !bin.join(program).exists() {
            report.leave_out(part, "the machine's package sources do not have it");
        }
    }
    if is_root() && !succeeds(Command::new("unshare").args(["--user", "--map-user=65534", "true"])) {
        let reason = "it does not run as root, and this machine allows no user namespaces";
        report.leave_out("the PostgreSQL exporter with a real server", reason);
    }
    folder
}

/// What `peers.sh` has fetched, if it could.
fn fetched(report: &mut Report, part: &'static str, arguments: &[&str]) -> Option<PathBuf> {
    let mut folder = None;
    report.part(part, |_| {
        let script = root().join("tests/bench/peers.sh");
        let output = Command::new("bash").arg(script).args(arguments).stderr(Stdio::inherit()).output();
        folder = output
            .ok()
            .filter(|o| o.status.success())
            .map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim().lines().last().unwrap_or_default()))
            .filter(|path| path.is_dir());
        // the caller says what is left out without it
        Ok(())
    });
    folder
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// A browser for the page; installed where we may.
fn browser(report: &mut Report) -> Option<&'static str> {
    const NAME: &str = "chromium";
    if !exists(NAME) && exists("apt-get") && is_root() {
        report.part("install chromium", |_| {
            let apt = |arguments: &[&str]| command::run(Command::new("apt-get").arg("-qq").args(arguments));
            apt(&["update"])?;
            apt(&["install", "--yes", "--no-install-recommends", NAME])
        });
    }
    let found = exists(NAME);
    if !found {
        report.leave_out("the page in a browser", "there is no chromium, and installing it takes root and apt-get");
    }
    found.then_some(NAME)
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn summary(report: &Report) -> Result<(), String> {
    println!("\nTimes");
    for (name, seconds) in &report.times {
        println!("  {seconds:7.1} s  {name}");
    }
    for (name, reason) in &report.left_out {
        println!("  left out   {name}: {reason}");
    }
    for fault in &report.faults {
        println!("FAILED {fault}");
    }
    println!("\n{} passed, {} failed", report.passed, report.failed);
    if report.failed == 0 && report.passed > 0 { Ok(()) } else { Err("not everything passed".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_both_kinds_are_read() {
        assert_eq!(counts("test result: ok. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out"), Some((3, 1)));
        assert_eq!(counts("12 passed, 0 failed"), Some((12, 0)));
        assert_eq!(counts("running 3 tests"), None);
    }
}
