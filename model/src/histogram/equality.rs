use super::{FloatHistogram, Span, buckets};

impl FloatHistogram {
    /// Whether two histograms have the same contents: schema, zero bucket, counts and every bucket. The counter reset hint does
    /// not count, a NaN sum equals another by its bits, and spans may be cut differently as long as they cover the same buckets.
    pub fn same_contents(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a == b;
        self.schema == other.schema
            && self.count == other.count
            && same(self.sum, other.sum)
            && if self.uses_custom_buckets() {
                self.custom_bounds() == other.custom_bounds()
            } else {
                self.zero_threshold == other.zero_threshold && self.zero_count == other.zero_count
            }
            && same_layout(&self.positive_spans, &other.positive_spans)
            && same_layout(&self.negative_spans, &other.negative_spans)
            && self.positive_buckets == other.positive_buckets
            && self.negative_buckets == other.negative_buckets
    }
}

fn same_layout(a: &[Span], b: &[Span]) -> bool {
    if a == b {
        return true;
    }
    let length = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
    let (n, m) = (length(a), length(b));
    n == m
        && n <= 1 << 20
        && buckets::indexed(a, &vec![(); n]).map(|(i, ())| i).eq(buckets::indexed(b, &vec![(); m]).map(|(i, ())| i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_may_be_cut_differently() {
        let with = |spans: &[(i32, u32)]| FloatHistogram {
            positive_spans: spans.iter().map(|&(offset, length)| Span { offset, length }).collect(),
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        assert!(with(&[(1, 2)]).same_contents(&with(&[(1, 1), (0, 1)])));
        assert!(!with(&[(1, 2)]).same_contents(&with(&[(1, 1), (1, 1)])));
    }
}
