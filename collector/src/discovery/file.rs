//! `file_sd_configs`: target groups in JSON or YAML files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Slot;
use crate::config::{FileDiscovery, TargetGroup, expand_pattern, read_groups, read_json_groups};

/// How often files are looked at. Looking costs a `stat` a file and works on every file system, network mounts and the
/// symbolic links of Kubernetes' volumes included.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from another.
type Stamp = Option<(SystemTime, u64)>;

/// Runs for ever; cancelling loses nothing.
pub(super) async fn run(config: FileDiscovery, slot: Slot) {
    let mut known: BTreeMap<PathBuf, (Stamp, Vec<TargetGroup>)> = BTreeMap::new();
    let mut read_all = Instant::now();
    loop {
        let refresh = read_all.elapsed() >= config.refresh_interval.as_std();
        if refresh {
            read_all = Instant::now();
        }
        let begin = Instant::now();
        let files: Vec<PathBuf> = config.files.iter().flat_map(|pattern| expand_pattern(pattern)).collect();
        let before = known.len();
        known.retain(|path, _| files.contains(path));
        let mut changed = known.len() != before;
        for path in files {
            let stamp = stamp(&path);
            if !refresh && known.get(&path).is_some_and(|(s, _)| *s == stamp) {
                continue;
            }
            match read(&path) {
                Ok(groups) => {
                    known.insert(path, (stamp, groups));
                    changed = true;
                }
                // what was read before stays in force
                Err(error) => {
                    slot.metrics.file_errors.inc();
                    tracing::error!(file = %path.display(), %error, "Error reading file");
                    if let Some(entry) = known.get_mut(&path) {
                        entry.0 = stamp;
                    } else {
                        known.insert(path, (stamp, Vec::new()));
                    }
                }
            }
        }
        slot.metrics.file_scans.observe(begin.elapsed());
        if changed {
            slot.set(known.values().flat_map(|(_, groups)| groups.iter().cloned()).collect());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let source = path.display().to_string();
    let mut groups = if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
        read_json_groups(&text, &source)?
    } else {
        let node = yaml::Node::parse(&text).map_err(|e| e.to_string())?;
        read_groups(&node, &source).map_err(|e| e.to_string())?
    };
    for group in &mut groups {
        let mut labels = group.labels.to_builder();
        labels.set("__meta_filepath", &path.to_string_lossy());
        group.labels = labels.build();
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::super::Consumer;
    use super::*;
    use crate::config::DiscoveryConfig;

    async fn addresses(receiver: &mut tokio::sync::watch::Receiver<super::super::Groups>) -> Vec<String> {
        let groups = receiver.borrow_and_update().clone();
        groups.iter().flat_map(|g| &g.targets).map(|t| t.value("__address__").to_owned()).collect()
    }

    #[tokio::test]
    async fn files_come_change_break_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        std::fs::write(&file, r#"[{"targets": ["a:1"]}]"#).unwrap();
        let config = FileDiscovery {
            files: vec![folder.path().join("*.json"), folder.path().join("*.yml")],
            refresh_interval: model::Duration::from_secs(300),
        };
        let shutdown = CancellationToken::new();
        let metrics = Arc::default();
        let configs = [DiscoveryConfig::File(config)];
        let mut receiver = super::super::start(&configs, Consumer::Scrape, "job", None, &metrics, &shutdown);
        receiver.changed().await.unwrap();
        assert_eq!(addresses(&mut receiver).await, ["a:1"]);
        assert!(receiver.borrow()[0].labels.value("__meta_filepath").ends_with("a.json"));

        std::fs::write(folder.path().join("b.yml"), "- targets: ['b:1', 'b:2']\n").unwrap();
        receiver.changed().await.unwrap();
        assert_eq!(addresses(&mut receiver).await, ["a:1", "b:1", "b:2"]);

        // a broken file keeps what it said before; the good one still changes
        std::fs::write(&file, "[{").unwrap();
        std::fs::write(folder.path().join("b.yml"), "- targets: ['b:10']\n").unwrap();
        receiver.changed().await.unwrap();
        assert_eq!(addresses(&mut receiver).await, ["a:1", "b:10"]);
        assert_eq!(metrics.file_errors.get(), 1);

        std::fs::remove_file(&file).unwrap();
        receiver.changed().await.unwrap();
        assert_eq!(addresses(&mut receiver).await, ["b:10"]);
        shutdown.cancel();
    }
}
