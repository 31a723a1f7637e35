//! Sets of columns, as bits in words.

use std::ops::Range;

const BITS: usize = u64::BITS as usize;

/// Words for so many bits.
pub(crate) fn words(bits: usize) -> usize {
    bits.div_ceil(BITS)
}

pub(crate) fn is_set(bits: &[u64], at: usize) -> bool {
    bits[at / BITS] & 1 << (at % BITS) != 0
}

pub(crate) fn set(bits: &mut [u64], at: usize) {
    bits[at / BITS] |= 1 << (at % BITS);
}

/// Whether a bit was set. It is not any more.
pub(crate) fn clear(bits: &mut [u64], at: usize) -> bool {
    let was_set = is_set(bits, at);
    bits[at / BITS] &= !(1 << (at % BITS));
    was_set
}

pub(crate) fn set_all(bits: &mut [u64], range: Range<usize>) {
    let words = if range.is_empty() { 0..0 } else { range.start / BITS..words(range.end) };
    for word in words {
        let from = range.start.saturating_sub(word * BITS);
        let upto = (range.end - word * BITS).min(BITS);
        bits[word] |= u64::MAX << from & u64::MAX >> (BITS - upto);
    }
}

/// The places of bits that are set in a word, ascending.
#[inline]
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then_some(word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// The places of bits that are set, ascending.
pub(crate) fn places(bits: &[u64]) -> impl Iterator<Item = usize> + '_ {
    bits.iter().enumerate().flat_map(|(at, word)| ones(*word).map(move |bit| at * BITS + bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_single_bits() {
        const LEN: usize = 200;
        for (from, to) in [(0, 0), (5, 5), (0, 1), (3, 64), (63, 65), (64, 128), (1, 199), (0, LEN), (128, 129)] {
            let mut bits = vec![0; words(LEN)];
            set_all(&mut bits, from..to);
            assert_eq!(places(&bits).collect::<Vec<_>>(), (from..to).collect::<Vec<_>>());
            if from < to {
                assert!(clear(&mut bits, from) && !clear(&mut bits, from));
                assert_eq!(places(&bits).collect::<Vec<_>>(), (from + 1..to).collect::<Vec<_>>());
            }
        }
        let mut bits = vec![0; 2];
        [1, 64].iter().for_each(|at| set(&mut bits, *at));
        assert!(is_set(&bits, 64) && !is_set(&bits, 63));
    }
}
