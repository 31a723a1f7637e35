//! Hashing of numbers that nobody chooses: series references, and what is a hash already. The standard library's hasher, which is made for keys
//! that an attacker may choose, takes longer than what else is done with a line of a page.

use std::hash::{BuildHasherDefault, Hasher};

/// A map's or set's hasher for keys that are one `u64`.
pub(crate) type NumberHash = BuildHasherDefault<NumberHasher>;

/// Spreads one number over all bits.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // odd, so that no two numbers become one; maps take the upper bits too
        let spread = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_in_a_row_are_spread() {
        let hash = |n: u64| {
            let mut hasher = NumberHasher::default();
            hasher.write_u64(n);
            hasher.finish()
        };
        let all: HashSet<u64> = (0..10_000).map(hash).collect();
        assert_eq!(all.len(), 10_000);
        // the lowest seven bits and the highest, which choose a place in a map
        for shift in [0, 57] {
            let parts: HashSet<u64> = (0..10_000).map(|n| hash(n) >> shift & 0x7f).collect();
            assert_eq!(parts.len(), 128, "{shift}");
        }
    }
}
