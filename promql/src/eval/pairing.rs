//! Which series of two vectors go together, and what an operator makes of a pair.

use model::Labels;

use super::binary;
use super::frame::{is_metadata_label, without_metadata};
use crate::ast::{Binary, Cardinality, VectorMatching};

/// Which labels two series must have in common.
pub(super) struct Signature<'a> {
    matching: &'a VectorMatching,
}

impl<'a> Signature<'a> {
    pub(super) fn new(matching: &'a VectorMatching) -> Self {
        Self { matching }
    }

    pub(super) fn of(&self, labels: &Labels) -> Labels {
        let listed = |name: &str| self.matching.labels.iter().any(|l| l == name);
        if self.matching.on {
            labels.filter(listed)
        } else {
            labels.filter(|name| name != model::METRIC_NAME && !listed(name))
        }
    }
}

/// What an operation makes of two series.
#[derive(Clone, Copy)]
pub(super) struct Pairing<'a> {
    pub(super) binary: &'a Binary,
    pub(super) matching: &'a VectorMatching,
    /// The "many" side is the right one.
    pub(super) swapped: bool,
    pub(super) delayed_name_removal: bool,
}

impl Pairing<'_> {
    /// The values for series that miss: on the side of many, and on that of one.
    pub(super) fn fills(&self) -> (Option<f64>, Option<f64>) {
        let VectorMatching { fill_left, fill_right, .. } = *self.matching;
        if self.swapped { (fill_right, fill_left) } else { (fill_left, fill_right) }
    }

    /// The operator on the values of both sides, see [`binary::columns`].
    pub(super) fn columns(&self, many: &[f64], one: &[f64], out: &mut Vec<f64>) -> bool {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        binary::columns(self.binary, left, right, out)
    }

    /// The labels of the result, and whether its name is to be removed at the end, as that of the series of many is.
    pub(super) fn labels(&self, (many, drop_many): (&Labels, bool), one: &Labels) -> (Labels, bool) {
        let listed = |name: &str| self.matching.labels.iter().any(|l| l == name);
        let changes = self.binary.op.changes_metric();
        let kept = many.iter().filter(|(name, _)| {
            if changes && is_metadata_label(name) {
                return false;
            }
            self.matching.card != Cardinality::OneToOne || listed(name) == self.matching.on
        });
        let mut pairs: Vec<(&str, &str)> = kept.collect();
        for name in &self.matching.include {
            let value = one.value(name);
            match (pairs.binary_search_by(|(known, _)| (*known).cmp(name)), value.is_empty()) {
                (Ok(at), false) => pairs[at].1 = value,
                (Ok(at), true) => {
                    pairs.remove(at);
                }
                (Err(at), false) => pairs.insert(at, (name, value)),
                (Err(_), true) => {}
            }
        }
        let mut labels = Labels::from_sorted(pairs);
        let mut drop_name = drop_many;
        if self.binary.return_bool {
            drop_name = true;
            if !self.delayed_name_removal {
                labels = without_metadata(&labels);
            }
        }
        (labels, drop_name)
    }
}
