//! Images of the head: all that it holds at one place of the log, so that a start need read the log only from there. The log
//! stays what counts: an image that is missing, damaged, or refers to files that are, costs the time to read all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Timestamp;

use crate::encoding::varint::{self, Reader};
use crate::engine::Engine;
use crate::error::{Damaged, FileError, MaintainError, ReadError};
use crate::files::{Files, StoreFile};
use crate::head::{Bounds, Group, Groups, HistogramSeries, ImageFiles, SeriesIndex};
use crate::metrics::Counters;
use crate::replay::Replayed;
use crate::sample::Exemplar;
use crate::version::{self, LENGTH_FOLLOWS};
use crate::wal::{self, Frame, Frames, Known, Packer, Passing, RecordBuilder, Segment, record, record_header};

pub(crate) const MAGIC: [u8; 8] = *b"FWHEAD\x00\x02";
const PREFIX: &str = "image.";
const TEMPORARY: &str = "image.tmp";

/// Records of about this size are put together before they are written.
const RECORD: usize = 256 << 10;

const STATE: u8 = 1;
const SYMBOLS: u8 = 2;
const SERIES: u8 = 3;
const GROUP: u8 = 4;
const HISTOGRAMS: u8 = 5;
const LOG: u8 = 6;
const END: u8 = 7;

/// What is known of the newest image.
#[derive(Debug, Default)]
pub(crate) struct LastImage {
    bytes: u64,
    /// Bytes the log had been given when it was begun; `None` before the first.
    at: Option<u64>,
    /// What was not worth compressing in it. The next one is much like it.
    passing: Passing,
}

/// When an image is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The log has grown by so much since the last one that reading it would take long: by twice as much as that one has, so that images
    /// are at most half of what is written to the log.
    Grown,
    /// The log has anything that the last one has not.
    Changed,
    /// The head has been cut, so that the last one is of no use any more.
    Always,
}

/// Writes an image if one is due. The caller holds the lock of maintenance, so that nothing is cut meanwhile.
pub(crate) fn write_if_due(db: &Engine, when: When) -> Result<(), MaintainError> {
    let Some(interval) = db.options.image_interval_bytes else { return Ok(()) };
    let given = db.counters.wal_bytes_written.get();
    let due = {
        let last = db.image.lock();
        match when {
            When::Grown => given - last.at.unwrap_or(0) >= interval.max(last.bytes.saturating_mul(2)),
            When::Changed => last.at != Some(given),
            When::Always => true,
        }
    };
    if !due {
        return Ok(());
    }
    let passing = db.image.lock().passing;
    match write(db, passing) {
        Ok((bytes, passing)) => {
            *db.image.lock() = LastImage { bytes, at: Some(given), passing };
            db.counters.images.add(1);
            Ok(())
        }
        Err(error) => {
            db.counters.images_failed.add(1);
            Err(error.into())
        }
    }
}

fn folder(db: &Engine) -> PathBuf {
    db.dir.join("head")
}

/// Writes an image and removes the older ones. The locks are held for as long as it takes to hand the bytes to the system.
fn write(db: &Engine, passing: Passing) -> Result<(u64, Passing), FileError> {
    let (files, dir) = (&db.options.files, folder(db));
    let temporary = dir.join(TEMPORARY);
    let write = || -> Result<(u64, u64, Passing), FileError> {
        let mut wal = db.wal.lock();
        let index = db.index.read();
        let groups = db.groups.lock();
        wal.rotate()?;
        let number = wal.segment();
        let mut writer = ImageWriter::create(files, &temporary, number, passing)?;
        writer.state(&index, &groups, wal.closed(), &db.aliases.lock())?;
        writer.series(&index, &groups)?;
        for group in groups.each() {
            writer.payload.push(GROUP);
            group.put(&mut writer.payload);
            writer.end_record()?;
        }
        for (id, samples) in groups.histograms.sorted() {
            writer.payload.push(HISTOGRAMS);
            varint::put(&mut writer.payload, u64::from(id));
            samples.put(&mut writer.payload);
            writer.end_record()?;
        }
        let mut rest = RecordBuilder::default();
        crate::maintain::put_late(&mut rest, &groups, Timestamp::MAX);
        rest.tombstones(&groups.tombstones);
        rest.metadata(db.metadata.lock().iter().map(|(id, m)| (*id, m)));
        let exemplars = db.exemplars.lock();
        let exemplars = exemplars.in_order().filter_map(|(labels, e)| Some((index.find(labels)?, e.clone())));
        rest.exemplars(&exemplars.collect::<Vec<(u32, Exemplar)>>());
        let area = Arc::clone(&groups.area);
        drop((wal, groups, index));
        writer.payload.push(LOG);
        writer.payload.append(&mut rest.bytes);
        writer.end_record()?;
        writer.payload.push(END);
        writer.end_record()?;
        let (bytes, passing) = writer.finish()?;
        // what it refers to is on the disk before it gets its name, and the log before what stands for it
        area.sync()?;
        db.sync_wal()?;
        let path = path(&dir, number);
        files.rename(&temporary, &path).map_err(FileError::at("rename", &temporary))?;
        files.sync_dir(&dir)?;
        Ok((number, bytes, passing))
    };
    let (number, bytes, passing) = write().inspect_err(|_| files.remove_quietly(&temporary))?;
    for (old, path) in list(files, &dir)? {
        if old != number {
            files.remove_quietly(&path);
        }
    }
    Ok((bytes, passing))
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:08}"))
}

/// The images in a folder, oldest first.
fn list(files: &Files, dir: &Path) -> Result<Vec<(u64, PathBuf)>, FileError> {
    let number = |path: PathBuf| Some((path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()?, path));
    let mut found: Vec<(u64, PathBuf)> = files.list(dir)?.into_iter().filter_map(number).collect();
    found.sort_unstable();
    Ok(found)
}

struct ImageWriter<'a> {
    path: &'a Path,
    file: StoreFile,
    buffer: Vec<u8>,
    /// The record that is being put together.
    payload: Vec<u8>,
    packer: Packer,
    bytes: u64,
}

impl<'a> ImageWriter<'a> {
    fn create(files: &Files, path: &'a Path, number: u64, passing: Passing) -> Result<Self, FileError> {
        let file = files.create(path, false)?;
        let buffer = version::header(MAGIC, number);
        Ok(Self { path, file, buffer, payload: Vec::new(), packer: Packer::going_on(passing), bytes: 0 })
    }

    fn end_record(&mut self) -> Result<(), FileError> {
        self.packer.put(&self.payload, &mut self.buffer);
        self.payload.clear();
        if self.buffer.len() < RECORD { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.file.write_all(&self.buffer).map_err(FileError::at("write", self.path))?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(u64, Passing), FileError> {
        self.flush()?;
        self.file.sync_data().map_err(FileError::at("sync", self.path))?;
        Ok((self.bytes, self.packer.passing()))
    }

    fn state(
        &mut self,
        index: &SeriesIndex,
        groups: &Groups,
        segments: &[Segment],
        aliases: &hashbrown::HashMap<u32, u32>,
    ) -> Result<(), FileError> {
        let out = &mut self.payload;
        out.push(STATE);
        let bounds = &groups.bounds;
        [bounds.min_time, bounds.max_time, bounds.min_valid].iter().for_each(|t| varint::put_signed(out, *t));
        varint::put(out, u64::from(index.next()));
        varint::put(out, segments.len() as u64);
        for segment in segments {
            varint::put(out, segment.number);
            varint::put_signed(out, segment.max_time);
            varint::put_signed(out, segment.min_valid);
        }
        let mut same: Vec<(u32, u32)> = aliases.iter().map(|(alias, id)| (*alias, *id)).collect();
        same.retain(|(_, id)| index.contains(*id));
        same.sort_unstable();
        varint::put(out, same.len() as u64);
        for (alias, id) in same {
            varint::put(out, u64::from(alias));
            varint::put(out, u64::from(id));
        }
        self.end_record()
    }

    fn series(&mut self, index: &SeriesIndex, groups: &Groups) -> Result<(), FileError> {
        for text in index.symbols() {
            if self.payload.is_empty() {
                self.payload.push(SYMBOLS);
            }
            varint::put_bytes(&mut self.payload, text.as_bytes());
            if self.payload.len() >= RECORD {
                self.end_record()?;
            }
        }
        if !self.payload.is_empty() {
            self.end_record()?;
        }
        // what no record names yet will be named behind the image
        for id in index.ids().filter(|id| !groups.unlogged.contains_key(id)) {
            if self.payload.is_empty() {
                self.payload.push(SERIES);
            }
            varint::put(&mut self.payload, u64::from(id));
            index.put_series(id, &mut self.payload);
            if self.payload.len() >= RECORD {
                self.end_record()?;
            }
        }
        if self.payload.is_empty() { Ok(()) } else { self.end_record() }
    }
}

/// Reads the newest image, if there is one that can be used: the head, and what of the log it stands for. One of a newer format is an
/// error, and stays. `blocks` are the ranges of
/// the blocks, ends not included; `new` gives an empty head. What is of no use any more is removed.
pub(crate) fn load(
    files: &Files,
    dir: &Path,
    wal_dir: &Path,
    new: impl Fn() -> Result<Replayed, FileError>,
    blocks: &[(Timestamp, Timestamp)],
    counters: &Counters,
) -> Result<Option<(Replayed, Known)>, FileError> {
    files.remove_quietly(&dir.join(TEMPORARY));
    let mut found = list(files, dir)?;
    let newest = found.pop();
    found.iter().for_each(|(_, path)| files.remove_quietly(path));
    let Some((number, path)) = newest else { return Ok(None) };
    let (segments, checkpoints) = wal::list(files, wal_dir)?;
    let follows = segments.contains(&number) && checkpoints.last().is_none_or(|c| *c < number);
    let read = || -> Result<(Replayed, Known), ReadError> {
        if follows {
            read(files, &path, number, new()?, blocks)
        } else {
            Err(Damaged("the log behind the image").in_file(&path))
        }
    };
    match read() {
        Ok(read) => Ok(Some(read)),
        Err(ReadError::File(error)) if error.is_newer_format() => Err(error),
        Err(error) => {
            tracing::warn!(%error, "an image of the head cannot be used, the whole log is read");
            counters.images_refused.add(1);
            files.remove_quietly(&path);
            Ok(None)
        }
    }
}

fn read(
    files: &Files,
    path: &Path,
    number: u64,
    mut state: Replayed,
    blocks: &[(Timestamp, Timestamp)],
) -> Result<(Replayed, Known), ReadError> {
    let damaged = |what| Damaged(what).in_file(path);
    let mut frames = Frames::open(files, path, MAGIC)?;
    if !frames.header {
        return Err(damaged("header"));
    }
    let area = Arc::clone(&state.groups.area);
    let mut chunks = ImageFiles::new(&area, blocks.to_vec());
    let mut known = Known { segments: Vec::new(), first: number, min_valid: Timestamp::MIN };
    let mut next = 0;
    let mut ended = false;
    while let Some(frame) = frames.next()? {
        let Frame::Record(payload) = frame else { return Err(damaged("record")) };
        let mut reader = Reader::new(&payload, "image of the head");
        let tag = reader.byte().map_err(|e| e.in_file(path))?;
        let outcome = match tag {
            STATE => read_state(&mut reader, &mut state, &mut known).map(|number| next = number),
            SYMBOLS => read_symbols(&mut reader, &mut state.index),
            SERIES => read_series(&mut reader, &mut state),
            GROUP => Group::take(&mut reader, &mut chunks)
                .and_then(|group| if state.groups.restore(group) { Ok(()) } else { Err(Damaged("a group")) }),
            HISTOGRAMS => read_histograms(&mut reader, &mut state, &mut chunks),
            LOG => record::decode(reader.rest, &mut |section| state.apply(section)),
            END => {
                ended = true;
                Ok(())
            }
            // of a newer minor version
            LENGTH_FOLLOWS.. => continue,
            _ => Err(Damaged("a part of unknown kind")),
        };
        outcome.map_err(|e| e.in_file(path))?;
    }
    if !ended {
        return Err(damaged("end"));
    }
    if !chunks.finish()? {
        return Err(damaged("a file of head chunks"));
    }
    state.index.skip(next.saturating_sub(1));
    Ok((state, known))
}

fn read_state(reader: &mut Reader<'_>, state: &mut Replayed, known: &mut Known) -> Result<u32, Damaged> {
    let bounds: &mut Bounds = &mut state.groups.bounds;
    (bounds.min_time, bounds.max_time, bounds.min_valid) = (reader.signed()?, reader.signed()?, reader.signed()?);
    known.min_valid = bounds.min_valid;
    let next = reader.u32()?;
    for _ in 0..reader.count(reader.rest.len())? {
        let (number, max_time, min_valid) = (reader.varint()?, reader.signed()?, reader.signed()?);
        known.segments.push(Segment { number, max_time, min_valid });
    }
    for _ in 0..reader.count(reader.rest.len())? {
        let (alias, id) = (reader.u32()?, reader.u32()?);
        state.aliases.insert(alias, id);
    }
    Ok(next)
}

fn read_symbols(reader: &mut Reader<'_>, index: &mut SeriesIndex) -> Result<(), Damaged> {
    while !reader.is_empty() {
        if !index.restore_symbol(reader.text()?) {
            return Err(reader.damaged());
        }
    }
    Ok(())
}

fn read_series(reader: &mut Reader<'_>, state: &mut Replayed) -> Result<(), Damaged> {
    while !reader.is_empty() {
        let id = reader.u32()?;
        state.index.restore_series(id, reader)?;
        state.groups.create(id);
    }
    Ok(())
}

fn read_histograms(reader: &mut Reader<'_>, state: &mut Replayed, chunks: &mut ImageFiles<'_>) -> Result<(), Damaged> {
    let id = reader.u32()?;
    if !state.groups.contains(id) {
        return Err(reader.damaged());
    }
    let samples = HistogramSeries::take(reader, chunks)?;
    state.groups.histograms.restore(id, samples);
    Ok(())
}

/// The bytes of an image with these records, with the right checksums.
pub(crate) fn from_records(number: u64, records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = version::header(MAGIC, number);
    for payload in records {
        bytes.extend_from_slice(&record_header(payload));
        bytes.extend_from_slice(payload);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;
    use crate::{Db, Options};

    #[test]
    fn what_was_not_worth_compressing_in_one_image_is_not_tried_in_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { background: false, image_interval_bytes: Some(1), ..Options::default() };
        let db = Db::open(dir.path(), options).unwrap();
        let engine = Arc::clone(&db.appender().db);
        let mut random = 7u64;
        let mut passing = Vec::new();
        for row in 0..2 {
            let mut appender = db.appender();
            for name in 0..200 {
                let series = appender.series(&Labels::from_pairs([("__name__", &*format!("m{name}"))])).unwrap();
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                appender.append(series, row * 1000, f64::from_bits(random >> 2)).unwrap();
            }
            appender.commit().unwrap();
            write_if_due(&engine, When::Always).unwrap();
            passing.push(engine.image.lock().passing);
        }
        assert!(passing[0] != Passing::default() && passing[1] != passing[0], "{passing:?}");
    }
}
