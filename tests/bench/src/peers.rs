//! The real programs that we are compared with.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The script that fetches them, kept in the binary so that it is found wherever that runs.
const SCRIPT: &str = include_str!("../peers.sh");

/// The folder that peers are unpacked in, and why it lacks some, if it does.
pub(crate) struct Peers {
    folder: PathBuf,
    failure: Option<String>,
}

impl Peers {
    /// Fetches the packages whose programs are not there yet. A package has the name of its program.
    pub(crate) fn fetch(names: &[&str]) -> Self {
        let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        };
        let mut peers = Self { folder: cache.join("firewatch/peers"), failure: None };
        let missing: Vec<&str> = names.iter().copied().filter(|name| !peers.path(name).is_file()).collect();
        if !missing.is_empty() {
            eprintln!("fetching {} into {}", missing.join(", "), peers.folder.display());
            peers.failure = run_script(&missing).err();
        }
        peers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join("usr/bin").join(name)
    }

    /// The program, or why it is not there.
    pub(crate) fn binary(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.path(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(self.failure.clone().unwrap_or_else(|| format!("its package has no {}", path.display())))
    }

    /// The version of its package.
    pub(crate) fn version(&self, name: &str) -> String {
        let archives = std::fs::read_dir(self.folder.join("debs")).into_iter().flatten().flatten();
        let mut versions: Vec<String> =
            archives.filter_map(|file| package_version(&file.path(), name).map(str::to_owned)).collect();
        versions.sort();
        versions.pop().unwrap_or_else(|| "unknown".to_owned())
    }
}

/// The upstream version in the name of a package's archive: `NAME_1.2.3+ds1-6_amd64.deb` is 1.2.3.
fn package_version<'a>(archive: &'a Path, name: &str) -> Option<&'a str> {
    let rest = archive.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('_')?;
    let version = rest.split('_').next()?;
    version.split(['+', '-', '~']).next()
}

fn run_script(packages: &[&str]) -> Result<(), String> {
    let mut child = Command::new("bash")
        .args(["-s", "--"])
        .args(packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run bash to fetch it: {e}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(SCRIPT.as_bytes()).map_err(|e| format!("cannot run bash to fetch it: {e}"))?;
    }
    let output = child.wait_with_output().map_err(|e| format!("cannot run bash to fetch it: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("it could not be fetched: {}", errors.lines().last().unwrap_or("peers.sh failed without a word")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_archives() {
        for (file, name, version) in [
            ("prometheus_3.5.3+ds1-6_amd64.deb", "prometheus", Some("3.5.3")),
            ("prometheus-node-exporter_1.11.1-3_amd64.deb", "prometheus-node-exporter", Some("1.11.1")),
            ("prometheus-node-exporter_1.11.1-3_amd64.deb", "prometheus", None),
            ("victoria-metrics_1.145.0~rc1_arm64.deb", "victoria-metrics", Some("1.145.0")),
        ] {
            assert_eq!(package_version(Path::new(file), name), version, "{file}");
        }
    }

    #[test]
    fn a_peer_that_is_missing_comes_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut peers = Peers { folder: folder.path().to_owned(), failure: None };
        assert!(peers.binary("prometheus").expect_err("not there").contains("has no"));
        peers.failure = Some("it could not be fetched: no network".to_owned());
        assert_eq!(peers.binary("prometheus").expect_err("not there"), "it could not be fetched: no network");
        assert_eq!(peers.version("prometheus"), "unknown");
        std::fs::create_dir_all(folder.path().join("usr/bin")).expect("a folder");
        std::fs::write(folder.path().join("usr/bin/prometheus"), "").expect("a file");
        assert!(peers.binary("prometheus").is_ok());
    }
}
