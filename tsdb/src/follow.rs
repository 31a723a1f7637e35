//! Readers that follow the log from a place on: what is to be sent elsewhere is read from there.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io};

use model::{Labels, Metadata, Timestamp};
use parking_lot::{Condvar, Mutex};

use crate::engine::Engine;
use crate::error::FileError;
use crate::sample::{Exemplar, HistogramSample, SeriesRef};
use crate::version::HEADER;
use crate::wal::{self, Frame, Frames, SEGMENT_MAGIC, Section, checkpoint_path, record, segment_path};

/// A place in the log, between two records. Written as `SEGMENT:OFFSET`, so that it can be kept in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes of the segment that lie before.
    pub offset: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// What should be a [`LogPosition`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in the log: it is written SEGMENT:OFFSET, such as 3:1048576")]
pub struct LogPositionError;

impl FromStr for LogPosition {
    type Err = LogPositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (segment, offset) = text.split_once(':').ok_or(LogPositionError)?;
        let number = |text: &str| text.parse().map_err(|_| LogPositionError);
        Ok(Self { segment: number(segment)?, offset: number(offset)? })
    }
}

/// Where a follower begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStart {
    /// With the oldest record there is.
    Oldest,
    /// With what is committed from now on.
    Now,
    /// Where another follower was.
    At(LogPosition),
}

/// A part of the log, as a follower gets it.
#[derive(Clone, Debug)]
pub enum LogEntry {
    /// All series that what follows may name are named again, up to [`LogEntry::CheckpointEnd`].
    CheckpointBegin,
    /// Series that have not been named since [`LogEntry::CheckpointBegin`] are not named any more: they can be forgotten.
    CheckpointEnd,
    /// The labels of series. Two numbers may have the same.
    Series(Vec<(SeriesRef, Labels)>),
    /// Floats of one time, with the times from which they count (0 if unknown) if there is any. Staleness markers are among them.
    Row {
        /// Their time.
        time: Timestamp,
        /// Their series.
        series: Vec<SeriesRef>,
        /// As many values.
        values: Vec<f64>,
        /// As many start timestamps.
        starts: Option<Vec<Timestamp>>,
    },
    /// Native histograms: series, time, time from which it counts (0 if unknown), histogram.
    Histograms(Vec<(SeriesRef, Timestamp, Timestamp, HistogramSample)>),
    /// What metrics are.
    Metadata(Vec<(SeriesRef, Metadata)>),
    /// Exemplars.
    Exemplars(Vec<(SeriesRef, Exemplar)>),
    /// The follower was so far behind that records were removed before it had read them.
    Lost {
        /// The first of them was here.
        from: LogPosition,
        /// It goes on here.
        to: LogPosition,
    },
}

/// The followers of a log, as its writer sees them.
#[derive(Default)]
pub(crate) struct Followers {
    /// The segment each one reads, by its number.
    segments: Mutex<BTreeMap<usize, u64>>,
    next: AtomicUsize,
    waiting: (Mutex<()>, Condvar),
}

impl Followers {
    /// The oldest segment that somebody still reads.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.segments.lock().values().min().copied()
    }

    /// Wakes those that wait for records. To be called without the lock of the log.
    pub(crate) fn wake(&self) {
        if !self.segments.lock().is_empty() {
            drop(self.waiting.0.lock());
            self.waiting.1.notify_all();
        }
    }
}

/// Reads the log from a place on, while it is written. It begins with the labels of all series there are at that place. While it is
/// there, segments that it has not read are kept, up to [`crate::Options::log_follower_bytes`].
///
/// A sample may be among what it gives that the head refused, since another one came first.
pub struct LogFollower {
    db: Arc<Engine>,
    number: usize,
    position: LogPosition,
    /// The segment of the position, once it has been opened.
    frames: Option<Frames>,
    /// Series that are being named again.
    naming: Option<Naming>,
    /// The checkpoint whose series have been named.
    checkpoint: Option<u64>,
    /// What has to be said first.
    lost: Option<LogEntry>,
}

impl fmt::Debug for LogFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFollower").field("position", &self.position).finish_non_exhaustive()
    }
}

impl LogFollower {
    pub(crate) fn new(db: Arc<Engine>, start: LogStart) -> Result<Self, FileError> {
        let number = db.followers.next.fetch_add(1, Ordering::Relaxed);
        // nothing goes from here on
        db.followers.segments.lock().insert(number, 0);
        let begin = |segment| LogPosition { segment, offset: HEADER as u64 };
        let mut follower =
            Self { db, number, position: begin(0), frames: None, naming: None, checkpoint: None, lost: None };
        let oldest = begin(follower.first_segment(0)?);
        let tip = follower.db.wal.lock().position();
        let position = match start {
            LogStart::Oldest => oldest,
            LogStart::Now => tip,
            // the log is another one
            LogStart::At(from) if from > tip => {
                follower.lost = Some(LogEntry::Lost { from, to: oldest });
                oldest
            }
            LogStart::At(position) => position,
        };
        follower.go_to(position);
        follower.name_series(Named::FromTheStart)?;
        Ok(follower)
    }

    /// Everything before this has been given.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// What comes next: all that one commit wrote, or a part of a checkpoint. `None` if there is nothing yet.
    ///
    /// # Errors
    /// When a file cannot be read; the next call tries again.
    pub fn read(&mut self) -> Result<Option<Vec<LogEntry>>, FileError> {
        loop {
            if let Some(lost) = self.lost.take() {
                return Ok(Some(vec![lost]));
            }
            if let Some(naming) = &mut self.naming {
                let next = match naming.next(&self.db) {
                    // a newer checkpoint stands for a segment now
                    Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                        self.name_series(Named::FromTheStart)?;
                        continue;
                    }
                    next => next?,
                };
                self.naming = self.naming.take().filter(|_| !matches!(next, LogEntry::CheckpointEnd));
                return Ok(Some(vec![next]));
            }
            if self.name_series(Named::SinceTheCheckpoint)? {
                continue;
            }
            let (frame, end) = match self.next_frame()? {
                Next::Frame(frame, end) => (frame, end),
                Next::Lost(entry) => return Ok(Some(vec![entry])),
                Next::Nothing => return Ok(None),
            };
            self.position.offset = end;
            match frame {
                Frame::Record(payload) => {
                    let entries = entries(&payload);
                    if !entries.is_empty() {
                        return Ok(Some(entries));
                    }
                }
                // whoever opened the log has counted and reported it
                Frame::Damaged { .. } | Frame::Torn { .. } => {}
            }
        }
    }

    /// Waits until there is something to read, or for so long. Whether there is.
    pub fn wait(&self, timeout: Duration) -> bool {
        let ready = || self.lost.is_some() || self.naming.is_some() || self.db.wal.lock().position() > self.position;
        let (lock, condition) = &self.db.followers.waiting;
        let mut guard = lock.lock();
        ready() || {
            condition.wait_for(&mut guard, timeout);
            ready()
        }
    }

    /// The first segment from this one on that there is.
    fn first_segment(&self, from: u64) -> Result<u64, FileError> {
        let (segments, _) = wal::list(&self.db.options.files, &self.dir())?;
        // the one that is written is always there
        Ok(segments.into_iter().find(|n| *n >= from).unwrap_or_else(|| self.db.wal.lock().segment()))
    }

    fn dir(&self) -> PathBuf {
        self.db.dir.join("wal")
    }

    fn go_to(&mut self, position: LogPosition) {
        self.position = LogPosition { offset: position.offset.max(HEADER as u64), ..position };
        self.frames = None;
        self.db.followers.segments.lock().insert(self.number, position.segment);
    }

    /// Has series named, if it is due: whether it is.
    fn name_series(&mut self, which: Named) -> Result<bool, FileError> {
        let files = &self.db.options.files;
        // no checkpoint is made meanwhile: the one that is opened is the newest
        let wal = self.db.wal.lock();
        let behind = wal.checkpointed().filter(|(_, made_at)| *made_at <= self.position);
        let from = match (which, behind) {
            (Named::FromTheStart, _) => LogPosition { segment: 0, offset: 0 },
            (Named::SinceTheCheckpoint, Some((number, made_at))) if self.checkpoint != Some(number) => made_at,
            (Named::SinceTheCheckpoint, _) => return Ok(false),
        };
        let (segments, checkpoints) = wal::list(files, &self.dir())?;
        let checkpoint = checkpoints.last().map(|number| checkpoint_path(&self.dir(), *number));
        let checkpoint = checkpoint.map(|path| Frames::open(files, &path, *SEGMENT_MAGIC)).transpose()?;
        let between = segments.into_iter().filter(|n| (from.segment..=self.position.segment).contains(n));
        let part = |number| Part {
            path: segment_path(&self.dir(), number),
            from: if number == from.segment { from.offset } else { 0 },
            to: if number == self.position.segment { self.position.offset } else { u64::MAX },
        };
        self.naming = Some(Naming { begun: false, frames: checkpoint, parts: between.map(part).collect() });
        self.checkpoint = behind.map(|(number, _)| number);
        Ok(true)
    }

    fn next_frame(&mut self) -> Result<Next, FileError> {
        loop {
            let tip = self.db.wal.lock().position();
            if tip <= self.position {
                return Ok(Next::Nothing);
            }
            let frames = match &mut self.frames {
                Some(frames) => frames,
                None => {
                    let path = segment_path(&self.dir(), self.position.segment);
                    match Frames::open(&self.db.options.files, &path, *SEGMENT_MAGIC) {
                        Ok(mut frames) => {
                            frames.seek(self.position.offset);
                            // behind the header, whose length the version says
                            self.position.offset = frames.offset();
                            self.frames.insert(frames)
                        }
                        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return self.skip_lost(),
                        Err(error) => return Err(error),
                    }
                }
            };
            // what lies behind the tip is being written
            frames.grow((self.position.segment == tip.segment).then_some(tip.offset))?;
            if let Some(frame) = frames.next()? {
                return Ok(Next::Frame(frame, frames.offset()));
            }
            if self.position.segment >= tip.segment {
                return Ok(Next::Nothing);
            }
            self.go_to(LogPosition { segment: self.position.segment + 1, offset: 0 });
        }
    }

    /// Goes on where the log begins now.
    fn skip_lost(&mut self) -> Result<Next, FileError> {
        let from = self.position;
        let to = LogPosition { segment: self.first_segment(from.segment)?, offset: HEADER as u64 };
        self.go_to(to);
        self.name_series(Named::FromTheStart)?;
        Ok(Next::Lost(LogEntry::Lost { from, to }))
    }
}

impl Drop for LogFollower {
    fn drop(&mut self) {
        self.db.followers.segments.lock().remove(&self.number);
    }
}

enum Next {
    /// And the place behind it.
    Frame(Frame, u64),
    Lost(LogEntry),
    Nothing,
}

/// Which series are named again.
#[derive(Clone, Copy)]
enum Named {
    /// All that the log has before the position.
    FromTheStart,
    /// Those of a checkpoint that has been made since, and those that are new since then.
    SinceTheCheckpoint,
}

/// A part of a segment.
struct Part {
    path: PathBuf,
    from: u64,
    to: u64,
}

/// The series that a checkpoint and parts of segments name.
struct Naming {
    begun: bool,
    /// The checkpoint, then the part that is read.
    frames: Option<Frames>,
    parts: VecDeque<Part>,
}

impl Naming {
    fn next(&mut self, db: &Engine) -> Result<LogEntry, FileError> {
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(LogEntry::CheckpointBegin);
        }
        loop {
            while let Some(frame) = self.frames.as_mut().map(Frames::next).transpose()?.flatten() {
                let Frame::Record(payload) = frame else { continue };
                let mut named = Vec::new();
                // what does not decode has been counted and reported when the log was opened
                let _ = record::decode(&payload, &mut |section| {
                    if let Section::Series(all) = section {
                        named.extend(all.into_iter().map(|(id, labels)| (reference(id), labels)));
                    }
                });
                if !named.is_empty() {
                    return Ok(LogEntry::Series(named));
                }
            }
            let Some(part) = self.parts.front() else { return Ok(LogEntry::CheckpointEnd) };
            let mut frames = Frames::open(&db.options.files, &part.path, *SEGMENT_MAGIC)?;
            frames.seek(part.from);
            frames.cut(part.to);
            self.frames = Some(frames);
            self.parts.pop_front();
        }
    }
}

fn reference(id: u32) -> SeriesRef {
    SeriesRef(u64::from(id))
}

/// What a commit wrote; what the log only repeats is left out.
fn entries(payload: &[u8]) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    let with_refs = |ids: Vec<u32>| ids.into_iter().map(reference).collect();
    let decoded = record::decode(payload, &mut |section| match section {
        Section::Series(all) => {
            entries.push(LogEntry::Series(all.into_iter().map(|(id, labels)| (reference(id), labels)).collect()));
        }
        Section::Row { time, series, values, starts, late: false } => {
            entries.push(LogEntry::Row { time, series: with_refs(series), values, starts });
        }
        Section::Samples { series, times, values, starts } => {
            let mut from = 0;
            for row in times.chunk_by(|a, b| a == b) {
                let range = from..from + row.len();
                from = range.end;
                entries.push(LogEntry::Row {
                    time: row[0],
                    series: with_refs(series[range.clone()].to_vec()),
                    values: values[range.clone()].to_vec(),
                    starts: starts.as_ref().map(|starts| starts[range].to_vec()),
                });
            }
        }
        Section::Histograms { samples, late: false } => {
            let samples = samples.into_iter().map(|(id, time, start, sample)| (reference(id), time, start, sample));
            entries.push(LogEntry::Histograms(samples.collect()));
        }
        Section::Metadata(all) => {
            entries.push(LogEntry::Metadata(all.into_iter().map(|(id, metadata)| (reference(id), metadata)).collect()));
        }
        Section::Exemplars(all) => {
            entries
                .push(LogEntry::Exemplars(all.into_iter().map(|(id, exemplar)| (reference(id), exemplar)).collect()));
        }
        Section::Row { late: true, .. }
        | Section::Histograms { late: true, .. }
        | Section::Tombstones(_)
        | Section::Flushed(_)
        | Section::End => {}
    });
    if decoded.is_err() {
        tracing::warn!("left out a log record that does not decode");
        entries.clear();
    }
    entries
}
