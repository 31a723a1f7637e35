//! Numbers from a seed, and samples made of them.

use std::sync::Arc;

use model::{FloatHistogram, Histogram, Span};
use tsdb::HistogramSample;

pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn value(&mut self) -> f64 {
        match self.below(8) {
            0 => self.below(1000) as f64 / 100.0,
            1 => f64::from_bits(self.next()),
            2 => model::STALE_NAN,
            3 => -0.0,
            4..=5 => self.below(3) as f64,
            _ => self.below(1 << 40) as f64,
        }
    }

    pub(crate) fn histogram(&mut self) -> HistogramSample {
        let buckets = self.below(4) as u32;
        let spans =
            if buckets == 0 { vec![] } else { vec![Span { offset: self.below(9) as i32 - 4, length: buckets }] };
        if self.one_in(2) {
            let positive_buckets: Vec<f64> = (0..buckets).map(|_| self.below(9) as f64 / 2.0).collect();
            let count = positive_buckets.iter().sum();
            HistogramSample::Float(Arc::new(FloatHistogram {
                schema: self.below(5) as i32,
                count,
                sum: self.value(),
                positive_spans: spans,
                positive_buckets,
                ..FloatHistogram::default()
            }))
        } else {
            HistogramSample::Integer(Arc::new(Histogram {
                schema: 3,
                count: u64::from(buckets) * 4,
                sum: self.below(100) as f64,
                positive_spans: spans,
                positive_buckets: (0..buckets).map(|i| if i == 0 { 4 } else { 0 }).collect(),
                ..Histogram::default()
            }))
        }
    }
}
