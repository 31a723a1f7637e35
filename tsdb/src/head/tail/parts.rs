//! All columns of a tail, some at a time: each row is read on where it was left, so that what is decoded at once fits into caches.

use std::ops::Range;

use super::{DENSE, FEW, PARTIAL, ROOM, SPARE, SPARSE, Tail, TailColumn, TailColumns};
use crate::encoding::varint::Reader;
use crate::error::Damaged;
use crate::head::bits;
use crate::head::changes::{skip_changes, take_change};

/// Columns that are decoded at a time. Each takes half a kilobyte then.
#[cfg(not(test))]
const PART: usize = 1 << 10;
/// So many where rows cannot be read on.
#[cfg(not(test))]
const LARGE_PART: usize = 1 << 14;
/// So that there are parts in tests too.
#[cfg(test)]
const PART: usize = 3;
#[cfg(test)]
const LARGE_PART: usize = 4;

/// Reads a tail part by part.
pub(crate) struct TailParts<'a> {
    tail: &'a Tail,
    width: usize,
    /// `None` where samples have times or start timestamps of their own.
    rows: Option<Rows<'a>>,
    /// The first column of the next part.
    next: usize,
}

struct Rows<'a> {
    times: Vec<i64>,
    rest: Vec<Rest<'a>>,
}

/// What has not been read of a row.
struct Rest<'a> {
    cells: Cells<'a>,
    changes: Reader<'a>,
}

enum Cells<'a> {
    /// How many columns there are, a bit for each that is in the row (or all are), and one for each that has changed.
    Bits { width: usize, present: Option<&'a [u8]>, changed: &'a [u8] },
    /// The column before which none is left, and how many are left.
    List { from: usize, left: usize },
}

impl<'a> TailParts<'a> {
    /// Of a tail whose group has `width` columns.
    ///
    /// # Errors
    /// When the tail is no tail.
    pub(crate) fn new(tail: &'a Tail, width: usize) -> Result<Self, Damaged> {
        let rows = if tail.starts.is_empty() { Rows::of(tail, width)? } else { None };
        Ok(Self { tail, width, rows, next: 0 })
    }

    /// The next columns; `None` behind the last.
    pub(crate) fn next(&mut self) -> Option<(Range<usize>, Result<TailColumns, Damaged>)> {
        let part = if self.rows.is_some() { PART } else { LARGE_PART };
        let columns = self.next..self.width.min(self.next + part);
        self.next = columns.end;
        if columns.is_empty() {
            return None;
        }
        let decoded = match &mut self.rows {
            Some(rows) => rows.take(&columns),
            None => {
                let wanted: Vec<u32> = columns.clone().map(|column| column as u32).collect();
                self.tail.decode(self.width, &wanted)
            }
        };
        if decoded.is_err() {
            // rows have been read up to anywhere
            self.rows = None;
        }
        Some((columns, decoded))
    }
}

impl<'a> Rows<'a> {
    /// Finds where each row begins; `None` if one has times of its own.
    fn of(tail: &'a Tail, width: usize) -> Result<Option<Self>, Damaged> {
        let rows = tail.rows as usize;
        // a damaged image may claim any number
        let room = rows.min(4 * ROOM);
        let (mut times, mut rest) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut time = 0i64;
        let mut pieces = tail.pieces();
        let mut reader = Reader::new(&[], "head rows");
        while rest.len() < rows {
            while reader.is_empty() {
                reader = Reader::new(pieces.next().ok_or(reader.damaged())?, "head rows");
            }
            let kind = reader.byte()?;
            time = time.wrapping_add(reader.signed()?);
            times.push(time);
            let count = reader.count(width)?;
            let cells = match kind {
                DENSE | PARTIAL => {
                    let bytes = count.div_ceil(8);
                    let present = if kind == PARTIAL { Some(reader.take(bytes)?) } else { None };
                    Cells::Bits { width: count, present, changed: reader.take(bytes)? }
                }
                SPARSE => Cells::List { from: 0, left: count },
                _ => return Ok(None),
            };
            let changes = reader.clone();
            match &cells {
                Cells::Bits { changed, .. } => {
                    skip_changes(&mut reader, changed.iter().map(|byte| byte.count_ones() as usize).sum())?;
                }
                Cells::List { left, .. } => {
                    let mut from = 0;
                    for _ in 0..*left {
                        from += reader.count(width)? + 1;
                        if from > width {
                            return Err(reader.damaged());
                        }
                        skip_changes(&mut reader, 1)?;
                    }
                }
            }
            rest.push(Rest { cells, changes });
        }
        Ok(Some(Self { times, rest }))
    }

    /// The columns from where the last ones ended.
    fn take(&mut self, columns: &Range<usize>) -> Result<TailColumns, Damaged> {
        let mut spare = SPARE.take();
        let column = |_| TailColumn { values: spare.pop().unwrap_or_default(), ..TailColumn::default() };
        let mut decoded: Vec<TailColumn> = columns.clone().map(column).collect();
        SPARE.set(spare);
        let mut values = vec![0f64; columns.len()];
        for (row, Rest { cells, changes }) in (0..).zip(&mut self.rest) {
            match cells {
                Cells::Bits { width, present, changed } => {
                    let there = columns.start..columns.end.min(*width).max(columns.start);
                    take_bits(changes, changed, &there, &mut values)?;
                    let (inside, outside) = decoded.split_at_mut(there.len());
                    let room = self.times.len().min(ROOM);
                    for ((to, value), column) in inside.iter_mut().zip(&values).zip(there) {
                        if present.is_none_or(|present| present[column / 8] & 1 << (column % 8) != 0) {
                            to.push(row, *value, room);
                        } else {
                            to.skip(row);
                        }
                    }
                    outside.iter_mut().for_each(|to| to.skip(row));
                }
                Cells::List { from, left } => {
                    let mut at = 0;
                    while *left > 0 {
                        let before = changes.clone();
                        let column = *from + changes.varint()? as usize;
                        if column >= columns.end {
                            *changes = before;
                            break;
                        }
                        let place = column - columns.start;
                        let value = values.get_mut(place).ok_or(changes.damaged())?;
                        *value = take_change(changes, *value)?;
                        decoded[at..place].iter_mut().for_each(|to| to.skip(row));
                        decoded[place].push(row, *value, FEW);
                        (at, *from, *left) = (place + 1, column + 1, *left - 1);
                    }
                    decoded[at..].iter_mut().for_each(|to| to.skip(row));
                }
            }
        }
        let decoded = TailColumns { times: self.times.clone(), columns: decoded, scattered: false };
        // an image may be damaged and have the right checksum
        if decoded.ascend() { Ok(decoded) } else { Err(Damaged("head rows")) }
    }
}

/// Applies a row's changes to the values of these columns; those before have been read.
fn take_bits(
    reader: &mut Reader<'_>,
    changed: &[u8],
    columns: &Range<usize>,
    values: &mut [f64],
) -> Result<(), Damaged> {
    const BITS: usize = u64::BITS as usize;
    if columns.is_empty() {
        return Ok(());
    }
    for at in columns.start / BITS..columns.end.div_ceil(BITS) {
        let mut word = [0; 8];
        let bytes = &changed[at * 8..changed.len().min(at * 8 + 8)];
        word[..bytes.len()].copy_from_slice(bytes);
        let from = columns.start.saturating_sub(at * BITS);
        let upto = (columns.end - at * BITS).min(BITS);
        let wanted = u64::from_le_bytes(word) & u64::MAX << from & u64::MAX >> (BITS - upto);
        for bit in bits::ones(wanted) {
            let value = &mut values[at * BITS + bit - columns.start];
            *value = take_change(reader, *value)?;
        }
    }
    Ok(())
}
