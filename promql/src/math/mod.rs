//! Elementary functions as Prometheus computes them.
//!
//! Prometheus is built with Go's mathematical library, whose results differ in the last digit from those of the C
//! library. The functions here follow the same published methods (Cephes for the circular functions, the FreeBSD msun
//! library for the logarithms, a Taylor series with argument reduction for `exp`), so that a query gives the same bits.

mod circular;
mod hyperbolic;
mod large_angle;

use std::f64::consts::{LOG2_E, LOG10_E};

pub(crate) use circular::{acos, asin, atan, atan2, cos, sin, tan};
pub(crate) use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};

const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// The polynomial with the coefficients from the highest power down.
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().skip(1).fold(coefficients[0], |sum, c| sum * x + c)
}

/// A number times a power of two, rounded once.
fn ldexp(x: f64, exponent: i32) -> f64 {
    let (fraction, own) = frexp(x);
    let exponent = exponent.saturating_add(own);
    if fraction == 0.0 || !fraction.is_finite() {
        return fraction;
    }
    let power = |e: i32| f64::from_bits(((e + 1023) as u64) << 52);
    match exponent {
        1025.. => fraction * f64::INFINITY,
        -1021..=1024 => fraction * 2.0 * power(exponent - 1),
        -1080..=-1022 => fraction * power(-1021) * power(exponent + 1021),
        _ => 0.0f64.copysign(fraction),
    }
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

pub(crate) fn exp(x: f64) -> f64 {
    const LN2_UPPER: f64 = 0.693_147_180_559_662_956_511_601_805_686_950_683_593_75;
    const LN2_LOWER: f64 = 0.282_352_905_630_315_771_225_884_481_750_134e-12;
    /// 1/n! from 1/8! up to 1/1!.
    const TAYLOR: [f64; 8] = [
        2.480_158_730_158_73e-5,
        1.984_126_984_126_984e-4,
        1.388_888_888_888_889e-3,
        8.333_333_333_333_333e-3,
        4.166_666_666_666_666_4e-2,
        1.666_666_666_666_666_6e-1,
        0.5,
        1.0,
    ];
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x > 7.097_827_128_933_84e2 {
        return f64::INFINITY;
    }
    if x < -750.0 {
        return 0.0;
    }
    let exponent = (LOG2_E * x).round_ties_even();
    let reduced = (-exponent).mul_add(LN2_LOWER, (-exponent).mul_add(LN2_UPPER, x)) * 0.0625;
    let series = TAYLOR[1..].iter().fold(TAYLOR[0], |sum, c| sum.mul_add(reduced, *c));
    // e^x - 1, doubled in its argument four times
    let mut minus_one = reduced * series;
    for _ in 0..3 {
        minus_one *= minus_one + 2.0;
    }
    ldexp((minus_one + 2.0).mul_add(minus_one, 1.0), exponent as i32)
}

pub(crate) fn exp2(x: f64) -> f64 {
    if x.is_nan() || !(-1075.0..=1024.0).contains(&x) {
        return x.exp2();
    }
    let exponent = if x > 0.0 { (x + 0.5).trunc() } else { (x - 0.5).trunc() };
    let rest = x - exponent;
    let (high, low) = (rest * LN2_HIGH, -rest * LN2_LOW);
    let r = high - low;
    let t = r * r;
    let c = r - t * polynomial(
        t,
        &[
            4.138_136_797_057_238_5e-8,
            -1.653_390_220_546_525_2e-6,
            6.613_756_321_437_934e-5,
            -2.777_777_777_701_559_3e-3,
            1.666_666_666_666_666_6e-1,
        ],
    );
    ldexp(1.0 - ((low - (r * c) / (2.0 - c)) - high), exponent as i32)
}

pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY || x <= 0.0 {
        return x.ln();
    }
    let (mut f, mut exponent) = frexp(x);
    if f < std::f64::consts::FRAC_1_SQRT_2 {
        f *= 2.0;
        exponent -= 1;
    }
    let f = f - 1.0;
    let k = f64::from(exponent);
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2
        * polynomial(
            s4,
            &[1.479_819_860_511_658_6e-1, 1.818_357_216_161_805e-1, 2.857_142_874_366_239e-1, 6.666_666_666_666_735e-1],
        );
    let even = s4 * polynomial(s4, &[1.531_383_769_920_937_3e-1, 2.222_219_843_214_978_4e-1, 3.999_999_999_940_942e-1]);
    let r = odd + even;
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + r) + k * LN2_LOW)) - f)
}

fn ln_1p(x: f64) -> f64 {
    if x.is_nan() || x <= -1.0 || x == f64::INFINITY {
        return x.ln_1p();
    }
    let size = x.abs();
    if size < 2f64.powi(-29) {
        return if size < 2f64.powi(-54) { x } else { x - x * x * 0.5 };
    }
    const MANTISSA: u64 = (1 << 52) - 1;
    let (mut f, mut mantissa, mut exponent, mut correction) = (x, 1u64, 0i32, 0.0);
    if !(size < 4.142_135_623_730_950_3e-1 && x > -2.928_932_188_134_525e-1) {
        let u = if size < 2f64.powi(53) { 1.0 + x } else { x };
        exponent = (u.to_bits() >> 52) as i32 - 1023;
        if size < 2f64.powi(53) {
            correction = if exponent > 0 { 1.0 - (u - x) } else { x - (u - 1.0) } / u;
        }
        mantissa = u.to_bits() & MANTISSA;
        if mantissa < 0x0006_a09e_667f_3bcd {
            f = f64::from_bits(mantissa | 0x3ff0_0000_0000_0000) - 1.0;
        } else {
            exponent += 1;
            f = f64::from_bits(mantissa | 0x3fe0_0000_0000_0000) - 1.0;
            mantissa = ((1 << 52) - mantissa) >> 2;
        }
    }
    let k = f64::from(exponent);
    let half_square = 0.5 * f * f;
    if mantissa == 0 {
        if f == 0.0 {
            return if exponent == 0 { 0.0 } else { k * LN2_HIGH + (correction + k * LN2_LOW) };
        }
        let r = half_square * (1.0 - 0.666_666_666_666_666_6 * f);
        return if exponent == 0 { f - r } else { k * LN2_HIGH - ((r - (k * LN2_LOW + correction)) - f) };
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * polynomial(
        z,
        &[
            1.479_819_860_511_658_6e-1,
            1.531_383_769_920_937_3e-1,
            1.818_357_216_161_805e-1,
            2.222_219_843_214_978_4e-1,
            2.857_142_874_366_239e-1,
            3.999_999_999_940_942e-1,
            6.666_666_666_666_735e-1,
        ],
    );
    if exponent == 0 {
        return f - (half_square - s * (half_square + r));
    }
    k * LN2_HIGH - ((half_square - (s * (half_square + r) + (k * LN2_LOW + correction))) - f)
}

/// Exact for powers of two.
pub(crate) fn log2(x: f64) -> f64 {
    let (fraction, exponent) = frexp(x);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * LOG2_E + f64::from(exponent)
}

pub(crate) fn log10(x: f64) -> f64 {
    ln(x) * LOG10_E
}

pub(crate) fn pow(x: f64, y: f64) -> f64 {
    if y == 0.5 {
        return x.sqrt();
    }
    if y == -0.5 {
        return 1.0 / x.sqrt();
    }
    let (mut whole, mut fraction) = (y.abs().trunc(), y.abs().fract());
    let special = x == 0.0 || x == 1.0 || y == 0.0 || y == 1.0 || !x.is_finite() || !y.is_finite();
    if special || (fraction != 0.0 && x < 0.0) || whole >= 2f64.powi(63) {
        return x.powf(y);
    }
    let (mut result, mut exponent) = (1.0, 0i32);
    if fraction != 0.0 {
        if fraction > 0.5 {
            fraction -= 1.0;
            whole += 1.0;
        }
        result = exp(fraction * ln(x));
    }
    let (mut power, mut power_exponent) = frexp(x);
    let mut remaining = whole as i64;
    while remaining != 0 {
        if !(-(1 << 12)..=1 << 12).contains(&power_exponent) {
            // the result overflows or vanishes
            exponent += power_exponent;
            break;
        }
        if remaining & 1 == 1 {
            result *= power;
            exponent += power_exponent;
        }
        power *= power;
        power_exponent <<= 1;
        if power < 0.5 {
            power += power;
            power_exponent -= 1;
        }
        remaining >>= 1;
    }
    if y < 0.0 {
        result = 1.0 / result;
        exponent = -exponent;
    }
    ldexp(result, exponent)
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

    /// Every function stays within a few units in the last place of the platform's, over its whole range.
    #[test]
    fn close_to_the_platform() {
        type Pair = (&'static str, fn(f64) -> f64, fn(f64) -> f64);
        let pairs: [Pair; 17] = [
            ("exp", exp, f64::exp),
            ("exp2", exp2, f64::exp2),
            ("ln", ln, f64::ln),
            ("ln_1p", ln_1p, f64::ln_1p),
            ("log2", log2, f64::log2),
            ("log10", log10, f64::log10),
            ("sin", sin, f64::sin),
            ("cos", cos, f64::cos),
            ("tan", tan, f64::tan),
            ("asin", asin, f64::asin),
            ("acos", acos, f64::acos),
            ("atan", atan, f64::atan),
            ("sinh", sinh, f64::sinh),
            ("cosh", cosh, f64::cosh),
            ("tanh", tanh, f64::tanh),
            ("asinh", asinh, f64::asinh),
            ("acosh", acosh, f64::acosh),
        ];
        let mut inputs =
            vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, 1e-310, 1e300, -1e300, 1e12];
        let special = inputs.len();
        inputs.extend((-4000..4000).flat_map(|i| {
            let x = f64::from(i) * 0.017_3;
            [x, x * x * x * 1e-3, x * 1e-4, x * 11.3]
        }));
        for (name, own, platform) in pairs {
            for (i, &x) in inputs.iter().enumerate() {
                if matches!(name, "sinh" | "cosh") && (709.0..711.0).contains(&x.abs()) {
                    // e^x overflows before its half does
                    continue;
                }
                let (a, b) = (own(x), platform(x));
                if i < special && (a.is_nan() != b.is_nan() || a.is_infinite() != b.is_infinite()) {
                    panic!("{name}({x}) = {a}, not {b}");
                }
                let close =
                    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 4e-15 * b.abs().max(f64::MIN_POSITIVE);
                // near a zero of a circular function the error is absolute
                let near_zero =
                    matches!(name, "sin" | "cos" | "tan" | "acos" | "log2" | "log10") && (a - b).abs() < 1e-14;
                assert!(close || near_zero || (a - b).abs() < 1e-322, "{name}({x:e}) = {a:e}, not {b:e}");
            }
        }
    }

    /// Values a Prometheus server gave.
    #[test]
    fn last_digits() {
        let check = |name: &str, got: f64, want: f64| assert_eq!(got.to_bits(), want.to_bits(), "{name}: {got} {want}");
        check("exp(-0.4)", exp(-0.4), 0.6703200460356392);
        check("exp(1.5)", exp(1.5), 4.481689070338065);
        check("exp(-2.4)", exp(-2.4), 0.0907179532894125);
        check("asin(0.6)", asin(3.0 / 5.0), 0.6435011087932843);
    }

    #[test]
    fn powers() {
        for (x, y, want) in [
            (2.0, 10.0, 1024.0),
            (2.0, -1.0, 0.5),
            (-2.0, 3.0, -8.0),
            (10.0, 400.0, f64::INFINITY),
            (10.0, -400.0, 0.0),
            (-0.0, 3.0, -0.0),
            (4.0, 0.5, 2.0),
            (f64::INFINITY, -1.0, 0.0),
            (2.0, 0.0, 1.0),
            (2.0, -1074.0, 5e-324),
        ] {
            assert_eq!(pow(x, y).to_bits(), want.to_bits(), "{x} ^ {y}");
        }
        assert!(pow(-8.0, 1.0 / 3.0).is_nan());
    }
}
