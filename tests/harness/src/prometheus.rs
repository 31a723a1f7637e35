use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::{Answer, Daemon, binary, eventually, free_port, peer, post};

/// A server with Prometheus' command line: ours, or the real one.
pub struct Prometheus {
    /// Where it answers, without a slash at the end.
    pub base: String,
    /// Its configuration file.
    pub config: PathBuf,
    daemon: Daemon,
}

impl Prometheus {
    /// Starts a program on a free port, with data and configuration of its own in `folder`, and waits until it is ready. `more`
    /// are further arguments. `/-/reload` works.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(program: &Path, folder: &Path, config: &str, more: &[&str]) -> Self {
        Self::run(Command::new(program), folder, config, more)
    }

    /// The same with a command that was prepared: its environment, or a program that starts it.
    ///
    /// # Panics
    /// As [`Prometheus::start`].
    pub fn run(mut command: Command, folder: &Path, config: &str, more: &[&str]) -> Self {
        let port = free_port();
        let file = folder.join(format!("prometheus-{port}.yml"));
        std::fs::write(&file, config).expect("a configuration file");
        let mut arguments = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join(format!("data-{port}")).display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-lifecycle".to_owned(),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let mut daemon = Daemon::run(command.args(arguments).current_dir(folder), folder);
        let base = format!("http://127.0.0.1:{port}");
        daemon.wait_for(&format!("{base}/-/ready"));
        Self { base, config: file, daemon }
    }

    /// Our collector.
    ///
    /// # Panics
    /// As [`Prometheus::start`].
    pub fn ours(folder: &Path, config: &str, more: &[&str]) -> Self {
        Self::start(&binary("collector"), folder, config, more)
    }

    /// Our collector at an address of the test's, with a web configuration (TLS), empty otherwise. Ready once it can be connected to.
    ///
    /// # Panics
    /// As [`Prometheus::start`].
    pub fn ours_secured(folder: &Path, web: &Path, address: SocketAddr) -> Self {
        let config = folder.join(format!("prometheus-{}.yml", address.port()));
        std::fs::write(&config, "").expect("a configuration file");
        let mut command = Command::new(binary("collector"));
        command.args([
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join(format!("data-{}", address.port())).display()),
            format!("--web.listen-address={address}"),
            format!("--web.config.file={}", web.display()),
        ]);
        let daemon = Daemon::run(&mut command, folder);
        eventually("a connection", 30, || TcpStream::connect(address).ok());
        Self { base: format!("https://{address}"), config, daemon }
    }

    /// Our collector, and the real Prometheus if it is at hand, with the same configuration.
    ///
    /// # Panics
    /// As [`Prometheus::start`].
    pub fn both(folder: &Path, config: &str, more: &[&str]) -> Vec<Self> {
        let real = peer("prometheus").map(|program| Self::start(&program, folder, config, more));
        std::iter::once(Self::ours(folder, config, more)).chain(real).collect()
    }

    /// Writes a new configuration, without asking for it to be read.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, config: &str) {
        std::fs::write(&self.config, config).expect("a configuration file");
    }

    /// Writes a new configuration and asks for it to be read.
    ///
    /// # Panics
    /// When it cannot be written or nothing answers.
    pub fn reload(&self, config: &str) -> Answer {
        self.write(config);
        post(&format!("{}/-/reload", self.base), &[], b"")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.daemon.output()
    }

    /// Asks it to end, and waits. Gives the exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(self) -> Option<i32> {
        self.daemon.stop()
    }
}
