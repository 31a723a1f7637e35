//! Selectors of which only counts and sums are wanted. Prometheus reads no buckets for them and finds out by itself where
//! counters were reset, which shows in counter reset hints.

use std::collections::HashSet;
use std::sync::Arc;

use model::{CounterResetHint, FloatHistogram};

use super::frame::Hist;
use crate::ast::{BinaryOp, Expr, VectorSelector};
use crate::storage::Column;

/// The selectors of an expression, by address, of which only counts and sums are wanted.
pub(super) fn selectors(expr: &Expr) -> HashSet<usize> {
    let mut found = HashSet::new();
    walk(expr, false, &mut found);
    found
}

/// The address that names a selector while its expression is evaluated.
pub(super) fn key(selector: &VectorSelector) -> usize {
    std::ptr::from_ref(selector).addr()
}

fn walk(expr: &Expr, stats: bool, found: &mut HashSet<usize>) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(selector) => {
            if stats {
                found.insert(key(selector));
            }
        }
        Expr::Matrix(matrix) => {
            if stats {
                found.insert(key(&matrix.selector));
            }
        }
        // resets between the steps of a subquery show only in the buckets
        Expr::Subquery(subquery) => walk(&subquery.expr, false, found),
        Expr::Call(call) => {
            let stats = match call.function.name {
                "histogram_count" | "histogram_sum" | "histogram_avg" => true,
                "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => false,
                _ => stats,
            };
            for arg in &call.args {
                walk(arg, stats, found);
            }
        }
        Expr::Aggregate(aggregate) => {
            walk(&aggregate.expr, stats, found);
            if let Some(param) = &aggregate.param {
                walk(param, stats, found);
            }
        }
        Expr::Binary(_) => {
            // chains can be long, so they are not recursed into
            let (mut at, mut stats) = (expr, stats);
            while let Expr::Binary(binary) = at {
                stats &= !matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
                walk(&binary.rhs, stats, found);
                at = &binary.lhs;
            }
            walk(at, stats, found);
        }
        Expr::Unary(unary) => walk(&unary.expr, stats, found),
        Expr::Paren(paren) => walk(&paren.expr, stats, found),
    }
}

/// Finds out what unknown hints should say, from the sample before.
pub(super) fn resolve_hints(histograms: &mut Column<Hist>) {
    let values = &mut histograms.values;
    for at in (1..values.len()).rev() {
        let (previous, current) = (&values[at - 1], &values[at]);
        if current.counter_reset_hint != CounterResetHint::Unknown || current.is_stale() || previous.is_stale() {
            continue;
        }
        let mut resolved = FloatHistogram::clone(current);
        resolved.counter_reset_hint =
            if current.detect_reset(previous) { CounterResetHint::Reset } else { CounterResetHint::NotReset };
        values[at] = Arc::new(resolved);
    }
}
