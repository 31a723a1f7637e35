//! The times at which work recurs: every target and rule group has its own place within its interval, the same in every run.

use model::Timestamp;

/// When work is first due: at its place within the interval, from now on.
pub(crate) fn first_due(now: Timestamp, interval: i64, hash: u64) -> Timestamp {
    let offset = (hash % interval.unsigned_abs()) as i64;
    let start = now - now.rem_euclid(interval) + offset;
    if start < now { start + interval } else { start }
}

/// The place on the grid that counts as due at `now`. After a pause of the machine, or a jump of the clock in either direction, the
/// grid goes on from there: nothing is caught up with, and nothing waits for a time that was.
pub(crate) fn due_after(due: Timestamp, now: Timestamp, interval: i64) -> Timestamp {
    // a millisecond early is rounding, not a jump
    if (now - due).abs() < interval { due } else { due + (now - due).div_euclid(interval) * interval }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Work takes no time here; between two looks the clock goes on, and jumps by whatever it likes.
        #[test]
        fn jumps_of_the_clock_neither_hold_work_up_nor_repeat_it(
            interval in 1..100_000i64,
            hash: u64,
            jumps in prop::collection::vec(prop_oneof![4 => Just(0), 1 => -400_000..400_000i64, 1 => -1i64 << 40..1i64 << 40], 1..30),
        ) {
            let mut now = 1_700_000_000_000i64;
            let mut due = first_due(now, interval, hash);
            for jump in jumps {
                // as a loop waits: until it is due, at most an interval, whatever the clock does meanwhile
                let wait = (due - now).clamp(0, interval);
                now += wait + jump;
                let done = due_after(due, now, interval);
                prop_assert_eq!((done - due) % interval, 0);
                prop_assert!((now - done).abs() < interval, "{} is far from {}", done, now);
                due = done + interval;
                // never at once again, and within two places of the grid even when it was early
                prop_assert!(due > now && due - now < 2 * interval, "{} after {}", due, now);
            }
        }
    }

    #[test]
    fn the_grid_follows_jumps_of_the_clock() {
        let hour = 3_600_000;
        for (due, now, expected) in [
            (100_000, 100_001, 100_000),
            (100_000, 99_999, 100_000),
            (100_000, 114_000, 100_000),
            (100_000, 131_000, 130_000),
            (100_000 + hour, 100_500, 100_000),
            (100_000, 100_500 + hour, 100_000 + hour),
        ] {
            assert_eq!(due_after(due, now, 15_000), expected, "{due} {now}");
        }
    }

    #[test]
    fn the_first_time_lies_within_one_interval_on_the_grid() {
        for (now, hash) in [(1_000_000, 0), (1_000_123, 7), (999_999, 14_999), (0, u64::MAX)] {
            let first = first_due(now, 15_000, hash);
            assert!((now..now + 15_000).contains(&first), "{now} {hash} {first}");
            assert_eq!(first.rem_euclid(15_000), (hash % 15_000) as i64);
        }
    }
}
