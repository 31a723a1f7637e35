//! Texts in one piece of memory that does not change any more and has any number of holders.

use std::ops::Range;

/// Texts, one after the other.
#[derive(Debug, Default)]
pub(crate) struct TextRow {
    text: Box<str>,
    /// Where in `text` each ends.
    ends: Box<[u32]>,
}

impl TextRow {
    /// The texts that end at these places of `text`, which ascend; `None` if one of them is none.
    pub(crate) fn new(text: &str, ends: &[u32]) -> Option<Self> {
        let are_places = ends.is_sorted() && ends.iter().all(|end| text.is_char_boundary(*end as usize));
        are_places.then(|| Self { text: text.into(), ends: ends.into() })
    }

    /// Number of texts.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> &str {
        &self.text[self.start(at)..self.ends[at] as usize]
    }

    /// How many of them, which ascend, are less than a text.
    pub(crate) fn before(&self, text: &[u8]) -> usize {
        partition_point(self.len(), |at| self.get(at).as_bytes() < text)
    }

    /// Some of them.
    pub(crate) fn piece(&self, range: Range<usize>) -> TextPiece<'_> {
        let (start, end) = (self.start(range.start), self.start(range.end));
        TextPiece { text: &self.text[start..end], ends: Ends::OfRow(&self.ends[range], start) }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<u32>() + size_of::<Self>()
    }
}

/// Some texts that lie one after the other.
#[derive(Clone, Copy, Debug)]
pub struct TextPiece<'a> {
    pub(crate) text: &'a str,
    pub(crate) ends: Ends<'a>,
}

/// Where texts end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends<'a> {
    Of(&'a [usize]),
    /// In a row, of which those before this place are left out.
    OfRow(&'a [u32], usize),
}

impl<'a> TextPiece<'a> {
    /// Number of texts.
    pub fn len(&self) -> usize {
        match self.ends {
            Ends::Of(ends) => ends.len(),
            Ends::OfRow(ends, _) => ends.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them without anything between them.
    pub fn concatenated(&self) -> &'a str {
        self.text
    }

    /// Where in [`TextPiece::concatenated`] the text at a place ends.
    #[inline]
    pub fn end(&self, at: usize) -> usize {
        match self.ends {
            Ends::Of(ends) => ends[at],
            Ends::OfRow(ends, left_out) => ends[at] as usize - left_out,
        }
    }
}

/// As that of slices, for what is reached by its place: how many of so many, from the first on, something holds for.
pub(crate) fn partition_point(len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, len);
    while from < to {
        let middle = from.midpoint(to);
        if holds(middle) { from = middle + 1 } else { to = middle }
    }
    from
}
