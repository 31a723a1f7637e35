//! Expressions laid out over several lines, as `/api/v1/format_query` does.

use crate::ast::{Binary, Expr};

/// Lines are split when they would be longer than this.
const MAX_LINE: usize = 100;

impl Expr {
    /// The expression over as many lines as it needs to keep them short.
    pub fn prettify(&self) -> String {
        pretty(self, 0)
    }
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn pretty(expr: &Expr, level: usize) -> String {
    let here = indent(level);
    let line = expr.to_string();
    if line.len() <= MAX_LINE {
        // a subquery that fits is not indented upstream either
        return if matches!(expr, Expr::Subquery(_)) { line } else { here + &line };
    }
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => here + &line,
        Expr::Subquery(subquery) => pretty(&subquery.expr, level) + &subquery.suffix(),
        Expr::Unary(unary) => {
            let sign = if unary.negative { "-" } else { "+" };
            format!("{here}{sign}{}", pretty(&unary.expr, level).trim())
        }
        Expr::Paren(paren) => format!("{here}(\n{}\n{here})", pretty(&paren.expr, level + 1)),
        Expr::Aggregate(aggregate) => {
            let mut out = format!("{here}{}(\n", aggregate.operator());
            if let Some(param) = &aggregate.param {
                out += &pretty(param, level + 1);
                out += ",\n";
            }
            out + &pretty(&aggregate.expr, level + 1) + "\n" + &here + ")"
        }
        Expr::Call(call) => {
            let args: Vec<String> = call.args.iter().map(|arg| pretty(arg, level + 1)).collect();
            format!("{here}{}(\n{}\n{here})", call.function.name, args.join(",\n"))
        }
        Expr::Binary(_) => pretty_chain(expr, level),
    }
}

/// A chain of binary operators: each left operand is one level deeper than what it belongs to.
fn pretty_chain(expr: &Expr, level: usize) -> String {
    let mut chain: Vec<&Binary> = Vec::new();
    let mut at = expr;
    while let Expr::Binary(binary) = at {
        if at.to_string().len() <= MAX_LINE {
            break;
        }
        chain.push(binary);
        at = &binary.lhs;
    }
    let mut out = pretty(at, level + chain.len());
    for (depth, binary) in chain.into_iter().enumerate().rev() {
        let level = level + depth;
        out += &format!("\n{}{}\n{}", indent(level), binary.operator(), pretty(&binary.rhs, level + 1));
    }
    out
}
