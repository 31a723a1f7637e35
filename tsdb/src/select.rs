use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};
use model::{Column, Labels, Timestamp};
use parking_lot::Mutex;

use crate::block::{BlockSelection, PageBuffer};
use crate::error::ReadError;
use crate::head::{Entry, HeadSnapshot};
use crate::metrics::Counters;
use crate::piece::{Piece, Values};
use crate::sample::{RawSamples, SeriesSamples};
use crate::tombstones::Interval;

/// Series that match a request, in label order, and their samples at the moment of the request.
pub struct Selection {
    labels: Vec<Labels>,
    sources: Vec<Source>,
    /// For each series the sources that have it and its position there: those of series `i` are
    /// `places[offsets[i]..offsets[i + 1]]`.
    places: Vec<(u32, u32)>,
    offsets: Vec<u32>,
    warnings: Vec<String>,
    joined: Mutex<HashMap<Vec<Identity>, Arc<[Timestamp]>>>,
    equal: Mutex<HashSet<Arc<[Timestamp]>>>,
    /// Where failures are counted, if they are to be.
    counters: Option<Arc<Counters>>,
    failed: AtomicBool,
    presence_only: bool,
}

/// What reading many series uses again from one to the next.
struct Scratch {
    values: Vec<f64>,
    /// For each source.
    pages: Vec<PageBuffer>,
}

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
        pages: &mut PageBuffer,
        out: &mut Vec<Piece<'a>>,
    ) -> Result<(), ReadError> {
        match self {
            Self::Head(head) => head.pieces(at, min, max, out),
            Self::Block(block) => block.pieces(at, min, max, pages, out),
            Self::Loaded(columns) => {
                let Column { timestamps, values, start_timestamps } = &columns[at];
                let starts = start_timestamps.as_deref().map(<[_]>::to_vec);
                out.extend(Piece::new(Arc::clone(timestamps), Values::Borrowed(values), starts, min, max));
                Ok(())
            }
        }
    }

    fn histograms(&self, at: usize, min: Timestamp, max: Timestamp, out: &mut Vec<Entry>) -> Result<(), ReadError> {
        match self {
            Self::Head(head) => head.histograms(at, min, max, out),
            Self::Block(block) => block.histograms(at, min, max, out),
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
        let mut sources = Vec::with_capacity(parts.len());
        let mut lists: Vec<std::iter::Peekable<std::iter::Enumerate<std::vec::IntoIter<Labels>>>> = Vec::new();
        for (source, labels) in parts {
            sources.push(source);
            lists.push(labels.into_iter().enumerate().peekable());
        }
        let mut selection = Self {
            labels: Vec::new(),
            sources,
            places: Vec::new(),
            offsets: vec![0],
            warnings,
            joined: Mutex::default(),
            equal: Mutex::default(),
            counters: None,
            failed: AtomicBool::new(false),
            presence_only: false,
        };
        loop {
            let least = lists.iter_mut().filter_map(|l| l.peek().map(|(_, labels)| labels)).min().cloned();
            let Some(least) = least else { break };
            for (source, list) in lists.iter_mut().enumerate() {
                if let Some((at, _)) = list.next_if(|(_, labels)| *labels == least) {
                    selection.places.push((source as u32, at as u32));
                }
            }
            selection.offsets.push(selection.places.len() as u32);
            selection.labels.push(least);
        }
        selection
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

    /// Label sets in ascending order, each once.
    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// What could not be read, for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Samples with timestamps in `min_time..=max_time` of the series `range` (indexes into [`Selection::labels`]), one
    /// entry a series. Series whose timestamps are the same share one column, across calls too. May be called from several
    /// threads, for any part of the time that was asked for.
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
        let mut scratch =
            Scratch { values: Vec::new(), pages: self.sources.iter().map(|_| PageBuffer::default()).collect() };
        let samples: Result<_, ReadError> =
            range.map(|at| self.read_series(at, min_time, max_time, &mut scratch)).collect();
        samples.inspect_err(|error| self.note_failure(error))
    }

    fn read_series(
        &self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        scratch: &mut Scratch,
    ) -> Result<RawSamples, ReadError> {
        let Scratch { values: scratch, pages } = scratch;
        let places = &self.places[self.offsets[at] as usize..self.offsets[at + 1] as usize];
        let mut pieces: Vec<(Piece<'_>, &Source)> = Vec::new();
        let mut found = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        // which of the pieces and histograms were stored before others
        let (mut piece_ranks, mut entry_ranks) = (Vec::new(), Vec::new());
        for (source, position) in places {
            let rank = *source * 2;
            let pages = &mut pages[*source as usize];
            let source = &self.sources[*source as usize];
            let position = *position as usize;
            let tombstones = source.tombstones(position);
            let deleted = |time: Timestamp| tombstones.iter().any(|t| t.contains(time));
            let first = entries.len();
            source.histograms(position, min_time, max_time, &mut entries)?;
            if !tombstones.is_empty() {
                let mut kept = entries.split_off(first);
                kept.retain(|e| !deleted(e.time));
                entries.append(&mut kept);
            }
            entry_ranks.extend(entries[first..].iter().map(|e| rank + u32::from(e.late)));
            source.pieces(position, min_time, max_time, pages, &mut found)?;
            for piece in found.drain(..) {
                let piece_rank = rank + u32::from(piece.late);
                let piece = if !tombstones.is_empty() && piece.times().iter().any(|t| deleted(*t)) {
                    piece.without(deleted, scratch, source.path())?
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
            return Ok(SeriesSamples { floats: self.float_column(pieces, scratch)?, histograms: Column::default() });
        }
        // stable: the first stored stays in front of others of its time
        let mut ranked: Vec<(Entry, u32)> = entries.into_iter().zip(entry_ranks).collect();
        ranked.sort_by_key(|(e, _)| e.time);
        ranked.dedup_by_key(|(e, _)| e.time);
        let mut hidden = Vec::new();
        ranked.retain(|(entry, rank)| {
            let has = |piece: &Piece<'_>| piece.times().binary_search(&entry.time).is_ok();
            let floats = pieces.iter().zip(&piece_ranks).filter(|((piece, _), _)| has(piece));
            match floats.map(|(_, rank)| *rank).min() {
                Some(float) if float <= *rank => false,
                Some(_) => {
                    hidden.push(entry.time);
                    true
                }
                None => true,
            }
        });
        let mut floats = self.float_column(pieces, scratch)?;
        drop_times(&mut floats, &hidden);
        Ok(SeriesSamples { floats, histograms: self.histogram_column(ranked.into_iter().map(|r| r.0).collect()) })
    }

    fn float_column(
        &self,
        mut pieces: Vec<(Piece<'_>, &Source)>,
        scratch: &mut Vec<f64>,
    ) -> Result<Column<f64>, ReadError> {
        if pieces.is_empty() {
            return Ok(Column::default());
        }
        let apart = |order: &[&Piece<'_>]| order.windows(2).all(|w| w[0].last() < w[1].first());
        let mut order: Vec<&Piece<'_>> = pieces.iter().map(|(p, _)| p).collect();
        if !apart(&order) {
            order.sort_by_key(|p| p.first());
            if !apart(&order) {
                return merge(&pieces, scratch);
            }
            pieces.sort_by_key(|(p, _)| p.first());
        }
        let count = pieces.iter().map(|(p, _)| p.rows.len()).sum();
        let mut values = Vec::with_capacity(count);
        for (piece, source) in &pieces {
            piece.values(self.presence_only, &mut values, scratch, source.path())?;
        }
        if values.len() != count {
            return Err(crate::error::Damaged("value column").in_file(pieces[0].1.path()));
        }
        let start_timestamps = pieces.iter().any(|(p, _)| p.starts().is_some()).then(|| {
            let zeros = |p: &Piece<'_>| vec![0; p.rows.len()];
            pieces.iter().flat_map(|(p, _)| p.starts().map_or_else(|| zeros(p), <[_]>::to_vec)).collect()
        });
        Ok(Column { timestamps: self.times_of(&pieces, count), values, start_timestamps })
    }

    fn times_of(&self, pieces: &[(Piece<'_>, &Source)], count: usize) -> Arc<[Timestamp]> {
        if let [(only, _)] = pieces
            && only.rows == (0..only.times.len())
        {
            return Arc::clone(&only.times);
        }
        let key: Vec<Identity> = pieces.iter().map(|(p, _)| p.identity()).collect();
        if let Some(times) = self.joined.lock().get(&key) {
            return Arc::clone(times);
        }
        let mut times = Vec::with_capacity(count);
        pieces.iter().for_each(|(p, _)| times.extend_from_slice(p.times()));
        let times = self.share(times);
        // only columns that the sources keep have an address to go by
        if pieces.iter().all(|(p, _)| p.lasting) {
            self.joined.lock().insert(key, Arc::clone(&times));
        }
        times
    }

    /// One `Arc` for equal timestamps.
    fn share(&self, times: Vec<Timestamp>) -> Arc<[Timestamp]> {
        let mut equal = self.equal.lock();
        if let Some(known) = equal.get(&times[..]) {
            return Arc::clone(known);
        }
        let times: Arc<[Timestamp]> = times.into();
        equal.insert(Arc::clone(&times));
        times
    }

    fn histogram_column(&self, entries: Vec<Entry>) -> Column<crate::HistogramSample> {
        let starts = entries.iter().any(|e| e.start != 0).then(|| entries.iter().map(|e| e.start).collect());
        Column {
            timestamps: self.share(entries.iter().map(|e| e.time).collect()),
            values: entries.into_iter().map(|e| e.sample).collect(),
            start_timestamps: starts,
        }
    }
}

/// Merges pieces that overlap; of equal timestamps the sample that was stored first counts, which is that of the first piece.
fn merge(pieces: &[(Piece<'_>, &Source)], scratch: &mut Vec<f64>) -> Result<Column<f64>, ReadError> {
    let mut samples: Vec<(Timestamp, f64, Timestamp)> = Vec::new();
    let mut values = Vec::new();
    let mut any_start = false;
    for (piece, source) in pieces {
        values.clear();
        piece.values(false, &mut values, scratch, source.path())?;
        let starts = piece.starts();
        any_start |= starts.is_some();
        let start = |at: usize| starts.and_then(|s| s.get(at)).copied().unwrap_or(0);
        samples.extend(piece.times().iter().zip(&values).enumerate().map(|(at, (t, v))| (*t, *v, start(at))));
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
