mod columns;
mod newest;

use std::mem::take;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};

use hashbrown::HashMap;
use model::{Column, KeptLabels, LabelPairs, Labels, Timestamp};
use parking_lot::Mutex;

use self::columns::{Identity, JoinedTimes, to_float};
use crate::block::{BlockBuffers, BlockLabels, BlockSelection};
use crate::encoding::floats::Decoded;
use crate::error::ReadError;
use crate::head::{Entry, HeadLabels, HeadSnapshot};
use crate::metrics::Counters;
use crate::piece::{Piece, PieceBuffers, Values};
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
    read_ahead: Once,
    /// As much as threads have read at the same time.
    idle: Mutex<Vec<ReadBuffers>>,
    presence_only: bool,
}

/// Where the series of a selection lie.
enum Places {
    /// As they lie in the only source.
    One,
    /// For each series the sources that have it and its position there: those of series `i` are `places[offsets[i]..offsets[i + 1]]`.
    Many { places: Vec<(u32, u32)>, offsets: Vec<u32> },
}

impl Places {
    /// The sources that have a series and its position in each.
    fn of(&self, at: usize) -> PlacesOf<'_> {
        match self {
            Self::One => PlacesOf::One([(0, at as u32)]),
            Self::Many { places, offsets } => PlacesOf::Many(&places[offsets[at] as usize..offsets[at + 1] as usize]),
        }
    }
}

/// The places of one series.
enum PlacesOf<'a> {
    One([(u32, u32); 1]),
    Many(&'a [(u32, u32)]),
}

impl AsRef<[(u32, u32)]> for PlacesOf<'_> {
    fn as_ref(&self) -> &[(u32, u32)] {
        match self {
            Self::One(place) => place,
            Self::Many(places) => places,
        }
    }
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

/// Bytes of a selection that the system is told to read when the first of its samples are asked for. They should not take the place of all
/// else it has in memory.
const READ_AHEAD: u64 = 32 << 20;

/// Memory that reading takes, which who reads the next series of a selection uses again.
#[derive(Default)]
struct ReadBuffers {
    decoded: Decoded,
    /// For each source.
    read: Vec<BlockBuffers>,
    /// What pieces lie in.
    buffers: PieceBuffers,
}

/// What reading many series uses again from one to the next.
struct Scratch<'a> {
    memory: ReadBuffers,
    /// Where that goes in the end.
    idle: &'a Mutex<Vec<ReadBuffers>>,
    pieces: Vec<(Piece<'a>, &'a Source)>,
    /// Which of the pieces were stored before others.
    ranks: Vec<u32>,
    found: Vec<Piece<'a>>,
    times: JoinedTimes,
    /// No timestamps, for the many columns that have none.
    nothing: Arc<[Timestamp]>,
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        self.idle.lock().push(take(&mut self.memory));
    }
}

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

    /// For who begins to read.
    fn buffers(&self) -> BlockBuffers {
        match self {
            Self::Block(block) => block.buffers(),
            Self::Head(_) | Self::Loaded(_) => BlockBuffers::default(),
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
            read_ahead: Once::new(),
            idle: Mutex::default(),
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
        Ok(self.read_raw(range, min_time, max_time)?.into_iter().map(converted).collect())
    }

    /// As [`Selection::read`], series by series until `each` says no: who needs one at a time has the memory of one.
    ///
    /// # Errors
    /// As [`Selection::read`].
    pub fn read_each(
        &self,
        range: Range<usize>,
        min_time: Timestamp,
        max_time: Timestamp,
        each: &mut dyn FnMut(SeriesSamples) -> bool,
    ) -> Result<(), ReadError> {
        let mut scratch = self.scratch();
        for at in range {
            let raw = self.read_series(at, min_time, max_time, &mut scratch);
            if !each(converted(raw.inspect_err(|error| self.note_failure(error))?)) {
                break;
            }
        }
        Ok(())
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
        let mut scratch = self.scratch();
        let samples: Result<_, ReadError> =
            range.map(|at| self.read_series(at, min_time, max_time, &mut scratch)).collect();
        samples.inspect_err(|error| self.note_failure(error))
    }

    /// Has the system begin to read what lies in blocks, for who begins to read.
    fn read_ahead(&self) {
        let mut left = READ_AHEAD;
        for source in &self.sources {
            if let Source::Block(block) = source {
                left -= block.read_ahead(left);
            }
        }
    }

    fn scratch(&self) -> Scratch<'_> {
        self.read_ahead.call_once(|| self.read_ahead());
        let mut memory = self.idle.lock().pop().unwrap_or_default();
        if memory.read.is_empty() {
            memory.read.extend(self.sources.iter().map(Source::buffers));
        }
        Scratch {
            memory,
            idle: &self.idle,
            pieces: Vec::new(),
            ranks: Vec::new(),
            found: Vec::new(),
            times: JoinedTimes::default(),
            nothing: Arc::from([]),
        }
    }
}

fn converted(raw: RawSamples) -> SeriesSamples {
    SeriesSamples { floats: raw.floats, histograms: to_float(raw.histograms) }
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
