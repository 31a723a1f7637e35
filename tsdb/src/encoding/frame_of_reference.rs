//! Signed integers that lie near each other without an order among them: bit-packed in blocks of 64 against the block's least.
//!
//! ```text
//! for each 64 integers left: least (varint, zigzag), width (u8, 0..=64), packed (integer - least)
//! ```

use crate::encoding::bitpack;
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

const BLOCK: usize = 64;

/// The least of a block, and the bits that what the others are above it takes.
pub(super) fn shape(block: &[i64]) -> (i64, u32) {
    let least = block.iter().copied().min().unwrap_or(0);
    let most = block.iter().copied().max().unwrap_or(0);
    (least, bitpack::bit_length(most.wrapping_sub(least) as u64))
}

/// Appends one block of at most 64 integers, any at all.
pub(super) fn put_block(block: &[i64], out: &mut Vec<u8>) {
    let (least, width) = shape(block);
    varint::put_signed(out, least);
    out.push(width as u8);
    let mut above = [0u64; BLOCK];
    above.iter_mut().zip(block).for_each(|(to, value)| *to = value.wrapping_sub(least) as u64);
    bitpack::pack(out, &above[..block.len()], width);
}

/// A block that is read.
pub(super) struct Block<'a> {
    pub(super) least: i64,
    pub(super) width: u32,
    /// With some bytes from behind it: the unpacker may look past the block, which is faster than copying its end.
    pub(super) packed: &'a [u8],
}

impl<'a> Block<'a> {
    /// Takes a block of `count` integers.
    #[inline]
    pub(super) fn take(reader: &mut Reader<'a>, count: usize) -> Result<Self, Damaged> {
        let least = reader.signed()?;
        let width = u32::from(reader.byte()?);
        if width > 64 {
            return Err(reader.damaged());
        }
        let packed = reader.rest;
        let len = bitpack::packed_len(count, width);
        reader.take(len)?;
        Ok(Self { least, width, packed: &packed[..packed.len().min(len + 8)] })
    }
}

/// Appends integers, any at all.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    values.chunks(BLOCK).for_each(|block| put_block(block, out));
}

/// Reads `count` integers and calls `each` with them, in order.
#[inline]
pub(crate) fn decode(reader: &mut Reader<'_>, count: usize, mut each: impl FnMut(i64)) -> Result<(), Damaged> {
    for from in (0..count).step_by(BLOCK) {
        let len = BLOCK.min(count - from);
        let Block { least, width, packed } = Block::take(reader, len)?;
        bitpack::unpack(packed, 0, len, width, |above| each(least.wrapping_add(above as i64)))?;
    }
    Ok(())
}

/// Of `count` integers reads those at `places`, which ascend, and calls `each` with them.
pub(crate) fn decode_some(
    reader: &mut Reader<'_>,
    count: usize,
    places: impl Iterator<Item = usize>,
    mut each: impl FnMut(i64),
) -> Result<(), Damaged> {
    let mut places = places.peekable();
    for from in (0..count).step_by(BLOCK) {
        let len = BLOCK.min(count - from);
        let Block { least, width, packed } = Block::take(reader, len)?;
        while let Some(place) = places.next_if(|place| *place < from + len) {
            let above = bitpack::read(packed, (place - from) * width as usize, width);
            each(least.wrapping_add(above as i64));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[i64]) -> usize {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut reader = Reader::new(&out, "test");
        let mut back = Vec::new();
        decode(&mut reader, values.len(), |value| back.push(value)).unwrap();
        assert!(reader.is_empty());
        assert_eq!(back, values);
        back.clear();
        let places = (0..values.len()).filter(|at| at % 3 == 1);
        decode_some(&mut Reader::new(&out, "test"), values.len(), places, |value| back.push(value)).unwrap();
        assert_eq!(back, values.iter().copied().skip(1).step_by(3).collect::<Vec<_>>());
        out.len()
    }

    #[test]
    fn what_lies_near_takes_few_bytes() {
        assert_eq!(check(&[]), 0);
        assert_eq!(check(&[-1; 64]), 2);
        assert_eq!(check(&(0..128).map(|at| 1_000_000 + at * 7919 % 128).collect::<Vec<_>>()), 2 * (4 + 64 * 7 / 8));
        check(&[i64::MIN, i64::MAX, 0, -1]);
    }

    proptest::proptest! {
        #[test]
        fn integers_read_back(values: Vec<i64>, shift in 0u32..64) {
            check(&values.iter().map(|value| value >> shift).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0usize..200) {
            let _ = decode(&mut Reader::new(&bytes, "test"), count, |_| {});
        }
    }
}
