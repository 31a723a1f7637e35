//! The same query with all its times fixed by `@`.

use model::Timestamp;

use crate::ast::{At, DurationExpr, DurationOp, Expr, TimeShift, VectorSelector};

/// Whether the result depends on the evaluation time beyond what `@` can fix.
pub(super) fn depends_on_time(expr: &Expr) -> bool {
    let mut depends = false;
    expr.visit(&mut |expr| {
        if let Expr::Call(call) = expr {
            depends |= call.function.depends_on_time();
        }
    });
    depends
}

/// Whether `start()`, `end()`, `step()` or `range()` occur, as functions, behind `@` or in durations.
pub(super) fn uses_query_range(expr: &Expr) -> bool {
    let mut uses = false;
    let duration = |expr: &Option<Box<DurationExpr>>| expr.as_deref().is_some_and(duration_uses);
    let shift = |shift: &TimeShift| matches!(shift.at, Some(At::Start | At::End)) || duration(&shift.offset_expr);
    expr.visit(&mut |expr| {
        uses |= match expr {
            Expr::Call(call) => matches!(call.function.name, "start" | "end" | "step" | "range"),
            Expr::Vector(selector) => shift(&selector.shift),
            Expr::Matrix(matrix) => shift(&matrix.selector.shift) || duration(&matrix.range_expr),
            Expr::Subquery(subquery) => {
                shift(&subquery.shift) || duration(&subquery.range_expr) || duration(&subquery.step_expr)
            }
            _ => false,
        }
    });
    uses
}

fn duration_uses(expr: &DurationExpr) -> bool {
    match &expr.op {
        DurationOp::Number(_) => false,
        DurationOp::Step | DurationOp::Range => true,
        DurationOp::Negate(operand) => duration_uses(operand),
        DurationOp::Extreme(_, left, right) | DurationOp::Arithmetic(_, left, right) => {
            duration_uses(left) || duration_uses(right)
        }
    }
}

/// Puts `@ time` on each selector and subquery that is not fixed yet, but not inside subqueries that are then.
pub(super) fn fix(expr: &mut Expr, time: Timestamp) {
    let set = |shift: &mut TimeShift| {
        if !matches!(shift.at, Some(At::Time(_))) {
            shift.at = Some(At::Time(time));
        }
    };
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(VectorSelector { shift, .. }) => set(shift),
        Expr::Matrix(matrix) => set(&mut matrix.selector.shift),
        Expr::Subquery(subquery) => set(&mut subquery.shift),
        Expr::Call(call) => {
            // the second argument of `info` only lists labels
            let args = if call.function.name == "info" { &mut call.args[..1] } else { &mut call.args[..] };
            for arg in args {
                fix(arg, time);
            }
        }
        Expr::Aggregate(aggregate) => {
            fix(&mut aggregate.expr, time);
            if let Some(param) = &mut aggregate.param {
                fix(param, time);
            }
        }
        Expr::Binary(binary) => {
            fix(&mut binary.lhs, time);
            fix(&mut binary.rhs, time);
        }
        Expr::Unary(unary) => fix(&mut unary.expr, time),
        Expr::Paren(paren) => fix(&mut paren.expr, time),
    }
}
