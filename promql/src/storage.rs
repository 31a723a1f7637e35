//! The seam between the query engine and whatever holds the samples.
//!
//! A storage first tells which series match, with their labels in order, then delivers samples of any range of them as
//! flat columns. Series whose samples have equal timestamps share one timestamp column (the same `Arc`), so that the
//! engine finds window bounds once for all of them.

use std::ops::Range;
use std::sync::Arc;

pub use model::Column;
use model::{FloatHistogram, Labels, Matcher, Timestamp};

/// What a query asks of the storage.
#[derive(Clone, Debug)]
pub struct SelectRequest<'a> {
    /// Conditions on the labels, all of which must hold.
    pub matchers: &'a [Matcher],
    /// First and last timestamp of interest, both included, in milliseconds.
    pub mint: Timestamp,
    /// See `mint`.
    pub maxt: Timestamp,
    /// What of the series is wanted.
    pub wanted: Wanted,
}

/// What of the series a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Only labels, never samples (series and label APIs).
    Labels,
    /// When there are samples: staleness markers must be told from other values, but those can be any numbers.
    Presence,
    /// Samples.
    Samples,
}

/// Something that holds samples.
pub trait Storage: Send + Sync {
    /// The series that match and may have samples in the range.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError>;
}

/// Series that match a request, in label order, each label set once.
pub trait Selection: Send + Sync {
    /// Label sets in ascending order.
    fn labels(&self) -> &[Labels];

    /// Samples with timestamps in `mint..=maxt` of the series `range` (indexes into [`Selection::labels`]), one entry a
    /// series, in order. May be called from several threads, for overlapping ranges and for any part of the requested time.
    ///
    /// # Errors
    /// When samples cannot be read.
    fn read(&self, range: Range<usize>, mint: Timestamp, maxt: Timestamp) -> Result<Vec<Samples>, StorageError>;

    /// What the user should know about the answer: parts that could not be read.
    fn warnings(&self) -> &[String] {
        &[]
    }
}

/// The samples of one series in a time range. A timestamp has a float or a histogram, never both.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Float samples, staleness markers included.
    pub floats: Column<f64>,
    /// Histogram samples, staleness markers included.
    pub histograms: Column<Arc<FloatHistogram>>,
}

/// The storage could not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);
