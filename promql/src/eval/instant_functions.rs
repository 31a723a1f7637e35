//! Functions of a number, applied to each float of a vector.

use super::Evaluator;
use super::frame::{Frame, is_absent};
use crate::QueryError;
use crate::ast::Call;
use crate::math;

/// Go's `math.Max`: NaN wins, and +0 over -0.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: NaN wins, and -0 over +0.
pub(super) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { a } else { b }
    } else if a < b {
        a
    } else {
        b
    }
}

impl Evaluator<'_> {
    pub(super) fn instant_function(&self, call: &Call) -> Result<Frame, QueryError> {
        let function: fn(f64) -> f64 = match call.function.name {
            "clamp" | "clamp_min" | "clamp_max" => return self.clamp(call),
            "round" => return self.round(call),
            "abs" => f64::abs,
            "ceil" => f64::ceil,
            "floor" => f64::floor,
            "sqrt" => f64::sqrt,
            "exp" => math::exp,
            "ln" => math::ln,
            "log2" => math::log2,
            "log10" => math::log10,
            "sin" => math::sin,
            "cos" => math::cos,
            "tan" => math::tan,
            "asin" => math::asin,
            "acos" => math::acos,
            "atan" => math::atan,
            "sinh" => math::sinh,
            "cosh" => math::cosh,
            "tanh" => math::tanh,
            "asinh" => math::asinh,
            "acosh" => math::acosh,
            "atanh" => math::atanh,
            "rad" => |v| v * std::f64::consts::PI / 180.0,
            "deg" => |v| v * 180.0 / std::f64::consts::PI,
            "sgn" => |v| {
                if v < 0.0 {
                    -1.0
                } else if v > 0.0 {
                    1.0
                } else {
                    v
                }
            },
            name => return Err(QueryError::execution(format!("function {name:?} is not known to the evaluation"))),
        };
        let frame = self.vector(&call.args[0])?;
        self.map_floats(frame, |_, value| function(value))
    }

    /// Applies a function to all floats, by step, and leaves out histograms and metric names.
    pub(super) fn map_floats(&self, mut frame: Frame, map: impl Fn(usize, f64) -> f64) -> Result<Frame, QueryError> {
        for row in &mut frame.rows {
            self.query.check()?;
            for step in 0..row.floats.len() {
                let value = row.floats[step];
                if !is_absent(value) {
                    row.set_float(step, map(step, value));
                }
            }
            row.histograms = Vec::new();
            self.drop_name(row);
        }
        frame.rows.retain(|row| row.floats.iter().any(|v| !is_absent(*v)));
        Ok(frame)
    }

    fn clamp(&self, call: &Call) -> Result<Frame, QueryError> {
        let steps = self.steps.count;
        let mut lows = vec![f64::NEG_INFINITY; steps];
        let mut highs = vec![f64::INFINITY; steps];
        let mut frame = self.vector(&call.args[0])?;
        match call.function.name {
            "clamp" => {
                lows = self.scalar(&call.args[1])?;
                highs = self.scalar(&call.args[2])?;
            }
            "clamp_min" => lows = self.scalar(&call.args[1])?,
            _ => highs = self.scalar(&call.args[1])?,
        }
        for step in (0..steps).filter(|step| highs[*step] < lows[*step]) {
            for row in &mut frame.rows {
                row.clear(step);
            }
        }
        self.map_floats(frame, |step, value| go_max(lows[step], go_min(highs[step], value)))
    }

    fn round(&self, call: &Call) -> Result<Frame, QueryError> {
        let frame = self.vector(&call.args[0])?;
        let to_nearest = match call.args.get(1) {
            Some(arg) => self.scalar(arg)?,
            None => vec![1.0; self.steps.count],
        };
        self.map_floats(frame, |step, value| {
            let inverse = 1.0 / to_nearest[step];
            (value * inverse + 0.5).floor() / inverse
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_gos() {
        assert!(go_max(1.0, f64::NAN).is_nan() && go_min(f64::NAN, 1.0).is_nan());
        assert_eq!(go_max(f64::INFINITY, f64::NAN), f64::INFINITY);
        assert!(go_min(0.0, -0.0).is_sign_negative() && go_max(-0.0, 0.0).is_sign_positive());
    }
}
