//! Selectors of which only matters when there are samples: storages answer them without decoding values.

use std::collections::HashSet;

use super::stats_only::key;
use crate::ast::{AggregateOp, Expr};

/// The selectors of an expression, by address, whose values do not matter.
pub(super) fn selectors(expr: &Expr) -> HashSet<usize> {
    let mut found = HashSet::new();
    expr.visit(&mut |part| {
        let arg = match part {
            Expr::Aggregate(aggregate) if matches!(aggregate.op, AggregateOp::Count | AggregateOp::Group) => {
                Some(&*aggregate.expr)
            }
            Expr::Call(call) if call.function.name == "absent" => call.args.first(),
            _ => None,
        };
        if let Some(Expr::Vector(selector)) = arg.map(Expr::unparen)
            && selector.extended.is_none()
        {
            found.insert(key(selector));
        }
    });
    found
}
