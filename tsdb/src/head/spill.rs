use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::FileError;
use crate::files::{Files, StoreFile};

/// A file is closed and a new one begun beyond this size.
const FILE_BYTES: u64 = 64 << 20;

/// Files that hold sealed head chunks, so that the heap need not. They belong to this process: the log has the same
/// samples, and what a process finds of another is removed.
pub(crate) struct SpillArea {
    files: Files,
    dir: PathBuf,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    file: Option<Arc<SpillFile>>,
    len: u64,
    number: u64,
    broken: bool,
}

/// One file, removed when no chunk in it is needed any more.
#[derive(Debug)]
pub(crate) struct SpillFile {
    path: PathBuf,
    file: StoreFile,
    files: Files,
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        // what stays behind is removed when the folder is opened again
        let _ = self.files.remove(&self.path);
    }
}

/// Bytes that lie in a file, or in the heap if no file could be written.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    File {
        /// The file, which lives as long as this.
        file: Arc<SpillFile>,
        /// Where the bytes begin.
        offset: u64,
        /// How many they are.
        len: u32,
    },
    Heap(Arc<[u8]>),
}

impl Stored {
    /// Reads `len` bytes at `offset`.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, FileError> {
        match self {
            Self::Heap(bytes) => Ok(bytes.get(offset..offset + len).unwrap_or_default().to_vec()),
            Self::File { file, offset: start, .. } => {
                let mut bytes = vec![0; len];
                file.file
                    .read_exact_at(&mut bytes, start + offset as u64)
                    .map_err(FileError::at("read", &file.path))?;
                Ok(bytes)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Heap(_) => Path::new("(memory)"),
            Self::File { file, .. } => &file.path,
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::File { .. } => 0,
        }
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        match self {
            Self::Heap(_) => 0,
            Self::File { len, .. } => u64::from(*len),
        }
    }
}

impl SpillArea {
    /// Takes a folder of its own and empties it.
    pub(crate) fn open(files: &Files, dir: &Path) -> Result<Self, FileError> {
        match files.remove_tree(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(FileError::at("remove", dir)(e)),
            _ => {}
        }
        files.create_dir(dir)?;
        Ok(Self { files: files.clone(), dir: dir.to_owned(), current: Mutex::default() })
    }

    /// Stores bytes; in the heap if the file cannot be written, which is logged once.
    pub(crate) fn store(&self, bytes: &[u8]) -> Stored {
        let mut current = self.current.lock();
        match self.write(&mut current, bytes) {
            Ok((file, offset)) => {
                current.broken = false;
                Stored::File { file, offset, len: bytes.len() as u32 }
            }
            Err(error) => {
                if !current.broken {
                    tracing::warn!(%error, "head chunks stay in memory");
                }
                current.broken = true;
                // what was written of these bytes is not referred to: begin a new file next time
                current.file = None;
                Stored::Heap(bytes.into())
            }
        }
    }

    fn write(&self, current: &mut Current, bytes: &[u8]) -> Result<(Arc<SpillFile>, u64), FileError> {
        let file = match &current.file {
            Some(file) if current.len < FILE_BYTES => Arc::clone(file),
            _ => {
                current.number += 1;
                let path = self.dir.join(format!("{:08}", current.number));
                let file = self.files.create(&path, false)?;
                let file = Arc::new(SpillFile { path, file, files: self.files.clone() });
                current.file = Some(Arc::clone(&file));
                current.len = 0;
                file
            }
        };
        let offset = current.len;
        file.file.write_all_at(bytes, offset).map_err(FileError::at("write", &file.path))?;
        current.len += bytes.len() as u64;
        Ok((file, offset))
    }

    /// Begins a new file, so that the old one can go when its time range does.
    pub(crate) fn rotate(&self) {
        self.current.lock().file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_back_and_files_go_with_their_last_user() {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&Files::default(), &dir.path().join("spill")).unwrap();
        let a = area.store(b"hello");
        let b = area.store(b"world");
        assert_eq!((a.read(1, 3).unwrap(), b.read(0, 5).unwrap()), (b"ell".to_vec(), b"world".to_vec()));
        area.rotate();
        let path = a.path().to_owned();
        drop(a);
        assert!(path.exists());
        drop(b);
        assert!(!path.exists());
    }

    #[test]
    fn without_a_disk_the_heap_holds_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&Files::default(), &dir.path().join("spill")).unwrap();
        std::fs::remove_dir_all(dir.path().join("spill")).unwrap();
        let stored = area.store(b"kept");
        assert!(matches!(stored, Stored::Heap(_)));
        assert_eq!(stored.read(0, 4).unwrap(), b"kept");
    }
}
