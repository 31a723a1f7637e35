//! Quantiles and fractions of values, of classic and of native histograms.

use model::{Bucket, FloatHistogram};

use crate::PosRange;
use crate::annotations::Annotations;
use crate::math::{exp2, log2};

/// The quantile of values, which get sorted; NaN counts as the least.
pub(super) fn of_values(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if let Some(outside) = outside(q) {
        return outside;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    });
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// What a quantile outside of 0 to 1 gives.
fn outside(q: f64) -> Option<f64> {
    if q < 0.0 {
        Some(f64::NEG_INFINITY)
    } else if q > 1.0 {
        Some(f64::INFINITY)
    } else {
        None
    }
}

/// A bucket of a classic histogram: upper bound and how many observations lie up to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ClassicBucket {
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// What had to be changed to make the counts of buckets rise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forced {
    pub(super) min_bucket: f64,
    pub(super) max_bucket: f64,
    pub(super) max_diff: f64,
}

/// The quantile of a classic histogram, whose buckets must be sorted by their bounds.
pub(super) fn of_classic(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, Option<Forced>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if let Some(outside) = outside(q) {
        return (outside, None);
    }
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let forced = make_monotonic(buckets);
    let last = buckets.len() - 1;
    if last == 0 || buckets[last].count == 0.0 {
        return (f64::NAN, None);
    }
    let mut rank = q * buckets[last].count;
    let at = buckets[..last].partition_point(|b| b.count < rank || b.count.is_nan());
    if at == last {
        return (buckets[last - 1].upper, forced);
    }
    if at == 0 && buckets[0].upper <= 0.0 {
        return (buckets[0].upper, forced);
    }
    let (mut start, end, mut count) = (0.0, buckets[at].upper, buckets[at].count);
    if at > 0 {
        start = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (start + (end - start) * (rank / count), forced)
}

/// The fraction of a classic histogram's observations between two values. Buckets must be sorted by their bounds.
pub(super) fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut ranks = Ranks::new(lower, upper);
    let mut before: Option<ClassicBucket> = None;
    for bucket in buckets.iter() {
        let start = match before {
            Some(before) => before.upper,
            None if bucket.upper > 0.0 => 0.0,
            None => f64::NEG_INFINITY,
        };
        let done = ranks.visit(start, bucket.upper, bucket.count, |rank, value| {
            if start == f64::NEG_INFINITY {
                bucket.count
            } else {
                rank + (bucket.count - rank) * (value - start) / (bucket.upper - start)
            }
        });
        if done {
            break;
        }
        before = Some(*bucket);
    }
    ranks.fraction(total, total)
}

/// Adds up buckets of equal bounds.
fn coalesce(buckets: &mut Vec<ClassicBucket>) {
    buckets.dedup_by(|later, earlier| {
        let same = later.upper == earlier.upper;
        if same {
            earlier.count += later.count;
        }
        same
    });
}

/// Makes counts rise: differences that rounding explains silently, others are told.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<Forced> {
    let mut forced: Option<Forced> = None;
    let mut previous = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == previous {
            continue;
        }
        if nearly_equal(previous, count) {
            bucket.count = previous;
        } else if count < previous {
            bucket.count = previous;
            let diff = previous - count;
            let found =
                forced.get_or_insert(Forced { min_bucket: bucket.upper, max_bucket: bucket.upper, max_diff: diff });
            found.min_bucket = found.min_bucket.min(bucket.upper);
            found.max_bucket = found.max_bucket.max(bucket.upper);
            found.max_diff = found.max_diff.max(diff);
        } else {
            previous = count;
        }
    }
    forced
}

fn nearly_equal(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-12;
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        diff < TOLERANCE * f64::MIN_POSITIVE
    } else {
        diff / sum.min(f64::MAX) < TOLERANCE
    }
}

/// How many observations lie below two values, found while buckets are visited in order.
struct Ranks {
    wanted: [f64; 2],
    found: [Option<f64>; 2],
    rank: f64,
}

impl Ranks {
    fn new(lower: f64, upper: f64) -> Self {
        Self { wanted: [lower, upper], found: [None; 2], rank: 0.0 }
    }

    /// Takes the next bucket, up to whose end `cumulative` observations lie. Tells whether both ranks are known.
    fn visit(&mut self, start: f64, end: f64, cumulative: f64, interpolate: impl Fn(f64, f64) -> f64) -> bool {
        for (wanted, found) in self.wanted.iter().zip(&mut self.found) {
            if found.is_none() && start >= *wanted {
                *found = Some(self.rank);
            } else if found.is_none() && start < *wanted && end > *wanted {
                *found = Some(interpolate(self.rank, *wanted));
            }
        }
        self.rank = cumulative;
        self.found.iter().all(Option::is_some)
    }

    fn fraction(&self, total: f64, in_buckets: f64) -> f64 {
        let [lower, upper] = self.found.map(|found| found.unwrap_or(in_buckets).min(in_buckets));
        (upper - lower) / total
    }
}

/// The bounds between which a native histogram's observations are taken to lie.
fn effective(histogram: &FloatHistogram, mut bucket: Bucket) -> Bucket {
    if histogram.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
            bucket.lower = 0.0;
        }
    } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
        // a histogram with positive buckets only has nothing below zero
        match (histogram.negative_buckets.is_empty(), histogram.positive_buckets.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }
    bucket
}

/// The quantile of a native histogram.
pub(super) fn of_native(
    q: f64,
    histogram: &FloatHistogram,
    metric: &str,
    pos: PosRange,
    notes: &mut Annotations,
) -> f64 {
    if let Some(outside) = outside(q) {
        return outside;
    }
    if histogram.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    // NaN observations are in the count but in no bucket, so then one must count from below
    let has_nans = histogram.sum.is_nan();
    let forward = has_nans || q < 0.5;
    let mut rank = if forward { q * histogram.count } else { (1.0 - q) * histogram.count };
    let (mut bucket, mut count) = (Bucket::default(), 0.0);
    let mut search = |found: &mut dyn Iterator<Item = Bucket>| {
        for candidate in found.filter(|b| b.count != 0.0) {
            bucket = candidate;
            count += bucket.count;
            if count >= rank {
                break;
            }
        }
    };
    if forward {
        search(&mut histogram.all_buckets());
    } else {
        search(&mut histogram.all_buckets().rev());
    }
    let custom = histogram.uses_custom_buckets();
    if custom && bucket.lower == f64::NEG_INFINITY && bucket.upper <= 0.0 {
        return bucket.upper;
    }
    if custom && bucket.lower != f64::NEG_INFINITY && bucket.upper == f64::INFINITY {
        return bucket.lower;
    }
    let bucket = effective(histogram, bucket);
    count = count.min(histogram.count);
    if count < rank {
        if has_nans {
            notes.quantile_of_nans(metric, pos);
            return f64::NAN;
        }
        return bucket.upper;
    }
    rank = if forward { rank - (count - bucket.count) } else { count - rank };
    let mut bucket = bucket;
    if has_nans {
        // Where the sum is NaN, Prometheus goes through the other buckets to find out whether there are observations in none of
        // them, and takes the last one for the one with the quantile.
        let all = || histogram.all_buckets().filter(|b| b.count != 0.0);
        if all().map(|b| b.count).sum::<f64>() < histogram.count {
            notes.quantile_skewed_by_nans(metric, pos);
        }
        if let Some(last) = all().next_back().filter(|last| last.index != bucket.index || last.lower != bucket.lower) {
            bucket = last;
        }
    }
    let fraction = rank / bucket.count;
    if custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    // exponential buckets are of equal width on a logarithmic scale
    let (low, high) = (log2(bucket.lower.abs()), log2(bucket.upper.abs()));
    if bucket.lower > 0.0 { exp2(low + (high - low) * fraction) } else { -exp2(high + (low - high) * (1.0 - fraction)) }
}

/// The fraction of a native histogram's observations between two values.
pub(super) fn native_fraction(
    lower: f64,
    upper: f64,
    histogram: &FloatHistogram,
    metric: &str,
    pos: PosRange,
    notes: &mut Annotations,
) -> f64 {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    if histogram.sum.is_nan() {
        notes.fraction_of_nans(metric, pos);
    }
    let custom = histogram.uses_custom_buckets();
    let mut ranks = Ranks::new(lower, upper);
    for bucket in histogram.all_buckets() {
        let touches_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        let bucket = effective(histogram, bucket);
        let cumulative = ranks.rank + bucket.count;
        let done = ranks.visit(bucket.lower, bucket.upper, cumulative, |rank, value| {
            if custom && bucket.lower == f64::NEG_INFINITY {
                return rank + bucket.count;
            }
            let fraction = if custom || touches_zero {
                return rank + bucket.count * (value - bucket.lower) / (bucket.upper - bucket.lower);
            } else {
                let (low, high, at) = (log2(bucket.lower.abs()), log2(bucket.upper.abs()), log2(value.abs()));
                if value > 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) }
            };
            rank + bucket.count * fraction
        });
        if done {
            break;
        }
    }
    let in_buckets = if histogram.sum.is_nan() { ranks.rank } else { histogram.count };
    ranks.fraction(histogram.count, in_buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<ClassicBucket> {
        pairs.iter().map(|&(upper, count)| ClassicBucket { upper, count }).collect()
    }

    #[test]
    fn quantiles_of_values_interpolate() {
        assert_eq!(of_values(0.5, &mut [4.0, 0.0, 1.0]), 1.0);
        assert_eq!(of_values(0.8, &mut [0.0, 1.0]), 0.8);
        assert!(of_values(0.0, &mut [1.0, f64::NAN]).is_nan());
        assert!(of_values(0.5, &mut []).is_nan());
        assert_eq!(of_values(2.0, &mut [1.0]), f64::INFINITY);
    }

    #[test]
    fn classic_quantiles_force_rising_counts() {
        let inf = f64::INFINITY;
        let mut rising = buckets(&[(0.1, 50.0), (0.2, 70.0), (1.0, 110.0), (inf, 120.0)]);
        let (value, forced) = of_classic(0.5, &mut rising);
        assert!((value - 0.15).abs() < 1e-12 && forced.is_none());
        let mut falling = buckets(&[(0.1, 20.0), (1.0, 10.0), (10.0, 50.0), (inf, 50.0)]);
        let (_, forced) = of_classic(0.5, &mut falling);
        assert_eq!(forced, Some(Forced { min_bucket: 1.0, max_bucket: 1.0, max_diff: 10.0 }));
        assert!(of_classic(0.5, &mut buckets(&[(1.0, 2.0)])).0.is_nan());
    }

    #[test]
    fn fractions_count_what_lies_between() {
        let mut found = buckets(&[(1.0, 1.0), (2.0, 3.0), (3.0, 6.0), (f64::INFINITY, 100.0)]);
        assert_eq!(classic_fraction(0.0, 1.5, &mut found.clone()), 0.02);
        assert_eq!(classic_fraction(1.0, 3.0, &mut found.clone()), 0.05);
        assert_eq!(classic_fraction(400.0, f64::INFINITY, &mut found), 0.94);
    }
}
