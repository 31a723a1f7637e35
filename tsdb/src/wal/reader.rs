use std::path::{Path, PathBuf};
use std::sync::mpsc;

use model::Timestamp;

use crate::error::FileError;
use crate::files::{Files, StoreFile};
use crate::opening::ReplayProgress;
use crate::version::{HEADER_WITH_CHECKSUM, Header, read_header};
use crate::wal::packing;
use crate::wal::record::{self, Section};
use crate::wal::writer::Segment;
use crate::wal::{
    MAX_RECORD, RECORD_HEADER, RECORD_MAGIC, SEGMENT_HEADER, SEGMENT_MAGIC, checkpoint_path, record_checksum,
    segment_path,
};

/// What a replay found.
#[derive(Debug, Default)]
pub(crate) struct ReplayStats {
    pub(crate) records: u64,
    /// Damaged parts that were left out.
    pub(crate) damaged: u64,
    /// The segments there are, and the number the next one gets.
    pub(crate) segments: Vec<Segment>,
    pub(crate) next_segment: u64,
}

/// Numbers of the segments and of the checkpoints in a folder, ascending.
pub(crate) fn list(files: &Files, dir: &Path) -> Result<(Vec<u64>, Vec<u64>), FileError> {
    let (mut segments, mut checkpoints) = (Vec::new(), Vec::new());
    for path in files.list(dir)? {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        match name.strip_prefix("checkpoint.") {
            Some(number) => checkpoints.extend(number.parse::<u64>()),
            None => segments.extend(name.parse::<u64>()),
        }
    }
    segments.sort_unstable();
    checkpoints.sort_unstable();
    Ok((segments, checkpoints))
}

/// What becomes of a damaged end of the log: a record that was being written at a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TornEnd {
    /// It is cut off, so that the log can be written on.
    Cut,
    /// It stays: somebody else may be writing it.
    Keep,
}

/// What of the log need not be read.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Those before the first that is read.
    pub(crate) segments: Vec<Segment>,
    /// The first segment that is read.
    pub(crate) first: u64,
    /// Samples before this were in blocks when it was begun.
    pub(crate) min_valid: Timestamp,
}

/// Reads the log in order and calls `apply` with all that is in it but for what is `known`. Damaged parts are left out, counted
/// and logged; `torn` says what becomes of a damaged end of the last segment. When `progress` is stopped it returns early.
pub(crate) fn replay(
    store: &Files,
    dir: &Path,
    known: Option<Known>,
    progress: &ReplayProgress,
    torn: TornEnd,
    mut apply: impl FnMut(Section),
) -> Result<ReplayStats, FileError> {
    let (segments, checkpoints) = list(store, dir)?;
    let mut files: Vec<(PathBuf, Option<u64>)> = Vec::new();
    let covered = checkpoints.last().copied();
    let first = match &known {
        Some(known) => known.first,
        None => {
            files.extend(covered.map(|n| (checkpoint_path(dir, n), None)));
            covered.map_or(0, |n| n + 1)
        }
    };
    let live = segments.iter().copied().filter(|n| *n >= first);
    files.extend(live.map(|n| (segment_path(dir, n), Some(n))));
    let known = known.unwrap_or(Known { min_valid: Timestamp::MIN, ..Known::default() });
    let mut stats = ReplayStats {
        next_segment: segments.last().copied().max(covered).map_or(1, |n| n + 1),
        // but for such as somebody has removed
        segments: known.segments.into_iter().filter(|s| segments.binary_search(&s.number).is_ok()).collect(),
        ..ReplayStats::default()
    };
    let known = known.min_valid;
    let numbers = || files.iter().filter_map(|(_, number)| *number);
    progress.begin(numbers().next().unwrap_or(0), numbers().next_back().unwrap_or(0));
    // one thread reads, checks and decodes, the other applies
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Section>>(16);
        let stats = &mut stats;
        let reader = scope.spawn(move || -> Result<(), FileError> {
            let mut flushed = known;
            for (at, (path, number)) in files.iter().enumerate() {
                if progress.is_stopped() {
                    break;
                }
                number.iter().for_each(|number| progress.at(*number));
                let place = Place { checkpoint: number.is_none(), last: at + 1 == files.len(), torn };
                let (max_time, seen) = read_file(store, path, place, stats, &sender)?;
                stats.segments.extend(number.map(|number| Segment { number, max_time, min_valid: flushed }));
                flushed = flushed.max(seen);
            }
            Ok(())
        });
        for sections in receiver {
            if progress.is_stopped() {
                // the other thread sees that nobody listens
                break;
            }
            sections.into_iter().for_each(&mut apply);
        }
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(stats)
}

/// Which file of the log it is.
#[derive(Clone, Copy)]
struct Place {
    checkpoint: bool,
    last: bool,
    torn: TornEnd,
}

/// Returns the latest sample of the file, and the latest time that is said to be in blocks.
fn read_file(
    files: &Files,
    path: &Path,
    place: Place,
    stats: &mut ReplayStats,
    sender: &mpsc::SyncSender<Vec<Section>>,
) -> Result<(Timestamp, Timestamp), FileError> {
    let mut frames = Frames::open(files, path, *SEGMENT_MAGIC)?;
    // a segment that has just been created may lack its header
    if !(frames.header || place.last && frames.len < SEGMENT_HEADER as u64) {
        stats.damaged += 1;
        tracing::warn!(path = %path.display(), "a log file has a damaged header");
    }
    let mut ended = false;
    let (mut max_time, mut flushed) = (Timestamp::MIN, Timestamp::MIN);
    while let Some(frame) = frames.next()? {
        match frame {
            Frame::Record(payload) => {
                let mut sections = Vec::new();
                match record::decode(&payload, &mut |section| sections.push(section)) {
                    Ok(()) => stats.records += 1,
                    Err(_) => {
                        stats.damaged += 1;
                        tracing::warn!(path = %path.display(), "left out a log record that does not decode");
                    }
                }
                for section in &sections {
                    max_time = max_time.max(latest(section));
                    match section {
                        Section::Flushed(time) => flushed = flushed.max(*time),
                        Section::End => ended = true,
                        _ => {}
                    }
                }
                if sender.send(sections).is_err() {
                    break;
                }
            }
            Frame::Damaged { offset, bytes } => {
                stats.damaged += 1;
                tracing::warn!(path = %path.display(), offset, bytes, "left out a damaged part of the log");
            }
            Frame::Torn { .. } if place.last && place.torn == TornEnd::Keep => {}
            Frame::Torn { offset, bytes } => {
                stats.damaged += 1;
                tracing::warn!(path = %path.display(), offset, bytes, "cut off the damaged end of the log");
                if place.last && frames.header {
                    let file = files.open(path, true)?;
                    file.set_len(offset).map_err(FileError::at("truncate", path))?;
                }
            }
        }
    }
    if place.checkpoint && !ended {
        stats.damaged += 1;
        tracing::warn!(path = %path.display(), "the end of a checkpoint is missing");
    }
    Ok((max_time, flushed))
}

fn latest(section: &Section) -> Timestamp {
    match section {
        Section::Row { time, .. } => *time,
        Section::Samples { times, .. } => times.iter().max().copied().unwrap_or(Timestamp::MIN),
        Section::Histograms { samples, .. } => samples.iter().map(|s| s.1).max().unwrap_or(Timestamp::MIN),
        Section::Series(_)
        | Section::Metadata(_)
        | Section::Exemplars(_)
        | Section::Tombstones(_)
        | Section::Flushed(_)
        | Section::End => Timestamp::MIN,
    }
}

/// What lies in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Record(Vec<u8>),
    /// No record, but one follows.
    Damaged {
        offset: u64,
        bytes: u64,
    },
    /// No record follows.
    Torn {
        offset: u64,
        bytes: u64,
    },
}

/// Reads a file of records front to back, a window at a time.
pub(crate) struct Frames {
    path: PathBuf,
    file: StoreFile,
    len: u64,
    offset: u64,
    /// The header is as it should be.
    pub(crate) header: bool,
    window: Vec<u8>,
    window_start: u64,
}

const WINDOW: usize = 1 << 20;

impl Frames {
    pub(crate) fn open(files: &Files, path: &Path, magic: [u8; 8]) -> Result<Self, FileError> {
        let file = files.open(path, false)?;
        let len = file.len().map_err(FileError::at("read", path))?;
        let mut frames =
            Self { path: path.to_owned(), file, len, offset: 0, header: false, window: Vec::new(), window_start: 0 };
        let start = frames.peek(0, HEADER_WITH_CHECKSUM.min(len as usize))?.unwrap_or_default();
        match read_header(start, magic) {
            Header::Known(len) => {
                frames.offset = len as u64;
                frames.header = true;
            }
            Header::Newer(newer) => return Err(newer.in_file(path)),
            // costs nothing: the name has the number, and records are found by their magic
            Header::Damaged => {}
        }
        Ok(frames)
    }

    /// Goes on reading at an offset where a record begins.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    /// Where the next record begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes notice of what has been written since the file was opened: up to `end`, or all of it.
    pub(crate) fn grow(&mut self, end: Option<u64>) -> Result<(), FileError> {
        self.len = match end {
            Some(end) => end,
            None => self.file.len().map_err(FileError::at("read", &self.path))?,
        };
        Ok(())
    }

    /// Reads no further than up to an offset.
    pub(crate) fn cut(&mut self, end: u64) {
        self.len = self.len.min(end);
    }

    /// Bytes at an offset; `None` if the file ends before.
    fn peek(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>, FileError> {
        if offset + len as u64 > self.len {
            return Ok(None);
        }
        let inside = offset >= self.window_start && offset + len as u64 <= self.window_start + self.window.len() as u64;
        if !inside {
            let size = (len.max(WINDOW) as u64).min(self.len - offset) as usize;
            self.window.resize(size, 0);
            self.file.read_exact_at(&mut self.window, offset).map_err(FileError::at("read", &self.path))?;
            self.window_start = offset;
        }
        let from = (offset - self.window_start) as usize;
        Ok(Some(&self.window[from..from + len]))
    }

    /// The payload of the record at an offset, and where the next one begins, if there is a good one.
    fn record_at(&mut self, offset: u64) -> Result<Option<(Vec<u8>, u64)>, FileError> {
        let Some(header) = self.peek(offset, RECORD_HEADER)? else { return Ok(None) };
        let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (len, sum) = (field(4), field(8));
        if header[..4] != RECORD_MAGIC || len as usize > MAX_RECORD {
            return Ok(None);
        }
        let Some(payload) = self.peek(offset + RECORD_HEADER as u64, len as usize)? else { return Ok(None) };
        if record_checksum(len, payload) != sum {
            return Ok(None);
        }
        let end = offset + (RECORD_HEADER + payload.len()) as u64;
        Ok(packing::unpack(payload).ok().map(|payload| (payload.into_owned(), end)))
    }

    /// What comes next; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FileError> {
        if self.offset >= self.len {
            return Ok(None);
        }
        if let Some((payload, end)) = self.record_at(self.offset)? {
            self.offset = end;
            return Ok(Some(Frame::Record(payload)));
        }
        let start = self.offset;
        let mut at = start + 1;
        while at < self.len {
            let size = (WINDOW as u64).min(self.len - at) as usize;
            let Some(bytes) = self.peek(at, size)? else { break };
            let found = bytes.windows(4).position(|w| w == RECORD_MAGIC);
            match found {
                Some(found) => {
                    at += found as u64;
                    if self.record_at(at)?.is_some() {
                        self.offset = at;
                        return Ok(Some(Frame::Damaged { offset: start, bytes: at - start }));
                    }
                    at += 1;
                }
                // the magic may lie across the border
                None if at + (size as u64) < self.len => at += size as u64 - 3,
                None => break,
            }
        }
        self.offset = self.len;
        Ok(Some(Frame::Torn { offset: start, bytes: self.len - start }))
    }
}

/// The payloads of the good records of a file.
pub(crate) fn records(path: &Path, magic: [u8; 8]) -> Result<Vec<Vec<u8>>, FileError> {
    let mut frames = Frames::open(&Files::default(), path, magic)?;
    let mut found = Vec::new();
    while let Some(frame) = frames.next()? {
        if let Frame::Record(payload) = frame {
            found.push(payload);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::record_header;

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000001");
        std::fs::write(&path, bytes).unwrap();
        let mut frames = Frames::open(&Files::default(), &path, *SEGMENT_MAGIC).unwrap();
        std::iter::from_fn(|| frames.next().unwrap()).collect()
    }

    fn segment(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = crate::version::header(*SEGMENT_MAGIC, 1);
        for payload in payloads {
            bytes.extend_from_slice(&record_header(payload));
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    #[test]
    fn damage_costs_the_record_it_is_in() {
        let payloads: [&[u8]; 3] = [b"first", b"second record", b"third"];
        let good = segment(&payloads);
        let record = |at: usize| Frame::Record(payloads[at].to_vec());
        assert_eq!(frames(&good), [record(0), record(1), record(2)]);
        let second = SEGMENT_HEADER + RECORD_HEADER + 5;
        let third = second + RECORD_HEADER + 13;
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            let found = frames(&bad);
            let lost = match at {
                _ if at < SEGMENT_HEADER => None,
                _ if at < second => Some(0),
                _ if at < third => Some(1),
                _ => Some(2),
            };
            for i in 0..3 {
                assert_eq!(found.contains(&record(i)), lost != Some(i), "byte {at}, record {i}: {found:?}");
            }
        }
        for len in 0..good.len() {
            let found = frames(&good[..len]);
            let whole = [second, third, good.len()].iter().filter(|end| **end <= len).count();
            assert_eq!(found.iter().filter(|f| matches!(f, Frame::Record(_))).count(), whole);
        }
    }
}
