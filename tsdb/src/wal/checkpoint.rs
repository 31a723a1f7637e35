use std::path::{Path, PathBuf};

use crate::error::FileError;
use crate::files::{Files, StoreFile};
use crate::follow::LogPosition;
use crate::wal::writer::segment_header;
use crate::wal::{Packer, checkpoint_path};

/// Writes a checkpoint, record by record, without the lock of the log. It has its name, and counts, once the log has installed it;
/// dropped before that it leaves nothing.
pub(crate) struct CheckpointWriter {
    files: Files,
    dir: PathBuf,
    temporary: PathBuf,
    file: StoreFile,
    buffer: Vec<u8>,
    packer: Packer,
    number: u64,
    taken_at: LogPosition,
    named: bool,
}

impl CheckpointWriter {
    /// A checkpoint that stands for the segments up to `number`; the log was at `taken_at` when what it says was taken.
    pub(crate) fn create(files: &Files, dir: &Path, number: u64, taken_at: LogPosition) -> Result<Self, FileError> {
        let temporary = checkpoint_path(dir, number).with_extension("tmp");
        let file = files.create(&temporary, false)?;
        let (files, dir) = (files.clone(), dir.to_owned());
        let (buffer, packer) = (segment_header(number), Packer::default());
        Ok(Self { files, dir, temporary, file, buffer, packer, number, taken_at, named: false })
    }

    /// Writes a record.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<(), FileError> {
        self.packer.put(payload, &mut self.buffer);
        self.file.write_all(&self.buffer).map_err(FileError::at("write", &self.temporary))?;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable, after the last record.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        self.file.sync_all().map_err(FileError::at("sync", &self.temporary))
    }

    /// Gives it its name.
    pub(super) fn name(&mut self) -> Result<(), FileError> {
        let path = checkpoint_path(&self.dir, self.number);
        self.files.rename(&self.temporary, &path).map_err(FileError::at("rename", &self.temporary))?;
        self.named = true;
        self.files.sync_dir(&self.dir)
    }

    /// The last segment that it stands for.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Where the log was when what it says was taken.
    pub(crate) fn taken_at(&self) -> LogPosition {
        self.taken_at
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.named {
            self.files.remove_quietly(&self.temporary);
        }
    }
}
