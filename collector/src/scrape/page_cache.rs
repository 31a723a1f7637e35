mod edits;

use std::collections::HashMap;
use std::ops::Range;

use model::MetricType;
use tsdb::SeriesRef;
use xxhash_rust::xxh3::xxh3_64;

pub(super) use self::edits::{Edits, NewLines, SMALL_BLOCK};
use crate::number_hash::NumberHash;

/// What a line of the last page led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A series that is stored.
    Series(SeriesRef),
    /// A series that is stored with the page's own timestamps.
    Timed(SeriesRef),
    /// A series that relabelling drops.
    Dropped,
    /// A second line of a series: its samples are refused.
    Repeated,
    /// The type of a family, which decides how labels of its series are written.
    Type(MetricType),
    /// Any other comment, metadata included.
    Comment,
}

impl Line {
    pub(super) fn is_comment(self) -> bool {
        matches!(self, Self::Type(_) | Self::Comment)
    }

    /// The series that ends when the line is gone. Those with timestamps of the page end only if that is asked for.
    pub(super) fn series(self, track_timed: bool) -> Option<SeriesRef> {
        match self {
            Self::Series(series) => Some(series),
            Self::Timed(series) if track_timed => Some(series),
            Self::Timed(_) | Self::Dropped | Self::Repeated | Self::Type(_) | Self::Comment => None,
        }
    }
}

/// A [`Line`] in eight bytes: what it is in the lowest three bits, the rest above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

const TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

impl From<Line> for Packed {
    fn from(line: Line) -> Self {
        let (kind, rest) = match line {
            Line::Comment => (0, 0),
            Line::Series(series) => (1, series.0),
            Line::Timed(series) => (2, series.0),
            Line::Dropped => (3, 0),
            Line::Repeated => (4, 0),
            Line::Type(metric_type) => (5, TYPES.iter().position(|t| *t == metric_type).unwrap_or(0) as u64),
        };
        debug_assert!(rest >> 61 == 0, "numbers of series are small");
        Self(rest << 3 | kind)
    }
}

impl From<Packed> for Line {
    fn from(Packed(packed): Packed) -> Self {
        let rest = packed >> 3;
        match packed & 7 {
            1 => Self::Series(SeriesRef(rest)),
            2 => Self::Timed(SeriesRef(rest)),
            3 => Self::Dropped,
            4 => Self::Repeated,
            5 => Self::Type(TYPES[(rest & 7) as usize]),
            _ => Self::Comment,
        }
    }
}

/// About so many lines make a block, whose first line is written whole.
const BLOCK: usize = 16;

/// Lines that are read without the ones before: a part of the text.
#[derive(Clone, Copy, Debug)]
struct Block {
    start: usize,
    len: u32,
    /// How much text there is room for.
    room: u32,
    /// The number of its first line.
    line: u32,
}

impl Block {
    fn end(self) -> usize {
        self.start + self.len as usize
    }

    /// The same where there are so many more lines before it.
    fn moved(self, lines: i64) -> Self {
        Self { line: (i64::from(self.line) + lines) as u32, ..self }
    }
}

/// The lines of a target's last page in order, without their values, so that the next page need only be compared with them.
///
/// Every series of every target has a line here, so it is small: a line is the number of bytes it has in common with the one before
/// (u8), the length of the rest (one byte, or 0xff and a u32) and the rest; nearly all of a page repeats from line to line. Of a page of
/// which a little changes only the blocks with a change are written again, in their places ([`Edits`]): so the text stays in the order in
/// which it is read.
#[derive(Debug)]
pub(super) struct PageCache {
    text: Vec<u8>,
    /// How much of the text is no block's.
    unused: usize,
    blocks: Vec<Block>,
    lines: Vec<Packed>,
    /// No series of the lines has a higher reference.
    newest: SeriesRef,
}

impl Default for PageCache {
    fn default() -> Self {
        Self { text: Vec::new(), unused: 0, blocks: Vec::new(), lines: Vec::new(), newest: SeriesRef(0) }
    }
}

impl PageCache {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of text of all lines as they are written here.
    pub(super) fn text_len(&self) -> usize {
        self.text.len() - self.unused
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.lines.iter().map(|line| Line::from(*line))
    }

    fn push(&mut self, line: Line) {
        self.lines.push(line.into());
        self.meet(line);
    }

    fn meet(&mut self, line: Line) {
        if let Line::Series(series) | Line::Timed(series) = line {
            self.newest = self.newest.max(series);
        }
    }

    /// No series of the lines is newer than this one.
    pub(super) fn newest(&self) -> SeriesRef {
        self.newest
    }

    /// The line with this number, which there must be.
    pub(super) fn line(&self, at: usize) -> Line {
        self.lines[at].into()
    }

    /// Which of the lines are whole blocks.
    pub(super) fn whole_blocks(&self, lines: &Range<usize>) -> Range<usize> {
        let from = self.blocks.partition_point(|block| (block.line as usize) < lines.start);
        let whole = |block: &usize| self.first_line(block + 1) <= lines.end;
        from..from + (from..self.blocks.len()).take_while(whole).count()
    }

    /// The lines of these blocks.
    pub(super) fn lines_of(&self, blocks: &Range<usize>) -> Range<usize> {
        self.first_line(blocks.start)..self.first_line(blocks.end)
    }

    /// The number of the first line of a block; the last block ends with the lines.
    fn first_line(&self, block: usize) -> usize {
        self.blocks.get(block).map_or(self.len(), |block| block.line as usize)
    }

    /// The block that has a line, if there is any; of lines behind the last one that is the last.
    fn block_of(&self, line: usize) -> Option<usize> {
        self.blocks.partition_point(|block| block.line as usize <= line).checked_sub(1)
    }
}

/// Writes lines behind each other.
#[derive(Debug, Default)]
struct Packer {
    /// The line that was written last; empty where a block begins.
    last: Vec<u8>,
}

impl Packer {
    /// The next line is written whole.
    fn begin(&mut self) {
        self.last.clear();
    }

    /// A line has been written in another way.
    fn pass(&mut self, text: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(text);
    }

    /// Writes a line; `packed` is what it is behind the line that was written before it, where that is known ([`Cursor::packed`]).
    fn push(&mut self, text: &[u8], packed: Option<&[u8]>, out: &mut Vec<u8>) {
        if let Some(packed) = packed.filter(|_| !self.last.is_empty()) {
            out.extend_from_slice(packed);
            self.pass(text);
            return;
        }
        let most = self.last.len().min(text.len()).min(usize::from(u8::MAX));
        let shared = equal_at_first(&self.last[..most], text);
        out.push(shared as u8);
        let rest = &text[shared..];
        match u8::try_from(rest.len()) {
            Ok(short) if short < u8::MAX => out.push(short),
            _ => {
                out.push(u8::MAX);
                out.extend_from_slice(&(rest.len() as u32).to_le_bytes());
            }
        }
        out.extend_from_slice(rest);
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
    }
}

/// Divides lines into blocks of about the same number.
#[derive(Debug)]
pub(super) struct Divider {
    size: usize,
    met: usize,
}

impl Divider {
    /// Of so many lines.
    pub(super) fn new(lines: usize) -> Self {
        let blocks = ((lines + BLOCK / 2) / BLOCK).max(1);
        Self { size: lines.div_ceil(blocks).max(1), met: 0 }
    }

    /// Whether a block begins with the next line.
    pub(super) fn begins(&mut self) -> bool {
        let begins = self.met.is_multiple_of(self.size);
        self.met += 1;
        begins
    }
}

impl Default for Divider {
    fn default() -> Self {
        Self::new(0)
    }
}

/// Writes the lines of a cache.
#[derive(Debug, Default)]
pub(super) struct PageWriter {
    cache: PageCache,
    packer: Packer,
    /// Where the block that has been begun begins in the text.
    start: usize,
    /// The number of its first line.
    line: u32,
}

impl PageWriter {
    /// Of a page that is about as long as another one.
    pub(super) fn like(other: &PageCache) -> Self {
        let mut cache = PageCache::default();
        cache.text.reserve_exact(with_spare(other.text_len()));
        cache.lines.reserve_exact(with_spare(other.lines.len()));
        cache.blocks.reserve_exact(with_spare(other.blocks.len()));
        Self { cache, ..Self::default() }
    }

    /// Begins a block.
    pub(super) fn block(&mut self) {
        self.end_block();
        self.line = self.cache.lines.len() as u32;
        self.packer.begin();
    }

    fn end_block(&mut self) {
        let PageCache { text, blocks, .. } = &mut self.cache;
        let len = (text.len() - self.start) as u32;
        if len > 0 {
            blocks.push(Block { start: self.start, len, room: len, line: self.line });
        }
        self.start = text.len();
    }

    /// Adds a line to the block; `packed` is what it is behind the line that was added before it, where that is known
    /// ([`Cursor::packed`]).
    pub(super) fn push(&mut self, text: &[u8], packed: Option<&[u8]>, line: Line) {
        self.packer.push(text, packed, &mut self.cache.text);
        self.cache.push(line);
    }

    /// Adds blocks of another cache.
    pub(super) fn copy(&mut self, from: &PageCache, blocks: Range<usize>) {
        self.end_block();
        let Some(first) = from.blocks.get(blocks.start).map(|block| block.line) else { return };
        let PageCache { text, blocks: to, lines, newest, .. } = &mut self.cache;
        let line = lines.len() as u32;
        *newest = (*newest).max(from.newest);
        lines.extend_from_slice(&from.lines[from.lines_of(&blocks)]);
        for block in &from.blocks[blocks] {
            to.push(Block { start: text.len(), len: block.len, room: block.len, line: block.line - first + line });
            text.extend_from_slice(&from.text[block.start..block.end()]);
        }
        self.start = text.len();
    }

    pub(super) fn finish(mut self) -> PageCache {
        self.end_block();
        let PageCache { text, blocks, lines, .. } = &mut self.cache;
        // what is a little too long is not worth a copy
        text.shrink_to(with_spare(text.len()));
        blocks.shrink_to(with_spare(blocks.len()));
        lines.shrink_to(with_spare(lines.len()));
        self.cache
    }
}

/// How many bytes two texts have in common from the first on.
fn equal_at_first(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 8;
    let whole = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

/// Lists may have room for one more in so many.
const SPARE: usize = 32;

fn with_spare(len: usize) -> usize {
    len + len / SPARE
}

/// Goes through the lines of a cache.
pub(super) struct Cursor<'a> {
    cache: &'a PageCache,
    at: usize,
    /// Its block, and where that begins and ends in the text.
    block: usize,
    first: usize,
    last: usize,
    /// Where it begins itself, and where the next one does.
    start: usize,
    end: usize,
    /// The text of the line at `at`.
    text: Vec<u8>,
}

impl<'a> Cursor<'a> {
    /// At the first line.
    pub(super) fn new(cache: &'a PageCache) -> Self {
        Self::at_block(cache, 0, Vec::new())
    }

    /// At the first line of a block. The memory of `text` is used for the lines.
    fn at_block(cache: &'a PageCache, block: usize, text: Vec<u8>) -> Self {
        let mut cursor = Self { cache, at: 0, block: 0, first: 0, last: 0, start: 0, end: 0, text };
        cursor.enter(block);
        cursor
    }

    /// The number of the line.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The line; `None` behind the last.
    #[inline]
    pub(super) fn line(&self) -> Option<(&[u8], Line)> {
        let line = *self.cache.lines.get(self.at)?;
        Some((&self.text, line.into()))
    }

    /// The line as it is written behind the one before it; `None` for the first of a block.
    pub(super) fn packed(&self) -> Option<&'a [u8]> {
        if self.start > self.first { self.cache.text.get(self.start..self.end) } else { None }
    }

    /// Goes to the next line.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.at += 1;
        self.start = self.end;
        if self.start == self.last { self.enter(self.block + 1) } else { self.read() }
    }

    /// Goes to the line with this number.
    pub(super) fn seek(&mut self, line: usize) {
        let Some(block) = self.cache.block_of(line) else { return };
        self.enter(block);
        self.go_on_to(line.min(self.cache.len()));
    }

    /// Goes on to the line with this number, which must not be behind.
    fn go_on_to(&mut self, line: usize) {
        while self.at < line {
            self.advance();
        }
    }

    /// Whether the line is the last of its block.
    fn ends_block(&self) -> bool {
        self.end == self.last
    }

    /// Goes where another one is.
    fn go_to(&mut self, other: &Self) {
        (self.cache, self.at, self.block) = (other.cache, other.at, other.block);
        (self.first, self.last) = (other.first, other.last);
        (self.start, self.end) = (other.start, other.end);
        self.text.clone_from(&other.text);
    }

    /// Goes to the first line of a block, if there is such a block.
    fn enter(&mut self, block: usize) {
        let Some(found) = self.cache.blocks.get(block) else { return };
        (self.block, self.at) = (block, found.line as usize);
        (self.first, self.last) = (found.start, found.end());
        self.start = found.start;
        self.read();
    }

    #[inline]
    fn read(&mut self) {
        let Some([shared, short, rest @ ..]) = self.cache.text.get(self.start..self.last) else { return };
        let (len, rest, header) = match (*short, rest) {
            (u8::MAX, [a, b, c, d, rest @ ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest, 6),
            (short, rest) => (usize::from(short), rest, 2),
        };
        self.text.truncate(usize::from(*shared));
        self.text.extend_from_slice(&rest[..len]);
        self.end = self.start + header + len;
    }
}

/// How far ahead a line is looked for by comparing.
const LOOK_AHEAD: usize = 8;

/// One of so many lines may be missed before hashes of all of them are made: until then it is cheaper to ask the store for the
/// series of what is not found.
const MISSES: usize = 32;

/// Finds lines of a cache that are not where they are expected.
pub(super) struct Finder<'a> {
    cache: &'a PageCache,
    /// Where it looks.
    probe: Cursor<'a>,
    /// Lines that were not found nearby.
    missed: usize,
    by_hash: Option<HashMap<u64, u32, NumberHash>>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(cache: &'a PageCache) -> Self {
        Self { cache, probe: Cursor::new(cache), missed: 0, by_hash: None }
    }

    /// Moves the cursor to the line with this text, looked for from there on and then, if many have not been found like that,
    /// anywhere. `behind` is what follows the line on its page: if that is the line behind the cursor, this one has come in the place of
    /// the one at the cursor, which is passed.
    pub(super) fn find(&mut self, text: &[u8], behind: &[u8], near: &mut Cursor<'a>) -> Option<Line> {
        self.probe.go_to(near);
        for ahead in 0..LOOK_AHEAD {
            match self.probe.line() {
                Some((known, line)) if known == text => {
                    std::mem::swap(near, &mut self.probe);
                    return Some(line);
                }
                Some((known, _)) if ahead == 1 && !known.is_empty() && behind.starts_with(known) => {
                    std::mem::swap(near, &mut self.probe);
                    return None;
                }
                Some(_) => self.probe.advance(),
                None => break,
            }
        }
        self.missed += 1;
        if self.missed <= self.cache.len() / MISSES {
            return None;
        }
        let by_hash = self.by_hash.get_or_insert_with(|| {
            let mut each = Cursor::new(self.cache);
            let mut by_hash = HashMap::with_capacity_and_hasher(self.cache.len(), NumberHash::default());
            while let Some((text, _)) = each.line() {
                by_hash.insert(xxh3_64(text), each.at as u32);
                each.advance();
            }
            by_hash
        });
        let at = *by_hash.get(&xxh3_64(text))? as usize;
        // equal hashes of different texts would mix up two series
        self.is_at(text, at, near)
    }

    /// Moves the cursor to this line if it has this text.
    pub(super) fn is_at(&mut self, text: &[u8], at: usize, cursor: &mut Cursor<'a>) -> Option<Line> {
        self.probe.seek(at);
        let (_, line) = self.probe.line().filter(|(known, _)| *known == text)?;
        std::mem::swap(cursor, &mut self.probe);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(i: usize) -> Vec<u8> {
        match i {
            // longer than the length of a line in one byte, and equal to the one before further than one byte can say
            40..43 => [vec![b'x'; 300], i.to_string().into_bytes()].concat(),
            50 => Vec::new(),
            _ => format!("m{{i=\"{i}\"}}").into_bytes(),
        }
    }

    fn write(writer: &mut PageWriter, lines: Range<usize>) {
        writer.block();
        lines.for_each(|i| writer.push(&text(i), None, Line::Series(SeriesRef(i as u64))));
    }

    fn cache(blocks: &[usize]) -> PageCache {
        let mut writer = PageWriter::default();
        let mut from = 0;
        for len in blocks {
            write(&mut writer, from..from + len);
            from += len;
        }
        writer.finish()
    }

    fn all(cache: &PageCache) -> Vec<(Vec<u8>, Line)> {
        let mut cursor = Cursor::new(cache);
        std::iter::from_fn(|| {
            let (text, line) = cursor.line()?;
            let line = (text.to_vec(), line);
            cursor.advance();
            Some(line)
        })
        .collect()
    }

    fn expected(lines: Range<usize>) -> Vec<(Vec<u8>, Line)> {
        lines.map(|i| (text(i), Line::Series(SeriesRef(i as u64)))).collect()
    }

    #[test]
    fn lines_are_found_where_they_moved() {
        let cache = cache(&[32, 30, 38]);
        let mut near = Cursor::new(&cache);
        let mut finder = Finder::new(&cache);
        let mut find = |text: &[u8], at: usize| {
            near.seek(at);
            (finder.find(text, b"", &mut near).map(|line| (near.at(), line)), finder.by_hash.is_some())
        };
        let at = |i: usize| Some((i, Line::Series(SeriesRef(i as u64))));
        assert_eq!(find(b"m{i=\"5\"}", 3), (at(5), false));
        for _ in 0..cache.len() / MISSES {
            assert_eq!(find(b"m{i=\"90\"}", 3), (None, false));
        }
        assert_eq!(find(b"m{i=\"90\"}", 3), (at(90), true));
        assert_eq!(find(b"m{i=\"1\"}", 50).0, at(1));
        assert_eq!(find(&text(42), 0).0, at(42));
        assert_eq!(find(b"m{i=\"99\"}", 98).0, at(99));
        assert_eq!(find(b"nope", 100).0, None);
        assert_eq!(finder.is_at(&text(42), 41, &mut near), None);
        assert_eq!((finder.is_at(&text(42), 42, &mut near), near.at()), (at(42).map(|(_, line)| line), 42));
    }

    #[test]
    fn a_line_that_has_come_in_the_place_of_another_is_passed() {
        let cache = cache(&[32, 68]);
        let mut finder = Finder::new(&cache);
        let mut find = |text: &[u8], behind: &[u8], at: usize| {
            let mut near = Cursor::new(&cache);
            near.seek(at);
            (finder.find(text, behind, &mut near).is_some(), near.at())
        };
        for _ in 0..cache.len() {
            assert_eq!(find(b"new", b"m{i=\"6\"} 1\n", 5), (false, 6));
            assert_eq!(find(b"new", b"m{i=\"32\"} 1\n", 31), (false, 32));
        }
        assert!(finder.by_hash.is_none(), "nothing was missed");
        let mut find = |text: &[u8], behind: &[u8], at: usize| {
            let mut near = Cursor::new(&cache);
            near.seek(at);
            (finder.find(text, behind, &mut near).is_some(), near.at())
        };
        // further lines have come or gone
        for behind in [&b"m{i=\"7\"} 1\n"[..], b"m{i=\"5\"} 1\n", b"m{i=\"6", b""] {
            assert_eq!(find(b"new", behind, 5), (false, 5));
        }
        assert_eq!(find(b"new", b"m{i=\"7\"} 1\n", 99), (false, 99));
        assert_eq!(find(b"m{i=\"6\"}", b"m{i=\"7\"} 1\n", 5), (true, 6));
        // a line without text says nothing about what is behind
        assert_eq!(find(b"new", b"m{i=\"7\"} 1\n", 49), (false, 49));
    }

    #[test]
    fn every_line_can_be_gone_to() {
        let cache = cache(&[32, 1, 9, 58]);
        assert_eq!(all(&cache), expected(0..100));
        let mut cursor = Cursor::new(&cache);
        for at in (0..100).rev().chain([57, 0, 99, 33]) {
            cursor.seek(at);
            let (text, line) = cursor.line().unwrap();
            assert_eq!((cursor.at(), (text.to_vec(), line)), (at, expected(at..at + 1).remove(0)));
        }
        cursor.seek(100);
        assert_eq!(cursor.line(), None);
    }

    #[test]
    fn blocks_are_copied_as_they_are() {
        let cache = cache(&[32, 1, 9, 58]);
        let mut writer = PageWriter::default();
        write(&mut writer, 7..9);
        for (lines, blocks) in [(0..32, 0..1), (1..42, 1..3), (33..100, 2..4), (0..31, 0..0), (50..100, 4..4)] {
            assert_eq!(cache.whole_blocks(&lines), blocks, "{lines:?}");
            writer.copy(&cache, blocks);
        }
        write(&mut writer, 99..100);
        let expected: Vec<_> = [7..9, 0..32, 32..42, 33..100, 99..100].into_iter().flat_map(expected).collect();
        assert_eq!(all(&writer.finish()), expected);
    }

    #[test]
    fn lines_are_packed_without_loss() {
        let mut lines = vec![Line::Dropped, Line::Repeated, Line::Comment, Line::Timed(SeriesRef(u64::from(u32::MAX)))];
        lines.extend(TYPES.map(Line::Type));
        for line in lines {
            assert_eq!(Line::from(Packed::from(line)), line);
        }
    }
}
