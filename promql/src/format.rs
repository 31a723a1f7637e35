//! Expressions as text on one line, as Prometheus' `String()` prints them.

use std::fmt::{self, Display, Write};

use model::Duration;

use crate::ast::{
    Aggregate, At, Binary, Call, Cardinality, DurationExpr, DurationOp, Expr, Extended, MatrixSelector, NumberLiteral,
    Subquery, TimeShift, VectorMatching, VectorSelector,
};
use crate::go_text::{format_general, format_plain, quote_bytes};

/// A duration in milliseconds, possibly negative, as Prometheus prints durations.
struct Millis(i64);

impl Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", Duration::from_millis(self.0.saturating_abs()))
    }
}

/// Label names in a list, quoted where they are not plain.
struct LabelNames<'a>(&'a [String]);

impl Display for LabelNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if model::is_legacy_label_name(name) {
                f.write_str(name)?;
            } else {
                f.write_str(&model::quote(name))?;
            }
        }
        Ok(())
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::String(string) => f.write_str(&quote_bytes(&string.bytes)),
            Self::Vector(selector) => selector.fmt(f),
            Self::Matrix(matrix) => matrix.fmt(f),
            Self::Subquery(subquery) => write!(f, "{}{}", subquery.expr, subquery.suffix()),
            Self::Call(call) => call.fmt(f),
            Self::Aggregate(aggregate) => aggregate.fmt(f),
            Self::Unary(unary) => write!(f, "{}{}", if unary.negative { "-" } else { "+" }, unary.expr),
            Self::Paren(paren) => write!(f, "({})", paren.expr),
            Self::Binary(_) => {
                // chains of operators can be long, so they are not recursed into
                let mut chain = Vec::new();
                let mut at = self;
                while let Self::Binary(binary) = at {
                    chain.push(binary);
                    at = &binary.lhs;
                }
                at.fmt(f)?;
                for binary in chain.into_iter().rev() {
                    write!(f, " {} {}", binary.operator(), binary.rhs)?;
                }
                Ok(())
            }
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            Millis((self.value * 1000.0).round() as i64).fmt(f)
        } else {
            f.write_str(&format_plain(self.value))
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name)?;
        for (at, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if at > 0 { ", " } else { "" })?;
        }
        f.write_char(')')
    }
}

impl Aggregate {
    /// The operator with its grouping: `sum by (job) `.
    pub(crate) fn operator(&self) -> String {
        let op = self.op.as_str();
        match (self.without, self.grouping.is_empty()) {
            (true, _) => format!("{op} without ({}) ", LabelNames(&self.grouping)),
            (false, false) => format!("{op} by ({}) ", LabelNames(&self.grouping)),
            (false, true) => op.to_owned(),
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.operator())?;
        if let Some(param) = &self.param {
            write!(f, "{param}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

impl Binary {
    /// The operator with its modifiers: `+ on (job) group_left ()`.
    pub(crate) fn operator(&self) -> String {
        let matching = self.matching.as_ref().map(VectorMatching::to_string).unwrap_or_default();
        format!("{}{}{matching}", self.op.as_str(), if self.return_bool { " bool" } else { "" })
    }
}

impl Display for VectorMatching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.card {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if self.on || !self.labels.is_empty() || side.is_some() {
            write!(f, " {} ({})", if self.on { "on" } else { "ignoring" }, LabelNames(&self.labels))?;
        }
        if let Some(side) = side {
            write!(f, " group_{side} ({})", LabelNames(&self.include))?;
        }
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
                write!(f, " fill ({})", format_general(left))
            }
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", format_general(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", format_general(right))?;
                }
                Ok(())
            }
        }
    }
}

impl TimeShift {
    fn at(&self) -> String {
        match self.at {
            None => String::new(),
            Some(At::Start) => " @ start()".to_owned(),
            Some(At::End) => " @ end()".to_owned(),
            Some(At::Time(millis)) => {
                let sign = if millis < 0 { "-" } else { "" };
                let millis = millis.unsigned_abs();
                format!(" @ {sign}{}.{:03}", millis / 1000, millis % 1000)
            }
        }
    }

    fn offset(&self) -> String {
        match &self.offset_expr {
            Some(expr) => format!(" offset {expr}"),
            None if self.offset == 0 => String::new(),
            None => format!(" offset {}", Millis(self.offset)),
        }
    }
}

fn extended(extended: Option<Extended>) -> &'static str {
    match extended {
        None => "",
        Some(Extended::Anchored) => " anchored",
        Some(Extended::Smoothed) => " smoothed",
    }
}

impl VectorSelector {
    /// Name and conditions, without `@`, `offset` and the like.
    pub(crate) fn series(&self) -> String {
        let mut conditions: Vec<String> = self
            .matchers
            .iter()
            .filter(|m| {
                let is_name = &*m.name == model::METRIC_NAME
                    && m.op() == model::MatchOp::Equal
                    && *m.value == *self.name
                    && !m.value.is_empty();
                !is_name
            })
            .map(ToString::to_string)
            .collect();
        if conditions.is_empty() && !self.name.is_empty() {
            return self.name.clone();
        }
        conditions.sort();
        format!("{}{{{}}}", self.name, conditions.join(","))
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, offset) = (self.shift.at(), self.shift.offset());
        write!(f, "{}{at}{}{offset}", self.series(), extended(self.extended))
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shift = &self.selector.shift;
        let range = duration_text(self.range, self.range_expr.as_deref());
        let (at, offset) = (shift.at(), shift.offset());
        write!(f, "{}[{range}]{}{at}{offset}", self.selector.series(), extended(self.selector.extended))
    }
}

impl Subquery {
    /// `[5m:1m] @ 3 offset 1m`
    pub(crate) fn suffix(&self) -> String {
        let range = duration_text(self.range, self.range_expr.as_deref());
        let step = match &self.step_expr {
            Some(expr) => expr.to_string(),
            None if self.step == 0 => String::new(),
            None => Millis(self.step).to_string(),
        };
        format!("[{range}:{step}]{}{}", self.shift.at(), self.shift.offset())
    }
}

fn duration_text(millis: i64, expr: Option<&DurationExpr>) -> String {
    expr.map_or_else(|| Millis(millis).to_string(), ToString::to_string)
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_char('(')?;
        }
        match &self.op {
            DurationOp::Number(number) => number.fmt(f)?,
            DurationOp::Step => f.write_str("step()")?,
            DurationOp::Range => f.write_str("range()")?,
            DurationOp::Negate(operand) => write!(f, "-{operand}")?,
            DurationOp::Extreme(extreme, left, right) => write!(f, "{}({left}, {right})", extreme.as_str())?,
            DurationOp::Arithmetic(op, left, right) => write!(f, "{left} {} {right}", op.as_str())?,
        }
        if self.wrapped {
            f.write_char(')')?;
        }
        Ok(())
    }
}
