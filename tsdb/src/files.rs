//! The one way to the disk: every file operation of the store goes through [`Files`], so that a test can watch them and let
//! them fail. Without a [`FileObserver`] they are the system's calls and the test of one pointer.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Advice;

use crate::error::FileError;

/// Bytes that are copied or written again at a time.
const PART: usize = 1 << 20;

/// What the system is told to read at a time: most disks take as much in one request, and of more than that it may read a part only.
const READ_AHEAD: usize = 1 << 20;

/// The file system, as it is or watched.
#[derive(Clone, Debug, Default)]
pub struct Files {
    observer: Option<Arc<dyn FileObserver>>,
    read_only: bool,
}

/// Sees every file operation of a store; for tests of what faults and losses of power do. It may be called from several
/// threads at once.
pub trait FileObserver: Debug + Send + Sync {
    /// Called before an operation, which is not carried out if this gives a fault.
    ///
    /// # Errors
    /// The fault that the store is to see.
    fn before(&self, operation: &FileOperation<'_>) -> Result<(), FileFault>;

    /// Called when an operation has been carried out; of a write that failed in the middle, with what was written.
    fn done(&self, operation: &FileOperation<'_>);
}

/// How an operation fails.
#[derive(Debug)]
pub struct FileFault {
    /// What the operating system says.
    pub error: io::Error,
    /// Bytes that a write leaves in the file all the same.
    pub written: usize,
}

/// What is done to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOperation<'a> {
    /// A new folder.
    CreateDir(&'a Path),
    /// A new file, or an old one emptied.
    Create(&'a Path),
    /// An existing file opened.
    Open(&'a Path),
    /// A part of a file, or all of it, read.
    Read(&'a Path),
    /// Bytes written at an offset, or at the end if there is none.
    Write(&'a Path, Option<u64>, &'a [u8]),
    /// A file cut to a length.
    Truncate(&'a Path, u64),
    /// `fsync(2)` of a file.
    Sync(&'a Path),
    /// `fsync(2)` of a folder.
    SyncDir(&'a Path),
    /// A new name for a file or folder.
    Rename(&'a Path, &'a Path),
    /// A second name for a file.
    Link(&'a Path, &'a Path),
    /// A name of a file removed.
    Remove(&'a Path),
    /// A folder and all below it removed.
    RemoveTree(&'a Path),
    /// The names in a folder read.
    List(&'a Path),
}

impl FileOperation<'_> {
    fn changes(&self) -> bool {
        !matches!(self, Self::Open(_) | Self::Read(_) | Self::List(_))
    }
}

impl Files {
    /// The file system with an observer of all that is done.
    pub fn observed(observer: Arc<dyn FileObserver>) -> Self {
        Self { observer: Some(observer), read_only: false }
    }

    /// One that refuses every change.
    pub(crate) fn read_only() -> Self {
        Self { observer: None, read_only: true }
    }

    fn perform<T>(&self, operation: FileOperation<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.read_only && operation.changes() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        perform(self.observer.as_ref(), operation, work)
    }

    fn file(&self, path: &Path, file: File) -> StoreFile {
        let watch = self.observer.as_ref().map(|observer| Box::new((Arc::clone(observer), path.to_owned())));
        StoreFile { file, watch }
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        self.perform(FileOperation::SyncDir(dir), || File::open(dir)?.sync_all()).map_err(FileError::at("sync", dir))
    }

    /// Makes a folder and those above it, and their names durable.
    pub(crate) fn create_dir(&self, dir: &Path) -> Result<(), FileError> {
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        if !dir.is_dir() {
            above.map_or(Ok(()), |above| self.create_dir(above))?;
            match self.perform(FileOperation::CreateDir(dir), || fs::create_dir(dir)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => {
                    return Err(FileError::at("create", dir)(error));
                }
                _ => {}
            }
        }
        // also of one that is there: who made it may not have come this far
        self.sync_dir(above.unwrap_or(Path::new(".")))
    }

    /// A new file to be written, emptied if there is one; `append` writes at its end whatever happens.
    pub(crate) fn create(&self, path: &Path, append: bool) -> Result<StoreFile, FileError> {
        let mut options = OpenOptions::new();
        let open = || {
            let file = options.create(true).read(!append).append(append).write(true);
            if !append {
                return file.truncate(true).open(path);
            }
            let file = file.open(path)?;
            file.set_len(0)?;
            Ok(file)
        };
        let file = self.perform(FileOperation::Create(path), open).map_err(FileError::at("create", path))?;
        Ok(self.file(path, file))
    }

    /// Opens a file to read it, and to write it too if that is said.
    pub(crate) fn open(&self, path: &Path, write: bool) -> Result<StoreFile, FileError> {
        let write = write && !self.read_only;
        let open = || OpenOptions::new().read(true).write(write).open(path);
        let file = self.perform(FileOperation::Open(path), open).map_err(FileError::at("open", path))?;
        Ok(self.file(path, file))
    }

    /// All bytes of a file.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.perform(FileOperation::Read(path), || fs::read(path))
    }

    /// Writes a new file and makes its contents durable; what there is of it is removed if that fails.
    pub(crate) fn write_durable(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let write = || {
            let file = self.create(path, false)?;
            file.write_all(bytes).map_err(FileError::at("write", path))?;
            file.sync_all().map_err(FileError::at("sync", path))
        };
        write().inspect_err(|_| self.remove_quietly(path))
    }

    /// Replaces a file as a whole, durably: `temporary` is written and then gets the name.
    pub(crate) fn replace(&self, path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), FileError> {
        self.write_durable(temporary, bytes)?;
        self.rename(temporary, path)
            .map_err(FileError::at("rename", temporary))
            .inspect_err(|_| self.remove_quietly(temporary))?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(FileOperation::Rename(from, to), || fs::rename(from, to))
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.perform(FileOperation::Remove(path), || fs::remove_file(path))
    }

    /// Removes what is no longer of use, if that is possible.
    pub(crate) fn remove_quietly(&self, path: &Path) {
        if let Err(error) = self.remove(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a file");
        }
    }

    pub(crate) fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        self.perform(FileOperation::RemoveTree(dir), || fs::remove_dir_all(dir))
    }

    /// Paths of what lies in a folder, in no order.
    pub(crate) fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, FileError> {
        let list = || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect();
        self.perform(FileOperation::List(dir), list).map_err(FileError::at("read", dir))
    }

    /// Links or copies every file of a folder into a new one, for a snapshot.
    pub(crate) fn link_dir(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.create_dir(to)?;
        for path in self.list(from)? {
            let target = to.join(path.file_name().unwrap_or_default());
            // another file system: a copy does as well
            if self.perform(FileOperation::Link(&path, &target), || fs::hard_link(&path, &target)).is_err() {
                self.copy(&path, &target)?;
            }
        }
        self.sync_dir(to)
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let (source, target) = (self.open(from, false)?, self.create(to, false)?);
        let len = source.len().map_err(FileError::at("read", from))?;
        source.each_part(0, len, |_, part| target.write_all(part)).map_err(FileError::at("copy", to))?;
        target.sync_all().map_err(FileError::at("sync", to))
    }
}

fn perform<T>(
    observer: Option<&Arc<dyn FileObserver>>,
    operation: FileOperation<'_>,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(observer) = observer else { return work() };
    observer.before(&operation).map_err(|fault| fault.error)?;
    let result = work()?;
    observer.done(&operation);
    Ok(result)
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

/// An open file of the store.
#[derive(Debug)]
pub(crate) struct StoreFile {
    file: File,
    watch: Option<Box<(Arc<dyn FileObserver>, PathBuf)>>,
}

impl StoreFile {
    fn perform<'a, T>(
        &'a self,
        operation: impl FnOnce(&'a Path) -> FileOperation<'a>,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.watch {
            None => work(),
            Some(watch) => perform(Some(&watch.0), operation(&watch.1), work),
        }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Has the system begin to read a part of the file into its cache, as far as that is not there. It is no operation that can fail:
    /// who reads the file waits for less, or for as long as before.
    pub(crate) fn read_ahead(&self, part: Range<u64>) {
        for from in part.clone().step_by(READ_AHEAD) {
            let len = (part.end - from).min(READ_AHEAD as u64);
            let _ = rustix::fs::fadvise(&self.file, from, NonZeroU64::new(len), Advice::WillNeed);
        }
    }

    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.perform(FileOperation::Read, || self.file.read_exact_at(bytes, offset))
    }

    /// Writes at the end of a file that has been written from its beginning.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(None, bytes, |bytes| (&self.file).write_all(bytes))
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(Some(offset), bytes, |bytes| self.file.write_all_at(bytes, offset))
    }

    fn write(&self, offset: Option<u64>, bytes: &[u8], work: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(watch) = &self.watch else { return work(bytes) };
        let (observer, path) = &**watch;
        let (bytes, outcome) = match observer.before(&FileOperation::Write(path, offset, bytes)) {
            Ok(()) => (bytes, Ok(())),
            Err(fault) => (&bytes[..fault.written.min(bytes.len())], Err(fault.error)),
        };
        if !bytes.is_empty() {
            work(bytes)?;
            observer.done(&FileOperation::Write(path, offset, bytes));
        }
        outcome
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.perform(|path| FileOperation::Truncate(path, len), || self.file.set_len(len))
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.perform(FileOperation::Sync, || self.file.sync_all())
    }

    /// As [`StoreFile::sync_all`], but for what reading does not need.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.perform(FileOperation::Sync, || self.file.sync_data())
    }

    /// Writes a part of the file again with what it has. After a failed fsync the system takes the pages for clean: another
    /// fsync would do nothing and say that all is well.
    pub(crate) fn write_again(&self, from: u64, to: u64) -> io::Result<()> {
        self.each_part(from, to, |offset, part| self.write_all_at(part, offset))
    }

    fn each_part(&self, from: u64, to: u64, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut part = vec![0; PART.min(to.saturating_sub(from) as usize)];
        let mut at = from;
        while at < to {
            let size = (part.len() as u64).min(to - at) as usize;
            self.read_exact_at(&mut part[..size], at)?;
            each(at, &part[..size])?;
            at += size as u64;
        }
        Ok(())
    }
}
