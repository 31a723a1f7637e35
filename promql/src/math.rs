//! Elementary functions in the way Go computes them, where that differs from the platform's library.

use std::f64::consts::{LN_2, LN_10};

pub(crate) fn exp(x: f64) -> f64 {
    x.exp()
}

pub(crate) fn ln(x: f64) -> f64 {
    x.ln()
}

/// Mantissa in [0.5, 1) and exponent.
fn frexp(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, extra) = if x.abs() < f64::MIN_POSITIVE { (x * 2f64.powi(52), -52) } else { (x, 0) };
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022 + extra;
    (f64::from_bits(bits & !(0x7ff << 52) | (1022 << 52)), exponent)
}

/// Exact for powers of two.
pub(crate) fn log2(x: f64) -> f64 {
    let (fraction, exponent) = frexp(x);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * (1.0 / LN_2) + f64::from(exponent)
}

pub(crate) fn log10(x: f64) -> f64 {
    log2(x) * (LN_2 / LN_10)
}

pub(crate) fn exp2(x: f64) -> f64 {
    x.exp2()
}

pub(crate) fn pow(x: f64, y: f64) -> f64 {
    x.powf(y)
}

pub(crate) fn sin(x: f64) -> f64 {
    x.sin()
}

pub(crate) fn cos(x: f64) -> f64 {
    x.cos()
}

pub(crate) fn tan(x: f64) -> f64 {
    x.tan()
}

pub(crate) fn asin(x: f64) -> f64 {
    x.asin()
}

pub(crate) fn acos(x: f64) -> f64 {
    x.acos()
}

pub(crate) fn atan(x: f64) -> f64 {
    x.atan()
}

pub(crate) fn atan2(y: f64, x: f64) -> f64 {
    y.atan2(x)
}

pub(crate) fn sinh(x: f64) -> f64 {
    x.sinh()
}

pub(crate) fn cosh(x: f64) -> f64 {
    x.cosh()
}

pub(crate) fn tanh(x: f64) -> f64 {
    x.tanh()
}

pub(crate) fn asinh(x: f64) -> f64 {
    x.asinh()
}

pub(crate) fn acosh(x: f64) -> f64 {
    x.acosh()
}

pub(crate) fn atanh(x: f64) -> f64 {
    x.atanh()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_of_powers_are_exact() {
        assert_eq!((log2(8.0), log2(0.25), log2(5e-324)), (3.0, -2.0, -1074.0));
        assert_eq!(log2(0.0), f64::NEG_INFINITY);
        assert!(log2(-1.0).is_nan());
        assert!((log10(1000.0) - 3.0).abs() < 1e-15);
    }
}
