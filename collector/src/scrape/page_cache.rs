use std::collections::HashMap;

use model::MetricType;
use tsdb::SeriesRef;
use xxhash_rust::xxh3::xxh3_64;

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

/// The lines of a target's last page in order, without their values, so that the next page need only be compared with them.
///
/// Flat buffers: the text of a line and 20 bytes.
#[derive(Debug, Default)]
pub(super) struct PageCache {
    text: Vec<u8>,
    ends: Vec<u32>,
    lines: Vec<Line>,
}

/// How far ahead a line is looked for by comparing, before its hash is asked.
const LOOK_AHEAD: usize = 8;

impl PageCache {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line at `at`, with its text.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<(&[u8], Line)> {
        let line = *self.lines.get(at)?;
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        Some((&self.text[start..self.ends[at] as usize], line))
    }

    pub(super) fn push(&mut self, text: &[u8], line: Line) {
        self.text.extend_from_slice(text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.lines.push(line);
    }

    /// The first `count` lines as a cache of their own.
    pub(super) fn head(&self, count: usize) -> Self {
        let end = if count == 0 { 0 } else { self.ends[count - 1] as usize };
        Self { text: self.text[..end].to_vec(), ends: self.ends[..count].to_vec(), lines: self.lines[..count].to_vec() }
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.lines.shrink_to_fit();
    }
}

/// Finds lines of a cache that are not where they are expected.
pub(super) struct Finder<'a> {
    cache: &'a PageCache,
    /// Made when the first line is not found nearby.
    by_hash: Option<HashMap<u64, u32>>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(cache: &'a PageCache) -> Self {
        Self { cache, by_hash: None }
    }

    /// The place of the line with this text, looked for from `near` on, then anywhere.
    pub(super) fn find(&mut self, text: &[u8], near: usize) -> Option<usize> {
        let ahead = near..self.cache.len().min(near.saturating_add(LOOK_AHEAD));
        for at in ahead {
            if self.cache.get(at).is_some_and(|(t, _)| t == text) {
                return Some(at);
            }
        }
        let cache = self.cache;
        let by_hash = self.by_hash.get_or_insert_with(|| {
            (0..cache.len()).filter_map(|at| cache.get(at).map(|(t, _)| (xxh3_64(t), at as u32))).collect()
        });
        let at = *by_hash.get(&xxh3_64(text))? as usize;
        // equal hashes of different texts would mix up two series
        self.cache.get(at).is_some_and(|(t, _)| t == text).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_where_they_moved() {
        let mut cache = PageCache::default();
        for i in 0..100 {
            cache.push(format!("m{{i=\"{i}\"}}").as_bytes(), Line::Series(SeriesRef(i)));
        }
        let mut finder = Finder::new(&cache);
        assert_eq!(finder.find(b"m{i=\"5\"}", 3), Some(5));
        assert!(finder.by_hash.is_none());
        assert_eq!(finder.find(b"m{i=\"90\"}", 3), Some(90));
        assert_eq!(finder.find(b"m{i=\"1\"}", 50), Some(1));
        assert_eq!(finder.find(b"nope", 0), None);
        assert_eq!(cache.head(2).len(), 2);
        assert_eq!(cache.head(2).get(1), cache.get(1));
        assert_eq!(cache.head(0).get(0), None);
    }
}
