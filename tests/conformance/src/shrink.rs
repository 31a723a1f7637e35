//! Smaller expressions that may show the same difference.

use promql::ast::{Expr, TimeShift};
use promql::{Features, ValueType, parse};

/// Expressions a little smaller than `expr`, the smallest first.
fn variants(expr: &Expr) -> Vec<Expr> {
    let mut found = Vec::new();
    let kind = expr.value_type();
    let same = |inner: &Expr, found: &mut Vec<Expr>| {
        if inner.value_type() == kind {
            found.push(inner.clone());
        }
    };
    // replaces one operand by each of its variants
    macro_rules! inside {
        ($node:expr, $wrap:expr, $field:ident) => {
            for smaller in variants(&$node.$field) {
                let mut copy = $node.clone();
                *copy.$field = smaller;
                found.push($wrap(copy));
            }
        };
    }
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(selector) => {
            if selector.shift != TimeShift::default() {
                let mut copy = selector.clone();
                copy.shift = TimeShift::default();
                found.push(Expr::Vector(copy));
            }
            for at in 0..selector.matchers.len() {
                if selector.matchers.len() > 1 && &*selector.matchers[at].name != "__name__" {
                    let mut copy = selector.clone();
                    copy.matchers.remove(at);
                    found.push(Expr::Vector(copy));
                }
            }
        }
        Expr::Matrix(matrix) => {
            for smaller in variants(&Expr::Vector(matrix.selector.clone())) {
                if let Expr::Vector(selector) = smaller {
                    let mut copy = matrix.clone();
                    copy.selector = selector;
                    found.push(Expr::Matrix(copy));
                }
            }
        }
        Expr::Subquery(subquery) => {
            if subquery.shift != TimeShift::default() {
                let mut copy = subquery.clone();
                copy.shift = TimeShift::default();
                found.push(Expr::Subquery(copy));
            }
            inside!(subquery, Expr::Subquery, expr);
        }
        Expr::Paren(paren) => {
            same(&paren.expr, &mut found);
            inside!(paren, Expr::Paren, expr);
        }
        Expr::Unary(unary) => {
            same(&unary.expr, &mut found);
            inside!(unary, Expr::Unary, expr);
        }
        Expr::Call(call) => {
            call.args.iter().for_each(|argument| same(argument, &mut found));
            for (at, argument) in call.args.iter().enumerate() {
                for smaller in variants(argument) {
                    let mut copy = call.clone();
                    copy.args[at] = smaller;
                    found.push(Expr::Call(copy));
                }
            }
        }
        Expr::Aggregate(aggregate) => {
            same(&aggregate.expr, &mut found);
            if aggregate.without || !aggregate.grouping.is_empty() {
                let mut copy = aggregate.clone();
                copy.without = false;
                copy.grouping.clear();
                found.push(Expr::Aggregate(copy));
            }
            inside!(aggregate, Expr::Aggregate, expr);
        }
        Expr::Binary(binary) => {
            same(&binary.lhs, &mut found);
            same(&binary.rhs, &mut found);
            inside!(binary, Expr::Binary, lhs);
            inside!(binary, Expr::Binary, rhs);
        }
    }
    found
}

/// Vectors and scalars anywhere in an expression, the whole left out.
fn parts(expr: &Expr) -> Vec<Expr> {
    let mut found = Vec::new();
    expr.visit(&mut |part| {
        let vector = matches!(part.value_type(), ValueType::Vector | ValueType::Scalar);
        if vector && part.pos() != expr.pos() && !matches!(part, Expr::Number(_)) {
            found.push(part.clone());
        }
    });
    found.sort_by_key(|part| part.to_string().len());
    found
}

/// The smallest expression found for which `differs` holds, starting from one for which it does. Asks at most 300 times.
pub fn shrink(text: &str, mut differs: impl FnMut(&str) -> bool) -> String {
    let mut best = text.to_owned();
    let mut left = 300;
    'smaller: while let Ok(expr) = parse(&best, &Features::all()) {
        // both sides formatted, or a shorter notation would count as smaller
        let length = expr.to_string().len();
        let mut candidates = parts(&expr);
        candidates.extend(variants(&expr));
        for candidate in candidates {
            let candidate = candidate.to_string();
            if candidate.len() >= length || parse(&candidate, &Features::all()).is_err() {
                continue;
            }
            if left == 0 {
                break 'smaller;
            }
            left -= 1;
            if differs(&candidate) {
                best = candidate;
                continue 'smaller;
            }
        }
        break;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, needed: &[&str], expected: &str) {
        assert_eq!(shrink(text, |t| needed.iter().all(|n| t.contains(n))), expected);
    }

    #[test]
    fn what_does_not_matter_is_removed() {
        check("sum by (a) (rate(x{a=\"b\"}[5m] offset 1m)) + 1", &["rate"], "rate(x[5m])");
        check("abs(-(sum by (job) (up @ 5)))", &["abs"], "abs(up)");
        check("a and (b or c)", &["or"], "b or c");
        check("max_over_time(sum(abs(up))[5m:1m])", &["[5m:1m]"], "max_over_time(up[5m:1m])");
    }
}
