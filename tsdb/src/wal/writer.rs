use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Timestamp;

use crate::error::FileError;
use crate::files::{Files, StoreFile};
use crate::follow::LogPosition;
use crate::wal::{CheckpointWriter, Packer, SEGMENT_HEADER, SEGMENT_MAGIC, checkpoint_path, segment_path};

/// How the log is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalOptions {
    pub(crate) segment_bytes: u64,
}

/// A segment that is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// The latest sample in it.
    pub(crate) max_time: Timestamp,
    /// Samples before this were in blocks when the segment was begun.
    pub(crate) min_valid: Timestamp,
}

/// A part of a segment that may not be on the disk yet.
#[derive(Clone)]
pub(crate) struct Unsynced {
    path: PathBuf,
    file: Arc<StoreFile>,
    /// What lies before is on the disk.
    from: u64,
    /// What lies behind is not part of this.
    to: u64,
    /// An fsync has failed.
    failed: bool,
}

impl Unsynced {
    /// Makes it durable; after a failure to do so, by writing it again.
    pub(crate) fn sync(&mut self, files: &Files) -> Result<(), FileError> {
        let result = if self.failed { self.write_again(files) } else { self.file.sync_data() };
        self.failed = result.is_err();
        result.map_err(FileError::at("sync", &self.path))
    }

    fn write_again(&self, files: &Files) -> io::Result<()> {
        // the segment itself is open for appending only
        let file = match files.open(&self.path, true) {
            Ok(file) => file,
            // removed behind a checkpoint
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.source),
        };
        file.write_again(self.from, self.to)?;
        file.sync_data()
    }
}

/// Appends records to the log.
pub(crate) struct WalWriter {
    files: Files,
    dir: PathBuf,
    options: WalOptions,
    file: Arc<StoreFile>,
    number: u64,
    len: u64,
    max_time: Timestamp,
    /// As in [`Segment`], of the current segment and now.
    min_valid: (Timestamp, Timestamp),
    /// Segments before the current one, oldest first.
    closed: Vec<Segment>,
    /// Parts of earlier segments, and of the current one where an fsync failed.
    unsynced: Vec<Unsynced>,
    /// The current segment is given to an fsync up to here.
    synced: u64,
    /// The current segment ends with a torn record that could not be removed.
    torn: bool,
    buffer: Vec<u8>,
    packer: Packer,
    /// The last checkpoint that this process has made, and where the log was when what it says was taken.
    checkpointed: Option<(u64, LogPosition)>,
}

impl WalWriter {
    /// Begins a new segment behind those in `closed`.
    pub(crate) fn create(
        files: Files,
        dir: &Path,
        options: WalOptions,
        number: u64,
        closed: Vec<Segment>,
        min_valid: Timestamp,
    ) -> Result<Self, FileError> {
        let file = create_segment(&files, dir, number)?;
        // a process that was killed may have left the newest ones to the page cache
        let recent = closed.iter().rev().take(2).map(|s| segment_path(dir, s.number));
        let recent = recent.map(|path| -> Result<Unsynced, FileError> {
            let file = Arc::new(files.open(&path, false)?);
            let to = file.len().map_err(FileError::at("read", &path))?;
            Ok(Unsynced { path, file, from: 0, to, failed: false })
        });
        let unsynced = recent.collect::<Result<_, _>>()?;
        Ok(Self {
            files,
            dir: dir.to_owned(),
            options,
            file,
            number,
            len: SEGMENT_HEADER as u64,
            max_time: Timestamp::MIN,
            min_valid: (min_valid, min_valid),
            closed,
            unsynced,
            synced: 0,
            torn: false,
            buffer: Vec::new(),
            packer: Packer::default(),
            checkpointed: None,
        })
    }

    /// Writes a record with one `write(2)` and returns how many bytes it has. When it fails nothing of the record stays.
    pub(crate) fn append(&mut self, payload: &[u8], max_time: Option<Timestamp>) -> Result<u64, FileError> {
        self.buffer.clear();
        self.packer.put(payload, &mut self.buffer);
        let len = self.buffer.len() as u64;
        let full = self.len + len > self.options.segment_bytes && self.len > SEGMENT_HEADER as u64;
        if full || self.torn {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            let path = segment_path(&self.dir, self.number);
            // a torn record would hide nothing, since reading goes on behind it, but the space may be short
            if let Err(error) = self.file.set_len(self.len) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a torn record from the log");
                // the length is not known from here on
                self.torn = true;
            }
            return Err(FileError::at("write", path)(error));
        }
        self.len += len;
        self.max_time = self.max_time.max(max_time.unwrap_or(Timestamp::MIN));
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        Ok(len)
    }

    /// Closes the segment and begins the next.
    pub(crate) fn rotate(&mut self) -> Result<(), FileError> {
        let file = create_segment(&self.files, &self.dir, self.number + 1)?;
        self.unsynced.extend(self.unsynced_here());
        self.closed.push(Segment { number: self.number, max_time: self.max_time, min_valid: self.min_valid.0 });
        self.min_valid.0 = self.min_valid.1;
        self.file = file;
        self.number += 1;
        self.len = SEGMENT_HEADER as u64;
        self.max_time = Timestamp::MIN;
        self.synced = 0;
        self.torn = false;
        Ok(())
    }

    fn unsynced_here(&self) -> Option<Unsynced> {
        (self.len > self.synced.max(SEGMENT_HEADER as u64)).then(|| Unsynced {
            path: segment_path(&self.dir, self.number),
            file: Arc::clone(&self.file),
            from: self.synced,
            to: self.len,
            failed: false,
        })
    }

    /// What to fsync so that everything appended so far is durable; the caller does it without holding the lock.
    pub(crate) fn take_unsynced(&mut self) -> Vec<Unsynced> {
        let mut parts = std::mem::take(&mut self.unsynced);
        parts.extend(self.unsynced_here());
        self.synced = self.len;
        // a failed fsync of a file may have been that of all its parts
        for at in 1..parts.len() {
            parts[at].failed |= parts[..at].iter().any(|before| before.failed && before.path == parts[at].path);
        }
        parts
    }

    /// Parts that an fsync did not reach: they are due again.
    pub(crate) fn still_unsynced(&mut self, parts: Vec<Unsynced>) {
        self.unsynced.splice(0..0, parts);
    }

    /// Notes that samples before `min_valid` are in blocks; segments begun from now on need not say so.
    pub(crate) fn flushed(&mut self, min_valid: Timestamp) {
        self.min_valid.1 = self.min_valid.1.max(min_valid);
    }

    /// The last of the oldest segments that have no sample from `min_time` on, and what was in blocks when the one after it
    /// was begun; `None` if the oldest has such a sample. Those from the one on that is `followed` do not count.
    pub(crate) fn obsolete(&self, min_time: Timestamp, followed: Option<u64>) -> Option<(u64, Timestamp)> {
        let unread = |segment: &Segment| followed.is_some_and(|oldest| segment.number >= oldest);
        let count = self.closed.iter().take_while(|s| s.max_time < min_time && !unread(s)).count();
        let last = self.closed[..count].last()?.number;
        Some((last, self.closed.get(count).map_or(self.min_valid.0, |s| s.min_valid)))
    }

    /// Gives a checkpoint that is written and durable its name, then removes the segments it stands for and older checkpoints.
    pub(crate) fn install(&mut self, mut checkpoint: CheckpointWriter) -> Result<(), FileError> {
        checkpoint.name()?;
        let number = checkpoint.number();
        self.closed.retain(|s| s.number > number);
        self.checkpointed = Some((number, checkpoint.taken_at()));
        let (segments, checkpoints) = super::list(&self.files, &self.dir)?;
        let old_segments = segments.into_iter().filter(|n| *n <= number).map(|n| segment_path(&self.dir, n));
        let old_checkpoints = checkpoints.into_iter().filter(|n| *n < number).map(|n| checkpoint_path(&self.dir, n));
        for path in old_segments.chain(old_checkpoints) {
            self.files.remove(&path).map_err(FileError::at("remove", &path))?;
        }
        Ok(())
    }

    /// Whether the current segment has samples, and all of them before `min_time`.
    pub(crate) fn is_outdated(&self, min_time: Timestamp) -> bool {
        self.max_time > Timestamp::MIN && self.max_time < min_time
    }

    /// The segments before the current one, oldest first.
    pub(crate) fn closed(&self) -> &[Segment] {
        &self.closed
    }

    /// Behind the last record.
    pub(crate) fn position(&self) -> LogPosition {
        LogPosition { segment: self.number, offset: self.len }
    }

    /// The last checkpoint that this process has made, and where the log was when what it says was taken.
    pub(crate) fn checkpointed(&self) -> Option<(u64, LogPosition)> {
        self.checkpointed
    }

    /// The number of the current segment.
    pub(crate) fn segment(&self) -> u64 {
        self.number
    }
}

pub(super) fn segment_header(number: u64) -> Vec<u8> {
    crate::version::header(*SEGMENT_MAGIC, number)
}

fn create_segment(files: &Files, dir: &Path, number: u64) -> Result<Arc<StoreFile>, FileError> {
    let path = segment_path(dir, number);
    let create = || {
        let file = files.create(&path, true)?;
        file.write_all(&segment_header(number)).map_err(FileError::at("write", &path))?;
        files.sync_dir(dir)?;
        Ok(Arc::new(file))
    };
    create().inspect_err(|_| files.remove_quietly(&path))
}
