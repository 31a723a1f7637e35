//! Signed integers that lie near each other without an order among them: bit-packed in blocks of 64 against the block's least.
//!
//! ```text
//! for each 64 integers left: least (varint, zigzag), width (u8, 0..=64), packed (integer - least)
//! ```

use crate::encoding::bitpack;
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

const BLOCK: usize = 64;

/// Appends integers, any at all.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    for block in values.chunks(BLOCK) {
        let (mut least, mut most) = (block[0], block[0]);
        for value in block {
            (least, most) = (least.min(*value), most.max(*value));
        }
        let width = bitpack::bit_length(most.wrapping_sub(least) as u64);
        varint::put_signed(out, least);
        out.push(width as u8);
        if width > 0 {
            let mut above = [0; BLOCK];
            above.iter_mut().zip(block).for_each(|(to, value)| *to = value.wrapping_sub(least) as u64);
            bitpack::pack(out, &above[..block.len()], width);
        }
    }
}

/// Reads `count` integers and calls `each` with them, in order.
#[inline]
pub(crate) fn decode(reader: &mut Reader<'_>, count: usize, mut each: impl FnMut(i64)) -> Result<(), Damaged> {
    for from in (0..count).step_by(BLOCK) {
        let block = BLOCK.min(count - from);
        let least = reader.signed()?;
        let width = u32::from(reader.byte()?);
        if width > 64 {
            return Err(reader.damaged());
        }
        let packed = reader.take(bitpack::packed_len(block, width))?;
        bitpack::unpack(packed, 0, block, width, |above| each(least.wrapping_add(above as i64)))?;
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
        let block = BLOCK.min(count - from);
        let least = reader.signed()?;
        let width = u32::from(reader.byte()?);
        if width > 64 {
            return Err(reader.damaged());
        }
        let packed = reader.take(bitpack::packed_len(block, width))?;
        while let Some(place) = places.next_if(|place| *place < from + block) {
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
