//! The type check, with Prometheus' messages.

use super::Parser;
use crate::ValueType;
use crate::ast::{Aggregate, Binary, Call, Cardinality, Expr, VectorSelector};
use crate::functions::Arity;

impl Parser<'_> {
    /// Checks an expression and everything in it, and settles what depends on types (vector matching).
    pub(super) fn check(&mut self, expr: &mut Expr) -> ValueType {
        match expr {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Vector(selector) => self.check_selector(selector),
            Expr::Matrix(matrix) => self.check_selector(&matrix.selector),
            Expr::Subquery(_) => {
                let pos = expr.pos();
                if let Expr::Subquery(subquery) = expr {
                    let inner = self.check(&mut subquery.expr);
                    if inner != ValueType::Vector {
                        self.error(pos, format!("subquery is only allowed on instant vector, got {inner} instead"));
                    }
                }
            }
            Expr::Paren(paren) => {
                self.check(&mut paren.expr);
            }
            Expr::Unary(_) => {
                let pos = expr.pos();
                if let Expr::Unary(unary) = expr {
                    let inner = self.check(&mut unary.expr);
                    if !matches!(inner, ValueType::Scalar | ValueType::Vector) {
                        let shown = inner.documented();
                        self.error(
                            pos,
                            format!("unary expression only allowed on expressions of type scalar or instant vector, got \"{shown}\""),
                        );
                    }
                }
            }
            Expr::Aggregate(aggregate) => self.check_aggregate(aggregate),
            Expr::Call(call) => self.check_call(call),
            Expr::Binary(_) => self.check_binaries(expr),
        }
        expr.value_type()
    }

    fn expect_type(&mut self, expr: &mut Expr, wanted: ValueType, context: &str) {
        let got = self.check(expr);
        if got != wanted {
            let message = format!("expected type {} in {context}, got {}", wanted.documented(), got.documented());
            self.error(expr.pos(), message);
        }
    }

    fn check_selector(&mut self, selector: &VectorSelector) {
        let matchers = &selector.matchers;
        if !selector.name.is_empty() {
            for matcher in &matchers[..matchers.len() - 1] {
                if &*matcher.name == model::METRIC_NAME {
                    let (first, second) = (model::quote(&selector.name), model::quote(&matcher.value));
                    self.error(selector.pos, format!("metric name must not be set twice: {first} or {second}"));
                }
            }
        } else if !selector.may_be_empty && matchers.iter().all(model::Matcher::matches_empty) {
            self.error(selector.pos, "vector selector must contain at least one non-empty matcher");
        }
    }

    fn check_aggregate(&mut self, aggregate: &mut Aggregate) {
        self.expect_type(&mut aggregate.expr, ValueType::Vector, "aggregation expression");
        if let (Some(param), Some(wanted)) = (&mut aggregate.param, aggregate.op.param_type()) {
            self.expect_type(param, wanted, "aggregation parameter");
        }
    }

    fn check_call(&mut self, call: &mut Call) {
        let function = call.function;
        let (listed, given) = (function.arg_types.len(), call.args.len());
        let name = function.name;
        match function.arity {
            Arity::Fixed if given != listed => {
                self.error(call.pos, format!("expected {listed} argument(s) in call to \"{name}\", got {given}"));
            }
            Arity::Optional(_) | Arity::Variadic if given < listed - 1 => {
                let least = listed - 1;
                self.error(
                    call.pos,
                    format!("expected at least {least} argument(s) in call to \"{name}\", got {given}"),
                );
            }
            Arity::Optional(n) if given > listed - 1 + usize::from(n) => {
                let most = listed - 1 + usize::from(n);
                self.error(call.pos, format!("expected at most {most} argument(s) in call to \"{name}\", got {given}"));
            }
            _ => {}
        }
        let context = format!("call to function \"{name}\"");
        if name == "info"
            && let Some(labels) = call.args.get_mut(1)
        {
            match labels {
                Expr::Vector(selector) if selector.name.is_empty() => selector.may_be_empty = true,
                other => {
                    let (pos, got) = (other.pos(), other.value_type());
                    if got == ValueType::Vector {
                        self.error(pos, "expected label selectors only, got vector selector instead");
                    } else {
                        let got = got.documented();
                        self.error(call.pos, format!("expected type instant vector in {context}, got {got}"));
                    }
                    return;
                }
            }
        }
        for (at, arg) in call.args.iter_mut().enumerate() {
            match function.arg_types.get(at).or(function.arg_types.last()) {
                Some(_) if at >= listed && function.arity == Arity::Fixed => break,
                Some(wanted) => self.expect_type(arg, *wanted, &context),
                None => break,
            }
        }
    }

    /// Checks a chain of binary operators, innermost first, as operands are checked before what they belong to.
    fn check_binaries(&mut self, expr: &mut Expr) {
        let mut chain = 0;
        let mut at = &mut *expr;
        while let Expr::Binary(binary) = at {
            chain += 1;
            at = &mut binary.lhs;
        }
        self.check(at);
        for depth in (0..chain).rev() {
            let mut at = &mut *expr;
            for _ in 0..depth {
                let Expr::Binary(binary) = at else { return };
                at = &mut binary.lhs;
            }
            let pos = at.pos();
            if let Expr::Binary(binary) = at {
                self.check_binary(binary, pos);
            }
        }
    }

    fn check_binary(&mut self, binary: &mut Binary, pos: crate::PosRange) {
        let left = binary.lhs.value_type();
        let right = self.check(&mut binary.rhs);
        let op = binary.op;
        if binary.return_bool && !op.is_comparison() {
            self.error(binary.op_pos, "bool modifier can only be used on comparison operators");
        }
        let scalars = (left == ValueType::Scalar, right == ValueType::Scalar);
        if op.is_comparison() && !binary.return_bool && scalars == (true, true) {
            self.error(binary.op_pos, "comparisons between scalars must use BOOL modifier");
        }
        let mut matching = binary.matching.take().unwrap_or_default();
        if op.is_set() && matching.card == Cardinality::OneToOne {
            matching.card = Cardinality::ManyToMany;
        }
        for label in &matching.labels {
            if matching.on && matching.include.contains(label) {
                let label = model::quote(label);
                self.error(binary.op_pos, format!("label {label} must not occur in ON and GROUP clause at once"));
            }
        }
        for (operand, value_type) in [(&binary.lhs, left), (&binary.rhs, right)] {
            if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
                self.error(operand.pos(), "binary expression must contain only scalar and instant vector types");
            }
        }
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if (left, right) == (ValueType::Vector, ValueType::Vector) {
            if op.is_set() {
                if fills {
                    self.error(pos, "filling in missing series not allowed for set operators");
                }
                if matching.card != Cardinality::ManyToMany {
                    self.error(pos, format!("no grouping allowed for \"{}\" operation", op.as_str()));
                    self.error(pos, "set operations must always be many-to-many");
                }
            }
            binary.matching = Some(matching);
        } else {
            if !matching.labels.is_empty() {
                self.error(pos, "vector matching only allowed between instant vectors");
            }
            if fills {
                self.error(pos, "filling in missing series only allowed between instant vectors");
            }
        }
        if (scalars.0 || scalars.1) && op.is_set() {
            self.error(pos, format!("set operator \"{}\" not allowed in binary scalar expression", op.as_str()));
        }
    }
}
