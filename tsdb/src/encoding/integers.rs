//! A column of signed integers: first value, differences of first or second order, bit-packed in blocks of 32 against
//! the block's least difference.
//!
//! ```text
//! order      u8       1 or 2
//! first      varint   zigzag
//! second     varint   zigzag of the first difference (order 2, two values or more)
//! blocks     for each 32 differences left: least (varint, zigzag), width (u8, 0..=64), packed (difference - least)
//! ```

use crate::encoding::bitpack;
use crate::encoding::frame_of_reference::{Block, put_block, shape};
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

const BLOCK: usize = 32;

/// Appends `values` in whichever order of differences is shorter. Differences wrap, so any integers are good.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    let deltas: Vec<i64> = values.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    let seconds: Vec<i64> = deltas.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    let second_order = !deltas.is_empty() && blocks_len(&seconds) + 2 < blocks_len(&deltas);
    out.push(if second_order { 2 } else { 1 });
    varint::put_signed(out, first);
    if second_order {
        varint::put_signed(out, deltas[0]);
        put_blocks(&seconds, out);
    } else {
        put_blocks(&deltas, out);
    }
}

fn blocks_len(differences: &[i64]) -> usize {
    let len = |block: &[i64]| {
        let (least, width) = shape(block);
        let least_len = (70 - (varint::zigzag(least) | 1).leading_zeros() as usize) / 7;
        1 + least_len + bitpack::packed_len(block.len(), width)
    };
    differences.chunks(BLOCK).map(len).sum()
}

fn put_blocks(differences: &[i64], out: &mut Vec<u8>) {
    differences.chunks(BLOCK).for_each(|block| put_block(block, out));
}

/// Reads `count` integers and calls `each` with them, in order.
#[inline]
pub(crate) fn decode(reader: &mut Reader<'_>, count: usize, mut each: impl FnMut(i64)) -> Result<(), Damaged> {
    if count == 0 {
        return Ok(());
    }
    let order = reader.byte()?;
    let mut value = reader.signed()?;
    each(value);
    let mut left = count - 1;
    let mut delta = 0i64;
    match order {
        1 => {}
        2 if left > 0 => {
            delta = reader.signed()?;
            value = value.wrapping_add(delta);
            each(value);
            left -= 1;
        }
        _ => return Err(reader.damaged()),
    }
    while left > 0 {
        let n = left.min(BLOCK);
        let Block { least, width, packed } = Block::take(reader, n)?;
        if order == 1 {
            bitpack::unpack(packed, 0, n, width, |d| {
                value = value.wrapping_add(least.wrapping_add(d as i64));
                each(value);
            })?;
        } else {
            bitpack::unpack(packed, 0, n, width, |d| {
                delta = delta.wrapping_add(least.wrapping_add(d as i64));
                value = value.wrapping_add(delta);
                each(value);
            })?;
        }
        left -= n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[i64]) -> usize {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut back = Vec::new();
        let mut reader = Reader::new(&out, "test");
        decode(&mut reader, values.len(), |v| back.push(v)).unwrap();
        assert!(reader.is_empty());
        assert_eq!(back, values);
        out.len()
    }

    #[test]
    fn regular_integers_take_few_bytes() {
        assert_eq!(check(&[]), 0);
        assert_eq!(check(&[7]), 2);
        let regular: Vec<i64> = (0..480).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        assert!(check(&regular) < 60);
        check(&[i64::MIN, i64::MAX, 0, i64::MIN, -1]);
    }

    proptest::proptest! {
        #[test]
        fn integers_read_back(values: Vec<i64>, shift in 0u32..64) {
            check(&values.iter().map(|v| v >> shift).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0usize..200) {
            let _ = decode(&mut Reader::new(&bytes, "test"), count, |_| {});
        }
    }
}
