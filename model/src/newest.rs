use crate::{Column, FloatsRef, Timestamp};

/// The newest sample that a series has in a range of time; staleness markers are samples.
#[derive(Clone, Debug, PartialEq)]
pub enum Newest<H> {
    /// It has none.
    None,
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(H),
}

/// Times at equal distances at which the newest samples of series are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestAt {
    /// The first time, without the offset.
    pub start: Timestamp,
    /// From one time to the next, 0 or more.
    pub interval: i64,
    /// How many times.
    pub count: usize,
    /// How far back it is looked from each time.
    pub offset: i64,
    /// A sample that is so much older, or more, does not count.
    pub range: i64,
}

impl NewestAt {
    /// One of the times.
    #[inline]
    pub fn time(&self, step: usize) -> Timestamp {
        self.start.saturating_add(self.interval.saturating_mul(step as i64)).saturating_sub(self.offset)
    }

    /// First and last timestamp of samples that count.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let first = self.time(0).saturating_sub(self.range).saturating_add(1);
        (first, self.time(self.count.saturating_sub(1)))
    }
}

/// What is lent of a series whose newest samples at some times are wanted.
#[derive(Clone, Debug)]
pub enum Lent<'a, H> {
    /// The newest float at each time, or a staleness marker if there is none; there are no histograms.
    Newest(&'a [f64]),
    /// All samples that count.
    Samples(FloatsRef<'a>, Option<Column<H>>),
}
