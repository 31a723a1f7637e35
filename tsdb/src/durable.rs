use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::FileError;

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(FileError::at("sync", dir))
}

/// Makes a folder and those above it, and their names durable.
pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    fs::create_dir_all(dir).map_err(FileError::at("create", dir))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Writes a new file and makes its contents durable.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = File::create(path).map_err(FileError::at("create", path))?;
    file.write_all(bytes).map_err(FileError::at("write", path))?;
    file.sync_all().map_err(FileError::at("sync", path))
}

/// Bytes of the files in a folder and below, as far as they can be read.
pub(crate) fn dir_size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => dir_size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Links or copies every file of a folder into a new one, for a snapshot.
pub(crate) fn link_dir(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::create_dir_all(to).map_err(FileError::at("create", to))?;
    for entry in fs::read_dir(from).map_err(FileError::at("read", from))? {
        let entry = entry.map_err(FileError::at("read", from))?;
        let target = to.join(entry.file_name());
        // another file system: a copy does as well
        if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target).map_err(FileError::at("copy", &target))?;
        }
    }
    sync_dir(to)
}
