use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use model::Timestamp;

use crate::encoding::floats::{self, Decoded};
use crate::error::ReadError;

/// What pieces of one series lie in, used again for the next series.
#[derive(Default)]
pub(crate) struct PieceBuffers {
    /// Float columns.
    pub(crate) encoded: Vec<u8>,
    /// Timestamp columns that no other series has.
    pub(crate) times: Vec<Timestamp>,
    /// What has been read last.
    pub(crate) read: Vec<u8>,
}

impl PieceBuffers {
    /// Forgets the pieces.
    pub(crate) fn clear(&mut self) {
        self.encoded.clear();
        self.times.clear();
    }
}

/// Float samples of one series that lie together somewhere.
pub(crate) struct Piece<'a> {
    pub(crate) times: Times,
    /// The rows that are in range.
    pub(crate) rows: Range<usize>,
    /// Rows of the whole column.
    pub(crate) count: usize,
    /// The samples came out of order.
    pub(crate) late: bool,
    values: Values<'a>,
    starts: Option<Vec<Timestamp>>,
    first: Timestamp,
    last: Timestamp,
}

/// The timestamps of a piece, within those of a whole column.
pub(crate) enum Times {
    /// Whoever made the piece keeps it: its address tells it from others.
    Lasting(Arc<[Timestamp]>),
    /// Made for the piece.
    Made(Arc<[Timestamp]>),
    /// Those in range only, in [`PieceBuffers`]: no other series of the selection has the column.
    Alone(Range<usize>),
}

/// As many values as the timestamp column has.
pub(crate) enum Values<'a> {
    Borrowed(&'a [f64]),
    Owned(Vec<f64>),
    /// A float column in [`PieceBuffers`].
    Encoded(Range<usize>),
}

impl Values<'_> {
    /// Takes a float column into [`PieceBuffers::encoded`].
    pub(crate) fn encoded(column: &[u8], encoded: &mut Vec<u8>) -> Self {
        let start = encoded.len();
        encoded.extend_from_slice(column);
        Self::Encoded(start..encoded.len())
    }
}

impl<'a> Piece<'a> {
    /// `None` if no row is in range.
    pub(crate) fn new(
        times: Arc<[Timestamp]>,
        lasting: bool,
        values: Values<'a>,
        starts: Option<Vec<Timestamp>>,
        (min_time, max_time): (Timestamp, Timestamp),
    ) -> Option<Self> {
        let rows = times.partition_point(|t| *t < min_time)..times.partition_point(|t| *t <= max_time);
        if rows.is_empty() {
            return None;
        }
        let (first, last, count) = (times[rows.start], times[rows.end - 1], times.len());
        let times = if lasting { Times::Lasting(times) } else { Times::Made(times) };
        Some(Self { times, rows, count, late: false, values, starts, first, last })
    }

    /// The piece of a series that alone has a timestamp column, which lies in `buffers` from `from` on as far as it is in range: `rows` of
    /// `count`, at least one.
    pub(crate) fn alone(
        (from, rows, count): (usize, Range<usize>, usize),
        values: Values<'a>,
        starts: Option<Vec<Timestamp>>,
        buffers: &PieceBuffers,
    ) -> Self {
        let times = from..from + rows.len();
        let (first, last) = (buffers.times[times.start], buffers.times[times.end - 1]);
        Self { times: Times::Alone(times), rows, count, late: false, values, starts, first, last }
    }

    /// The piece as one that came out of order.
    pub(crate) fn late(self) -> Self {
        Self { late: true, ..self }
    }

    /// The piece without deleted samples; `None` if none is left.
    pub(crate) fn without(
        &self,
        deleted: impl Fn(Timestamp) -> bool,
        buffers: &PieceBuffers,
        scratch: &mut Decoded,
        path: &Path,
    ) -> Result<Option<Self>, ReadError> {
        let mut values = Vec::with_capacity(self.rows.len());
        self.values(false, buffers, &mut values, scratch, path)?;
        let keep: Vec<bool> = self.times(buffers).iter().map(|t| !deleted(*t)).collect();
        let kept =
            |times: &[Timestamp]| times.iter().zip(&keep).filter(|(_, k)| **k).map(|(t, _)| *t).collect::<Vec<_>>();
        let times = kept(self.times(buffers)).into();
        let starts = self.starts().map(kept);
        let mut each = keep.iter();
        values.retain(|_| each.next().copied().unwrap_or(false));
        Ok(Piece::new(times, false, Values::Owned(values), starts, (Timestamp::MIN, Timestamp::MAX)))
    }

    pub(crate) fn first(&self) -> Timestamp {
        self.first
    }

    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    /// What tells this piece's timestamps from those of others, if anything does.
    pub(crate) fn identity(&self) -> Option<(usize, usize, usize)> {
        let Times::Lasting(times) = &self.times else { return None };
        Some((times.as_ptr() as usize, self.rows.start, self.rows.end))
    }

    /// The timestamps in range.
    pub(crate) fn times<'b>(&'b self, buffers: &'b PieceBuffers) -> &'b [Timestamp] {
        match &self.times {
            Times::Lasting(times) | Times::Made(times) => &times[self.rows.clone()],
            Times::Alone(range) => &buffers.times[range.clone()],
        }
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
        buffers: &PieceBuffers,
        out: &mut Vec<f64>,
        scratch: &mut Decoded,
        path: &Path,
    ) -> Result<(), ReadError> {
        let rows = self.rows.clone();
        match &self.values {
            Values::Borrowed(values) => out.extend_from_slice(&values[rows]),
            Values::Owned(values) => out.extend_from_slice(&values[rows]),
            Values::Encoded(range) => {
                let bytes = &buffers.encoded[range.clone()];
                floats::decode_rows(bytes, self.count, rows, presence, scratch, out)
                    .map_err(|damaged| damaged.in_file(path))?;
            }
        }
        Ok(())
    }

    /// The last value in range, as [`Piece::values`] gives it.
    pub(crate) fn last_value(
        &self,
        presence: bool,
        buffers: &PieceBuffers,
        scratch: &mut Decoded,
        path: &Path,
    ) -> Result<f64, ReadError> {
        let row = self.rows.end - 1;
        match &self.values {
            Values::Borrowed(values) => Ok(values[row]),
            Values::Owned(values) => Ok(values[row]),
            Values::Encoded(range) => {
                floats::decode_row(&buffers.encoded[range.clone()], self.count, row, presence, scratch)
                    .map_err(|damaged| damaged.in_file(path))
            }
        }
    }
}
