use super::buckets::{indexed, to_spans};
use super::{FloatHistogram, Span};

impl FloatHistogram {
    /// Leaves out empty buckets at the ends of spans and joins neighbouring spans, so that equal contents have equal form.
    /// Runs of up to `max_empty` empty buckets inside are kept.
    pub fn compact(&mut self, max_empty: usize) -> &mut Self {
        compact(&mut self.positive_spans, &mut self.positive_buckets, max_empty);
        compact(&mut self.negative_spans, &mut self.negative_buckets, max_empty);
        self
    }
}

fn compact(spans: &mut Vec<Span>, counts: &mut Vec<f64>, max_empty: usize) {
    if spans.is_empty() && counts.is_empty() {
        return;
    }
    let filled: Vec<(i32, f64)> = indexed(spans, counts).filter(|(_, count)| *count != 0.0).collect();
    let mut kept: Vec<(i32, f64)> = Vec::with_capacity(filled.len());
    for (index, count) in filled {
        if let Some((last, _)) = kept.last().copied() {
            let gap = i64::from(index) - i64::from(last) - 1;
            if gap > 0 && gap <= max_empty as i64 {
                kept.extend((last + 1..index).map(|empty| (empty, 0.0)));
            }
        }
        kept.push((index, count));
    }
    (*spans, *counts) = to_spans(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(buckets: &[f64], max_empty: usize, spans: &[(i32, u32)], counts: &[f64]) {
        let mut histogram = FloatHistogram {
            positive_spans: vec![Span { offset: 2, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        };
        histogram.compact(max_empty);
        let found: Vec<(i32, u32)> = histogram.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
        assert_eq!((found.as_slice(), histogram.positive_buckets.as_slice()), (spans, counts));
    }

    #[test]
    fn empty_buckets_go() {
        check(&[0.0, 1.0, 0.0, 0.0, 2.0, 0.0], 0, &[(3, 1), (2, 1)], &[1.0, 2.0]);
        check(&[0.0, 1.0, 0.0, 0.0, 2.0, 0.0], 2, &[(3, 4)], &[1.0, 0.0, 0.0, 2.0]);
        check(&[0.0, 0.0], 0, &[], &[]);
    }
}
