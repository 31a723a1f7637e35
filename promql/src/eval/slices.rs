//! Long ranges whose matrices take more memory than a query may: evaluated some steps at a time, where that gives the same
//! answer to the byte.
//!
//! What the series of a vector are added up in is their order, and the order of some vectors depends on which series come first
//! within the steps looked at. So a query is cut only where no sum is taken over such a vector.

use std::collections::HashMap;

use model::Labels;

use super::frame::{ABSENT, Row, is_absent};
use super::{Evaluated, Evaluator, Steps, invariant};
use crate::ast::{Aggregate, AggregateOp, Binary, Call, Expr, VectorSelector};
use crate::memory::{Charge, Footprint};
use crate::result::{QueryResult, Value};
use crate::{QueryError, ValueType};

/// A slice has at least this part of all steps: reading windows again and again takes longer and longer.
const MOST_SLICES: usize = 256;

/// In which order a vector has its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As the storage has them: of the series of some steps the same as of the series of all.
    Stored,
    /// Depending on the steps.
    Any,
}

/// Whether an expression can be evaluated in slices with the same result.
pub(super) fn may_cut(expr: &Expr, delayed_name_removal: bool) -> bool {
    // whether a name is removed late depends on all steps
    expr.value_type() == ValueType::Vector && !delayed_name_removal && order(expr).is_some()
}

/// The order of the series; `None` if the value at a step depends on other steps.
fn order(expr: &Expr) -> Option<Order> {
    match expr {
        Expr::Number(_) | Expr::String(_) => Some(Order::Stored),
        Expr::Paren(paren) => order(&paren.expr),
        Expr::Vector(selector) => Some(of_selector(selector)),
        Expr::Matrix(matrix) => Some(of_selector(&matrix.selector)),
        Expr::Subquery(subquery) => order(&subquery.expr),
        Expr::Unary(unary) => order(&unary.expr),
        Expr::Call(call) => of_call(call),
        Expr::Aggregate(aggregate) => of_aggregate(aggregate),
        Expr::Binary(binary) => of_binary(binary),
    }
}

/// Series of several names can become equal when the names are gone, and which of them comes first is open.
fn of_selector(selector: &VectorSelector) -> Order {
    let named = |m: &model::Matcher| &*m.name == model::METRIC_NAME && m.op() == model::MatchOp::Equal;
    if selector.matchers.iter().any(named) { Order::Stored } else { Order::Any }
}

fn of_call(call: &Call) -> Option<Order> {
    let mut all = Order::Stored;
    for arg in &call.args {
        if order(arg)? == Order::Any {
            all = Order::Any;
        }
    }
    match call.function.name {
        "info" | "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => None,
        // one series
        "absent" | "absent_over_time" | "scalar" | "vector" => Some(Order::Stored),
        "label_replace" | "label_join" | "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
            Some(Order::Any)
        }
        _ => Some(all),
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Option<Order> {
    let inner = order(&aggregate.expr)?;
    if aggregate.param.as_deref().is_some_and(|param| !invariant::is_step_invariant(param)) {
        // warnings are about the least and the greatest of all steps
        return None;
    }
    match aggregate.op {
        AggregateOp::Count | AggregateOp::Group | AggregateOp::CountValues | AggregateOp::Quantile => {}
        _ if inner == Order::Stored => {}
        _ => return None,
    }
    let one = !aggregate.without && aggregate.grouping.is_empty() && aggregate.param.is_none();
    Some(if one { Order::Stored } else { Order::Any })
}

fn of_binary(binary: &Binary) -> Option<Order> {
    let (left, right) = (order(&binary.lhs)?, order(&binary.rhs)?);
    let is_vector = |expr: &Expr| expr.value_type() == ValueType::Vector;
    Some(match (is_vector(&binary.lhs), is_vector(&binary.rhs)) {
        (true, true) => Order::Any,
        (true, false) => left,
        (false, _) => right,
    })
}

/// What the slices so far came to: a row per series, without the steps behind its last sample.
struct Joined {
    steps: usize,
    rows: Vec<Row>,
    by_labels: HashMap<Labels, usize>,
    held: Charge,
    samples: usize,
}

impl Joined {
    /// Adds what a series has from a step on.
    fn append(&mut self, row: Row, from: usize) -> Result<(), QueryError> {
        self.samples += row.samples();
        let at = match self.by_labels.get(&row.labels) {
            Some(at) => *at,
            None => {
                let mut joined = Row::new(row.labels.clone(), false, 0);
                self.held.add(2 * joined.bytes() + 8 * self.steps)?;
                joined.floats.reserve_exact(self.steps);
                self.rows.push(joined);
                self.by_labels.insert(row.labels.clone(), self.rows.len() - 1);
                self.rows.len() - 1
            }
        };
        let joined = &mut self.rows[at];
        if row.floats.iter().any(|v| !is_absent(*v)) {
            joined.floats.resize(from, ABSENT);
            joined.floats.extend(&row.floats);
        }
        if row.histograms.iter().any(Option::is_some) {
            self.held.add(row.bytes())?;
            if joined.histograms.is_empty() {
                self.held.add(8 * self.steps)?;
                joined.histograms.reserve_exact(self.steps);
            }
            joined.histograms.resize(from, None);
            joined.histograms.extend(row.histograms);
        }
        Ok(())
    }
}

impl Evaluator<'_> {
    /// Evaluates slice by slice; `None` if that could give another result than all steps at once.
    ///
    /// The evaluation is one that has not begun yet.
    pub(crate) fn answer_in_slices(&self, expr: &Expr, text: &str) -> Result<Option<QueryResult>, QueryError> {
        let count = self.steps.count;
        let least = count.div_ceil(MOST_SLICES);
        if least == count || !may_cut(expr, self.query.features.delayed_name_removal) {
            return Ok(None);
        }
        let held = self.query.memory.charge();
        let mut joined = Joined { steps: count, rows: Vec::new(), by_labels: HashMap::new(), held, samples: 0 };
        let mut size = (count / 4).max(least);
        let mut from = 0;
        while from < count {
            let before = self.query.checkpoint();
            let steps = Steps { start: self.steps.time(from), count: size.min(count - from), ..self.steps };
            match (Self { query: self.query, steps }).slice(expr) {
                Ok((rows, _held)) => {
                    for row in rows.into_iter().filter(|row| !row.is_empty()) {
                        joined.append(row, from)?;
                    }
                    self.query.hold_only(joined.samples)?;
                    from += steps.count;
                }
                Err(QueryError::TooMuchMemory { .. }) if size > least => {
                    self.query.restore(before);
                    size = (size / 4).max(least);
                }
                Err(error) => return Err(error),
            }
        }
        let Joined { rows, mut held, .. } = joined;
        let _steps = self.query.charge_for_steps(count)?;
        let value = Value::Matrix(self.matrix_value(rows, &mut held)?);
        Ok(Some(self.finish(value, held, text)))
    }

    fn slice(&self, expr: &Expr) -> Result<(Vec<Row>, Charge), QueryError> {
        let mut steps = self.query.charge_for_steps(self.steps.count)?;
        match self.eval(expr)? {
            Evaluated::Vector(frame) => {
                let (rows, held) = self.finish_names(frame)?.into_parts();
                steps.absorb(held);
                Ok((rows, steps))
            }
            Evaluated::Scalar(_) | Evaluated::String(_) => Err(QueryError::execution("expected an instant vector")),
        }
    }
}
