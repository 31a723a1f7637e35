//! Unsigned integers of one width side by side, lowest bit first.

use crate::error::Damaged;

/// Bytes that `count` integers of `width` bits take.
pub(crate) fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

pub(crate) fn pack(out: &mut Vec<u8>, values: &[u64], width: u32) {
    if width == 0 {
        return;
    }
    let (mut hold, mut bits) = (0u128, 0);
    for &value in values {
        hold |= u128::from(value) << bits;
        bits += width;
        while bits >= 8 {
            out.push(hold as u8);
            hold >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(hold as u8);
    }
}

/// Calls `each` with every integer, in order.
#[inline]
pub(crate) fn unpack(bytes: &[u8], count: usize, width: u32, mut each: impl FnMut(u64)) -> Result<(), Damaged> {
    if width > 64 || bytes.len() < packed_len(count, width) {
        return Err(Damaged("bit-packed integers"));
    }
    if width == 0 {
        (0..count).for_each(|_| each(0));
        return Ok(());
    }
    let mask = u64::MAX >> (64 - width);
    let mut at = 0usize;
    let mut done = 0;
    // one unaligned load holds any value of up to 57 bits
    if width <= 57 {
        while done < count && at / 8 + 8 <= bytes.len() {
            let word: [u8; 8] = bytes[at / 8..at / 8 + 8].try_into().unwrap_or_default();
            each((u64::from_le_bytes(word) >> (at % 8)) & mask);
            at += width as usize;
            done += 1;
        }
    }
    for _ in done..count {
        let mut word = [0u8; 16];
        let from = at / 8;
        let len = (bytes.len() - from).min(16);
        word[..len].copy_from_slice(&bytes[from..from + len]);
        each((u128::from_le_bytes(word) >> (at % 8)) as u64 & mask);
        at += width as usize;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn integers_read_back(values: Vec<u64>, shift in 0u32..64) {
            let values: Vec<u64> = values.iter().map(|v| v >> shift).collect();
            let width = 64 - values.iter().fold(0, |all, v| all | v).leading_zeros();
            let mut out = Vec::new();
            pack(&mut out, &values, width);
            proptest::prop_assert_eq!(out.len(), packed_len(values.len(), width));
            let mut back = Vec::new();
            unpack(&out, values.len(), width, |v| back.push(v)).unwrap();
            proptest::prop_assert_eq!(back, values);
        }
    }
}
