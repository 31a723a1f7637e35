use std::cell::Cell;
use std::sync::Arc;

use model::Timestamp;

use crate::encoding::frame_of_reference;
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;
use crate::head::bits;
use crate::head::changes::{put_change, skip_changes, take_change};

mod parts;

pub(crate) use parts::TailParts;

/// All live columns, each with a bit that says whether the value differs from the one before.
const DENSE: u8 = 0;
/// As `DENSE`, after a bit for each column that says whether it is in the row.
const PARTIAL: u8 = 1;
/// Column numbers one by one.
const SPARSE: u8 = 2;
/// As `PARTIAL`, with a time for each column that is there: behind the bits, as the difference from where the time would be had it moved
/// on from the column's last one as the row's time has.
const SCATTERED: u8 = 3;

/// So many bytes of rows make a piece, at least and at most; in between a quarter of what there is.
const SMALLEST: usize = 256;
const LARGEST: usize = 16 << 10;

/// As many rows as most tails have at most.
const ROOM: usize = 64;
/// Where a row is a list of few columns, each of them is in few rows.
const FEW: usize = 4;

thread_local! {
    /// Memory of columns that have been decoded, for the next ones.
    static SPARE: Cell<Vec<Vec<f64>>> = const { Cell::new(Vec::new()) };
}
/// As much of it as a thread keeps.
const MOST_SPARE: usize = 1024;

/// The newest rows of a group, row by row as differences to the value before: appending costs in proportion to what
/// changed, and reading walks the changes. Values before the first row count as 0.
///
/// Most of the head's memory lies here, so rows go from a small buffer to pieces as long as what is in them: nothing grows and moves, which
/// would leave as much free memory between the rows of many groups as they take. Who looks at the rows shares the pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    pieces: Vec<Arc<[u8]>>,
    /// Bytes of all pieces.
    in_pieces: usize,
    /// The rows behind the pieces.
    bytes: Vec<u8>,
    /// Where in these the last row begins.
    last_row: usize,
    rows: u32,
    last_row_time: Timestamp,
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    /// Start timestamps, of the samples that have one.
    starts: Vec<Start>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    row: u32,
    column: u32,
    time: Timestamp,
}

impl Tail {
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let pieces = self.in_pieces + self.pieces.capacity() * size_of::<Arc<[u8]>>();
        pieces + self.bytes.capacity() + self.starts.capacity() * size_of::<Start>()
    }

    /// Appends the rows as they are, for an image of the head:
    ///
    /// ```text
    /// rows, time of the last row, first and last time (zigzag each), bytes, number of start timestamps, for each: row, column,
    /// time (zigzag)
    /// ```
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        varint::put(out, u64::from(self.rows));
        [self.last_row_time, self.min_time, self.max_time].iter().for_each(|t| varint::put_signed(out, *t));
        varint::put(out, (self.in_pieces + self.bytes.len()) as u64);
        self.pieces().for_each(|piece| out.extend_from_slice(piece));
        varint::put(out, self.starts.len() as u64);
        for start in &self.starts {
            varint::put(out, u64::from(start.row));
            varint::put(out, u64::from(start.column));
            varint::put_signed(out, start.time);
        }
    }

    /// Reads what [`Tail::put`] wrote.
    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let rows = reader.u32()?;
        let (last_row_time, min_time, max_time) = (reader.signed()?, reader.signed()?, reader.signed()?);
        let piece: Arc<[u8]> = reader.bytes()?.into();
        let count = reader.count(reader.rest.len())?;
        let start = |_| Ok(Start { row: reader.u32()?, column: reader.u32()?, time: reader.signed()? });
        let starts = (0..count).map(start).collect::<Result<_, Damaged>>()?;
        let (in_pieces, pieces) = (piece.len(), vec![piece]);
        Ok(Self { pieces, in_pieces, rows, last_row_time, min_time, max_time, starts, ..Self::default() })
    }

    /// All bytes in parts, none of which ends within a row.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &**piece).chain([self.bytes.as_slice()])
    }

    fn begin(&mut self, time: Timestamp, kind: u8, about: usize) {
        // rows are mostly about as long as the one before
        let last = self.bytes.len() - self.last_row;
        if self.bytes.len() >= (self.in_pieces / 4).clamp(SMALLEST, LARGEST) {
            self.in_pieces += self.bytes.len();
            self.pieces.push(self.bytes.as_slice().into());
            self.bytes.clear();
        }
        let about = about.max(last + last / 8);
        if self.bytes.capacity() - self.bytes.len() < about {
            self.bytes.reserve_exact(about.max(self.bytes.len() / 4));
        }
        self.last_row = self.bytes.len();
        self.bytes.push(kind);
        varint::put_signed(&mut self.bytes, time.wrapping_sub(self.last_row_time));
        self.last_row_time = time;
        if self.rows == 0 {
            (self.min_time, self.max_time) = (time, time);
        }
        self.min_time = self.min_time.min(time);
        self.max_time = self.max_time.max(time);
        self.rows += 1;
    }

    /// Adds a row with a value in each of the first `values.len()` columns. `before` has the values they had in this
    /// tail, 0 where there was none.
    pub(crate) fn push_dense(&mut self, time: Timestamp, values: &[f64], before: impl Fn(usize) -> f64) {
        self.begin(time, DENSE, values.len() / 2 + 16);
        varint::put(&mut self.bytes, values.len() as u64);
        let bits = self.bytes.len();
        self.bytes.resize(bits + values.len().div_ceil(8), 0);
        for (at, value) in values.iter().enumerate() {
            let last = before(at);
            if value.to_bits() != last.to_bits() {
                self.bytes[bits + at / 8] |= 1 << (at % 8);
                put_change(&mut self.bytes, last, *value);
            }
        }
    }

    /// Adds a row of some columns, `count` of them: (column, value, value before), ascending by column, all below
    /// `width`.
    pub(crate) fn push_some(
        &mut self,
        time: Timestamp,
        width: usize,
        count: usize,
        cells: impl Iterator<Item = (u32, f64, f64)>,
    ) {
        if is_sparse(count, width) {
            self.begin(time, SPARSE, count * 4 + 16);
            varint::put(&mut self.bytes, count as u64);
            let mut next = 0;
            for (column, value, before) in cells {
                varint::put(&mut self.bytes, u64::from(column - next));
                next = column + 1;
                put_change(&mut self.bytes, before, value);
            }
            return;
        }
        self.begin(time, PARTIAL, width / 4 + count / 2 + 16);
        varint::put(&mut self.bytes, width as u64);
        let present = self.bytes.len();
        let changed = present + width.div_ceil(8);
        self.bytes.resize(changed + width.div_ceil(8), 0);
        for (column, value, before) in cells {
            let (byte, bit) = (column as usize / 8, 1 << (column % 8));
            self.bytes[present + byte] |= bit;
            if value.to_bits() != before.to_bits() {
                self.bytes[changed + byte] |= bit;
                put_change(&mut self.bytes, before, value);
            }
        }
    }

    /// Adds a row that is not [sparse](is_sparse): a value for each column, of which those count whose bit is set in `present`. `replace`
    /// is called once for each of these with its value, ascending, and gives the value the column had before as in [`Tail::push_dense`].
    pub(crate) fn push_present(
        &mut self,
        time: Timestamp,
        values: &[f64],
        present: &[u64],
        mut replace: impl FnMut(usize, f64) -> f64,
    ) {
        let width = values.len();
        self.begin(time, PARTIAL, width * 3 / 4 + 16);
        varint::put(&mut self.bytes, width as u64);
        self.bytes.extend(present.iter().flat_map(|word| word.to_le_bytes()).take(width.div_ceil(8)));
        let changed = self.bytes.len();
        self.bytes.resize(changed + width.div_ceil(8), 0);
        for (at, word) in present.iter().enumerate() {
            let mut changes = 0u64;
            for bit in bits::ones(*word) {
                let column = at * 64 + bit;
                let value = values[column];
                let last = replace(column, value);
                if value.to_bits() != last.to_bits() {
                    changes |= 1 << bit;
                    put_change(&mut self.bytes, last, value);
                }
            }
            let places = changed + at * 8..changed + width.div_ceil(8).min(at * 8 + 8);
            let len = places.len();
            self.bytes[places].copy_from_slice(&changes.to_le_bytes()[..len]);
        }
    }

    /// Adds a row of columns with times of their own, ascending by column and below `width`.
    pub(crate) fn push_scattered(&mut self, width: usize, cells: impl Iterator<Item = ScatteredCell> + Clone) {
        let Some(first) = cells.clone().next() else { return };
        let step = if self.rows == 0 { 0 } else { first.time.wrapping_sub(self.last_row_time) };
        self.begin(first.time, SCATTERED, width + 16);
        varint::put(&mut self.bytes, width as u64);
        let present = self.bytes.len();
        let changed = present + width.div_ceil(8);
        self.bytes.resize(changed + width.div_ceil(8), 0);
        let mut differences = Vec::with_capacity(width);
        for cell in cells.clone() {
            self.bytes[present + cell.column as usize / 8] |= 1 << (cell.column % 8);
            let expected = cell.last.map_or(first.time, |last| last.wrapping_add(step));
            differences.push(cell.time.wrapping_sub(expected));
            self.min_time = self.min_time.min(cell.time);
            self.max_time = self.max_time.max(cell.time);
        }
        frame_of_reference::encode(&differences, &mut self.bytes);
        for cell in cells.filter(|cell| cell.value.to_bits() != cell.before.to_bits()) {
            self.bytes[changed + cell.column as usize / 8] |= 1 << (cell.column % 8);
            put_change(&mut self.bytes, cell.before, cell.value);
        }
    }

    /// Notes the start timestamp of a value in the row added last.
    pub(crate) fn push_start(&mut self, column: u32, time: Timestamp) {
        self.starts.push(Start { row: self.rows - 1, column, time });
    }

    /// The values of the columns `wanted` (which ascend), `width` being the group's.
    pub(crate) fn decode(&self, width: usize, wanted: &[u32]) -> Result<TailColumns, Damaged> {
        let mut spare = SPARE.take();
        let column = |_| TailColumn { values: spare.pop().unwrap_or_default(), ..TailColumn::default() };
        let mut columns = TailColumns {
            times: Vec::with_capacity(self.rows as usize),
            scattered: false,
            columns: wanted.iter().map(column).collect(),
        };
        SPARE.set(spare);
        let mut values = vec![0f64; width];
        let mut mask = vec![0; bits::words(width)];
        wanted
            .iter()
            .filter(|column| (**column as usize) < width)
            .for_each(|column| bits::set(&mut mask, *column as usize));
        let room = (self.rows as usize).min(ROOM);
        let mut time = 0i64;
        let mut pieces = self.pieces();
        let mut reader = Reader::new(&[], "head rows");
        for row in 0..self.rows {
            while reader.is_empty() {
                reader = Reader::new(pieces.next().ok_or(reader.damaged())?, "head rows");
            }
            let kind = reader.byte()?;
            let step = reader.signed()?;
            time = time.wrapping_add(step);
            columns.times.push(time);
            let cells = reader.count(width)?;
            match kind {
                DENSE => {
                    let changed = reader.take(cells.div_ceil(8))?;
                    take_changes(&mut reader, changed, &mask, &mut values)?;
                    let inside = wanted.partition_point(|c| (*c as usize) < cells);
                    for (to, column) in columns.columns[..inside].iter_mut().zip(wanted) {
                        to.push(row, values[*column as usize], room);
                    }
                    for to in &mut columns.columns[inside..] {
                        to.skip(row);
                    }
                }
                PARTIAL => {
                    let present = reader.take(cells.div_ceil(8))?;
                    let changed = reader.take(cells.div_ceil(8))?;
                    take_changes(&mut reader, changed, &mask, &mut values)?;
                    for (to, column) in columns.columns.iter_mut().zip(wanted) {
                        let byte = present.get(*column as usize / 8).copied().unwrap_or(0);
                        if byte & 1 << (column % 8) != 0 {
                            to.push(row, values[*column as usize], room);
                        } else {
                            to.skip(row);
                        }
                    }
                }
                SPARSE => {
                    let mut next = 0usize;
                    let mut at = 0;
                    for _ in 0..cells {
                        let column = next + reader.count(width)?;
                        let value = values.get_mut(column).ok_or(reader.damaged())?;
                        *value = take_change(&mut reader, *value)?;
                        while at < wanted.len() && (wanted[at] as usize) < column {
                            columns.columns[at].skip(row);
                            at += 1;
                        }
                        if at < wanted.len() && wanted[at] as usize == column {
                            columns.columns[at].push(row, *value, FEW);
                            at += 1;
                        }
                        next = column + 1;
                    }
                    columns.columns[at..].iter_mut().for_each(|c| c.skip(row));
                }
                SCATTERED => {
                    let present = reader.take(cells.div_ceil(8))?;
                    let changed = reader.take(cells.div_ceil(8))?;
                    columns.scatter();
                    let is_there = |column: u32| {
                        let byte = present.get(column as usize / 8).copied().unwrap_or(0);
                        byte & 1 << (column % 8) != 0
                    };
                    let there = || wanted.iter().enumerate().filter(|(_, column)| is_there(**column));
                    // among the columns that are there
                    let (mut byte, mut before) = (0, 0);
                    let places = there().map(|(_, column)| {
                        let (end, bit) = (*column as usize / 8, column % 8);
                        before += present[byte..end].iter().map(|b| b.count_ones() as usize).sum::<usize>();
                        byte = end;
                        before + (present[end] & ((1u8 << bit) - 1)).count_ones() as usize
                    });
                    let count = present.iter().map(|b| b.count_ones() as usize).sum();
                    let mut to = there();
                    frame_of_reference::decode_some(&mut reader, count, places, |difference| {
                        let Some(times) = to.next().and_then(|(at, _)| columns.columns[at].times.as_mut()) else {
                            return;
                        };
                        let expected = times.last().map_or(time, |last| last.wrapping_add(step));
                        times.push(expected.wrapping_add(difference));
                    })?;
                    take_changes(&mut reader, changed, &mask, &mut values)?;
                    for (to, column) in columns.columns.iter_mut().zip(wanted) {
                        if is_there(*column) {
                            to.push(row, values[*column as usize], room);
                        } else {
                            to.skip(row);
                        }
                    }
                }
                _ => return Err(reader.damaged()),
            }
            if columns.scattered && kind != SCATTERED {
                for column in &mut columns.columns {
                    let values = column.values.len();
                    column.times.iter_mut().for_each(|times| times.resize(values, time));
                }
            }
        }
        // an image may be damaged and have the right checksum
        if !columns.ascend() {
            return Err(reader.damaged());
        }
        for start in &self.starts {
            if let Ok(at) = wanted.binary_search(&start.column) {
                columns.columns[at].starts.push((start.row, start.time));
            }
        }
        Ok(columns)
    }
}

/// Whether a row with so many samples in so many columns is best written as a list.
pub(crate) fn is_sparse(count: usize, width: usize) -> bool {
    count * 8 < width
}

/// Applies a row's changes to the values of the columns in `mask`; the others are passed over.
fn take_changes(reader: &mut Reader<'_>, changed: &[u8], mask: &[u64], values: &mut [f64]) -> Result<(), Damaged> {
    let mut passed = 0;
    for (at, (bytes, mask)) in changed.chunks(8).zip(mask).enumerate() {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let mut left = u64::from_le_bytes(word);
        let mut wanted = left & mask;
        while wanted != 0 {
            let bit = wanted.trailing_zeros();
            let before = left & ((1 << bit) - 1);
            passed += before.count_ones() as usize;
            skip_changes(reader, passed)?;
            passed = 0;
            let value = values.get_mut(at * 64 + bit as usize).ok_or(reader.damaged())?;
            *value = take_change(reader, *value)?;
            left &= !before & !(1 << bit);
            wanted &= wanted - 1;
        }
        passed += left.count_ones() as usize;
    }
    skip_changes(reader, passed)
}

/// Columns of a tail, as asked for.
#[derive(Debug)]
pub(crate) struct TailColumns {
    /// The timestamp of each row.
    pub(crate) times: Vec<Timestamp>,
    pub(crate) columns: Vec<TailColumn>,
    /// Columns have times of their own.
    scattered: bool,
}

/// A sample of a row in which each has a time of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScatteredCell {
    pub(crate) column: u32,
    pub(crate) time: Timestamp,
    pub(crate) value: f64,
    /// Time of the column's last sample in the tail.
    pub(crate) last: Option<Timestamp>,
    /// Its value, 0 where there is none.
    pub(crate) before: f64,
}

/// Columns with equal timestamps.
#[derive(Debug)]
pub(crate) struct RowSet {
    pub(crate) times: Vec<Timestamp>,
    pub(crate) members: Vec<usize>,
    /// They are not those of rows.
    pub(crate) scattered: bool,
}

/// One column of a tail.
#[derive(Debug, Default)]
pub(crate) struct TailColumn {
    pub(crate) values: Vec<f64>,
    /// The rows that have a value; `None` if all have.
    pub(crate) rows: Option<Arc<[u32]>>,
    pending: Vec<u32>,
    gaps: bool,
    /// The time of each value, if those of the rows are not.
    times: Option<Vec<Timestamp>>,
    /// Start timestamps by row.
    pub(crate) starts: Vec<(u32, Timestamp)>,
}

impl TailColumn {
    /// Adds a value; `room` is for how many there is to be room at once.
    #[inline]
    fn push(&mut self, row: u32, value: f64, room: usize) {
        if self.values.capacity() == 0 {
            self.values.reserve_exact(room);
        }
        if self.gaps {
            if self.pending.len() == self.pending.capacity() {
                self.pending.reserve_exact(room.saturating_sub(self.pending.len()).max(1));
            }
            self.pending.push(row);
        }
        self.values.push(value);
    }

    #[inline]
    fn skip(&mut self, row: u32) {
        if !self.gaps {
            self.gaps = true;
            self.pending.extend(0..row);
        }
    }
}

impl TailColumns {
    /// Leaves the memory of the values for others.
    pub(crate) fn reuse(self) {
        let mut spare = SPARE.take();
        let room = MOST_SPARE.saturating_sub(spare.len());
        let values = self
            .columns
            .into_iter()
            .map(|column| column.values)
            .filter(|values| (1..=ROOM).contains(&values.capacity()));
        spare.extend(values.take(room).map(|mut values| {
            values.clear();
            values
        }));
        SPARE.set(spare);
    }

    /// Whether the times of each column do. Those of rows need not: a row may have other columns than the one before.
    fn ascend(&self) -> bool {
        let ascend = |times: &[Timestamp]| times.is_sorted_by(|a, b| a < b);
        let in_column = |column: &TailColumn| match &column.times {
            Some(times) => ascend(times),
            None if column.gaps => {
                column.pending.is_sorted_by(|a, b| self.times[*a as usize] < self.times[*b as usize])
            }
            None => column.values.is_empty() || ascend(&self.times),
        };
        !self.scattered && ascend(&self.times) || self.columns.iter().all(in_column)
    }

    /// From here on each column has times of its own.
    fn scatter(&mut self) {
        if std::mem::replace(&mut self.scattered, true) {
            return;
        }
        // without the row that has just begun
        for column in &mut self.columns {
            let times = match column.gaps {
                true => column.pending.iter().map(|row| self.times[*row as usize]).collect(),
                false => self.times[..column.values.len()].to_vec(),
            };
            column.times = Some(times);
        }
    }

    /// Gives columns with equal rows the same list of rows, and returns the distinct lists of timestamps with the columns that have them.
    /// Columns without a value are left out.
    pub(crate) fn share_rows(&mut self) -> Vec<RowSet> {
        #[derive(PartialEq, Eq, Hash)]
        enum Key {
            Rows(Option<Arc<[u32]>>),
            Times(Vec<Timestamp>),
        }
        let mut numbers: hashbrown::HashMap<Key, usize> = hashbrown::HashMap::new();
        let mut known: Vec<Option<Arc<[u32]>>> = Vec::new();
        let mut sets: Vec<RowSet> = Vec::new();
        for (at, column) in self.columns.iter_mut().enumerate() {
            if column.values.is_empty() {
                column.rows = Some(Arc::from([]));
                continue;
            }
            let rows: Option<Arc<[u32]>> = column.gaps.then(|| std::mem::take(&mut column.pending).into());
            let of_rows = || -> Vec<Timestamp> {
                match &rows {
                    None => self.times.clone(),
                    Some(rows) => rows.iter().map(|row| self.times[*row as usize]).collect(),
                }
            };
            let own = column.times.take().filter(|times| self.scattered && *times != of_rows());
            let scattered = own.is_some();
            let key = own.map_or_else(|| Key::Rows(rows.clone()), Key::Times);
            let set = match numbers.get(&key) {
                Some(set) => *set,
                None => {
                    let times = if let Key::Times(times) = &key { times.clone() } else { of_rows() };
                    sets.push(RowSet { times, members: Vec::new(), scattered });
                    known.push(rows.clone());
                    numbers.insert(key, sets.len() - 1);
                    sets.len() - 1
                }
            };
            column.rows = if known[set] == rows { known[set].clone() } else { rows };
            sets[set].members.push(at);
        }
        sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::changes::tests::values;
    use proptest::prelude::*;

    #[test]
    fn times_that_do_not_ascend_are_damage() {
        let row = |tail: &mut Tail, time, last| {
            let cell = |column| ScatteredCell { column, time, value: 1.0, last, before: 0.0 };
            tail.push_scattered(2, [cell(0), cell(1)].into_iter());
        };
        for (second, good) in [(11, true), (10, false), (9, false)] {
            let mut tail = Tail::default();
            row(&mut tail, 10, None);
            row(&mut tail, second, Some(10));
            assert_eq!(tail.decode(2, &[1]).is_ok(), good, "{second}");
            let mut tail = Tail::default();
            tail.push_dense(10, &[1.0, 2.0], |_| 0.0);
            tail.push_dense(second, &[1.0, 2.0], |_| 0.0);
            assert_eq!(tail.decode(2, &[1]).is_ok(), good, "{second}");
            // what is damaged costs the part that it is in
            let mut parts = TailParts::new(&tail, 9).unwrap();
            let parts = std::iter::from_fn(|| parts.next()).map(|(columns, part)| (columns.start, part.is_ok()));
            let expected = if good { [(0, true), (3, true), (6, true)] } else { [(0, false), (3, true), (7, true)] };
            assert_eq!(parts.collect::<Vec<_>>(), expected, "{second}");
            // of other columns they may be any
            let mut tail = Tail::default();
            tail.push_some(10, 2, 1, [(0, 1.0, 0.0)].into_iter());
            tail.push_some(second, 2, 1, [(1, 1.0, 0.0)].into_iter());
            assert!(tail.decode(2, &[0, 1]).is_ok(), "{second}");
        }
    }

    proptest! {
        #[test]
        fn rows_read_back(
            rows in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.7, values()), 9), 1..30),
            wanted in prop::collection::btree_set(0u32..9, 1..9),
            scattered: bool,
        ) {
            let mut tail = Tail::default();
            let mut before = [0f64; 9];
            let mut last = [None; 9];
            let mut expected: Vec<Vec<(i64, u64)>> = vec![Vec::new(); 9];
            for (at, row) in rows.iter().enumerate() {
                let time = at as i64 * 1000 - 7;
                // these have times of their own, of which some go on from the ones before
                let own = |column: u32| if scattered && at % 3 == 1 { time + i64::from(column) * 31 - i64::from(at as u8 & column as u8) } else { time };
                let cells: Vec<(u32, f64, f64)> = row.iter().enumerate().filter_map(|(c, v)| Some((c as u32, (*v)?, before[c]))).collect();
                for (c, v, _) in &cells {
                    expected[*c as usize].push((own(*c), v.to_bits()));
                }
                if scattered && at % 3 == 1 {
                    let cells = cells.iter().map(|(column, value, before)| {
                        let last = last[*column as usize];
                        ScatteredCell { column: *column, time: own(*column), value: *value, last, before: *before }
                    });
                    tail.push_scattered(9, cells);
                } else if cells.len() == 9 {
                    let all: Vec<f64> = cells.iter().map(|c| c.1).collect();
                    tail.push_dense(time, &all, |c| before[c]);
                } else {
                    // the width decides between a bitmap and a list
                    tail.push_some(time, if at % 2 == 0 { 9 } else { 100 }, cells.len(), cells.iter().copied());
                }
                for (c, v, _) in &cells {
                    (before[*c as usize], last[*c as usize]) = (*v, Some(own(*c)));
                }
                if at == rows.len() / 2 {
                    let mut image = Vec::new();
                    tail.put(&mut image);
                    tail = Tail::take(&mut Reader::new(&image, "test")).unwrap();
                }
            }
            let read = |mut back: TailColumns, wanted: &[u32], got: &mut Vec<Vec<(i64, u64)>>| {
                for set in back.share_rows() {
                    for at in set.members {
                        let values = &back.columns[at].values;
                        assert_eq!(values.len(), set.times.len());
                        got[wanted[at] as usize] = set.times.iter().copied().zip(values.iter().map(|v| v.to_bits())).collect();
                    }
                }
            };
            let wanted: Vec<u32> = wanted.into_iter().collect();
            let mut got: Vec<Vec<(i64, u64)>> = vec![Vec::new(); 9];
            read(tail.decode(100, &wanted).unwrap(), &wanted, &mut got);
            for column in wanted {
                prop_assert_eq!(&got[column as usize], &expected[column as usize]);
            }
            // all of them, part by part
            let mut got: Vec<Vec<(i64, u64)>> = vec![Vec::new(); 100];
            let (mut parts, mut next) = (TailParts::new(&tail, 100).unwrap(), 0);
            while let Some((columns, back)) = parts.next() {
                prop_assert_eq!(columns.start, next);
                next = columns.end;
                read(back.unwrap(), &columns.map(|column| column as u32).collect::<Vec<_>>(), &mut got);
            }
            prop_assert_eq!(next, 100);
            expected.resize(100, Vec::new());
            prop_assert_eq!(got, expected);
        }
    }
}
