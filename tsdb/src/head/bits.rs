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

/// The words that have some of these bits, and which those are in them.
fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let words = if range.is_empty() { 0..0 } else { range.start / BITS..words(range.end) };
    words.map(move |word| {
        let from = range.start.saturating_sub(word * BITS);
        let upto = (range.end - word * BITS).min(BITS);
        (word, u64::MAX << from & u64::MAX >> (BITS - upto))
    })
}

pub(crate) fn set_all(bits: &mut [u64], range: Range<usize>) {
    masks(range).for_each(|(word, mask)| bits[word] |= mask);
}

pub(crate) fn are_all_set(bits: &[u64], range: Range<usize>) -> bool {
    masks(range).all(|(word, mask)| bits[word] & mask == mask)
}

pub(crate) fn is_any_set(bits: &[u64], range: Range<usize>) -> bool {
    masks(range).any(|(word, mask)| bits[word] & mask != 0)
}

/// The places of bits that are set, ascending.
pub(crate) fn places(bits: &[u64]) -> impl Iterator<Item = usize> + '_ {
    bits.iter().enumerate().flat_map(|(at, word)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = (left != 0).then_some(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(at * BITS + bit)
        })
    })
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
            for (a, b) in
                [(0, LEN), (from, to), (from, from), (from.saturating_sub(1), to), (from, LEN.min(to + 1)), (70, 130)]
            {
                let inside = |at: usize| (from..to).contains(&at);
                assert_eq!(are_all_set(&bits, a..b), (a..b).all(inside), "{from}..{to} {a}..{b}");
                assert_eq!(is_any_set(&bits, a..b), (a..b).any(inside), "{from}..{to} {a}..{b}");
            }
        }
        let mut bits = vec![0; 2];
        [1, 64].iter().for_each(|at| set(&mut bits, *at));
        assert!(is_set(&bits, 64) && !is_set(&bits, 63));
    }
}
