//! Works on the series of a selection on several threads and hands the results on in the order of the series, so that an answer
//! does not depend on how many threads there are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use model::{Labels, Matcher, Timestamp};

use super::Evaluator;
use super::pace::LABELS_WORK;
use crate::QueryError;
use crate::annotations::Annotations;
use crate::memory::{Charge, Footprint};
use crate::plan::Extent;
use crate::storage::{KeptLabels, Progress, Samples, SelectRequest, Selection, Wanted, Watch};

/// Series that are read at a time, at most and at least.
const MAX_CHUNK: usize = 512;
const MIN_CHUNK: usize = 16;

/// Less work is not worth starting threads for: half a millisecond or so, in numbers that are looked at.
const MIN_PARALLEL: usize = 1 << 17;

/// What it is about to find a series, beside what is done with its samples.
const SERIES_WORK: usize = 128;

/// From one sample to the next, where nothing is known: seconds.
const USUAL_INTERVAL: usize = 15;

/// Samples are read at a time into so many bytes, where that is more than one series.
const READ_BYTES: usize = 4 << 20;

/// What is wanted of series.
#[derive(Clone, Copy)]
pub(super) struct Wants<'a> {
    pub(super) samples: Wanted,
    pub(super) labels: KeptLabels<'a>,
}

/// What the series of a chunk came to.
struct Chunk<T> {
    items: Vec<T>,
    notes: Annotations,
    /// Counts the memory of the items until they are taken over.
    held: Charge,
}

/// How much memory the samples of a series take, as far as is known.
struct Density(AtomicUsize);

impl Density {
    /// Before anything is read: as of a sample each second, which is seldom too little.
    fn guess((mint, maxt): (Timestamp, Timestamp)) -> Self {
        let seconds = maxt.saturating_sub(mint).max(0).unsigned_abs() / 1000;
        Self(AtomicUsize::new(usize::try_from(seconds).unwrap_or(usize::MAX).saturating_mul(16)))
    }

    /// How many series are to be read at a time.
    fn series(&self) -> usize {
        (READ_BYTES / self.0.load(Ordering::Relaxed).max(1)).max(1)
    }

    fn note(&self, bytes: usize, series: usize) {
        self.0.store(bytes / series.max(1), Ordering::Relaxed);
    }
}

/// Memory of the samples of several series; those with equal timestamps share them.
fn bytes_read(samples: &[Samples]) -> usize {
    let mut last: [Option<&Arc<[Timestamp]>>; 2] = [None; 2];
    let mut bytes = 0;
    for series in samples {
        for (last, times) in last.iter_mut().zip([&series.floats.timestamps, &series.histograms.timestamps]) {
            if !last.is_some_and(|last| Arc::ptr_eq(last, times)) {
                bytes += 8 * times.len();
            }
            *last = Some(times);
        }
        bytes += series.bytes();
    }
    bytes
}

impl Evaluator<'_> {
    /// Reads all series that match, in label order.
    pub(super) fn read_series(
        &self,
        matchers: &[Matcher],
        span: (Timestamp, Timestamp),
        each: &mut dyn FnMut(&Labels, Samples) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let keep = |(): &mut (), labels: &Labels, samples, _: &mut Annotations| Ok(Some((labels.clone(), samples)));
        let wants = Wants { samples: Wanted::Samples, labels: KeptLabels::All };
        self.work_on_series(matchers, span, wants, || (), keep, &mut |(labels, samples)| each(&labels, samples))
    }

    /// Reads all series that match, works on them, and calls `each` with what they came to, in label order. What comes to `None`
    /// is left out. Each thread begins with a `state` of its own.
    pub(super) fn work_on_series<S, T: Footprint + Send>(
        &self,
        matchers: &[Matcher],
        (mint, maxt): (Timestamp, Timestamp),
        wants: Wants<'_>,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, &Labels, Samples, &mut Annotations) -> Result<Option<T>, QueryError> + Sync,
        each: &mut dyn FnMut(T) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.query.check()?;
        let mut held = self.query.memory.charge();
        let selection = self.select(matchers, (mint, maxt), wants.samples, &mut held)?;
        self.query.check()?;
        let count = selection.len();
        self.query.read_series_more(count)?;
        let density = Density::guess((mint, maxt));
        let samples = usize::try_from(maxt.saturating_sub(mint) / 1000).unwrap_or(0) / USUAL_INTERVAL;
        let amount = count.saturating_mul(SERIES_WORK + self.steps.count + samples);
        if amount >= MIN_PARALLEL && self.query.only_if_short {
            return Err(QueryError::Timeout);
        }
        let threads = if amount < MIN_PARALLEL { 1 } else { self.query.threads };
        let size = (count / (threads * 4)).clamp(MIN_CHUNK, MAX_CHUNK);
        let chunks = count.div_ceil(size);
        let do_chunk = |state: &mut S, chunk: usize| -> Result<Chunk<T>, QueryError> {
            self.query.check()?;
            let range = chunk * size..count.min((chunk + 1) * size);
            let mut done = Chunk {
                items: Vec::with_capacity(range.len()),
                notes: Annotations::default(),
                held: self.query.memory.charge(),
            };
            let mut read = self.query.memory.charge();
            let mut pace = self.query.pace();
            let mut next = range.start;
            while next < range.end {
                self.query.check()?;
                let part = next..range.end.min(next.saturating_add(density.series()));
                next = part.end;
                let samples = selection.read(part.clone(), mint, maxt)?;
                let bytes = bytes_read(&samples);
                read.set(bytes)?;
                density.note(bytes, part.len());
                self.query.note_read(|| Extent {
                    series: part.len(),
                    samples: samples.iter().map(|series| series.floats.len() + series.histograms.len()).sum(),
                    bytes,
                });
                for (labels, samples) in selection.labels(part, wants.labels).iter().zip(samples) {
                    pace.done(LABELS_WORK + self.steps.count)?;
                    if let Some(item) = work(state, labels, samples, &mut done.notes)? {
                        done.held.add(item.bytes())?;
                        done.items.push(item);
                    }
                }
            }
            Ok(done)
        };
        let mut hand_on = |chunk: Chunk<T>| {
            self.query.merge_annotations(chunk.notes);
            chunk.items.into_iter().try_for_each(&mut *each)
        };
        if threads == 1 {
            let mut state = state();
            for chunk in 0..chunks {
                hand_on(do_chunk(&mut state, chunk)?)?;
            }
        } else {
            in_order(threads.min(chunks), chunks, state, do_chunk, hand_on)?;
        }
        self.note_warnings(selection.as_ref());
        Ok(())
    }

    /// Looks for series, and ends that when the query is to end or finds more than it may.
    fn select(
        &self,
        matchers: &[Matcher],
        (mint, maxt): (Timestamp, Timestamp),
        wanted: Wanted,
        held: &mut Charge,
    ) -> Result<Box<dyn Selection + '_>, QueryError> {
        let stopped = RefCell::new((None, held));
        let go_on = |progress: Progress| {
            let (reason, held) = &mut *stopped.borrow_mut();
            let may = self.query.check().and_then(|()| self.query.may_read_series(progress.series));
            match may.and_then(|()| held.set(progress.bytes)) {
                Ok(()) => true,
                Err(error) => {
                    *reason = Some(error);
                    false
                }
            }
        };
        let request =
            SelectRequest { watch: Watch(Some(&go_on)), ..SelectRequest::new(matchers, (mint, maxt), wanted) };
        let found = self.query.storage.select(&request);
        match stopped.into_inner().0 {
            Some(error) => Err(error),
            None => Ok(found?),
        }
    }

    fn note_warnings(&self, selection: &dyn Selection) {
        let mut all = self.query.storage_warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in selection.warnings() {
            if !all.contains(warning) {
                all.push(warning.clone());
            }
        }
    }
}

/// Results on their way from the threads that make them to the one that takes them in order.
struct Belt<T> {
    state: Mutex<BeltState<T>>,
    changed: Condvar,
}

struct BeltState<T> {
    done: BTreeMap<usize, T>,
    /// The next number to be taken.
    next: usize,
    /// Nobody takes any more, or a thread has panicked.
    stopped: bool,
}

impl<T> Belt<T> {
    fn lock(&self) -> MutexGuard<'_, BeltState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, BeltState<T>>) -> MutexGuard<'a, BeltState<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the belt when its thread panics.
struct Worker<'a, T>(&'a Belt<T>);

impl<T> Drop for Worker<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().stopped = true;
            self.0.changed.notify_all();
        }
    }
}

/// Makes `count` things on `threads` threads and takes them in order; few are waiting at any time. The first error in order of
/// the things ends it.
fn in_order<S, T: Send>(
    threads: usize,
    count: usize,
    state: impl Fn() -> S + Sync,
    make: impl Fn(&mut S, usize) -> Result<T, QueryError> + Sync,
    mut take: impl FnMut(T) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let ahead = threads * 2;
    let belt = Belt {
        state: Mutex::new(BeltState { done: BTreeMap::new(), next: 0, stopped: false }),
        changed: Condvar::new(),
    };
    let begun = AtomicUsize::new(0);
    let work = || {
        let _worker = Worker(&belt);
        let mut state = state();
        loop {
            let at = begun.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            let mut waiting = belt.lock();
            while at >= waiting.next + ahead && !waiting.stopped {
                waiting = belt.wait(waiting);
            }
            if waiting.stopped {
                return;
            }
            drop(waiting);
            let made = make(&mut state, at);
            belt.lock().done.insert(at, made);
            belt.changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
        let result = (0..count).try_for_each(|at| {
            let mut waiting = belt.lock();
            let made = loop {
                if let Some(made) = waiting.done.remove(&at) {
                    break made;
                }
                if waiting.stopped {
                    // the end of the scope passes the panic on
                    return Err(QueryError::execution("the evaluation ended early"));
                }
                waiting = belt.wait(waiting);
            };
            waiting.next = at + 1;
            drop(waiting);
            belt.changed.notify_all();
            take(made?)
        });
        belt.lock().stopped = true;
        belt.changed.notify_all();
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        for threads in [1, 2, 7] {
            let mut taken = Vec::new();
            in_order(
                threads,
                100,
                || 0,
                |seen: &mut i32, at| {
                    *seen += 1;
                    if at.is_multiple_of(3) {
                        std::thread::yield_now();
                    }
                    Ok(at)
                },
                |at| {
                    taken.push(at);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(taken, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_in_order_ends_it() {
        let make =
            |(): &mut (), at: usize| if at % 10 == 9 { Err(QueryError::execution(at.to_string())) } else { Ok(at) };
        let mut taken = 0;
        let result = in_order(
            3,
            50,
            || (),
            make,
            |_| {
                taken += 1;
                Ok(())
            },
        );
        assert_eq!((result.unwrap_err().to_string(), taken), ("9".to_owned(), 9));
        let result =
            in_order(3, 50, || (), |(), at| Ok(at), |at| if at == 4 { Err(QueryError::Canceled) } else { Ok(()) });
        assert!(matches!(result, Err(QueryError::Canceled)));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_passed_on() {
        let make = |(): &mut (), at: usize| if at == 5 { panic!("broken") } else { Ok(at) };
        let _ = in_order(2, 50, || (), make, |_| Ok(()));
    }
}
