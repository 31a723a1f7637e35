use std::sync::Arc;

use hashbrown::HashMap;
use model::{Matcher, Timestamp};
use parking_lot::Mutex;

use crate::block::index_writer::{DELTAS, FOOTER, NAME, RUNS, STRIDE, TimesEntry};
use crate::block::meta::magic;
use crate::block::pages::{PageBuffer, PageReader};
use crate::encoding::varint::Reader;
use crate::error::{Damaged, ReadError};
use crate::postings::{LabelIndex, SeriesSet};
use crate::texts::Texts;

/// A block's index: a footer in memory, tables that are read when they are first needed and can be dropped again, the
/// rest read piece by piece.
pub(crate) struct IndexReader {
    file: PageReader,
    sections: [u64; 5],
    series: u32,
    tables: Mutex<Option<Arc<Tables>>>,
}

/// What a query needs all of.
pub(crate) struct Tables {
    text: String,
    /// End of each symbol in `text`.
    ends: Vec<u32>,
    /// By name, ascending by value: value, offset and length of the posting list.
    labels: HashMap<u32, Vec<(u32, u64, u32)>>,
    /// Offset of each [`STRIDE`]th series, and of its columns in the data file; one more entry for the end.
    series: Vec<(u64, u64)>,
    pub(crate) times: Vec<TimesPlace>,
}

/// A timestamp column and where it lies in the data file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimesPlace {
    pub(crate) entry: TimesEntry,
    pub(crate) offset: u64,
}

/// A value column and where it lies in the data file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnPlace {
    pub(crate) histogram: bool,
    pub(crate) times: u32,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// The symbols and columns of the series that was read last; columns only as far as they are in the range.
#[derive(Default)]
struct SeriesBuffers {
    symbols: Vec<(u32, u32)>,
    columns: Vec<ColumnPlace>,
}

/// A series as the index has it.
pub(crate) struct SeriesEntry<'a> {
    /// Names and values of its labels.
    pub(crate) symbols: &'a [(u32, u32)],
    pub(crate) columns: &'a [ColumnPlace],
}

const WHAT: &str = "block index";

impl IndexReader {
    /// Of a block of this version.
    pub(crate) fn open(file: PageReader, version: u32) -> Result<Self, ReadError> {
        let damaged = |e: Damaged| e.in_file(file.path());
        let start = file.len().checked_sub(FOOTER as u64).ok_or_else(|| damaged(Damaged(WHAT)))?;
        let footer = file.read(start, FOOTER, WHAT)?;
        let mut reader = Reader::new(&footer, WHAT);
        let mut sections = [0; 5];
        for section in &mut sections {
            *section = reader.fixed_u64().map_err(damaged)?;
        }
        let series = reader.fixed_u64().map_err(damaged)?;
        let ascend = sections.windows(2).all(|w| w[0] <= w[1]) && sections[4] <= start;
        if reader.rest != magic(NAME, version) || series > u64::from(u32::MAX) || !ascend {
            return Err(damaged(Damaged(WHAT)));
        }
        Ok(Self { file, sections, series: series as u32, tables: Mutex::new(None) })
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.file.path()
    }

    /// The tables, read if they are not in memory.
    pub(crate) fn tables(&self) -> Result<Arc<Tables>, ReadError> {
        let mut tables = self.tables.lock();
        if let Some(tables) = &*tables {
            return Ok(Arc::clone(tables));
        }
        let end = self.file.len() - FOOTER as u64;
        let bytes = self.file.read(self.sections[1], (end - self.sections[1]) as usize, WHAT)?;
        let fresh = Arc::new(self.parse(&bytes).map_err(|e| e.in_file(self.path()))?);
        *tables = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Frees the tables until they are needed again.
    pub(crate) fn unload(&self) {
        *self.tables.lock() = None;
    }

    /// Bytes of the tables in memory.
    pub(crate) fn loaded_bytes(&self) -> usize {
        self.tables.lock().as_ref().map_or(0, |t| {
            t.text.len()
                + t.ends.len() * 4
                + t.labels.values().map(|v| v.len() * 16).sum::<usize>()
                + t.times.len() * 40
        })
    }

    fn parse(&self, bytes: &[u8]) -> Result<Tables, Damaged> {
        let section = |at: usize| -> Result<Reader<'_>, Damaged> {
            let from = (self.sections[at] - self.sections[1]) as usize;
            Ok(Reader::new(bytes.get(from..).ok_or(Damaged(WHAT))?, WHAT))
        };
        let mut reader = section(1)?;
        let count = reader.count(bytes.len())?;
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(count);
        let mut start = 0;
        for _ in 0..count {
            let shared = reader.count(text.len() - start)?;
            let (end, rest) = (text.len(), reader.bytes()?);
            if !ends.is_empty() && rest <= &text[start + shared..] {
                return Err(Damaged(WHAT));
            }
            text.reserve(shared + rest.len());
            text.extend_from_within(start..start + shared);
            text.extend_from_slice(rest);
            start = end;
            ends.push(u32::try_from(text.len()).map_err(|_| Damaged(WHAT))?);
        }
        text.shrink_to_fit();
        // as a whole, since a character may be cut where two symbols differ
        let text = String::from_utf8(text).map_err(|_| Damaged(WHAT))?;
        if !ends.iter().all(|end| text.is_char_boundary(*end as usize)) {
            return Err(Damaged(WHAT));
        }

        let mut reader = section(2)?;
        let mut labels = HashMap::new();
        let (mut name, mut offset) = (0u32, self.sections[0]);
        for _ in 0..reader.count(count)? {
            name = name.checked_add(reader.u32()?).filter(|n| (*n as usize) < count).ok_or(Damaged(WHAT))?;
            let mut value = 0u32;
            let len = reader.count(count)?;
            let mut values = Vec::with_capacity(len);
            for _ in 0..len {
                let more = reader.u32()?;
                let ascends = more > 0 || values.is_empty();
                value = value.checked_add(more).filter(|v| ascends && (*v as usize) < count).ok_or(Damaged(WHAT))?;
                let len = reader.u32()?;
                values.push((value, offset, len));
                offset += u64::from(len);
            }
            labels.insert(name, values);
        }

        let mut reader = section(3)?;
        let mut series = Vec::new();
        let (mut index, mut data) = (0u64, 0u64);
        for _ in 0..(self.series as usize).div_ceil(STRIDE) {
            index = index.checked_add(reader.varint()?).filter(|i| *i <= self.sections[0]).ok_or(Damaged(WHAT))?;
            data = data.checked_add(reader.varint()?).ok_or(Damaged(WHAT))?;
            series.push((index, data));
        }
        series.push((self.sections[0], 0));

        let mut reader = section(4)?;
        let mut offset = reader.varint()?;
        let mut min = 0i64;
        let mut times = Vec::new();
        for _ in 0..reader.count(bytes.len())? {
            let rows = reader.u32()?;
            min = min.wrapping_add(reader.signed()?);
            let max = min.wrapping_add(reader.varint()? as i64);
            let len = reader.u32()?;
            times.push(TimesPlace { entry: TimesEntry { rows, min, max, len }, offset });
            offset = offset.checked_add(u64::from(len)).ok_or(Damaged(WHAT))?;
        }
        Ok(Tables { text, ends, labels, series, times })
    }

    /// Calls `each` with the series `ids` (ascending) until it says no: with nothing for those without a column whose timestamps
    /// overlap `min_time..=max_time`, and otherwise without the columns that do not.
    pub(crate) fn series(
        &self,
        tables: &Tables,
        ids: &[u32],
        min_time: Timestamp,
        max_time: Timestamp,
        mut each: impl FnMut(u32, Option<SeriesEntry<'_>>) -> bool,
    ) -> Result<(), ReadError> {
        let mut buffers = SeriesBuffers::default();
        let mut pages = PageBuffer::default();
        let span = ids.last().map_or(0, |last| last - ids[0]) as usize;
        for run in ids.chunk_by(|a, b| *a as usize / STRIDE == *b as usize / STRIDE) {
            let at = run[0] as usize / STRIDE;
            let Some([(from, data), (to, _)]) = tables.series.get(at..at + 2) else {
                return Err(Damaged(WHAT).in_file(self.path()));
            };
            let len = to.saturating_sub(*from) as usize;
            // what lies far apart is not read ahead
            if ids.len() * STRIDE < span {
                pages = PageBuffer::default();
            }
            let mut reader = Reader::new(self.file.read_on(&mut pages, *from, len, WHAT)?, WHAT);
            let mut offset = *data;
            let mut wanted = run.iter().copied().peekable();
            let mut id = (at * STRIDE) as u32;
            while wanted.peek().is_some() {
                let take = wanted.next_if_eq(&id).is_some();
                let read = if take {
                    tables.read_series(&mut reader, &mut offset, (min_time, max_time), &mut buffers)
                } else {
                    pass_over(&mut reader, &mut offset)
                };
                read.map_err(|e| e.in_file(self.path()))?;
                let SeriesBuffers { symbols, columns } = &buffers;
                let entry = (!columns.is_empty()).then_some(SeriesEntry { symbols, columns });
                if take && !each(id, entry) {
                    return Ok(());
                }
                id += 1;
            }
        }
        Ok(())
    }

    /// Calls `each` with the names of labels that the series `ids` (ascending) have, until it says no.
    fn names(&self, tables: &Tables, ids: &[u32], each: &mut dyn FnMut(u32) -> bool) -> Result<(), ReadError> {
        let damaged = |e: Damaged| e.in_file(self.path());
        for run in ids.chunk_by(|a, b| *a as usize / STRIDE == *b as usize / STRIDE) {
            let at = run[0] as usize / STRIDE;
            let Some([(from, _), (to, _)]) = tables.series.get(at..at + 2) else {
                return Err(damaged(Damaged(WHAT)));
            };
            let bytes = self.file.read(*from, to.saturating_sub(*from) as usize, WHAT)?;
            let mut reader = Reader::new(&bytes, WHAT);
            let mut wanted = run.iter().copied().peekable();
            let mut id = (at * STRIDE) as u32;
            while wanted.peek().is_some() {
                let take = wanted.next_if_eq(&id).is_some();
                if !tables.names_of(&mut reader, |name| !take || each(name)).map_err(damaged)? {
                    return Ok(());
                }
                id += 1;
            }
        }
        Ok(())
    }

    fn list(&self, place: (u64, u32)) -> Result<Vec<u32>, ReadError> {
        let bytes = self.file.read(place.0, place.1 as usize, WHAT)?;
        take_postings(&bytes, self.series).map_err(|e| e.in_file(self.path()))
    }
}

impl Tables {
    pub(crate) fn text(&self, symbol: u32) -> &str {
        let start = symbol.checked_sub(1).map_or(0, |s| self.ends[s as usize]);
        &self.text[start as usize..self.ends[symbol as usize] as usize]
    }

    /// The texts of values. Those of a label are mostly next to each other among the symbols.
    fn texts(&self, values: &[(u32, u64, u32)]) -> Texts {
        Texts::ascending_runs(values.chunk_by(|a, b| a.0 + 1 == b.0).map(|run| {
            let (first, last) = (run[0].0 as usize, run[run.len() - 1].0 as usize);
            let (start, ends) = (first.checked_sub(1).map_or(0, |before| self.ends[before]), &self.ends[first..=last]);
            let text = &self.text[start as usize..self.ends[last] as usize];
            (text, ends.iter().map(move |end| (end - start) as usize))
        }))
    }

    fn find(&self, text: &str) -> Option<u32> {
        let (mut from, mut to) = (0, self.ends.len() as u32);
        while from < to {
            let middle = from.midpoint(to);
            match self.text(middle).cmp(text) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        None
    }

    /// Reads the symbols and columns of one series. `offset` is where its columns begin, and afterwards where those of the next do.
    fn read_series(
        &self,
        reader: &mut Reader<'_>,
        offset: &mut u64,
        (min_time, max_time): (Timestamp, Timestamp),
        buffers: &mut SeriesBuffers,
    ) -> Result<(), Damaged> {
        let SeriesBuffers { symbols, columns } = buffers;
        symbols.clear();
        for _ in 0..reader.count(reader.rest.len())? {
            let pair = (reader.u32()?, reader.u32()?);
            if pair.0.max(pair.1) as usize >= self.ends.len() {
                return Err(Damaged(WHAT));
            }
            symbols.push(pair);
        }
        columns.clear();
        for _ in 0..reader.count(reader.rest.len())? {
            let head = reader.varint()?;
            let len = reader.u32()?;
            let times = u32::try_from(head >> 1).map_err(|_| Damaged(WHAT))?;
            let range = self.times.get(times as usize).ok_or(Damaged(WHAT))?.entry;
            if range.min <= max_time && range.max >= min_time {
                columns.push(ColumnPlace { histogram: head & 1 != 0, times, offset: *offset, len });
            }
            *offset += u64::from(len);
        }
        Ok(())
    }
}

/// Passes over one series, as [`Tables::read_series`] reads it.
fn pass_over(reader: &mut Reader<'_>, offset: &mut u64) -> Result<(), Damaged> {
    for _ in 0..reader.count(reader.rest.len())? {
        let (_, _) = (reader.u32()?, reader.u32()?);
    }
    for _ in 0..reader.count(reader.rest.len())? {
        reader.varint()?;
        *offset += u64::from(reader.u32()?);
    }
    Ok(())
}

impl Tables {
    /// Passes over one series, calling `each` with the names of its labels; whether it has always said yes.
    fn names_of(&self, reader: &mut Reader<'_>, mut each: impl FnMut(u32) -> bool) -> Result<bool, Damaged> {
        for _ in 0..reader.count(reader.rest.len())? {
            let (name, _) = (reader.u32()?, reader.u32()?);
            if name as usize >= self.ends.len() {
                return Err(Damaged(WHAT));
            }
            if !each(name) {
                return Ok(false);
            }
        }
        for _ in 0..reader.count(reader.rest.len())? {
            let (_, _) = (reader.varint()?, reader.u32()?);
        }
        Ok(true)
    }
}

/// Posting lists that are so many bytes apart are read in one go, up to so many bytes.
const NEAR: u64 = 4096;
const READ_AT_ONCE: u64 = 1 << 20;

/// Posting lists that are read in one go.
const LISTS_AT_ONCE: usize = 1024;

/// Reads what `put_postings` wrote; numbers must be below `series`.
fn take_postings(bytes: &[u8], series: u32) -> Result<Vec<u32>, Damaged> {
    let mut ids = Vec::new();
    each_run(bytes, |from, to| {
        if to > series {
            return Err(Damaged("postings"));
        }
        ids.extend(from..to);
        Ok(false)
    })?;
    Ok(ids)
}

/// Whether a list has a number of the set.
fn has_posting(bytes: &[u8], set: &SeriesSet) -> Result<bool, Damaged> {
    each_run(bytes, |from, to| Ok((from..to).any(|id| set.contains(id))))
}

/// Calls `each` with the first and the end of each run of numbers in a list until it says that it has seen enough, which is what
/// this gives then.
fn each_run(bytes: &[u8], mut each: impl FnMut(u32, u32) -> Result<bool, Damaged>) -> Result<bool, Damaged> {
    let mut reader = Reader::new(bytes, "postings");
    let mut next = 0u64;
    let mut run = |gap: u64, len: u64| -> Result<bool, Damaged> {
        let from = next.saturating_add(gap);
        next = from.saturating_add(len);
        match (u32::try_from(from), u32::try_from(next)) {
            (Ok(from), Ok(to)) => each(from, to),
            _ => Err(Damaged("postings")),
        }
    };
    match reader.byte()? {
        DELTAS => {
            for _ in 0..reader.count(bytes.len())? {
                if run(reader.varint()?, 1)? {
                    return Ok(true);
                }
            }
        }
        RUNS => {
            while !reader.is_empty() {
                if run(reader.varint()?, reader.varint()?)? {
                    return Ok(true);
                }
            }
        }
        _ => return Err(reader.damaged()),
    }
    Ok(false)
}

/// An index whose tables are in memory.
pub(crate) struct LoadedIndex<'a> {
    pub(crate) reader: &'a IndexReader,
    pub(crate) tables: &'a Tables,
}

impl LoadedIndex<'_> {
    /// Whether a series has a label of this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.tables.find(name).is_some_and(|name| self.tables.labels.contains_key(&name))
    }
}

impl LabelIndex for LoadedIndex<'_> {
    type Error = ReadError;

    fn all(&self) -> Result<Vec<u32>, ReadError> {
        Ok((0..self.reader.series).collect())
    }

    fn with_value(&self, name: &str, value: &str) -> Result<Vec<u32>, ReadError> {
        let place = || {
            let values = self.tables.labels.get(&self.tables.find(name)?)?;
            let value = self.tables.find(value)?;
            let at = values.binary_search_by_key(&value, |v| v.0).ok()?;
            Some((values[at].1, values[at].2))
        };
        place().map_or(Ok(Vec::new()), |place| self.reader.list(place))
    }

    fn with_values(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Vec<u32>>, ReadError> {
        let values = self.tables.find(name).and_then(|n| self.tables.labels.get(&n));
        let Some(values) = values else { return Ok(Vec::new()) };
        // values ascend, so those with the prefix lie together
        let from = values.partition_point(|v| self.tables.text(v.0) < prefix);
        let with_prefix = values[from..].iter().take_while(|v| self.tables.text(v.0).starts_with(prefix));
        let wanted: Vec<(u64, u32)> = with_prefix.filter(|v| keep(self.tables.text(v.0))).map(|v| (v.1, v.2)).collect();
        // lists of a name lie side by side: one read for those that are near each other
        let mut lists = Vec::with_capacity(wanted.len());
        let mut rest = &wanted[..];
        while let Some((from, _)) = rest.first() {
            let near = |pair: &[(u64, u32)]| {
                let end = pair[0].0 + u64::from(pair[0].1);
                pair[1].0 - end <= NEAR && pair[1].0 - from <= READ_AT_ONCE
            };
            let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            let (run, others) = rest.split_at(count);
            let (last, len) = run[count - 1];
            let bytes = self.reader.file.read(*from, (last - from) as usize + len as usize, WHAT)?;
            for (offset, len) in run {
                let at = (offset - from) as usize;
                let list = take_postings(&bytes[at..at + *len as usize], self.reader.series);
                lists.push(list.map_err(|e| e.in_file(self.reader.path()))?);
            }
            rest = others;
        }
        Ok(lists)
    }

    fn values_among(&self, name: &str, series: &[u32], keep: &mut dyn FnMut(&str) -> bool) -> Result<Texts, ReadError> {
        let values = self.tables.find(name).and_then(|n| self.tables.labels.get(&n));
        let Some(values) = values else { return Ok(Texts::default()) };
        let series = SeriesSet::new(series);
        let mut found = Vec::new();
        // the lists of a name lie side by side: few reads for all of them
        for values in values.chunks(LISTS_AT_ONCE) {
            let (from, last) = (values[0].1, values[values.len() - 1]);
            let bytes = self.reader.file.read(from, (last.1 - from) as usize + last.2 as usize, WHAT)?;
            for (value, offset, len) in values {
                let text = self.tables.text(*value);
                if !keep(text) {
                    continue;
                }
                let at = (offset - from) as usize;
                let has = has_posting(&bytes[at..at + *len as usize], &series);
                if has.map_err(|e| e.in_file(self.reader.path()))? {
                    found.push(text);
                }
            }
        }
        Ok(Texts::ascending(found.into_iter()))
    }

    fn names(&self) -> Result<Texts, ReadError> {
        Ok(self.tables.labels.keys().map(|n| self.tables.text(*n)).collect())
    }

    fn names_among(&self, series: &[u32]) -> Result<Texts, ReadError> {
        let mut found: Vec<u32> = Vec::new();
        self.reader.names(self.tables, series, &mut |name| {
            if !found.contains(&name) {
                found.push(name);
            }
            found.len() < self.tables.labels.len()
        })?;
        Ok(found.into_iter().map(|name| self.tables.text(name)).collect())
    }

    fn values(&self, name: &str, matchers: &[&Matcher]) -> Result<Texts, ReadError> {
        let values = self.tables.find(name).and_then(|n| self.tables.labels.get(&n));
        let values = values.map_or(&[][..], Vec::as_slice);
        if matchers.is_empty() {
            return Ok(self.tables.texts(values));
        }
        let texts = values.iter().map(|v| self.tables.text(v.0));
        Ok(Texts::ascending(texts.filter(|text| matchers.iter().all(|m| m.matches(text)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::index_writer::put_postings;

    proptest::proptest! {
        #[test]
        fn postings_read_back(ids: std::collections::BTreeSet<u16>) {
            let ids: Vec<u32> = ids.into_iter().map(u32::from).collect();
            let mut out = Vec::new();
            put_postings(&ids, &mut out);
            proptest::prop_assert_eq!(take_postings(&out, 65_536), Ok(ids));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = take_postings(&bytes, 1000);
        }
    }
}
