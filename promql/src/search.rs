//! Searches beside queries: for series, and for names and values of labels. They may take as much time and memory as a query.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::memory::{Account, Charge, Urgency};
use crate::storage::{Progress, StorageError, Watch};
use crate::{CancelToken, EngineOptions, QueryError};

/// How long there is somebody who waits for an answer.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    cancel: CancelToken,
    deadline: Option<Instant>,
}

impl Patience {
    /// Until it is canceled, or from now on for so long.
    pub(crate) fn new(cancel: CancelToken, timeout: Option<Duration>) -> Self {
        Self { cancel, deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)) }
    }

    /// Fails if nobody waits any more.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.cancel.is_canceled() {
            return Err(QueryError::Canceled);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }
}

/// Looks for something with a watch that says stop when `may_go_on` fails, and gives that error then.
pub(crate) fn watched<T>(
    mut may_go_on: impl FnMut(Progress) -> Result<(), QueryError>,
    look: impl FnOnce(Watch<'_>) -> Result<T, StorageError>,
) -> Result<T, QueryError> {
    let state = RefCell::new((None, &mut may_go_on));
    let go_on = |progress: Progress| {
        let (stopped, may_go_on) = &mut *state.borrow_mut();
        *stopped = may_go_on(progress).err();
        stopped.is_none()
    };
    let found = look(Watch(Some(&go_on)));
    match state.into_inner().0 {
        Some(error) => Err(error),
        None => Ok(found?),
    }
}

/// What a search of a storage beside queries may take: the time and the memory of a query. What it has found is counted as held until
/// this is dropped.
#[derive(Debug)]
pub struct Search {
    patience: Patience,
    held: Charge,
}

impl Search {
    /// A search under the limits of an engine, and for as long as `timeout`.
    pub(crate) fn new(options: &EngineOptions, cancel: CancelToken, timeout: Option<Duration>) -> Self {
        let timeout = options.timeout.into_iter().chain(timeout).min();
        let account = Account::new(options.max_memory, options.memory.clone(), Urgency::Ordinary);
        Self { patience: Patience::new(cancel, timeout), held: account.charge() }
    }

    /// Looks for something in a storage, which asks the watch now and then whether to go on.
    ///
    /// # Errors
    /// When the storage fails, nobody waits any more, or what has been found takes too much memory.
    pub fn look<T>(&mut self, look: impl FnOnce(Watch<'_>) -> Result<T, StorageError>) -> Result<T, QueryError> {
        let Self { patience, held } = self;
        let before = held.bytes();
        watched(|progress| patience.check().and_then(|()| held.set(before.saturating_add(progress.bytes))), look)
    }

    /// So many bytes more are held. To be called before each piece of work of more than a few microseconds, with 0 if need be.
    ///
    /// # Errors
    /// When nobody waits any more, or that is too much memory.
    pub fn hold(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.patience.check()?;
        self.held.add(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Engine, MemoryPool};

    fn engine(memory: &Arc<MemoryPool>) -> Engine {
        Engine::new(EngineOptions { max_memory: 100_000, memory: Arc::clone(memory), ..EngineOptions::default() })
    }

    /// Finds ten things of 10 kB each if it may.
    fn find(watch: Watch<'_>) -> Result<usize, StorageError> {
        let may = |found: &usize| watch.go_on(Progress { series: *found, bytes: found * 10_000 });
        match (1..=10).take_while(may).count() {
            10 => Ok(10),
            found => Err(StorageError(format!("stopped after {found}"))),
        }
    }

    #[test]
    fn a_search_takes_memory_until_it_is_dropped() {
        let memory = Arc::new(MemoryPool::new(1_000_000));
        let mut search = engine(&memory).search(CancelToken::default(), None);
        assert_eq!(search.look(find).unwrap(), 10);
        assert!(memory.held() >= 100_000, "{}", memory.held());
        // what was found before counts
        assert!(matches!(search.look(find), Err(QueryError::TooMuchMemory { .. })));
        assert!(matches!(search.hold(1 << 20), Err(QueryError::TooMuchMemory { .. })));
        search.hold(0).unwrap();
        drop(search);
        assert_eq!(memory.held(), 0);
        let failed =
            engine(&memory).search(CancelToken::default(), None).look(|_| Err::<(), _>(StorageError("no".into())));
        assert!(matches!(failed, Err(QueryError::Storage(_))), "{failed:?}");
    }

    #[test]
    fn a_search_ends_when_nobody_waits_any_more() {
        let memory = Arc::default();
        let cancel = CancelToken::default();
        let mut search = engine(&memory).search(cancel.clone(), None);
        let found = search.look(|watch| {
            cancel.cancel();
            find(watch)
        });
        assert!(matches!(found, Err(QueryError::Canceled)), "{found:?}");
        assert!(matches!(search.hold(0), Err(QueryError::Canceled)));
        let mut search = engine(&memory).search(CancelToken::default(), Some(Duration::ZERO));
        assert!(matches!(search.look(find), Err(QueryError::Timeout)));
    }
}
