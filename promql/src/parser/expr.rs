use super::{Parsed, Parser, Sub, disabled_aggregation, is_label_name, is_metric_name};
use crate::ast::{Aggregate, AggregateOp, BinaryOp, Call, Expr, Paren, Unary};
use crate::go_text::quote_bytes;
use crate::lexer::{Kind, Token};
use crate::{Function, PosRange};

impl Parser<'_> {
    /// An expression whose operators bind at least as strongly as `min`.
    pub(super) fn expr(&mut self, min: u8) -> Parsed<Sub> {
        self.deeper(|p| {
            let mut left = p.operand()?;
            while let Kind::Op(op) = p.token.kind
                && op.precedence() >= min
            {
                left = p.binary(left, op)?;
            }
            Ok(left)
        })
    }

    /// An operand with its sign and what stands behind it (range, offset and so on).
    fn operand(&mut self) -> Parsed<Sub> {
        let start = self.token.pos.start;
        let negative = match self.token.kind {
            Kind::Op(BinaryOp::Sub) => true,
            Kind::Op(BinaryOp::Add) => false,
            _ => {
                let primary = self.primary()?;
                return self.modifiers(primary);
            }
        };
        self.bump();
        // a sign binds as strongly as `*`, so of the operators only `^` goes into its operand
        let mut sub = self.expr(BinaryOp::Pow.precedence())?;
        if let Expr::Number(number) = &mut sub.expr {
            if negative {
                number.value = -number.value;
            }
            number.pos.start = start;
            return Ok(sub);
        }
        let unary = Expr::Unary(Unary { negative, expr: Box::new(sub.expr), start });
        self.parent(unary, sub.nesting + 1, sub.height + 1)
    }

    fn primary(&mut self) -> Parsed<Sub> {
        let token = self.token;
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.bump();
                Ok(Sub::leaf(Expr::Number(self.number_literal(token))))
            }
            Kind::String => {
                self.bump();
                Ok(Sub::leaf(Expr::String(self.string_literal(token))))
            }
            Kind::LeftParen => {
                self.bump();
                let sub = self.expr(0)?;
                let close = self.expect(Kind::RightParen)?;
                let paren = Expr::Paren(Paren { expr: Box::new(sub.expr), pos: token.pos.to(close.pos) });
                self.parent(paren, sub.nesting + 1, sub.height + 1)
            }
            Kind::Aggregate(op) if !self.followed_by('{') => self.aggregation_or_metric(token, op),
            Kind::Identifier | Kind::Start | Kind::End | Kind::Step | Kind::Range if self.followed_by('(') => {
                self.call(token)
            }
            Kind::LeftBrace => Ok(Sub::leaf(Expr::Vector(self.vector_selector()?))),
            kind if is_metric_name(kind) => Ok(Sub::leaf(Expr::Vector(self.vector_selector()?))),
            _ => self.unexpected(),
        }
    }

    fn call(&mut self, token: Token) -> Parsed<Sub> {
        self.bump();
        let name = match token.kind {
            Kind::Identifier => self.text(token).to_owned(),
            _ => self.text(token).to_ascii_lowercase(),
        };
        let (args, nesting, height) = self.call_args()?;
        let Some(function) = Function::find(&name) else {
            self.error(token.pos, format!("unknown function with name {}", model::quote(&name)));
            // parsing goes on, as Prometheus' does, to report what else is wrong
            return Ok(Sub::leaf(Expr::Number(crate::ast::NumberLiteral {
                value: 0.0,
                is_duration: false,
                pos: token.pos,
            })));
        };
        if function.experimental && !self.features.experimental_functions {
            self.error(token.pos, format!("function {} is not enabled", model::quote(&name)));
        }
        let pos = PosRange::new(token.pos.start, self.last_closing);
        self.parent(Expr::Call(Call { function, args, pos }), nesting + 1, height + 1)
    }

    /// Arguments in parentheses, with the nesting and height of the deepest.
    fn call_args(&mut self) -> Parsed<(Vec<Expr>, u32, u32)> {
        self.expect(Kind::LeftParen)?;
        let (mut args, mut nesting, mut height) = (Vec::new(), 0, 0);
        if self.accept(Kind::RightParen).is_some() {
            return Ok((args, nesting, height));
        }
        loop {
            let arg = self.expr(0)?;
            args.push(arg.expr);
            nesting = nesting.max(arg.nesting);
            height = height.max(arg.height);
            if let Some(comma) = self.accept(Kind::Comma) {
                if self.token.kind == Kind::RightParen {
                    self.error(comma.pos, "trailing commas not allowed in function call args");
                } else {
                    continue;
                }
            }
            self.expect(Kind::RightParen)?;
            return Ok((args, nesting, height));
        }
    }

    fn aggregation_or_metric(&mut self, token: Token, op: AggregateOp) -> Parsed<Sub> {
        let after = &self.input[token.pos.end as usize..];
        let after = after.trim_start_matches([' ', '\t', '\n', '\r']);
        let word: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
        let is_aggregation =
            after.starts_with('(') || word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without");
        if !is_aggregation {
            return Ok(Sub::leaf(Expr::Vector(self.vector_selector()?)));
        }
        self.bump();
        self.within("aggregation", "", |p| p.aggregation(token, op))
    }

    fn aggregation(&mut self, token: Token, op: AggregateOp) -> Parsed<Sub> {
        let mut grouping = self.grouping_clause()?;
        let (mut args, nesting, height) = self.call_args()?;
        let mut end = self.last_closing;
        if grouping.is_none() {
            grouping = self.grouping_clause()?;
            end = end.max(self.last_closing);
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let pos = PosRange::new(token.pos.start, end);
        let wanted = 1 + usize::from(op.param_type().is_some());
        let placeholder = |pos| Expr::Number(crate::ast::NumberLiteral { value: 0.0, is_duration: false, pos });
        if args.is_empty() {
            self.error(pos, "no arguments for aggregate expression provided");
            return Ok(Sub::leaf(placeholder(pos)));
        }
        if op.is_experimental() && !self.features.experimental_functions {
            self.error(pos, disabled_aggregation(op));
            return Ok(Sub::leaf(placeholder(pos)));
        }
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            self.error(pos, message);
            return Ok(Sub::leaf(placeholder(pos)));
        }
        let expr = Box::new(args.pop().unwrap_or_else(|| placeholder(pos)));
        let param = args.pop().map(Box::new);
        self.parent(Expr::Aggregate(Aggregate { op, expr, param, grouping, without, pos }), nesting + 1, height + 1)
    }

    /// `by (...)` or `without (...)`, if there is one: whether it is `without`, and the labels.
    fn grouping_clause(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = match self.token.kind {
            Kind::By => false,
            Kind::Without => true,
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some((without, self.grouping_labels()?)))
    }

    /// `(a, b)`
    pub(super) fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
        self.within("grouping opts", "\"(\"", |p| p.expect(Kind::LeftParen))?;
        let mut labels = Vec::new();
        loop {
            if self.token.kind == Kind::RightParen && (labels.is_empty() || self.last_was_comma()) {
                break;
            }
            let token = self.token;
            let name = match token.kind {
                Kind::String => {
                    self.bump();
                    let literal = self.string_literal(token);
                    let text = literal.text().into_owned();
                    if literal.bytes.is_empty() || std::str::from_utf8(&literal.bytes).is_err() {
                        let quoted = quote_bytes(&literal.bytes);
                        self.error(token.pos, format!("invalid label name for grouping: {quoted}"));
                    }
                    text
                }
                kind if is_label_name(kind) => {
                    self.bump();
                    self.text(token).to_owned()
                }
                _ => return self.within("grouping opts", "label", Self::unexpected),
            };
            labels.push(name);
            if self.token.kind == Kind::RightParen {
                break;
            }
            self.within("grouping opts", "\",\" or \")\"", |p| p.expect(Kind::Comma))?;
        }
        self.expect(Kind::RightParen)?;
        Ok(labels)
    }

    /// Whether the token before the current one is a comma.
    fn last_was_comma(&self) -> bool {
        self.input[..self.token.pos.start as usize].trim_end_matches([' ', '\t', '\n', '\r']).ends_with(',')
    }
}
