use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Timestamp;

use crate::durable;
use crate::error::FileError;
use crate::wal::{RECORD_HEADER, SEGMENT_HEADER, SEGMENT_MAGIC, checkpoint_path, record_header, segment_path};

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

/// Appends records to the log.
pub(crate) struct WalWriter {
    dir: PathBuf,
    options: WalOptions,
    file: Arc<File>,
    number: u64,
    len: u64,
    max_time: Timestamp,
    /// As in [`Segment`], of the current segment and now.
    min_valid: (Timestamp, Timestamp),
    /// Segments before the current one, oldest first.
    closed: Vec<Segment>,
    /// Files with bytes that have not been fsynced.
    unsynced: Vec<Arc<File>>,
    dirty: bool,
    buffer: Vec<u8>,
}

impl WalWriter {
    /// Begins a new segment behind those in `closed`.
    pub(crate) fn create(
        dir: &Path,
        options: WalOptions,
        number: u64,
        closed: Vec<Segment>,
        min_valid: Timestamp,
    ) -> Result<Self, FileError> {
        let file = create_segment(dir, number)?;
        // a process that was killed may have left the newest ones to the page cache
        let recent = closed.iter().rev().take(2).map(|s| segment_path(dir, s.number));
        let recent = recent.map(|path| File::open(&path).map(Arc::new).map_err(FileError::at("open", &path)));
        let unsynced = recent.collect::<Result<_, _>>()?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            file,
            number,
            len: SEGMENT_HEADER as u64,
            max_time: Timestamp::MIN,
            min_valid: (min_valid, min_valid),
            closed,
            unsynced,
            dirty: false,
            buffer: Vec::new(),
        })
    }

    /// Writes a record with one `write(2)`. When it fails nothing of the record stays.
    pub(crate) fn append(&mut self, payload: &[u8], max_time: Option<Timestamp>) -> Result<(), FileError> {
        if self.len + payload.len() as u64 > self.options.segment_bytes && self.len > SEGMENT_HEADER as u64 {
            self.rotate()?;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&record_header(payload));
        self.buffer.extend_from_slice(payload);
        let written = (&*self.file).write_all(&self.buffer);
        if let Err(error) = written {
            let path = segment_path(&self.dir, self.number);
            // a torn record would hide nothing, since reading goes on behind it, but the space may be short
            if let Err(error) = self.file.set_len(self.len) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a torn record from the log");
            }
            return Err(FileError::at("write", path)(error));
        }
        self.len += (RECORD_HEADER + payload.len()) as u64;
        self.max_time = self.max_time.max(max_time.unwrap_or(Timestamp::MIN));
        self.dirty = true;
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Closes the segment and begins the next.
    pub(crate) fn rotate(&mut self) -> Result<(), FileError> {
        let file = create_segment(&self.dir, self.number + 1)?;
        if self.dirty {
            self.unsynced.push(Arc::clone(&self.file));
        }
        self.closed.push(Segment { number: self.number, max_time: self.max_time, min_valid: self.min_valid.0 });
        self.min_valid.0 = self.min_valid.1;
        self.file = file;
        self.number += 1;
        self.len = SEGMENT_HEADER as u64;
        self.max_time = Timestamp::MIN;
        self.dirty = false;
        Ok(())
    }

    /// Files to fsync so that everything appended so far is durable; the caller does it without holding the lock.
    pub(crate) fn take_unsynced(&mut self) -> Vec<Arc<File>> {
        let mut files = std::mem::take(&mut self.unsynced);
        if std::mem::take(&mut self.dirty) {
            files.push(Arc::clone(&self.file));
        }
        files
    }

    /// Files of which an fsync failed: they are due again.
    pub(crate) fn still_unsynced(&mut self, files: Vec<Arc<File>>) {
        self.unsynced.extend(files);
    }

    /// Notes that samples before `min_valid` are in blocks; segments begun from now on need not say so.
    pub(crate) fn flushed(&mut self, min_valid: Timestamp) {
        self.min_valid.1 = self.min_valid.1.max(min_valid);
    }

    /// The last of the oldest segments that have no sample from `min_time` on, and what was in blocks when the one after it
    /// was begun; `None` if the oldest has such a sample.
    pub(crate) fn obsolete(&self, min_time: Timestamp) -> Option<(u64, Timestamp)> {
        let count = self.closed.iter().take_while(|s| s.max_time < min_time).count();
        let last = self.closed[..count].last()?.number;
        Some((last, self.closed.get(count).map_or(self.min_valid.0, |s| s.min_valid)))
    }

    /// Writes a checkpoint that stands for the segments up to `number`, then removes them and older checkpoints.
    pub(crate) fn checkpoint(&mut self, number: u64, records: &[Vec<u8>]) -> Result<(), FileError> {
        let path = checkpoint_path(&self.dir, number);
        let temporary = path.with_extension("tmp");
        let mut bytes = segment_header(number);
        for payload in records {
            bytes.extend_from_slice(&record_header(payload));
            bytes.extend_from_slice(payload);
        }
        durable::write_file(&temporary, &bytes)?;
        fs::rename(&temporary, &path).map_err(FileError::at("rename", &temporary))?;
        durable::sync_dir(&self.dir)?;
        self.closed.retain(|s| s.number > number);
        let (segments, checkpoints) = super::list(&self.dir)?;
        let old_segments = segments.into_iter().filter(|n| *n <= number).map(|n| segment_path(&self.dir, n));
        let old_checkpoints = checkpoints.into_iter().filter(|n| *n < number).map(|n| checkpoint_path(&self.dir, n));
        for path in old_segments.chain(old_checkpoints) {
            fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
        }
        Ok(())
    }

    /// Whether the current segment has samples, and all of them before `min_time`.
    pub(crate) fn is_outdated(&self, min_time: Timestamp) -> bool {
        self.max_time > Timestamp::MIN && self.max_time < min_time
    }

    /// The number of the current segment.
    pub(crate) fn segment(&self) -> u64 {
        self.number
    }
}

fn segment_header(number: u64) -> Vec<u8> {
    let mut header = SEGMENT_MAGIC.to_vec();
    header.extend_from_slice(&number.to_le_bytes());
    header
}

fn create_segment(dir: &Path, number: u64) -> Result<Arc<File>, FileError> {
    let path = segment_path(dir, number);
    let file = OpenOptions::new().append(true).create_new(true).open(&path).map_err(FileError::at("create", &path))?;
    (&file).write_all(&segment_header(number)).map_err(FileError::at("write", &path))?;
    durable::sync_dir(dir)?;
    Ok(Arc::new(file))
}
