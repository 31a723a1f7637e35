//! Binary operators on scalars, on a vector and a scalar, and on single samples.

use std::sync::Arc;

use model::{CounterResetHint, FloatHistogram, Keep};

use super::frame::{ABSENT, Cell, Frame, Hist, Row, is_absent};
use super::last_notes::LastNotes;
use super::{Evaluated, Evaluator};
use crate::annotations::{Annotations, HistogramOp};
use crate::ast::{Binary, BinaryOp, Expr};
use crate::{PosRange, QueryError, math};

/// What an operator gives for two samples.
pub(super) enum Outcome {
    /// No result, as the types do not go together.
    None,
    Float {
        value: f64,
        keep: bool,
    },
    Histogram {
        value: Hist,
        keep: bool,
    },
}

/// Evaluates the body with the function of an operator on floats, so that a loop in it is made for that operator; whether it has one.
macro_rules! with_operator {
    ($op:expr, |$apply:ident| $body:expr) => {
        with_operator!(@each $op, $apply, $body, Add Sub Mul Div Mod Pow Atan2 Eq Ne Gt Lt Ge Le)
    };
    (@each $op:expr, $apply:ident, $body:expr, $($name:ident)*) => {
        match $op {
            $(BinaryOp::$name => {
                let $apply = |left, right| floats(BinaryOp::$name, left, right).unwrap_or((f64::NAN, true));
                $body;
                true
            })*
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => false,
        }
    };
}

impl Evaluator<'_> {
    /// Evaluates a chain of binary operators from its innermost left operand outwards, as chains can be long.
    pub(super) fn binary_chain(&self, expr: &Expr) -> Result<Evaluated, QueryError> {
        let mut chain: Vec<(&Binary, PosRange)> = Vec::new();
        let mut at = expr;
        while let Expr::Binary(binary) = at {
            chain.push((binary, at.pos()));
            at = &binary.lhs;
        }
        let mark = self.query.mark();
        let mut left = self.eval(at)?;
        for (binary, pos) in chain.into_iter().rev() {
            self.query.check()?;
            self.note_operand(&left);
            let right = self.eval(&binary.rhs)?;
            self.note_operand(&right);
            left = self.binary(binary, left, right, pos)?;
            self.count_steps(mark, &left)?;
        }
        Ok(left)
    }

    fn binary(
        &self,
        binary: &Binary,
        left: Evaluated,
        right: Evaluated,
        pos: PosRange,
    ) -> Result<Evaluated, QueryError> {
        let mut notes = Annotations::default();
        let value = match (left, right) {
            (Evaluated::Scalar(left), Evaluated::Scalar(right)) => {
                Evaluated::Scalar(left.iter().zip(&right).map(|(a, b)| scalars(binary.op, *a, *b)).collect())
            }
            (Evaluated::Vector(frame), Evaluated::Scalar(values)) => {
                Evaluated::Vector(self.with_scalar(binary, frame, &values, false, pos, &mut notes)?)
            }
            (Evaluated::Scalar(values), Evaluated::Vector(frame)) => {
                Evaluated::Vector(self.with_scalar(binary, frame, &values, true, pos, &mut notes)?)
            }
            (Evaluated::Vector(left), Evaluated::Vector(right)) if binary.op.is_set() => {
                Evaluated::Vector(self.set_operation(binary, left, right)?)
            }
            (Evaluated::Vector(left), Evaluated::Vector(right)) => {
                Evaluated::Vector(self.match_vectors(binary, (left, right), pos, &mut notes)?)
            }
            _ => return Err(QueryError::execution("binary operators need numbers or vectors")),
        };
        self.query.merge_annotations(notes);
        Ok(value)
    }

    /// A vector and a scalar; `swapped` if the scalar stands on the left.
    fn with_scalar(
        &self,
        binary: &Binary,
        mut frame: Frame,
        values: &[f64],
        swapped: bool,
        pos: PosRange,
        notes: &mut Annotations,
    ) -> Result<Frame, QueryError> {
        let drops_name = binary.op.changes_metric() || binary.return_bool;
        let mut last = LastNotes::new(values.len());
        for (at, row) in frame.rows.iter_mut().enumerate() {
            self.query.check()?;
            row_with_scalar(binary, (at, row), values, swapped, pos, &mut last);
            if drops_name {
                self.drop_name(row);
            }
        }
        notes.merge(last.into_annotations());
        frame.rows.retain(|row| !row.is_empty());
        if drops_name && !self.query.features.delayed_name_removal {
            frame.merge_same_labels(self.query.pace())?;
        }
        Ok(frame)
    }
}

/// An operator on the samples of a row, the `at`th of its vector, and a scalar, left in the row; `swapped` if the scalar stands on the
/// left.
pub(super) fn row_with_scalar(
    binary: &Binary,
    (at, row): (usize, &mut Row),
    values: &[f64],
    swapped: bool,
    pos: PosRange,
    notes: &mut LastNotes,
) {
    let (op, return_bool) = (binary.op, binary.return_bool);
    let filters = op.is_comparison() && !return_bool;
    if row.histograms.is_empty() {
        let floats = row.floats.iter_mut().zip(values).filter(|(value, _)| !is_absent(**value));
        let known = with_operator!(op, |apply| for (value, scalar) in floats {
            let (found, keep) = if swapped { apply(*scalar, *value) } else { apply(*value, *scalar) };
            *value = match (filters, return_bool) {
                // a filter keeps the vector's own value, on whichever side it stands
                (true, _) => {
                    if keep {
                        *value
                    } else {
                        ABSENT
                    }
                }
                (_, true) => f64::from(u8::from(keep)),
                _ => present(found),
            };
        });
        if known {
            return;
        }
    }
    for (step, scalar) in values.iter().enumerate() {
        let cell = row.cell(step);
        if matches!(cell, Cell::Empty) {
            continue;
        }
        let scalar = Cell::Float(*scalar);
        let (left, right) = if swapped { (scalar, cell) } else { (cell, scalar) };
        let mut found = Annotations::default();
        let outcome = samples(op, left, right, pos, &mut found);
        notes.note(step, at, found);
        let (keep, float, histogram) = match outcome {
            Outcome::None => {
                row.clear(step);
                continue;
            }
            Outcome::Float { value, keep } => (keep, value, None),
            Outcome::Histogram { value, keep } => (keep, 0.0, Some(value)),
        };
        if return_bool {
            row.clear(step);
            row.set_float(step, if keep { 1.0 } else { 0.0 });
        } else if !keep {
            row.clear(step);
        } else if filters {
            // as above
        } else {
            row.clear(step);
            match histogram {
                Some(histogram) => row.set_histogram(step, histogram),
                None => row.set_float(step, float),
            }
        }
    }
}

/// An operator on two columns of floats, at each step that both have: what it gives there, [`ABSENT`] where it gives nothing. `false`
/// if it is none of floats.
pub(super) fn columns(binary: &Binary, left: &[f64], right: &[f64], out: &mut Vec<f64>) -> bool {
    let (op, return_bool) = (binary.op, binary.return_bool);
    let filters = op.is_comparison() && !return_bool;
    out.clear();
    with_operator!(op, |apply| out.extend(left.iter().zip(right).map(|(left, right)| {
        let (value, keep) = apply(*left, *right);
        match is_absent(*left) || is_absent(*right) || (filters && !keep) {
            true => ABSENT,
            false if return_bool => f64::from(u8::from(keep)),
            false => present(value),
        }
    })))
}

/// A computed NaN can have any bits in theory.
#[inline]
fn present(value: f64) -> f64 {
    if is_absent(value) { f64::NAN } else { value }
}

/// An operator on two scalars.
fn scalars(op: BinaryOp, left: f64, right: f64) -> f64 {
    match floats(op, left, right) {
        Some((_, keep)) if op.is_comparison() => f64::from(u8::from(keep)),
        Some((value, _)) => value,
        None => f64::NAN,
    }
}

/// An operator on two floats: the value, and whether a filter keeps it. `None` for operators of histograms.
#[inline(always)]
fn floats(op: BinaryOp, left: f64, right: f64) -> Option<(f64, bool)> {
    Some(match op {
        BinaryOp::Add => (left + right, true),
        BinaryOp::Sub => (left - right, true),
        BinaryOp::Mul => (left * right, true),
        BinaryOp::Div => (left / right, true),
        BinaryOp::Mod => (left % right, true),
        BinaryOp::Pow => (math::pow(left, right), true),
        BinaryOp::Atan2 => (math::atan2(left, right), true),
        BinaryOp::Eq => (left, left == right),
        BinaryOp::Ne => (left, left != right),
        BinaryOp::Gt => (left, left > right),
        BinaryOp::Lt => (left, left < right),
        BinaryOp::Ge => (left, left >= right),
        BinaryOp::Le => (left, left <= right),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => return None,
    })
}

/// An operator on two samples. Says in `notes` why there is no result.
pub(super) fn samples(
    op: BinaryOp,
    left: Cell<'_>,
    right: Cell<'_>,
    pos: PosRange,
    notes: &mut Annotations,
) -> Outcome {
    let scaled = |histogram: &Hist, scale: &dyn Fn(&mut FloatHistogram)| {
        let mut value = FloatHistogram::clone(histogram);
        scale(&mut value);
        value.compact(0);
        Outcome::Histogram { value: Arc::new(value), keep: true }
    };
    match (left, right) {
        (Cell::Float(a), Cell::Float(b)) => match floats(op, a, b) {
            Some((value, keep)) => Outcome::Float { value, keep },
            None => incompatible(op, ["float", "float"], pos, notes),
        },
        (Cell::Float(a), Cell::Histogram(b)) => match op {
            BinaryOp::Mul => scaled(b, &|h| {
                h.mul(a);
            }),
            _ => incompatible(op, ["float", "histogram"], pos, notes),
        },
        (Cell::Histogram(a), Cell::Float(b)) => match op {
            BinaryOp::Mul => scaled(a, &|h| {
                h.mul(b);
            }),
            BinaryOp::Div => scaled(a, &|h| {
                h.div(b);
            }),
            BinaryOp::TrimUpper => scaled(a, &|h| h.trim(b, Keep::Below)),
            BinaryOp::TrimLower => scaled(a, &|h| h.trim(b, Keep::Above)),
            _ => incompatible(op, ["histogram", "float"], pos, notes),
        },
        (Cell::Histogram(a), Cell::Histogram(b)) => match op {
            BinaryOp::Add | BinaryOp::Sub => combine(op, a, b, pos, notes),
            BinaryOp::Eq => Outcome::Histogram { value: a.clone(), keep: same(a, b) },
            BinaryOp::Ne => Outcome::Histogram { value: a.clone(), keep: !same(a, b) },
            _ => incompatible(op, ["histogram", "histogram"], pos, notes),
        },
        (Cell::Empty, _) | (_, Cell::Empty) => Outcome::None,
    }
}

fn incompatible(op: BinaryOp, types: [&str; 2], pos: PosRange, notes: &mut Annotations) -> Outcome {
    notes.incompatible_types_in_binary(types[0], op.as_str(), types[1], pos);
    Outcome::None
}

fn combine(op: BinaryOp, a: &Hist, b: &Hist, pos: PosRange, notes: &mut Annotations) -> Outcome {
    let mut value = FloatHistogram::clone(a);
    let (result, histogram_op) =
        if op == BinaryOp::Add { (value.add(b), HistogramOp::Add) } else { (value.sub(b), HistogramOp::Sub) };
    match result {
        Err(_) => {
            notes.incompatible_buckets_in_binary(op.as_str(), pos);
            return Outcome::None;
        }
        Ok(combined) => {
            if combined.counter_reset_collision {
                notes.counter_reset_collision(histogram_op, pos);
            }
            if combined.bounds_reconciled {
                notes.custom_buckets_reconciled(histogram_op, pos);
            }
        }
    }
    if op == BinaryOp::Sub {
        value.counter_reset_hint = CounterResetHint::Gauge;
    }
    value.compact(0);
    Outcome::Histogram { value: Arc::new(value), keep: true }
}

/// Whether two histograms are equal when written in the same way.
fn same(a: &Hist, b: &Hist) -> bool {
    if a.same_contents(b) {
        return true;
    }
    let compacted = |h: &Hist| {
        let mut h = FloatHistogram::clone(h);
        h.compact(0);
        h
    };
    compacted(a).same_contents(&compacted(b))
}
