//! Comparisons of a vector with a number (`up == 0`), series by series: who aggregates what is left need not hold all of it at once.

use super::Evaluator;
use super::binary::row_with_scalar;
use super::counting::Gathered;
use super::explain::of_row;
use super::frame::Row;
use super::last_notes::LastNotes;
use crate::QueryError;
use crate::ast::{Binary, Expr};
use crate::plan::Extent;
use crate::storage::KeptLabels;

/// A comparison that keeps some of the samples of a vector.
pub(super) struct Filter<'a> {
    expr: &'a Expr,
    binary: &'a Binary,
    vector: &'a Expr,
    number: &'a Expr,
    value: f64,
    /// The number stands on the left.
    swapped: bool,
}

impl<'a> Filter<'a> {
    /// The expression as one, if it is.
    pub(super) fn of(expr: &'a Expr) -> Option<Self> {
        let Expr::Binary(binary) = expr else { return None };
        if !binary.op.is_comparison() || binary.return_bool {
            return None;
        }
        let (left, right) = (binary.lhs.unparen(), binary.rhs.unparen());
        let filter = |vector, number, value, swapped| Self { expr, binary, vector, number, value, swapped };
        match (left, right) {
            (vector, Expr::Number(number)) => Some(filter(vector, right, number.value, false)),
            (Expr::Number(number), vector) => Some(filter(vector, left, number.value, true)),
            _ => None,
        }
    }
}

impl Evaluator<'_> {
    /// Calls `each` for the rows of a filter's vector that have samples left. `false`, and nothing done, if the vector does not come
    /// series by series.
    pub(super) fn filter_rows(
        &self,
        filter: &Filter<'_>,
        kept: KeptLabels<'_>,
        each: &mut dyn FnMut(&Row) -> Result<(), QueryError>,
    ) -> Result<bool, QueryError> {
        let Filter { expr, binary, vector, number, value, swapped } = *filter;
        // a part that is written several times is kept by whoever evaluates it whole
        if self.query.shared.part(vector).is_some() || !self.streams(vector)? {
            return Ok(false);
        }
        let mark = self.query.mark();
        self.query.begin_node(expr);
        let values = vec![value; self.steps.count];
        let (mut all, mut left) = (Gathered::new(self.steps.count), Gathered::new(self.steps.count));
        let mut notes = LastNotes::new(self.steps.count);
        let (mut at, mut given) = (0, Extent::default());
        let operand = self.query.mark();
        self.stream_rows(vector, vector.pos(), kept, &mut |row| {
            all.add(row);
            row_with_scalar(binary, (at, row), &values, swapped, expr.pos(), &mut notes);
            at += 1;
            if row.is_empty() {
                return Ok(());
            }
            left.add(row);
            if self.query.is_explained() {
                given.add(of_row(row));
            }
            each(row)
        })?;
        self.query.keep_operands(operand);
        self.note_streamed(all);
        let scalar = self.eval(number)?;
        self.note_operand(&scalar);
        self.query.merge_annotations(notes.into_annotations());
        self.count_streamed(mark, left)?;
        self.query.end_node(|| given);
        Ok(true)
    }
}
