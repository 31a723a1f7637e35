//! A column as Pcodec (the `pco` crate) writes it: wrapped format, header, one chunk, one page; the number of values lies
//! elsewhere.

use std::io::Write;

use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec};

use crate::encoding::bitpack::bit_length;
use crate::encoding::varint::zigzag;
use crate::error::Damaged;

/// Columns of fewer values get fewer bins, of which more would not pay. With the library's own level 8 columns of a day were measured to be
/// 0.1 % shorter, at a tenth more time.
const LONG: usize = 2048;

/// Orders of differences whose estimated sizes differ by less than this many bits a value are both tried.
const CLOSE: f64 = 0.2;

/// Appends a column of floats that have no common decimal scale; `false` (and perhaps some bytes) if Pcodec refuses the values.
pub(crate) fn encode_floats(values: &[f64], out: &mut Vec<u8>) -> bool {
    encode(values, DeltaSpec::Auto, out)
}

/// Appends a column of integers of which `sizes` are the [`estimated_bits`]; `false` (and perhaps some bytes) if Pcodec refuses them.
///
/// The order of differences is found here. What the library finds from a small sample was measured to make the columns of a day 5 % longer, at
/// twice to four times the time.
pub(crate) fn encode_integers(values: &[i64], sizes: [f64; 3], out: &mut Vec<u8>) -> bool {
    let least = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let close = (0..sizes.len()).filter(|order| sizes[*order] <= least + CLOSE);
    let mut best: Option<Vec<u8>> = None;
    for order in close {
        let mut column = Vec::new();
        let done = encode(values, DeltaSpec::TryConsecutive(order), &mut column);
        if done && best.as_ref().is_none_or(|best| column.len() < best.len()) {
            best = Some(column);
        }
    }
    best.iter().for_each(|column| out.extend_from_slice(column));
    best.is_some()
}

/// About how many bits a value takes as it is, as the difference to the one before, and as the difference of differences: what tells how
/// long the number is, and the number. That is more than Pcodec takes for them, by up to a third where the numbers are short.
pub(crate) fn estimated_bits(values: &[i64]) -> [f64; 3] {
    let length = |value: i64| bit_length(zigzag(value)) as usize;
    // the mean of integers is one of them
    let middle = (values.iter().fold(0i128, |sum, v| sum + i128::from(*v)) / values.len().max(1) as i128) as i64;
    let mut lengths = [[0u32; 65]; 3];
    let (mut before, mut difference_before) = (None, None);
    for &value in values {
        lengths[0][length(value.wrapping_sub(middle))] += 1;
        if let Some(before) = before.replace(value) {
            let difference = value.wrapping_sub(before);
            lengths[1][length(difference)] += 1;
            if let Some(before) = difference_before.replace(difference) {
                lengths[2][length(difference.wrapping_sub(before))] += 1;
            }
        }
    }
    lengths.map(|counts| {
        let all = f64::from(counts.iter().sum::<u32>().max(1));
        let bits = |(length, count): (usize, &u32)| {
            let count = f64::from(*count);
            // the first bit of a number is known by its length
            if count > 0.0 { count * ((all / count).log2() + length.saturating_sub(1) as f64) } else { 0.0 }
        };
        counts.iter().enumerate().map(bits).sum::<f64>() / values.len() as f64
    })
}

fn encode<T: Number>(values: &[T], deltas: DeltaSpec, out: &mut Vec<u8>) -> bool {
    let level = if values.len() < LONG { 5 } else { 6 };
    let config = ChunkConfig::default().with_compression_level(level).with_delta_spec(deltas);
    let write = |out: &mut Vec<u8>| -> pco::errors::PcoResult<()> {
        let file = FileCompressor::default();
        file.write_header(&mut *out as &mut dyn Write)?;
        let mut chunk = file.chunk_compressor(values, &config)?;
        chunk.write_meta(&mut *out as &mut dyn Write)?;
        chunk.write_page(0, &mut *out as &mut dyn Write)?;
        Ok(())
    };
    write(out).is_ok()
}

/// Values that are read together.
const BATCH: usize = 256;

/// How many values of a column of `count` are read if the first `wanted` are.
pub(crate) fn whole_batches(wanted: usize, count: usize) -> usize {
    wanted.next_multiple_of(BATCH).min(count)
}

/// What decoding takes, used again for the next column.
#[derive(Default)]
pub(crate) struct Scratch {
    pco: DecompressorScratch,
    /// The column with anything behind it.
    bytes: Vec<u8>,
}

/// More than the decoder looks at in one go. Where fewer bytes follow it makes a buffer with zeros behind what there is, for each column.
const BEHIND: usize = 10 << 10;

/// Reads a column of `count` values: as many as there is room for, all or those of [`whole_batches`].
pub(crate) fn decode<T: Number>(
    bytes: &[u8],
    count: usize,
    values: &mut [T],
    scratch: &mut Scratch,
) -> Result<(), Damaged> {
    let Scratch { pco, bytes: long } = scratch;
    let len = bytes.len() + BEHIND;
    if long.len() < len {
        long.resize(len, 0);
    }
    long[..bytes.len()].copy_from_slice(bytes);
    let mut read = || -> pco::errors::PcoResult<usize> {
        let (file, rest) = FileDecompressor::new(&long[..len])?;
        let (chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
        let mut page = chunk.page_decompressor_with_scratch(rest, count, pco)?;
        page.read(values)?;
        Ok(page.into_src().len())
    };
    match read() {
        Ok(behind) if behind >= BEHIND => Ok(()),
        // what lies behind the column is nothing to be read
        _ => Err(Damaged("Pcodec column")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_differences_is_that_of_the_values() {
        let noise = |i: i64| (xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()) % 64) as i64;
        let len = |values: Vec<i64>| {
            let mut out = Vec::new();
            assert!(encode_integers(&values, estimated_bits(&values), &mut out));
            let mut back = vec![0; values.len()];
            decode(&out, values.len(), &mut back, &mut Scratch::default()).unwrap();
            assert_eq!(back, values);
            out.len()
        };
        // noise around a level, a walk, a walk of the slope: each takes what the noise takes, in its own order of differences
        let level = len((0..4000).map(|i| 1 << 40 | noise(i)).collect());
        let mut sum = 0;
        let walk = (0..4000).map(|i| (sum += noise(i), sum).1).collect::<Vec<i64>>();
        let mut sum = 0;
        let slope = walk.iter().map(|step| (sum += step, sum).1).collect::<Vec<i64>>();
        for (kind, size) in [("level", level), ("walk", len(walk)), ("slope", len(slope))] {
            assert!((2500..3300).contains(&size), "{kind}: {size}");
        }
        len(vec![i64::MIN, i64::MAX, 0, -1, i64::MIN]);
        len(vec![7]);
    }
}
