//! The symbols of a block: the names and values of its labels, each once and in order, and read as far as they are needed.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::block::pages::{PageBuffer, PageReader};
use crate::encoding::varint::{self, Reader};
use crate::error::{Damaged, ReadError};
use crate::text_row::TextRow;
use crate::texts::Texts;

/// Symbols that are read together: all but the first of a group stand as what they share with the one before and the rest.
pub(crate) const GROUP: usize = 512;

const WHAT: &str = "symbols";

/// Symbols that are added one after the other.
#[derive(Default)]
struct Growing {
    text: Vec<u8>,
    ends: Vec<u32>,
    /// Where the last begins.
    last: usize,
}

impl Growing {
    /// Adds one of which the first bytes are those of the last.
    fn add(&mut self, shared: usize, rest: &[u8]) -> Result<(), Damaged> {
        let start = self.text.len();
        self.text.reserve(shared + rest.len());
        self.text.extend_from_within(self.last..self.last + shared);
        self.text.extend_from_slice(rest);
        self.ends.push(u32::try_from(self.text.len()).map_err(|_| Damaged(WHAT))?);
        self.last = start;
        Ok(())
    }

    /// What the next one shares with the last, and its rest.
    fn next<'a>(&self, reader: &mut Reader<'a>) -> Result<(usize, &'a [u8]), Damaged> {
        let last = &self.text[self.last..];
        let shared = reader.count(last.len())?;
        let rest = reader.bytes()?;
        // where they differ the first time tells which is greater
        let ascends = rest.first() > last.get(shared) || rest > &last[shared..] || self.ends.is_empty();
        if ascends { Ok((shared, rest)) } else { Err(Damaged(WHAT)) }
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let (shared, rest) = self.next(reader)?;
        self.add(shared, rest)
    }

    /// Those that have been added; afterwards there is none.
    fn take(&mut self) -> Result<TextRow, Damaged> {
        // as a whole, since a character may be cut where two symbols differ
        let text = str::from_utf8(&self.text).map_err(|_| Damaged(WHAT))?;
        let group = TextRow::new(text, &self.ends).ok_or(Damaged(WHAT))?;
        self.text.clear();
        self.ends.clear();
        self.last = 0;
        Ok(group)
    }
}

/// Writes texts in order, each as what it shares with the one before and the rest.
#[derive(Default)]
struct Shortening<'a> {
    last: &'a [u8],
}

impl<'a> Shortening<'a> {
    fn put(&mut self, text: &'a str, out: &mut Vec<u8>) {
        let text = text.as_bytes();
        let shared = text.iter().zip(self.last).take_while(|(a, b)| a == b).count();
        varint::put(out, shared as u64);
        varint::put_bytes(out, &text[shared..]);
        self.last = text;
    }
}

/// Writes symbols in groups, and what the directory says of these.
pub(crate) fn put_symbols(symbols: &Texts, out: &mut Vec<u8>, directory: &mut Vec<u8>) {
    varint::put(directory, symbols.len() as u64);
    let mut firsts = Shortening::default();
    for group in (0..symbols.len()).step_by(GROUP) {
        let (start, first) = (out.len(), symbols.get(group));
        let mut others = Shortening { last: first.as_bytes() };
        (group + 1..symbols.len().min(group + GROUP)).for_each(|at| others.put(symbols.get(at), out));
        firsts.put(first, directory);
        varint::put(directory, (out.len() - start) as u64);
    }
}

/// Whether a symbol is the next one and in the same group.
pub(crate) fn same_run(symbol: u32, other: u32) -> bool {
    symbol + 1 == other && !(other as usize).is_multiple_of(GROUP)
}

/// The symbols of a block.
pub(crate) struct Symbols {
    count: u32,
    /// The first of each group.
    firsts: TextRow,
    /// Where each group lies in the file; one more for the end.
    offsets: Vec<u64>,
    /// Those that have been read.
    groups: Box<[OnceLock<Arc<TextRow>>]>,
    /// Memory of these.
    bytes: AtomicUsize,
}

impl Symbols {
    /// From what the directory says of their groups, which lie in `section`.
    pub(crate) fn from_directory(reader: &mut Reader<'_>, section: Range<u64>) -> Result<Self, Damaged> {
        let count = reader.u32()?;
        let groups = (count as usize).div_ceil(GROUP);
        let (mut firsts, mut offsets) = (Growing::default(), vec![section.start]);
        let mut offset = section.start;
        for _ in 0..groups {
            firsts.read(reader)?;
            offset = offset.checked_add(reader.varint()?).filter(|end| *end <= section.end).ok_or(Damaged(WHAT))?;
            offsets.push(offset);
        }
        let groups = (0..groups).map(|_| OnceLock::new()).collect();
        Ok(Self { count, firsts: firsts.take()?, offsets, groups, bytes: AtomicUsize::new(0) })
    }

    /// All of them from where they stand one after the other, as they did up to version 3 of blocks.
    pub(crate) fn from_list(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let count = reader.count(reader.rest.len())?;
        let (mut firsts, mut groups, mut group) = (Growing::default(), Vec::new(), Growing::default());
        for number in 0..count {
            let (shared, rest) = group.next(reader)?;
            if !number.is_multiple_of(GROUP) {
                group.add(shared, rest)?;
                continue;
            }
            let first = [&group.text[group.last..group.last + shared], rest].concat();
            firsts.add(0, &first)?;
            if number > 0 {
                groups.push(group.take()?);
            }
            group.add(0, &first)?;
        }
        if count > 0 {
            groups.push(group.take()?);
        }
        let bytes = AtomicUsize::new(groups.iter().map(TextRow::bytes).sum());
        let groups = groups.into_iter().map(|group| OnceLock::from(Arc::new(group))).collect();
        Ok(Self { count: count as u32, firsts: firsts.take()?, offsets: Vec::new(), groups, bytes })
    }

    /// Number of symbols.
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Bytes in memory.
    pub(crate) fn loaded_bytes(&self) -> usize {
        let directory =
            self.firsts.bytes() + self.groups.len() * (size_of::<u64>() + size_of::<OnceLock<Arc<TextRow>>>());
        directory + self.bytes.load(Ordering::Relaxed)
    }

    /// The text of a symbol that is there because of [`Symbols::have`] or [`Symbols::have_all`].
    #[inline]
    pub(crate) fn text(&self, symbol: u32) -> &str {
        let group = self.groups[symbol as usize / GROUP].get();
        group.expect("a symbol whose group has been read").get(symbol as usize % GROUP)
    }

    /// The texts of so many symbols of a [`same_run`].
    pub(crate) fn run(&self, first: u32, len: usize) -> (Arc<TextRow>, Range<usize>) {
        let at = first as usize % GROUP;
        let group = self.groups[first as usize / GROUP].get().expect("a symbol whose group has been read");
        (Arc::clone(group), at..at + len)
    }

    /// Reads the group of a symbol if that has not been done.
    #[inline]
    pub(crate) fn have(&self, file: &PageReader, symbol: u32) -> Result<(), ReadError> {
        let at = symbol as usize / GROUP;
        match self.groups.get(at) {
            Some(group) if symbol < self.count => {
                if group.get().is_some() {
                    Ok(())
                } else {
                    self.read(file, at..at + 1)
                }
            }
            _ => Err(Damaged(WHAT).in_file(file.path())),
        }
    }

    /// Reads the groups of symbols, which ascend, if that has not been done.
    pub(crate) fn have_all(&self, file: &PageReader, symbols: impl Iterator<Item = u32>) -> Result<(), ReadError> {
        let mut wanted: Range<usize> = 0..0;
        for symbol in symbols {
            let group = symbol as usize / GROUP;
            if group < wanted.end {
                continue;
            }
            if group > wanted.end {
                self.read(file, std::mem::replace(&mut wanted, group..group))?;
            }
            wanted.end = group + 1;
        }
        self.read(file, wanted)
    }

    /// Reads those of some groups that have not been read. Others may do so at the same time.
    fn read(&self, file: &PageReader, groups: Range<usize>) -> Result<(), ReadError> {
        let damaged = |e: Damaged| e.in_file(file.path());
        let (mut pages, mut symbols) = (PageBuffer::default(), Growing::default());
        for group in groups {
            if self.groups.get(group).is_none_or(|group| group.get().is_some()) {
                continue;
            }
            let (from, to) = (self.offsets[group], self.offsets[group + 1]);
            let bytes = file.read_on(&mut pages, from, (to - from) as usize, WHAT)?;
            let read = self.parse(bytes, group, &mut symbols).map_err(damaged)?;
            let size = read.bytes();
            if self.groups[group].set(Arc::new(read)).is_ok() {
                self.bytes.fetch_add(size, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn parse(&self, bytes: &[u8], group: usize, symbols: &mut Growing) -> Result<TextRow, Damaged> {
        let mut reader = Reader::new(bytes, WHAT);
        symbols.add(0, self.firsts.get(group).as_bytes())?;
        let end = (self.count as usize).min((group + 1) * GROUP);
        for _ in group * GROUP + 1..end {
            symbols.read(&mut reader)?;
        }
        let last = &symbols.text[symbols.last..];
        let ascends = group + 1 == self.groups.len() || last < self.firsts.get(group + 1).as_bytes();
        if ascends { symbols.take() } else { Err(Damaged(WHAT)) }
    }

    /// The number of a text.
    pub(crate) fn find(&self, file: &PageReader, text: &str) -> Result<Option<u32>, ReadError> {
        let group = self.firsts.before(text.as_bytes());
        if group < self.firsts.len() && self.firsts.get(group) == text {
            return Ok(Some((group * GROUP) as u32));
        }
        let at = self.before(file, text.as_bytes())?;
        let is_first = (at as usize).is_multiple_of(GROUP);
        let is_it = !is_first && at < self.count && self.text(at) == text;
        Ok(is_it.then_some(at))
    }

    /// The numbers of those that begin with a text.
    pub(crate) fn with_prefix(&self, file: &PageReader, prefix: &str) -> Result<Range<u32>, ReadError> {
        let mut behind = prefix.as_bytes().to_vec();
        // no byte of a text is 255
        let Some(last) = behind.last_mut() else { return Ok(0..self.count) };
        *last += 1;
        Ok(self.before(file, prefix.as_bytes())?..self.before(file, &behind)?)
    }

    /// How many symbols are less than a text.
    fn before(&self, file: &PageReader, text: &[u8]) -> Result<u32, ReadError> {
        let Some(group) = self.firsts.before(text).checked_sub(1) else { return Ok(0) };
        self.have(file, (group * GROUP) as u32)?;
        let within = self.groups[group].get().map_or(0, |symbols| symbols.before(text));
        Ok((group * GROUP + within) as u32)
    }

    /// Reads all, for who wants to know whether they can be read.
    pub(crate) fn check(&self, file: &PageReader) -> Result<(), ReadError> {
        self.read(file, 0..self.groups.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::block::pages::PageWriter;
    use crate::files::Files;

    /// Texts as a block has them, and that block's directory and file.
    fn written(texts: &BTreeSet<String>) -> (tempfile::TempDir, Vec<u8>, PageReader) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("symbols");
        let texts: Texts = texts.iter().map(String::as_str).collect();
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        put_symbols(&texts, &mut bytes, &mut directory);
        let mut writer = PageWriter::create(&Files::default(), &path).unwrap();
        writer.write(&bytes).unwrap();
        writer.finish().unwrap();
        (dir, directory, PageReader::open(&Files::default(), &path).unwrap())
    }

    fn many() -> BTreeSet<String> {
        (0..1300).map(|n| format!("{}-value-{}-ä", n % 7, n * 31 % 1300)).collect()
    }

    #[test]
    fn texts_are_found_and_only_their_groups_are_read() {
        let texts = many();
        let (_dir, directory, file) = written(&texts);
        let open = || Symbols::from_directory(&mut Reader::new(&directory, WHAT), 0..file.len()).unwrap();
        let loaded = |symbols: &Symbols| symbols.groups.iter().filter(|group| group.get().is_some()).count();
        let whole = open();
        for (number, text) in texts.iter().enumerate() {
            let symbols = open();
            assert_eq!(symbols.find(&file, text).unwrap(), Some(number as u32), "{text}");
            assert!(loaded(&symbols) <= 1);
            assert_eq!(whole.find(&file, text).unwrap(), Some(number as u32), "{text}");
            for other in [format!("{text}x"), text[..text.len() - 2].to_owned()] {
                assert_eq!(whole.find(&file, &other).unwrap(), None, "{other}");
            }
            symbols.have(&file, number as u32).unwrap();
            assert_eq!(symbols.text(number as u32), text);
            assert_eq!(loaded(&symbols), 1);
        }
        assert_eq!(open().find(&file, "").unwrap(), None);
        assert_eq!(open().find(&file, "zzz").unwrap(), None);
        assert!(whole.have(&file, texts.len() as u32).is_err());
        let some = open();
        some.have_all(&file, [3, 5, 1299].into_iter()).unwrap();
        assert_eq!((loaded(&some), some.text(5)), (2, &**texts.iter().nth(5).unwrap()));
    }

    #[test]
    fn those_with_a_prefix_lie_together() {
        let texts: Vec<String> = many().into_iter().collect();
        let (_dir, directory, file) = written(&texts.iter().cloned().collect());
        let symbols = Symbols::from_directory(&mut Reader::new(&directory, WHAT), 0..file.len()).unwrap();
        for prefix in ["", "0", "3-value-1", "6", "3-value-12-ä", "9", "3-value-12-ä-", "/"] {
            let with = |text: &String| text.starts_with(prefix);
            let first = texts.iter().position(with).unwrap_or(0);
            let count = texts.iter().filter(|text| with(text)).count();
            let found = symbols.with_prefix(&file, prefix).unwrap();
            assert_eq!(found.len(), count, "{prefix}");
            assert!(count == 0 || found.start as usize == first, "{prefix}");
        }
    }

    proptest::proptest! {
        #[test]
        fn symbols_read_back_from_groups_and_from_a_list(texts: BTreeSet<String>, often in 0usize..300) {
            let more = (0..often).map(|n| format!("{n}"));
            let texts: BTreeSet<String> = texts.into_iter().chain(more.flat_map(|n| [format!("a{n}"), format!("ü{n}b")])).collect();
            let (_dir, directory, file) = written(&texts);
            let groups = Symbols::from_directory(&mut Reader::new(&directory, WHAT), 0..file.len()).unwrap();
            groups.check(&file).unwrap();
            let mut list = Vec::new();
            varint::put(&mut list, texts.len() as u64);
            let mut shortening = Shortening::default();
            texts.iter().for_each(|text| shortening.put(text, &mut list));
            let list = Symbols::from_list(&mut Reader::new(&list, WHAT)).unwrap();
            for symbols in [&groups, &list] {
                proptest::prop_assert!((0..symbols.len()).map(|symbol| symbols.text(symbol)).eq(texts.iter().map(String::as_str)));
                let mut numbers = 0..symbols.len();
                for text in &texts {
                    proptest::prop_assert_eq!(symbols.find(&file, text).unwrap(), numbers.next());
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(directory: Vec<u8>, bytes: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("symbols");
            let mut writer = PageWriter::create(&Files::default(), &path).unwrap();
            writer.write(&bytes).unwrap();
            writer.finish().unwrap();
            let file = PageReader::open(&Files::default(), &path).unwrap();
            if let Ok(symbols) = Symbols::from_directory(&mut Reader::new(&directory, WHAT), 0..file.len()) {
                let _ = symbols.check(&file);
            }
            let _ = Symbols::from_list(&mut Reader::new(&bytes, WHAT));
        }
    }
}
