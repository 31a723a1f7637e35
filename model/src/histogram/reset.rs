use super::resolution::{common_bounds, to_common_bounds};
use super::{CounterResetHint, FloatHistogram, buckets};

impl FloatHistogram {
    /// Whether a counter reset lies between `previous` and this histogram: by the hint if that tells, else if a count went down
    /// or the layout became finer.
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            // of a gauge it is asked only by who treats it as a counter nevertheless
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        // the hint of the one before tells nothing about what follows
        if self.count < previous.count || self.uses_custom_buckets() != previous.uses_custom_buckets() {
            return true;
        }
        if self.uses_custom_buckets() {
            return self.detect_reset_in_custom_buckets(previous);
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let mut previous = std::borrow::Cow::Borrowed(previous);
        if self.zero_threshold > previous.zero_threshold {
            previous.to_mut().widen_zero_bucket(self.zero_threshold);
            if previous.zero_threshold != self.zero_threshold {
                return true;
            }
        }
        if self.zero_count < previous.zero_count {
            return true;
        }
        if previous.schema > self.schema {
            previous.to_mut().reduce_resolution(self.schema);
        }
        let decreased = |spans, counts, previous_spans, previous_counts| {
            any_decreased(buckets::indexed(spans, counts), buckets::indexed(previous_spans, previous_counts))
        };
        decreased(&self.positive_spans, &self.positive_buckets, &previous.positive_spans, &previous.positive_buckets)
            || decreased(
                &self.negative_spans,
                &self.negative_buckets,
                &previous.negative_spans,
                &previous.negative_buckets,
            )
    }

    /// Compares under the bounds that both have.
    fn detect_reset_in_custom_buckets(&self, previous: &Self) -> bool {
        let common = common_bounds(self.custom_bounds(), previous.custom_bounds());
        let reduced =
            |h: &Self| to_common_bounds(&h.positive_spans, &h.positive_buckets, h.custom_bounds(), &common).into_iter();
        any_decreased(reduced(self), reduced(previous))
    }
}

/// Whether a bucket has fewer observations than before, or is gone.
fn any_decreased(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        if count == 0.0 {
            continue;
        }
        while now.next_if(|(i, _)| *i < index).is_some() {}
        let current = now.peek().filter(|(i, _)| *i == index).map_or(0.0, |(_, c)| *c);
        if current < count {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn resets_are_found_in_any_part() {
        let base = FloatHistogram {
            count: 6.0,
            zero_count: 1.0,
            zero_threshold: 0.001,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![2.0, 3.0],
            ..FloatHistogram::default()
        };
        let check = |expected: bool, edit: &dyn Fn(&mut FloatHistogram)| {
            let mut next = base.clone();
            edit(&mut next);
            assert_eq!(next.detect_reset(&base), expected, "{next:?}");
        };
        check(false, &|_| {});
        check(false, &|h| h.positive_buckets[1] = 9.0);
        check(true, &|h| h.count = 5.0);
        check(true, &|h| h.zero_count = 0.0);
        check(true, &|h| h.positive_buckets[0] = 1.0);
        check(true, &|h| h.positive_spans[0].length = 1);
        check(true, &|h| h.schema = 1);
        check(true, &|h| h.zero_threshold = 0.0001);
        check(false, &|h| {
            h.count = 0.0;
            h.counter_reset_hint = CounterResetHint::NotReset;
        });
        check(true, &|h| h.counter_reset_hint = CounterResetHint::Reset);
    }
}
