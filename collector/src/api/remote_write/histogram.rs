//! Native histograms of remote write 1.0, as messages and as the store's own.

use std::sync::Arc;

use model::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Histogram, Span, Timestamp};
use prost::Message;
use tsdb::HistogramSample;

/// `prometheus.BucketSpan`
#[derive(Clone, Copy, PartialEq, Message)]
pub struct BucketSpan {
    /// Gap to the span before it, or the index of the first bucket.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Number of buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// `prometheus.Histogram`: integer counts with bucket deltas, or float counts with absolute buckets.
#[derive(Clone, PartialEq, Message)]
pub struct WireHistogram {
    /// Observations of an integer histogram.
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    /// Observations of a float histogram; that it is there makes the histogram one.
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    /// Sum of the observations.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// Resolution.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Width of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Zero bucket of an integer histogram.
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    /// Zero bucket of a float histogram.
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    /// Runs of negative buckets.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// Negative buckets of an integer histogram.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Negative buckets of a float histogram.
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Runs of positive buckets.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// Positive buckets of an integer histogram.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Positive buckets of a float histogram.
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// Milliseconds since the epoch.
    #[prost(int64, tag = "15")]
    pub timestamp: Timestamp,
    /// Upper bounds of custom buckets.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

fn spans(spans: &[BucketSpan]) -> Vec<Span> {
    spans.iter().map(|s| Span { offset: s.offset, length: s.length }).collect()
}

impl WireHistogram {
    /// The histogram as the store takes it; whether its parts fit together is the store's to check.
    pub fn to_sample(&self) -> HistogramSample {
        let counter_reset_hint = match self.reset_hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        };
        let bounded = self.schema == CUSTOM_BUCKETS_SCHEMA || !self.custom_values.is_empty();
        let custom_values = bounded.then(|| Arc::from(self.custom_values.as_slice()));
        let (positive_spans, negative_spans) = (spans(&self.positive_spans), spans(&self.negative_spans));
        match self.count_float {
            Some(count) => HistogramSample::Float(Arc::new(FloatHistogram {
                counter_reset_hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count_float.unwrap_or_default(),
                count,
                sum: self.sum,
                positive_spans,
                negative_spans,
                positive_buckets: self.positive_counts.clone(),
                negative_buckets: self.negative_counts.clone(),
                custom_values,
            })),
            None => HistogramSample::Integer(Arc::new(Histogram {
                counter_reset_hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count_int.unwrap_or_default(),
                count: self.count_int.unwrap_or_default(),
                sum: self.sum,
                positive_spans,
                negative_spans,
                positive_buckets: self.positive_deltas.clone(),
                negative_buckets: self.negative_deltas.clone(),
                custom_values,
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &WireHistogram, expected: &HistogramSample) {
        let read = WireHistogram::decode(message.encode_to_vec().as_slice()).unwrap();
        match (read.to_sample(), expected) {
            (HistogramSample::Integer(read), HistogramSample::Integer(expected)) => {
                assert_eq!(read, *expected);
                assert_eq!(read.validate(), Ok(()));
            }
            (HistogramSample::Float(read), HistogramSample::Float(expected)) => {
                assert_eq!(read, *expected);
                assert_eq!(read.validate(), Ok(()));
            }
            (read, expected) => panic!("{read:?} is of another kind than {expected:?}"),
        }
    }

    #[test]
    fn integer_float_and_custom_histograms_are_read() {
        let wire = WireHistogram {
            count_int: Some(7),
            sum: 3.5,
            schema: 2,
            zero_threshold: 0.5,
            zero_count_int: Some(1),
            positive_spans: vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 1, length: 1 }],
            positive_deltas: vec![1, 1, -1],
            negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
            negative_deltas: vec![2],
            reset_hint: 1,
            timestamp: 5,
            ..WireHistogram::default()
        };
        let integer = Histogram {
            counter_reset_hint: CounterResetHint::Reset,
            schema: 2,
            zero_threshold: 0.5,
            zero_count: 1,
            count: 7,
            sum: 3.5,
            positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 1, length: 1 }],
            negative_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![1, 1, -1],
            negative_buckets: vec![2],
            custom_values: None,
        };
        check(&wire, &HistogramSample::Integer(Arc::new(integer.clone())));
        let wire = WireHistogram {
            count_int: None,
            count_float: Some(7.0),
            zero_count_int: None,
            zero_count_float: Some(1.0),
            positive_deltas: vec![],
            negative_deltas: vec![],
            positive_counts: vec![1.0, 2.0, 1.0],
            negative_counts: vec![2.0],
            ..wire
        };
        check(&wire, &HistogramSample::Float(Arc::new(integer.to_float())));
        let wire = WireHistogram {
            count_int: Some(3),
            sum: 1.0,
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
            positive_deltas: vec![1, 1],
            reset_hint: 3,
            custom_values: vec![0.5],
            ..WireHistogram::default()
        };
        let custom = Histogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3,
            sum: 1.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1, 1],
            custom_values: Some(Arc::from([0.5])),
            ..Histogram::default()
        };
        check(&wire, &HistogramSample::Integer(Arc::new(custom)));
    }
}
