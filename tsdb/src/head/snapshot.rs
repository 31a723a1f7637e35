use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use model::Timestamp;

use crate::error::{Damaged, ReadError};
use crate::head::chunk::{HeadChunk, OpenSet, take_starts};
use crate::head::group::Last;
use crate::head::groups::{Groups, Home};
use crate::head::histograms::{Entry, HistogramSeries};
use crate::head::out_of_order::OutOfOrderSeries;
use crate::head::tail::{RowSet, Tail};
use crate::piece::{Piece, PieceBuffers, Values};
use crate::tombstones::Interval;
use crate::watch::Pace;

const NOWHERE: u32 = u32::MAX;

/// Columns that lie next to each other in a file and have at most so many bytes are read at once and kept until all is read, up to so many of
/// all groups.
const KEPT: usize = 8 << 10;
const KEPT_ALL: usize = 4 << 20;

/// What some series had in the head at one moment. Commits are in it whole or not at all.
pub(crate) struct HeadSnapshot {
    groups: Vec<GroupSnapshot>,
    series: Vec<u32>,
    /// Group and position of each series.
    places: Vec<(u32, u32)>,
    histograms: HashMap<u32, HistogramSeries>,
    late: HashMap<u32, Arc<OutOfOrderSeries>>,
    tombstones: HashMap<u32, Vec<Interval>>,
    /// In-order samples before this are in blocks.
    floor: Timestamp,
    /// As [`HeadSnapshot::read_together`] says.
    together: bool,
    /// Bytes of columns that are kept.
    kept: AtomicUsize,
}

struct GroupSnapshot {
    width: usize,
    tail: Arc<Tail>,
    /// Those that overlap the range.
    chunks: Vec<Arc<HeadChunk>>,
    /// The series of each position, ascending by column once it is prepared.
    wanted: Vec<Wanted>,
    /// Rows outside of this are not wanted.
    range: (Timestamp, Timestamp),
    rows: OnceLock<Result<Rows, Damaged>>,
    /// Where the series are in the chunks, once somebody asks: the newest samples are mostly told without.
    columns: OnceLock<Vec<ChunkColumns>>,
    /// Not all of the newest samples need be floats.
    careful: bool,
}

/// A series of a group.
#[derive(Clone, Copy)]
struct Wanted {
    column: u32,
    series: u32,
    /// Its newest sample in order; the value is right if that is a float.
    last: Last,
}

/// Of each position of a group the set of a chunk, `NOWHERE` if it is in none, and the column in it. Where series come and go a chunk has
/// many sets, and a series is in one of them.
type SetColumns = Arc<[(u32, u32)]>;

/// Where the series of a group are in a chunk.
struct ChunkColumns {
    columns: SetColumns,
    sets: Box<[SetSnapshot]>,
}

/// The columns of a set that are wanted.
#[derive(Clone, Default)]
struct WantedColumns {
    /// All of them lie here.
    range: Range<u32>,
    count: u32,
}

/// A set of a chunk.
struct SetSnapshot {
    wanted: WantedColumns,
    /// What is read once.
    open: OnceLock<Arc<OpenSet>>,
}

/// What the tail has in the wanted range: columns, one for each position.
struct Rows {
    /// Timestamps that columns share.
    times: Vec<Arc<[Timestamp]>>,
    columns: Vec<RowColumn>,
    /// Of all columns, one after the other.
    values: Vec<f64>,
}

struct RowColumn {
    times: u32,
    /// Where its values begin.
    values: u32,
    starts: Option<Box<[Timestamp]>>,
}

impl Rows {
    fn times(&self, position: u32) -> &Arc<[Timestamp]> {
        &self.times[self.columns[position as usize].times as usize]
    }
}

impl HeadSnapshot {
    /// Takes what `series` have now in `range`, both ends included; what is read later must lie in it. Nothing is decoded yet. Called
    /// under the lock, so it only copies pointers.
    pub(crate) fn take(groups: &Groups, series: &[u32], range: (Timestamp, Timestamp)) -> Self {
        let range = (range.0.max(groups.bounds.min_valid), range.1);
        let mut snapshot = Self {
            groups: Vec::new(),
            series: series.to_vec(),
            places: Vec::with_capacity(series.len()),
            histograms: HashMap::new(),
            late: HashMap::new(),
            tombstones: HashMap::new(),
            floor: groups.bounds.min_valid,
            together: false,
            kept: AtomicUsize::new(0),
        };
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        // series with numbers near each other are often of one group
        let mut latest = None;
        for (at, id) in series.iter().enumerate() {
            let at = at as u32;
            match groups.home(*id) {
                Home::At(group, column) => {
                    let number = match latest {
                        Some((known, number)) if known == group => number,
                        _ => *numbers.entry(group).or_insert_with(|| {
                            snapshot.groups.push(GroupSnapshot::of(groups, group, range));
                            snapshot.groups.len() as u32 - 1
                        }),
                    };
                    latest = Some((group, number));
                    let last = groups.group(group).map_or(Last::NEVER, |g| g.last(column));
                    let wanted = &mut snapshot.groups[number as usize].wanted;
                    snapshot.places.push((number, wanted.len() as u32));
                    wanted.push(Wanted { column, series: *id, last });
                }
                Home::None | Home::Gone => snapshot.places.push((NOWHERE, 0)),
            }
            if !groups.histograms.is_empty()
                && let Some(column) = groups.histograms.get(*id)
            {
                snapshot.histograms.insert(at, column.clone());
            }
            if !groups.out_of_order.is_empty()
                && let Some(late) = groups.late(*id)
            {
                snapshot.late.insert(at, late);
            }
            if !groups.tombstones.is_empty() && !groups.tombstones.get(*id).is_empty() {
                snapshot.tombstones.insert(at, groups.tombstones.get(*id).to_vec());
            }
        }
        snapshot
    }

    /// The part of [`HeadSnapshot::take`] that needs no lock, before anything is read.
    pub(crate) fn prepare(&mut self) {
        let moved: Vec<Option<Vec<u32>>> = self.groups.iter_mut().map(GroupSnapshot::prepare).collect();
        if moved.iter().all(Option::is_none) {
            return;
        }
        for (group, position) in &mut self.places {
            if let Some(Some(moved)) = moved.get(*group as usize) {
                *position = moved[*position as usize];
            }
        }
    }

    /// All that is wanted will be read, of few series: what lies together in a file is read at once and kept.
    pub(crate) fn read_together(&mut self) {
        self.together = true;
    }

    /// Whether a series may have samples in the range.
    pub(crate) fn may_have(&self, at: usize, min_time: Timestamp, max_time: Timestamp) -> bool {
        let key = at as u32;
        if let Some(late) = self.late.get(&key)
            && let (Some(min), Some(max)) = (late.min_time(), late.max_time())
            && min <= max_time
            && max >= min_time
        {
            return true;
        }
        let min_time = min_time.max(self.floor);
        if self.histograms.get(&key).is_some_and(|h| h.min_time() <= max_time && h.max_time() >= min_time) {
            return true;
        }
        let (group, position) = self.places[at];
        let Some(group) = self.groups.get(group as usize) else { return false };
        if (min_time..=max_time).contains(&group.wanted[position as usize].last.time) {
            return true;
        }
        // those of equal timestamps begin and end with a sample
        let in_chunk = |(chunk, columns): (&HeadChunk, &ChunkColumns)| {
            let set = chunk.sets.get(columns.columns[position as usize].0 as usize);
            set.is_some_and(|set| {
                let inside = min_time <= set.min_time && set.max_time <= max_time;
                if set.rows == 0 { inside } else { set.overlaps(min_time, max_time) }
            })
        };
        let in_own_times = |(chunk, columns): (&HeadChunk, &ChunkColumns)| {
            let place = columns.columns[position as usize];
            let set = chunk.sets.get(place.0 as usize);
            set.is_some_and(|set| set.rows == 0 && set.overlaps(min_time, max_time))
                && times_of(chunk, place).map_or(true, |times| is_among(&times, min_time, max_time))
        };
        if group.chunks().any(in_chunk) || group.chunks().any(in_own_times) {
            return true;
        }
        if group.tail.rows() == 0 || group.tail.min_time > max_time || group.tail.max_time < min_time {
            return false;
        }
        let Ok(rows) = group.rows() else { return true };
        is_among(rows.times(position), min_time, max_time)
    }

    /// The positions of series that may have samples in the range.
    pub(crate) fn present(&self, min_time: Timestamp, max_time: Timestamp, pace: &Pace<'_>) -> Vec<u32> {
        let present = |at: &u32| pace.done(1) && self.may_have(*at as usize, min_time, max_time);
        (0..self.series.len() as u32).filter(present).collect()
    }

    /// Those of the series that are at these positions, in their order.
    pub(crate) fn pick(mut self, positions: &[u32]) -> Self {
        self.places = positions.iter().map(|at| self.places[*at as usize]).collect();
        if !self.histograms.is_empty() || !self.late.is_empty() || !self.tombstones.is_empty() {
            let mut numbers = vec![NOWHERE; self.series.len()];
            positions.iter().enumerate().for_each(|(to, from)| numbers[*from as usize] = to as u32);
            let renumber = |at: u32| numbers.get(at as usize).copied().filter(|n| *n != NOWHERE);
            self.histograms = self.histograms.into_iter().filter_map(|(at, v)| Some((renumber(at)?, v))).collect();
            self.late = self.late.into_iter().filter_map(|(at, v)| Some((renumber(at)?, v))).collect();
            self.tombstones = self.tombstones.into_iter().filter_map(|(at, v)| Some((renumber(at)?, v))).collect();
        }
        self.series = positions.iter().map(|at| self.series[*at as usize]).collect();
        self
    }

    /// Only the out-of-order samples.
    pub(crate) fn only_late(mut self) -> Self {
        self.groups.clear();
        self.places.iter_mut().for_each(|p| *p = (NOWHERE, 0));
        self.histograms.clear();
        self
    }

    /// The out-of-order samples, by series.
    pub(crate) fn late(&self) -> Vec<(u32, Arc<OutOfOrderSeries>)> {
        self.late.iter().map(|(at, late)| (self.series[*at as usize], Arc::clone(late))).collect()
    }

    /// Whether a series has float samples in order and nothing else.
    pub(crate) fn is_plain(&self, at: usize) -> bool {
        let key = at as u32;
        !self.histograms.contains_key(&key) && !self.late.contains_key(&key) && !self.tombstones.contains_key(&key)
    }

    /// The newest sample in a range of a series that [`HeadSnapshot::is_plain`], if that can be told from the newest of all: mostly what is
    /// asked for are the newest, and then nothing needs to be decoded.
    pub(crate) fn newest(
        &self,
        at: usize,
        (min_time, max_time): (Timestamp, Timestamp),
    ) -> Option<Option<(Timestamp, f64)>> {
        let (group, position) = self.places[at];
        let Some(group) = self.groups.get(group as usize) else { return Some(None) };
        let Last { time, value } = group.wanted[position as usize].last;
        if group.careful || time > max_time {
            return None;
        }
        let inside = time != Timestamp::MIN && time >= min_time.max(self.floor);
        Some(inside.then_some((time, value)))
    }

    /// Whether rows have been looked at.
    #[cfg(test)]
    pub(crate) fn is_decoded(&self) -> bool {
        self.groups.iter().any(|group| group.rows.get().is_some())
    }

    /// Appends the float samples of a series; those out of order come last, since they were stored last.
    pub(crate) fn pieces<'a>(
        &'a self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        buffers: &mut PieceBuffers,
        out: &mut Vec<Piece<'a>>,
    ) -> Result<(), ReadError> {
        self.in_order(at, (min_time.max(self.floor), max_time), buffers, out)?;
        if let Some(late) = self.late.get(&(at as u32)) {
            let from = late.floats.partition_point(|s| s.0 < min_time);
            let to = late.floats.partition_point(|s| s.0 <= max_time);
            if from < to {
                let times = late.floats[from..to].iter().map(|s| s.0).collect();
                let values = late.floats[from..to].iter().map(|s| s.1).collect();
                let piece = Piece::new(times, false, Values::Owned(values), None, (min_time, max_time));
                out.extend(piece.map(Piece::late));
            }
        }
        Ok(())
    }

    /// How many bytes of columns of a set may be kept.
    fn may_keep(&self, wanted: &WantedColumns) -> usize {
        // what lies between them would be kept for nothing
        if wanted.range.len() > wanted.count as usize * 2 {
            0
        } else if self.together {
            usize::MAX
        } else {
            KEPT_ALL.saturating_sub(self.kept.load(Ordering::Relaxed)).min(KEPT)
        }
    }

    fn in_order<'a>(
        &'a self,
        at: usize,
        (min_time, max_time): (Timestamp, Timestamp),
        buffers: &mut PieceBuffers,
        out: &mut Vec<Piece<'a>>,
    ) -> Result<(), ReadError> {
        let (group, position) = self.places[at];
        let Some(group) = self.groups.get(group as usize) else { return Ok(()) };
        for (chunk, ChunkColumns { columns, sets }) in group.chunks() {
            let (set, column) = columns[position as usize];
            let set = set as usize;
            if !chunk.sets.get(set).is_some_and(|set| set.overlaps(min_time, max_time)) {
                continue;
            }
            let SetSnapshot { wanted, open } = &sets[set];
            let open = match open.get() {
                Some(open) => open,
                None => {
                    let kept = self.may_keep(wanted);
                    let fresh = Arc::new(chunk.open_set(set, wanted.range.clone(), kept)?);
                    self.kept.fetch_add(fresh.kept(), Ordering::Relaxed);
                    open.get_or_init(|| fresh)
                }
            };
            let bytes = chunk.column(set, open, column, &mut buffers.read)?;
            let damaged = |e: Damaged| e.in_file(chunk.path());
            let (own, rest) = chunk.take_times(set, bytes)?;
            let shared = own.is_none();
            let times = own.unwrap_or_else(|| Arc::clone(&open.times));
            let (starts, values) = take_starts(rest, times.len()).map_err(damaged)?;
            let values = Values::encoded(values, &mut buffers.encoded);
            out.extend(Piece::new(times, shared, values, starts, (min_time, max_time)));
        }
        if group.tail.rows() > 0 && group.tail.min_time <= max_time && group.tail.max_time >= min_time {
            let rows = group.rows().map_err(|e| e.in_file("head".as_ref()))?;
            let RowColumn { values, starts, .. } = &rows.columns[position as usize];
            let times = rows.times(position);
            let range = (min_time, max_time);
            let values = Values::Borrowed(&rows.values[*values as usize..*values as usize + times.len()]);
            let starts = starts.as_deref().map(<[_]>::to_vec);
            out.extend(Piece::new(Arc::clone(times), true, values, starts, range));
        }
        Ok(())
    }

    /// Appends the histogram samples of a series; those out of order come last.
    pub(crate) fn histograms(
        &self,
        at: usize,
        min_time: Timestamp,
        max_time: Timestamp,
        out: &mut Vec<Entry>,
    ) -> Result<(), ReadError> {
        if let Some(column) = self.histograms.get(&(at as u32)) {
            column.read(min_time.max(self.floor), max_time, out)?;
        }
        if let Some(late) = self.late.get(&(at as u32)) {
            let wanted = late.histograms.iter().filter(|s| (min_time..=max_time).contains(&s.0));
            out.extend(wanted.map(|(time, sample)| Entry {
                time: *time,
                start: 0,
                sample: sample.clone(),
                late: true,
            }));
        }
        Ok(())
    }

    /// Deleted ranges of a series.
    pub(crate) fn tombstones(&self, at: usize) -> &[Interval] {
        self.tombstones.get(&(at as u32)).map_or(&[], Vec::as_slice)
    }
}

/// Whether one of the times, which ascend, is in the range.
fn is_among(times: &[Timestamp], min_time: Timestamp, max_time: Timestamp) -> bool {
    times.get(times.partition_point(|t| *t < min_time)).is_some_and(|t| *t <= max_time)
}

/// The timestamps of a column of a set.
fn times_of(chunk: &HeadChunk, (set, column): (u32, u32)) -> Result<Arc<[Timestamp]>, ReadError> {
    let mut read = Vec::new();
    let open = chunk.open_set(set as usize, column..column + 1, 0)?;
    let bytes = chunk.column(set as usize, &open, column, &mut read)?;
    let (own, _) = chunk.take_times(set as usize, bytes)?;
    Ok(own.unwrap_or_else(|| Arc::clone(&open.times)))
}

/// Where the series are in the only set of a chunk, if it has all of them in their order: seldom does a group's list change.
fn columns_in_order(wanted: &[Wanted], set: &[u32]) -> Option<Vec<(u32, u32)>> {
    let mut columns = 0..set.len();
    wanted.iter().map(|w| Some((0, columns.find(|column| set[*column] == w.series)? as u32))).collect()
}

impl GroupSnapshot {
    fn of(groups: &Groups, number: u32, range: (Timestamp, Timestamp)) -> Self {
        let overlaps = |min_time, max_time| min_time <= range.1 && max_time >= range.0;
        let (mut width, mut tail, mut chunks, mut careful) = (0, Arc::default(), Vec::new(), false);
        if let Some(group) = groups.group(number) {
            (width, careful) = (group.series.len(), group.careful);
            // who appends to what is not held need not copy it
            if overlaps(group.tail.min_time, group.tail.max_time) {
                tail = Arc::clone(&group.tail);
            }
            chunks.extend(group.chunks.iter().filter(|c| overlaps(c.min_time(), c.max_time())).cloned());
        }
        let (rows, columns) = (OnceLock::new(), OnceLock::new());
        Self { width, tail, chunks, wanted: Vec::new(), range, rows, columns, careful }
    }

    /// Gives the new position of each series if they had to be put into the order of their columns.
    fn prepare(&mut self) -> Option<Vec<u32>> {
        if self.wanted.is_sorted_by_key(|w| w.column) {
            return None;
        }
        let mut order: Vec<u32> = (0..self.wanted.len() as u32).collect();
        order.sort_unstable_by_key(|at| self.wanted[*at as usize].column);
        self.wanted = order.iter().map(|at| self.wanted[*at as usize]).collect();
        let mut moved = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, from)| moved[*from as usize] = to as u32);
        Some(moved)
    }

    /// The chunks, and where the series are in them.
    fn chunks(&self) -> impl Iterator<Item = (&HeadChunk, &ChunkColumns)> {
        let columns = self.columns.get_or_init(|| self.find_columns());
        self.chunks.iter().map(|chunk| &**chunk).zip(columns)
    }

    fn find_columns(&self) -> Vec<ChunkColumns> {
        let mut positions: HashMap<u32, u32> = HashMap::new();
        // chunk after chunk has the same list of series
        let mut known: Vec<(*const u32, SetColumns, WantedColumns)> = Vec::new();
        let find = |chunk: &Arc<HeadChunk>| {
            let open = |wanted| SetSnapshot { wanted, open: OnceLock::new() };
            let list = if let [set] = &*chunk.sets { Some(set.series.as_ptr()) } else { None };
            if let Some((_, same, range)) = known.iter().find(|(known, ..)| Some(*known) == list) {
                return ChunkColumns { columns: Arc::clone(same), sets: [open(range.clone())].into() };
            }
            let in_order = if let [set] = &*chunk.sets { columns_in_order(&self.wanted, &set.series) } else { None };
            let fresh = in_order.unwrap_or_else(|| {
                if positions.is_empty() {
                    positions.extend(self.wanted.iter().enumerate().map(|(at, w)| (w.series, at as u32)));
                }
                let mut fresh = vec![(NOWHERE, 0); self.wanted.len()];
                for (number, set) in chunk.sets.iter().enumerate() {
                    for (column, series) in set.series.iter().enumerate() {
                        if let Some(at) = positions.get(series) {
                            fresh[*at as usize] = (number as u32, column as u32);
                        }
                    }
                }
                fresh
            });
            let mut ranges = vec![WantedColumns::default(); chunk.sets.len()];
            for (set, column) in &fresh {
                if let Some(WantedColumns { range, count }) = ranges.get_mut(*set as usize) {
                    *count += 1;
                    let start = if range.end == 0 { *column } else { range.start.min(*column) };
                    *range = start..range.end.max(*column + 1);
                }
            }
            let columns = SetColumns::from(fresh);
            known.extend(list.map(|list| (list, Arc::clone(&columns), ranges[0].clone())));
            ChunkColumns { columns, sets: ranges.into_iter().map(open).collect() }
        };
        self.chunks.iter().map(find).collect()
    }

    fn rows(&self) -> Result<&Rows, Damaged> {
        self.rows.get_or_init(|| self.decode()).as_ref().map_err(|e| *e)
    }

    fn decode(&self) -> Result<Rows, Damaged> {
        let wanted: Vec<u32> = self.wanted.iter().map(|w| w.column).collect();
        let mut columns = self.tail.decode(self.width, &wanted)?;
        // the first of those without samples
        let mut times: Vec<Arc<[Timestamp]>> = vec![Arc::from([])];
        // of each column its timestamps, and the part of its rows that is in range
        let mut parts = vec![(0u32, 0usize..0); wanted.len()];
        for RowSet { times: all, members, .. } in columns.share_rows() {
            let part = all.partition_point(|t| *t < self.range.0)..all.partition_point(|t| *t <= self.range.1);
            let part = part.start..part.end.max(part.start);
            members.iter().for_each(|at| parts[*at] = (times.len() as u32, part.clone()));
            times.push(all[part].into());
        }
        let mut values = Vec::with_capacity(parts.iter().map(|(_, part)| part.len()).sum());
        let mut taken = Vec::with_capacity(parts.len());
        for (column, (times, part)) in columns.columns.iter().zip(parts) {
            let starts = (!column.starts.is_empty()).then(|| {
                let mut starts = vec![0; column.values.len()];
                for (row, start) in &column.starts {
                    let at = column.rows.as_ref().map_or(Ok(*row as usize), |rows| rows.binary_search(row));
                    if let Some(to) = at.ok().and_then(|at| starts.get_mut(at)) {
                        *to = *start;
                    }
                }
                starts.get(part.clone()).unwrap_or_default().into()
            });
            taken.push(RowColumn { times, values: values.len() as u32, starts });
            values.extend_from_slice(column.values.get(part).ok_or(Damaged("head rows"))?);
        }
        columns.reuse();
        Ok(Rows { times, columns: taken, values })
    }
}
