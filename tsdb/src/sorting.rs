//! Sorting that looks now and then whether to go on.

use std::cmp::Ordering;

use crate::watch::Pace;

/// Items that are sorted in one go, between two looks.
pub(crate) const RUN: usize = 1 << 13;

/// Sorts, looking now and then whether to go on.
pub(crate) fn sort_runs<T: Copy>(mut items: Vec<T>, compare: impl Fn(&T, &T) -> Ordering, pace: &Pace<'_>) -> Vec<T> {
    for run in items.chunks_mut(RUN) {
        if !pace.done(run.len() * 8) {
            return items;
        }
        run.sort_unstable_by(&compare);
    }
    let mut length = RUN;
    while length < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        for pair in items.chunks(length * 2) {
            let (left, right) = pair.split_at(length.min(pair.len()));
            merge_into(left, right, &compare, pace, &mut merged);
        }
        if !pace.done(0) {
            return items;
        }
        items = merged;
        length *= 2;
    }
    items
}

/// Merges two sorted lists. Anything if it was told to stop.
pub(crate) fn merge<T: Copy>(left: &[T], right: &[T], compare: impl Fn(&T, &T) -> Ordering, pace: &Pace<'_>) -> Vec<T> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    merge_into(left, right, &compare, pace, &mut merged);
    merged
}

fn merge_into<T: Copy>(
    mut left: &[T],
    right: &[T],
    compare: &impl Fn(&T, &T) -> Ordering,
    pace: &Pace<'_>,
    out: &mut Vec<T>,
) {
    for item in right {
        // what is merged is near, or far where few come among many
        let mut step = 1;
        while step < left.len() && compare(&left[step - 1], item).is_lt() {
            step *= 2;
        }
        let from = step / 2;
        let from = from.min(left.len());
        let at = from + left[from..step.min(left.len())].partition_point(|known| compare(known, item).is_lt());
        if !pace.done(8 + at / 16) {
            return;
        }
        out.extend_from_slice(&left[..at]);
        out.push(*item);
        left = &left[at..];
    }
    out.extend_from_slice(left);
}
