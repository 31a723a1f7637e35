//! The values of durations and times that depend on the query's range and step.

use model::Timestamp;

use super::Evaluator;
use super::instant_functions::{go_max, go_min};
use crate::QueryError;
use crate::ast::{At, BinaryOp, DurationExpr, DurationOp, Extreme, TimeShift};

/// When a selector looks, for an evaluation at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LookAt {
    pub(super) at: Option<Timestamp>,
    pub(super) offset: i64,
}

impl LookAt {
    #[inline]
    pub(super) fn time(self, evaluated_at: Timestamp) -> Timestamp {
        self.at.unwrap_or(evaluated_at).saturating_sub(self.offset)
    }
}

impl Evaluator<'_> {
    /// `@` and `offset` of a selector or subquery.
    pub(super) fn look_at(&self, shift: &TimeShift) -> Result<LookAt, QueryError> {
        let at = shift.at.map(|at| match at {
            At::Time(time) => time,
            At::Start => self.query.range.0,
            At::End => self.query.range.1,
        });
        let offset = match &shift.offset_expr {
            Some(expr) => self.duration(expr, true)?,
            None => shift.offset,
        };
        Ok(LookAt { at, offset })
    }

    /// A range or step in milliseconds.
    pub(super) fn range_millis(&self, millis: i64, expr: Option<&DurationExpr>) -> Result<i64, QueryError> {
        match expr {
            Some(expr) => self.duration(expr, false),
            None => Ok(millis),
        }
    }

    fn duration(&self, expr: &DurationExpr, may_be_negative: bool) -> Result<i64, QueryError> {
        let seconds = self.duration_seconds(expr)?;
        let at = |what: &str| QueryError::execution(format!("{}:{}: {what}", expr.pos.start, expr.pos.end));
        if seconds <= 0.0 && !may_be_negative {
            return Err(at("duration must be greater than 0"));
        }
        if seconds.is_nan() || seconds.abs() > i64::MAX as f64 / 1e9 {
            return Err(at("duration is out of range"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn duration_seconds(&self, expr: &DurationExpr) -> Result<f64, QueryError> {
        let at = |what: &str| QueryError::execution(format!("{}:{}: {what}", expr.pos.start, expr.pos.end));
        Ok(match &expr.op {
            DurationOp::Number(number) => number.value,
            DurationOp::Step => self.query.range.2 as f64 / 1000.0,
            DurationOp::Range => (self.query.range.1 - self.query.range.0) as f64 / 1000.0,
            DurationOp::Negate(operand) => -self.duration_seconds(operand)?,
            DurationOp::Extreme(extreme, left, right) => {
                let (left, right) = (self.duration_seconds(left)?, self.duration_seconds(right)?);
                match extreme {
                    Extreme::Min | Extreme::MinOf => go_min(left, right),
                    Extreme::Max | Extreme::MaxOf => go_max(left, right),
                }
            }
            DurationOp::Arithmetic(op, left, right) => {
                let (left, right) = (self.duration_seconds(left)?, self.duration_seconds(right)?);
                match op {
                    BinaryOp::Sub => left - right,
                    BinaryOp::Mul => left * right,
                    BinaryOp::Div if right == 0.0 => return Err(at("division by zero")),
                    BinaryOp::Div => left / right,
                    BinaryOp::Mod if right == 0.0 => return Err(at("modulo by zero")),
                    BinaryOp::Mod => left % right,
                    BinaryOp::Pow => left.powf(right),
                    _ => left + right,
                }
            }
        })
    }
}
