//! How a block's index has the series of a label: their numbers as differences or as runs.

use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;
use crate::postings::SeriesSet;

/// Kinds of posting lists.
const DELTAS: u8 = 0;
const RUNS: u8 = 1;

const WHAT: &str = "postings";

/// A posting list as differences or as runs, whichever is shorter.
pub(crate) fn put_postings(ids: &[u32], out: &mut Vec<u8>) {
    let mut deltas = vec![DELTAS];
    varint::put(&mut deltas, ids.len() as u64);
    let mut next = 0;
    for id in ids {
        varint::put(&mut deltas, u64::from(id - next));
        next = id + 1;
    }
    let mut runs = vec![RUNS];
    let mut next = 0;
    for run in ids.chunk_by(|a, b| a + 1 == *b) {
        varint::put(&mut runs, u64::from(run[0] - next));
        varint::put(&mut runs, run.len() as u64);
        next = run[run.len() - 1] + 1;
    }
    out.extend_from_slice(if runs.len() < deltas.len() { &runs } else { &deltas });
}

/// Reads what [`put_postings`] wrote; numbers must be below `series`.
pub(crate) fn take_postings(bytes: &[u8], series: u32) -> Result<Vec<u32>, Damaged> {
    let mut ids = Vec::new();
    each_run(bytes, |from, to| {
        if to > series {
            return Err(Damaged(WHAT));
        }
        ids.extend(from..to);
        Ok(false)
    })?;
    Ok(ids)
}

/// Whether a list has a number of the set.
pub(crate) fn has_posting(bytes: &[u8], set: &SeriesSet) -> Result<bool, Damaged> {
    each_run(bytes, |from, to| Ok((from..to).any(|id| set.contains(id))))
}

/// Calls `each` with the first and the end of each run of numbers in a list until it says that it has seen enough, which is what
/// this gives then.
fn each_run(bytes: &[u8], mut each: impl FnMut(u32, u32) -> Result<bool, Damaged>) -> Result<bool, Damaged> {
    let mut reader = Reader::new(bytes, WHAT);
    let mut next = 0u64;
    let mut run = |gap: u64, len: u64| -> Result<bool, Damaged> {
        let from = next.saturating_add(gap);
        next = from.saturating_add(len);
        match (u32::try_from(from), u32::try_from(next)) {
            (Ok(from), Ok(to)) => each(from, to),
            _ => Err(Damaged(WHAT)),
        }
    };
    match reader.byte()? {
        DELTAS => {
            for _ in 0..reader.count(bytes.len())? {
                if run(reader.varint()?, 1)? {
                    return Ok(true);
                }
            }
        }
        RUNS => {
            while !reader.is_empty() {
                if run(reader.varint()?, reader.varint()?)? {
                    return Ok(true);
                }
            }
        }
        _ => return Err(reader.damaged()),
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn postings_read_back(ids: std::collections::BTreeSet<u16>) {
            let ids: Vec<u32> = ids.into_iter().map(u32::from).collect();
            let mut out = Vec::new();
            put_postings(&ids, &mut out);
            proptest::prop_assert_eq!(take_postings(&out, 65_536), Ok(ids));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = take_postings(&bytes, 1000);
        }
    }
}
