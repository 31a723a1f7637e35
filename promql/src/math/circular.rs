//! Circular functions and their inverses, after the Cephes library.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

use super::{large_angle, polynomial};

/// From this size on the reduction of an argument by multiples of π/4 in three parts is no longer exact.
const LARGE_ANGLE: f64 = (1u64 << 29) as f64;

/// The octant of a non-negative angle (even numbers only) and the angle's distance from it.
fn octant(x: f64) -> (u64, f64) {
    if x >= LARGE_ANGLE {
        return large_angle::octant(x);
    }
    let mut octant = (x * (2.0 * FRAC_2_PI)) as u64;
    octant += octant & 1;
    let y = octant as f64;
    let rest = ((x - y * 7.853_981_256_484_985e-1) - y * 3.774_894_707_930_798e-8) - y * 2.695_151_429_079_059_5e-15;
    (octant & 7, rest)
}

fn sine_near_zero(z: f64) -> f64 {
    let zz = z * z;
    z + z
        * zz
        * polynomial(
            zz,
            &[
                1.589_623_015_765_465_6e-10,
                -2.505_074_776_285_780_7e-8,
                2.755_731_362_138_572_2e-6,
                -1.984_126_982_958_954e-4,
                8.333_333_333_322_118e-3,
                -1.666_666_666_666_663e-1,
            ],
        )
}

fn cosine_near_zero(z: f64) -> f64 {
    let zz = z * z;
    1.0 - 0.5 * zz
        + zz * zz
            * polynomial(
                zz,
                &[
                    -1.135_853_652_138_768_2e-11,
                    2.087_570_084_197_473e-9,
                    -2.755_731_417_929_674e-7,
                    2.480_158_728_885_170_4e-5,
                    -1.388_888_888_887_305_6e-3,
                    4.166_666_666_666_659_5e-2,
                ],
            )
}

pub(crate) fn sin(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x.sin();
    }
    let (octant, z) = octant(x.abs());
    let y = if octant & 3 == 2 { cosine_near_zero(z) } else { sine_near_zero(z) };
    if x.is_sign_negative() != (octant > 3) { -y } else { y }
}

pub(crate) fn cos(x: f64) -> f64 {
    if !x.is_finite() {
        return x.cos();
    }
    let (octant, z) = octant(x.abs());
    let y = if octant & 3 == 2 { sine_near_zero(z) } else { cosine_near_zero(z) };
    if octant == 2 || octant == 4 { -y } else { y }
}

pub(crate) fn tan(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x.tan();
    }
    let (octant, z) = octant(x.abs());
    let zz = z * z;
    let mut y = z;
    if zz > 1e-14 {
        let numerator =
            zz * polynomial(zz, &[-1.309_369_391_813_837_3e4, 1.153_516_648_385_874_2e6, -1.795_652_519_764_848_8e7]);
        let denominator = polynomial(
            zz,
            &[
                1.0,
                1.368_129_634_706_929_6e4,
                -1.320_892_344_402_109_7e6,
                2.500_838_018_233_579e7,
                -5.386_957_559_294_546_4e7,
            ],
        );
        y = z + z * (numerator / denominator);
    }
    if octant & 2 == 2 {
        y = -1.0 / y;
    }
    if x < 0.0 { -y } else { y }
}

/// The arc tangent of a number up to 0.66.
fn small_atan(x: f64) -> f64 {
    let z = x * x;
    let numerator = polynomial(
        z,
        &[
            -8.750_608_600_031_904e-1,
            -1.615_753_718_733_365_2e1,
            -7.500_855_792_314_705e1,
            -1.228_866_684_490_136_1e2,
            -6.485_021_904_942_025e1,
        ],
    );
    let denominator = polynomial(
        z,
        &[
            1.0,
            2.485_846_490_142_306_2e1,
            1.650_270_098_316_988_5e2,
            4.328_810_604_912_902_7e2,
            4.853_903_996_359_137e2,
            1.945_506_571_482_614e2,
        ],
    );
    x * (z * numerator / denominator) + x
}

/// The arc tangent of a positive number.
fn positive_atan(x: f64) -> f64 {
    const MORE_BITS: f64 = 6.123_233_995_736_766e-17;
    if x <= 0.66 {
        small_atan(x)
    } else if x > 2.414_213_562_373_095 {
        FRAC_PI_2 - small_atan(1.0 / x) + MORE_BITS
    } else {
        FRAC_PI_4 + small_atan((x - 1.0) / (x + 1.0)) + 0.5 * MORE_BITS
    }
}

pub(crate) fn asin(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() || x.abs() > 1.0 {
        return x.asin();
    }
    let size = x.abs();
    let root = (1.0 - size * size).sqrt();
    let angle = if size > 0.7 { FRAC_PI_2 - positive_atan(root / size) } else { positive_atan(size / root) };
    angle.copysign(x)
}

pub(crate) fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

pub(crate) fn atan(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    positive_atan(x.abs()).copysign(x)
}

pub(crate) fn atan2(y: f64, x: f64) -> f64 {
    if x.is_nan() || y.is_nan() || x == 0.0 || y == 0.0 || x.is_infinite() || y.is_infinite() {
        return y.atan2(x);
    }
    let angle = atan(y / x);
    match (x < 0.0, angle <= 0.0) {
        (true, true) => angle + PI,
        (true, false) => angle - PI,
        (false, _) => angle,
    }
}
