use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use model::Timestamp;

use crate::encoding::varint::Reader;
use crate::encoding::{floats, integers, timestamps, varint};
use crate::error::{Damaged, ReadError};
use crate::head::spill::{ImageFiles, SpillArea, Stored};
use crate::head::tail::{RowSet, Tail, TailColumn, TailColumns, TailParts};
use crate::wal::record::{put_ids, take_ids_up_to};

/// Sealed rows of a group: sets of columns, each set with a timestamp column.
#[derive(Debug)]
pub(crate) struct HeadChunk {
    pub(crate) sets: Box<[ChunkSet]>,
    stored: Stored,
}

/// Columns of equal timestamps, or columns each with its own. In the stored bytes at `offset`: for each column and once more the end of
/// its bytes (u32, from `offset`), then the timestamp column, then the value columns. Where each has its own timestamps there is none for
/// all of them, and before each value column stand its number of rows (varint) and its timestamp column (length, bytes).
#[derive(Debug)]
pub(crate) struct ChunkSet {
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    /// 0 if each column has its own timestamps.
    pub(crate) rows: u32,
    offset: u32,
    /// The series of each column; the same `Arc` as in the chunk before if they are the same.
    pub(crate) series: Arc<[u32]>,
}

/// The timestamps of a column that shares them with no other; `None` if it does.
pub(crate) type OwnTimes = Option<Arc<[Timestamp]>>;

/// A set of so many bytes is read at once.
const SMALL: usize = 4096;
/// What stands before the end of a column with a smaller number is read with it.
const NEAR: u32 = 256;
/// So few columns with equal timestamps that are not those of rows lie among those that have their own: a set has its price.
const FEW: usize = 4;
/// More rows than any tail has.
const MAX_ROWS: usize = 1 << 16;
/// More series than any group has.
const MAX_SERIES: usize = 1 << 24;

impl ChunkSet {
    /// Whether a range has a time between the first and the last of the set.
    pub(crate) fn overlaps(&self, min_time: Timestamp, max_time: Timestamp) -> bool {
        self.min_time <= max_time && self.max_time >= min_time
    }

    fn new(
        (min_time, max_time): (Timestamp, Timestamp),
        rows: usize,
        offset: usize,
        ids: Vec<u32>,
        last: Option<&Arc<[u32]>>,
    ) -> Self {
        let series = match last {
            Some(last) if last[..] == ids => Arc::clone(last),
            _ => ids.into(),
        };
        Self { min_time, max_time, rows: rows as u32, offset: offset as u32, series }
    }
}

/// Writes the columns of a set behind the table of their ends.
struct SetWriter<'a> {
    bytes: &'a mut Vec<u8>,
    offset: usize,
    column: usize,
}

impl<'a> SetWriter<'a> {
    fn new(bytes: &'a mut Vec<u8>, columns: usize) -> Self {
        let offset = bytes.len();
        bytes.resize(offset + (columns + 1) * 4, 0);
        Self { bytes, offset, column: 0 }
    }

    /// Notes where a column ends; the first is that of the timestamps.
    fn end_column(&mut self) {
        let end = ((self.bytes.len() - self.offset) as u32).to_le_bytes();
        let at = self.offset + self.column * 4;
        self.bytes[at..at + 4].copy_from_slice(&end);
        self.column += 1;
    }
}

/// The columns of a tail while they are sealed, some after the other: of those that are done only the encoded bytes are held.
#[derive(Default)]
pub(crate) struct Sealing {
    sets: Vec<SealingSet>,
    /// The number of the set that has these timestamps and is [`RowSet::scattered`] or not.
    numbers: HashMap<(Vec<Timestamp>, bool), usize>,
    columns: usize,
}

#[derive(Default)]
struct SealingSet {
    /// Place among all columns, series, and end in `bytes`.
    columns: Vec<(usize, u32, usize)>,
    bytes: Vec<u8>,
}

impl SealingSet {
    /// Place, series and bytes of each column.
    fn columns(&self) -> impl Iterator<Item = (usize, u32, &[u8])> {
        let mut from = 0;
        self.columns.iter().map(move |(place, series, end)| {
            let bytes = &self.bytes[from..*end];
            from = *end;
            (*place, *series, bytes)
        })
    }
}

impl Sealing {
    /// Adds all columns of a tail; `series` names theirs.
    pub(crate) fn add_all(&mut self, tail: &Tail, series: &[u32]) {
        // cannot be: these are our own bytes, never out of memory
        let lost = |error| tracing::error!(?error, "rows of the head are lost until the next start");
        let mut parts = match TailParts::new(tail, series.len()) {
            Ok(parts) => parts,
            Err(error) => return lost(error),
        };
        while let Some((columns, decoded)) = parts.next() {
            match decoded {
                Ok(mut decoded) => {
                    self.add(&mut decoded, &series[columns]);
                    decoded.reuse();
                }
                Err(error) => lost(error),
            }
        }
    }

    /// Adds the next columns; `series` names theirs.
    fn add(&mut self, columns: &mut TailColumns, series: &[u32]) {
        for RowSet { times, members, scattered } in columns.share_rows() {
            let fresh = self.sets.len();
            let number = *self.numbers.entry((times, scattered)).or_insert(fresh);
            if number == fresh {
                self.sets.push(SealingSet::default());
            }
            let set = &mut self.sets[number];
            for at in members {
                let column = &columns.columns[at];
                put_value_column(&column.values, &starts_of(column), &mut set.bytes);
                set.columns.push((self.columns + at, series[at], set.bytes.len()));
            }
        }
        self.columns += series.len();
    }

    /// The chunk, if there is a sample in it; `last` is the series list of the chunk before.
    pub(crate) fn finish(self, last: Option<&Arc<[u32]>>, area: &SpillArea) -> Option<HeadChunk> {
        let mut bytes =
            Vec::with_capacity(self.sets.iter().map(|set| set.bytes.len() + set.columns.len() * 4 + 64).sum());
        let mut sets = Vec::new();
        let mut times_of: Vec<(Vec<Timestamp>, bool)> = vec![Default::default(); self.sets.len()];
        self.numbers.into_iter().for_each(|(key, number)| times_of[number] = key);
        let mut own = Vec::new();
        for (set, (times, scattered)) in self.sets.iter().zip(&times_of) {
            if *scattered && set.columns.len() < FEW {
                own.extend(set.columns().map(|(place, series, column)| (place, series, times, column)));
                continue;
            }
            let mut writer = SetWriter::new(&mut bytes, set.columns.len());
            timestamps::encode(times, writer.bytes);
            writer.end_column();
            for (_, _, column) in set.columns() {
                writer.bytes.extend_from_slice(column);
                writer.end_column();
            }
            let span = (times[0], times[times.len() - 1]);
            let ids = set.columns.iter().map(|(_, series, _)| *series).collect();
            sets.push(ChunkSet::new(span, times.len(), writer.offset, ids, last));
        }
        own.sort_unstable_by_key(|(place, ..)| *place);
        let first = own.iter().map(|(_, _, times, _)| times[0]).min();
        let newest = own.iter().map(|(_, _, times, _)| times[times.len() - 1]).max();
        if let (Some(first), Some(newest)) = (first, newest) {
            let mut writer = SetWriter::new(&mut bytes, own.len());
            writer.end_column();
            let mut encoded = Vec::new();
            for (_, _, times, column) in &own {
                encoded.clear();
                timestamps::encode(times, &mut encoded);
                varint::put(writer.bytes, times.len() as u64);
                varint::put_bytes(writer.bytes, &encoded);
                writer.bytes.extend_from_slice(column);
                writer.end_column();
            }
            let ids = own.iter().map(|(_, series, ..)| *series).collect();
            sets.push(ChunkSet::new((first, newest), 0, writer.offset, ids, last));
        }
        (!sets.is_empty()).then(|| HeadChunk { sets: sets.into(), stored: area.store(&bytes) })
    }
}

impl HeadChunk {
    /// Appends what is known of the chunk, for an image of the head; `last` is the series list of the set before.
    ///
    /// ```text
    /// number of sets, for each: first and last time (zigzag), rows, offset, 0 (u8) for the series of the set before or 1 and a series
    /// list; where the bytes lie
    /// ```
    pub(crate) fn put<'a>(&'a self, last: &mut Option<&'a Arc<[u32]>>, out: &mut Vec<u8>) {
        varint::put(out, self.sets.len() as u64);
        for set in &self.sets {
            varint::put_signed(out, set.min_time);
            varint::put_signed(out, set.max_time);
            varint::put(out, u64::from(set.rows));
            varint::put(out, u64::from(set.offset));
            if last.is_some_and(|last| Arc::ptr_eq(last, &set.series)) {
                out.push(0);
            } else {
                out.push(1);
                put_ids(out, &set.series);
                *last = Some(&set.series);
            }
        }
        self.stored.put(out);
    }

    /// Reads what [`HeadChunk::put`] wrote; `None` if its file is gone and blocks have what was in it.
    pub(crate) fn take(
        reader: &mut Reader<'_>,
        last: &mut Option<Arc<[u32]>>,
        files: &mut ImageFiles<'_>,
    ) -> Result<Option<Self>, Damaged> {
        let mut sets = Vec::new();
        for _ in 0..reader.count(reader.rest.len())? {
            let (min_time, max_time) = (reader.signed()?, reader.signed()?);
            let (rows, offset) = (reader.u32()?, reader.u32()?);
            if reader.byte()? != 0 {
                *last = Some(take_ids_up_to(reader, MAX_SERIES)?.into());
            }
            let series = last.clone().ok_or(reader.damaged())?;
            sets.push(ChunkSet { min_time, max_time, rows, offset, series });
        }
        let stored = Stored::take(reader, files)?;
        let Some(stored) = stored else {
            let covered = sets.iter().all(|s| files.in_blocks(s.min_time, s.max_time));
            return if covered { Ok(None) } else { Err(Damaged("a file of head chunks")) };
        };
        Ok(Some(Self { sets: sets.into(), stored }))
    }

    pub(crate) fn max_time(&self) -> Timestamp {
        self.sets.iter().map(|s| s.max_time).max().unwrap_or(Timestamp::MIN)
    }

    pub(crate) fn min_time(&self) -> Timestamp {
        self.sets.iter().map(|s| s.min_time).min().unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.sets.len() * size_of::<ChunkSet>() + self.stored.heap_bytes()
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.stored.file_bytes()
    }

    fn damaged(&self, damaged: Damaged) -> ReadError {
        damaged.in_file(self.stored.path())
    }

    /// Opens a set to read some of its columns; if they have at most `kept` bytes together, these are read at once and kept.
    pub(crate) fn open_set(&self, set: usize, columns: Range<u32>, kept: usize) -> Result<OpenSet, ReadError> {
        let ChunkSet { offset, rows, series, .. } = &self.sets[set];
        let (offset, first) = (*offset as usize, columns.start);
        let end = self.sets.get(set + 1).map_or(self.stored.len(), |next| next.offset as usize);
        let len = end.checked_sub(offset).ok_or_else(|| self.damaged(Damaged("chunk")))?;
        // one that is small is read at once
        let all = if len <= SMALL { Some(self.stored.read(offset, len)?) } else { None };
        let read = |range: Range<usize>| -> Result<Cow<'_, [u8]>, ReadError> {
            match &all {
                Some(all) => all.get(range).map(Cow::Borrowed).ok_or_else(|| self.damaged(Damaged("chunk"))),
                None => Ok(Cow::Owned(self.stored.read(offset + range.start, range.len())?)),
            }
        };
        let end_of = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // the end of the timestamps stands in front of all
        let skipped = if first < NEAR { 0 } else { first };
        let table = read(skipped as usize * 4..(columns.end as usize + 1) * 4)?;
        let ends: Vec<u32> = table.chunks_exact(4).map(end_of).collect();
        let times_end =
            if skipped == 0 { ends.first().copied() } else { read(0..4)?.chunks_exact(4).map(end_of).next() };
        let from = (series.len() + 1) * 4;
        let times_end = times_end.unwrap_or(0) as usize;
        if times_end < from {
            return Err(self.damaged(Damaged("chunk")));
        }
        let times = match *rows {
            0 => Vec::new(),
            rows => timestamps::decode(&read(from..times_end)?, rows as usize).map_err(|e| self.damaged(e))?,
        };
        let ends = ends.get((first - skipped) as usize..).unwrap_or_default();
        let values = match ends {
            [start, .., end] if end.checked_sub(*start).is_some_and(|len| len as usize <= kept) => {
                Some(read(*start as usize..*end as usize)?.into())
            }
            _ => None,
        };
        Ok(OpenSet { first, ends: ends.into(), times: times.into(), values })
    }

    /// The bytes of a value column, which may be read into `scratch`.
    pub(crate) fn column<'a>(
        &self,
        set: usize,
        open: &'a OpenSet,
        column: u32,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], ReadError> {
        let at = column.checked_sub(open.first).map(|at| at as usize);
        let ends = at.and_then(|at| open.ends.get(at..at + 2));
        let len = ends.and_then(|ends| ends[1].checked_sub(ends[0])).ok_or_else(|| self.damaged(Damaged("chunk")))?;
        let from = ends.map_or(0, |ends| ends[0]);
        if let (Some(values), Some(start)) = (&open.values, open.ends.first()) {
            let bytes = values.get(from.wrapping_sub(*start) as usize..).and_then(|bytes| bytes.get(..len as usize));
            return bytes.ok_or_else(|| self.damaged(Damaged("chunk")));
        }
        self.stored.read_into(self.sets[set].offset as usize + from as usize, len as usize, scratch)?;
        Ok(scratch)
    }

    /// The timestamps that a column has to itself, if so it has, and what else there is of its bytes.
    pub(crate) fn take_times<'a>(&self, set: usize, bytes: &'a [u8]) -> Result<(OwnTimes, &'a [u8]), ReadError> {
        if self.sets[set].rows > 0 {
            return Ok((None, bytes));
        }
        let own = || {
            let mut reader = Reader::new(bytes, "chunk");
            let rows = reader.count(MAX_ROWS)?;
            Ok((Some(timestamps::decode(reader.bytes()?, rows)?.into()), reader.rest))
        };
        own().map_err(|e| self.damaged(e))
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.stored.path()
    }
}

fn starts_of(column: &TailColumn) -> Vec<Timestamp> {
    if column.starts.is_empty() {
        return Vec::new();
    }
    let mut starts = vec![0; column.values.len()];
    for (row, time) in &column.starts {
        let at = column.rows.as_ref().map_or(Ok(*row as usize), |rows| rows.binary_search(row));
        if let Some(to) = at.ok().and_then(|at| starts.get_mut(at)) {
            *to = *time;
        }
    }
    starts
}

/// The parts of a set that are read once.
#[derive(Debug)]
pub(crate) struct OpenSet {
    /// The first column that can be read.
    first: u32,
    /// Where it begins, and where it and those behind it end.
    ends: Box<[u32]>,
    /// The bytes of all of them, if they are kept.
    values: Option<Box<[u8]>>,
    pub(crate) times: Arc<[Timestamp]>,
}

impl OpenSet {
    /// Bytes of columns that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.len())
    }
}

/// Appends a value column and its start timestamps (none, or one for each value).
///
/// ```text
/// length of the starts (varint), 0 if there are none
/// starts   an integer column
/// values   a float column
/// ```
pub(crate) fn put_value_column(values: &[f64], starts: &[Timestamp], out: &mut Vec<u8>) {
    put_starts(starts, out);
    floats::encode(values, out);
}

/// Appends start timestamps as [`put_value_column`] does.
pub(crate) fn put_starts(starts: &[Timestamp], out: &mut Vec<u8>) {
    if starts.is_empty() {
        out.push(0);
    } else {
        let mut bytes = Vec::new();
        integers::encode(starts, &mut bytes);
        varint::put_bytes(out, &bytes);
    }
}

/// Takes start timestamps off a column and returns the bytes of the values.
pub(crate) fn take_starts(bytes: &[u8], count: usize) -> Result<(Option<Vec<Timestamp>>, &[u8]), Damaged> {
    let mut reader = varint::Reader::new(bytes, "value column");
    let starts = reader.bytes()?;
    if starts.is_empty() {
        return Ok((None, reader.rest));
    }
    let mut times = Vec::new();
    integers::decode(&mut varint::Reader::new(starts, "start timestamps"), count, |t| times.push(t))?;
    Ok((Some(times), reader.rest))
}

/// What of a value column lies behind the start timestamps.
pub(crate) fn pass_starts(bytes: &[u8]) -> Result<&[u8], Damaged> {
    let mut reader = varint::Reader::new(bytes, "value column");
    reader.bytes()?;
    Ok(reader.rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::head::Group;
    use crate::head::group::Last;

    #[test]
    fn a_set_is_opened_for_the_columns_that_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        for area in [SpillArea::open(&Files::default(), dir.path()).unwrap(), SpillArea::heap_only()] {
            let mut group = Group::new();
            (0..1000).for_each(|series| _ = group.add(series, Last::NEVER));
            group.lay_out();
            for time in [1000, 1700, 2000] {
                let values: Vec<f64> = (0..1000).map(|column| f64::from(column * column) + time as f64).collect();
                group.push_row(time, &values, None);
            }
            group.seal(&area);
            let chunk = &group.chunks[0];
            let mut scratch = Vec::new();
            for (range, kept) in [0..1000, 0..1, 1..3, 255..260, 256..257, 300..999, 999..1000]
                .into_iter()
                .flat_map(|range| [(range.clone(), 0), (range.clone(), 100), (range, usize::MAX)])
            {
                let open = chunk.open_set(0, range.clone(), kept).unwrap();
                assert_eq!(open.kept() > 0, kept > 0 && (kept > 100 || range.len() < 6), "{range:?} {kept}");
                assert_eq!(open.times[..], [1000, 1700, 2000], "{range:?}");
                for column in range.clone() {
                    let bytes = chunk.column(0, &open, column, &mut scratch).unwrap();
                    let mut values = Vec::new();
                    floats::decode(take_starts(bytes, 3).unwrap().1, 3, &mut values).unwrap();
                    assert_eq!(values, [1000, 1700, 2000].map(|time| f64::from(column * column + time)), "{range:?}");
                }
                assert!(
                    range.start == 0 || chunk.column(0, &open, range.start - 1, &mut scratch).is_err(),
                    "{range:?}"
                );
                assert!(chunk.column(0, &open, range.end, &mut scratch).is_err(), "{range:?}");
            }
        }
    }
}
