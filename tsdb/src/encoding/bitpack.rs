//! Unsigned integers of one width side by side, lowest bit first.

use crate::error::Damaged;

/// Bytes that `count` integers of `width` bits take.
pub(crate) fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Bits of a number without its leading zeros.
pub(crate) fn bit_length(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Appends integers of any widths side by side.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    hold: u128,
    held: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, hold: 0, held: 0 }
    }

    /// Appends an integer that has no more bits than `width`, which is 64 at most.
    #[inline]
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        self.hold |= u128::from(value) << self.held;
        self.held += width;
        if self.held >= 64 {
            self.out.extend_from_slice(&(self.hold as u64).to_le_bytes());
            self.hold >>= 64;
            self.held -= 64;
        }
    }

    /// Pads to a byte.
    pub(crate) fn finish(self) {
        let bytes = self.held.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.hold.to_le_bytes()[..bytes]);
    }
}

pub(crate) fn pack(out: &mut Vec<u8>, values: &[u64], width: u32) {
    let mut writer = BitWriter::new(out);
    values.iter().for_each(|value| writer.put(*value, width));
    writer.finish();
}

/// The integer of `width` bits (64 at most) that begins at bit `at`; what lies behind the end is zero.
pub(crate) fn read(bytes: &[u8], at: usize, width: u32) -> u64 {
    let rest = bytes.get(at / 8..).unwrap_or_default();
    let mut word = [0u8; 16];
    let len = rest.len().min(16);
    word[..len].copy_from_slice(&rest[..len]);
    let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
    (u128::from_le_bytes(word) >> (at % 8)) as u64 & mask
}

/// Calls `each` with every integer, in order, of which the first begins at bit `at`.
#[inline]
pub(crate) fn unpack(
    bytes: &[u8],
    mut at: usize,
    count: usize,
    width: u32,
    mut each: impl FnMut(u64),
) -> Result<(), Damaged> {
    if width > 64 || bytes.len() * 8 < at + count * width as usize {
        return Err(Damaged("bit-packed integers"));
    }
    if width == 0 {
        (0..count).for_each(|_| each(0));
        return Ok(());
    }
    let mask = u64::MAX >> (64 - width);
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
        each(read(bytes, at, width));
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
            let width = bit_length(values.iter().fold(0, |all, v| all | v));
            let mut out = Vec::new();
            pack(&mut out, &values, width);
            proptest::prop_assert_eq!(out.len(), packed_len(values.len(), width));
            let mut back = Vec::new();
            unpack(&out, 0, values.len(), width, |v| back.push(v)).unwrap();
            proptest::prop_assert_eq!(back, values);
        }
    }
}
