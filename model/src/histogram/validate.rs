//! Checks of histograms that come from outside.

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span};

/// Why a histogram is not valid. The texts are Prometheus'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// The buckets hold another number of observations than the count says.
    #[error("{in_buckets} observations found in buckets, but the Count field is {count}: {rule}")]
    Count {
        /// Observations in buckets.
        in_buckets: String,
        /// The count.
        count: String,
        /// What the relation should be.
        rule: &'static str,
    },
    /// A count below zero.
    #[error(
        "{place}: bucket number {number} has observation count of {count}: histogram has a bucket whose observation count is negative"
    )]
    NegativeBucket {
        /// Which side.
        place: &'static str,
        /// Which bucket, from 1.
        number: usize,
        /// Its count.
        count: String,
    },
    /// A count below zero outside the buckets.
    #[error("{0} is negative")]
    Negative(&'static str),
    /// A span starts before the one before it ends.
    #[error("{place}: span number {number} with offset {offset}: histogram has a span whose offset is negative")]
    NegativeSpanOffset {
        /// Which side.
        place: &'static str,
        /// Which span, from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// Spans and buckets disagree.
    #[error(
        "{place}: spans need {needed} buckets, have {have} buckets: histogram spans specify different number of buckets than provided"
    )]
    BucketNumber {
        /// Which side.
        place: &'static str,
        /// Buckets that the spans promise.
        needed: u64,
        /// Buckets there are.
        have: usize,
    },
    /// No such schema.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets: got schema {0}"
    )]
    Schema(i32),
    /// Something that custom buckets do not have.
    #[error("custom buckets: {0}")]
    Custom(String),
    /// Custom values in an exponential histogram.
    #[error("histogram with exponential schema must not have custom bounds")]
    UnexpectedCustomBounds,
}

fn check_spans(place: &'static str, spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    let mut needed = 0u64;
    for (at, span) in spans.iter().enumerate() {
        if at > 0 && span.offset < 0 {
            return Err(HistogramError::NegativeSpanOffset { place, number: at + 1, offset: span.offset });
        }
        needed += u64::from(span.length);
    }
    if needed == buckets as u64 { Ok(()) } else { Err(HistogramError::BucketNumber { place, needed, have: buckets }) }
}

fn check_custom_bounds(bounds: &[f64], buckets: usize, negative: bool, zero: bool) -> Result<(), HistogramError> {
    let fail = |text: String| Err(HistogramError::Custom(text));
    for pair in bounds.windows(2) {
        if pair[1] <= pair[0] {
            return fail(format!(
                "previous bound is {} and current is {}: histogram custom bounds must be in strictly increasing order",
                pair[0], pair[1]
            ));
        }
    }
    if bounds.iter().any(|b| b.is_nan()) {
        return fail("histogram custom bounds must not be NaN".to_owned());
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return fail(
            "last +Inf bound must not be explicitly defined: histogram custom bounds must be finite".to_owned(),
        );
    }
    if buckets > bounds.len() + 1 {
        return fail(format!("{buckets} buckets need at least {} custom bounds, have {}", buckets - 1, bounds.len()));
    }
    if negative {
        return fail("must not have negative spans or buckets".to_owned());
    }
    if zero {
        return fail("must have zero count and threshold of 0".to_owned());
    }
    Ok(())
}

/// Last bucket index that spans reach, plus one.
fn reach(spans: &[Span]) -> usize {
    let end = spans.iter().fold(0i64, |at, span| at + i64::from(span.offset) + i64::from(span.length));
    usize::try_from(end).unwrap_or(0)
}

impl Histogram {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_spans("negative side", &self.negative_spans, self.negative_buckets.len())?;
        check_spans("positive side", &self.positive_spans, self.positive_buckets.len())?;
        let sum = |place, deltas: &[i64]| -> Result<u64, HistogramError> {
            let (mut count, mut total) = (0i64, 0u64);
            for (at, delta) in deltas.iter().enumerate() {
                count = count.wrapping_add(*delta);
                let Ok(positive) = u64::try_from(count) else {
                    return Err(HistogramError::NegativeBucket { place, number: at + 1, count: count.to_string() });
                };
                total = total.wrapping_add(positive);
            }
            Ok(total)
        };
        let in_buckets = sum("negative side", &self.negative_buckets)?
            .wrapping_add(sum("positive side", &self.positive_buckets)?)
            .wrapping_add(self.zero_count);
        let counts =
            |rule| HistogramError::Count { in_buckets: in_buckets.to_string(), count: self.count.to_string(), rule };
        if self.sum.is_nan() && in_buckets > self.count {
            return Err(counts(
                "histogram's observation count should be at least the number of observations found in the buckets",
            ));
        }
        if !self.sum.is_nan() && in_buckets != self.count {
            return Err(counts(
                "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)",
            ));
        }
        self.check_schema()
    }

    fn check_schema(&self) -> Result<(), HistogramError> {
        match (self.schema, self.custom_values.as_deref()) {
            (CUSTOM_BUCKETS_SCHEMA, bounds) => {
                let negative = !self.negative_spans.is_empty() || !self.negative_buckets.is_empty();
                let zero = self.zero_count != 0 || self.zero_threshold != 0.0;
                check_custom_bounds(bounds.unwrap_or(&[]), reach(&self.positive_spans), negative, zero)
            }
            (-4..=8, None | Some([])) => Ok(()),
            (-4..=8, Some(_)) => Err(HistogramError::UnexpectedCustomBounds),
            (schema, _) => Err(HistogramError::Schema(schema)),
        }
    }
}

impl FloatHistogram {
    /// Checks that the parts fit together. Counts need not add up, as float counts seldom do exactly.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_spans("negative side", &self.negative_spans, self.negative_buckets.len())?;
        check_spans("positive side", &self.positive_spans, self.positive_buckets.len())?;
        for (place, buckets) in [("negative side", &self.negative_buckets), ("positive side", &self.positive_buckets)] {
            if let Some(at) = buckets.iter().position(|c| *c < 0.0) {
                return Err(HistogramError::NegativeBucket { place, number: at + 1, count: buckets[at].to_string() });
            }
        }
        if self.zero_count < 0.0 {
            return Err(HistogramError::Negative("zero count"));
        }
        if self.count < 0.0 {
            return Err(HistogramError::Negative("count"));
        }
        match (self.schema, self.custom_values.as_deref()) {
            (CUSTOM_BUCKETS_SCHEMA, bounds) => {
                let negative = !self.negative_spans.is_empty() || !self.negative_buckets.is_empty();
                let zero = self.zero_count != 0.0 || self.zero_threshold != 0.0;
                check_custom_bounds(bounds.unwrap_or(&[]), reach(&self.positive_spans), negative, zero)
            }
            (-4..=8, None | Some([])) => Ok(()),
            (-4..=8, Some(_)) => Err(HistogramError::UnexpectedCustomBounds),
            (schema, _) => Err(HistogramError::Schema(schema)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_histograms_are_refused() {
        let good = Histogram {
            count: 6,
            zero_count: 1,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![2, 1],
            ..Histogram::default()
        };
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(good.to_float().validate(), Ok(()));
        let check = |edit: &dyn Fn(&mut Histogram), text: &str| {
            let mut bad = good.clone();
            edit(&mut bad);
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        check(&|h| h.count = 7, "6 observations found in buckets, but the Count field is 7");
        check(&|h| h.positive_buckets[1] = -3, "bucket number 2 has observation count of -1");
        check(&|h| h.positive_spans[0].length = 3, "spans need 3 buckets, have 2 buckets");
        check(&|h| h.schema = 9, "got schema 9");
        check(&|h| h.custom_values = Some([1.0].into()), "must not have custom bounds");
        check(
            &|h| {
                h.schema = CUSTOM_BUCKETS_SCHEMA;
                h.zero_count = 0;
                h.count = 5;
                h.custom_values = Some([2.0, 1.0].into());
            },
            "strictly increasing",
        );
    }
}
