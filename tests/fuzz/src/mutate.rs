/// Changes inputs at random, the same way for the same seed.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
    words: &'static [&'static str],
}

/// Numbers at which something may end or overflow, as bytes.
const EDGES: [&[u8]; 8] = [
    &[0],
    &[0xff],
    &[0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0, 0, 0, 0, 0, 0, 0, 0x80],
    &[0xff, 0xff, 0xff, 0x7f],
    b"18446744073709551616",
];

impl Mutator {
    /// With a seed, and the words that inputs are made of.
    pub fn new(seed: u64, words: &'static [&'static str]) -> Self {
        Self { state: seed, words }
    }

    /// A number below `limit`; 0 for 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if limit == 0 { 0 } else { ((z ^ (z >> 31)) % limit as u64) as usize }
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len + 1);
        let most = (len - from).min(1 + self.below(32));
        from..from + self.below(most + 1)
    }

    /// Changes `input` in one to four places; `other` is one to take parts from. The result has at most `limit` bytes.
    pub fn change(&mut self, input: &mut Vec<u8>, other: &[u8], limit: usize) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(input.len() + 1);
            match self.below(9) {
                0 if !input.is_empty() => {
                    let at = self.below(input.len());
                    input[at] ^= 1 << self.below(8);
                }
                1 => input.insert(at, self.below(256) as u8),
                2 => {
                    let range = self.range(input.len());
                    input.drain(range);
                }
                3 => {
                    let range = self.range(input.len());
                    let part = input[range].to_vec();
                    input.splice(at..at, part);
                }
                4 => {
                    let range = self.range(other.len());
                    input.splice(at..at, other[range].iter().copied());
                }
                5 if !self.words.is_empty() => {
                    let word = self.words[self.below(self.words.len())];
                    input.splice(at..at, word.bytes());
                }
                6 => {
                    let range = self.range(input.len());
                    input.splice(range, EDGES[self.below(EDGES.len())].iter().copied());
                }
                7 => {
                    let range = self.range(input.len());
                    let from = self.below(other.len() + 1);
                    let part = other[from..].iter().take(range.len()).copied().collect::<Vec<u8>>();
                    input.splice(range, part);
                }
                8 if !input.is_empty() => {
                    let at = self.below(input.len());
                    input[at] = input[at].wrapping_add(self.below(5) as u8).wrapping_sub(2);
                }
                _ => input.truncate(at),
            }
        }
        input.truncate(limit);
    }
}
