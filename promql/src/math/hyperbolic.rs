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
            &[
                -0.263_056_321_339_749_706_281_948_9e2,
                -0.289_421_135_598_956_380_728_466_036_6e4,
                -0.899_127_202_203_950_935_539_801_351_1e5,
                -0.630_767_364_049_771_699_118_478_725_1e6,
            ],
        );
        let denominator = polynomial(
            square,
            &[
                1.0,
                -0.173_678_953_558_233_699_533_450_911e3,
                0.152_151_737_879_001_907_069_648_517_6e5,
                -0.630_767_364_049_771_699_121_207_727_7e6,
            ],
        );
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
    if size > 0.5 * 8.802_969_193_111_305_429_598_8e1 {
        return 1f64.copysign(x);
    }
    if size >= 0.625 {
        return (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    }
    let square = x * x;
    let numerator = polynomial(
        square,
        &[-9.643_991_794_250_522_386_28e-1, -9.928_772_310_019_185_865_64e1, -1.614_687_684_417_084_479_52e3],
    );
    let denominator = polynomial(
        square,
        &[1.0, 1.128_116_784_916_329_314_02e2, 2.235_488_390_601_004_485_83e3, 4.844_063_053_251_254_860_48e3],
    );
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
