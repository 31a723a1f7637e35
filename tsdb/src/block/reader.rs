use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use model::{KeptLabels, Labels, Matcher, NewestAt, Timestamp};
use parking_lot::Mutex;

use crate::block::index_reader::{ColumnPlace, IndexReader, Places, Tables, TimesPlace};
use crate::block::index_writer::TimesEntry;
use crate::block::labels::BlockLabels;
use crate::block::meta::{BlockMeta, magic};
use crate::block::pages::{PageBuffer, PageReader};
use crate::block::tombstone_file;
use crate::encoding::floats::{self, Decoded};
use crate::encoding::histogram;
use crate::encoding::timestamps::{self, NewestRows};
use crate::error::{Damaged, MaintainError, ReadError};
use crate::files::{Files, dir_size};
use crate::head::{Entry, pass_starts, take_starts};
use crate::piece::{Piece, PieceBuffers, Values};
use crate::postings;
use crate::select::LABELS_WORK;
use crate::tombstones::{Interval, Tombstones};
use crate::watch::Pace;

pub(crate) const INDEX: &str = "index";
pub(crate) const DATA: &str = "data";
pub(crate) const DATA_NAME: &[u8; 7] = b"FWCOLUM";

/// Columns, and labels, that room is made for before they are found: memory that grows bit by bit is touched twice.
const MOST_RESERVED: usize = 1 << 20;

/// An open block.
pub(crate) struct Block {
    files: Files,
    pub(crate) dir: PathBuf,
    pub(crate) meta: BlockMeta,
    index: IndexReader,
    data: PageReader,
    tombstones: Mutex<Arc<Tombstones>>,
    pub(crate) bytes: u64,
}

impl Block {
    pub(crate) fn open(files: &Files, dir: &Path) -> Result<Self, ReadError> {
        let meta = BlockMeta::read(files, dir)?;
        let index = IndexReader::open(PageReader::open(files, &dir.join(INDEX))?, meta.version)?;
        let data = PageReader::open(files, &dir.join(DATA))?;
        let expected = magic(DATA_NAME, meta.version);
        if data.read(0, expected.len().min(data.len() as usize), "block data")? != expected {
            return Err(Damaged("block data").in_file(data.path()));
        }
        let tombstones = Mutex::new(Arc::new(tombstone_file::read(files, dir)?));
        let bytes = dir_size(dir);
        Ok(Self { files: files.clone(), dir: dir.to_owned(), meta, index, data, tombstones, bytes })
    }

    /// The meta with the number of series that have deleted ranges now.
    pub(crate) fn meta(&self) -> BlockMeta {
        let mut meta = self.meta.clone();
        meta.stats.num_tombstones = self.tombstones.lock().len() as u64;
        meta
    }

    /// The series that match and have samples in the range, and their labels in order.
    pub(crate) fn select(
        self: &Arc<Self>,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Result<(BlockSelection, Vec<Labels>), ReadError> {
        let (selection, labels) = self.find(matchers, min_time, max_time, KeptLabels::All, &Pace::unwatched())?;
        Ok((selection, labels.all()))
    }

    /// As [`Block::select`], with those labels only that are `kept`; anything if `pace` has said stop.
    pub(crate) fn find(
        self: &Arc<Self>,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        kept: KeptLabels<'_>,
        pace: &Pace<'_>,
    ) -> Result<(BlockSelection, BlockLabels), ReadError> {
        let tables = self.index.tables()?;
        let ids = postings::select(&*tables, matchers, pace)?;
        let places = tables.places()?;
        let deleted = Arc::clone(&self.tombstones.lock());
        let columns = if ids.is_empty() { 0 } else { places.times.len() };
        let mut selection = BlockSelection {
            block: Arc::clone(self),
            ids: Vec::with_capacity(ids.len()),
            columns: Vec::new(),
            ends: Vec::with_capacity(ids.len()),
            times: (0..columns).map(|_| OnceLock::new()).collect(),
            newest: OnceLock::new(),
            uses: vec![0; columns],
            end: (0, 0),
            places: Arc::clone(places),
            deleted,
        };
        let mut labels = BlockLabels::new(Arc::clone(&tables));
        tables.series(&ids, (min_time, max_time), kept, |id, entry| {
            if let Some(entry) = entry {
                // those that match are mostly alike
                if selection.ids.is_empty() {
                    selection.columns.reserve((ids.len() * entry.columns.len()).min(MOST_RESERVED));
                    labels.reserve(ids.len(), (ids.len() * entry.symbols.len()).min(MOST_RESERVED));
                }
                selection.ids.push(id);
                for column in entry.columns {
                    let uses = &mut selection.uses[column.times() as usize];
                    *uses = uses.saturating_add(1);
                }
                selection.columns.extend_from_slice(entry.columns);
                selection.ends.push(selection.columns.len() as u32);
                let bytes = labels.push(entry.symbols);
                pace.found(1, bytes + size_of_val(entry.columns) + 16);
            }
            pace.done(LABELS_WORK)
        })?;
        selection.end = selection.find_end();
        Ok((selection, labels))
    }

    /// Calls `each` with the index.
    pub(crate) fn with_index<T>(&self, each: impl FnOnce(&Tables) -> Result<T, ReadError>) -> Result<T, ReadError> {
        each(&*self.index.tables()?)
    }

    /// Reads all of the index but its series, for who wants to know whether it can be read.
    pub(crate) fn check_index(&self) -> Result<(), ReadError> {
        self.index.tables()?.check()
    }

    /// Deletes samples of the matching series; durable when it returns. Says whether any series was concerned.
    pub(crate) fn delete(
        self: &Arc<Self>,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Result<bool, MaintainError> {
        let (selection, _) = self.select(matchers, min_time, max_time)?;
        if selection.ids.is_empty() {
            return Ok(false);
        }
        let mut tombstones = self.tombstones.lock();
        let mut changed = Tombstones::clone(&tombstones);
        for id in &selection.ids {
            changed.add(*id, Interval { min: min_time, max: max_time });
        }
        tombstone_file::write(&self.files, &self.dir, &changed)?;
        *tombstones = Arc::new(changed);
        Ok(true)
    }

    pub(crate) fn has_tombstones(&self) -> bool {
        !self.tombstones.lock().is_empty()
    }

    /// Bytes of the index's file.
    pub(crate) fn index_file_bytes(&self) -> u64 {
        self.index.file_bytes()
    }

    /// Has the system begin to read the index, for who will soon be asked for the block.
    pub(crate) fn read_index_ahead(&self) {
        self.index.read_ahead();
    }

    pub(crate) fn index_bytes(&self) -> usize {
        self.index.loaded_bytes()
    }

    pub(crate) fn unload_index(&self) {
        self.index.unload();
    }
}

/// What has been read of a block by who goes through its series: their columns lie side by side, and so do those of their timestamps.
#[derive(Default)]
pub(crate) struct BlockBuffers {
    values: PageBuffer,
    times: PageBuffer,
    /// Timestamps of which only some are needed.
    in_range: Vec<Timestamp>,
}

/// A row of a timestamp column and its time, if there is one.
type NewestRow = Option<(usize, Timestamp)>;

/// The newest row in a range.
type NewestInRange = ((Timestamp, Timestamp), NewestRow);

/// What is known of the newest float sample of a series in a range.
pub(crate) enum NewestFloat {
    /// Its time and value, if there is one.
    Sample(Option<(Timestamp, f64)>),
    /// There are histograms or deleted samples to look at.
    Unclear,
}

/// A value column and the range of its timestamps.
#[derive(Clone, Copy)]
pub(crate) struct BlockColumn {
    place: ColumnPlace,
    pub(crate) range: (Timestamp, Timestamp),
}

/// The series of a block that match a request.
pub(crate) struct BlockSelection {
    block: Arc<Block>,
    ids: Vec<u32>,
    /// Those of one series after the other.
    columns: Vec<ColumnPlace>,
    /// Where in `columns` those of each series end.
    ends: Vec<u32>,
    /// Timestamp columns that have been read and that several series have.
    times: Vec<OnceLock<Arc<[Timestamp]>>>,
    /// Of each such column that was asked for it, the newest row in a range.
    newest: OnceLock<Vec<OnceLock<NewestInRange>>>,
    /// How many value columns use each of them, as far as that can be told from many.
    uses: Vec<u8>,
    /// Where the value columns and the timestamp columns end in the data file.
    end: (u64, u64),
    places: Arc<Places>,
    deleted: Arc<Tombstones>,
}

impl BlockSelection {
    pub(crate) fn path(&self) -> &Path {
        self.block.data.path()
    }

    pub(crate) fn tombstones(&self, at: usize) -> &[Interval] {
        self.deleted.get(self.ids[at])
    }

    /// Keeps some of the series.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        let kept = |at: &usize| keep.get(*at).is_some_and(|keep| *keep);
        let (mut columns, mut ends) = (Vec::new(), Vec::new());
        for at in (0..self.ids.len()).filter(kept) {
            columns.extend_from_slice(self.columns_of(at));
            ends.push(columns.len() as u32);
        }
        (self.columns, self.ends) = (columns, ends);
        let mut keep = keep.iter();
        self.ids.retain(|_| keep.next().is_some_and(|keep| *keep));
    }

    /// Where the last value column and the last timestamp column end.
    fn find_end(&self) -> (u64, u64) {
        let values = self.columns.iter().map(|column| column.offset.saturating_add(u64::from(column.len)));
        let used = self.places.times.iter().zip(&self.uses).filter(|(_, uses)| **uses > 0);
        let times = used.map(|(place, _)| place.offset.saturating_add(u64::from(place.entry.len)));
        (values.max().unwrap_or(0), times.max().unwrap_or(0))
    }

    /// For who begins to go through the series.
    pub(crate) fn buffers(&self) -> BlockBuffers {
        let (values, times) = self.end;
        BlockBuffers { values: PageBuffer::upto(values), times: PageBuffer::upto(times), in_range: Vec::new() }
    }

    /// Has the system begin to read the columns of all series where they lie scattered, at most so many bytes: while the first are decoded
    /// the next come from the disk, and what lies between them does not. Gives how many bytes these are.
    pub(crate) fn read_ahead(&self, most: u64) -> u64 {
        let times = self.columns.iter().map(|column| {
            let TimesPlace { entry, offset } = self.places.times[column.times() as usize];
            offset..offset.saturating_add(u64::from(entry.len))
        });
        let values =
            self.columns.iter().map(|column| column.offset..column.offset.saturating_add(u64::from(column.len)));
        let data = &self.block.data;
        let bytes = each_extent(times, most, |extent| data.read_ahead(extent));
        bytes + each_extent(values, most - bytes, |extent| data.read_ahead(extent))
    }

    fn columns_of(&self, at: usize) -> &[ColumnPlace] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.columns[start as usize..self.ends[at] as usize]
    }

    /// A timestamp column. Those that several series have are kept.
    fn times(&self, number: u32, pages: &mut PageBuffer) -> Result<Arc<[Timestamp]>, ReadError> {
        let slot = &self.times[number as usize];
        if let Some(times) = slot.get() {
            return Ok(Arc::clone(times));
        }
        let mut times = Vec::new();
        self.decode_times(number, (Timestamp::MIN, Timestamp::MAX), pages, &mut times)?;
        Ok(if self.is_alone(number) { times.into() } else { Arc::clone(slot.get_or_init(|| times.into())) })
    }

    /// Appends the part of a timestamp column that is in a range, and gives which rows these are.
    fn decode_times(
        &self,
        number: u32,
        range: (Timestamp, Timestamp),
        pages: &mut PageBuffer,
        out: &mut Vec<Timestamp>,
    ) -> Result<Range<usize>, ReadError> {
        let place = self.places.times[number as usize];
        let bytes = self.block.data.read_on(pages, place.offset, place.entry.len as usize, "timestamp column")?;
        timestamps::decode_range(bytes, place.entry.rows as usize, range, out).map_err(|e| e.in_file(self.path()))
    }

    /// Whether one series alone has a timestamp column. It is not kept for others: with as many columns as series that would be all there is.
    fn is_alone(&self, number: u32) -> bool {
        self.uses[number as usize] < 2
    }

    /// Appends the float samples of a series.
    pub(crate) fn pieces<'a>(
        &'a self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        read: &mut BlockBuffers,
        buffers: &mut PieceBuffers,
        out: &mut Vec<Piece<'a>>,
    ) -> Result<(), ReadError> {
        let range = (min_time, max_time);
        for (column, _) in self.overlapping(at, (min_time, max_time)).filter(|(column, _)| !column.is_histogram()) {
            let count = self.places.times[column.times() as usize].entry.rows as usize;
            let bytes =
                self.block.data.read_on(&mut read.values, column.offset, column.len as usize, "value column")?;
            let (starts, values) = take_starts(bytes, count).map_err(|e| e.in_file(self.path()))?;
            let values = Values::encoded(values, &mut buffers.encoded);
            if self.is_alone(column.times()) {
                let from = buffers.times.len();
                let rows = self.decode_times(column.times(), range, &mut read.times, &mut buffers.times)?;
                if !rows.is_empty() {
                    out.push(Piece::alone((from, rows, count), values, starts, buffers));
                }
            } else {
                let times = self.times(column.times(), &mut read.times)?;
                out.extend(Piece::new(times, true, values, starts, range));
            }
        }
        Ok(())
    }

    /// Appends the float columns of a series that overlap a range, if no other series has their timestamps and there are no histograms and
    /// deleted samples to look at.
    pub(crate) fn columns_alone(&self, at: usize, range: (Timestamp, Timestamp), out: &mut Vec<BlockColumn>) -> bool {
        for (place, entry) in self.overlapping(at, range) {
            if place.is_histogram() || !self.is_alone(place.times()) {
                return false;
            }
            out.push(BlockColumn { place: *place, range: (entry.min, entry.max) });
        }
        self.tombstones(at).is_empty()
    }

    /// Writes the newest floats of a column at some times where there are some; `rows` has room for a row at each.
    pub(crate) fn newest_at(
        &self,
        column: &BlockColumn,
        at: NewestAt,
        presence: bool,
        read: &mut BlockBuffers,
        scratch: &mut Decoded,
        (rows, out): (&mut [u32], &mut [f64]),
    ) -> Result<(), ReadError> {
        let BlockColumn { place, .. } = column;
        let TimesPlace { entry, offset } = self.places.times[place.times() as usize];
        let count = entry.rows as usize;
        let damaged = |e: Damaged| e.in_file(self.path());
        let times = self.block.data.read_on(&mut read.times, offset, entry.len as usize, "timestamp column")?;
        timestamps::newest_rows(times, count, NewestRows::new(at, rows)).map_err(damaged)?;
        let bytes = self.block.data.read_on(&mut read.values, place.offset, place.len as usize, "value column")?;
        let values = pass_starts(bytes).map_err(damaged)?;
        floats::decode_picked(values, count, rows, presence, scratch, out).map_err(damaged)
    }

    /// The newest float sample of a series in a range, where nothing else is to be looked at.
    pub(crate) fn newest(
        &self,
        at: usize,
        range: (Timestamp, Timestamp),
        presence: bool,
        read: &mut BlockBuffers,
        scratch: &mut Decoded,
    ) -> Result<NewestFloat, ReadError> {
        if !self.tombstones(at).is_empty() {
            return Ok(NewestFloat::Unclear);
        }
        let mut newest: Option<(Timestamp, &ColumnPlace, usize)> = None;
        for (column, _) in self.overlapping(at, range) {
            if column.is_histogram() {
                return Ok(NewestFloat::Unclear);
            }
            if let Some((row, time)) = self.newest_row(column.times(), range, read)?
                && newest.is_none_or(|(known, ..)| known < time)
            {
                newest = Some((time, column, row));
            }
        }
        let Some((time, column, row)) = newest else { return Ok(NewestFloat::Sample(None)) };
        let count = self.places.times[column.times() as usize].entry.rows as usize;
        let bytes = self.block.data.read_on(&mut read.values, column.offset, column.len as usize, "value column")?;
        let value = pass_starts(bytes)
            .and_then(|values| floats::decode_row(values, count, row, presence, scratch))
            .map_err(|e| e.in_file(self.path()))?;
        Ok(NewestFloat::Sample(Some((time, value))))
    }

    fn newest_row(
        &self,
        number: u32,
        range: (Timestamp, Timestamp),
        read: &mut BlockBuffers,
    ) -> Result<NewestRow, ReadError> {
        let entry = self.places.times[number as usize].entry;
        if (range.0..=range.1).contains(&entry.max) {
            return Ok((entry.rows as usize).checked_sub(1).map(|row| (row, entry.max)));
        }
        let slot = if self.is_alone(number) {
            None
        } else {
            let slots = self.newest.get_or_init(|| self.times.iter().map(|_| OnceLock::new()).collect());
            slots.get(number as usize)
        };
        if let Some((known, row)) = slot.and_then(OnceLock::get)
            && *known == range
        {
            return Ok(*row);
        }
        let BlockBuffers { times, in_range, .. } = read;
        in_range.clear();
        let rows = self.decode_times(number, range, times, in_range)?;
        let row = in_range.last().map(|time| (rows.end - 1, *time));
        // who asks for another range later finds it out each time
        slot.map(|slot| slot.get_or_init(|| (range, row)));
        Ok(row)
    }

    /// Appends the histogram samples of a series.
    pub(crate) fn histograms(
        &self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        read: &mut BlockBuffers,
        out: &mut Vec<Entry>,
    ) -> Result<(), ReadError> {
        for (column, _) in self.overlapping(at, (min_time, max_time)).filter(|(column, _)| column.is_histogram()) {
            let times = self.times(column.times(), &mut read.times)?;
            let bytes = self.block.data.read(column.offset, column.len as usize, "histogram column")?;
            let damaged = |e: Damaged| e.in_file(self.path());
            let (starts, rest) = take_starts(&bytes, times.len()).map_err(damaged)?;
            let samples = histogram::decode(rest, times.len()).map_err(damaged)?;
            let starts = starts.unwrap_or_else(|| vec![0; times.len()]);
            let entries = times.iter().zip(starts).zip(samples);
            let entries = entries.map(|((time, start), sample)| Entry { time: *time, start, sample, late: false });
            out.extend(entries.filter(|e| (min_time..=max_time).contains(&e.time)));
        }
        Ok(())
    }

    /// The columns of a series whose timestamps overlap a range, with what is known of these.
    fn overlapping(
        &self,
        at: usize,
        (min_time, max_time): (Timestamp, Timestamp),
    ) -> impl Iterator<Item = (&ColumnPlace, TimesEntry)> {
        let columns =
            self.columns_of(at).iter().map(|column| (column, self.places.times[column.times() as usize].entry));
        columns.filter(move |(_, entry)| entry.min <= max_time && entry.max >= min_time)
    }
}

/// Columns that are at most so many bytes apart are read ahead in one go.
const NEAR: u64 = 32 << 10;

/// Who goes through so much gets the rest in time from the system by itself, and in larger pieces of memory than on demand.
const LARGE: u64 = 2 << 20;

/// Calls `each` with where columns lie that are near each other and not very many, until these are `most` bytes, and gives how many they
/// are. Columns that go back to what has been there are passed over.
fn each_extent(columns: impl Iterator<Item = Range<u64>>, most: u64, mut each: impl FnMut(Range<u64>)) -> u64 {
    let (mut extent, mut bytes) = (0..0u64, 0);
    let mut end = |extent: Range<u64>| {
        let len = extent.end - extent.start;
        if len > 0 && len < LARGE.min(most - bytes) {
            bytes += len;
            each(extent);
        }
    };
    for column in columns {
        if column.start < extent.end || column.is_empty() {
            continue;
        }
        if column.start - extent.end > NEAR || extent.is_empty() {
            end(std::mem::replace(&mut extent, column.clone()));
        }
        extent.end = column.end;
    }
    end(extent);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_are_near_are_one_extent() {
        let (second, third) = (20 + NEAR, 28 + 2 * NEAR);
        let (fourth, fifth) = (third + 9 + 2 * NEAR, third + 10 + 3 * NEAR + LARGE);
        let columns = [
            5..15,
            15..20,
            5..15,
            15..20,
            0..3,
            20..20,
            second..second + 7,
            third..third + 9,
            fourth..fourth + LARGE,
            fifth..fifth + 1,
            5..15,
        ];
        let extents = |most| {
            let mut found = Vec::new();
            let bytes = each_extent(columns.iter().cloned(), most, |extent| found.push(extent));
            assert_eq!(bytes, found.iter().map(|extent| extent.end - extent.start).sum::<u64>());
            found
        };
        assert_eq!(extents(u64::MAX), [5..second + 7, third..third + 9, fifth..fifth + 1]);
        assert_eq!(extents(15), [third..third + 9, fifth..fifth + 1]);
        assert_eq!(extents(0), []);
    }
}
