use std::collections::HashMap;

use model::MetricType;
use tsdb::SeriesRef;
use xxhash_rust::xxh3::xxh3_64;

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

/// Of so many lines the first is written whole.
const BLOCK: usize = 32;

/// The lines of a target's last page in order, without their values, so that the next page need only be compared with them.
///
/// Flat buffers, since every series of every target has a line here: a line is the number of bytes it has in common with the one
/// before (u8), the length of the rest (one byte, or 0xff and a u32) and the rest; nearly all of a page repeats from line to line.
#[derive(Debug, Default)]
pub(super) struct PageCache {
    text: Vec<u8>,
    /// Where every [`BLOCK`]th line begins.
    blocks: Vec<u32>,
    lines: Vec<Packed>,
    /// The text of the last line, while lines are added.
    last: Vec<u8>,
}

/// How far ahead a line is looked for by comparing, before its hash is asked.
const LOOK_AHEAD: usize = 8;

impl PageCache {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn push(&mut self, text: &[u8], line: Line) {
        let shared = if self.lines.len().is_multiple_of(BLOCK) {
            // a page is no longer than the limit of bodies, its lines take two bytes more each at most
            self.blocks.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
            0
        } else {
            let most = self.last.len().min(text.len()).min(usize::from(u8::MAX));
            self.last[..most].iter().zip(text).take_while(|(a, b)| a == b).count()
        };
        self.text.push(shared as u8);
        let rest = &text[shared..];
        match u8::try_from(rest.len()) {
            Ok(short) if short < u8::MAX => self.text.push(short),
            _ => {
                self.text.push(u8::MAX);
                self.text.extend_from_slice(&(rest.len() as u32).to_le_bytes());
            }
        }
        self.text.extend_from_slice(rest);
        self.lines.push(line.into());
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
    }

    /// The lines before the cursor as a cache of their own.
    pub(super) fn head(&self, cursor: &Cursor<'_>) -> Self {
        let count = cursor.at;
        let mut last = Cursor::new(self);
        if let Some(before) = count.checked_sub(1) {
            last.seek(before);
        }
        Self {
            text: self.text[..cursor.start].to_vec(),
            blocks: self.blocks[..count.div_ceil(BLOCK)].to_vec(),
            lines: self.lines[..count].to_vec(),
            last: if count == 0 { Vec::new() } else { last.text },
        }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.lines.iter().map(|line| Line::from(*line))
    }

    /// To be called when the page has been read.
    pub(super) fn finish(&mut self) {
        self.text.shrink_to_fit();
        self.blocks.shrink_to_fit();
        self.lines.shrink_to_fit();
        self.last = Vec::new();
    }
}

/// Goes through the lines of a cache.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    cache: &'a PageCache,
    at: usize,
    /// Where the line at `at` begins, and where the next one does.
    start: usize,
    end: usize,
    /// The text of the line at `at`.
    text: Vec<u8>,
}

impl<'a> Cursor<'a> {
    /// At the first line.
    pub(super) fn new(cache: &'a PageCache) -> Self {
        let mut cursor = Self { cache, at: 0, start: 0, end: 0, text: Vec::new() };
        cursor.read();
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

    /// Goes to the next line.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.at += 1;
        self.start = self.end;
        self.read();
    }

    /// Goes to the line with this number.
    pub(super) fn seek(&mut self, line: usize) {
        let Some(block) = self.cache.blocks.get(line / BLOCK) else {
            (self.at, self.start) = (self.cache.len(), self.cache.text.len());
            return;
        };
        (self.at, self.start) = (line / BLOCK * BLOCK, *block as usize);
        self.read();
        while self.at < line.min(self.cache.len()) {
            self.advance();
        }
    }

    #[inline]
    fn read(&mut self) {
        let bytes = &self.cache.text[self.start..];
        let [shared, short, rest @ ..] = bytes else { return };
        let (len, rest, header) = match (*short, rest) {
            (u8::MAX, [a, b, c, d, rest @ ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest, 6),
            (short, rest) => (usize::from(short), rest, 2),
        };
        self.text.truncate(usize::from(*shared));
        self.text.extend_from_slice(&rest[..len]);
        self.end = self.start + header + len;
    }
}

/// Finds lines of a cache that are not where they are expected.
pub(super) struct Finder<'a> {
    cache: &'a PageCache,
    /// Made when the first line is not found nearby.
    by_hash: Option<HashMap<u64, u32, NumberHash>>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(cache: &'a PageCache) -> Self {
        Self { cache, by_hash: None }
    }

    /// The line with this text, looked for from `near` on, then anywhere.
    pub(super) fn find(&mut self, text: &[u8], near: &Cursor<'a>) -> Option<(Cursor<'a>, Line)> {
        let is_it = |cursor: &Cursor<'a>| cursor.line().filter(|(t, _)| *t == text).map(|(_, line)| line);
        let mut cursor = near.clone();
        for _ in 0..LOOK_AHEAD {
            if let Some(line) = is_it(&cursor) {
                return Some((cursor, line));
            }
            if cursor.at >= self.cache.len() {
                break;
            }
            cursor.advance();
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
        cursor.seek(*by_hash.get(&xxh3_64(text))? as usize);
        // equal hashes of different texts would mix up two series
        is_it(&cursor).map(|line| (cursor, line))
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

    fn cache(count: usize) -> PageCache {
        let mut cache = PageCache::default();
        (0..count).for_each(|i| cache.push(&text(i), Line::Series(SeriesRef(i as u64))));
        cache
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

    #[test]
    fn lines_are_found_where_they_moved() {
        let cache = cache(100);
        let mut near = Cursor::new(&cache);
        let mut finder = Finder::new(&cache);
        let mut find = |text: &[u8], at: usize| {
            near.seek(at);
            let found = finder.find(text, &near);
            (found.map(|(cursor, line)| (cursor.at(), line)), finder.by_hash.is_some())
        };
        let at = |i: usize| Some((i, Line::Series(SeriesRef(i as u64))));
        assert_eq!(find(b"m{i=\"5\"}", 3), (at(5), false));
        assert_eq!(find(b"m{i=\"90\"}", 3), (at(90), true));
        assert_eq!(find(b"m{i=\"1\"}", 50).0, at(1));
        assert_eq!(find(&text(42), 0).0, at(42));
        assert_eq!(find(b"m{i=\"99\"}", 98).0, at(99));
        assert_eq!(find(b"nope", 100).0, None);
    }

    #[test]
    fn any_part_of_a_cache_goes_on_as_the_whole_did() {
        let whole = cache(100);
        let expected: Vec<_> = (0..100).map(|i| (text(i), Line::Series(SeriesRef(i as u64)))).collect();
        assert_eq!(all(&whole), expected);
        let mut cursor = Cursor::new(&whole);
        for count in [0, 1, 31, 32, 33, 41, 50, 51, 64, 99, 100] {
            cursor.seek(count);
            let mut part = whole.head(&cursor);
            assert_eq!(all(&part), expected[..count]);
            (count..100).for_each(|i| part.push(&text(i), Line::Series(SeriesRef(i as u64))));
            part.finish();
            assert_eq!(all(&part), expected, "{count}");
        }
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
