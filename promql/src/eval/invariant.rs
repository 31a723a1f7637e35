use crate::ast::{Expr, VectorSelector};

/// Whether an expression has the same value at all steps, because all its selectors are fixed by `@`.
pub(super) fn is_step_invariant(expr: &Expr) -> bool {
    let mut at = expr;
    while let Expr::Binary(binary) = at {
        if !is_step_invariant(&binary.rhs) {
            return false;
        }
        at = &binary.lhs;
    }
    let fixed = |selector: &VectorSelector| selector.shift.at.is_some();
    match at {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(selector) => fixed(selector),
        Expr::Matrix(matrix) => fixed(&matrix.selector),
        Expr::Subquery(subquery) => subquery.shift.at.is_some(),
        Expr::Call(call) => !call.function.depends_on_time() && call.args.iter().all(is_step_invariant),
        // as upstream, the parameter does not matter: of one that changes, the first value counts
        Expr::Aggregate(aggregate) => is_step_invariant(&aggregate.expr),
        Expr::Unary(unary) => is_step_invariant(&unary.expr),
        Expr::Paren(paren) => is_step_invariant(&paren.expr),
        Expr::Binary(_) => true,
    }
}
