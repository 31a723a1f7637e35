//! Files of the kernel that stay open between scrapes: reading one again costs neither a walk along its path nor the setting
//! up of an open file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, openat, stat, statfs};
use rustix::io::{pread, read};

/// Files that are kept at most: the usual limit of a process is 1024.
const FILES: usize = 128;
/// What a file is first read into.
const FIRST_BYTES: usize = 4096;

/// The files of procfs that collectors read at every scrape.
///
/// A file elsewhere is not kept, since another may be put in its place; nor is one that cannot be read again. What is read is
/// always what the kernel says now.
#[derive(Debug, Default)]
pub(crate) struct KeptFiles(Mutex<HashMap<PathBuf, Arc<Mutex<KeptFile>>>>);

#[derive(Debug)]
struct KeptFile {
    file: File,
    /// Bytes it had last time.
    len: usize,
}

impl KeptFiles {
    /// The bytes of a file.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let known = self.0.lock().get(path).cloned();
        // another scrape may be reading it: that one's position in the file is not to be disturbed
        if let Some(mut kept) = known.as_ref().and_then(|k| k.try_lock()) {
            let kept = &mut *kept;
            if let Ok(bytes) = read_whole(kept.len + 256, |bytes, at| pread(&kept.file, spare_capacity(bytes), at)) {
                kept.len = bytes.len();
                return Ok(bytes);
            }
        }
        if known.is_some() {
            // what it belonged to may be gone: the path is asked again
            self.0.lock().remove(path);
        }
        let file = File::open(path)?;
        let bytes = read_whole(FIRST_BYTES, |bytes, _| read(&file, spare_capacity(bytes)))?;
        let mut files = self.0.lock();
        if files.len() < FILES && fstatfs(&file).is_ok_and(|stat| stat.f_type == PROC_SUPER_MAGIC) {
            files.insert(path.to_owned(), Arc::new(Mutex::new(KeptFile { file, len: bytes.len() })));
        }
        Ok(bytes)
    }
}

/// Reads until there is nothing more. The kernel's files tell no size.
pub(crate) fn read_whole(
    first: usize,
    mut read: impl FnMut(&mut Vec<u8>, u64) -> rustix::io::Result<usize>,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(first);
    loop {
        let at = bytes.len() as u64;
        match read(&mut bytes, at) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() == bytes.capacity() => bytes.reserve(bytes.len() * 3),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A folder whose attributes are read one by one, found by their names alone.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: OwnedFd,
    /// Attributes that stay open; none unless the folder is kept.
    open: Vec<(&'static str, OwnedFd)>,
    /// What tells a kept folder from another that comes to stand at its path.
    identity: Option<u64>,
}

/// The bytes of an attribute: a page.
pub(crate) type Attribute = [u8; 4096];

impl Folder {
    /// Opens a folder.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { folder, open: Vec::new(), identity: None })
    }

    /// Lets its attributes stay open. For folders of sysfs only, and as long as [`is_still_at`](Self::is_still_at) says so.
    pub(crate) fn keep(self) -> Self {
        let identity = fstat(&self.folder).ok().map(|stat| stat.st_ino);
        Self { identity, ..self }
    }

    /// Whether its attributes stay open.
    pub(crate) fn is_kept(&self) -> bool {
        self.identity.is_some()
    }

    /// Whether the folder at a path is this one, if it is kept. A device may have gone, or have been given another name.
    pub(crate) fn is_still_at(&self, path: &Path) -> bool {
        self.identity.is_some() && stat(path).ok().map(|stat| stat.st_ino) == self.identity
    }

    /// An attribute's text without the blanks around it; `None` if it is not there, not readable or no text.
    pub(crate) fn text<'b>(&mut self, name: &'static str, buffer: &'b mut Attribute) -> Option<&'b str> {
        let len = self.read(name, buffer).ok()?;
        std::str::from_utf8(&buffer[..len]).ok().map(str::trim)
    }

    fn read(&mut self, name: &'static str, buffer: &mut Attribute) -> rustix::io::Result<usize> {
        if let Some((_, file)) = self.open.iter().find(|(kept, _)| *kept == name) {
            return pread(file, &mut buffer[..], 0);
        }
        let file = openat(&self.folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let result = read(&file, &mut buffer[..]);
        if self.is_kept() {
            self.open.push((name, file));
        }
        result
    }
}

/// Whether a path is one of the kernel's, whose attributes are made anew whenever they are read.
pub(crate) fn is_sysfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type == SYSFS_MAGIC)
}

const SYSFS_MAGIC: rustix::fs::FsWord = 0x6265_6572;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_procfs_are_kept_and_read_anew() {
        let files = KeptFiles::default();
        let path = Path::new("/proc/self/stat");
        let first = files.read(path).unwrap();
        assert_eq!(files.0.lock().len(), 1);
        let before = Arc::as_ptr(&files.0.lock()[path]);
        // the time it has run for, and its pages, change
        let mut second = files.read(path).unwrap();
        while first == second {
            std::hint::black_box(vec![1u8; 1 << 20]);
            second = files.read(path).unwrap();
        }
        assert_eq!(Arc::as_ptr(&files.0.lock()[path]), before);
        assert!(second.starts_with(format!("{} ", std::process::id()).as_bytes()));
        assert_eq!(files.read(Path::new("/proc/version")).unwrap(), std::fs::read("/proc/version").unwrap());
    }

    #[test]
    fn a_kept_file_that_has_gone_is_opened_by_its_path() {
        let files = KeptFiles::default();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let path = PathBuf::from(format!("/proc/{}/stat", child.id()));
        assert!(files.read(&path).is_ok());
        assert_eq!(files.0.lock().len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(files.read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(files.0.lock().is_empty());
    }

    #[test]
    fn other_files_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let files = KeptFiles::default();
        for text in ["one", "two"] {
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
            assert_eq!(files.read(&path).unwrap(), text.as_bytes());
        }
        assert!(files.0.lock().is_empty());
    }

    #[test]
    fn attributes_are_found_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/number"), " 12\n").unwrap();
        let mut buffer = [0; 4096];
        let path = folder.path().join("in");
        let mut inner = Folder::open(&path).unwrap();
        assert_eq!(inner.text("number", &mut buffer), Some("12"));
        assert_eq!(inner.text("none", &mut buffer), None);
        std::fs::write(folder.path().join("in/number"), "13\n").unwrap();
        assert!(!inner.is_still_at(&path), "it is not kept");
        let mut kept = inner.keep();
        for expected in ["13", "14"] {
            assert_eq!(kept.text("number", &mut buffer), Some(expected));
            std::fs::write(folder.path().join("in/number"), "14\n").unwrap();
        }
        assert!(Folder::open(&path.join("number")).is_err());
        assert!(kept.is_still_at(&path));
        std::fs::rename(&path, folder.path().join("renamed")).unwrap();
        assert!(!kept.is_still_at(&path));
        std::fs::create_dir(&path).unwrap();
        assert!(!kept.is_still_at(&path), "another folder has taken its place");
    }
}
