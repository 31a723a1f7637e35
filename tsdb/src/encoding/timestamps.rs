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

use model::Timestamp;

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

/// Rows that are read, of which those in a range are wanted.
struct Rows<'a> {
    /// Where the grid has the next row, and how far from there the one after it.
    next: Timestamp,
    interval: Timestamp,
    /// The latest row, and how many there were.
    last: Option<Timestamp>,
    count: usize,
    range: (Timestamp, Timestamp),
    wanted: Range<usize>,
    out: &'a mut Vec<Timestamp>,
}

impl Rows<'_> {
    fn read_grid(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        (self.next, self.interval) = (reader.signed()?, reader.signed()?);
        Ok(())
    }

    /// Takes the next rows on the grid, if they ascend.
    #[inline]
    fn take(&mut self, rows: usize) -> Option<()> {
        let Some(more) = rows.checked_sub(1) else { return Some(()) };
        // distances between times are up to 64 bits long
        let (first, interval) = (self.next, self.interval as u64);
        let end = i128::from(first) + i128::from(interval) * more as i128;
        let ascends = self.last.is_none_or(|last| last < first) && (more == 0 || interval != 0);
        let end = Timestamp::try_from(end).ok().filter(|_| ascends)?;
        let (min, max) = self.range;
        if first <= max && end >= min {
            let behind = |time: Timestamp| time.wrapping_sub(first) as u64;
            let from = if first >= min { 0 } else { behind(min).div_ceil(interval) as usize };
            let to = if end <= max { rows } else { (behind(max) / interval) as usize + 1 };
            self.want(from, to);
            let mut time = first.wrapping_add(self.interval.wrapping_mul(from as i64));
            self.out.extend((from..to).map(|_| {
                let this = time;
                time = time.wrapping_add(interval as i64);
                this
            }));
        }
        // where it has wrapped around, no row that ascends can follow
        self.next = end.wrapping_add(self.interval);
        self.last = Some(end);
        self.count += rows;
        Some(())
    }

    /// Takes a row that is not where the grid has it, if it ascends.
    fn take_exception(&mut self, word: u64) -> Option<()> {
        let time = self.next.checked_add(varint::unzigzag(word / 2))?;
        let from = if word % 2 == 1 { time } else { self.next };
        self.next = from.wrapping_add(self.interval);
        self.take_row(time)
    }

    fn take_row(&mut self, time: Timestamp) -> Option<()> {
        if (self.range.0..=self.range.1).contains(&time) {
            self.want(0, 1);
            self.out.push(time);
        }
        self.count += 1;
        self.last.replace(time).is_none_or(|last| last < time).then_some(())
    }

    /// Of the rows that come next these are wanted.
    fn want(&mut self, from: usize, to: usize) {
        if self.wanted.is_empty() {
            self.wanted.start = self.count + from;
        }
        self.wanted.end = self.count + to;
    }
}

/// Reads a column of `count` timestamps, which must ascend.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<Timestamp>, Damaged> {
    let mut times = Vec::with_capacity(count.min(1 << 20));
    decode_range(bytes, count, (Timestamp::MIN, Timestamp::MAX), &mut times)?;
    Ok(times)
}

/// As [`decode`]; appends the timestamps in `range` (both ends included) only, and gives which rows these are.
pub(crate) fn decode_range(
    bytes: &[u8],
    count: usize,
    range: (Timestamp, Timestamp),
    out: &mut Vec<Timestamp>,
) -> Result<Range<usize>, Damaged> {
    let mut reader = Reader::new(bytes, "timestamp column");
    let damaged = reader.damaged();
    let mut rows = Rows { next: 0, interval: 0, last: None, count: 0, range, wanted: 0..0, out };
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
    Ok(rows.wanted)
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
        assert!(best.len() <= plain.len(), "{} {}", best.len(), plain.len());
        best
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
