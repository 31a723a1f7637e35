use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use model::{Column, KeptLabels, LabelPairs, Labels, Timestamp};
use parking_lot::Mutex;

use crate::block::{BlockBuffers, BlockLabels, BlockSelection};
use crate::error::ReadError;
use crate::head::{Entry, HeadLabels, HeadSnapshot};
use crate::metrics::Counters;
use crate::piece::{Piece, PieceBuffers, Times, Values};
use crate::sample::{RawSamples, SeriesSamples};
use crate::tombstones::Interval;
use crate::watch::Pace;

/// Series that match a request, in label order, and their samples at the moment of the request.
pub struct Selection {
    labels: SeriesLabels,
    /// All label sets, once somebody has asked for them together.
    all: OnceLock<Vec<Labels>>,
    sources: Vec<Source>,
    places: Places,
    warnings: Vec<String>,
    joined: Mutex<HashMap<Vec<Identity>, Arc<[Timestamp]>>>,
    equal: Mutex<HashMap<u64, Vec<Arc<[Timestamp]>>>>,
    /// Where failures are counted, if they are to be.
    counters: Option<Arc<Counters>>,
    failed: AtomicBool,
    presence_only: bool,
}

/// Where the series of a selection lie.
enum Places {
    /// As they lie in the only source.
    One,
    /// For each series the sources that have it and its position there: those of series `i` are `places[offsets[i]..offsets[i + 1]]`.
    Many { places: Vec<(u32, u32)>, offsets: Vec<u32> },
}

/// Labels of the series of a source.
pub(crate) enum SeriesLabels {
    Made(Vec<Labels>),
    /// Made when they are needed.
    Head(HeadLabels),
    Block(BlockLabels),
}

impl SeriesLabels {
    fn len(&self) -> usize {
        match self {
            Self::Made(labels) => labels.len(),
            Self::Head(labels) => labels.places.len(),
            Self::Block(labels) => labels.len(),
        }
    }

    fn into_all(self, pace: &Pace<'_>) -> Vec<Labels> {
        let make = |one: &dyn Fn(usize) -> Labels, count: usize| {
            let made: Vec<Labels> = (0..count).map(one).take_while(|_| pace.done(LABELS_WORK)).collect();
            pace.found(0, made.iter().map(bytes_of_labels).sum());
            made
        };
        match self {
            Self::Made(labels) => labels,
            Self::Head(labels) => make(&|at| labels.labels(at), labels.places.len()),
            Self::Block(labels) => make(&|at| labels.labels(at), labels.len()),
        }
    }
}

/// What it counts for to make a label set.
pub(crate) const LABELS_WORK: usize = 16;

/// Memory of a label set.
pub(crate) fn bytes_of_labels(labels: &Labels) -> usize {
    labels.as_bytes().len() + 48
}

/// What reading many series uses again from one to the next.
struct Scratch<'a> {
    values: Vec<f64>,
    /// For each source.
    read: Vec<BlockBuffers>,
    /// What pieces lie in.
    buffers: PieceBuffers,
    pieces: Vec<(Piece<'a>, &'a Source)>,
    /// Which of the pieces were stored before others.
    ranks: Vec<u32>,
    found: Vec<Piece<'a>>,
    times: JoinedTimes,
}

/// Timestamps of series that have some of several pieces, or a part of one.
#[derive(Default)]
struct JoinedTimes {
    /// Those of the last such series that had different ones: series in label order often have those of some targets in turn.
    recent: Vec<(Vec<Identity>, Arc<[Timestamp]>)>,
    /// Where they are put together.
    buffer: Vec<Timestamp>,
}

/// Joined timestamps that are found without a lock.
const RECENT: usize = 8;

/// Address of a timestamp column, first and last row.
type Identity = (usize, usize, usize);

/// Where samples come from.
pub(crate) enum Source {
    Head(HeadSnapshot),
    Block(BlockSelection),
    /// Floats in memory.
    Loaded(Vec<Column<f64>>),
}

impl Source {
    fn tombstones(&self, at: usize) -> &[Interval] {
        match self {
            Self::Head(head) => head.tombstones(at),
            Self::Block(block) => block.tombstones(at),
            Self::Loaded(_) => &[],
        }
    }

    fn pieces<'a>(
        &'a self,
        at: usize,
        min: Timestamp,
        max: Timestamp,
        read: &mut BlockBuffers,
        buffers: &mut PieceBuffers,
        out: &mut Vec<Piece<'a>>,
    ) -> Result<(), ReadError> {
        match self {
            Self::Head(head) => head.pieces(at, min, max, buffers, out),
            Self::Block(block) => block.pieces(at, min, max, read, buffers, out),
            Self::Loaded(columns) => {
                let Column { timestamps, values, start_timestamps } = &columns[at];
                let starts = start_timestamps.as_deref().map(<[_]>::to_vec);
                let values = Values::Borrowed(values);
                out.extend(Piece::new(Arc::clone(timestamps), true, values, starts, (min, max)));
                Ok(())
            }
        }
    }

    fn histograms(
        &self,
        at: usize,
        min: Timestamp,
        max: Timestamp,
        read: &mut BlockBuffers,
        out: &mut Vec<Entry>,
    ) -> Result<(), ReadError> {
        match self {
            Self::Head(head) => head.histograms(at, min, max, out),
            Self::Block(block) => block.histograms(at, min, max, read, out),
            Self::Loaded(_) => Ok(()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Head(_) => Path::new("head"),
            Self::Block(block) => block.path(),
            Self::Loaded(_) => Path::new("(memory)"),
        }
    }
}

impl Selection {
    /// Joins what several sources have: each source with its series in label order. Of two samples for one timestamp that of
    /// the earlier source counts.
    pub(crate) fn join(parts: Vec<(Source, Vec<Labels>)>, warnings: Vec<String>) -> Self {
        let parts = parts.into_iter().map(|(source, labels)| (source, SeriesLabels::Made(labels))).collect();
        Self::joined(parts, warnings, &Pace::unwatched())
    }

    /// What a head has.
    pub(crate) fn of_head(head: HeadSnapshot, labels: HeadLabels) -> Self {
        Self::joined(vec![(Source::Head(head), SeriesLabels::Head(labels))], Vec::new(), &Pace::unwatched())
    }

    /// As [`Selection::join`]; anything if `pace` has said stop.
    pub(crate) fn joined(mut parts: Vec<(Source, SeriesLabels)>, warnings: Vec<String>, pace: &Pace<'_>) -> Self {
        parts.retain(|(_, labels)| labels.len() > 0);
        let (mut sources, mut lists) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for (source, labels) in parts {
            sources.push(source);
            lists.push(labels);
        }
        let (labels, places) = if lists.len() == 1 {
            (lists.remove(0), Places::One)
        } else {
            let lists: Vec<_> = lists.into_iter().map(|labels| labels.into_all(pace)).collect();
            let (labels, places) = merge_labels(&lists, pace);
            (SeriesLabels::Made(labels), places)
        };
        Self {
            labels,
            all: OnceLock::new(),
            sources,
            places,
            warnings,
            joined: Mutex::default(),
            equal: Mutex::default(),
            counters: None,
            failed: AtomicBool::new(false),
            presence_only: false,
        }
    }

    /// Counts and logs the first failure to read.
    pub(crate) fn counted(mut self, counters: &Arc<Counters>) -> Self {
        self.counters = Some(Arc::clone(counters));
        self
    }

    fn note_failure(&self, error: &ReadError) {
        if let Some(counters) = &self.counters
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            counters.reads_failed.add(1);
            tracing::error!(%error, "samples cannot be read");
        }
    }

    /// Only when there are floats is wanted, not which: what is read holds staleness markers where they are and any number
    /// elsewhere. Most columns need not be decoded for that.
    #[must_use]
    pub fn presence_only(self) -> Self {
        Self { presence_only: true, ..self }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Label sets in ascending order, each once.
    pub fn labels(&self) -> &[Labels] {
        match &self.labels {
            SeriesLabels::Made(labels) => labels,
            SeriesLabels::Head(labels) => self.all.get_or_init(|| labels.all()),
            SeriesLabels::Block(labels) => self.all.get_or_init(|| labels.all()),
        }
    }

    /// Labels of the series `range` (indexes into [`Selection::labels`]), or those of them that are wanted. Equal ones may share
    /// memory. Cheaper than all at once where few of the labels are wanted, or few at a time.
    pub fn labels_of(&self, range: Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels> {
        match &self.labels {
            SeriesLabels::Head(labels) => labels.kept(range, kept),
            SeriesLabels::Block(labels) => labels.kept(range, kept),
            SeriesLabels::Made(labels) => labels[range].iter().map(|labels| kept.of(labels)).collect(),
        }
    }

    /// Calls `each` with the names and values of the labels of the series `range`, one series after the other, in the order of
    /// [`Selection::labels`]; names ascend. Cheaper than label sets for who only writes them down.
    pub fn each_label_set(&self, range: Range<usize>, each: &mut dyn FnMut(&LabelPairs<'_>)) {
        match &self.labels {
            SeriesLabels::Head(labels) => labels.each(range, each),
            SeriesLabels::Block(labels) => labels.each(range, each),
            SeriesLabels::Made(labels) => {
                for labels in &labels[range] {
                    each(&labels.iter().collect::<Vec<_>>());
                }
            }
        }
    }

    /// What could not be read, for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Samples with timestamps in `min_time..=max_time` of the series `range` (indexes into [`Selection::labels`]), one
    /// entry a series. Series whose timestamps are the same share one column, across calls too, if the store has it as one. May be
    /// called from several threads, for any part of the time that was asked for.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn read(
        &self,
        range: Range<usize>,
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Result<Vec<SeriesSamples>, ReadError> {
        let convert = |raw: RawSamples| SeriesSamples {
            floats: raw.floats,
            histograms: Column {
                timestamps: raw.histograms.timestamps,
                values: raw.histograms.values.iter().map(crate::HistogramSample::to_float).collect(),
                start_timestamps: raw.histograms.start_timestamps,
            },
        };
        Ok(self.read_raw(range, min_time, max_time)?.into_iter().map(convert).collect())
    }

    /// As [`Selection::read`], with histograms as they were sent.
    ///
    /// # Errors
    /// As [`Selection::read`].
    pub fn read_raw(
        &self,
        range: Range<usize>,
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Result<Vec<RawSamples>, ReadError> {
        let mut scratch = Scratch {
            values: Vec::new(),
            read: self.sources.iter().map(|_| BlockBuffers::default()).collect(),
            buffers: PieceBuffers::default(),
            pieces: Vec::new(),
            ranks: Vec::new(),
            found: Vec::new(),
            times: JoinedTimes::default(),
        };
        let samples: Result<_, ReadError> =
            range.map(|at| self.read_series(at, min_time, max_time, &mut scratch)).collect();
        samples.inspect_err(|error| self.note_failure(error))
    }

    fn read_series<'a>(
        &'a self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        scratch: &mut Scratch<'a>,
    ) -> Result<RawSamples, ReadError> {
        let Scratch { values, read, buffers, pieces, ranks: piece_ranks, found, times } = scratch;
        pieces.clear();
        buffers.clear();
        piece_ranks.clear();
        found.clear();
        let only = [(0, at as u32)];
        let places = match &self.places {
            Places::One => &only[..],
            Places::Many { places, offsets } => &places[offsets[at] as usize..offsets[at + 1] as usize],
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut entry_ranks = Vec::new();
        for (source, position) in places {
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
                    piece.without(deleted, buffers, values, source.path())?
                } else {
                    Some(piece)
                };
                if let Some(piece) = piece {
                    pieces.push((piece, source));
                    piece_ranks.push(piece_rank);
                }
            }
        }
        if entries.is_empty() {
            let floats = self.float_column(pieces, buffers, values, times)?;
            return Ok(SeriesSamples { floats, histograms: Column::default() });
        }
        // stable: the first stored stays in front of others of its time
        let mut ranked: Vec<(Entry, u32)> = entries.into_iter().zip(entry_ranks).collect();
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
        let mut floats = self.float_column(pieces, buffers, values, times)?;
        drop_times(&mut floats, &hidden);
        Ok(SeriesSamples { floats, histograms: self.histogram_column(ranked.into_iter().map(|r| r.0).collect()) })
    }

    fn float_column(
        &self,
        pieces: &mut [(Piece<'_>, &Source)],
        buffers: &PieceBuffers,
        scratch: &mut Vec<f64>,
        times: &mut JoinedTimes,
    ) -> Result<Column<f64>, ReadError> {
        if pieces.is_empty() {
            return Ok(Column::default());
        }
        let apart = |pieces: &[(Piece<'_>, &Source)]| pieces.windows(2).all(|w| w[0].0.last() < w[1].0.first());
        if !apart(pieces) {
            // stable: of equal timestamps that of the first piece counts, should they overlap after all
            let mut order: Vec<&Piece<'_>> = pieces.iter().map(|(p, _)| p).collect();
            order.sort_by_key(|p| p.first());
            if order.windows(2).any(|w| w[0].last() >= w[1].first()) {
                return merge(pieces, buffers, scratch);
            }
            pieces.sort_by_key(|(p, _)| p.first());
        }
        let count = pieces.iter().map(|(p, _)| p.rows.len()).sum();
        let mut values = Vec::with_capacity(count);
        for (piece, source) in &*pieces {
            piece.values(self.presence_only, buffers, &mut values, scratch, source.path())?;
        }
        if values.len() != count {
            return Err(crate::error::Damaged("value column").in_file(pieces[0].1.path()));
        }
        let start_timestamps = pieces.iter().any(|(p, _)| p.starts().is_some()).then(|| {
            let zeros = |p: &Piece<'_>| vec![0; p.rows.len()];
            pieces.iter().flat_map(|(p, _)| p.starts().map_or_else(|| zeros(p), <[_]>::to_vec)).collect()
        });
        Ok(Column { timestamps: self.times_of(pieces, buffers, times), values, start_timestamps })
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
                Times::Alone(_) => return only.times(buffers).into(),
                _ => {}
            }
        }
        buffer.clear();
        let gather =
            |buffer: &mut Vec<Timestamp>| pieces.iter().for_each(|(p, _)| buffer.extend_from_slice(p.times(buffers)));
        if pieces.iter().any(|(p, _)| matches!(p.times, Times::Alone(_))) {
            gather(buffer);
            return buffer[..].into();
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

    fn histogram_column(&self, entries: Vec<Entry>) -> Column<crate::HistogramSample> {
        let starts = entries.iter().any(|e| e.start != 0).then(|| entries.iter().map(|e| e.start).collect());
        Column {
            timestamps: self.share(&entries.iter().map(|e| e.time).collect::<Vec<_>>()),
            values: entries.into_iter().map(|e| e.sample).collect(),
            start_timestamps: starts,
        }
    }
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

/// The label sets of several lists, each ascending, each once and in order, and where each is.
fn merge_labels(lists: &[Vec<Labels>], pace: &Pace<'_>) -> (Vec<Labels>, Places) {
    let most = lists.iter().map(Vec::len).max().unwrap_or(0);
    let mut labels = Vec::with_capacity(most);
    let (mut places, mut offsets) = (Vec::with_capacity(most * lists.len()), Vec::with_capacity(most + 1));
    offsets.push(0);
    let mut heads = vec![0usize; lists.len()];
    let same = |a: &Labels, b: &Labels| a.as_bytes() == b.as_bytes();
    while pace.done(4 * lists.len()) {
        let mut least: Option<&Labels> = None;
        for (list, at) in lists.iter().zip(&heads) {
            if let Some(labels) = list.get(*at)
                && least.is_none_or(|least| !same(labels, least) && labels < least)
            {
                least = Some(labels);
            }
        }
        let Some(least) = least else { break };
        for (source, (list, at)) in lists.iter().zip(&mut heads).enumerate() {
            if list.get(*at).is_some_and(|labels| same(labels, least)) {
                places.push((source as u32, *at as u32));
                *at += 1;
            }
        }
        offsets.push(places.len() as u32);
        labels.push(least.clone());
    }
    (labels, Places::Many { places, offsets })
}

/// Merges pieces that overlap; of equal timestamps the sample that was stored first counts, which is that of the first piece.
fn merge(
    pieces: &[(Piece<'_>, &Source)],
    buffers: &PieceBuffers,
    scratch: &mut Vec<f64>,
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
