//! Bounds of exponential buckets.

use std::sync::LazyLock;

/// The finest schema: 256 buckets for each power of two.
const FINEST: i32 = 8;

/// `2^(2^-schema)` for the schemas 1 to 8, as the instrumentation libraries compute it: the first is not the double
/// next to √2 but the one below, and every bound of every histogram in the world follows from it.
#[allow(clippy::approx_constant)]
const GROWTH: [f64; FINEST as usize] = [
    1.414_213_562_373_095,
    1.189_207_115_002_721,
    1.090_507_732_665_257_7,
    1.044_273_782_427_413_8,
    1.021_897_148_654_116_6,
    1.010_889_286_051_700_5,
    1.005_429_901_112_802_7,
    1.002_711_275_050_202_5,
];

/// Bounds between 0.5 and 1 of the finest schema. Those of a coarser schema are every second, fourth ... of them.
///
/// Each is the bound below it times the growth factor of the first schema which has this bound, so all schemas agree
/// to the bit on the bounds they share.
static BOUNDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let mut bounds = vec![0.5];
    for growth in GROWTH {
        bounds = bounds.iter().flat_map(|bound| [*bound, bound * growth]).collect();
    }
    bounds
});

/// The upper bound of bucket `index` of an exponential schema (`base^index`, `base = 2^(2^-schema)`), the same to the
/// bit as in the instrumentation libraries and Prometheus.
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema <= 0 {
        let exponent = i64::from(index) << schema.unsigned_abs().min(31);
        // the last bucket of finite numbers ends at the largest of them
        return if exponent == 1024 { f64::MAX } else { power_of_two(exponent) };
    }
    let schema = schema.min(FINEST);
    let step = index & ((1 << schema) - 1);
    let exponent = i64::from(index >> schema);
    if step == 0 && exponent == 1024 {
        return f64::MAX;
    }
    BOUNDS[(step << (FINEST - schema)) as usize] * power_of_two(exponent) * 2.0
}

fn power_of_two(exponent: i64) -> f64 {
    let exponent = i32::try_from(exponent).unwrap_or(if exponent < 0 { -5000 } else { 5000 });
    2f64.powi(exponent.clamp(-1100, 1100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_the_libraries() {
        for (index, schema, bound) in [
            (-1, -1, 0.25),
            (0, -1, 1.0),
            (512, -1, f64::MAX),
            (513, -1, f64::INFINITY),
            (-1, 0, 0.5),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (-1, 1, 0.7071067811865475),
            (-1, 2, 0.8408964152537144),
            (1, 2, 1.189207115002721),
            (4096, 2, f64::MAX),
            (4097, 2, f64::INFINITY),
            (-1, 4, 0.9576032806985735),
            (-9, 4, 0.6771277734684463),
            (-1, 8, 0.9972960560854698),
            (-256, 8, 0.5),
        ] {
            assert_eq!(exponential_bound(index, schema), bound, "{index} {schema}");
        }
    }

    #[test]
    fn schemas_share_bounds() {
        for index in -300..300 {
            for schema in -4..8 {
                assert_eq!(exponential_bound(index, schema), exponential_bound(index * 2, schema + 1));
            }
            assert!(exponential_bound(index, 8) < exponential_bound(index + 1, 8));
        }
    }
}
