//! The seam between the query engine and whatever holds the samples.
//!
//! A storage first tells which series match, with their labels in order, then delivers samples of any range of them as
//! flat columns. Series whose samples have equal timestamps share one timestamp column (the same `Arc`), so that the
//! engine finds window bounds once for all of them.

use std::ops::Range;
use std::sync::Arc;

pub use model::{Column, FloatsRef, KeptLabels, Lent, Newest, NewestAt};
use model::{FloatHistogram, LabelPairs, Labels, Matcher, Timestamp};

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
    /// Labels that the selection will be asked for; others may be missing.
    pub labels: KeptLabels<'a>,
    /// Asked now and then, while series are looked for, whether to go on.
    pub watch: Watch<'a>,
}

impl<'a> SelectRequest<'a> {
    /// A request that nobody ends before it is answered.
    pub fn new(matchers: &'a [Matcher], (mint, maxt): (Timestamp, Timestamp), wanted: Wanted) -> Self {
        Self { matchers, mint, maxt, wanted, labels: KeptLabels::All, watch: Watch::default() }
    }
}

/// How far a search for series has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Series found so far, some of which may turn out to have no samples in the range.
    pub series: usize,
    /// Bytes that what has been found takes.
    pub bytes: usize,
}

/// Says whether to go on with a search; without a function always.
#[derive(Clone, Copy, Default)]
pub struct Watch<'a>(pub Option<&'a dyn Fn(Progress) -> bool>);

impl Watch<'_> {
    /// Whether to go on. A storage asks it every few milliseconds at least, and fails with any error if the answer is no.
    pub fn go_on(&self, progress: Progress) -> bool {
        self.0.is_none_or(|watch| watch(progress))
    }
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
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
    /// When the storage cannot be read, or the request's watch says stop.
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError>;

    /// Whether series with samples in the range may have a label. None does if this says no.
    fn may_have_label(&self, _name: &str, _mint: Timestamp, _maxt: Timestamp) -> bool {
        true
    }
}

/// Series that match a request, in label order, each label set once.
pub trait Selection: Send + Sync {
    /// Number of series.
    fn len(&self) -> usize;

    /// Whether there is no series.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label sets of the series `range`, or what is wanted of them: one a series, in the ascending order of whole label sets.
    fn labels(&self, range: Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels>;

    /// Calls `each` with the names and values of the labels of the series `range`, one series after the other; names ascend. For who
    /// only writes them down, a storage may have them without making label sets.
    fn each_label_set(&self, range: Range<usize>, each: &mut dyn FnMut(&LabelPairs<'_>)) {
        for labels in self.labels(range, KeptLabels::All) {
            each(&labels.iter().collect::<Vec<_>>());
        }
    }

    /// Samples with timestamps in `mint..=maxt` of the series `range`, one entry a series, in order. May be called from several threads, for overlapping ranges and for any part of the requested time.
    ///
    /// # Errors
    /// When samples cannot be read.
    fn read(&self, range: Range<usize>, mint: Timestamp, maxt: Timestamp) -> Result<Vec<Samples>, StorageError>;

    /// As [`Selection::read`], one series after the other until `each` says no, with the memory of one.
    ///
    /// # Errors
    /// As [`Selection::read`].
    fn read_each(
        &self,
        range: Range<usize>,
        mint: Timestamp,
        maxt: Timestamp,
        each: &mut dyn FnMut(Samples) -> bool,
    ) -> Result<(), StorageError> {
        for at in range {
            if !self.read(at..at + 1, mint, maxt)?.into_iter().all(&mut *each) {
                break;
            }
        }
        Ok(())
    }

    /// The newest samples of each series at some times within the requested time, or all samples that count at any of them, lent series by
    /// series until `each` says no. Start timestamps may be left out.
    ///
    /// # Errors
    /// As [`Selection::read`].
    fn newest_at(
        &self,
        range: Range<usize>,
        at: NewestAt,
        each: &mut dyn FnMut(Lent<'_, Arc<FloatHistogram>>) -> bool,
    ) -> Result<(), StorageError> {
        let (mint, maxt) = at.span();
        self.read_each(range, mint, maxt, &mut |Samples { floats, histograms }| {
            let histograms = (!histograms.is_empty()).then_some(histograms);
            each(Lent::Samples((&floats).into(), histograms))
        })
    }

    /// The newest of the samples that [`Selection::read`] gives of each series.
    ///
    /// # Errors
    /// As [`Selection::read`].
    fn newest(
        &self,
        range: Range<usize>,
        mint: Timestamp,
        maxt: Timestamp,
    ) -> Result<Vec<Newest<Arc<FloatHistogram>>>, StorageError> {
        Ok(self.read(range, mint, maxt)?.into_iter().map(Samples::into_newest).collect())
    }

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

impl Samples {
    /// The newest sample.
    fn into_newest(self) -> Newest<Arc<FloatHistogram>> {
        let Self { mut floats, mut histograms } = self;
        if floats.timestamps.last() > histograms.timestamps.last() {
            floats.values.pop().map_or(Newest::None, Newest::Float)
        } else {
            histograms.values.pop().map_or(Newest::None, Newest::Histogram)
        }
    }
}

/// The storage could not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);
