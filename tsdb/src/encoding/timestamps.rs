//! A column of timestamps.
//!
//! ```text
//! kind       u8       0 irregular, 1 regular, 2 grid
//! regular:   first (varint, zigzag), interval (varint, zigzag)
//! irregular: an integer column
//! grid:      first (varint, zigzag), interval (varint, zigzag), number of exceptions (varint), for each: rows on the grid before it
//!            (varint), 2 * zigzag of its distance from the grid, + 1 if the grid goes on from it (varint)
//! ```

use std::ops::Range;

use model::{NewestAt, Timestamp};

use crate::encoding::integers;
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

const IRREGULAR: u8 = 0;
const REGULAR: u8 = 1;
const GRID: u8 = 2;

/// If no more than one row in so many is an exception, a grid is known to be shorter than an integer column.
const SELDOM: usize = 8;

/// Appends a column, regular or irregular.
pub(crate) fn encode(times: &[Timestamp], out: &mut Vec<u8>) {
    let interval = if times.len() > 1 { times[1].wrapping_sub(times[0]) } else { 0 };
    if times.windows(2).all(|w| w[1].wrapping_sub(w[0]) == interval) {
        out.push(REGULAR);
        varint::put_signed(out, times.first().copied().unwrap_or(0));
        varint::put_signed(out, interval);
    } else {
        out.push(IRREGULAR);
        integers::encode(times, out);
    }
}

/// Appends a column as the shortest kind, for blocks. Where scrapes are late or missing now and then, a grid says which these are: that is
/// shorter than telling each time from the one before, and several times faster to read.
pub(crate) fn encode_best(times: &[Timestamp], out: &mut Vec<u8>) {
    let mut grid = Vec::new();
    let exceptions = encode_grid(times, &mut grid).unwrap_or(0);
    if exceptions > 0 && exceptions * SELDOM <= times.len() {
        out.extend_from_slice(&grid);
        return;
    }
    let start = out.len();
    encode(times, out);
    if exceptions > 0 && grid.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&grid);
    }
}

/// Appends a column as a grid and gives the number of exceptions; `None` if there is no grid.
fn encode_grid(times: &[Timestamp], out: &mut Vec<u8>) -> Option<usize> {
    let interval = usual_interval(times)?;
    let (mut exceptions, mut count, mut before) = (Vec::new(), 0, 0);
    let mut expected = times[0];
    for (at, &time) in times.iter().enumerate() {
        let distance = time.checked_sub(expected)?;
        if distance != 0 {
            let goes_on = times.get(at + 1).is_some_and(|next| next.wrapping_sub(time) == interval);
            if goes_on {
                expected = time;
            }
            varint::put(&mut exceptions, before);
            varint::put(&mut exceptions, varint::zigzag(distance).checked_mul(2)? + u64::from(goes_on));
            (count, before) = (count + 1, 0);
        } else {
            before += 1;
        }
        expected = expected.wrapping_add(interval);
    }
    out.push(GRID);
    varint::put_signed(out, times[0]);
    varint::put_signed(out, interval);
    varint::put(out, count as u64);
    out.extend_from_slice(&exceptions);
    Some(count)
}

/// The difference between most neighbours, if there is one.
fn usual_interval(times: &[Timestamp]) -> Option<Timestamp> {
    let differences = || times.windows(2).map(|w| w[1].wrapping_sub(w[0]));
    // the one that is left when each vote against it has taken one for it
    let (mut usual, mut votes) = (0, 0usize);
    for difference in differences() {
        if votes == 0 {
            usual = difference;
        }
        votes = if difference == usual { votes + 1 } else { votes - 1 };
    }
    (differences().filter(|difference| *difference == usual).count() * 2 > times.len()).then_some(usual)
}

/// Takes rows as they are read.
trait Take {
    /// Takes `rows` rows from the number `row` on, the first at `first`, the last at `end`, `interval` apart.
    fn take(&mut self, row: usize, rows: usize, first: Timestamp, interval: i64, end: Timestamp);

    /// Whether nothing is wanted of rows behind this time.
    fn is_past(&self, last: Timestamp) -> bool;
}

/// Rows that are read.
struct Rows<T> {
    /// Where the grid has the next row, and how far from there the one after it.
    next: Timestamp,
    interval: Timestamp,
    /// The latest row, and how many there were.
    last: Option<Timestamp>,
    count: usize,
    to: T,
}

impl<T: Take> Rows<T> {
    fn read_grid(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        (self.next, self.interval) = (reader.signed()?, reader.signed()?);
        Ok(())
    }

    /// Takes the next rows on the grid, if they ascend.
    #[inline]
    fn take(&mut self, rows: usize) -> Option<()> {
        let Some(more) = rows.checked_sub(1) else { return Some(()) };
        let (first, interval) = (self.next, self.interval);
        let ascends = self.last.is_none_or(|last| last < first) && (more == 0 || interval != 0);
        let way = (interval as u64).checked_mul(more as u64)?;
        // distances between times are up to 64 bits long; where it wraps around, it comes out below
        let end = first.wrapping_add(way as i64);
        if !ascends || end < first {
            return None;
        }
        self.to.take(self.count, rows, first, interval, end);
        // where it has wrapped around, no row that ascends can follow
        self.next = end.wrapping_add(self.interval);
        self.last = Some(end);
        self.count += rows;
        Some(())
    }

    /// Takes a row that is not where the grid has it, if it ascends.
    #[inline]
    fn take_exception(&mut self, word: u64) -> Option<()> {
        let time = self.next.checked_add(varint::unzigzag(word / 2))?;
        let from = if word % 2 == 1 { time } else { self.next };
        self.next = from.wrapping_add(self.interval);
        self.take_row(time)
    }

    #[inline]
    fn take_row(&mut self, time: Timestamp) -> Option<()> {
        self.to.take(self.count, 1, time, 0, time);
        self.count += 1;
        self.last.replace(time).is_none_or(|last| last < time).then_some(())
    }

    #[inline]
    fn is_past(&self) -> bool {
        self.last.is_some_and(|last| self.to.is_past(last))
    }
}

/// Takes the rows in a range.
struct InRange<'a> {
    range: (Timestamp, Timestamp),
    rows: Range<usize>,
    out: &'a mut Vec<Timestamp>,
}

impl Take for InRange<'_> {
    #[inline]
    fn take(&mut self, row: usize, rows: usize, first: Timestamp, interval: i64, end: Timestamp) {
        let (min, max) = self.range;
        if first > max || end < min {
            return;
        }
        let behind = |time: Timestamp| time.wrapping_sub(first) as u64;
        let from = if first >= min { 0 } else { behind(min).div_ceil(interval as u64) as usize };
        let to = if end <= max { rows } else { (behind(max) / interval as u64) as usize + 1 };
        if self.rows.is_empty() {
            self.rows.start = row + from;
        }
        self.rows.end = row + to;
        let mut time = first.wrapping_add(interval.wrapping_mul(from as i64));
        self.out.extend((from..to).map(|_| {
            let this = time;
            time = time.wrapping_add(interval);
            this
        }));
    }

    #[inline]
    fn is_past(&self, last: Timestamp) -> bool {
        last > self.range.1
    }
}

/// No row.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Finds the newest row at some times.
pub(crate) struct NewestRows<'a> {
    at: NewestAt,
    /// No time and nothing that it looks back to is cut off at the end of what a timestamp can be.
    exact: bool,
    /// The next time for which none is found yet, and its number.
    time: Timestamp,
    step: usize,
    newest: Option<(u32, Timestamp)>,
    /// A distance between rows, how many of them lie between two times, and the rest.
    step_in: (u64, u64, u64),
    /// For each time.
    rows: &'a mut [u32],
}

impl<'a> NewestRows<'a> {
    /// Writes them to `rows`, as many as there are times: [`NO_ROW`] where there is none.
    pub(crate) fn new(at: NewestAt, rows: &'a mut [u32]) -> Self {
        rows.fill(NO_ROW);
        let way = i64::try_from(rows.len()).ok().and_then(|count| at.interval.checked_mul(count));
        let last = way.and_then(|way| at.start.checked_add(way)).and_then(|last| last.checked_sub(at.offset));
        let least = at.start.checked_sub(at.offset).and_then(|first| first.checked_sub(at.range));
        let exact = at.interval >= 0 && at.range >= 0 && last.is_some() && least.is_some();
        Self { at, exact, time: at.time(0), step: 0, newest: None, step_in: (0, 0, 0), rows }
    }

    /// The newest row at the next time is this.
    #[inline]
    fn put(&mut self, newest: Option<(u32, Timestamp)>) {
        if let Some((row, time)) = newest
            && time > self.time.saturating_sub(self.at.range)
        {
            self.rows[self.step] = row;
        }
        self.next();
    }

    #[inline]
    fn next(&mut self) {
        self.step += 1;
        self.time = if self.exact { self.time + self.at.interval } else { self.at.time(self.step) };
    }

    /// Whether the next time is before another.
    #[inline]
    fn is_before(&self, time: Timestamp) -> bool {
        self.step < self.rows.len() && self.time < time
    }

    /// Takes rows of a column that has been decoded.
    pub(crate) fn take_all(&mut self, times: &[Timestamp]) {
        times.iter().enumerate().for_each(|(row, time)| self.take(row, 1, *time, 0, *time));
    }

    /// All rows have been taken.
    pub(crate) fn finish(mut self) {
        while self.step < self.rows.len() {
            self.put(self.newest);
        }
    }
}

impl Take for NewestRows<'_> {
    #[inline]
    fn take(&mut self, row: usize, rows: usize, first: Timestamp, interval: i64, end: Timestamp) {
        while self.is_before(first) {
            self.put(self.newest);
        }
        // how many intervals the next time lies behind the first row, and the rest; in one there is no interval
        let interval = (interval as u64).max(1);
        let behind =
            |time: Timestamp| (time.wrapping_sub(first) as u64 / interval, time.wrapping_sub(first) as u64 % interval);
        if !self.exact {
            while self.step < self.rows.len() && self.time <= end {
                let (on, rest) = behind(self.time);
                self.put(Some(((row as u64 + on) as u32, self.time.wrapping_sub(rest as i64))));
            }
        } else if self.step < self.rows.len() && self.time <= end {
            let (mut on, mut rest) = behind(self.time);
            if self.step_in.0 != interval {
                self.step_in = (interval, self.at.interval as u64 / interval, self.at.interval as u64 % interval);
            }
            let (_, more, more_rest) = self.step_in;
            loop {
                if rest < self.at.range as u64 {
                    self.rows[self.step] = (row as u64 + on) as u32;
                }
                self.next();
                if self.step == self.rows.len() || self.time > end {
                    break;
                }
                on += more;
                let left = interval - more_rest;
                if rest >= left {
                    rest -= left;
                    on += 1;
                } else {
                    rest += more_rest;
                }
            }
        }
        self.newest = Some(((row + rows - 1) as u32, end));
    }

    #[inline]
    fn is_past(&self, _: Timestamp) -> bool {
        self.step == self.rows.len()
    }
}

/// Reads a column of `count` timestamps, which must ascend.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<Timestamp>, Damaged> {
    let mut times = Vec::with_capacity(count.min(1 << 20));
    decode_range(bytes, count, (Timestamp::MIN, Timestamp::MAX), &mut times)?;
    Ok(times)
}

/// As [`decode`]; appends the timestamps in `range` (both ends included) only, and gives which rows these are. What is behind the range may
/// go unread.
pub(crate) fn decode_range(
    bytes: &[u8],
    count: usize,
    range: (Timestamp, Timestamp),
    out: &mut Vec<Timestamp>,
) -> Result<Range<usize>, Damaged> {
    Ok(read(bytes, count, InRange { range, rows: 0..0, out })?.rows)
}

/// Finds the newest rows of a column of `count` timestamps at some times. What is behind these may go unread.
pub(crate) fn newest_rows(bytes: &[u8], count: usize, newest: NewestRows<'_>) -> Result<(), Damaged> {
    read(bytes, count, newest)?.finish();
    Ok(())
}

/// Has the rows of a column taken.
fn read<T: Take>(bytes: &[u8], count: usize, to: T) -> Result<T, Damaged> {
    let mut reader = Reader::new(bytes, "timestamp column");
    let damaged = reader.damaged();
    let mut rows = Rows { next: 0, interval: 0, last: None, count: 0, to };
    match reader.byte()? {
        REGULAR => {
            rows.read_grid(&mut reader)?;
            rows.take(count).ok_or(damaged)?;
        }
        GRID => {
            rows.read_grid(&mut reader)?;
            for _ in 0..reader.count(count)? {
                let before = reader.count((count - rows.count).checked_sub(1).ok_or(damaged)?)?;
                rows.take(before).ok_or(damaged)?;
                rows.take_exception(reader.varint()?).ok_or(damaged)?;
                if rows.is_past() {
                    return Ok(rows.to);
                }
            }
            rows.take(count - rows.count).ok_or(damaged)?;
        }
        IRREGULAR => {
            let mut ascends = true;
            integers::decode(&mut reader, count, |time| ascends &= rows.take_row(time).is_some())?;
            if !ascends {
                return Err(damaged);
            }
        }
        _ => return Err(damaged),
    }
    Ok(rows.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(times: &[Timestamp]) -> Vec<u8> {
        let (mut plain, mut best) = (Vec::new(), Vec::new());
        encode(times, &mut plain);
        encode_best(times, &mut best);
        for column in [&plain, &best] {
            assert_eq!(decode(column, times.len()).as_deref(), Ok(times));
            // parts that begin and end at rows and between them
            for (from, to) in
                [(0, 0), (0, 1), (1, 2), (times.len() / 3, times.len() / 2), (times.len() / 2, times.len())]
            {
                let Some(part) = times.get(from..to.min(times.len())).filter(|part| !part.is_empty()) else { continue };
                for off in 0..2 {
                    let range = (part[0].saturating_sub(off), part[part.len() - 1].saturating_add(off));
                    let rows = times.partition_point(|t| *t < range.0)..times.partition_point(|t| *t <= range.1);
                    let mut found = vec![7];
                    assert_eq!(decode_range(column, times.len(), range, &mut found), Ok(rows.clone()));
                    assert_eq!(found[1..], times[rows]);
                }
            }
        }
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            let interval = last.saturating_sub(*first) / 7;
            for (start, interval, offset, range) in [
                (*first, interval, 0, interval.max(1)),
                (*first, interval, 3, 20_000),
                (*last, 0, 0, 1),
                (*last, interval, interval.saturating_mul(4), i64::MAX),
            ] {
                check_newest(times, NewestAt { start, interval, count: 9, offset, range }, &[&plain, &best]);
            }
        }
        assert!(best.len() <= plain.len(), "{} {}", best.len(), plain.len());
        best
    }

    /// The newest rows are those of a search for each time.
    fn check_newest(times: &[Timestamp], at: NewestAt, columns: &[&Vec<u8>]) {
        let mut expected = Vec::new();
        for time in (0..at.count).map(|step| at.time(step)) {
            let behind = times.partition_point(|t| *t <= time);
            let newest = behind.checked_sub(1).filter(|row| times[*row] > time.saturating_sub(at.range));
            expected.push(newest.map_or(NO_ROW, |row| row as u32));
        }
        for column in columns {
            let mut rows = vec![7; at.count];
            newest_rows(column, times.len(), NewestRows::new(at, &mut rows)).unwrap();
            assert_eq!(rows, expected, "{at:?} of {times:?}");
        }
        let mut rows = vec![7; at.count];
        let mut newest = NewestRows::new(at, &mut rows);
        newest.take_all(times);
        newest.finish();
        assert_eq!(rows, expected);
    }

    proptest::proptest! {
        #[test]
        fn columns_read_back(steps in proptest::collection::vec(1i64..1_000_000, 1..300), start: i64, regular: bool) {
            let step = steps[0];
            let ends = start.checked_add(300_000_000).is_some();
            let steps = steps.iter().scan(if ends { start } else { 0 }, |at, s| { *at += if regular { step } else { *s }; Some(*at) });
            check(&steps.collect::<Vec<i64>>());
        }

        /// One scrape in some is late, missing, or the first of another rhythm.
        #[test]
        fn grids_read_back(rows in proptest::collection::vec((0u8..30, 1i64..14_999), 2..300)) {
            let mut at = 1_700_000_000_000;
            let times = rows.iter().map(|(kind, by)| {
                at += 15_000 + match kind { 0 => 15_000 * by, 1 => *by, _ => 0 };
                if *kind == 2 { at + by } else { at }
            });
            check(&times.collect::<Vec<i64>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, kind in 0u8..4, count in 0usize..200) {
            if let Ok(times) = decode(&[&[kind][..], &bytes].concat(), count) {
                assert!(times.len() == count && times.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn late_and_missing_scrapes_take_two_bytes() {
        let time = |row: i64| 1_700_000_000_000 + row * 60_000;
        let late =
            check(&(0..1440).map(|row| time(row) + if row % 20 == 7 { 3 + row % 28 } else { 0 }).collect::<Vec<_>>());
        assert_eq!((late[0], late.len()), (GRID, 11 + 72 * 2));
        let missing = check(&(0..1440).filter(|row| row % 500 != 400).map(time).collect::<Vec<_>>());
        assert_eq!((missing[0], missing.len()), (GRID, 11 + 3 * 5));
        // as it comes: each at its own distance from the one before
        let irregular = check(&(0..1440).map(|row| time(row) + row * row % 977).collect::<Vec<_>>());
        assert_eq!(irregular[0], IRREGULAR);
        assert_eq!(check(&[5, 6, 7])[0], REGULAR);
        check(&[]);
        check(&[i64::MIN, i64::MAX]);
        check(&[i64::MIN, -1, 0, 1, 2, 3, 4, i64::MAX]);
        check(&[i64::MAX - 3, i64::MAX - 2, i64::MAX - 1, i64::MAX]);
    }

    #[test]
    fn columns_that_do_not_ascend_are_damaged() {
        for times in [&[3, 2, 5][..], &[3, 3, 3], &[3, 2, 1], &[0, 10, 20, 30, 25, 50, 60, 70, 80]] {
            let mut out = Vec::new();
            encode(times, &mut out);
            assert!(decode(&out, times.len()).is_err(), "{times:?}");
            let mut grid = Vec::new();
            if encode_grid(times, &mut grid).is_some() {
                assert!(decode(&grid, times.len()).is_err(), "{times:?} as a grid");
            }
        }
    }
}
