//! The labels of a block: their names, and the values of each with where their posting lists are, read when they are asked for.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::block::pages::PageReader;
use crate::block::symbols::Symbols;
use crate::encoding::varint::Reader;
use crate::error::{Damaged, ReadError};
use crate::texts::Texts;

const WHAT: &str = "labels";

/// The values of a label in order, and where their posting lists lie in the index, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct LabelValues {
    pub(crate) symbols: Box<[u32]>,
    /// Where the posting list of each ends, from the start of the first.
    ends: Box<[u32]>,
    start: u64,
}

impl LabelValues {
    /// Where the posting list of a value lies.
    pub(crate) fn list(&self, at: usize) -> Range<u64> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.start + u64::from(start)..self.start + u64::from(self.ends[at])
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.symbols) + size_of_val(&*self.ends)
    }

    /// Reads so many of them, whose posting lists lie in a range.
    fn read(reader: &mut Reader<'_>, count: u32, symbols: u32, postings: Range<u64>) -> Result<Self, Damaged> {
        let capacity = (count as usize).min(reader.rest.len());
        let mut values = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        let (mut symbol, mut end) = (0u32, 0u32);
        for _ in 0..count {
            symbol = ascending(symbol, reader.u32()?, values.0.is_empty(), symbols)?;
            end = end.checked_add(reader.u32()?).ok_or(Damaged(WHAT))?;
            values.0.push(symbol);
            values.1.push(end);
        }
        if u64::from(end) > postings.end - postings.start {
            return Err(Damaged(WHAT));
        }
        Ok(Self { symbols: values.0.into(), ends: values.1.into(), start: postings.start })
    }
}

/// A label.
struct Label {
    symbol: u32,
    count: u32,
    /// Where its values stand.
    place: Range<u64>,
    /// Where their posting lists lie, one behind the other.
    postings: Range<u64>,
    values: OnceLock<LabelValues>,
}

/// The labels of a block in the order of their names.
pub(crate) struct LabelTable {
    names: Texts,
    labels: Vec<Label>,
    /// Memory of the values that have been read.
    bytes: AtomicUsize,
}

impl LabelTable {
    /// From what the directory says, of values and posting lists in two sections.
    pub(crate) fn from_directory(
        reader: &mut Reader<'_>,
        symbols: u32,
        values: Range<u64>,
        postings: Range<u64>,
    ) -> Result<Self, Damaged> {
        let (mut names, mut labels) = (Vec::new(), Vec::new());
        let (mut symbol, mut value, mut posting) = (0u32, values.start, postings.start);
        for _ in 0..reader.count(symbols as usize)? {
            symbol = ascending(symbol, reader.u32()?, labels.is_empty(), symbols)?;
            names.push(reader.text()?);
            let count = reader.count(symbols as usize)? as u32;
            let mut part = |from: &mut u64, end: u64| -> Result<Range<u64>, Damaged> {
                let start = *from;
                *from = start.checked_add(reader.varint()?).filter(|to| *to <= end).ok_or(Damaged(WHAT))?;
                Ok(start..*from)
            };
            let place = part(&mut value, values.end)?;
            let postings = part(&mut posting, postings.end)?;
            labels.push(Label { symbol, count, place, postings, values: OnceLock::new() });
        }
        if !names.is_sorted_by(|a, b| a < b) {
            return Err(Damaged(WHAT));
        }
        Ok(Self { names: Texts::ascending(names.into_iter()), labels, bytes: AtomicUsize::new(0) })
    }

    /// All of them from where they stand one after the other, as they did up to version 3 of blocks.
    pub(crate) fn from_list(reader: &mut Reader<'_>, symbols: &Symbols, postings: Range<u64>) -> Result<Self, Damaged> {
        let (mut labels, mut bytes): (Vec<Label>, usize) = (Vec::new(), 0);
        let (mut symbol, mut offset) = (0u32, postings.start);
        for _ in 0..reader.count(symbols.len() as usize)? {
            symbol = ascending(symbol, reader.u32()?, labels.is_empty(), symbols.len())?;
            let count = reader.count(symbols.len() as usize)? as u32;
            let values = LabelValues::read(reader, count, symbols.len(), offset..postings.end)?;
            let postings = offset..offset + u64::from(values.ends.last().copied().unwrap_or(0));
            offset = postings.end;
            bytes += values.bytes();
            labels.push(Label { symbol, count, place: 0..0, postings, values: OnceLock::from(values) });
        }
        let names = Texts::ascending(labels.iter().map(|label| symbols.text(label.symbol)));
        Ok(Self { names, labels, bytes: AtomicUsize::new(bytes) })
    }

    /// Number of labels.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The names.
    pub(crate) fn names(&self) -> &Texts {
        &self.names
    }

    /// The name that has a symbol, if it is that of a label.
    pub(crate) fn name(&self, symbol: u32) -> Option<&str> {
        let at = self.labels.binary_search_by_key(&symbol, |label| label.symbol).ok()?;
        Some(self.names.get(at))
    }

    /// Bytes in memory.
    pub(crate) fn loaded_bytes(&self) -> usize {
        self.names.text_bytes()
            + self.len() * (size_of::<Label>() + size_of::<usize>())
            + self.bytes.load(Ordering::Relaxed)
    }

    /// Whether series have a label.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.find(name).is_some()
    }

    /// The values of a label, if a series has it.
    pub(crate) fn values(
        &self,
        file: &PageReader,
        symbols: u32,
        name: &str,
    ) -> Result<Option<&LabelValues>, ReadError> {
        let Some(at) = self.names.find(name) else { return Ok(None) };
        let Label { count, place, postings, values, .. } = &self.labels[at];
        if let Some(values) = values.get() {
            return Ok(Some(values));
        }
        let bytes = file.read(place.start, (place.end - place.start) as usize, WHAT)?;
        let read = LabelValues::read(&mut Reader::new(&bytes, WHAT), *count, symbols, postings.clone());
        let read = read.map_err(|e| e.in_file(file.path()))?;
        // others may have read them at the same time
        Ok(Some(values.get_or_init(|| {
            self.bytes.fetch_add(read.bytes(), Ordering::Relaxed);
            read
        })))
    }
}

/// The next of ascending symbols, of which there are so many.
fn ascending(before: u32, more: u32, first: bool, symbols: u32) -> Result<u32, Damaged> {
    let next = before.checked_add(more).filter(|next| (more > 0 || first) && *next < symbols);
    next.ok_or(Damaged(WHAT))
}
