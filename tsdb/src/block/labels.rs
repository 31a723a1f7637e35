use std::ops::Range;
use std::sync::Arc;

use model::{KeptLabels, LabelPairs, Labels};

use crate::block::index_reader::Tables;
use crate::symbol_labels;

/// The labels of some series of a block, made when they are asked for.
pub(crate) struct BlockLabels {
    tables: Arc<Tables>,
    /// Names of series whose labels have others than those of the one before.
    names: Vec<u32>,
    /// Values of one series after the other.
    values: Vec<u32>,
    series: Vec<Place>,
}

/// Where the labels of a series lie.
#[derive(Clone, Copy)]
struct Place {
    /// Where its names begin.
    names: u32,
    /// Where its values end.
    end: u32,
}

impl BlockLabels {
    /// Of no series yet.
    pub(crate) fn new(tables: Arc<Tables>) -> Self {
        Self { tables, names: Vec::new(), values: Vec::new(), series: Vec::new() }
    }

    /// Makes room for so many series with so many labels together.
    pub(crate) fn reserve(&mut self, series: usize, labels: usize) {
        self.series.reserve(series);
        self.values.reserve(labels);
    }

    /// And of one with these labels, whose texts the tables have. Returns how many bytes that takes.
    pub(crate) fn push(&mut self, symbols: &[(u32, u32)]) -> usize {
        let before = self.names.len();
        let names = symbols.iter().map(|(name, _)| *name);
        // series that follow each other mostly have the same names
        let names = match self.series.last() {
            Some(last) if self.names[last.names as usize..].iter().copied().eq(names.clone()) => last.names,
            _ => {
                self.names.extend(names);
                before as u32
            }
        };
        self.values.extend(symbols.iter().map(|(_, value)| *value));
        self.series.push(Place { names, end: self.values.len() as u32 });
        (self.names.len() - before + symbols.len()) * size_of::<u32>() + size_of::<Place>()
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    fn symbols(&self, at: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let start = at.checked_sub(1).map_or(0, |before| self.series[before].end);
        let Place { names, end } = self.series[at];
        let values = &self.values[start as usize..end as usize];
        self.names[names as usize..].iter().zip(values).map(|(name, value)| (*name, *value))
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
