//! Hyperbolic functions and their inverses.

use std::f64::consts::LN_2;

use super::{exp, ln, ln_1p, polynomial};

pub(crate) fn sinh(x: f64) -> f64 {
    // keeps the sign of a negative zero
    let size = if x < 0.0 { -x } else { x };
    let value = if size > 21.0 {
        exp(size) * 0.5
    } else if size > 0.5 {
        let e = exp(size);
        (e - 1.0 / e) * 0.5
    } else {
        let square = size * size;
        let numerator = polynomial(
            square,
            &[-2.630_563_213_397_497e1, -2.894_211_355_989_564e3, -8.991_272_022_039_509e4, -6.307_673_640_497_717e5],
        );
        let denominator =
            polynomial(square, &[1.0, -1.736_789_535_582_337e2, 1.521_517_378_790_019e4, -6.307_673_640_497_717e5]);
        numerator * size / denominator
    };
    if x < 0.0 { -value } else { value }
}

pub(crate) fn cosh(x: f64) -> f64 {
    let e = exp(x.abs());
    if x.abs() > 21.0 { e * 0.5 } else { (e + 1.0 / e) * 0.5 }
}

pub(crate) fn tanh(x: f64) -> f64 {
    let size = x.abs();
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if size > 0.5 * 8.802_969_193_111_305e1 {
        return 1f64.copysign(x);
    }
    if size >= 0.625 {
        return (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    }
    let square = x * x;
    let numerator =
        polynomial(square, &[-9.643_991_794_250_523e-1, -9.928_772_310_019_185e1, -1.614_687_684_417_084_5e3]);
    let denominator =
        polynomial(square, &[1.0, 1.128_116_784_916_329_3e2, 2.235_488_390_601_004_5e3, 4.844_063_053_251_255e3]);
    x + x * square * numerator / denominator
}

const NEAR_ZERO: f64 = 1.0 / (1u64 << 28) as f64;
const LARGE: f64 = (1u64 << 28) as f64;

pub(crate) fn asinh(x: f64) -> f64 {
    if x.is_nan() || x.is_infinite() {
        return x;
    }
    let size = x.abs();
    let value = if size > LARGE {
        ln(size) + LN_2
    } else if size > 2.0 {
        ln(2.0 * size + 1.0 / ((size * size + 1.0).sqrt() + size))
    } else if size < NEAR_ZERO {
        size
    } else {
        ln_1p(size + size * size / (1.0 + (1.0 + size * size).sqrt()))
    };
    value.copysign(x)
}

pub(crate) fn acosh(x: f64) -> f64 {
    if x.is_nan() || x < 1.0 {
        f64::NAN
    } else if x == 1.0 {
        0.0
    } else if x >= LARGE {
        ln(x) + LN_2
    } else if x > 2.0 {
        ln(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()))
    } else {
        let t = x - 1.0;
        ln_1p(t + (2.0 * t + t * t).sqrt())
    }
}

pub(crate) fn atanh(x: f64) -> f64 {
    let size = x.abs();
    if x.is_nan() || size >= 1.0 {
        return x.atanh();
    }
    let value = if size < NEAR_ZERO {
        size
    } else if size < 0.5 {
        let twice = size + size;
        0.5 * ln_1p(twice + twice * size / (1.0 - size))
    } else {
        0.5 * ln_1p((size + size) / (1.0 - size))
    };
    value.copysign(x)
}
