//! Stores filled with a history, kept from one benchmark to the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::benchmark::{BenchError, Found, Settings};
use crate::datasets::{DataSet, Which, now};
use crate::history;
use crate::store::{RunningStore, StoreKind, file_bytes};

/// Describes what a folder was filled with; written when all is done.
const LABEL: &str = "dataset.json";

/// What it took to fill a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) samples: u64,
    /// Until the last sample was acknowledged.
    pub(crate) sent: Duration,
    /// From then until all was merged.
    pub(crate) merged: Duration,
    /// Processor time until the last sample was acknowledged.
    pub(crate) send_cpu: Duration,
    /// Processor time until all was merged.
    pub(crate) cpu: Duration,
    /// Most memory that it had, in bytes.
    pub(crate) peak: u64,
    /// Bytes of what is merged, index included.
    pub(crate) block_bytes: u64,
    /// Bytes of the whole folder after the end of the program.
    pub(crate) folder_bytes: u64,
    pub(crate) blocks: usize,
}

/// The folder that a program's store of a set is kept in.
pub(crate) fn folder(settings: &Settings, set: &DataSet, found: &Found) -> PathBuf {
    let quick = if settings.quick { "-quick" } else { "" };
    settings.out.join("stores").join(format!("{}{quick}", set.name)).join(found.name)
}

/// Fills a new store.
pub(crate) fn fill(settings: &Settings, set: &DataSet, found: &Found) -> Result<Figures, BenchError> {
    let folder = folder(settings, set, found);
    let io = |e| BenchError::io(folder.display().to_string(), e);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(io)?;
    }
    fs::create_dir_all(&folder).map_err(io)?;
    let kind = StoreKind::of(found);
    let mut more = Vec::new();
    if let (StoreKind::Firewatch, Some(interval)) = (kind, settings.our_maintenance()) {
        more.push(format!("--storage.tsdb.block-reload-interval={interval}"));
    }
    let mut store = RunningStore::start(found, &folder, &more)?;
    let sent = history::send(set.batches(), store.address, history::BULK)?;
    let send_cpu = store.running.processor_time()?;
    let taken = kind.samples(&store.metrics()?);
    if taken < sent.samples as f64 {
        return Err(store.running.failure(&format!("it took {taken} samples of {}", sent.samples)));
    }
    let began = Instant::now();
    store.settle(set.window.end)?;
    let merged = began.elapsed();
    let cpu = store.running.processor_time()?;
    let peak = store.running.memory()?.peak;
    let block_bytes = kind.block_bytes(&folder);
    let blocks = kind.blocks(&folder);
    store.running.stop()?;
    let figures = Figures {
        samples: sent.samples,
        sent: sent.took,
        merged,
        send_cpu,
        cpu,
        peak,
        block_bytes,
        folder_bytes: file_bytes(&folder.join("data")),
        blocks,
    };
    let label = json!({"identity": set.identity, "start": set.window.start, "version": found.version});
    fs::write(folder.join(LABEL), label.to_string()).map_err(io)?;
    Ok(figures)
}

/// The set in the same window in the stores of all these programs: those that have it are taken as they are, the others filled.
pub(crate) fn ready(settings: &Settings, which: Which, found: &[Found]) -> Result<(DataSet, Vec<String>), BenchError> {
    let now = now()?;
    let latest = DataSet::new(settings, which, now)?;
    let starts: Vec<Option<i64>> =
        found.iter().map(|f| label(&folder(settings, &latest, f), &latest.identity, &f.binary)).collect();
    // the most recent one that is there, if it will not be deleted for its age any time soon
    let known = starts.iter().flatten().copied().max().filter(|start| now - start < 5 * 86_400_000);
    let set = match known {
        Some(start) => DataSet::at(settings, which, start)?,
        None => latest,
    };
    let mut failures = Vec::new();
    for (found, start) in found.iter().zip(starts) {
        if start == Some(set.window.start) {
            continue;
        }
        eprintln!("{} {}: filling with {}", found.name, found.version, set.about);
        if let Err(error) = fill(settings, &set, found) {
            failures.push(error.to_string());
        }
    }
    Ok((set, failures))
}

/// The start of the window that a folder was filled with, if it was with this set and by no older program.
fn label(folder: &Path, identity: &Value, binary: &Path) -> Option<i64> {
    let path = folder.join(LABEL);
    let label: Value = serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()?;
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    if label["identity"] != *identity || modified(&path)? < modified(binary)? {
        return None;
    }
    label["start"].as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_with_the_same_set_and_program_is_used_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join("program");
        fs::write(&binary, "").expect("a file");
        let identity = json!({"series": 5});
        assert_eq!(label(folder.path(), &identity, &binary), None);
        let text = json!({"identity": {"series": 5}, "start": 1000, "version": "1"}).to_string();
        fs::write(folder.path().join(LABEL), text).expect("a file");
        assert_eq!(label(folder.path(), &identity, &binary), Some(1000));
        assert_eq!(label(folder.path(), &json!({"series": 6}), &binary), None);
        let newer = std::time::SystemTime::now() + Duration::from_secs(60);
        fs::File::open(&binary).and_then(|f| f.set_modified(newer)).expect("a time");
        assert_eq!(label(folder.path(), &identity, &binary), None);
    }
}
