//! Reading procfs and sysfs.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::CollectorError;
use crate::kept::{Attribute, KeptFiles, read_whole};

/// Where the kernel's file systems are mounted.
#[derive(Clone, Debug)]
pub struct Paths {
    /// procfs.
    pub procfs: PathBuf,
    /// sysfs.
    pub sysfs: PathBuf,
    /// The root whose file systems are watched.
    pub rootfs: PathBuf,
    /// udev's database.
    pub udev: PathBuf,
    pub(crate) kept: Arc<KeptFiles>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            rootfs: "/".into(),
            udev: "/run/udev/data".into(),
            kept: Arc::default(),
        }
    }
}

impl Paths {
    /// A file of procfs.
    pub(crate) fn proc(&self, name: &str) -> PathBuf {
        self.procfs.join(name)
    }

    /// A file of this process in procfs. In a copy of procfs from a file system without links, `self` is a file that holds the
    /// link's target.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        let link = self.procfs.join("self");
        match std::fs::read_to_string(&link) {
            Ok(target) => self.procfs.join(target.trim()).join(name),
            Err(_) => link.join(name),
        }
    }

    /// A file of sysfs.
    pub(crate) fn sys(&self, name: &str) -> PathBuf {
        self.sysfs.join(name)
    }

    /// The text of a file that is read at every scrape; bytes that are not UTF-8 become replacement characters. A file of the
    /// kernel stays open.
    pub(crate) fn read(&self, path: &Path) -> io::Result<String> {
        self.kept.read(path).map(text)
    }

    /// The same for a file that must be there: its absence is a failure.
    pub(crate) fn required(&self, path: &Path) -> Result<String, CollectorError> {
        self.read(path).map_err(|error| failure(path, &error))
    }

    /// The same for a file whose absence means that the machine has nothing of the kind.
    pub(crate) fn optional(&self, path: &Path) -> Result<String, CollectorError> {
        self.read(path).map_err(|error| absent(path, &error))
    }

    /// The same for a number; `None` if it is absent or none.
    pub(crate) fn number<T: FromStr>(&self, path: &Path) -> Option<T> {
        self.read(path).ok()?.trim().parse().ok()
    }

    /// A file below the watched root.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.rootfs.join(name.trim_start_matches('/'))
    }

    /// A mount point as seen from the watched root.
    pub(crate) fn strip_root<'a>(&self, path: &'a str) -> &'a str {
        if self.rootfs == Path::new("/") {
            return path;
        }
        match self.rootfs.to_str().and_then(|root| path.strip_prefix(root)) {
            Some("") => "/",
            Some(rest) => rest,
            None => path,
        }
    }
}

/// The bytes of a file. No `fstat` before: the kernel's files tell no size.
pub(crate) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    read_whole(4096, |bytes, _| rustix::io::read(&file, rustix::buffer::spare_capacity(bytes)))
}

/// The text of a file; bytes that are not UTF-8 become replacement characters.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    read_bytes(path).map(text)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// An attribute of sysfs: the text of a file of at most one page, without the blanks around it. One `read` call.
pub(crate) fn attribute(path: &Path) -> io::Result<String> {
    let mut bytes: Attribute = [0; 4096];
    let len = rustix::io::read(File::open(path)?, &mut bytes[..])?;
    Ok(String::from_utf8_lossy(&bytes[..len]).trim().to_owned())
}

/// An attribute that is a number; `None` if it is absent or none.
pub(crate) fn number<T: FromStr>(path: &Path) -> Option<T> {
    attribute(path).ok()?.parse().ok()
}

/// The names in a folder, sorted.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// The names in a folder, none if it is not there.
pub(crate) fn names_or_none(path: &Path) -> Vec<String> {
    names(path).unwrap_or_default()
}

/// The failure of reading a file.
pub(crate) fn failure(path: &Path, error: &io::Error) -> CollectorError {
    CollectorError::Failed(format!("{}: {error}", path.display()))
}

/// An error as "no data" where the file is not there.
pub(crate) fn absent(path: &Path, error: &io::Error) -> CollectorError {
    if error.kind() == io::ErrorKind::NotFound { CollectorError::NoData } else { failure(path, error) }
}

/// The failure of understanding a file.
pub(crate) fn malformed(path: &Path, what: &str) -> CollectorError {
    CollectorError::Failed(format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_every_size_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 1, 4095, 4096, 4097, 40_000] {
            let path = folder.path().join(size.to_string());
            std::fs::write(&path, "x".repeat(size)).unwrap();
            assert_eq!(read(&path).unwrap().len(), size);
        }
        let (paths, none) = (Paths::default(), folder.path().join("none"));
        assert_eq!(paths.optional(&none), Err(CollectorError::NoData));
        assert!(matches!(paths.required(&none), Err(CollectorError::Failed(_))));
    }

    #[test]
    fn own_files_are_found_through_a_link_and_its_copy() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { procfs: folder.path().into(), ..Paths::default() };
        assert_eq!(paths.own("stat"), folder.path().join("self/stat"));
        std::fs::write(folder.path().join("self"), "10\n").unwrap();
        assert_eq!(paths.own("stat"), folder.path().join("10/stat"));
    }

    #[test]
    fn mount_points_are_seen_from_the_watched_root() {
        let at = |root: &str| Paths { rootfs: root.into(), ..Paths::default() };
        assert_eq!(at("/").strip_root("/host/a"), "/host/a");
        assert_eq!(at("/host").strip_root("/host/a"), "/a");
        assert_eq!(at("/host").strip_root("/host"), "/");
        assert_eq!(at("/host").strip_root("/elsewhere"), "/elsewhere");
    }
}
