//! Reduction of large angles by the method of Payne and Hanek: only the bits of 4/π that matter for the result are multiplied.

use std::f64::consts::FRAC_PI_4;

/// 4/π: the first word is its integer part, the others are binary digits after the point.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

/// The octant of a large positive number (even numbers only) and its distance from it in radians.
pub(super) fn octant(x: f64) -> (u64, f64) {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    // x = mantissa * 2^exponent
    let exponent = (bits >> 52 & 0x7ff) as usize;
    let mantissa = u128::from(bits & MANTISSA | 1 << 52);
    // words from the one whose product has weight 8 at its top, so that whole turns fall off
    let from = exponent - 1023 - 52 + 61;
    let word = |at: usize| -> u128 {
        let at = from / 64 + at;
        let pair = u128::from(FOUR_OVER_PI[at]) << 64 | u128::from(FOUR_OVER_PI[at + 1]);
        (pair << (from % 64)) >> 64
    };
    let low = (word(2) * mantissa) >> 64;
    let product = (word(0).wrapping_mul(mantissa) << 64).wrapping_add(word(1) * mantissa).wrapping_add(low);
    let mut octant = (product >> 125) as u64;
    let fraction = product << 3;
    // the fraction as a float, cut off and not rounded
    let zeros = fraction.leading_zeros();
    let digits = if zeros >= 127 { 0 } else { (fraction << (zeros + 1) >> 76) as u64 };
    let mut rest = f64::from_bits((1022 - u64::from(zeros)) << 52 | digits);
    if octant & 1 == 1 {
        octant = (octant + 1) & 7;
        rest -= 1.0;
    }
    (octant, rest * FRAC_PI_4)
}

#[cfg(test)]
mod tests {
    use crate::math::{cos, sin, tan};

    /// Expected values are those of a running Prometheus.
    #[test]
    fn large_angles_give_the_values_of_prometheus() {
        let check = |x: f64, expected: [f64; 3]| assert_eq!([sin(x), cos(x), tan(x)], expected, "{x:e}");
        check(1e300, [-0.8178819121159087, -0.5753861119575491, 1.4214488238747243]);
        check(3e17, [-0.9926298198326119, -0.12118597600001607, 8.190962787909388]);
        check(1e10, [-0.48750602508751073, 0.873119622676856, -0.5583496378112419]);
        check(-536_870_912.0, [-0.3265676630185634, -0.9451738260608966, 0.3455106923343039]);
        check(5.5e9, [0.034075577771947446, 0.9994192588696238, 0.03409537836051714]);
        check(f64::MAX, [0.004961954789184084, -0.9999876894265599, -0.004962015874444917]);
    }
}
