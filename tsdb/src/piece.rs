use std::path::Path;
use std::sync::Arc;

use model::Timestamp;

use crate::encoding::floats;
use crate::error::ReadError;

/// Float samples of one series that lie together somewhere.
pub(crate) struct Piece<'a> {
    /// The whole timestamp column. If `lasting`, its address tells it from others.
    pub(crate) times: Arc<[Timestamp]>,
    /// The rows that are in range.
    pub(crate) rows: std::ops::Range<usize>,
    /// Who made the piece keeps the timestamp column.
    pub(crate) lasting: bool,
    /// No other series of the selection has the timestamp column.
    pub(crate) alone: bool,
    /// The samples came out of order.
    pub(crate) late: bool,
    values: Values<'a>,
    starts: Option<Vec<Timestamp>>,
}

/// As many values as the timestamp column has.
pub(crate) enum Values<'a> {
    Borrowed(&'a [f64]),
    Owned(Vec<f64>),
    /// A float column.
    Encoded(Vec<u8>),
}

impl<'a> Piece<'a> {
    /// `None` if no row is in range.
    pub(crate) fn new(
        times: Arc<[Timestamp]>,
        values: Values<'a>,
        starts: Option<Vec<Timestamp>>,
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Option<Self> {
        let from = times.partition_point(|t| *t < min_time);
        let to = times.partition_point(|t| *t <= max_time);
        let lasting = !matches!(values, Values::Owned(_));
        (from < to).then_some(Self { times, rows: from..to, lasting, alone: false, late: false, values, starts })
    }

    /// The piece as one whose timestamps nobody keeps, as no other series has them.
    pub(crate) fn alone(self) -> Self {
        Self { lasting: false, alone: true, ..self }
    }

    /// The piece as one that came out of order.
    pub(crate) fn late(self) -> Self {
        Self { late: true, ..self }
    }

    /// The piece without deleted samples; `None` if none is left.
    pub(crate) fn without(
        &self,
        deleted: impl Fn(Timestamp) -> bool,
        scratch: &mut Vec<f64>,
        path: &Path,
    ) -> Result<Option<Self>, ReadError> {
        let mut values = Vec::with_capacity(self.rows.len());
        self.values(false, &mut values, scratch, path)?;
        let keep: Vec<bool> = self.times().iter().map(|t| !deleted(*t)).collect();
        let kept =
            |times: &[Timestamp]| times.iter().zip(&keep).filter(|(_, k)| **k).map(|(t, _)| *t).collect::<Vec<_>>();
        let times: Arc<[Timestamp]> = kept(self.times()).into();
        let starts = self.starts().map(kept);
        let mut each = keep.iter();
        values.retain(|_| each.next().copied().unwrap_or(false));
        Ok(Piece::new(times, Values::Owned(values), starts, Timestamp::MIN, Timestamp::MAX))
    }

    pub(crate) fn first(&self) -> Timestamp {
        self.times[self.rows.start]
    }

    pub(crate) fn last(&self) -> Timestamp {
        self.times[self.rows.end - 1]
    }

    /// What tells this piece's timestamps from those of others.
    pub(crate) fn identity(&self) -> (usize, usize, usize) {
        (self.times.as_ptr() as usize, self.rows.start, self.rows.end)
    }

    /// The timestamps in range.
    pub(crate) fn times(&self) -> &[Timestamp] {
        &self.times[self.rows.clone()]
    }

    /// The start timestamps in range, if any are known.
    pub(crate) fn starts(&self) -> Option<&[Timestamp]> {
        self.starts.as_deref().and_then(|s| s.get(self.rows.clone()))
    }

    /// Appends the values in range; if only `presence` is wanted, of a value that is no staleness marker only that it is none is
    /// right. `path` is named in errors.
    pub(crate) fn values(
        &self,
        presence: bool,
        out: &mut Vec<f64>,
        scratch: &mut Vec<f64>,
        path: &Path,
    ) -> Result<(), ReadError> {
        let rows = self.rows.clone();
        match &self.values {
            Values::Borrowed(values) => out.extend_from_slice(&values[rows]),
            Values::Owned(values) => out.extend_from_slice(&values[rows]),
            Values::Encoded(bytes) => floats::decode_rows(bytes, self.times.len(), rows, presence, scratch, out)
                .map_err(|damaged| damaged.in_file(path))?,
        }
        Ok(())
    }
}
