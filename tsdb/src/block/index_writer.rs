use std::path::Path;

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};
use model::{Labels, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::block::meta::{VERSION, magic};
use crate::block::pages::PageWriter;
use crate::block::posting_lists::put_postings;
use crate::block::symbols::put_symbols;
use crate::encoding::varint;
use crate::error::FileError;
use crate::files::Files;
use crate::head::PostingList;
use crate::texts::Texts;

pub(crate) const NAME: &[u8; 7] = b"FWINDEX";
/// Series between two entries of the series table.
pub(crate) const STRIDE: usize = 64;

/// A value column of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnEntry {
    pub(crate) histogram: bool,
    /// Number of the timestamp column.
    pub(crate) times: u32,
    /// Bytes in the data file.
    pub(crate) len: u32,
}

/// A timestamp column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimesEntry {
    pub(crate) rows: u32,
    pub(crate) min: Timestamp,
    pub(crate) max: Timestamp,
    /// Bytes in the data file.
    pub(crate) len: u32,
}

/// The series that have a label: of a value that tells series apart there is one.
#[derive(Clone, Copy)]
enum Having {
    One(u32),
    /// A place in [`IndexWriter::lists`].
    Many(u32),
}

/// Writes a block's index: series in label order first, the rest at the end.
pub(crate) struct IndexWriter {
    file: PageWriter,
    symbols: Texts,
    numbers: HashTable<u32>,
    series: u32,
    /// For each [`STRIDE`] series: offset of the first in the index, and of its columns in the data file.
    table: Vec<(u64, u64)>,
    postings: HashMap<(u32, u32), Having>,
    lists: Vec<PostingList>,
}

impl IndexWriter {
    /// `symbols` are the names and values of all series that may be added, each once and in order.
    pub(crate) fn create(files: &Files, path: &Path, symbols: Texts) -> Result<Self, FileError> {
        let mut numbers = HashTable::with_capacity(symbols.len());
        for number in 0..symbols.len() as u32 {
            let hash = |number: &u32| xxh3_64(symbols.get(*number as usize).as_bytes());
            numbers.insert_unique(hash(&number), number, hash);
        }
        let mut file = PageWriter::create(files, path)?;
        file.write(&magic(NAME, VERSION))?;
        let (table, postings, lists) = (Vec::new(), HashMap::new(), Vec::new());
        Ok(Self { file, symbols, numbers, series: 0, table, postings, lists })
    }

    /// Adds the next series; `data` is where its columns begin.
    pub(crate) fn add(&mut self, labels: &Labels, columns: &[ColumnEntry], data: u64) -> Result<(), FileError> {
        if (self.series as usize).is_multiple_of(STRIDE) {
            self.table.push((self.file.offset(), data));
        }
        let mut entry = Vec::with_capacity(64);
        varint::put(&mut entry, labels.len() as u64);
        for (name, value) in labels {
            let pair = (self.number(name), self.number(value));
            varint::put(&mut entry, u64::from(pair.0));
            varint::put(&mut entry, u64::from(pair.1));
            self.post(pair);
        }
        varint::put(&mut entry, columns.len() as u64);
        for column in columns {
            varint::put(&mut entry, u64::from(column.times) << 1 | u64::from(column.histogram));
            varint::put(&mut entry, u64::from(column.len));
        }
        self.series += 1;
        self.file.write(&entry)
    }

    fn post(&mut self, pair: (u32, u32)) {
        match self.postings.entry(pair) {
            Entry::Vacant(entry) => _ = entry.insert(Having::One(self.series)),
            Entry::Occupied(mut entry) => match *entry.get() {
                Having::One(first) => {
                    let mut list = PostingList::default();
                    list.push(first);
                    list.push(self.series);
                    entry.insert(Having::Many(self.lists.len() as u32));
                    self.lists.push(list);
                }
                Having::Many(list) => self.lists[list as usize].push(self.series),
            },
        }
    }

    fn number(&self, text: &str) -> u32 {
        let is_it = |number: &u32| self.symbols.get(*number as usize) == text;
        *self.numbers.find(xxh3_64(text.as_bytes()), is_it).expect("one of the symbols it was created with")
    }

    /// Writes the rest; `times_offset` is where the timestamp columns begin in the data file.
    pub(crate) fn finish(mut self, times: &[TimesEntry], times_offset: u64) -> Result<(), FileError> {
        let mut sections = [0u64; 6];
        let mut bytes = Vec::new();

        // postings, by name and value
        sections[0] = self.file.offset();
        let mut pairs: Vec<(u32, u32)> = self.postings.keys().copied().collect();
        pairs.sort_unstable();
        let mut lens = Vec::with_capacity(pairs.len());
        let mut ids = Vec::new();
        for pair in &pairs {
            ids.clear();
            match self.postings[pair] {
                Having::One(id) => ids.push(id),
                Having::Many(list) => ids.extend(self.lists[list as usize].iter()),
            }
            bytes.clear();
            put_postings(&ids, &mut bytes);
            lens.push(bytes.len());
            self.file.write(&bytes)?;
        }

        // symbols, and what the directory says of them and of labels
        sections[1] = self.file.offset();
        bytes.clear();
        let mut directory = Vec::new();
        put_symbols(&self.symbols, &mut bytes, &mut directory);
        self.file.write(&bytes)?;

        // values of labels
        sections[2] = self.file.offset();
        bytes.clear();
        let names: Vec<&[(u32, u32)]> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
        varint::put(&mut directory, names.len() as u64);
        let mut lens = lens.into_iter();
        let mut last_name = 0;
        for values in names {
            let (name, start) = (values[0].0, bytes.len());
            let (mut last_value, mut postings) = (0, 0);
            for ((_, value), len) in values.iter().zip(&mut lens) {
                varint::put(&mut bytes, u64::from(value - last_value));
                varint::put(&mut bytes, len as u64);
                last_value = *value;
                postings += len;
            }
            varint::put(&mut directory, u64::from(name - last_name));
            varint::put_bytes(&mut directory, self.symbols.get(name as usize).as_bytes());
            for number in [values.len(), bytes.len() - start, postings] {
                varint::put(&mut directory, number as u64);
            }
            last_name = name;
        }
        self.file.write(&bytes)?;

        // series table
        sections[3] = self.file.offset();
        bytes.clear();
        let mut before = (0, 0);
        for (index, data) in &self.table {
            varint::put(&mut bytes, index - before.0);
            varint::put(&mut bytes, data - before.1);
            before = (*index, *data);
        }
        self.file.write(&bytes)?;

        // timestamp columns
        sections[4] = self.file.offset();
        bytes.clear();
        varint::put(&mut bytes, times_offset);
        varint::put(&mut bytes, times.len() as u64);
        let mut before = 0;
        for column in times {
            varint::put(&mut bytes, u64::from(column.rows));
            varint::put_signed(&mut bytes, column.min.wrapping_sub(before));
            varint::put(&mut bytes, column.max.wrapping_sub(column.min) as u64);
            varint::put(&mut bytes, u64::from(column.len));
            before = column.min;
        }
        self.file.write(&bytes)?;

        sections[5] = self.file.offset();
        self.file.write(&directory)?;

        bytes.clear();
        sections.iter().for_each(|s| bytes.extend_from_slice(&s.to_le_bytes()));
        bytes.extend_from_slice(&u64::from(self.series).to_le_bytes());
        bytes.extend_from_slice(&magic(NAME, VERSION));
        self.file.write(&bytes)?;
        self.file.finish()
    }
}
