//! Columns of one series: what the sources have of it, put together.

use std::ops::Range;
use std::sync::Arc;

use model::{Column, FloatHistogram, FloatsRef, Lent, Timestamp};

use super::{ReadBuffers, Scratch, Selection, Source};
use crate::encoding::floats::Decoded;
use crate::error::{Damaged, ReadError};
use crate::head::Entry;
use crate::piece::{Piece, PieceBuffers, Times};
use crate::sample::{HistogramSample, RawSamples, SeriesSamples};

/// Timestamps of series that have some of several pieces, or a part of one.
#[derive(Default)]
pub(super) struct JoinedTimes {
    /// Those of the last such series that had different ones: series in label order often have those of some targets in turn.
    recent: Vec<(Vec<Identity>, Arc<[Timestamp]>)>,
    /// Where they are put together.
    buffer: Vec<Timestamp>,
}

/// Joined timestamps that are found without a lock.
const RECENT: usize = 8;

/// Address of a timestamp column, first and last row.
pub(super) type Identity = (usize, usize, usize);

/// A histogram, and what its source comes before or behind.
type Ranked = (Entry, u32);

impl Selection {
    /// Lends the samples of a series in a range, without start timestamps, and gives what `each` says.
    pub(super) fn lend<'a>(
        &'a self,
        at: usize,
        (min_time, max_time): (Timestamp, Timestamp),
        scratch: &mut Scratch<'a>,
        values: &mut Vec<f64>,
        each: &mut dyn FnMut(Lent<'_, Arc<FloatHistogram>>) -> bool,
    ) -> Result<bool, ReadError> {
        let histograms = self.gather(at, min_time, max_time, scratch)?;
        if !histograms.is_empty() || !put_in_order(&mut scratch.pieces) {
            let SeriesSamples { floats, histograms } = self.put_together(histograms, scratch)?;
            let histograms = (!histograms.is_empty()).then(|| to_float(histograms));
            return Ok(each(Lent::Samples((&floats).into(), histograms)));
        }
        let Scratch { memory: ReadBuffers { decoded, buffers, .. }, pieces, times, .. } = scratch;
        values.clear();
        if pieces.is_empty() {
            return Ok(each(Lent::Samples(FloatsRef { timestamps: &[], shared: None, values: &[] }, None)));
        }
        self.put_values(pieces, buffers, decoded, values)?;
        if let Some(timestamps) = times_alone(pieces, buffers, &mut times.buffer) {
            return Ok(each(Lent::Samples(FloatsRef { timestamps, shared: None, values }, None)));
        }
        let timestamps = self.times_of(pieces, buffers, times);
        Ok(each(Lent::Samples(FloatsRef { timestamps: &timestamps, shared: Some(&timestamps), values }, None)))
    }

    pub(super) fn read_series<'a>(
        &'a self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        scratch: &mut Scratch<'a>,
    ) -> Result<RawSamples, ReadError> {
        let histograms = self.gather(at, min_time, max_time, scratch)?;
        self.put_together(histograms, scratch)
    }

    /// Finds what the sources have of a series: floats as pieces, and histograms.
    fn gather<'a>(
        &'a self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        scratch: &mut Scratch<'a>,
    ) -> Result<Vec<Ranked>, ReadError> {
        let Scratch { memory: ReadBuffers { decoded, read, buffers }, pieces, ranks: piece_ranks, found, .. } = scratch;
        pieces.clear();
        buffers.clear();
        piece_ranks.clear();
        found.clear();
        let mut entries: Vec<Entry> = Vec::new();
        let mut entry_ranks = Vec::new();
        for (source, position) in self.places.of(at).as_ref() {
            let rank = *source * 2;
            let read = &mut read[*source as usize];
            let source = &self.sources[*source as usize];
            let position = *position as usize;
            let tombstones = source.tombstones(position);
            let deleted = |time: Timestamp| tombstones.iter().any(|t| t.contains(time));
            let first = entries.len();
            source.histograms(position, min_time, max_time, read, &mut entries)?;
            if !tombstones.is_empty() {
                let mut kept = entries.split_off(first);
                kept.retain(|e| !deleted(e.time));
                entries.append(&mut kept);
            }
            entry_ranks.extend(entries[first..].iter().map(|e| rank + u32::from(e.late)));
            source.pieces(position, min_time, max_time, read, buffers, found)?;
            for piece in found.drain(..) {
                let piece_rank = rank + u32::from(piece.late);
                let piece = if !tombstones.is_empty() && piece.times(buffers).iter().any(|t| deleted(*t)) {
                    piece.without(deleted, buffers, decoded, source.path())?
                } else {
                    Some(piece)
                };
                if let Some(piece) = piece {
                    pieces.push((piece, source));
                    piece_ranks.push(piece_rank);
                }
            }
        }
        Ok(entries.into_iter().zip(entry_ranks).collect())
    }

    /// A series of what was gathered.
    fn put_together(&self, mut ranked: Vec<Ranked>, scratch: &mut Scratch<'_>) -> Result<RawSamples, ReadError> {
        let Scratch { memory, pieces, ranks: piece_ranks, times, nothing, .. } = scratch;
        let ReadBuffers { decoded, buffers, .. } = memory;
        if ranked.is_empty() {
            let floats = self.float_column(pieces, buffers, decoded, times)?;
            let histograms = Column { timestamps: Arc::clone(nothing), values: Vec::new(), start_timestamps: None };
            return Ok(SeriesSamples { floats, histograms });
        }
        // stable: the first stored stays in front of others of its time
        ranked.sort_by_key(|(e, _)| e.time);
        ranked.dedup_by_key(|(e, _)| e.time);
        let mut hidden = Vec::new();
        ranked.retain(|(entry, rank)| {
            let has = |piece: &Piece<'_>| piece.times(buffers).binary_search(&entry.time).is_ok();
            let floats = pieces.iter().zip(&*piece_ranks).filter(|((piece, _), _)| has(piece));
            match floats.map(|(_, rank)| *rank).min() {
                Some(float) if float <= *rank => false,
                Some(_) => {
                    hidden.push(entry.time);
                    true
                }
                None => true,
            }
        });
        let mut floats = self.float_column(pieces, buffers, decoded, times)?;
        drop_times(&mut floats, &hidden);
        Ok(SeriesSamples { floats, histograms: self.histogram_column(ranked.into_iter().map(|r| r.0).collect()) })
    }

    fn float_column(
        &self,
        pieces: &mut [(Piece<'_>, &Source)],
        buffers: &PieceBuffers,
        scratch: &mut Decoded,
        times: &mut JoinedTimes,
    ) -> Result<Column<f64>, ReadError> {
        if pieces.is_empty() {
            return Ok(Column::default());
        }
        if !put_in_order(pieces) {
            return merge(pieces, buffers, scratch);
        }
        let mut values = Vec::new();
        self.put_values(pieces, buffers, scratch, &mut values)?;
        let start_timestamps = pieces.iter().any(|(p, _)| p.starts().is_some()).then(|| {
            let zeros = |p: &Piece<'_>| vec![0; p.rows.len()];
            pieces.iter().flat_map(|(p, _)| p.starts().map_or_else(|| zeros(p), <[_]>::to_vec)).collect()
        });
        Ok(Column { timestamps: self.times_of(pieces, buffers, times), values, start_timestamps })
    }

    /// Appends the values of pieces that lie one behind the other.
    fn put_values(
        &self,
        pieces: &[(Piece<'_>, &Source)],
        buffers: &PieceBuffers,
        scratch: &mut Decoded,
        out: &mut Vec<f64>,
    ) -> Result<(), ReadError> {
        let count = pieces.iter().map(|(p, _)| p.rows.len()).sum();
        out.reserve(count);
        for (piece, source) in pieces {
            piece.values(self.presence_only, buffers, out, scratch, source.path())?;
        }
        if out.len() == count { Ok(()) } else { Err(Damaged("value column").in_file(pieces[0].1.path())) }
    }

    fn times_of(
        &self,
        pieces: &[(Piece<'_>, &Source)],
        buffers: &PieceBuffers,
        joined: &mut JoinedTimes,
    ) -> Arc<[Timestamp]> {
        let JoinedTimes { recent, buffer } = joined;
        if let [(only, _)] = pieces {
            match &only.times {
                Times::Lasting(times) | Times::Made(times) if only.rows.len() == only.count => {
                    return Arc::clone(times);
                }
                _ => {}
            }
        }
        buffer.clear();
        let gather =
            |buffer: &mut Vec<Timestamp>| pieces.iter().for_each(|(p, _)| buffer.extend_from_slice(p.times(buffers)));
        if let Some(times) = times_alone(pieces, buffers, buffer) {
            return times.into();
        }
        // only columns that the sources keep have an address to go by
        let identities = || pieces.iter().map(|(p, _)| p.identity());
        let is_it = |(key, _): &&(Vec<Identity>, Arc<[Timestamp]>)| identities().eq(key.iter().copied().map(Some));
        if let Some((_, times)) = recent.iter().rev().find(is_it) {
            return Arc::clone(times);
        }
        let Some(key) = identities().collect::<Option<Vec<Identity>>>() else {
            gather(buffer);
            return self.share(buffer);
        };
        let known = self.joined.lock().get(&key).cloned();
        let times = known.unwrap_or_else(|| {
            gather(buffer);
            let times = self.share(buffer);
            self.joined.lock().insert(key.clone(), Arc::clone(&times));
            times
        });
        if recent.len() == RECENT {
            recent.remove(0);
        }
        recent.push((key, Arc::clone(&times)));
        times
    }

    /// One `Arc` for equal timestamps.
    fn share(&self, times: &[Timestamp]) -> Arc<[Timestamp]> {
        let hash = hash_times(times);
        let mut equal = self.equal.lock();
        let alike = equal.entry(hash).or_default();
        if let Some(known) = alike.iter().find(|known| known[..] == *times) {
            return Arc::clone(known);
        }
        let times: Arc<[Timestamp]> = times.into();
        alike.push(Arc::clone(&times));
        times
    }

    fn histogram_column(&self, entries: Vec<Entry>) -> Column<HistogramSample> {
        let starts = entries.iter().any(|e| e.start != 0).then(|| entries.iter().map(|e| e.start).collect());
        Column {
            timestamps: self.share(&entries.iter().map(|e| e.time).collect::<Vec<_>>()),
            values: entries.into_iter().map(|e| e.sample).collect(),
            start_timestamps: starts,
        }
    }
}

/// The timestamps of pieces that lie one behind the other, if the series is the only one that has them.
fn times_alone<'b>(
    pieces: &[(Piece<'_>, &Source)],
    buffers: &'b PieceBuffers,
    joined: &'b mut Vec<Timestamp>,
) -> Option<&'b [Timestamp]> {
    let alone = |(piece, _): &(Piece<'_>, &Source)| {
        if let Times::Alone(range) = &piece.times { Some(range.clone()) } else { None }
    };
    let first = pieces.iter().find_map(alone)?;
    // mostly they have been decoded one behind the other
    let mut end = first.start;
    let mut follows = |range: Range<usize>| range.start == std::mem::replace(&mut end, range.end);
    if pieces.iter().all(|piece| alone(piece).is_some_and(&mut follows)) {
        return buffers.times.get(first.start..end);
    }
    joined.clear();
    pieces.iter().for_each(|(piece, _)| joined.extend_from_slice(piece.times(buffers)));
    Some(joined)
}

/// Histograms in the form PromQL computes with.
pub(super) fn to_float(histograms: Column<HistogramSample>) -> Column<Arc<FloatHistogram>> {
    Column {
        timestamps: histograms.timestamps,
        values: histograms.values.iter().map(HistogramSample::to_float).collect(),
        start_timestamps: histograms.start_timestamps,
    }
}

/// Whether pieces lie one behind the other, which they do then.
fn put_in_order(pieces: &mut [(Piece<'_>, &Source)]) -> bool {
    let apart = |pieces: &[(Piece<'_>, &Source)]| pieces.windows(2).all(|w| w[0].0.last() < w[1].0.first());
    if apart(pieces) {
        return true;
    }
    // stable: of equal timestamps that of the first piece counts, should they overlap after all
    let mut order: Vec<&Piece<'_>> = pieces.iter().map(|(p, _)| p).collect();
    order.sort_by_key(|p| p.first());
    if order.windows(2).any(|w| w[0].last() >= w[1].first()) {
        return false;
    }
    pieces.sort_by_key(|(p, _)| p.first());
    true
}

/// A number that is mostly another one for other timestamps: for long columns several times faster than a hash of bytes.
fn hash_times(times: &[Timestamp]) -> u64 {
    const LANES: usize = 8;
    let mut lanes = [times.len() as u64; LANES];
    let (chunks, rest) = times.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, time) in lanes.iter_mut().zip(chunk) {
            *lane = lane.rotate_left(7) ^ (*time as u64);
        }
    }
    let all = lanes.iter().copied().chain(rest.iter().map(|time| *time as u64));
    all.fold(0, |hash, part| (hash ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

/// Merges pieces that overlap; of equal timestamps the sample that was stored first counts, which is that of the first piece.
fn merge(
    pieces: &[(Piece<'_>, &Source)],
    buffers: &PieceBuffers,
    scratch: &mut Decoded,
) -> Result<Column<f64>, ReadError> {
    let mut samples: Vec<(Timestamp, f64, Timestamp)> = Vec::new();
    let mut values = Vec::new();
    let mut any_start = false;
    for (piece, source) in pieces {
        values.clear();
        piece.values(false, buffers, &mut values, scratch, source.path())?;
        let starts = piece.starts();
        any_start |= starts.is_some();
        let start = |at: usize| starts.and_then(|s| s.get(at)).copied().unwrap_or(0);
        samples.extend(piece.times(buffers).iter().zip(&values).enumerate().map(|(at, (t, v))| (*t, *v, start(at))));
    }
    samples.sort_by_key(|s| s.0);
    samples.dedup_by_key(|s| s.0);
    Ok(Column {
        timestamps: samples.iter().map(|s| s.0).collect(),
        values: samples.iter().map(|s| s.1).collect(),
        start_timestamps: any_start.then(|| samples.iter().map(|s| s.2).collect()),
    })
}

/// Leaves out samples at times (ascending) where a histogram was stored first: a timestamp has one sample.
fn drop_times(floats: &mut Column<f64>, hidden: &[Timestamp]) {
    if hidden.is_empty() {
        return;
    }
    let keep: Vec<bool> = floats.timestamps.iter().map(|t| hidden.binary_search(t).is_err()).collect();
    let pick = |times: &Arc<[Timestamp]>| times.iter().zip(&keep).filter(|(_, k)| **k).map(|(t, _)| *t).collect();
    let timestamps = pick(&floats.timestamps);
    floats.timestamps = timestamps;
    floats.start_timestamps = floats.start_timestamps.as_ref().map(pick);
    let mut keep = keep.iter();
    floats.values.retain(|_| keep.next().copied().unwrap_or(true));
}
