//! Which queries are so short that to hand them to another thread would take longer than they do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::QueryTime;

/// What takes no longer is short.
const SHORT: Duration = Duration::from_micros(300);

/// What was short and is not any more is ended about here.
pub(super) const LIMIT: Duration = Duration::from_millis(1);

/// Places for queries that are remembered: so many that the seven hundred of all dashboards hardly take each other's.
const PLACES: usize = 8192;

/// Remembers queries that were short when they were asked last: dashboards and people ask the same again. Only those are evaluated on
/// the threads that serve connections, one at a time, so that others are served whatever happens to it.
#[derive(Debug)]
pub(super) struct ShortQueries {
    /// By what a query hashes to; a newer one takes the place of an older one.
    known: Box<[AtomicU64]>,
    running: AtomicBool,
}

/// A query by its text and by how many times it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of(text: &str, at: QueryTime) -> Self {
        let times = match at {
            QueryTime::Instant(_) => 0,
            // a range that is as long has as much to do wherever it lies
            QueryTime::Range((start, end, step)) => (end.wrapping_sub(start) as u64).rotate_left(32) ^ step as u64,
        };
        // no place is empty by chance
        Self(xxh3_64_with_seed(text.as_bytes(), times) | 1)
    }

    fn place(self) -> usize {
        (self.0 >> 1) as usize % PLACES
    }
}

/// Leave to evaluate a query at once, until dropped.
pub(super) struct Turn<'a>(&'a ShortQueries);

impl Default for ShortQueries {
    fn default() -> Self {
        Self { known: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), running: AtomicBool::new(false) }
    }
}

impl ShortQueries {
    /// How long a query has taken; `None` if it was ended for that.
    pub(super) fn note(&self, key: Key, took: Option<Duration>) {
        let place = &self.known[key.place()];
        if took.is_some_and(|took| took <= SHORT) {
            place.store(key.0, Ordering::Relaxed);
        } else {
            let _ = place.compare_exchange(key.0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Leave to evaluate a query at once, if it was short the last time and no other one is evaluated like this.
    pub(super) fn enter(&self, key: Key) -> Option<Turn<'_>> {
        let known = self.known[key.place()].load(Ordering::Relaxed) == key.0;
        (known && !self.running.swap(true, Ordering::Acquire)).then_some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_short_is_evaluated_at_once_and_one_at_a_time() {
        let queries = ShortQueries::default();
        let [up, hour, day] = [
            Key::of("up", QueryTime::Instant(5)),
            Key::of("up", QueryTime::Range((0, 3_600_000, 15_000))),
            Key::of("up", QueryTime::Range((0, 86_400_000, 15_000))),
        ];
        assert!(queries.enter(up).is_none());
        queries.note(up, Some(SHORT));
        queries.note(hour, Some(SHORT));
        queries.note(day, Some(2 * SHORT));
        assert!(queries.enter(day).is_none());
        let turn = queries.enter(Key::of("up", QueryTime::Instant(77))).expect("a turn");
        assert!(queries.enter(hour).is_none(), "one at a time");
        drop(turn);
        assert!(queries.enter(Key::of("up", QueryTime::Range((1000, 3_601_000, 15_000)))).is_some());
        queries.note(hour, None);
        assert!(queries.enter(hour).is_none() && queries.enter(up).is_some());
    }
}
