//! A column of floats. The encoder tries what fits the values and keeps the shortest.
//!
//! ```text
//! kind      u8
//! 0 constant    bits of the value (8 bytes)
//! 1 decimal     exponent e (u8, 0..=9), integer column of value * 10^e
//! 2 xor         for each value: control byte, then bytes of the XOR with the value before (0 before the first)
//! 3 runs        number of runs (varint), lengths of all runs but the last (varint each), column of the runs' values
//! 4 pco         a Pcodec column of floats
//! 5 pco decimal exponent e (u8, 0..=9), a Pcodec column of value * 10^e as integers
//! 6 segments    exponent e (u8, 0..=9), segments of value * 10^e as integers
//! ```
//! The control byte of `xor` is 0 for an equal value, else 1 + 8 * (number of zero bytes at the low end) + (bytes that follow - 1).

use std::ops::Range;

use crate::encoding::timestamps::NO_ROW;
use crate::encoding::varint::{self, Reader};
use crate::encoding::{integers, pcodec, segments};
use crate::error::Damaged;

const CONSTANT: u8 = 0;
const DECIMAL: u8 = 1;
const XOR: u8 = 2;
const RUNS: u8 = 3;
const PCO: u8 = 4;
const PCO_DECIMAL: u8 = 5;
const SEGMENTS: u8 = 6;

/// Powers of ten that are exact as floats and as scale of a decimal column.
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Integers beyond this may share a float with their neighbour.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends a column of at least one value, in one pass over few candidates.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    let changes = values.windows(2).filter(|w| w[0].to_bits() != w[1].to_bits()).count();
    if changes == 0 {
        out.push(CONSTANT);
        out.extend_from_slice(&first.to_le_bytes());
        return;
    }
    if changes * 6 < values.len() {
        return encode_runs(values, out, |heads| {
            let mut column = Vec::new();
            encode_dense(heads, &mut column);
            column
        });
    }
    encode_dense(values, out);
}

/// Appends a column, trying what may be shortest: for blocks, which are written once and read often.
pub(crate) fn encode_best(values: &[f64], out: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    let changes = values.windows(2).filter(|w| w[0].to_bits() != w[1].to_bits()).count();
    if changes == 0 {
        out.push(CONSTANT);
        out.extend_from_slice(&first.to_le_bytes());
        return;
    }
    // the length of a run takes a byte; that a value is the one before takes Pcodec what it tells, which is less unless changes are rare or
    // the column is short
    let (mut runs, mut dense) = (Vec::new(), Vec::new());
    if changes * if values.len() > PCO_ONLY { 6 } else { 3 } < values.len() {
        encode_runs(values, &mut runs, best_dense);
    }
    if runs.is_empty() || changes * 256 >= values.len() {
        dense = best_dense(values);
    }
    let best = match (runs.is_empty(), dense.is_empty()) {
        (false, false) if dense.len() < runs.len() => dense,
        (true, _) => dense,
        _ => runs,
    };
    out.extend_from_slice(&best);
}

/// Of columns of more values Pcodec's are always shorter: what its header and bins take is little then.
const PCO_ONLY: usize = 256;

/// Where segments take less than this share of what Pcodec is expected to take, it is not tried.
const CLEARLY: f64 = 0.9;

/// The shortest of a column of our own, one cut into segments, and one that Pcodec encodes.
fn best_dense(values: &[f64]) -> Vec<u8> {
    let decimals = decimals(values);
    let mut out = Vec::new();
    let done = match &decimals {
        Some((exponent, integers)) => {
            let sizes = pcodec::estimated_bits(integers);
            let expected = sizes.iter().copied().fold(f64::INFINITY, f64::min);
            let mut cut = vec![SEGMENTS, *exponent];
            let is_cut = segments::may_be_shorter(integers, expected) && segments::encode(integers, &mut cut);
            if is_cut && ((cut.len() * 8) as f64) < expected * CLEARLY * values.len() as f64 {
                return cut;
            }
            out.extend([PCO_DECIMAL, *exponent]);
            let done = pcodec::encode_integers(integers, sizes, &mut out);
            if is_cut && (!done || cut.len() < out.len()) {
                return cut;
            }
            done
        }
        None => {
            out.push(PCO);
            pcodec::encode_floats(values, &mut out)
        }
    };
    if done && values.len() > PCO_ONLY {
        return out;
    }
    let mut own = Vec::new();
    encode_as(values, decimals, &mut own);
    if done && out.len() < own.len() { out } else { own }
}

fn encode_runs(values: &[f64], out: &mut Vec<u8>, encode_heads: impl Fn(&[f64]) -> Vec<u8>) {
    let mut ends: Vec<usize> = (1..values.len()).filter(|i| values[*i].to_bits() != values[*i - 1].to_bits()).collect();
    out.push(RUNS);
    varint::put(out, ends.len() as u64 + 1);
    let mut start = 0;
    for &end in &ends {
        varint::put(out, (end - start) as u64);
        start = end;
    }
    ends.insert(0, 0);
    let heads: Vec<f64> = ends.iter().map(|i| values[*i]).collect();
    out.extend_from_slice(&encode_heads(&heads));
}

fn encode_dense(values: &[f64], out: &mut Vec<u8>) {
    encode_as(values, decimals(values), out);
}

fn encode_as(values: &[f64], decimals: Option<(u8, Vec<i64>)>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some((exponent, integers)) = decimals {
        out.push(DECIMAL);
        out.push(exponent);
        integers::encode(&integers, out);
        if out.len() - start <= values.len() * 3 {
            return;
        }
    }
    let mut xor = vec![XOR];
    encode_xor(values, &mut xor);
    if out.len() == start || xor.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&xor);
    }
}

/// The values as integers of a common decimal scale, if that is exact.
pub(crate) fn decimals(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut exponent = 0usize;
    let mut integers = Vec::with_capacity(values.len());
    'scale: loop {
        let scale = *POWERS.get(exponent)?;
        integers.clear();
        for &value in values {
            let scaled = value * scale;
            let integer = nearest(scaled);
            // through the integer, so that -0.0 is seen to be lost
            if scaled.abs() >= EXACT || (integer as f64 / scale).to_bits() != value.to_bits() {
                // a value without short decimals fails every scale: give up early on those
                if !value.is_finite() || value == 0.0 || scaled.abs() >= EXACT {
                    return None;
                }
                exponent += 1;
                continue 'scale;
            }
            integers.push(integer);
        }
        return Some((exponent as u8, integers));
    }
}

/// The nearest integer, or one beside it where two are nearly as near. What rounds floats to floats is a call of a function on processors as
/// old as the ones we build for.
#[inline]
fn nearest(value: f64) -> i64 {
    // beyond, floats have no fractions, and a half may be rounded up to one
    let half = if value.abs() < EXACT / 2.0 { 0.5f64.copysign(value) } else { 0.0 };
    (value + half) as i64
}

pub(crate) fn encode_xor(values: &[f64], out: &mut Vec<u8>) {
    let mut last = 0u64;
    for value in values {
        let bits = value.to_bits();
        put_xor(out, bits ^ last);
        last = bits;
    }
}

/// Appends the XOR of two values' bits.
#[inline]
pub(crate) fn put_xor(out: &mut Vec<u8>, xor: u64) {
    if xor == 0 {
        out.push(0);
        return;
    }
    let low = xor.trailing_zeros() / 8;
    let len = 8 - low - xor.leading_zeros() / 8;
    out.push((1 + 8 * low + len - 1) as u8);
    out.extend_from_slice(&(xor >> (8 * low)).to_le_bytes()[..len as usize]);
}

/// Reads what [`put_xor`] wrote.
#[inline]
pub(crate) fn take_xor(reader: &mut Reader<'_>) -> Result<u64, Damaged> {
    let control = reader.byte()?;
    if control == 0 {
        return Ok(0);
    }
    let (low, len) = (u32::from(control - 1) / 8, usize::from((control - 1) % 8) + 1);
    if low as usize + len > 8 {
        return Err(reader.damaged());
    }
    let mut word = [0u8; 8];
    word[..len].copy_from_slice(reader.take(len)?);
    Ok(u64::from_le_bytes(word) << (8 * low))
}

/// What the integers of a decimal column are divided by.
fn take_scale(reader: &mut Reader<'_>) -> Result<f64, Damaged> {
    let exponent = reader.byte()?;
    POWERS.get(usize::from(exponent)).copied().ok_or(reader.damaged())
}

/// The integers of a decimal column of one of our own kinds.
#[inline]
fn take_integers(kind: u8, reader: &mut Reader<'_>, count: usize, each: impl FnMut(i64)) -> Result<(), Damaged> {
    if kind == SEGMENTS { segments::decode(reader, count, each) } else { integers::decode(reader, count, each) }
}

/// What decoding takes, used again for the next column.
#[derive(Default)]
pub(crate) struct Decoded {
    values: Vec<f64>,
    columns: Columns,
}

/// What decoding a whole column takes.
#[derive(Default)]
struct Columns {
    /// Many kilobytes, once there has been a column that needs it.
    pco: Option<pcodec::Scratch>,
    integers: Vec<i64>,
}

/// Reads a column of `count` values and appends them.
pub(crate) fn decode(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), Damaged> {
    decode_with(bytes, count, &mut Columns::default(), out)
}

fn decode_with(bytes: &[u8], count: usize, scratch: &mut Columns, out: &mut Vec<f64>) -> Result<(), Damaged> {
    decode_part(bytes, (count, count), scratch, out)
}

/// The same; of a Pcodec column only the first `upto` values.
fn decode_part(
    bytes: &[u8],
    (count, upto): (usize, usize),
    scratch: &mut Columns,
    out: &mut Vec<f64>,
) -> Result<(), Damaged> {
    if count == 0 {
        return Ok(());
    }
    let mut reader = Reader::new(bytes, "value column");
    match reader.byte()? {
        CONSTANT => {
            let value = reader.f64()?;
            out.extend(std::iter::repeat_n(value, count));
        }
        kind @ (DECIMAL | SEGMENTS) => {
            let scale = take_scale(&mut reader)?;
            if scale == 1.0 {
                take_integers(kind, &mut reader, count, |v| out.push(v as f64))?;
            } else {
                take_integers(kind, &mut reader, count, |v| out.push(v as f64 / scale))?;
            }
        }
        XOR => {
            let mut bits = 0u64;
            for _ in 0..count {
                bits ^= take_xor(&mut reader)?;
                out.push(f64::from_bits(bits));
            }
        }
        RUNS => {
            let runs = reader.count(count)?;
            let mut lengths = Vec::with_capacity(runs);
            let mut left = count;
            for _ in 1..runs {
                let len = reader.count(left)?;
                left -= len;
                lengths.push(len);
            }
            lengths.push(left);
            let mut heads = Vec::with_capacity(runs);
            // runs of runs would let a few bytes recurse deeply
            if reader.rest.first() == Some(&RUNS) || runs == 0 {
                return Err(reader.damaged());
            }
            decode_with(reader.rest, runs, scratch, &mut heads)?;
            for (value, len) in heads.iter().zip(lengths) {
                out.extend(std::iter::repeat_n(*value, len));
            }
        }
        PCO => {
            let start = out.len();
            out.resize(start + upto, 0.0);
            pcodec::decode(reader.rest, count, &mut out[start..], scratch.pco.get_or_insert_default())?;
        }
        PCO_DECIMAL => {
            let scale = take_scale(&mut reader)?;
            let Columns { pco, integers } = scratch;
            // what is there is written over
            integers.resize(upto, 0);
            pcodec::decode(reader.rest, count, integers, pco.get_or_insert_default())?;
            if scale == 1.0 {
                out.extend(integers.iter().map(|v| *v as f64));
            } else {
                out.extend(integers.iter().map(|v| *v as f64 / scale));
            }
        }
        _ => return Err(reader.damaged()),
    }
    Ok(())
}

/// Appends the rows of a column of `count` values. If only `presence` is wanted, of a value that is no staleness marker only that
/// it is none is right. `scratch` is overwritten.
pub(crate) fn decode_rows(
    bytes: &[u8],
    count: usize,
    rows: Range<usize>,
    presence: bool,
    scratch: &mut Decoded,
    out: &mut Vec<f64>,
) -> Result<(), Damaged> {
    if rows.start > rows.end || rows.end > count {
        return Err(Damaged("value column"));
    }
    match bytes.first() {
        Some(&CONSTANT) => decode_with(bytes, rows.len(), &mut scratch.columns, out),
        // no such column holds anything but numbers
        Some(&(DECIMAL | PCO_DECIMAL | SEGMENTS)) if presence => {
            out.resize(out.len() + rows.len(), 0.0);
            Ok(())
        }
        _ if rows == (0..count) => decode_with(bytes, count, &mut scratch.columns, out),
        _ => {
            let Decoded { values, columns } = scratch;
            values.clear();
            decode_with(bytes, count, columns, values)?;
            out.extend_from_slice(values.get(rows).ok_or(Damaged("value column"))?);
            Ok(())
        }
    }
}

/// Writes the rows of a column that are not [`NO_ROW`], each as [`decode_rows`] gives it, to the same places in `out`.
pub(crate) fn decode_picked(
    bytes: &[u8],
    count: usize,
    rows: &[u32],
    presence: bool,
    scratch: &mut Decoded,
    out: &mut [f64],
) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes, "value column");
    let wanted = rows.iter().zip(out).filter(|(row, _)| **row != NO_ROW);
    let Decoded { values, columns } = scratch;
    match bytes.first() {
        Some(&CONSTANT) => {
            reader.byte()?;
            let value = reader.f64()?;
            wanted.for_each(|(_, to)| *to = value);
        }
        Some(&(DECIMAL | PCO_DECIMAL | SEGMENTS)) if presence => wanted.for_each(|(_, to)| *to = 0.0),
        Some(&PCO_DECIMAL) => {
            reader.byte()?;
            let scale = take_scale(&mut reader)?;
            let Columns { pco, integers } = columns;
            // what is there is written over
            integers.resize(count, 0);
            pcodec::decode(reader.rest, count, integers, pco.get_or_insert_default())?;
            for (row, to) in wanted {
                let value = *integers.get(*row as usize).ok_or(reader.damaged())? as f64;
                *to = if scale == 1.0 { value } else { value / scale };
            }
        }
        _ => {
            values.clear();
            decode_with(bytes, count, columns, values)?;
            for (row, to) in wanted {
                *to = *values.get(*row as usize).ok_or(reader.damaged())?;
            }
        }
    }
    Ok(())
}

/// One row of a column, as [`decode_rows`] gives it.
pub(crate) fn decode_row(
    bytes: &[u8],
    count: usize,
    row: usize,
    presence: bool,
    scratch: &mut Decoded,
) -> Result<f64, Damaged> {
    let mut reader = Reader::new(bytes, "value column");
    match bytes.first() {
        _ if row >= count => Err(reader.damaged()),
        Some(&CONSTANT) => {
            reader.byte()?;
            reader.f64()
        }
        Some(&(DECIMAL | PCO_DECIMAL | SEGMENTS)) if presence => Ok(0.0),
        Some(&RUNS) => {
            reader.byte()?;
            let runs = reader.count(count)?;
            let (mut run, mut left, mut behind) = (None, count, 0);
            for at in 1..runs {
                let len = reader.count(left)?;
                left -= len;
                behind += len;
                if run.is_none() && row < behind {
                    run = Some(at - 1);
                }
            }
            let run = run.or(runs.checked_sub(1)).ok_or(reader.damaged())?;
            // runs of runs would let a few bytes recurse deeply
            if reader.rest.first() == Some(&RUNS) {
                return Err(reader.damaged());
            }
            decode_row(reader.rest, runs, run, presence, scratch)
        }
        kind => {
            // what is behind the row need not be read
            let upto =
                if let Some(&(PCO | PCO_DECIMAL)) = kind { pcodec::whole_batches(row + 1, count) } else { count };
            let Decoded { values, columns } = scratch;
            values.clear();
            decode_part(bytes, (count, upto), columns, values)?;
            values.get(row).copied().ok_or(reader.damaged())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64]) -> usize {
        let mut out = Vec::new();
        encode(values, &mut out);
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let mut back = Vec::new();
        decode(&out, values.len(), &mut back).unwrap();
        assert_eq!(bits(&back), bits(values));
        let mut best = Vec::new();
        encode_best(values, &mut best);
        assert!(best.len() <= out.len());
        back.clear();
        decode(&best, values.len(), &mut back).unwrap();
        assert_eq!(bits(&back), bits(values));
        back.clear();
        let rows = values.len() / 3..values.len().div_ceil(2);
        decode_rows(&best, values.len(), rows.clone(), false, &mut Decoded::default(), &mut back).unwrap();
        assert_eq!(bits(&back), bits(&values[rows]));
        back.clear();
        decode_rows(&best, values.len(), 0..values.len(), true, &mut Decoded::default(), &mut back).unwrap();
        let stale = |v: &[f64]| v.iter().map(|x| model::is_stale(*x)).collect::<Vec<_>>();
        assert_eq!(stale(&back), stale(values));
        let mut scratch = Decoded::default();
        for column in [&out, &best] {
            for row in [0, values.len() / 3, values.len() / 2, values.len().saturating_sub(1)] {
                let Some(value) = values.get(row) else { continue };
                let found = decode_row(column, values.len(), row, false, &mut scratch).unwrap();
                assert_eq!(found.to_bits(), value.to_bits());
                let found = decode_row(column, values.len(), row, true, &mut scratch).unwrap();
                assert_eq!(model::is_stale(found), model::is_stale(*value));
            }
        }
        let picked: Vec<u32> =
            (0..9).map(|at| if at % 4 == 3 { NO_ROW } else { (at * values.len() / 9) as u32 }).collect();
        for (column, presence) in
            [(&out, false), (&best, false), (&best, true)].into_iter().filter(|_| !values.is_empty())
        {
            let mut back = [-7.5; 9];
            decode_picked(column, values.len(), &picked, presence, &mut scratch, &mut back).unwrap();
            for (row, found) in picked.iter().zip(back) {
                match values.get(*row as usize) {
                    None => assert_eq!(found, -7.5),
                    Some(value) if presence => assert_eq!(model::is_stale(found), model::is_stale(*value)),
                    Some(value) => assert_eq!(found.to_bits(), value.to_bits()),
                }
            }
        }
        out.len()
    }

    #[test]
    fn columns_take_few_bytes() {
        assert_eq!(check(&[3.5; 120]), 9);
        assert!(check(&(0..120).map(|i| f64::from(i) * 64.0).collect::<Vec<_>>()) < 30);
        assert!(check(&(0..120).map(|i| f64::from(i % 7) / 100.0).collect::<Vec<_>>()) < 120);
        let mut rare = [1e9; 480];
        rare[100] = 2e9;
        assert!(check(&rare) < 40);
        check(&[f64::NAN, -0.0, 0.0, model::STALE_NAN, f64::INFINITY, f64::MIN_POSITIVE, 1e300, 0.1 + 0.2]);
        check(&[9_007_199_254_740_993.0, 9_007_199_254_740_992.0, 1.0]);
    }

    #[test]
    fn large_integers_and_their_decimals_are_found() {
        let large = [
            4_503_599_627_370_497.0,
            -9_007_199_254_740_991.0,
            4_503_599_627_370_495.0,
            -1.0,
            0.0,
            2_251_799_813_685_249.0,
        ];
        assert_eq!(decimals(&large), Some((0, large.map(|v| v as i64).to_vec())));
        assert_eq!(decimals(&[45_035_996_273_704.97, -0.01]), Some((2, vec![4_503_599_627_370_497, -1])));
        assert_eq!(decimals(&[0.5, 1.0]), Some((1, vec![5, 10])));
        assert_eq!(decimals(&[-0.0]), None);
        assert_eq!(decimals(&[f64::NAN]), None);
        assert_eq!(decimals(&[9_007_199_254_740_992.0]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bits_read_back(bits: Vec<u64>) {
            check(&bits.iter().map(|b| f64::from_bits(*b)).collect::<Vec<_>>());
        }

        #[test]
        fn decimals_read_back(values: Vec<i32>, exponent in 0i32..9, repeat in 1usize..20) {
            let values: Vec<f64> = values
                .iter()
                .flat_map(|v| std::iter::repeat_n(f64::from(*v) / 10f64.powi(exponent), repeat))
                .collect();
            check(&values);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 1usize..200) {
            let _ = decode(&bytes, count, &mut Vec::new());
            let _ = decode_picked(&bytes, count, &[0, count as u32 / 2], false, &mut Decoded::default(), &mut [0.0; 2]);
            let _ = decode_row(&bytes, count, count / 2, false, &mut Decoded::default());
        }
    }
}
