use super::{Parsed, Parser};
use crate::ast::{AggregateOp, BinaryOp, DurationExpr, DurationOp, Extreme, NumberLiteral};
use crate::lexer::{Kind, Token};

/// A duration: a literal in milliseconds, or an expression.
pub(super) enum DurationArg {
    Literal(i64),
    Expr(Box<DurationExpr>),
}

impl DurationArg {
    /// The value and the expression as tree nodes hold them.
    pub(super) fn split(self) -> (i64, Option<Box<DurationExpr>>) {
        match self {
            Self::Literal(millis) => (millis, None),
            Self::Expr(expr) => (0, Some(expr)),
        }
    }
}

/// Seconds to milliseconds as Go does it: rounded to nanoseconds, then cut off.
fn to_millis(seconds: f64) -> i64 {
    ((seconds * 1e9).round() as i64) / 1_000_000
}

impl Parser<'_> {
    /// The duration of a range or subquery step: any arithmetic, above zero.
    pub(super) fn positive_duration(&mut self) -> Parsed<DurationArg> {
        let expr = self.duration_expr(0)?;
        if let DurationOp::Number(number) = &expr.op {
            if number.value <= 0.0 {
                self.error(number.pos, "duration must be greater than 0");
                return Ok(DurationArg::Literal(0));
            }
            return Ok(DurationArg::Literal(to_millis(number.value)));
        }
        Ok(DurationArg::Expr(Box::new(expr)))
    }

    /// The duration of an offset: one operand with a sign. Arithmetic needs parentheses, as what follows belongs to the
    /// expression around it.
    pub(super) fn offset_duration(&mut self) -> Parsed<DurationArg> {
        let expr = self.duration_operand(true)?;
        Ok(match expr.op {
            DurationOp::Number(number) => DurationArg::Literal(to_millis(number.value)),
            _ => DurationArg::Expr(Box::new(expr)),
        })
    }

    fn duration_expr(&mut self, min: u8) -> Parsed<DurationExpr> {
        self.deeper(|p| {
            let mut left = p.duration_operand(false)?;
            let mut chain = 0;
            while let Kind::Op(op) = p.token.kind
                && op.precedence() >= min.max(BinaryOp::Add.precedence())
                && op != BinaryOp::Atan2
            {
                chain += 1;
                if chain > super::MAX_NESTING {
                    return p.too_deep();
                }
                let op_token = p.bump();
                let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
                let right = p.duration_expr(next)?;
                if let DurationOp::Number(number) = &right.op
                    && number.value == 0.0
                {
                    match op {
                        BinaryOp::Div => p.error(op_token.pos, "division by zero"),
                        BinaryOp::Mod => p.error(op_token.pos, "modulo by zero"),
                        _ => {}
                    }
                }
                let pos = left.pos.to(right.pos);
                left = DurationExpr {
                    op: DurationOp::Arithmetic(op, Box::new(left), Box::new(right)),
                    wrapped: false,
                    pos,
                };
            }
            Ok(left)
        })
    }

    /// A signed operand; `of_offset` if the sign takes no power into its operand.
    fn duration_operand(&mut self, of_offset: bool) -> Parsed<DurationExpr> {
        let token = self.token;
        let negative = match token.kind {
            Kind::Op(BinaryOp::Sub) => true,
            Kind::Op(BinaryOp::Add) => false,
            _ => return self.duration_primary(),
        };
        self.bump();
        let mut operand =
            if of_offset { self.duration_primary()? } else { self.duration_expr(BinaryOp::Pow.precedence())? };
        if let DurationOp::Number(number) = &mut operand.op {
            if negative {
                number.value = -number.value;
            }
            number.pos.start = token.pos.start;
            operand.pos.start = token.pos.start;
            return Ok(operand);
        }
        if !negative {
            return Ok(operand);
        }
        let pos = token.pos.to(operand.pos);
        Ok(DurationExpr { op: DurationOp::Negate(Box::new(operand)), wrapped: false, pos })
    }

    fn duration_primary(&mut self) -> Parsed<DurationExpr> {
        let token = self.token;
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.bump();
                let number = self.number_literal(token);
                // what fits into Go's nanoseconds
                if number.value.abs() > i64::MAX as f64 / 1e9 || number.value.is_nan() {
                    self.error(token.pos, "duration out of range");
                    let zero = NumberLiteral { value: 1.0, ..number };
                    return Ok(DurationExpr { pos: token.pos, op: DurationOp::Number(zero), wrapped: false });
                }
                Ok(DurationExpr { pos: token.pos, op: DurationOp::Number(number), wrapped: false })
            }
            Kind::Step | Kind::Range => {
                self.bump();
                self.expect(Kind::LeftParen)?;
                let close = self.expect(Kind::RightParen)?;
                let op = if token.kind == Kind::Step { DurationOp::Step } else { DurationOp::Range };
                Ok(DurationExpr { op, wrapped: false, pos: token.pos.to(close.pos) })
            }
            Kind::LeftParen => {
                self.bump();
                let mut expr = self.duration_expr(0)?;
                self.expect(Kind::RightParen)?;
                // a literal needs no parentheses; the position is that of what stands in them
                expr.wrapped = !matches!(expr.op, DurationOp::Number(_));
                Ok(expr)
            }
            _ => match self.extreme(token) {
                Some(extreme) => self.extreme_call(token, extreme),
                None => self.unexpected(),
            },
        }
    }

    fn extreme(&self, token: Token) -> Option<Extreme> {
        match token.kind {
            Kind::Aggregate(AggregateOp::Min) => Some(Extreme::Min),
            Kind::Aggregate(AggregateOp::Max) => Some(Extreme::Max),
            Kind::Identifier if self.text(token).eq_ignore_ascii_case("min_of") => Some(Extreme::MinOf),
            Kind::Identifier if self.text(token).eq_ignore_ascii_case("max_of") => Some(Extreme::MaxOf),
            _ => None,
        }
    }

    fn extreme_call(&mut self, token: Token, extreme: Extreme) -> Parsed<DurationExpr> {
        self.bump();
        self.expect(Kind::LeftParen)?;
        let left = self.duration_expr(0)?;
        self.expect(Kind::Comma)?;
        let right = self.duration_expr(0)?;
        let close = self.expect(Kind::RightParen)?;
        Ok(DurationExpr {
            op: DurationOp::Extreme(extreme, Box::new(left), Box::new(right)),
            wrapped: false,
            pos: token.pos.to(close.pos),
        })
    }
}
