use std::ops::Range;
use std::sync::Arc;

use model::{KeptLabels, LabelPairs, Labels};

use crate::block::index_reader::Tables;
use crate::symbol_labels;

/// The labels of some series of a block, made when they are asked for.
pub(crate) struct BlockLabels {
    tables: Arc<Tables>,
    /// Names and values of one series after the other.
    symbols: Vec<(u32, u32)>,
    /// Where in `symbols` those of each series end.
    ends: Vec<u32>,
}

impl BlockLabels {
    /// Of no series yet.
    pub(crate) fn new(tables: Arc<Tables>) -> Self {
        Self { tables, symbols: Vec::new(), ends: Vec::new() }
    }

    /// Makes room for so many series with so many labels together.
    pub(crate) fn reserve(&mut self, series: usize, labels: usize) {
        self.ends.reserve(series);
        self.symbols.reserve(labels);
    }

    /// And of one with these labels, whose texts the tables have.
    pub(crate) fn push(&mut self, symbols: &[(u32, u32)]) {
        self.symbols.extend_from_slice(symbols);
        self.ends.push(self.symbols.len() as u32);
    }

    /// Bytes that a series with so many labels takes.
    pub(crate) fn bytes(labels: usize) -> usize {
        labels * size_of::<(u32, u32)>() + size_of::<u32>()
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn symbols(&self, at: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.symbols[start as usize..self.ends[at] as usize].iter().copied()
    }

    /// The labels of one series.
    pub(crate) fn labels(&self, at: usize) -> Labels {
        Labels::from_sorted(
            self.symbols(at).map(|(name, value)| (self.tables.symbols.text(name), self.tables.symbols.text(value))),
        )
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Labels> {
        (0..self.len()).map(|at| self.labels(at)).collect()
    }

    /// Some labels of the series in a range. Equal sets are made once.
    pub(crate) fn kept(&self, range: Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels> {
        symbol_labels::kept(range, kept, |symbol| self.tables.symbols.text(symbol), |at| self.symbols(at))
    }

    /// Calls `each` with the labels of each series in a range.
    pub(crate) fn each(&self, range: Range<usize>, each: &mut dyn FnMut(&LabelPairs<'_>)) {
        symbol_labels::each_set(range, |symbol| self.tables.symbols.text(symbol), |at| self.symbols(at), each);
    }
}
