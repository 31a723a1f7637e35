use model::{MatchOp, Matcher};

use super::{Parsed, Parser, Sub, is_metric_name};
use crate::ast::{At, BinaryOp, Expr, Extended, MatrixSelector, Subquery, TimeShift, VectorSelector};
use crate::lexer::Kind;

const DURATION_EXPECTED: &str = "number, duration, step(), or range()";

impl Parser<'_> {
    /// `name{a="b"}`
    pub(super) fn vector_selector(&mut self) -> Parsed<VectorSelector> {
        let start = self.token;
        let mut name = String::new();
        if is_metric_name(start.kind) {
            self.bump();
            name = self.text(start).to_owned();
        } else if start.kind != Kind::LeftBrace {
            return self.unexpected();
        }
        let mut pos = start.pos;
        let mut matchers = Vec::new();
        if self.token.kind == Kind::LeftBrace {
            pos = pos.to(self.token.pos);
            matchers = self.label_matchers()?;
            pos.end = self.last_closing;
        }
        if !name.is_empty() {
            matchers.push(Matcher::equal(model::METRIC_NAME, &name));
        }
        Ok(VectorSelector { name, matchers, shift: TimeShift::default(), extended: None, may_be_empty: false, pos })
    }

    fn label_matchers(&mut self) -> Parsed<Vec<Matcher>> {
        self.expect(Kind::LeftBrace)?;
        let mut matchers = Vec::new();
        while self.token.kind != Kind::RightBrace {
            matchers.extend(self.label_matcher()?);
            if self.token.kind != Kind::RightBrace {
                self.within("label matching", "\",\" or \"}\"", |p| p.expect(Kind::Comma))?;
            }
        }
        self.expect(Kind::RightBrace)?;
        Ok(matchers)
    }

    /// One condition; `None` if it is wrong in a way that does not stop the parser.
    fn label_matcher(&mut self) -> Parsed<Option<Matcher>> {
        let label = self.token;
        let name = match label.kind {
            Kind::Identifier => {
                self.bump();
                self.text(label).to_owned()
            }
            Kind::String => {
                self.bump();
                let name = self.string_literal(label).text().into_owned();
                if let Kind::Comma | Kind::RightBrace = self.token.kind {
                    return Ok(Some(Matcher::equal(model::METRIC_NAME, &name)));
                }
                name
            }
            _ => return self.within("label matching", "identifier or \"}\"", Self::unexpected),
        };
        let op = match self.token.kind {
            Kind::Assign => MatchOp::Equal,
            Kind::Op(BinaryOp::Ne) => MatchOp::NotEqual,
            Kind::EqualRegex => MatchOp::Regex,
            Kind::NotRegex => MatchOp::NotRegex,
            _ if label.kind == Kind::String => {
                return self.within("label matching", "\",\" or \"}\"", Self::unexpected);
            }
            _ => return self.within("label matching", "label matching operator", Self::unexpected),
        };
        self.bump();
        let value_token = self.within("label matching", "string", |p| p.expect(Kind::String))?;
        let value = self.string_literal(value_token);
        match Matcher::new(op, &name, &value.text()) {
            Ok(matcher) => Ok(Some(matcher)),
            Err(error) => {
                self.error(label.pos.to(value_token.pos), error.to_string());
                Ok(None)
            }
        }
    }

    /// What stands behind an operand: range, subquery, offset, `@`, `anchored`, `smoothed`.
    pub(super) fn modifiers(&mut self, mut sub: Sub) -> Parsed<Sub> {
        loop {
            match self.token.kind {
                Kind::LeftBracket => sub = self.range_or_subquery(sub)?,
                Kind::Offset => {
                    self.bump();
                    let offset = self.within("offset", DURATION_EXPECTED, Self::offset_duration)?;
                    let (millis, expr) = offset.split();
                    self.set_offset(&mut sub.expr, |shift| {
                        shift.offset = millis;
                        shift.offset_expr = expr;
                    });
                }
                Kind::At => {
                    self.bump();
                    let at = self.within("@", "timestamp", Self::at_argument)?;
                    self.set_at(&mut sub.expr, at);
                }
                Kind::Anchored => {
                    self.bump();
                    self.set_extended(&mut sub.expr, Extended::Anchored);
                }
                Kind::Smoothed => {
                    self.bump();
                    self.set_extended(&mut sub.expr, Extended::Smoothed);
                }
                _ => return Ok(sub),
            }
        }
    }

    fn range_or_subquery(&mut self, sub: Sub) -> Parsed<Sub> {
        let open = self.bump();
        let range = self.within("subquery or range selector", DURATION_EXPECTED, Self::positive_duration)?;
        let (range, range_expr) = range.split();
        if self.accept(Kind::Colon).is_some() {
            let (mut step, mut step_expr) = (0, None);
            if self.token.kind != Kind::RightBracket {
                let expected = "number, duration, step(), range(), or \"]\"";
                (step, step_expr) = self.within("subquery selector", expected, Self::positive_duration)?.split();
            }
            let close = self.within("subquery selector", "\"]\"", |p| p.expect(Kind::RightBracket))?;
            let subquery = Subquery {
                expr: Box::new(sub.expr),
                range,
                range_expr,
                step,
                step_expr,
                shift: TimeShift::default(),
                end: close.pos.end,
            };
            return self.parent(Expr::Subquery(subquery), sub.nesting + 1, sub.height + 1);
        }
        let close = self.within("subquery or range", "\":\" or \"]\"", |p| p.expect(Kind::RightBracket))?;
        let brackets = open.pos.to(close.pos);
        let Expr::Vector(selector) = sub.expr else {
            self.error(brackets, "ranges only allowed for vector selectors");
            return Ok(sub);
        };
        if selector.shift.has_offset() {
            self.error(brackets, "no offset modifiers allowed before range");
        } else if selector.shift.at.is_some() {
            self.error(brackets, "no @ modifiers allowed before range");
        }
        Ok(Sub::leaf(Expr::Matrix(MatrixSelector { selector, range, range_expr, end: close.pos.end })))
    }

    fn at_argument(&mut self) -> Parsed<Result<At, f64>> {
        let at = match self.token.kind {
            Kind::Start => At::Start,
            Kind::End => At::End,
            _ => {
                let seconds = self.signed_number()?;
                let fits = seconds.is_finite() && seconds.abs() < i64::MAX as f64;
                return Ok(if fits { Ok(At::Time((seconds * 1000.0).round() as i64)) } else { Err(seconds) });
            }
        };
        self.bump();
        self.expect(Kind::LeftParen)?;
        self.expect(Kind::RightParen)?;
        Ok(Ok(at))
    }

    fn shift_of(expr: &mut Expr) -> Option<&mut TimeShift> {
        match expr {
            Expr::Vector(v) => Some(&mut v.shift),
            Expr::Matrix(m) => Some(&mut m.selector.shift),
            Expr::Subquery(s) => Some(&mut s.shift),
            _ => None,
        }
    }

    fn set_offset(&mut self, expr: &mut Expr, set: impl FnOnce(&mut TimeShift)) {
        let pos = expr.pos();
        match Self::shift_of(expr) {
            None => self.error(
                pos,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ),
            Some(shift) if shift.has_offset() => self.error(pos, "offset may not be set multiple times"),
            Some(shift) => set(shift),
        }
    }

    fn set_at(&mut self, expr: &mut Expr, at: Result<At, f64>) {
        let pos = expr.pos();
        let at = match at {
            Ok(at) => at,
            Err(seconds) => {
                let shown =
                    if seconds.is_finite() { format!("{seconds:.6}") } else { crate::go_text::format_plain(seconds) };
                self.error(pos, format!("timestamp out of bounds for @ modifier: {shown}"));
                return;
            }
        };
        match Self::shift_of(expr) {
            None => self.error(
                pos,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ),
            Some(shift) if shift.at.is_some() => self.error(pos, "@ <timestamp> may not be set multiple times"),
            Some(shift) => shift.at = Some(at),
        }
    }

    fn set_extended(&mut self, expr: &mut Expr, extended: Extended) {
        let pos = expr.pos();
        let name = if extended == Extended::Anchored { "anchored" } else { "smoothed" };
        if !self.features.extended_range_selectors {
            self.error(pos, format!("{name} modifier is experimental and not enabled"));
            return;
        }
        let selector = match expr {
            Expr::Vector(v) => v,
            Expr::Matrix(m) => &mut m.selector,
            Expr::Subquery(_) => {
                self.error(pos, format!("{name} modifier is not supported for subqueries"));
                return;
            }
            _ => {
                self.error(pos, format!("{name} modifier not implemented"));
                return;
            }
        };
        if selector.extended.is_some_and(|e| e != extended) {
            self.error(pos, "anchored and smoothed modifiers cannot be used together");
        }
        selector.extended = Some(extended);
    }
}
