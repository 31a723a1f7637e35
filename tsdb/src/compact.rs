//! Which blocks are to be merged next: upstream's leveled compaction.

use model::Timestamp;

use crate::block::{BlockMeta, Ulid};

/// Block ranges: each three times the one before, from the shortest up to the longest allowed.
pub(crate) fn ranges(shortest: i64, longest: i64) -> Vec<i64> {
    let mut ranges = vec![shortest];
    while let Some(next) = ranges.last().and_then(|r| r.checked_mul(3)).filter(|r| *r <= longest) {
        ranges.push(next);
    }
    ranges
}

/// The blocks to merge next, oldest first; empty if there is nothing to do. Blocks that overlap go first, then the
/// shortest range of which all blocks are there, the newest block being left alone.
pub(crate) fn plan(blocks: &[BlockMeta], ranges: &[i64]) -> Vec<Ulid> {
    let mut sorted: Vec<&BlockMeta> = blocks.iter().collect();
    sorted.sort_by_key(|b| (b.min_time, b.max_time));
    let overlapping = overlapping(&sorted);
    if !overlapping.is_empty() {
        return overlapping;
    }
    // the newest block may be merged when there are more behind it
    sorted.pop();
    let Some(newest) = sorted.last().map(|b| b.min_time) else { return Vec::new() };
    for range in &ranges[1..] {
        for part in aligned(&sorted, *range) {
            let (min, max) = (part[0].min_time, part[part.len() - 1].max_time);
            if part.len() > 1 && (max - min == *range || max <= newest) {
                return part.iter().map(|b| b.ulid).collect();
            }
        }
    }
    Vec::new()
}

fn overlapping(sorted: &[&BlockMeta]) -> Vec<Ulid> {
    let mut found: Vec<Ulid> = Vec::new();
    let mut end = Timestamp::MIN;
    for (at, block) in sorted.iter().enumerate() {
        if at > 0 && block.min_time < end {
            if found.is_empty() {
                found.push(sorted[at - 1].ulid);
            }
            found.push(block.ulid);
        } else if !found.is_empty() {
            break;
        }
        end = end.max(block.max_time);
    }
    found
}

/// Runs of blocks that lie in one aligned range each; blocks that cross a border are left out.
fn aligned<'a>(sorted: &[&'a BlockMeta], range: i64) -> Vec<Vec<&'a BlockMeta>> {
    let mut parts: Vec<(i64, Vec<&BlockMeta>)> = Vec::new();
    for block in sorted {
        let start = block.min_time.div_euclid(range) * range;
        if block.max_time > start + range {
            continue;
        }
        match parts.last_mut() {
            Some((last, part)) if *last == start => part.push(block),
            _ => parts.push((start, vec![block])),
        }
    }
    parts.into_iter().map(|p| p.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockStats, Compaction};

    fn check(blocks: &[(i64, i64)], expected: &[usize]) {
        let metas: Vec<BlockMeta> = blocks
            .iter()
            .map(|(min_time, max_time)| BlockMeta {
                ulid: Ulid::new(*min_time + 1000),
                min_time: *min_time,
                max_time: *max_time,
                stats: BlockStats::default(),
                compaction: Compaction::default(),
                version: 1,
            })
            .collect();
        let plan = plan(&metas, &[20, 60, 180]);
        let found: Vec<usize> = plan.iter().map(|ulid| metas.iter().position(|m| m.ulid == *ulid).unwrap()).collect();
        assert_eq!(found, expected, "{blocks:?}");
    }

    #[test]
    fn plans_are_those_of_upstream() {
        check(&[], &[]);
        check(&[(0, 20)], &[]);
        check(&[(0, 20), (20, 40), (40, 60)], &[]);
        check(&[(0, 20), (20, 40), (40, 60), (60, 80)], &[0, 1, 2]);
        check(&[(0, 20), (20, 40), (60, 80), (80, 100)], &[0, 1]);
        check(&[(20, 40), (40, 60), (60, 80)], &[]);
        check(&[(0, 60), (60, 120), (120, 180), (180, 200)], &[0, 1, 2]);
        check(&[(0, 20), (10, 30), (40, 60)], &[0, 1]);
        check(&[(0, 20), (0, 25), (5, 10), (30, 40)], &[0, 1, 2]);
        check(&[(0, 20), (40, 60), (200, 220)], &[0, 1]);
    }

    #[test]
    fn ranges_triple() {
        assert_eq!(ranges(2, 60), [2, 6, 18, 54]);
        assert_eq!(ranges(2, 2), [2]);
    }
}
