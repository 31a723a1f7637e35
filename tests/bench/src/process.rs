//! Programs under measurement: started, waited for, read and stopped.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::benchmark::BenchError;
use crate::farm::FarmSpec;
use crate::proc_files::{self, Memory};
use harness::client as http;

/// How long a program may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A program that runs. Dropping it kills it.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Running {
    /// Starts a program in `folder`, its output going to a file there.
    pub(crate) fn start(name: &str, binary: &Path, arguments: &[String], folder: &Path) -> Result<Self, BenchError> {
        let log = folder.join("log");
        let named = |e| BenchError::io(log.display().to_string(), e);
        let output = File::create(&log).map_err(named)?;
        let errors = output.try_clone().map_err(named)?;
        let binary = binary.canonicalize().map_err(|e| BenchError::io(binary.display().to_string(), e))?;
        let mut command = Command::new(&binary);
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(output).stderr(errors);
        let started = Instant::now();
        let child = command.spawn().map_err(|e| BenchError::io(binary.display().to_string(), e))?;
        Ok(Self { name: name.to_owned(), child, log, started })
    }

    /// Asks `path` again and again until the answer is 200, and returns the time since the start.
    pub(crate) fn wait_ready(
        &mut self,
        address: SocketAddr,
        path: &str,
        limit: Duration,
    ) -> Result<Duration, BenchError> {
        loop {
            if http::get(address, path).is_ok_and(|answer| answer.status == 200) {
                return Ok(self.started.elapsed());
            }
            self.check()?;
            if self.started.elapsed() > limit {
                return Err(self.failure(&format!("no 200 from {path} within {} s", limit.as_secs())));
            }
            sleep(Duration::from_micros(500));
        }
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failure(&format!("it ended ({status})"))),
            Err(error) => Err(BenchError::io(self.name.clone(), error)),
        }
    }

    /// Memory in use.
    pub(crate) fn memory(&self) -> Result<Memory, BenchError> {
        proc_files::memory(self.child.id())
    }

    /// Begins anew to look for the most memory that it takes.
    pub(crate) fn forget_peak(&self) -> Result<(), BenchError> {
        proc_files::forget_peak(self.child.id())
    }

    /// Time on the processors so far.
    pub(crate) fn processor_time(&self) -> Result<Duration, BenchError> {
        proc_files::processor_time(self.child.id())
    }

    /// Time since its start.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends it without a chance to clean up, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<(), BenchError> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(|_| ()).map_err(|e| BenchError::io(self.name.clone(), e))
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<(), BenchError> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).map_err(|e| BenchError::io(self.name.clone(), e.into()))?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            match self.child.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => sleep(Duration::from_millis(20)),
                Err(error) => return Err(BenchError::io(self.name.clone(), error)),
            }
        }
        Err(self.failure(&format!("still running {} s after SIGTERM", STOP_LIMIT.as_secs())))
    }

    /// An error of this program, with the end of its log.
    pub(crate) fn failure(&self, reason: &str) -> BenchError {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("\n    ");
        let tail =
            if tail.is_empty() { "it printed nothing".to_owned() } else { format!("it printed last:\n    {tail}") };
        BenchError::program(&self.name, format!("{reason}; {tail}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that nothing listens on.
pub(crate) fn free_address() -> Result<SocketAddr, BenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| BenchError::io("a free port", e))?;
    listener.local_addr().map_err(|e| BenchError::io("a free port", e))
}

/// The farm in a process of its own, so that making pages is not counted against anyone.
pub(crate) struct FarmProcess {
    child: Child,
    /// The port that all its targets listen on.
    pub(crate) port: u16,
}

/// What a farm has served so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FarmCount {
    pub(crate) pages: f64,
    pub(crate) samples: f64,
    pub(crate) bytes: f64,
    pub(crate) sent: f64,
}

impl FarmProcess {
    /// Starts `bench farm` from this very binary.
    pub(crate) fn start(spec: &FarmSpec) -> Result<Self, BenchError> {
        let this = std::env::current_exe().map_err(|e| BenchError::io("this program's path", e))?;
        let mut command = Command::new(this);
        command.arg("farm");
        for (flag, value) in [
            ("--targets", spec.targets.to_string()),
            ("--series", spec.series.to_string()),
            ("--seed", spec.seed.to_string()),
            ("--flapping", spec.flapping.to_string()),
            ("--moving", spec.moving.to_string()),
        ] {
            command.args([flag, value.as_str()]);
        }
        if spec.timestamps {
            command.arg("--timestamps");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| BenchError::io("the farm", e))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(|e| BenchError::io("the farm", e))?;
        }
        let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
        let mut farm = Self { child, port: 0 };
        farm.port = port.ok_or_else(|| BenchError::program("farm", format!("it does not listen: {line:?}")))?;
        Ok(farm)
    }

    /// Time on the processors so far.
    pub(crate) fn processor_time(&self) -> Result<Duration, BenchError> {
        proc_files::processor_time(self.child.id())
    }

    /// What it has served.
    pub(crate) fn count(&self) -> Result<FarmCount, BenchError> {
        let named = |e| BenchError::io("the farm", e);
        let address = SocketAddr::new(crate::farm::address(0), self.port);
        let text = http::get(address, "/farm").and_then(|answer| answer.text()).map_err(named)?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| BenchError::program("farm", e.to_string()))?;
        let field = |name: &str| json[name].as_f64().unwrap_or(0.0);
        Ok(FarmCount { pages: field("pages"), samples: field("samples"), bytes: field("bytes"), sent: field("sent") })
    }
}

impl Drop for FarmProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, folder: &Path) -> Running {
        Running::start("shell", Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], folder).expect("a shell")
    }

    #[test]
    fn a_program_that_ends_early_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut running = start("echo cannot bind >&2; exit 3", folder.path());
        let address = free_address().expect("a port");
        let error = running.wait_ready(address, "/-/ready", Duration::from_secs(60)).expect_err("it ended");
        let error = error.to_string();
        assert!(error.contains("exit status: 3") && error.contains("cannot bind"), "{error}");
    }

    #[test]
    fn a_program_is_stopped_by_sigterm() {
        let folder = tempfile::tempdir().expect("a folder");
        let running = start("exec sleep 600", folder.path());
        assert!(running.memory().is_ok());
        running.stop().expect("to stop");
    }
}
