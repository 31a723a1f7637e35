//! Programs that store samples: how each is started, fed, asked how far it is, and what its files take.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::Advice;

use crate::benchmark::{BenchError, Contestant, Found, Maker};
use crate::process::{Running, free_address};
use harness::client as http;

/// Programs that store samples and answer queries.
pub(crate) const STORES: [Contestant; 3] = [
    Contestant { name: "collector", maker: Maker::Us },
    Contestant { name: "prometheus", maker: Maker::Peer },
    Contestant { name: "victoria-metrics", maker: Maker::Peer },
];

/// Longest time that a store may take to merge its files.
const SETTLE_LIMIT: Duration = Duration::from_secs(900);

/// Nothing goes on in a program that takes less than this share of a processor over [`IDLE_TIME`].
const IDLE_SHARE: f64 = 0.03;
const IDLE_TIME: Duration = Duration::from_secs(3);

/// The kind of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Firewatch,
    Prometheus,
    Victoria,
}

impl StoreKind {
    pub(crate) fn of(found: &Found) -> Self {
        match (found.maker, found.name) {
            (Maker::Us, _) => Self::Firewatch,
            (_, "victoria-metrics") => Self::Victoria,
            _ => Self::Prometheus,
        }
    }

    /// Samples that it has taken, from its own metrics.
    pub(crate) fn samples(self, metrics: &str) -> f64 {
        match self {
            Self::Victoria => {
                sum(metrics, "vm_rows_inserted_total", "type=\"promscrape\"")
                    + sum(metrics, "vm_rows_inserted_total", "type=\"promremotewrite\"")
            }
            _ => sum(metrics, "prometheus_tsdb_head_samples_appended_total", ""),
        }
    }

    /// The arguments, for a program that runs in the folder that `config.yml` and `data` are in.
    pub(crate) fn arguments(self, address: SocketAddr) -> Vec<String> {
        let arguments = match self {
            Self::Victoria => vec!["-promscrape.config=config.yml", "-storageDataPath=data"],
            _ => vec!["--config.file=config.yml", "--storage.tsdb.path=data", "--web.enable-remote-write-receiver"],
        };
        let listen = match self {
            Self::Victoria => format!("-httpListenAddr={address}"),
            _ => format!("--web.listen-address={address}"),
        };
        arguments.into_iter().map(str::to_owned).chain([listen]).collect()
    }

    /// The folders of what is compacted, index included, in the folder of a store.
    fn block_folders(self, folder: &Path) -> Vec<PathBuf> {
        let data = folder.join("data");
        match self {
            Self::Victoria => vec![data.join("data"), data.join("indexdb")],
            Self::Firewatch => vec![data.join("firewatch/blocks")],
            Self::Prometheus => {
                let entries = fs::read_dir(data).into_iter().flatten().flatten();
                entries.map(|e| e.path()).filter(|path| path.join("meta.json").is_file()).collect()
            }
        }
    }

    /// Bytes of all that is compacted, index included.
    pub(crate) fn block_bytes(self, folder: &Path) -> u64 {
        self.block_folders(folder).iter().map(|f| file_bytes(f)).sum()
    }

    /// How many blocks there are; 0 for stores without.
    pub(crate) fn blocks(self, folder: &Path) -> usize {
        match self {
            Self::Victoria => 0,
            Self::Prometheus => self.block_folders(folder).len(),
            Self::Firewatch => fs::read_dir(folder.join("data/firewatch/blocks")).map_or(0, Iterator::count),
        }
    }
}

/// A store that runs.
pub(crate) struct RunningStore {
    pub(crate) kind: StoreKind,
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
    /// From its start until it was ready.
    pub(crate) ready: Duration,
}

impl RunningStore {
    /// Starts a store with its default settings on a folder, which may have data of it.
    pub(crate) fn start(found: &Found, folder: &Path, more: &[String]) -> Result<Self, BenchError> {
        let kind = StoreKind::of(found);
        let io = |e| BenchError::io(folder.display().to_string(), e);
        fs::create_dir_all(folder).map_err(io)?;
        let config = folder.join("config.yml");
        if !config.exists() {
            fs::write(config, "scrape_configs: []\n").map_err(io)?;
        }
        let address = free_address()?;
        let mut arguments = kind.arguments(address);
        arguments.extend_from_slice(more);
        let mut running = Running::start(found.name, &found.binary, &arguments, folder)?;
        let ready = running.wait_ready(address, "/-/ready", Duration::from_secs(600))?;
        Ok(Self { kind, running, address, ready })
    }

    /// Its page of metrics about itself.
    pub(crate) fn metrics(&self) -> Result<String, BenchError> {
        self.text("/metrics")
    }

    /// The body of a good answer.
    pub(crate) fn text(&self, path: &str) -> Result<String, BenchError> {
        let answer = http::get(self.address, path).map_err(|e| self.running.failure(&format!("{path}: {e}")))?;
        let status = answer.status;
        let text = answer.text().map_err(|e| self.running.failure(&format!("{path}: {e}")))?;
        if status / 100 == 2 { Ok(text) } else { Err(self.running.failure(&format!("{path}: {status}: {text}"))) }
    }

    /// Waits until samples before `end` (milliseconds) are in files and these are merged as far as they will be.
    pub(crate) fn settle(&mut self, end: i64) -> Result<(), BenchError> {
        let began = Instant::now();
        if self.kind == StoreKind::Victoria {
            self.text("/internal/force_flush")?;
            self.text("/internal/force_merge")?;
        }
        while began.elapsed() < SETTLE_LIMIT {
            let metrics = self.metrics()?;
            let merged = match self.kind {
                StoreKind::Victoria => sum(&metrics, "vm_active_force_merges", "") == 0.0,
                _ => {
                    let oldest = sum(&metrics, "prometheus_tsdb_head_min_time", "");
                    oldest >= end as f64
                }
            };
            let idle = self.is_idle()?;
            if merged && idle {
                return Ok(());
            }
        }
        Err(self.running.failure(&format!("its files were not merged after {} s", SETTLE_LIMIT.as_secs())))
    }

    /// Waits until it does next to nothing.
    pub(crate) fn wait_idle(&mut self) -> Result<(), BenchError> {
        let began = Instant::now();
        while !self.is_idle()? {
            if began.elapsed() > SETTLE_LIMIT {
                return Err(self.running.failure("it does not come to rest"));
            }
        }
        Ok(())
    }

    fn is_idle(&mut self) -> Result<bool, BenchError> {
        self.running.check()?;
        let before = self.running.processor_time()?;
        sleep(IDLE_TIME);
        let spent = self.running.processor_time()? - before;
        Ok(spent.as_secs_f64() < IDLE_SHARE * IDLE_TIME.as_secs_f64())
    }
}

/// Takes the files of a store, which must not run, out of the system's cache.
pub(crate) fn forget_files(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            forget_files(&path);
        } else if let Ok(file) = File::open(&path) {
            // dirty pages stay, so they are written first; a file system that cannot forget is no fault
            let _ = file.sync_data();
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
    }
}

/// The sum of the samples of a metric whose labels contain `label`.
pub(crate) fn sum(page: &str, name: &str, label: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_metric = labels.is_empty() || labels.starts_with('{');
        (is_metric && labels.contains(label)).then(|| model::parse_float(value)).flatten()
    };
    page.lines().filter_map(value).sum()
}

/// Lengths of all files under a folder.
pub(crate) fn file_bytes(folder: &Path) -> u64 {
    total(folder, std::fs::Metadata::len)
}

/// Bytes that all files under a folder take on the disk.
pub(crate) fn allocated_bytes(folder: &Path) -> u64 {
    total(folder, |metadata| std::os::unix::fs::MetadataExt::blocks(metadata) * 512)
}

fn total(folder: &Path, bytes: fn(&std::fs::Metadata) -> u64) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => total(&entry.path(), bytes),
            Ok(metadata) => bytes(&metadata),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_the_label_asked_for() {
        let page = "# TYPE rows counter\nrows{type=\"promscrape\",x=\"a b\"} 2e+06\nrows{type=\"self\"} 5\nrows 7\n\
                    rows_total 100\n";
        for (label, expected) in [("type=\"promscrape\"", 2e6), ("type=\"self\"", 5.0), ("", 2_000_012.0)] {
            assert_eq!(sum(page, "rows", label), expected, "{label}");
        }
    }

    #[test]
    fn the_size_of_a_folder_counts_its_subfolders() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("sub")).expect("a folder");
        fs::write(folder.path().join("sub/file"), vec![1u8; 100_000]).expect("a file");
        assert_eq!(file_bytes(folder.path()), 100_000);
        assert!((100_000..300_000).contains(&allocated_bytes(folder.path())));
        assert_eq!(file_bytes(&folder.path().join("missing")), 0);
    }

    #[test]
    fn compacted_files_are_told_from_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, bytes) in [
            ("data/01ABC/meta.json", 10),
            ("data/01ABC/chunks/000001", 100),
            ("data/wal/00000001", 1000),
            ("data/firewatch/blocks/01XYZ/data", 20),
            ("data/firewatch/wal/1", 2000),
            ("data/data/big/part", 30),
            ("data/indexdb/part", 3),
            ("data/cache/x", 3000),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).expect("a folder");
            fs::write(path, vec![0; bytes]).expect("a file");
        }
        for (kind, bytes) in [(StoreKind::Prometheus, 110), (StoreKind::Firewatch, 20), (StoreKind::Victoria, 33)] {
            assert_eq!(kind.block_bytes(folder.path()), bytes, "{kind:?}");
        }
        assert_eq!(StoreKind::Prometheus.blocks(folder.path()), 1);
        forget_files(folder.path());
    }
}
