use std::path::Path;

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};
use model::{Labels, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::block::meta::{VERSION, magic};
use crate::block::pages::PageWriter;
use crate::encoding::varint;
use crate::error::FileError;
use crate::files::Files;
use crate::head::PostingList;
use crate::texts::Texts;

pub(crate) const NAME: &[u8; 7] = b"FWINDEX";
/// Series between two entries of the series table.
pub(crate) const STRIDE: usize = 64;
/// Bytes of the footer: offsets of the five sections, the number of series, the magic again.
pub(crate) const FOOTER: usize = 7 * 8;
/// Kinds of posting lists.
pub(crate) const DELTAS: u8 = 0;
pub(crate) const RUNS: u8 = 1;

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
        let mut sections = [0u64; 5];
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

        // symbols
        sections[1] = self.file.offset();
        bytes.clear();
        varint::put(&mut bytes, self.symbols.len() as u64);
        let mut last: &[u8] = b"";
        for symbol in self.symbols.iter() {
            let text = symbol.as_bytes();
            let shared = text.iter().zip(last).take_while(|(a, b)| a == b).count();
            varint::put(&mut bytes, shared as u64);
            varint::put_bytes(&mut bytes, &text[shared..]);
            last = text;
        }
        self.file.write(&bytes)?;

        // labels
        sections[2] = self.file.offset();
        bytes.clear();
        let names: Vec<&[(u32, u32)]> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
        varint::put(&mut bytes, names.len() as u64);
        let mut lens = lens.into_iter();
        let mut last_name = 0;
        for values in names {
            varint::put(&mut bytes, u64::from(values[0].0 - last_name));
            last_name = values[0].0;
            varint::put(&mut bytes, values.len() as u64);
            let mut last_value = 0;
            for (_, value) in values {
                varint::put(&mut bytes, u64::from(value - last_value));
                last_value = *value;
                varint::put(&mut bytes, lens.next().unwrap_or(0) as u64);
            }
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

        bytes.clear();
        sections.iter().for_each(|s| bytes.extend_from_slice(&s.to_le_bytes()));
        bytes.extend_from_slice(&u64::from(self.series).to_le_bytes());
        bytes.extend_from_slice(&magic(NAME, VERSION));
        self.file.write(&bytes)?;
        self.file.finish()
    }
}

/// A posting list as differences or as runs, whichever is shorter.
pub(crate) fn put_postings(ids: &[u32], out: &mut Vec<u8>) {
    let mut deltas = vec![DELTAS];
    varint::put(&mut deltas, ids.len() as u64);
    let mut next = 0;
    for id in ids {
        varint::put(&mut deltas, u64::from(id - next));
        next = id + 1;
    }
    let mut runs = vec![RUNS];
    let mut next = 0;
    for run in ids.chunk_by(|a, b| a + 1 == *b) {
        varint::put(&mut runs, u64::from(run[0] - next));
        varint::put(&mut runs, run.len() as u64);
        next = run[run.len() - 1] + 1;
    }
    out.extend_from_slice(if runs.len() < deltas.len() { &runs } else { &deltas });
}
