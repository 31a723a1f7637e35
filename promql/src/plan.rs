//! What the parts of a query came to: its plan, with figures.

use std::time::Duration;

/// A node of a query, and what its evaluation took and gave.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanNode {
    /// The part of the query.
    pub expr: String,
    /// What it gave.
    pub given: Extent,
    /// What it read from the storage, without what its operands read.
    pub read: Extent,
    /// How long it took, with its operands.
    pub time: Duration,
    /// Evaluated once, as it has the same value at all steps.
    pub once: bool,
    /// Not evaluated: an equal part of the query was before.
    pub shared: bool,
    /// What it was made of, in the order of evaluation.
    pub operands: Vec<PlanNode>,
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Series.
    pub series: usize,
    /// Samples of all of them. A histogram is one.
    pub samples: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

impl Extent {
    pub(crate) fn add(&mut self, other: Self) {
        self.series += other.series;
        self.samples += other.samples;
        self.bytes += other.bytes;
    }
}

impl PlanNode {
    /// Adds what the same part came to in another slice of the time range.
    pub(crate) fn add_slice(&mut self, other: Self) {
        let together = |a: Extent, b: Extent| Extent {
            series: a.series.max(b.series),
            samples: a.samples + b.samples,
            bytes: a.bytes.max(b.bytes),
        };
        self.given = together(self.given, other.given);
        self.read = together(self.read, other.read);
        self.time += other.time;
        for (operand, other) in self.operands.iter_mut().zip(other.operands) {
            operand.add_slice(other);
        }
    }
}
