use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::try_get;

/// A program that runs, with its output in a file.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    name: String,
    /// What it is asked to end by before it is killed.
    farewell: Option<Signal>,
}

/// The built program of ours with this name.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    // target/PROFILE/deps/TEST-HASH or target/PROFILE/examples/NAME
    let folder = test.parent().and_then(Path::parent).expect("a folder of binaries");
    let path = folder.join(name);
    assert!(path.exists(), "{} has not been built: run `cargo build --release --workspace` first", path.display());
    path
}

/// A real program to compare with, if the tests may use it: `FIREWATCH_PEERS` names their folder.
pub fn peer(name: &str) -> Option<PathBuf> {
    let path =
        std::env::var_os("FIREWATCH_PEERS").map(|folder| PathBuf::from(folder).join(name)).filter(|p| p.exists());
    match &path {
        None => println!("skipped: FIREWATCH_PEERS does not name a folder with {name}"),
        Some(path) => {
            let version = Command::new(path).arg("--version").output().expect("the peer starts");
            let text = [version.stdout, version.stderr].concat();
            println!("peer: {}", String::from_utf8_lossy(&text).lines().next().unwrap_or_default());
        }
    }
    path
}

/// A port that nobody listens on.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none after `seconds`.
pub fn eventually<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Daemon {
    /// Starts a program; its output goes to a file in `folder`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[String], folder: &Path) -> Self {
        Self::run(Command::new(program).args(arguments).current_dir(folder), folder)
    }

    /// Starts a program as `command` says, but for its output: that goes to a file in `folder`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(command: &mut Command, folder: &Path) -> Self {
        let program = Path::new(command.get_program()).to_owned();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}-{}.log", free_port()));
        let output = File::create(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        Self { child, log, name, farewell: None }
    }

    /// Has it asked to end by a signal when it is dropped, and killed only if it takes longer than 10 s: for programs that leave
    /// something behind when they are killed.
    #[must_use]
    pub fn ended_by(mut self, signal: Signal) -> Self {
        self.farewell = Some(signal);
        self
    }

    /// Waits until it answers `url` with status 200.
    ///
    /// # Panics
    /// When it ends or does not answer in time; its output is shown.
    pub fn wait_for(&mut self, url: &str) -> &mut Self {
        let end = Instant::now() + Duration::from_secs(30);
        while !try_get(url).is_ok_and(|answer| answer.status == 200) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended ({status}):\n{}", self.name, self.output());
            }
            assert!(Instant::now() < end, "{} does not answer {url}:\n{}", self.name, self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a chance to clean up.
    ///
    /// # Panics
    /// When that fails.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    /// Asks it to end, and waits. Gives the exit code.
    ///
    /// # Panics
    /// When it does not end within 20 s.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        eventually("the end after SIGTERM", 20, || self.child.try_wait().ok().flatten()).code()
    }

    /// Waits for its end. Gives the exit code and what it has printed.
    ///
    /// # Panics
    /// When it does not end within 20 s.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let status = eventually("the end", 20, || self.child.try_wait().ok().flatten());
        (status.code(), self.output())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(signal) = self.farewell {
            self.signal(signal);
            let end = Instant::now() + Duration::from_secs(10);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of {}:\n{}", self.name, self.output());
        }
    }
}
