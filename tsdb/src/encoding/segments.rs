//! A column of integers whose differences keep to a narrow range for a while: the column is cut where another range takes fewer bits.
//!
//! ```text
//! first     varint   zigzag
//! least     u8       bits of a segment's least difference, 1..=57, and 64 if those are zigzag
//! segments  bits, lowest first, until all differences are there, padded to a byte: number of differences - 1 (6 bits), width w (6 bits),
//!           least difference >> max(w - 4, 0), (difference - least difference without those bits) in w bits each
//! ```

use crate::encoding::bitpack::{self, BitWriter, bit_length};
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

/// Most differences of a segment.
const LONGEST: usize = 64;
/// Bits of a segment's header without its least difference.
const HEADER: u32 = 12;
/// The least difference of a segment is rounded down to so many bits less than its width: what that widens it by is less than what it spares.
const PRECISION: u32 = 4;
/// Set if least differences are signed.
const SIGNED: u8 = 64;
/// What the least difference of a segment is taken to need while the column is cut; what it needs depends on where that is.
const LEAST: u32 = 10;

/// Columns are read and written in at most 57 bits at a time, which any byte's word has.
const WIDEST: u32 = 57;

#[derive(Clone, Copy)]
struct Segment {
    from: usize,
    to: usize,
    span: Span,
}

impl Segment {
    fn len(&self) -> usize {
        self.to - self.from
    }

    /// The width and what is written of the least difference, in `bits_of_least` bits.
    fn shape(&self, signed: bool, bits_of_least: u32) -> (u32, u64) {
        let mut width = self.span.width();
        loop {
            let least = self.span.low >> shift(width);
            let written = if signed { varint::zigzag(least) } else { least as u64 };
            // rounding widens it, which rounds more; so does a least difference that has too many bits
            if bit_length(self.span.high.wrapping_sub(least << shift(width)) as u64) <= width
                && bit_length(written) <= bits_of_least
            {
                return (width, written);
            }
            width += 1;
        }
    }
}

fn shift(width: u32) -> u32 {
    width.saturating_sub(PRECISION)
}

/// How many bits least differences should have, so that the segments take the fewest: those that need more get wider.
fn best_bits_of_least(segments: &[Segment], signed: bool) -> u32 {
    let written = |s: &Segment| bit_length(if signed { varint::zigzag(s.span.low) } else { s.span.low as u64 });
    let taken = |bits: u32| -> u64 {
        let of = |s: &Segment| {
            u64::from(bits)
                + s.len() as u64 * u64::from(s.span.width().max((written(s) + PRECISION).saturating_sub(bits)))
        };
        segments.iter().map(of).sum()
    };
    (PRECISION..32).min_by_key(|bits| taken(*bits)).unwrap_or(PRECISION)
}

/// The range of some differences.
#[derive(Clone, Copy)]
struct Span {
    low: i64,
    high: i64,
}

impl Span {
    const NONE: Self = Self { low: i64::MAX, high: i64::MIN };

    fn with(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    fn of(differences: &[i64]) -> Self {
        differences.iter().fold(Self::NONE, |span, d| span.with(Self { low: *d, high: *d }))
    }

    fn width(self) -> u32 {
        bit_length(self.high.wrapping_sub(self.low) as u64)
    }

    /// Bits of so many differences of this range.
    fn cost(self, count: usize) -> u32 {
        self.width() * count as u32
    }
}

/// A place where the segment that is being looked for may begin.
#[derive(Clone, Copy)]
struct Start {
    at: usize,
    /// Bits of all before.
    before: u32,
    /// With those of the differences from here to the last that was looked at.
    cost: u32,
    span: Span,
}

/// Where segments may begin and end at first, before each end is moved to where it is best. Looking at every place was measured to take
/// several times as long, for 0.6 % fewer bytes.
const STEP: usize = 4;

/// Cuts the differences into segments so that all take the fewest bits, about.
fn cut(differences: &[i64]) -> Vec<Segment> {
    let mut ends = coarse_ends(differences);
    let mut from = 0;
    let mut segments = Vec::with_capacity(ends.len());
    for at in 0..ends.len() {
        if let Some(next) = ends.get(at + 1) {
            ends[at] = best_end(differences, from, ends[at], *next);
        }
        segments.push(Segment { from, to: ends[at], span: Span::of(&differences[from..ends[at]]) });
        from = ends[at];
    }
    segments
}

/// Ends of segments, all of them but the last a multiple of [`STEP`].
fn coarse_ends(differences: &[i64]) -> Vec<usize> {
    let steps = differences.len().div_ceil(STEP);
    let mut starts: Vec<Start> = Vec::with_capacity(LONGEST / STEP + 1);
    // of each step, where a segment that ends with it begins
    let mut begins = Vec::with_capacity(steps);
    let mut cost = 0u32;
    for (step, own) in differences.chunks(STEP).enumerate() {
        let (at, own, end) = (step * STEP, Span::of(own), step * STEP + own.len());
        let (mut least, mut from, before) = (u32::MAX, at, cost);
        starts.retain_mut(|start| {
            // a start that was no better than the end reached then is not later either: what follows takes no fewer bits with it
            if start.cost >= before || end - start.at > LONGEST {
                return false;
            }
            start.span = start.span.with(own);
            start.cost = start.before.saturating_add(start.span.cost(end - start.at));
            if start.cost < least {
                (least, from) = (start.cost, start.at);
            }
            true
        });
        let fresh = Start { at, before, cost: before.saturating_add(own.cost(end - at)), span: own };
        if fresh.cost < least {
            (least, from) = (fresh.cost, at);
        }
        starts.push(fresh);
        cost = least.saturating_add(HEADER + LEAST);
        begins.push(from);
    }
    let mut ends = Vec::new();
    let mut end = steps;
    while end > 0 {
        ends.push((end * STEP).min(differences.len()));
        end = begins[end - 1] / STEP;
    }
    ends.reverse();
    ends
}

/// The best end of a segment that begins at `from` and ends near `end`, where the one behind it ends at `next`.
fn best_end(differences: &[i64], from: usize, end: usize, next: usize) -> usize {
    let first = (from + 1).max(end.saturating_sub(STEP - 1)).max(next.saturating_sub(LONGEST));
    let last = (next - 1).min(end + STEP - 1).min(from + LONGEST);
    let mut behind = [Span::NONE; 2 * STEP];
    let mut span = Span::of(&differences[last..next]);
    for at in (first..=last).rev() {
        span = span.with(Span { low: differences[at], high: differences[at] });
        behind[at - first] = span;
    }
    let mut span = Span::of(&differences[from..first]);
    let (mut best, mut least) = (end, u32::MAX);
    for at in first..=last {
        let bits = span.cost(at - from) + behind[at - first].cost(next - at);
        if bits < least {
            (best, least) = (at, bits);
        }
        span = span.with(Span { low: differences[at], high: differences[at] });
    }
    best
}

/// Whether the column may be shorter like this than by what all its differences have in common, of which `bits_together` is an estimate for
/// each value. Cutting takes longer than finding this out.
pub(crate) fn may_be_shorter(values: &[i64], bits_together: f64) -> bool {
    const STRETCH: usize = 16;
    let mut sum = 0u64;
    for stretch in values.chunks(STRETCH + 1) {
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        for pair in stretch.windows(2) {
            let difference = pair[1].wrapping_sub(pair[0]);
            (low, high) = (low.min(difference), high.max(difference));
        }
        sum += u64::from(bit_length(high.wrapping_sub(low) as u64)) * stretch.len() as u64;
    }
    values.len() >= SHORTEST && (sum as f64) < (bits_together + 0.5) * values.len() as f64
}

/// Of fewer values a column is not worth cutting.
const SHORTEST: usize = 256;

/// Appends a column of at least one value; `false` (and nothing) if it has differences too far apart.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) -> bool {
    let Some(&first) = values.first() else { return false };
    let differences: Vec<i64> = values.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    let segments = cut(&differences);
    let signed = segments.iter().any(|s| s.span.low < 0);
    let bits_of_least = best_bits_of_least(&segments, signed);
    let shapes: Vec<(u32, u64)> = segments.iter().map(|s| s.shape(signed, bits_of_least)).collect();
    if shapes.iter().any(|(width, _)| *width > WIDEST) {
        return false;
    }
    varint::put_signed(out, first);
    out.push(bits_of_least as u8 | if signed { SIGNED } else { 0 });
    let mut writer = BitWriter::new(out);
    for (segment, (width, written)) in segments.iter().zip(shapes) {
        writer.put(segment.len() as u64 - 1, 6);
        writer.put(u64::from(width), 6);
        writer.put(written, bits_of_least);
        let least = least(written, signed, width);
        for difference in &differences[segment.from..segment.to] {
            writer.put(difference.wrapping_sub(least) as u64, width);
        }
    }
    writer.finish();
    true
}

/// What was written of a least difference, without the bits that were not.
fn least(written: u64, signed: bool, width: u32) -> i64 {
    (if signed { varint::unzigzag(written) } else { written as i64 }) << shift(width)
}

/// Reads `count` integers and calls `each` with them, in order.
#[inline]
pub(crate) fn decode(reader: &mut Reader<'_>, count: usize, mut each: impl FnMut(i64)) -> Result<(), Damaged> {
    if count == 0 {
        return Ok(());
    }
    let mut value = reader.signed()?;
    let head = reader.byte()?;
    let (signed, least_bits) = (head & SIGNED != 0, u32::from(head & !SIGNED));
    if !(1..=WIDEST).contains(&least_bits) {
        return Err(reader.damaged());
    }
    let bytes = reader.rest;
    let end = bytes.len() * 8;
    let mut at = 0usize;
    let mut left = count - 1;
    each(value);
    while left > 0 {
        let header = HEADER + least_bits;
        if at + header as usize > end {
            return Err(reader.damaged());
        }
        let length = bitpack::read(bytes, at, 6) as usize + 1;
        let width = bitpack::read(bytes, at + 6, 6) as u32;
        let least = least(bitpack::read(bytes, at + HEADER as usize, least_bits), signed, width);
        at += header as usize;
        if length > left || width > WIDEST {
            return Err(reader.damaged());
        }
        bitpack::unpack(bytes, at, length, width, |above| {
            value = value.wrapping_add(least.wrapping_add(above as i64));
            each(value);
        })
        .map_err(|_| reader.damaged())?;
        at += length * width as usize;
        left -= length;
    }
    if at.div_ceil(8) != bytes.len() {
        return Err(reader.damaged());
    }
    reader.rest = &[];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[i64]) -> Option<usize> {
        let mut out = Vec::new();
        if !encode(values, &mut out) {
            assert!(out.is_empty());
            return None;
        }
        let mut back = Vec::new();
        let mut reader = Reader::new(&out, "test");
        decode(&mut reader, values.len(), |v| back.push(v)).unwrap();
        assert!(reader.is_empty());
        assert_eq!(back, values);
        let short = decode(&mut Reader::new(&out[..out.len() - 1], "test"), values.len(), |_| {});
        assert!(short.is_err() || values.len() == 1);
        Some(out.len())
    }

    #[test]
    fn a_rate_that_changes_at_times_takes_the_bits_of_each_time() {
        let noise = |i: i64| (xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()) >> 1) as i64;
        let mut value = 0;
        let values: Vec<i64> = (0..4000)
            .map(|at| {
                let rate = 1 << (10 + noise(at / 50).rem_euclid(7));
                value += rate + noise(at + 5000).rem_euclid(rate);
                value
            })
            .collect();
        // ten to sixteen bits, and a header of twenty for fifty values
        let bits = check(&values).unwrap() * 8 / 4000;
        assert!((13..15).contains(&bits), "{bits}");
        assert!(may_be_shorter(&values, 16.0) && !may_be_shorter(&values, 12.0));
    }

    #[test]
    fn columns_of_all_kinds_read_back() {
        assert_eq!(check(&[]), None);
        assert_eq!(check(&[-7]), Some(2));
        assert!(check(&[5; 1000]).unwrap() < 40);
        assert!(check(&(0..1000).map(|i| i * 1_000_003).collect::<Vec<_>>()).unwrap() < 100);
        assert_eq!(check(&[i64::MIN, i64::MAX, 0, i64::MIN, -1]), None);
        check(&[0, 1 << 56, 0]);
        check(&[0, -(1 << 50), 3, 4, 1 << 50]);
    }

    proptest::proptest! {
        #[test]
        fn integers_read_back(values: Vec<i64>, shifts in proptest::collection::vec(0u32..64, 1..6)) {
            let shift = |at: usize| shifts[at / 9 % shifts.len()];
            check(&values.iter().enumerate().map(|(at, v)| v >> shift(at)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0usize..200) {
            let _ = decode(&mut Reader::new(&bytes, "test"), count, |_| {});
        }
    }
}
