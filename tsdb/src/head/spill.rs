use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::{HashMap, HashSet};
use model::Timestamp;
use parking_lot::Mutex;

use crate::encoding::varint::{self, Reader};
use crate::error::{Damaged, FileError};
use crate::files::{Files, StoreFile};

/// A file is closed and a new one begun beyond this size.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes that are read at a time to be checked.
const WINDOW: usize = 1 << 20;

/// Files that hold sealed head chunks, so that the heap need not. The log has the same samples; what a start finds here counts
/// only as far as an image of the head refers to it.
pub(crate) struct SpillArea {
    files: Files,
    /// No file is written.
    heap_only: bool,
    dir: PathBuf,
    current: Mutex<Current>,
    /// An image refers to the files that are left: they outlive the process.
    keep: Arc<AtomicBool>,
}

#[derive(Default)]
struct Current {
    file: Option<Arc<SpillFile>>,
    len: u64,
    number: u64,
    broken: bool,
    /// Files that may have bytes that are not on the disk.
    unsynced: Vec<Weak<SpillFile>>,
}

/// One file, removed when no chunk in it is needed any more.
#[derive(Debug)]
pub(crate) struct SpillFile {
    number: u64,
    path: PathBuf,
    file: StoreFile,
    files: Files,
    keep: Arc<AtomicBool>,
    /// An fsync has failed.
    failed: AtomicBool,
}

impl SpillFile {
    /// What an image calls it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn sync(&self) -> Result<(), FileError> {
        let sync = || {
            // after a failure the system takes the pages for clean
            if self.failed.load(Ordering::Relaxed) {
                self.file.write_again(0, self.file.len()?)?;
            }
            self.file.sync_data()
        };
        let result = sync();
        self.failed.store(result.is_err(), Ordering::Relaxed);
        result.map_err(FileError::at("sync", &self.path))
    }

    /// Whether parts of the file, given by offset, length and checksum in order of the offset, are as they were written.
    pub(crate) fn check(&self, parts: &[(u64, u32, u32)]) -> Result<bool, FileError> {
        let at = |source| FileError::at("read", &self.path)(source);
        let len = self.file.len().map_err(at)?;
        let mut window = Vec::new();
        let mut start = 0;
        for (offset, size, sum) in parts {
            let Some(end) = offset.checked_add(u64::from(*size)).filter(|end| *end <= len) else { return Ok(false) };
            if *offset < start || end > start + window.len() as u64 {
                start = *offset;
                window.resize(((len - start) as usize).min(WINDOW.max(*size as usize)), 0);
                self.file.read_exact_at(&mut window, start).map_err(at)?;
            }
            let from = (offset - start) as usize;
            if crc32fast::hash(&window[from..from + *size as usize]) != *sum {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::Relaxed) {
            // what stays behind is removed when the folder is opened again
            let _ = self.files.remove(&self.path);
        }
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
        /// Their CRC-32.
        sum: u32,
    },
    Heap(Arc<[u8]>),
}

impl Stored {
    /// Reads `len` bytes at `offset`.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        self.read_into(offset, len, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`Stored::read`]; the bytes take the place of what is in `out`.
    pub(crate) fn read_into(&self, offset: usize, len: usize, out: &mut Vec<u8>) -> Result<(), FileError> {
        match self {
            Self::Heap(bytes) => {
                out.clear();
                out.extend_from_slice(bytes.get(offset..offset + len).unwrap_or_default());
                Ok(())
            }
            Self::File { file, offset: start, .. } => {
                out.resize(len, 0);
                file.file.read_exact_at(out, start + offset as u64).map_err(FileError::at("read", &file.path))
            }
        }
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::File { len, .. } => *len as usize,
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

    /// Appends where the bytes lie, for an image of the head:
    ///
    /// ```text
    /// 0 (u8), bytes; or 1 (u8), number of the file, offset, length, checksum (u32)
    /// ```
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Heap(bytes) => {
                out.push(0);
                varint::put_bytes(out, bytes);
            }
            Self::File { file, offset, len, sum } => {
                out.push(1);
                varint::put(out, file.number());
                varint::put(out, *offset);
                varint::put(out, u64::from(*len));
                out.extend_from_slice(&sum.to_le_bytes());
            }
        }
    }

    /// Reads what [`Stored::put`] wrote; `None` if the file is gone.
    pub(crate) fn take(reader: &mut Reader<'_>, files: &mut ImageFiles<'_>) -> Result<Option<Self>, Damaged> {
        match reader.byte()? {
            0 => Ok(Some(Self::Heap(reader.bytes()?.into()))),
            1 => {
                let (number, offset, len) = (reader.varint()?, reader.varint()?, reader.u32()?);
                let sum = u32::from_le_bytes(reader.array()?);
                Ok(files.file(number, (offset, len, sum)).map(|file| Self::File { file, offset, len, sum }))
            }
            _ => Err(reader.damaged()),
        }
    }
}

/// The files that an image refers to, while it is read.
pub(crate) struct ImageFiles<'a> {
    area: &'a SpillArea,
    /// Each with its parts; `None` if it cannot be opened.
    files: HashMap<u64, Option<AdoptedFile>>,
    /// Ranges that blocks have, ends not included, ascending and apart.
    blocks: Vec<(Timestamp, Timestamp)>,
}

/// A file and the offset, length and checksum of what lies in it.
type AdoptedFile = (Arc<SpillFile>, Vec<(u64, u32, u32)>);

impl<'a> ImageFiles<'a> {
    /// `blocks` are the ranges of the blocks in any order.
    pub(crate) fn new(area: &'a SpillArea, mut blocks: Vec<(Timestamp, Timestamp)>) -> Self {
        blocks.sort_unstable();
        blocks.dedup_by(|next, range| {
            let touches = next.0 <= range.1;
            if touches {
                range.1 = range.1.max(next.1);
            }
            touches
        });
        Self { area, files: HashMap::new(), blocks }
    }

    fn file(&mut self, number: u64, part: (u64, u32, u32)) -> Option<Arc<SpillFile>> {
        let area = self.area;
        let adopt = || match area.adopt(number) {
            Ok(file) => Some((file, Vec::new())),
            Err(error) => {
                tracing::debug!(%error, "a file of head chunks is gone");
                None
            }
        };
        let (file, parts) = self.files.entry(number).or_insert_with(adopt).as_mut()?;
        parts.push(part);
        Some(Arc::clone(file))
    }

    /// Whether blocks have all of a range, so that what the head had of it may be gone.
    pub(crate) fn in_blocks(&self, min_time: Timestamp, max_time: Timestamp) -> bool {
        self.blocks.iter().any(|(min, end)| *min <= min_time && max_time < *end)
    }

    /// Checks all bytes that have been referred to, and removes the files of earlier processes that have none.
    pub(crate) fn finish(self) -> Result<bool, FileError> {
        let files: Vec<AdoptedFile> = self.files.into_values().flatten().collect();
        for (file, mut parts) in files.iter().cloned() {
            parts.sort_unstable();
            if !file.check(&parts)? {
                return Ok(false);
            }
        }
        self.area.sweep(&files.iter().map(|(file, _)| file.number()).collect());
        Ok(true)
    }
}

impl SpillArea {
    /// Takes a folder of its own. What is there stays until [`SpillArea::sweep`].
    pub(crate) fn open(files: &Files, dir: &Path) -> Result<Self, FileError> {
        files.create_dir(dir)?;
        let (files, dir) = (files.clone(), dir.to_owned());
        let area = Self { files, heap_only: false, dir, current: Mutex::default(), keep: Arc::default() };
        area.current.lock().number = area.numbers()?.into_iter().max().unwrap_or(0);
        Ok(area)
    }

    /// Keeps everything in the heap.
    pub(crate) fn heap_only() -> Self {
        let (files, dir) = (Files::read_only(), PathBuf::new());
        Self { files, heap_only: true, dir, current: Mutex::default(), keep: Arc::default() }
    }

    fn numbers(&self) -> Result<Vec<u64>, FileError> {
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(self.files.list(&self.dir)?.iter().filter_map(number).collect())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:08}"))
    }

    fn file(&self, number: u64, file: StoreFile) -> Arc<SpillFile> {
        Arc::new(SpillFile {
            number,
            path: self.path(number),
            file,
            files: self.files.clone(),
            keep: Arc::clone(&self.keep),
            failed: AtomicBool::new(false),
        })
    }

    /// A file of an earlier process that an image refers to.
    pub(crate) fn adopt(&self, number: u64) -> Result<Arc<SpillFile>, FileError> {
        Ok(self.file(number, self.files.open(&self.path(number), false)?))
    }

    /// Removes the files of earlier processes but for those that are in use.
    pub(crate) fn sweep(&self, used: &HashSet<u64>) {
        // what cannot be removed now is found again at the next start
        let numbers = self.numbers().unwrap_or_default();
        numbers.iter().filter(|n| !used.contains(*n)).for_each(|n| self.files.remove_quietly(&self.path(*n)));
    }

    /// Leaves the files behind for the next process.
    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// Makes everything stored so far durable.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        let pending: Vec<Arc<SpillFile>> = {
            let mut current = self.current.lock();
            let pending = std::mem::take(&mut current.unsynced).iter().filter_map(Weak::upgrade).collect();
            // more may be written to it
            current.unsynced = current.file.iter().map(Arc::downgrade).collect();
            pending
        };
        let synced = pending.iter().try_for_each(|file| file.sync()).and_then(|()| self.files.sync_dir(&self.dir));
        synced.inspect_err(|_| self.current.lock().unsynced.extend(pending.iter().map(Arc::downgrade)))
    }

    /// Stores bytes; in the heap if the file cannot be written, which is logged once.
    pub(crate) fn store(&self, bytes: &[u8]) -> Stored {
        if self.heap_only {
            return Stored::Heap(bytes.into());
        }
        let mut current = self.current.lock();
        match self.write(&mut current, bytes) {
            Ok((file, offset)) => {
                current.broken = false;
                Stored::File { file, offset, len: bytes.len() as u32, sum: crc32fast::hash(bytes) }
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
                let file = self.files.create(&self.path(current.number), false)?;
                let file = self.file(current.number, file);
                current.unsynced.push(Arc::downgrade(&file));
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
    fn files_that_are_kept_are_adopted_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let open = || SpillArea::open(&Files::default(), &dir.path().join("spill")).unwrap();
        let area = open();
        let stored = [area.store(b"hello"), area.store(b"world")];
        area.sync().unwrap();
        area.keep();
        let parts = stored.map(|s| match s {
            Stored::File { offset, len, sum, .. } => (offset, len, sum),
            Stored::Heap(_) => unreachable!(),
        });
        drop(area);
        let area = open();
        area.sweep(&HashSet::from([1]));
        let file = area.adopt(1).unwrap();
        assert!(file.check(&parts).unwrap());
        assert!(!file.check(&[(parts[1].0, 5, parts[0].2)]).unwrap(), "other bytes");
        assert!(!file.check(&[(7, 9, 0)]).unwrap(), "beyond the end");
        let fresh = area.store(b"new");
        assert_eq!(fresh.path().file_name().unwrap(), "00000002", "numbers go on");
        drop((file, fresh));
        area.rotate();
        area.sweep(&HashSet::new());
        assert!(area.adopt(1).is_err() && area.adopt(2).is_err());
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
