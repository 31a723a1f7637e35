//! Long looks for series ask now and then whether to go on.

use std::cell::Cell;

/// How far a search for series has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Series found so far, some of which may turn out to have no samples in the range.
    pub series: usize,
    /// Bytes that what has been found takes.
    pub bytes: usize,
}

/// Says whether to go on with a search. Called about every millisecond, from the thread that searches.
pub type Watch<'a> = &'a dyn Fn(Progress) -> bool;

/// The search was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// So much work is done between two looks, each unit some ten nanoseconds.
const WORK: usize = 1 << 15;

/// Counts work and what is found, and looks now and then whether to go on. Once stopped, it stays so: loops may end early with any
/// result, which whoever began the search throws away.
pub(crate) struct Pace<'a> {
    watch: Option<Watch<'a>>,
    left: Cell<usize>,
    progress: Cell<Progress>,
    stopped: Cell<bool>,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(watch: Watch<'a>) -> Self {
        Self { watch: Some(watch), ..Self::unwatched() }
    }

    /// Does a search that `watch` may end.
    pub(crate) fn watched<T>(watch: Watch<'a>, search: impl FnOnce(&Self) -> T) -> Result<T, Stopped> {
        let pace = Self::new(watch);
        let found = search(&pace);
        pace.finish().map(|()| found)
    }

    /// Of a search that nobody ends.
    pub(crate) fn unwatched() -> Self {
        let (left, progress, stopped) = (Cell::new(WORK), Cell::default(), Cell::new(false));
        Self { watch: None, left, progress, stopped }
    }

    /// So much work is done; whether to go on.
    #[inline]
    pub(crate) fn done(&self, work: usize) -> bool {
        let left = self.left.get();
        if work < left {
            self.left.set(left - work);
            return !self.stopped.get();
        }
        self.look()
    }

    /// Looks whether to go on.
    pub(crate) fn look(&self) -> bool {
        self.left.set(WORK);
        if let (Some(watch), false) = (self.watch, self.stopped.get())
            && !watch(self.progress.get())
        {
            self.stopped.set(true);
        }
        !self.stopped.get()
    }

    /// So many series more were found, and so many bytes taken for them.
    pub(crate) fn found(&self, series: usize, bytes: usize) {
        let Progress { series: known, bytes: taken } = self.progress.get();
        self.progress.set(Progress { series: known + series, bytes: taken + bytes });
    }

    /// The end of a search.
    pub(crate) fn finish(&self) -> Result<(), Stopped> {
        if self.look() { Ok(()) } else { Err(Stopped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_looked_at_now_and_then_and_a_stop_lasts() {
        let looks = Cell::new(0);
        let watch = |progress: Progress| {
            looks.set(looks.get() + 1);
            progress.series < 7
        };
        let pace = Pace::new(&watch);
        assert!((0..10 * WORK).all(|_| pace.done(1)));
        assert_eq!(looks.get(), 10);
        pace.found(7, 100);
        assert!(!pace.done(WORK) && !pace.done(1));
        assert_eq!((looks.get(), pace.finish()), (11, Err(Stopped)));
        assert_eq!(Pace::unwatched().finish(), Ok(()));
    }
}
