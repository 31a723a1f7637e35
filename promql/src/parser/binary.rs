use super::{Parsed, Parser, Sub};
use crate::ast::{Binary, BinaryOp, Cardinality, Expr, VectorMatching};
use crate::lexer::Kind;

impl Parser<'_> {
    /// The rest of a binary operation whose left operand has been read and whose operator is next.
    pub(super) fn binary(&mut self, left: Sub, op: BinaryOp) -> Parsed<Sub> {
        let op_token = self.bump();
        let return_bool = self.accept(Kind::Bool).is_some();
        let mut matching = VectorMatching::default();
        if let Kind::On | Kind::Ignoring = self.token.kind {
            matching.on = self.bump().kind == Kind::On;
            matching.labels = self.grouping_labels()?;
            if let Kind::GroupLeft | Kind::GroupRight = self.token.kind {
                let left = self.bump().kind == Kind::GroupLeft;
                matching.card = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.token.kind == Kind::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fill_modifiers(&mut matching)?;
        let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
        let right = self.expr(next)?;
        let nesting = left.nesting.max(right.nesting + 1);
        let height = left.height.max(right.height) + 1;
        let binary = Binary {
            op,
            lhs: Box::new(left.expr),
            rhs: Box::new(right.expr),
            matching: Some(matching),
            return_bool,
            op_pos: op_token.pos,
        };
        self.parent(Expr::Binary(binary), nesting, height)
    }

    /// `fill(0)`, `fill_left(0)`, `fill_right(0)`; the words alone are metric names.
    fn fill_modifiers(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        while let Kind::Fill | Kind::FillLeft | Kind::FillRight = self.token.kind
            && self.followed_by('(')
        {
            let token = self.bump();
            if !self.features.binop_fill_modifiers {
                self.error(token.pos, "binop fill modifiers are experimental and not enabled");
            }
            let value = self.within("fill modifier", "number", |p| {
                p.expect(Kind::LeftParen)?;
                let value = p.signed_number()?;
                p.expect(Kind::RightParen)?;
                Ok(value)
            })?;
            let (left, right) = match token.kind {
                Kind::Fill => (true, true),
                Kind::FillLeft => (true, false),
                _ => (false, true),
            };
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                self.error(token.pos, "fill modifier may not be set multiple times");
            }
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
        }
        Ok(())
    }

    /// A number or duration with an optional sign.
    pub(super) fn signed_number(&mut self) -> Parsed<f64> {
        let sign = match self.token.kind {
            Kind::Op(BinaryOp::Sub) => -1.0,
            Kind::Op(BinaryOp::Add) => 1.0,
            _ => 0.0,
        };
        if sign != 0.0 {
            self.bump();
        }
        let (Kind::Number | Kind::Duration) = self.token.kind else {
            return self.unexpected();
        };
        let token = self.bump();
        let value = self.number_literal(token).value;
        Ok(if sign < 0.0 { -value } else { value })
    }
}
