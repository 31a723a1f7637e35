use std::cmp::Ordering;
use std::sync::Arc;

use model::{KeptLabels, LabelPairs, Labels};

use crate::encoding::varint::Reader;
use crate::head::series_index::key_at;
use crate::head::symbols::SymbolTexts;
use crate::symbol_labels;

/// The label sets of a head as they were at one moment, found by place, without a lock.
#[derive(Clone)]
pub(crate) struct LabelSets {
    pub(crate) pages: Arc<Vec<Arc<Vec<u8>>>>,
    pub(crate) texts: SymbolTexts,
    /// Changes when places and numbers of symbols do.
    pub(crate) generation: u64,
}

impl LabelSets {
    /// The symbols of a label set: name, value, name, value...
    pub(crate) fn symbols(&self, place: u32) -> Symbols<'_> {
        Symbols(Reader::new(key_at(&self.pages, place).unwrap_or_default(), "labels"))
    }

    /// The label set.
    pub(crate) fn labels(&self, place: u32) -> Labels {
        Labels::from_sorted(self.symbols(place).pairs().map(|(n, v)| (self.texts.text(n), self.texts.text(v))))
    }

    /// Compares two label sets.
    pub(crate) fn compare(&self, a: u32, b: u32, symbols: impl Fn(u32, u32) -> Ordering) -> Ordering {
        let (mut a, mut b) = (self.symbols(a), self.symbols(b));
        loop {
            match (a.next(), b.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => return symbols(a, b),
            }
        }
    }
}

/// Numbers of symbols, one after the other.
pub(crate) struct Symbols<'a>(Reader<'a>);

impl Iterator for Symbols<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.0.varint().ok().map(|symbol| symbol as u32)
    }
}

impl Symbols<'_> {
    /// Names with values.
    pub(crate) fn pairs(mut self) -> impl Iterator<Item = (u32, u32)> {
        std::iter::from_fn(move || Some((self.next()?, self.next()?)))
    }
}

/// The labels of some series of the head, made when they are asked for.
pub(crate) struct HeadLabels {
    pub(crate) sets: LabelSets,
    /// Of each series.
    pub(crate) places: Vec<u32>,
}

impl HeadLabels {
    /// The labels of one series.
    pub(crate) fn labels(&self, at: usize) -> Labels {
        self.sets.labels(self.places[at])
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Labels> {
        (0..self.places.len()).map(|at| self.labels(at)).collect()
    }

    /// Some labels of the series in a range. Equal sets are made once.
    pub(crate) fn kept(&self, range: std::ops::Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels> {
        let pairs = |at: usize| self.sets.symbols(self.places[at]).pairs();
        symbol_labels::kept(range, kept, |symbol| self.sets.texts.text(symbol), pairs)
    }

    /// Calls `each` with the labels of each series in a range.
    pub(crate) fn each(&self, range: std::ops::Range<usize>, each: &mut dyn FnMut(&LabelPairs<'_>)) {
        let pairs = |at: usize| self.sets.symbols(self.places[at]).pairs();
        symbol_labels::each_set(range, |symbol| self.sets.texts.text(symbol), pairs, each);
    }
}
