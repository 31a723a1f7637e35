//! The newest samples of each series at one time or several: what instant vectors are made of. Where that is less work, no columns are made
//! for it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use model::{FloatHistogram, Lent, Newest, NewestAt, Timestamp};

use super::{ReadBuffers, Scratch, Selection, Source};
use crate::block::{BlockColumn, NewestFloat};
use crate::encoding::timestamps::NewestRows;
use crate::error::ReadError;
use crate::piece::Piece;
use crate::sample::HistogramSample;

/// What finding the newest samples at some times takes, used again for the next series.
#[derive(Default)]
struct Picked {
    columns: Vec<BlockColumn>,
    parts: Vec<(Part, Timestamp, Timestamp)>,
    rows: Vec<u32>,
    /// At each time the newest float.
    values: Vec<f64>,
    /// Of a whole piece.
    all: Vec<f64>,
}

/// Where floats of a series lie.
#[derive(Clone, Copy)]
enum Part {
    /// A column of the block that is this source.
    Column(u32, BlockColumn),
    /// A piece of the head, by number.
    Piece(usize),
}

impl Selection {
    /// The newest samples of each series at some times, or all that count at any of them, whichever is less work. They are lent, series by
    /// series, until `each` says no. Start timestamps are left out.
    ///
    /// # Errors
    /// As [`Selection::read`].
    pub fn newest_at(
        &self,
        range: Range<usize>,
        at: NewestAt,
        each: &mut dyn FnMut(Lent<'_, Arc<FloatHistogram>>) -> bool,
    ) -> Result<(), ReadError> {
        let (mut scratch, mut values, mut picked) = (self.scratch(), Vec::new(), Picked::default());
        let span = at.span();
        let mut lend = |index: usize| -> Result<bool, ReadError> {
            if self.pick(index, at, &mut scratch, &mut picked)? {
                return Ok(each(Lent::Newest(&picked.values)));
            }
            self.lend(index, span, &mut scratch, &mut values, each)
        };
        for index in range {
            match lend(index) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.note_failure(&error);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Finds the newest floats at some times without making columns, if the series is the only one with its timestamps and there is nothing
    /// else to look at. Otherwise windows are found once for many series.
    fn pick<'a>(
        &'a self,
        index: usize,
        at: NewestAt,
        scratch: &mut Scratch<'a>,
        picked: &mut Picked,
    ) -> Result<bool, ReadError> {
        let Scratch { memory: ReadBuffers { decoded, read, buffers }, found, .. } = scratch;
        let Picked { columns, parts, rows, values, all } = picked;
        let span = at.span();
        parts.clear();
        let places = self.places.of(index);
        for (number, position) in places.as_ref() {
            if let Source::Block(block) = &self.sources[*number as usize] {
                columns.clear();
                if !block.columns_alone(*position as usize, span, columns) {
                    return Ok(false);
                }
                parts.extend(columns.iter().map(|c| (Part::Column(*number, *c), c.range.0, c.range.1)));
            }
        }
        if parts.is_empty() {
            return Ok(false);
        }
        buffers.clear();
        found.clear();
        for (number, position) in places.as_ref() {
            let position = *position as usize;
            match &self.sources[*number as usize] {
                Source::Block(_) => {}
                Source::Head(head) if head.is_plain(position) => {
                    let from = found.len();
                    head.pieces(position, span.0, span.1, buffers, found)?;
                    let pieces = found.iter().enumerate().skip(from);
                    parts.extend(pieces.map(|(at, piece)| (Part::Piece(at), piece.first(), piece.last())));
                }
                Source::Head(_) | Source::Loaded(_) => return Ok(false),
            }
        }
        parts.sort_by_key(|(_, first, _)| *first);
        if parts.windows(2).any(|w| w[0].2 >= w[1].1) {
            return Ok(false);
        }
        values.clear();
        values.resize(at.count, model::STALE_NAN);
        rows.resize(at.count, 0);
        for (part, ..) in parts {
            match part {
                Part::Column(number, column) => {
                    let Source::Block(block) = &self.sources[*number as usize] else { continue };
                    let read = &mut read[*number as usize];
                    block.newest_at(column, at, self.presence_only, read, decoded, (rows, values))?;
                }
                Part::Piece(number) => {
                    let piece = &found[*number];
                    let mut newest = NewestRows::new(at, rows);
                    newest.take_all(piece.times(buffers));
                    newest.finish();
                    all.clear();
                    piece.values(self.presence_only, buffers, all, decoded, Path::new("head"))?;
                    for (row, to) in rows.iter().zip(&mut *values) {
                        if let Some(value) = all.get(*row as usize) {
                            *to = *value;
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// The newest of the samples that [`Selection::read`] gives of each series.
    ///
    /// # Errors
    /// As [`Selection::read`].
    pub fn newest(
        &self,
        range: Range<usize>,
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Result<Vec<Newest<Arc<FloatHistogram>>>, ReadError> {
        let mut scratch = self.scratch();
        let newest: Result<_, ReadError> = range
            .map(|at| match self.newest_float(at, (min_time, max_time), &mut scratch)? {
                NewestFloat::Sample(newest) => Ok(newest.map_or(Newest::None, |(_, value)| Newest::Float(value))),
                NewestFloat::Unclear => {
                    let mut samples = self.read_series(at, min_time, max_time, &mut scratch)?;
                    let histogram = samples.histograms.values.pop().as_ref().map(HistogramSample::to_float);
                    Ok(if samples.floats.timestamps.last() > samples.histograms.timestamps.last() {
                        samples.floats.values.pop().map_or(Newest::None, Newest::Float)
                    } else {
                        histogram.map_or(Newest::None, Newest::Histogram)
                    })
                }
            })
            .collect();
        newest.inspect_err(|error| self.note_failure(error))
    }

    fn newest_float<'a>(
        &'a self,
        at: usize,
        range: (Timestamp, Timestamp),
        scratch: &mut Scratch<'a>,
    ) -> Result<NewestFloat, ReadError> {
        let Scratch { memory: ReadBuffers { decoded, read, buffers }, found, .. } = scratch;
        let mut newest: Option<(Timestamp, f64)> = None;
        for (source, position) in self.places.of(at).as_ref() {
            let read = &mut read[*source as usize];
            let source = &self.sources[*source as usize];
            let position = *position as usize;
            // of two for one time that of the earlier source counts
            let after = newest.map(|(time, _)| time);
            let known = match source {
                Source::Block(block) => Some(block.newest(position, range, self.presence_only, read, decoded)?),
                Source::Head(head) if !head.is_plain(position) => Some(NewestFloat::Unclear),
                Source::Head(head) => head.newest(position, range).map(NewestFloat::Sample),
                Source::Loaded(_) => None,
            };
            let sample = match known {
                Some(known) => known,
                None => {
                    buffers.clear();
                    found.clear();
                    source.pieces(position, range.0, range.1, read, buffers, found)?;
                    let mut last: Option<&Piece<'_>> = None;
                    for piece in &*found {
                        if last.is_none_or(|last| last.last() < piece.last()) {
                            last = Some(piece);
                        }
                    }
                    let last = last.filter(|piece| after.is_none_or(|after| after < piece.last()));
                    let value = |piece: &Piece<'_>| {
                        let value = piece.last_value(self.presence_only, buffers, decoded, source.path())?;
                        Ok::<_, ReadError>((piece.last(), value))
                    };
                    NewestFloat::Sample(last.map(value).transpose()?)
                }
            };
            match sample {
                NewestFloat::Unclear => return Ok(NewestFloat::Unclear),
                NewestFloat::Sample(Some((time, value))) if after.is_none_or(|after| after < time) => {
                    newest = Some((time, value));
                }
                NewestFloat::Sample(_) => {}
            }
        }
        Ok(NewestFloat::Sample(newest))
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, MatchOp, Matcher, STALE_NAN};

    use super::*;
    use crate::{Db, Options};

    #[test]
    fn the_newest_samples_of_all_are_told_without_looking_at_rows() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options { background: false, ..Options::default() }).unwrap();
        let append = |time: i64, names: &[&str], value: f64| {
            let mut appender = db.appender();
            for name in names {
                let series = appender.series(&Labels::from_pairs([("__name__", *name)])).unwrap();
                appender.append(series, time, value).unwrap();
            }
            appender.commit().unwrap();
        };
        append(1000, &["a", "b"], 1.0);
        append(2000, &["a", "b"], 2.0);
        append(3000, &["a"], STALE_NAN);
        let newest = |range: (i64, i64)| {
            let any = Matcher::new(MatchOp::NotEqual, "__name__", "").unwrap();
            let selection = db.select(&[any], 0, 10_000).unwrap();
            let found = selection.newest(0..2, range.0, range.1).unwrap();
            let bits =
                found.iter().map(|newest| if let Newest::Float(value) = newest { Some(value.to_bits()) } else { None });
            let decoded =
                selection.sources.iter().any(|s| if let Source::Head(head) = s { head.is_decoded() } else { true });
            (bits.collect::<Vec<_>>(), decoded)
        };
        let (one, two, stale) = (Some(1f64.to_bits()), Some(2f64.to_bits()), Some(STALE_NAN.to_bits()));
        assert_eq!(newest((0, 3000)), (vec![stale, two], false));
        assert_eq!(newest((2001, 9000)), (vec![stale, None], false));
        assert_eq!(newest((3001, 9000)), (vec![None, None], false));
        // what was the newest before
        assert_eq!(newest((0, 2999)), (vec![two, two], true));
        assert_eq!(newest((0, 1999)), (vec![one, one], true));
        // of a group that has had histograms the rows tell
        let mut appender = db.appender();
        let series = appender.series(&Labels::from_pairs([("__name__", "b")])).unwrap();
        appender.append_histogram(series, 4000, HistogramSample::Float(Arc::default())).unwrap();
        appender.commit().unwrap();
        append(5000, &["a", "b"], 5.0);
        let five = Some(5f64.to_bits());
        assert_eq!(newest((0, 9000)).0, [five, five]);
        assert_eq!(newest((0, 4999)).0, [stale, None]);
    }
}
