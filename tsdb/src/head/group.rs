use std::sync::Arc;

use model::Timestamp;

use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;
use crate::head::bits::{self, is_set, set};
use crate::head::changes::{put_change, take_change};
use crate::head::chunk::{HeadChunk, Sealing};
use crate::head::spill::{ImageFiles, SpillArea};
use crate::head::tail::{ScatteredCell, Tail, is_sparse};
use crate::wal::record::{put_ids, take_ids};

/// Rows after which a tail is sealed; narrow groups wait longer, since each chunk has its price.
const ROWS: u32 = 64;
const ROWS_NARROW: u32 = 120;
const NARROW: usize = 32;

/// Series that are sampled together for a while. It says where samples lie, not what belongs together: ordering is
/// checked per column, and a row may come from anywhere and have any of the columns. A series stays in its group until it
/// leaves the head.
pub(crate) struct Group {
    /// The series of each column. The first `live` are those of the last layout, in the order rows come in; behind them
    /// are columns added since, and columns that had no value for a whole tail.
    pub(crate) series: Vec<u32>,
    pub(crate) live: usize,
    /// Behind the layout and before this column are those added since; what is behind it had no value for a whole tail, and has one
    /// in this tail only if its series came back.
    extent: usize,
    /// Time and value of the last sample of each column's series, wherever it lies.
    last: Vec<Last>,
    /// Columns that have a value in the tail, by number.
    seen: Vec<u64>,
    /// The latest of all `last` times.
    max_time: Timestamp,
    /// The first `live` columns all have a value in the tail.
    all_seen: bool,
    /// Some column's series has histograms too: rows need the careful path.
    pub(crate) careful: bool,
    pub(crate) tail: Arc<Tail>,
    pub(crate) chunks: Vec<Arc<HeadChunk>>,
    /// The columns of the last row in its order, if it was another than the layout: the next one is most like it. May be out of date.
    order: Vec<u32>,
    /// The order of the last row, if it was another than the layout.
    wish: Option<Vec<u32>>,
}

/// The newest sample of a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) time: Timestamp,
    pub(crate) value: f64,
}

impl Last {
    pub(crate) const NEVER: Self = Self { time: Timestamp::MIN, value: 0.0 };
}

impl Group {
    pub(crate) fn new() -> Self {
        Self {
            series: Vec::new(),
            live: 0,
            extent: 0,
            last: Vec::new(),
            seen: Vec::new(),
            max_time: Timestamp::MIN,
            all_seen: false,
            careful: false,
            tail: Arc::default(),
            chunks: Vec::new(),
            order: Vec::new(),
            wish: None,
        }
    }

    /// Adds a column before those that are out of use, so that a row is no longer for them. Returns its number, and the series whose
    /// column made place for it with its new number.
    pub(crate) fn add(&mut self, series: u32, last: Last) -> (u32, Option<(u32, u32)>) {
        let end = self.series.len();
        if end == self.series.capacity() {
            let more = (end / 4).max(1);
            self.series.reserve_exact(more);
            self.last.reserve_exact(more);
        }
        self.series.push(series);
        self.last.push(last);
        self.max_time = self.max_time.max(last.time);
        if end / 64 == self.seen.len() {
            self.seen.push(0);
        }
        // rows of the tail refer to columns by number
        while self.extent < end && is_set(&self.seen, self.extent) {
            self.extent += 1;
        }
        let column = self.extent;
        self.extent += 1;
        if column == end {
            return (column as u32, None);
        }
        self.series.swap(column, end);
        self.last.swap(column, end);
        (column as u32, Some((self.series[end], end as u32)))
    }

    pub(crate) fn reserve(&mut self, columns: usize) {
        self.series.reserve_exact(columns);
        self.last.reserve_exact(columns);
        self.seen.reserve_exact(bits::words(columns));
    }

    /// Whether a row of these series at this time is one the fast path takes: exactly the layout, and newer than all.
    pub(crate) fn is_next_row(&self, time: Timestamp, series: &[u32]) -> bool {
        self.live == series.len() && self.may_begin_row(time, series)
    }

    /// Whether a row that begins with these series may be one the fast path takes: such a part of it is newer than all as well.
    pub(crate) fn may_begin_row(&self, time: Timestamp, series: &[u32]) -> bool {
        time > self.max_time && !self.careful && self.series[..self.live].starts_with(series)
    }

    /// Appends the columns of the first of these series, as many as are expected in the next row one after the other from a place on. How
    /// many they are.
    pub(crate) fn take_expected(&self, at: usize, ids: &[u32], columns: &mut Vec<u32>) -> usize {
        if self.order.is_empty() {
            let layout = self.series[..self.live].get(at..).unwrap_or_default();
            let same = equal_at_first(ids, layout);
            columns.extend(at as u32..(at + same) as u32);
            return same;
        }
        let order = self.order.get(at..).unwrap_or_default();
        let is_of = |(id, column): &(&u32, &u32)| self.series.get(**column as usize) == Some(*id);
        let same = ids.iter().zip(order).take_while(is_of).count();
        columns.extend_from_slice(&order[..same]);
        same
    }

    /// Where a column is expected in the next row, looked for around a place; that place if it is not there.
    pub(crate) fn place_of(&self, column: u32, near: usize) -> usize {
        const AROUND: usize = 8;
        if self.order.is_empty() {
            return if (column as usize) < self.live { column as usize } else { near };
        }
        let from = near.saturating_sub(AROUND).min(self.order.len());
        let around = &self.order[from..self.order.len().min(near + AROUND)];
        around.iter().position(|there| *there == column).map_or(near, |at| from + at)
    }

    pub(crate) fn last(&self, column: u32) -> Last {
        self.last[column as usize]
    }

    /// Whether the series of a column has had no sample at `time` or since then.
    pub(crate) fn is_idle_since(&self, time: Timestamp, column: u32) -> bool {
        // in most tails all samples are that new
        let is_new = self.tail.min_time >= time && is_set(&self.seen, column as usize);
        !is_new && self.last(column).time < time
    }

    pub(crate) fn max_time(&self) -> Timestamp {
        self.max_time
    }

    /// Makes the columns there are the layout, before the first row.
    pub(crate) fn lay_out(&mut self) {
        self.live = self.series.len();
        self.extent = self.live;
    }

    /// Adds a row for which [`Group::is_next_row`] holds.
    pub(crate) fn push_row(&mut self, time: Timestamp, values: &[f64], starts: Option<&[Timestamp]>) {
        let Self { tail, last, seen, all_seen, live, .. } = self;
        let tail = Arc::make_mut(tail);
        if *all_seen {
            tail.push_dense(time, values, |c| last[c].value);
        } else {
            tail.push_dense(time, values, |c| if is_set(seen, c) { last[c].value } else { 0.0 });
        }
        for (column, last) in last[..*live].iter_mut().enumerate() {
            last.time = time;
            last.value = values[column];
        }
        if !*all_seen {
            bits::set_all(seen, 0..*live);
            *all_seen = true;
        }
        self.max_time = time;
        self.order = Vec::new();
        self.push_starts(starts.into_iter().flatten().enumerate().map(|(c, s)| (c as u32, *s)));
    }

    fn push_starts(&mut self, starts: impl Iterator<Item = (u32, Timestamp)>) {
        for (column, start) in starts.filter(|(_, s)| *s != 0) {
            Arc::make_mut(&mut self.tail).push_start(column, start);
        }
    }

    /// Adds a row of some columns, ascending by column: number, value, start timestamp or 0.
    pub(crate) fn push_cells(&mut self, time: Timestamp, cells: &[(u32, f64, Timestamp)]) {
        let width = cells.last().map_or(0, |cell| cell.0 as usize + 1);
        let before = |c: u32| if is_set(&self.seen, c as usize) { self.last[c as usize].value } else { 0.0 };
        let changes = cells.iter().map(|(c, v, _)| (*c, *v, before(*c)));
        Arc::make_mut(&mut self.tail).push_some(time, width, cells.len(), changes);
        for (column, value, _) in cells {
            self.last[*column as usize] = Last { time, value: *value };
            set(&mut self.seen, *column as usize);
        }
        self.max_time = self.max_time.max(time);
        self.push_starts(cells.iter().map(|(c, _, s)| (*c, *s)));
    }

    /// Whether samples of these series at these times are the layout, each newer than the last one of its series.
    pub(crate) fn is_next_scattered(&self, times: &[Timestamp], series: &[u32]) -> bool {
        !self.careful
            && self.series[..self.live] == *series
            && self.last.iter().zip(times).all(|(last, time)| *time > last.time)
    }

    /// Adds a row of columns with times of their own, ascending by column: number, time, value, start timestamp or 0. Each is newer than
    /// the last sample of its series.
    pub(crate) fn push_scattered(&mut self, cells: impl Iterator<Item = (u32, Timestamp, f64, Timestamp)> + Clone) {
        let width = cells.clone().last().map_or(0, |cell| cell.0 as usize + 1);
        let Self { tail, last, seen, .. } = self;
        let with_last = cells.clone().map(|(column, time, value, _)| {
            let before = Some(last[column as usize]).filter(|_| is_set(seen, column as usize));
            let (last, before) = (before.map(|b| b.time), before.map_or(0.0, |b| b.value));
            ScatteredCell { column, time, value, last, before }
        });
        Arc::make_mut(tail).push_scattered(width, with_last);
        for (column, time, value, _) in cells.clone() {
            self.last[column as usize] = Last { time, value };
            set(&mut self.seen, column as usize);
            self.max_time = self.max_time.max(time);
        }
        self.push_starts(cells.map(|(column, .., start)| (column, start)));
    }

    /// Adds a row that is newer than all and has these columns in any order. Of samples of one column the first counts; how many samples
    /// there are then.
    pub(crate) fn push_columns(
        &mut self,
        time: Timestamp,
        columns: Vec<u32>,
        values: &[f64],
        starts: Option<&[Timestamp]>,
    ) -> usize {
        let width = columns.iter().max().map_or(0, |last| *last as usize + 1);
        // by column, and a bit for each that is there
        let (mut row, mut present) = (vec![0f64; width], vec![0u64; bits::words(width)]);
        // from the end on, so that the first is what stays
        for (column, value) in columns.iter().zip(values).rev() {
            row[*column as usize] = *value;
            set(&mut present, *column as usize);
        }
        let count = present.iter().map(|word| word.count_ones() as usize).sum();
        let Self { tail, last, seen, max_time, .. } = self;
        let tail = Arc::make_mut(tail);
        if is_sparse(count, width) {
            let before = |column: usize| if is_set(seen, column) { last[column].value } else { 0.0 };
            let cells = bits::places(&present).map(|column| (column as u32, row[column], before(column)));
            tail.push_some(time, width, count, cells);
            for column in bits::places(&present) {
                last[column] = Last { time, value: row[column] };
            }
        } else {
            tail.push_present(time, &row, &present, |column, value| {
                let before = std::mem::replace(&mut last[column], Last { time, value });
                if is_set(seen, column) { before.value } else { 0.0 }
            });
        }
        seen.iter_mut().zip(&present).for_each(|(seen, present)| *seen |= present);
        *max_time = time.max(*max_time);
        // each column's bit is for its first sample
        let of_first = columns.iter().zip(starts.into_iter().flatten());
        let of_first = of_first.filter(|(column, _)| bits::clear(&mut present, **column as usize));
        self.push_starts(of_first.map(|(column, start)| (*column, *start)));
        // a few columns say little about the next row
        if !is_sparse(count, width) {
            self.order = columns;
        }
        count
    }

    /// The order in which rows come in now, for the next layout.
    pub(crate) fn wish_order(&mut self, series: &[u32]) {
        if self.wish.as_deref() != Some(series) {
            self.wish = Some(series.to_vec());
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        let rows = match self.series.first() {
            Some(first) if self.series.len() >= NARROW && self.chunks.is_empty() => first_rows(*first),
            _ if self.series.len() >= NARROW => ROWS,
            _ => ROWS_NARROW,
        };
        self.tail.rows() >= rows
    }

    /// Turns the tail into a chunk and lays the columns out anew: first those that are in use. Returns whether columns
    /// have changed their numbers.
    pub(crate) fn seal(&mut self, area: &SpillArea) -> bool {
        let tail = std::mem::take(&mut self.tail);
        let mut sealing = Sealing::default();
        sealing.add_all(&tail, &self.series);
        self.order = Vec::new();
        let last = self.chunks.last().and_then(|c| c.sets.first()).map(|s| &s.series);
        self.chunks.extend(sealing.finish(last, area).map(Arc::new));
        let used = |c: &usize| is_set(&self.seen, *c);
        let (mut order, live) = match self.wish.take() {
            Some(wish) => {
                let columns: hashbrown::HashMap<u32, usize> =
                    self.series.iter().enumerate().map(|(at, s)| (*s, at)).collect();
                // a row may name a series twice
                let mut named = vec![false; self.series.len()];
                let fresh = |c: &usize| !std::mem::replace(&mut named[*c], true);
                let order: Vec<usize> = wish.iter().filter_map(|s| columns.get(s).copied()).filter(fresh).collect();
                let live = order.len();
                (order, live)
            }
            None => {
                let order: Vec<usize> = (0..self.series.len()).filter(used).collect();
                let live = order.len();
                (order, live)
            }
        };
        let mut placed = vec![false; self.series.len()];
        order.iter().for_each(|c| placed[*c] = true);
        order.extend((0..self.series.len()).filter(|c| !placed[*c]));
        let moved = order.iter().enumerate().any(|(to, from)| to != *from);
        if moved {
            self.series = order.iter().map(|c| self.series[*c]).collect();
            self.last = order.iter().map(|c| self.last[*c]).collect();
        }
        (self.live, self.extent) = (live, live);
        self.seen.iter_mut().for_each(|s| *s = 0);
        self.all_seen = false;
        moved
    }

    /// Drops what is older than `min_time`, and the columns `gone` says are not needed. Returns whether columns have
    /// changed their numbers.
    pub(crate) fn truncate(&mut self, min_time: Timestamp, gone: impl Fn(u32) -> bool, area: &SpillArea) -> bool {
        self.chunks.retain(|c| c.max_time() >= min_time);
        if self.tail.rows() > 0 && self.tail.max_time < min_time {
            self.tail = Arc::default();
            self.seen.iter_mut().for_each(|s| *s = 0);
            self.all_seen = false;
        }
        if !self.series.iter().any(|s| gone(*s)) {
            return false;
        }
        if self.tail.rows() > 0 {
            self.seal(area);
        }
        let keep: Vec<usize> = (0..self.series.len()).filter(|c| !gone(self.series[*c])).collect();
        self.live = keep.iter().filter(|c| **c < self.live).count();
        self.extent = self.live;
        self.series = keep.iter().map(|c| self.series[*c]).collect();
        self.last = keep.iter().map(|c| self.last[*c]).collect();
        self.seen = vec![0; bits::words(keep.len())];
        self.max_time = self.last.iter().map(|l| l.time).max().unwrap_or(Timestamp::MIN);
        true
    }

    /// Appends the group, for an image of the head:
    ///
    /// ```text
    /// series list, live columns, flags (u8: 1 careful), latest time (zigzag), for each column: latest time - time of its last
    /// sample (zigzag), value of it as a change from 0; a bit for each column that is in the tail; tail; number of chunks, chunks
    /// ```
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_ids(out, &self.series);
        varint::put(out, self.live as u64);
        out.push(u8::from(self.careful));
        varint::put_signed(out, self.max_time);
        for last in &self.last {
            varint::put_signed(out, self.max_time.wrapping_sub(last.time));
            put_change(out, 0.0, last.value);
        }
        let seen = self.seen.iter().flat_map(|s| s.to_le_bytes());
        out.extend(seen.take(self.series.len().div_ceil(8)));
        self.tail.put(out);
        varint::put(out, self.chunks.len() as u64);
        let mut last = None;
        self.chunks.iter().for_each(|chunk| chunk.put(&mut last, out));
    }

    /// Reads what [`Group::put`] wrote.
    pub(crate) fn take(reader: &mut Reader<'_>, files: &mut ImageFiles<'_>) -> Result<Self, Damaged> {
        let series = take_ids(reader)?;
        let live = reader.count(series.len())?;
        let careful = reader.byte()? != 0;
        let max_time = reader.signed()?;
        let mut last = Vec::with_capacity(series.len());
        for _ in 0..series.len() {
            let time = max_time.wrapping_sub(reader.signed()?);
            last.push(Last { time, value: take_change(reader, 0.0)? });
        }
        let in_rows = reader.take(series.len().div_ceil(8))?;
        let mut seen = vec![0; bits::words(series.len())];
        (0..series.len()).filter(|c| in_rows[c / 8] & 1 << (c % 8) != 0).for_each(|c| set(&mut seen, c));
        let tail = Arc::new(Tail::take(reader)?);
        // a layout that is made later has not been seen
        let all_seen = tail.rows() > 0 && (0..live).all(|c| is_set(&seen, c));
        let mut chunks = Vec::new();
        let mut list = None;
        for _ in 0..reader.count(reader.rest.len())? {
            chunks.extend(HeadChunk::take(reader, &mut list, files)?.map(Arc::new));
        }
        let in_tail = (0..series.len()).rev().find(|c| is_set(&seen, *c)).map_or(0, |c| c + 1);
        let extent = in_tail.max(live);
        Ok(Self {
            series,
            live,
            extent,
            last,
            seen,
            max_time,
            all_seen,
            careful,
            tail,
            chunks,
            order: Vec::new(),
            wish: None,
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.series.capacity() * 4
            + self.last.capacity() * size_of::<Last>()
            + self.seen.capacity() * 8
            + self.order.capacity() * 4
            + self.tail.heap_bytes()
            + self.chunks.iter().map(|c| c.heap_bytes()).sum::<usize>()
    }
}

/// How many numbers two lists have in common from the first on.
fn equal_at_first(a: &[u32], b: &[u32]) -> usize {
    const STEP: usize = 16;
    // without a branch for each number, nor a call: most runs are short
    let equal = |(a, b): &(&[u32], &[u32])| a.iter().zip(*b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
    let whole = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(equal).count() * STEP;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

/// Rows after which the first tail of a group is sealed: those of groups that began together would be full together for ever after,
/// and the memory of all of them be at its highest at the same time.
fn first_rows(series: u32) -> u32 {
    let spread = series.wrapping_mul(0x9e37_79b1) >> 16;
    ROWS / 4 + spread % (ROWS - ROWS / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::head::chunk::take_starts;

    #[test]
    fn a_group_of_an_image_goes_on_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&Files::default(), &dir.path().join("spill")).unwrap();
        let again = |group: &Group| {
            let mut bytes = Vec::new();
            group.put(&mut bytes);
            let mut reader = Reader::new(&bytes, "test");
            let group = Group::take(&mut reader, &mut ImageFiles::new(&area, Vec::new())).unwrap();
            assert!(reader.is_empty());
            group
        };
        let mut group = Group::new();
        for series in [3, 9] {
            group.add(series, Last { time: 500, value: 7.5 });
        }
        // nothing is in the rows, though there are last values
        let mut group = again(&group);
        group.lay_out();
        group.push_row(1000, &[-0.0, f64::NAN], None);
        group = again(&group);
        group.push_cells(2000, &[(1, 4.25, 1500)]);
        group.seal(&area);
        group = again(&group);
        group.push_row(3000, &[1.0, 2.0], None);
        let group = again(&group);
        assert_eq!((group.series.as_slice(), group.live, group.max_time()), ([3, 9].as_slice(), 2, 3000));
        let rows = group.tail.decode(2, &[0, 1]).unwrap();
        assert_eq!((rows.times, rows.columns[1].values.clone()), (vec![3000], vec![2.0]));
        let chunk = &group.chunks[0];
        let values = |set: usize, column: u32| {
            let open = chunk.open_set(set, column..column + 1, 0).unwrap();
            let mut read = Vec::new();
            let bytes = chunk.column(set, &open, column, &mut read).unwrap();
            let mut values = Vec::new();
            let (_, bytes) = take_starts(bytes, open.times.len()).unwrap();
            crate::encoding::floats::decode(bytes, open.times.len(), &mut values).unwrap();
            values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(chunk.sets.len(), 2);
        assert_eq!(values(0, 0), [(-0.0f64).to_bits()]);
        assert_eq!(values(1, 0), [f64::NAN.to_bits(), 4.25f64.to_bits()]);
    }

    #[test]
    fn groups_that_begin_together_are_full_one_after_another() {
        let full_after = |first: u32| {
            let mut group = Group::new();
            (first..first + NARROW as u32).for_each(|series| _ = group.add(series, Last::NEVER));
            group.lay_out();
            (1..=ROWS).find(|row| {
                group.push_row(i64::from(*row), &[0.0; NARROW], None);
                group.is_full()
            })
        };
        let mut rows: Vec<u32> = (0..200).map(|group| full_after(group * 1500).unwrap()).collect();
        assert!(rows.iter().all(|rows| (ROWS / 4..=ROWS).contains(rows)), "{rows:?}");
        rows.sort_unstable();
        rows.dedup();
        assert!(rows.len() > 30, "{rows:?}");
    }

    #[test]
    fn a_row_that_names_a_series_twice_gives_it_one_column() {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&Files::default(), &dir.path().join("spill")).unwrap();
        let mut group = Group::new();
        for series in [7, 8, 9] {
            group.add(series, Last::NEVER);
        }
        group.push_cells(1000, &[(0, 1.0, 0), (1, 2.0, 0), (2, 3.0, 0)]);
        group.wish_order(&[9, 7, 9, 8]);
        group.seal(&area);
        assert_eq!((group.series.as_slice(), group.live), ([9, 7, 8].as_slice(), 3));
        assert_eq!(group.last(0).value, 3.0);
    }

    #[test]
    fn a_row_is_expected_as_the_last_one_was() {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&Files::default(), &dir.path().join("spill")).unwrap();
        let mut group = Group::new();
        (100..140).for_each(|series| _ = group.add(series, Last::NEVER));
        group.lay_out();
        let layout: Vec<u32> = (0..40).collect();
        // whatever series are looked for, one after the other
        let expected = |group: &Group| {
            let mut columns = Vec::new();
            while let Some(id) =
                group.series.iter().find(|id| group.take_expected(columns.len(), &[**id], &mut Vec::new()) == 1)
            {
                group.take_expected(columns.len(), &[*id], &mut columns);
            }
            columns
        };
        let take = |group: &Group, at: usize, ids: &[u32]| {
            let mut columns = vec![77];
            let count = group.take_expected(at, ids, &mut columns);
            assert_eq!(columns.len(), 1 + count);
            columns.split_off(1)
        };
        assert_eq!(expected(&group), layout);
        assert_eq!(take(&group, 38, &[138, 139, 140]), [38, 39]);
        assert_eq!(take(&group, 1, &(101..140).collect::<Vec<_>>()), layout[1..]);
        assert_eq!(take(&group, 0, &(100..135).chain([9, 136]).collect::<Vec<_>>()), layout[..35]);
        assert_eq!((take(&group, 3, &[104]), take(&group, 40, &[100]), take(&group, 3, &[])), (vec![], vec![], vec![]));
        assert_eq!((group.place_of(20, 3), group.place_of(40, 3)), (20, 3));
        let mut row = layout.clone();
        row.rotate_left(5);
        group.push_columns(1000, row.clone(), &[1.0; 40], None);
        assert_eq!(expected(&group), row);
        assert_eq!(take(&group, 33, &[138, 139, 100, 101, 103]), [38, 39, 0, 1]);
        // where it is near
        assert_eq!([3, 12, 0, 39, 90].map(|near| group.place_of(5 + 10, near)), [10, 10, 0, 39, 90]);
        assert_eq!([28, 42].map(|near| group.place_of(4, near)), [28, 39]);
        // a few samples of others, and the layout again
        group.push_columns(2000, vec![20, 3], &[1.0; 2], None);
        assert_eq!(expected(&group), row);
        group.push_row(3000, &[1.0; 40], None);
        assert_eq!(expected(&group), layout);
        group.push_columns(4000, row.clone(), &[1.0; 40], None);
        group.seal(&area);
        assert_eq!(expected(&group), layout);
    }

    #[test]
    fn new_columns_come_before_those_out_of_use() {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&Files::default(), &dir.path().join("spill")).unwrap();
        let mut group = Group::new();
        for series in 0..40 {
            group.add(series, Last::NEVER);
        }
        group.lay_out();
        group.push_row(1000, &[1.0; 40], None);
        group.seal(&area);
        assert_eq!(group.push_columns(2000, Vec::from_iter(0..30), &[2.0; 30], None), 30);
        // all of them had a value a tail ago
        assert_eq!(group.add(100, Last::NEVER), (40, None));
        group.seal(&area);
        assert_eq!((group.live, &group.series[28..32]), (30, [28, 29, 30, 31].as_slice()));
        assert_eq!(group.add(101, Last::NEVER), (30, Some((30, 41))));
        // a series comes back: its column must stay
        group.push_columns(3000, vec![0, 30, 31], &[3.0, 4.0, 5.0], None);
        assert_eq!(group.add(102, Last::NEVER), (32, Some((32, 42))));
        assert_eq!(group.push_columns(4000, vec![32, 31, 32], &[6.0, 7.0, 8.0], None), 2);
        let tail = group.tail.decode(group.series.len(), &[0, 30, 31, 32]).unwrap();
        let values: Vec<&[f64]> = tail.columns.iter().map(|c| c.values.as_slice()).collect();
        assert_eq!(values, [[3.0].as_slice(), &[4.0], &[5.0, 7.0], &[6.0]]);
        let last = |series: u32| group.last(group.series.iter().position(|s| *s == series).unwrap() as u32).value;
        assert_eq!([30, 32, 101, 31, 102].map(last), [1.0, 1.0, 4.0, 7.0, 6.0]);
    }
}
