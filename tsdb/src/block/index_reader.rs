//! A block's index: what a query needs of it is read when it is first asked for, stays in memory and can be dropped again.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use model::{KeptLabels, Timestamp};
use parking_lot::Mutex;

use crate::block::index_writer::{NAME, STRIDE, TimesEntry};
use crate::block::label_table::LabelTable;
use crate::block::meta::magic;
use crate::block::pages::{PageBuffer, PageReader};
use crate::block::symbols::Symbols;
use crate::encoding::varint::Reader;
use crate::error::{Damaged, ReadError};
use crate::symbol_labels::KnownNames;

/// The last version of blocks whose index has no directory.
const WITHOUT_DIRECTORY: u32 = 3;

/// So much of the end of an index, or a small one as a whole, is read in one go: who asks needs a page here and one there of it, and to ask a
/// disk for each takes longer.
const READ_AHEAD: u64 = 1 << 20;

const WHAT: &str = "block index";

/// The index of a block.
pub(crate) struct IndexReader {
    file: Arc<PageReader>,
    layout: Layout,
    tables: Mutex<Option<Arc<Tables>>>,
}

/// Where the parts of an index are, each up to the next.
#[derive(Clone, Debug)]
struct Layout {
    postings: u64,
    symbols: u64,
    labels: u64,
    series_table: u64,
    times: u64,
    /// Up to version 3 there is none, and this is the end.
    directory: u64,
    end: u64,
    series: u32,
    version: u32,
}

/// What has been read of an index.
pub(crate) struct Tables {
    file: Arc<PageReader>,
    layout: Layout,
    pub(crate) symbols: Symbols,
    pub(crate) labels: LabelTable,
    places: OnceLock<Arc<Places>>,
}

/// Where series and their columns lie.
pub(crate) struct Places {
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
    pub(crate) offset: u64,
    pub(crate) len: u32,
    /// The number of its timestamp column, and whether it has histograms in the last bit.
    head: u32,
}

impl ColumnPlace {
    /// The number of its timestamp column.
    pub(crate) fn times(self) -> u32 {
        self.head >> 1
    }

    pub(crate) fn is_histogram(self) -> bool {
        self.head & 1 != 0
    }
}

/// The symbols and columns of the series that was read last; columns only as far as they are in the range.
#[derive(Default)]
struct SeriesBuffers {
    symbols: Vec<(u32, u32)>,
    columns: Vec<ColumnPlace>,
}

/// A series as the index has it.
pub(crate) struct SeriesEntry<'a> {
    /// Names and values of its labels, whose texts can be asked for.
    pub(crate) symbols: &'a [(u32, u32)],
    pub(crate) columns: &'a [ColumnPlace],
}

impl Layout {
    /// From the end of a file.
    fn read(file: &PageReader, version: u32) -> Result<Self, ReadError> {
        let damaged = |e: Damaged| e.in_file(file.path());
        let parts = if version <= WITHOUT_DIRECTORY { 5 } else { 6 };
        let footer = (parts + 2) * size_of::<u64>();
        let end = file.len().checked_sub(footer as u64).ok_or_else(|| damaged(Damaged(WHAT)))?;
        let bytes = file.read(end, footer, WHAT)?;
        let mut reader = Reader::new(&bytes, WHAT);
        // where there is no directory, it begins where it ends
        let mut sections = [end; 6];
        for section in &mut sections[..parts] {
            *section = reader.fixed_u64().map_err(damaged)?;
        }
        let series = reader.fixed_u64().map_err(damaged)?;
        let ascend = sections.is_sorted() && sections[5] <= end;
        let fits = u32::try_from(series).ok().filter(|_| reader.rest == magic(NAME, version) && ascend);
        let series = fits.ok_or_else(|| damaged(Damaged(WHAT)))?;
        let [postings, symbols, labels, series_table, times, directory] = sections;
        Ok(Self { postings, symbols, labels, series_table, times, directory, end, series, version })
    }
}

impl IndexReader {
    /// Of a block of this version.
    pub(crate) fn open(file: PageReader, version: u32) -> Result<Self, ReadError> {
        let layout = Layout::read(&file, version)?;
        Ok(Self { file: Arc::new(file), layout, tables: Mutex::new(None) })
    }

    /// What is in memory of it, and the rest when it is asked for.
    pub(crate) fn tables(&self) -> Result<Arc<Tables>, ReadError> {
        let mut tables = self.tables.lock();
        if let Some(tables) = &*tables {
            return Ok(Arc::clone(tables));
        }
        let fresh = Arc::new(Tables::read(&self.file, &self.layout)?);
        *tables = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.len()
    }

    /// Has the system begin to read the file.
    pub(crate) fn read_ahead(&self) {
        self.file.read_ahead(0..self.file.len());
    }

    /// Frees what is in memory until it is needed again.
    pub(crate) fn unload(&self) {
        *self.tables.lock() = None;
    }

    /// Bytes in memory.
    pub(crate) fn loaded_bytes(&self) -> usize {
        self.tables.lock().as_ref().map_or(0, |tables| tables.loaded_bytes())
    }
}

impl Tables {
    fn read(file: &Arc<PageReader>, layout: &Layout) -> Result<Self, ReadError> {
        let from = if layout.end <= READ_AHEAD { 0 } else { layout.symbols.max(layout.end - READ_AHEAD) };
        file.read_ahead(from..layout.end);
        let parsed = if layout.version <= WITHOUT_DIRECTORY {
            let bytes = file.read(layout.symbols, (layout.series_table - layout.symbols) as usize, WHAT)?;
            Self::parse_lists(&bytes, layout)
        } else {
            let bytes = file.read(layout.directory, (layout.end - layout.directory) as usize, WHAT)?;
            Self::parse_directory(&bytes, layout)
        };
        let (symbols, labels) = parsed.map_err(|e| e.in_file(file.path()))?;
        Ok(Self { file: Arc::clone(file), layout: layout.clone(), symbols, labels, places: OnceLock::new() })
    }

    fn parse_directory(bytes: &[u8], layout: &Layout) -> Result<(Symbols, LabelTable), Damaged> {
        let mut reader = Reader::new(bytes, WHAT);
        let symbols = Symbols::from_directory(&mut reader, layout.symbols..layout.labels)?;
        let (values, postings) = (layout.labels..layout.series_table, layout.postings..layout.symbols);
        let labels = LabelTable::from_directory(&mut reader, symbols.len(), values, postings)?;
        Ok((symbols, labels))
    }

    /// Without a directory all is read at once. `bytes` are those from the symbols to the series table.
    fn parse_lists(bytes: &[u8], layout: &Layout) -> Result<(Symbols, LabelTable), Damaged> {
        let (symbols, labels) = bytes.split_at((layout.labels - layout.symbols) as usize);
        let symbols = Symbols::from_list(&mut Reader::new(symbols, WHAT))?;
        let labels = LabelTable::from_list(&mut Reader::new(labels, WHAT), &symbols, layout.postings..layout.symbols)?;
        Ok((symbols, labels))
    }

    pub(crate) fn file(&self) -> &PageReader {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Number of series.
    pub(crate) fn series_count(&self) -> u32 {
        self.layout.series
    }

    fn loaded_bytes(&self) -> usize {
        let places = self.places.get().map_or(0, |places| {
            places.series.len() * size_of::<(u64, u64)>() + places.times.len() * size_of::<TimesPlace>()
        });
        self.symbols.loaded_bytes() + self.labels.loaded_bytes() + places
    }

    /// Where series and their columns lie, read if that has not been done.
    pub(crate) fn places(&self) -> Result<&Arc<Places>, ReadError> {
        if let Some(places) = self.places.get() {
            return Ok(places);
        }
        let Layout { postings, series_table, times, directory, series, .. } = self.layout;
        let bytes = self.file.read(series_table, (directory - series_table) as usize, WHAT)?;
        let (table, times) = bytes.split_at((times - series_table) as usize);
        let places = Places::parse(table, times, series, postings).map_err(|e| e.in_file(self.path()))?;
        // others may have read them at the same time
        Ok(self.places.get_or_init(|| Arc::new(places)))
    }

    /// Calls `each` with the series `ids` (ascending) until it says no: with nothing for those without a column whose timestamps
    /// overlap `range` (last one included), and otherwise without the columns that do not, and with those labels only that are `kept`.
    pub(crate) fn series(
        &self,
        ids: &[u32],
        range: (Timestamp, Timestamp),
        kept: KeptLabels<'_>,
        mut each: impl FnMut(u32, Option<SeriesEntry<'_>>) -> bool,
    ) -> Result<(), ReadError> {
        let all = kept == KeptLabels::All;
        // most of the symbols will be needed
        if all && ids.len() > self.layout.series as usize / 2 {
            self.symbols.have_all(&self.file, 0..self.symbols.len())?;
        }
        let (mut names, mut left) = (KnownNames::new(kept), Vec::new());
        self.read_each(ids, range, |id, SeriesBuffers { symbols, columns }| {
            if columns.is_empty() {
                return Ok(each(id, None));
            }
            let mut symbols = symbols.as_slice();
            if !all {
                left.clear();
                for pair in symbols {
                    let text = || {
                        self.symbols.have(&self.file, pair.0)?;
                        Ok::<_, ReadError>(self.symbols.text(pair.0))
                    };
                    if names.keeps(pair.0, text)? {
                        left.push(*pair);
                    }
                }
                symbols = &left;
            }
            for (name, value) in symbols {
                self.symbols.have(&self.file, *name)?;
                self.symbols.have(&self.file, *value)?;
            }
            Ok(each(id, Some(SeriesEntry { symbols, columns })))
        })
    }

    /// Calls `each` with the symbols of the names of labels that the series `ids` (ascending) have, until it says no.
    pub(crate) fn names_of(&self, ids: &[u32], mut each: impl FnMut(u32) -> bool) -> Result<(), ReadError> {
        let all = (Timestamp::MIN, Timestamp::MAX);
        self.read_each(ids, all, |_, SeriesBuffers { symbols, .. }| Ok(symbols.iter().all(|(name, _)| each(*name))))
    }

    /// Calls `each` with what stands of the series `ids` (ascending), columns as far as they overlap a range, until it says no.
    fn read_each(
        &self,
        ids: &[u32],
        range: (Timestamp, Timestamp),
        mut each: impl FnMut(u32, &SeriesBuffers) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut buffers = SeriesBuffers::default();
        let places = self.places()?;
        let damaged = |e: Damaged| e.in_file(self.path());
        let Some((first, last)) = ids.first().zip(ids.last()) else { return Ok(()) };
        // what lies far apart is not read ahead
        let is_dense = ids.len() * STRIDE >= (last - first) as usize;
        let part = self.stride(places, *first)?.1.start..self.stride(places, *last)?.1.end;
        let mut pages = PageBuffer::through(part);
        for run in ids.chunk_by(|a, b| *a as usize / STRIDE == *b as usize / STRIDE) {
            let (mut id, stride, mut offset) = self.stride(places, run[0])?;
            if !is_dense {
                pages = PageBuffer::default();
            }
            let len = (stride.end - stride.start) as usize;
            let mut reader = Reader::new(self.file.read_on(&mut pages, stride.start, len, WHAT)?, WHAT);
            for wanted in run {
                while id < *wanted {
                    pass_over(&mut reader, &mut offset).map_err(damaged)?;
                    id += 1;
                }
                read_series(places, &mut reader, &mut offset, range, &mut buffers).map_err(damaged)?;
                id += 1;
                if !each(*wanted, &buffers)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The first of the series that stand together with this one, where they do, and where the columns of the first begin.
    fn stride(&self, places: &Places, id: u32) -> Result<(u32, Range<u64>, u64), ReadError> {
        let at = id as usize / STRIDE;
        match places.series.get(at..at + 2) {
            Some([(from, data), (to, _)]) => Ok(((at * STRIDE) as u32, *from..*to, *data)),
            _ => Err(Damaged(WHAT).in_file(self.path())),
        }
    }
}

impl Places {
    /// From the table of `count` series, which stand before `end`, and that of timestamp columns.
    fn parse(table: &[u8], columns: &[u8], count: u32, end: u64) -> Result<Self, Damaged> {
        let mut reader = Reader::new(table, WHAT);
        let mut series = Vec::new();
        let (mut index, mut data) = (0u64, 0u64);
        for _ in 0..(count as usize).div_ceil(STRIDE) {
            index = index.checked_add(reader.varint()?).filter(|i| *i <= end).ok_or(Damaged(WHAT))?;
            data = data.checked_add(reader.varint()?).ok_or(Damaged(WHAT))?;
            series.push((index, data));
        }
        series.push((end, 0));
        let mut reader = Reader::new(columns, WHAT);
        let mut offset = reader.varint()?;
        let mut min = 0i64;
        let len = reader.count(columns.len())?;
        let mut times = Vec::with_capacity(len);
        for _ in 0..len {
            let rows = reader.u32()?;
            min = min.wrapping_add(reader.signed()?);
            let max = min.wrapping_add(reader.varint()? as i64);
            let len = reader.u32()?;
            times.push(TimesPlace { entry: TimesEntry { rows, min, max, len }, offset });
            offset = offset.checked_add(u64::from(len)).ok_or(Damaged(WHAT))?;
        }
        Ok(Self { series, times })
    }
}

/// Reads the symbols and columns of one series. `offset` is where its columns begin, and afterwards where those of the next do.
fn read_series(
    places: &Places,
    reader: &mut Reader<'_>,
    offset: &mut u64,
    (min_time, max_time): (Timestamp, Timestamp),
    buffers: &mut SeriesBuffers,
) -> Result<(), Damaged> {
    let SeriesBuffers { symbols, columns } = buffers;
    symbols.clear();
    for _ in 0..reader.count(reader.rest.len())? {
        symbols.push((reader.u32()?, reader.u32()?));
    }
    columns.clear();
    for _ in 0..reader.count(reader.rest.len())? {
        let (head, len) = (reader.u32()?, reader.u32()?);
        let column = ColumnPlace { offset: *offset, len, head };
        let range = places.times.get(column.times() as usize).ok_or(Damaged(WHAT))?.entry;
        if range.min <= max_time && range.max >= min_time {
            columns.push(column);
        }
        *offset = offset.saturating_add(u64::from(len));
    }
    Ok(())
}

/// Passes over one series, as [`read_series`] reads it.
fn pass_over(reader: &mut Reader<'_>, offset: &mut u64) -> Result<(), Damaged> {
    for _ in 0..reader.count(reader.rest.len())? {
        let (_, _) = (reader.u32()?, reader.u32()?);
    }
    for _ in 0..reader.count(reader.rest.len())? {
        reader.varint()?;
        *offset = offset.saturating_add(u64::from(reader.u32()?));
    }
    Ok(())
}
