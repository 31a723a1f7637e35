use std::fmt;

use super::{FloatHistogram, Histogram};
use crate::format_float;

impl fmt::Display for FloatHistogram {
    /// `{count:4, sum:5, [-2,-1):1, [-0.001,0.001]:2, (0.5,1]:1}`, empty buckets left out, as Prometheus prints histograms.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = String::from("{count:");
        format_float(self.count, &mut head);
        head.push_str(", sum:");
        format_float(self.sum, &mut head);
        f.write_str(&head)?;
        for bucket in self.negative_buckets_iter().rev().filter(|b| b.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for bucket in self.positive_buckets_iter().filter(|b| b.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_float().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn prints_as_prometheus() {
        let histogram = FloatHistogram {
            count: 20.0,
            sum: 10.0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let expected = "{count:20, sum:10, [-2,-1):2, [-1,-0.5):1, [-0.001,0.001]:2, (0.5,1]:1, (1,2]:2}";
        assert_eq!(histogram.to_string(), expected);
    }
}
