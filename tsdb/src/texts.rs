use std::ops::Range;
use std::sync::Arc;

use crate::sorting::sort_runs;
use crate::text_row::{Ends, TextPiece, TextRow, partition_point};
use crate::watch::Pace;

/// Texts, one after the other in few pieces of memory: there may be a hundred thousand values of a label.
#[derive(Clone, Debug)]
pub struct Texts {
    /// Those that others hold as well, before those in `text`.
    shared: Vec<SharedTexts>,
    text: String,
    /// Where in `text` each ends.
    ends: Vec<usize>,
    /// Whether they are known to be in ascending order, each once.
    sorted: bool,
}

/// Some texts of a row.
#[derive(Clone, Debug)]
struct SharedTexts {
    row: Arc<TextRow>,
    range: Range<usize>,
    /// How many texts there are up to the end of these.
    upto: usize,
}

impl SharedTexts {
    fn piece(&self) -> TextPiece<'_> {
        self.row.piece(self.range.clone())
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self { shared: Vec::new(), text: String::new(), ends: Vec::new(), sorted: true }
    }
}

/// The same texts in the same order.
impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        if self.shared.is_empty() && other.shared.is_empty() {
            self.text == other.text && self.ends == other.ends
        } else {
            self.len() == other.len() && self.iter().eq(other.iter())
        }
    }
}

impl Eq for Texts {}

impl Texts {
    /// Adds a text.
    pub fn push(&mut self, text: &str) {
        self.sorted = self.is_empty();
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// Adds texts to none, of which the caller knows that they are in ascending order, each once: they need not be compared again.
    pub(crate) fn ascending<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut all: Self = texts.collect();
        debug_assert!(all.iter().is_sorted_by(|a, b| a < b), "they are in ascending order");
        all.sorted = true;
        all
    }

    /// The same of texts that are not copied: some of each row.
    pub(crate) fn ascending_rows(rows: impl Iterator<Item = (Arc<TextRow>, Range<usize>)>) -> Self {
        let mut upto = 0;
        let shared = rows.map(|(row, range)| {
            upto += range.len();
            SharedTexts { row, range, upto }
        });
        let all = Self { shared: shared.collect(), ..Self::default() };
        debug_assert!(all.iter().is_sorted_by(|a, b| a < b), "they are in ascending order");
        all
    }

    /// Those of the texts that are in `shared`.
    fn shared_len(&self) -> usize {
        self.shared.last().map_or(0, |last| last.upto)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.shared_len() + self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The texts in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let piece = TextPiece { text: "", ends: Ends::Of(&[]) };
        Iter { texts: self, piece, next_piece: 0, next: 0, start: 0, left: self.len() }
    }

    /// The texts in pieces, by number and in their order; `None` after the last.
    pub fn piece(&self, number: usize) -> Option<TextPiece<'_>> {
        if let Some(shared) = self.shared.get(number) {
            return Some(shared.piece());
        }
        let own = number == self.shared.len() && !self.ends.is_empty();
        own.then(|| TextPiece { text: &self.text, ends: Ends::Of(&self.ends) })
    }

    /// Bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        self.shared.iter().map(|shared| shared.piece().text.len()).sum::<usize>() + self.text.len()
    }

    /// Keeps the first `len` texts.
    pub fn truncate(&mut self, len: usize) {
        let shared = self.shared_len();
        if len < shared {
            let whole = self.shared.partition_point(|shared| shared.upto <= len);
            let before = whole.checked_sub(1).map_or(0, |last| self.shared[last].upto);
            self.shared.truncate(if before < len { whole + 1 } else { whole });
            if let Some(cut) = self.shared.get_mut(whole) {
                cut.range.end = cut.range.start + len - before;
                cut.upto = len;
            }
        }
        self.ends.truncate(len.saturating_sub(shared));
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Puts the texts in ascending order, each once.
    pub fn sort(&mut self) {
        self.sort_paced(&Pace::unwatched());
    }

    /// The same; anything if `pace` has said stop.
    pub(crate) fn sort_paced(&mut self, pace: &Pace<'_>) {
        if self.sorted || self.iter().is_sorted_by(|a, b| a < b) {
            self.sorted = true;
            return;
        }
        let order = (0..self.len()).collect::<Vec<_>>();
        let mut order = sort_runs(order, |a, b| self.get(*a).cmp(self.get(*b)), pace);
        if !pace.done(order.len()) {
            return;
        }
        order.dedup_by_key(|at| self.get(*at));
        *self = Self::ascending(order.into_iter().map(|at| self.get(at)));
    }

    /// Adds the texts of another list; all are in ascending order then, each once.
    pub fn merge(&mut self, other: Self) {
        self.merge_paced(other, &Pace::unwatched());
    }

    /// The same; anything if `pace` has said stop.
    pub(crate) fn merge_paced(&mut self, mut other: Self, pace: &Pace<'_>) {
        self.sort_paced(pace);
        other.sort_paced(pace);
        // what one block has, others have mostly too
        if other.is_empty() || *self == other || !pace.done(other.len()) {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        let mut all = Self {
            text: String::with_capacity(self.text_bytes().max(other.text_bytes())),
            ends: Vec::with_capacity(self.len().max(other.len())),
            ..Self::default()
        };
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        while pace.done(2) {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a == b => {
                    right.next();
                    left.next()
                }
                (Some(a), Some(b)) if a > b => right.next(),
                (None, _) => right.next(),
                _ => left.next(),
            };
            let Some(text) = next else { break };
            all.text.push_str(text);
            all.ends.push(all.text.len());
        }
        drop((left, right));
        *self = all;
    }

    /// Bytes of memory, what is shared included.
    pub fn heap_bytes(&self) -> usize {
        let shared = |shared: &SharedTexts| {
            let piece = shared.piece();
            piece.text.len() + piece.len() * size_of::<u32>() + size_of::<SharedTexts>()
        };
        let own = self.text.capacity() + self.ends.capacity() * size_of::<usize>();
        self.shared.iter().map(shared).sum::<usize>() + own
    }

    /// The place of a text among texts in ascending order.
    pub(crate) fn find(&self, text: &str) -> Option<usize> {
        let at = partition_point(self.len(), |at| self.get(at) < text);
        (at < self.len() && self.get(at) == text).then_some(at)
    }

    pub(crate) fn get(&self, at: usize) -> &str {
        let Some(at) = at.checked_sub(self.shared_len()) else {
            let shared = &self.shared[self.shared.partition_point(|shared| shared.upto <= at)];
            return shared.row.get(shared.range.end - (shared.upto - at));
        };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }
}

/// Texts in their order.
struct Iter<'a> {
    texts: &'a Texts,
    piece: TextPiece<'a>,
    next_piece: usize,
    /// The next text of the piece, and where it begins.
    next: usize,
    start: usize,
    /// How many are still to come.
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        while self.next == self.piece.len() {
            self.piece = self.texts.piece(self.next_piece)?;
            self.next_piece += 1;
            (self.next, self.start) = (0, 0);
        }
        let end = self.piece.end(self.next);
        let text = &self.piece.text[self.start..end];
        (self.next, self.start) = (self.next + 1, end);
        self.left -= 1;
        Some(text)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> Extend<&'a str> for Texts {
    fn extend<I: IntoIterator<Item = &'a str>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| self.push(text));
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut all = Self::default();
        all.extend(texts);
        all
    }
}

impl<const N: usize> PartialEq<[&str; N]> for Texts {
    fn eq(&self, other: &[&str; N]) -> bool {
        self.iter().eq(other.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn texts_are_sorted_each_once(mut texts: Vec<String>, again in 0usize..5, kept in 0usize..10) {
            texts.extend(texts.iter().take(again).cloned().collect::<Vec<_>>());
            let mut sorted: Texts = texts.iter().map(String::as_str).collect();
            proptest::prop_assert!(sorted.iter().eq(texts.iter()) && sorted.len() == texts.len());
            let mut merged: Texts = texts.iter().take(kept).map(String::as_str).collect();
            merged.merge(texts.iter().skip(kept).map(String::as_str).collect());
            let mut once = merged.clone();
            merged.merge(once.clone());
            proptest::prop_assert_eq!(&merged, &once);
            sorted.sort();
            texts.sort();
            texts.dedup();
            sorted.sort();
            proptest::prop_assert!(sorted.iter().eq(texts.iter()));
            proptest::prop_assert_eq!(&merged, &sorted);
            once.merge(sorted.iter().take(kept).collect());
            proptest::prop_assert_eq!(&merged, &once);
            sorted.truncate(kept);
            texts.truncate(kept);
            proptest::prop_assert!(sorted.iter().eq(texts.iter()));
            sorted.push("more");
            proptest::prop_assert_eq!(sorted.iter().last(), Some("more"));
        }

        /// Those that are shared are like those that are not, whatever is done with them.
        #[test]
        fn shared_texts_are_texts(texts: std::collections::BTreeSet<String>, more: Vec<String>, size in 1usize..5, skipped in 0usize..2, kept in 0usize..12) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let rows = texts.chunks(size).map(|run| {
                // before and behind what is wanted there are others
                let all: Vec<&str> = ["x"; 2][..skipped].iter().chain(run).chain(&["y"]).copied().collect();
                let ends: Vec<u32> = (1..=all.len()).map(|count| all[..count].concat().len() as u32).collect();
                (Arc::new(TextRow::new(&all.concat(), &ends).unwrap()), skipped..skipped + run.len())
            });
            let shared = Texts::ascending_rows(rows);
            let copied: Texts = texts.iter().copied().collect();
            let check = |shared: &Texts, copied: &Texts| {
                proptest::prop_assert_eq!(shared, copied);
                proptest::prop_assert_eq!(shared.iter().len(), copied.len());
                proptest::prop_assert!((0..copied.len()).all(|at| shared.get(at) == copied.get(at)));
                let pieces = (0..).map_while(|number| shared.piece(number));
                proptest::prop_assert_eq!(pieces.clone().map(|piece| piece.concatenated()).collect::<String>(), copied.text.clone());
                proptest::prop_assert!(pieces.clone().all(|piece| piece.end(piece.len() - 1) == piece.concatenated().len()));
                proptest::prop_assert_eq!(pieces.map(|piece| piece.len()).sum::<usize>(), copied.len());
                proptest::prop_assert_eq!(shared.text_bytes(), copied.text.len());
                Ok(())
            };
            check(&shared, &copied)?;
            proptest::prop_assert!(texts.iter().all(|text| shared.find(text) == copied.find(text)));
            let other: Texts = more.iter().map(String::as_str).collect();
            for (first, second) in [(&shared, &other), (&other, &shared), (&shared, &shared)] {
                let (mut merged, mut expected) = (first.clone(), first.iter().collect::<Texts>());
                merged.merge(second.clone());
                expected.merge(second.iter().collect());
                check(&merged, &expected)?;
            }
            let (mut some, mut expected) = (shared.clone(), copied.clone());
            some.extend(more.iter().map(String::as_str));
            expected.extend(more.iter().map(String::as_str));
            check(&some, &expected)?;
            some.truncate(kept);
            expected.truncate(kept);
            check(&some, &expected)?;
            some.sort();
            expected.sort();
            check(&some, &expected)?;
        }
    }
}
