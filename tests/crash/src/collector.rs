use std::path::{Path, PathBuf};

use harness::{Daemon, api, binary, encode, free_port, get};

/// A running collector over a folder with `prometheus.yml` and `data`.
#[derive(Debug)]
pub struct Collector {
    /// The process.
    pub daemon: Daemon,
    /// Its URL.
    pub base: String,
    /// Its working folder.
    pub folder: PathBuf,
}

impl Collector {
    /// Flags for a port; blocks of two seconds are cut, the log has small segments.
    pub fn flags(port: u16, more: &[&str]) -> Vec<String> {
        let mut flags: Vec<String> = [
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--storage.tsdb.min-block-duration=2s",
            "--storage.tsdb.wal-segment-size=8KB",
            "--storage.tsdb.wal-fsync-interval=1s",
            "--web.enable-lifecycle",
            "--web.enable-remote-write-receiver",
            "--web.enable-admin-api",
        ]
        .map(str::to_owned)
        .to_vec();
        flags.push(format!("--web.listen-address=127.0.0.1:{port}"));
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        flags
    }

    /// Starts it; it need not be ready when this returns.
    pub fn start(folder: &Path, more: &[&str]) -> Self {
        let port = free_port();
        let daemon = Daemon::start(&binary("collector"), &Self::flags(port, more), folder);
        Self { daemon, base: format!("http://127.0.0.1:{port}"), folder: folder.to_owned() }
    }

    /// Waits until it is ready.
    pub fn ready(mut self) -> Self {
        self.daemon.wait_for(&format!("{}/-/ready", self.base));
        self
    }

    /// The sum of a metric of its own over all label sets; 0 if there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let page = get(&format!("{}/metrics", self.base)).body;
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let rest = if rest.starts_with('{') { rest.split_once("} ")?.1 } else { rest.strip_prefix(' ')? };
            rest.split(' ').next()?.parse::<f64>().ok()
        };
        page.lines().filter_map(of).sum()
    }

    /// Whether a block is being written or removed at this moment.
    pub fn block_in_the_making(&self) -> bool {
        let blocks = self.folder.join("data/firewatch/blocks");
        std::fs::read_dir(blocks).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(".tmp")))
        })
    }
}

/// All samples of the only series that a selector gives, of the last ten minutes: times in milliseconds and values.
///
/// # Panics
/// When the query fails or gives several series.
pub fn samples(base: &str, selector: &str) -> Vec<(i64, f64)> {
    // a writer that sends more than a sample in a millisecond is ahead of the clock
    let time = crate::now() / 1000 + 60;
    let data = api(base, &format!("query?query={}&time={time}", encode(&format!("{selector}[12m]"))));
    let result = data["result"].as_array().expect("a result");
    assert!(result.len() <= 1, "{selector}: {} series", result.len());
    let Some(series) = result.first() else { return Vec::new() };
    let values = series["values"].as_array().expect("a range vector");
    let sample = |value: &serde_json::Value| {
        let time = (value[0].as_f64().expect("a time") * 1000.0).round() as i64;
        (time, value[1].as_str().and_then(|text| text.parse().ok()).expect("a value"))
    };
    values.iter().map(sample).collect()
}
