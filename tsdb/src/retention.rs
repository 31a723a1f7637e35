use crate::block::Ulid;

/// What retention needs to know of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sized {
    pub(crate) ulid: Ulid,
    pub(crate) max_time: i64,
    pub(crate) bytes: u64,
}

/// Blocks that end `duration` or more before the newest one, as upstream's `BeyondTimeRetention`.
pub(crate) fn beyond_time(blocks: &[Sized], duration: i64) -> Vec<Ulid> {
    let Some(newest) = blocks.iter().map(|b| b.max_time).max() else { return Vec::new() };
    let old = |b: &&Sized| b.max_time != newest && newest.saturating_sub(b.max_time) >= duration;
    blocks.iter().filter(old).map(|b| b.ulid).collect()
}

/// The oldest blocks, until the rest and `other` bytes take no more than `limit`; upstream's `BeyondSizeRetention`.
pub(crate) fn beyond_size(blocks: &[Sized], other: u64, limit: u64) -> Vec<Ulid> {
    let mut newest_first = blocks.to_vec();
    newest_first.sort_by_key(|b| std::cmp::Reverse(b.max_time));
    let mut total = other;
    let mut beyond = Vec::new();
    for block in newest_first {
        total = total.saturating_add(block.bytes);
        if total > limit {
            beyond.push(block.ulid);
        }
    }
    beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let blocks: Vec<Sized> = (1..=4).map(|i| Sized { ulid: Ulid::new(i), max_time: i * 100, bytes: 10 }).collect();
        let ends = |beyond: Vec<Ulid>| {
            let mut ends: Vec<i64> = blocks.iter().filter(|b| beyond.contains(&b.ulid)).map(|b| b.max_time).collect();
            ends.sort_unstable();
            ends
        };
        assert_eq!(ends(beyond_time(&blocks, 200)), [100, 200]);
        assert_eq!(ends(beyond_time(&blocks, 301)), [0i64; 0]);
        assert_eq!(ends(beyond_size(&blocks, 5, 30)), [100, 200]);
        assert_eq!(ends(beyond_size(&blocks, 0, 40)), [0i64; 0]);
        assert_eq!(ends(beyond_size(&blocks, 50, 40)), [100, 200, 300, 400]);
    }
}
