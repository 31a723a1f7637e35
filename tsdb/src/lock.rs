use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{FileError, OpenError};

/// The right to write to a folder, held while this lives.
#[derive(Debug)]
pub(crate) struct DirLock(#[expect(dead_code, reason = "the lock goes with the open file")] File);

impl DirLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(FileError::at("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(dir.to_owned())),
            Err(error) => Err(FileError::at("lock", &path)(error.into()).into()),
        }
    }
}
