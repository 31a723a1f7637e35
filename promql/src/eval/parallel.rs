//! Works on the series of a selection on several threads and hands the results on in the order of the series, so that an answer
//! does not depend on how many threads there are.

use std::collections::BTreeMap;
use std::mem::take;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use model::{Labels, Matcher, Timestamp};

use super::Evaluator;
use super::frame::Hist;
use super::pace::{LABELS_WORK, Pace};
use crate::QueryError;
use crate::annotations::Annotations;
use crate::memory::{Charge, Footprint};
use crate::plan::Extent;
use crate::search::watched;
use crate::storage::{
    KeptLabels, Lent, Newest, NewestAt, Progress, Samples, SelectRequest, Selection, StorageError, Wanted,
};

/// Series that are read at a time, at most and at least.
const MAX_CHUNK: usize = 512;
const MIN_CHUNK: usize = 16;
/// So many values at all steps are enough for a chunk: what waits to be taken should fit into caches, and each page of memory that is used
/// for the first time takes as long as some thousand values.
const CHUNK_VALUES: usize = 1 << 15;

/// Less work is not worth starting threads for: half a millisecond or so, in numbers that are looked at.
const MIN_PARALLEL: usize = 1 << 17;

/// What it is about to find a series, beside what is done with its samples.
const SERIES_WORK: usize = 128;

/// From one sample to the next, where nothing is known: seconds.
const USUAL_INTERVAL: usize = 15;

/// What is wanted of series.
#[derive(Clone, Copy)]
pub(super) struct Wants<'a> {
    pub(super) samples: Wanted,
    pub(super) labels: KeptLabels<'a>,
}

/// What the series of a chunk came to.
struct Chunk<'q, T> {
    items: Vec<T>,
    notes: Annotations,
    /// Counts the memory of the items that nobody has taken over.
    held: Charge,
    /// Counts that of the samples they are made from.
    read: Charge,
    pace: Pace<'q>,
}

impl<T: Footprint> Chunk<'_, T> {
    /// A series with samples of so many bytes is worked on, which is so much work.
    fn begin(&mut self, bytes: usize, work: usize) -> Result<(), QueryError> {
        self.read.set(bytes)?;
        self.pace.done(LABELS_WORK + work)
    }

    /// Takes what a series came to.
    fn take(&mut self, item: Option<T>) -> Result<(), QueryError> {
        if let Some(item) = item {
            self.held.add(item.bytes())?;
            self.items.push(item);
        }
        Ok(())
    }
}

/// What is read of a series.
pub(super) trait Loaded: Sized {
    /// Reads some series, one after the other until `each` says no.
    fn read(
        selection: &dyn Selection,
        range: Range<usize>,
        span: (Timestamp, Timestamp),
        each: &mut dyn FnMut(Self) -> bool,
    ) -> Result<(), StorageError>;

    /// How many samples there are, and their memory.
    fn size(&self) -> (usize, usize);

    /// About as many samples there are in so much time.
    fn usual_count(span: (Timestamp, Timestamp)) -> usize;
}

impl Loaded for Samples {
    fn read(
        selection: &dyn Selection,
        range: Range<usize>,
        (mint, maxt): (Timestamp, Timestamp),
        each: &mut dyn FnMut(Self) -> bool,
    ) -> Result<(), StorageError> {
        selection.read_each(range, mint, maxt, each)
    }

    fn size(&self) -> (usize, usize) {
        let count = self.floats.len() + self.histograms.len();
        (count, 8 * count + self.bytes())
    }

    fn usual_count((mint, maxt): (Timestamp, Timestamp)) -> usize {
        usize::try_from(maxt.saturating_sub(mint) / 1000).unwrap_or(0) / USUAL_INTERVAL
    }
}

/// The newest sample alone.
impl Loaded for Newest<Hist> {
    fn read(
        selection: &dyn Selection,
        range: Range<usize>,
        (mint, maxt): (Timestamp, Timestamp),
        each: &mut dyn FnMut(Self) -> bool,
    ) -> Result<(), StorageError> {
        selection.newest(range, mint, maxt)?.into_iter().all(each);
        Ok(())
    }

    fn size(&self) -> (usize, usize) {
        let (count, bytes) = match self {
            Self::Histogram(histogram) => (1, histogram.bytes()),
            Self::Float(_) => (1, 0),
            Self::None => (0, 0),
        };
        (count, size_of::<Self>() + bytes)
    }

    fn usual_count(_: (Timestamp, Timestamp)) -> usize {
        1
    }
}

/// Samples that are lent, and their memory.
fn size_of_lent(lent: &Lent<'_, Hist>) -> (usize, usize) {
    match lent {
        Lent::Newest(values) => (values.len(), 8 * values.len()),
        Lent::Samples(floats, histograms) => {
            let (count, bytes) = histograms.as_ref().map_or((0, 0), |h| (h.len(), 8 * h.len() + h.bytes()));
            (floats.values.len() + count, 16 * floats.values.len() + bytes)
        }
    }
}

impl Evaluator<'_> {
    /// Reads all series that match, in label order.
    pub(super) fn read_series(
        &self,
        matchers: &[Matcher],
        span: (Timestamp, Timestamp),
        each: &mut dyn FnMut(&Labels, Samples) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let keep =
            |(): &mut (), labels: &Labels, samples: Samples, _: &mut Annotations| Ok(Some((labels.clone(), samples)));
        let wants = Wants { samples: Wanted::Samples, labels: KeptLabels::All };
        self.work_on_series(matchers, span, wants, || (), keep, &mut |(labels, samples)| each(labels, take(samples)))
    }

    /// Reads all series that match, works on them, and calls `each` with what they came to, in label order; what it does not take over is
    /// dropped. What comes to `None` is left out. Each thread begins with a `state` of its own.
    pub(super) fn work_on_series<I: Loaded, S, T: Footprint + Send>(
        &self,
        matchers: &[Matcher],
        span: (Timestamp, Timestamp),
        wants: Wants<'_>,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, &Labels, I, &mut Annotations) -> Result<Option<T>, QueryError> + Sync,
        each: &mut dyn FnMut(&mut T) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let read = |state: &mut S, selection: &dyn Selection, range: Range<usize>, chunk: &mut Chunk<'_, T>| {
            let mut result = Ok(());
            let mut extent = Extent::default();
            let all_labels = selection.labels(range.clone(), wants.labels);
            let mut labels = all_labels.iter();
            I::read(selection, range, span, &mut |loaded| {
                let Some(labels) = labels.next() else { return false };
                let (samples, bytes) = loaded.size();
                extent.add(Extent { series: 1, samples, bytes });
                result = chunk
                    .begin(bytes, samples + self.steps.count)
                    .and_then(|()| work(state, labels, loaded, &mut chunk.notes))
                    .and_then(|item| chunk.take(item));
                result.is_ok()
            })?;
            self.query.note_read(|| extent);
            result
        };
        self.work_on_chunks(matchers, span, (wants, I::usual_count(span)), state, read, each)
    }

    /// As [`Self::work_on_series`], with the newest samples at some times, or those that count at any of them, without start timestamps.
    pub(super) fn work_on_newest<S, T: Footprint + Send>(
        &self,
        matchers: &[Matcher],
        at: NewestAt,
        wants: Wants<'_>,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, &Labels, Lent<'_, Hist>) -> Result<Option<T>, QueryError> + Sync,
        each: &mut dyn FnMut(&mut T) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let read = |state: &mut S, selection: &dyn Selection, range: Range<usize>, chunk: &mut Chunk<'_, T>| {
            let mut result = Ok(());
            let mut extent = Extent::default();
            let all_labels = selection.labels(range.clone(), wants.labels);
            let mut labels = all_labels.iter();
            selection.newest_at(range, at, &mut |lent| {
                let Some(labels) = labels.next() else { return false };
                let (samples, bytes) = size_of_lent(&lent);
                extent.add(Extent { series: 1, samples, bytes });
                result = chunk
                    .begin(bytes, samples + self.steps.count)
                    .and_then(|()| work(state, labels, lent))
                    .and_then(|item| chunk.take(item));
                result.is_ok()
            })?;
            self.query.note_read(|| extent);
            result
        };
        let span = at.span();
        self.work_on_chunks(matchers, span, (wants, Samples::usual_count(span)), state, read, each)
    }

    /// Finds series, has them read and worked on chunk by chunk, and calls `each` with what they came to. A series has about so many
    /// samples.
    fn work_on_chunks<S, T: Footprint + Send>(
        &self,
        matchers: &[Matcher],
        span: (Timestamp, Timestamp),
        (wants, samples): (Wants<'_>, usize),
        state: impl Fn() -> S + Sync,
        read: impl Fn(&mut S, &dyn Selection, Range<usize>, &mut Chunk<'_, T>) -> Result<(), QueryError> + Sync,
        each: &mut dyn FnMut(&mut T) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.query.check()?;
        let mut held = self.query.memory.charge();
        let selection = self.select(matchers, span, wants, &mut held)?;
        self.query.check()?;
        let count = selection.len();
        self.query.read_series_more(count)?;
        let amount = count.saturating_mul(SERIES_WORK + self.steps.count + samples);
        if amount >= MIN_PARALLEL && self.query.only_if_short {
            return Err(QueryError::Timeout);
        }
        let threads = if amount < MIN_PARALLEL { 1 } else { self.query.threads };
        let most = (CHUNK_VALUES / self.steps.count.max(1)).clamp(MIN_CHUNK, MAX_CHUNK);
        let size = (count / (threads * 4)).clamp(MIN_CHUNK, most);
        let chunks = count.div_ceil(size);
        let do_chunk = |state: &mut S, chunk: usize| -> Result<Chunk<'_, T>, QueryError> {
            self.query.check()?;
            let range = chunk * size..count.min((chunk + 1) * size);
            let mut done = Chunk {
                items: Vec::with_capacity(range.len()),
                notes: Annotations::default(),
                held: self.query.memory.charge(),
                read: self.query.memory.charge(),
                pace: self.query.pace(),
            };
            read(state, selection.as_ref(), range, &mut done)?;
            done.read.set(0)?;
            Ok(done)
        };
        let mut hand_on = |chunk: &mut Chunk<'_, T>| {
            self.query.merge_annotations(take(&mut chunk.notes));
            chunk.items.iter_mut().try_for_each(&mut *each)?;
            chunk.held.set(chunk.items.iter().map(Footprint::bytes).sum())
        };
        if threads == 1 {
            let mut state = state();
            for chunk in 0..chunks {
                hand_on(&mut do_chunk(&mut state, chunk)?)?;
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
        wants: Wants<'_>,
        held: &mut Charge,
    ) -> Result<Box<dyn Selection + '_>, QueryError> {
        let may_go_on = |progress: Progress| {
            self.query.check()?;
            self.query.may_read_series(progress.series)?;
            held.set(progress.bytes)
        };
        watched(may_go_on, |watch| {
            let request = SelectRequest::new(matchers, (mint, maxt), wants.samples);
            self.query.storage.select(&SelectRequest { labels: wants.labels, watch, ..request })
        })
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

/// Results on their way from the threads that make them to the one that takes them in order. Whoever waits is woken for what it waits for
/// alone: to wake a thread takes longer than most else that is done here.
struct Belt<T> {
    state: Mutex<BeltState<T>>,
    /// The next one can be taken.
    made: Condvar,
    /// More may be begun.
    taken: Condvar,
}

struct BeltState<T> {
    /// With the number of the thread that made each.
    done: BTreeMap<usize, (usize, T)>,
    /// What has been taken and looked at, by the thread that made it.
    spent: Vec<Vec<T>>,
    /// The next number to be begun, and how many there are.
    begun: usize,
    count: usize,
    /// The next number to be taken.
    next: usize,
    /// How many from there on may be begun.
    ahead: usize,
    /// Whether the one that takes waits for it.
    taker_waits: bool,
    /// How many wait for more to be begun.
    makers_wait: usize,
    /// Nobody takes any more, or a thread has panicked.
    stopped: bool,
}

impl<T> BeltState<T> {
    /// The number of one to be made, if there is room for it.
    fn begin(&mut self) -> Option<usize> {
        let begins = !self.stopped && self.begun < self.count.min(self.next + self.ahead);
        begins.then(|| {
            self.begun += 1;
            self.begun - 1
        })
    }
}

/// What the one that takes has to do.
enum Turn<T> {
    /// To look at the next one, made by this maker.
    Look(usize, T),
    /// To make one of this number itself.
    Make(usize),
}

impl<T> Belt<T> {
    fn new(makers: usize, count: usize) -> Self {
        let state = BeltState {
            done: BTreeMap::new(),
            spent: (0..makers).map(|_| Vec::new()).collect(),
            begun: 0,
            count,
            next: 0,
            ahead: makers * 2,
            taker_waits: false,
            makers_wait: 0,
            stopped: false,
        };
        Self { state: Mutex::new(state), made: Condvar::new(), taken: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BeltState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room to begin one; `None` if no more is wanted.
    fn begin(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            let begun = state.begin();
            if begun.is_some() || state.stopped || state.begun == state.count {
                return begun;
            }
            state.makers_wait += 1;
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.makers_wait -= 1;
        }
    }

    fn put(&self, at: usize, maker: usize, made: T) {
        let mut state = self.lock();
        state.done.insert(at, (maker, made));
        let awaited = state.taker_waits && state.next == at;
        drop(state);
        if awaited {
            self.made.notify_one();
        }
    }

    /// Whoever made it drops it: memory that another thread frees is fought over with the one that goes on making.
    fn give_back(&self, maker: usize, spent: T) {
        self.lock().spent[maker].push(spent);
    }

    fn spent(&self, maker: usize) -> Vec<T> {
        take(&mut self.lock().spent[maker])
    }

    /// The next one with who made it, or one to be made meanwhile; waits where there is neither. `None` if the next one does not come.
    fn turn(&self) -> Option<Turn<T>> {
        let mut state = self.lock();
        let (maker, made) = loop {
            let next = state.next;
            if let Some(made) = state.done.remove(&next) {
                break made;
            }
            if state.stopped {
                return None;
            }
            if let Some(at) = state.begin() {
                return Some(Turn::Make(at));
            }
            state.taker_waits = true;
            state = self.made.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.taker_waits = false;
        };
        state.next += 1;
        let waited_for = state.makers_wait > 0;
        drop(state);
        if waited_for {
            // one of them has room
            self.taken.notify_one();
        }
        Some(Turn::Look(maker, made))
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.made.notify_all();
        self.taken.notify_all();
    }
}

/// Stops the belt when its thread panics.
struct Worker<'a, T>(&'a Belt<T>);

impl<T> Drop for Worker<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// Makes `count` things on `threads` threads, of which this is one, and looks at them in order; few are waiting at any time. The first error
/// in order of the things ends it.
fn in_order<S, T: Send>(
    threads: usize,
    count: usize,
    state: impl Fn() -> S + Sync,
    make: impl Fn(&mut S, usize) -> Result<T, QueryError> + Sync,
    mut look: impl FnMut(&mut T) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let belt = Belt::new(threads, count);
    let make_next = |maker: usize, state: &mut S, at: usize| {
        drop(belt.spent(maker));
        belt.put(at, maker, make(state, at));
    };
    std::thread::scope(|scope| {
        let (belt, make_next, state) = (&belt, &make_next, &state);
        for maker in 1..threads {
            scope.spawn(move || {
                let _worker = Worker(belt);
                let mut state = state();
                while let Some(at) = belt.begin() {
                    make_next(maker, &mut state, at);
                }
            });
        }
        let _worker = Worker(belt);
        let (mut state, mut looked) = (state(), 0);
        let mut take_turn = || {
            // the end of the scope passes a panic on
            match belt.turn().ok_or_else(|| QueryError::execution("the evaluation ended early"))? {
                Turn::Make(at) => make_next(0, &mut state, at),
                Turn::Look(maker, made) => {
                    let mut made = made?;
                    look(&mut made)?;
                    belt.give_back(maker, Ok(made));
                    looked += 1;
                }
            }
            Ok(looked < count)
        };
        let mut result = Ok(count > 0);
        while let Ok(true) = result {
            result = take_turn();
        }
        belt.stop();
        result.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, Ordering};

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
                    taken.push(*at);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(taken, (0..100).collect::<Vec<_>>());
        }
    }

    /// Says who drops it.
    struct Dropped<'a>(std::thread::ThreadId, &'a Mutex<Vec<bool>>);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            let by_maker = std::thread::current().id() == self.0;
            self.1.lock().unwrap().push(by_maker);
        }
    }

    #[test]
    fn who_makes_things_drops_them() {
        let (threads, dropped) = (2, Mutex::new(Vec::new()));
        let make = |(): &mut (), _| Ok(Dropped(std::thread::current().id(), &dropped));
        in_order(threads, 100, || (), make, |_| Ok(())).unwrap();
        let dropped = dropped.into_inner().unwrap();
        assert_eq!(dropped.len(), 100);
        // but for those that nobody comes back for
        let by_others = dropped.iter().filter(|by_maker| !**by_maker).count();
        assert!(by_others <= threads * 3, "{by_others}");
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
            in_order(3, 50, || (), |(), at| Ok(at), |at| if *at == 4 { Err(QueryError::Canceled) } else { Ok(()) });
        assert!(matches!(result, Err(QueryError::Canceled)));
    }

    #[test]
    #[should_panic(expected = "broken")]
    fn a_panic_of_the_one_that_takes_is_passed_on() {
        let _ = in_order(2, 50, || (), |(), at| Ok(at), |at| if *at == 5 { panic!("broken") } else { Ok(()) });
    }

    /// One of two threads panics, which is the one that takes or the other one.
    fn panic_on(by_taker: bool) {
        let (taker, begun) = (std::thread::current().id(), AtomicBool::new(false));
        let make = |(): &mut (), at: usize| {
            if (std::thread::current().id() == taker) == by_taker {
                begun.store(true, Ordering::Release);
                panic!("broken");
            }
            // that it comes to it
            while !begun.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            Ok(at)
        };
        let _ = in_order(2, 50, || (), make, |_| Ok(()));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_another_thread_is_passed_on() {
        panic_on(false);
    }

    #[test]
    #[should_panic(expected = "broken")]
    fn a_panic_of_the_one_that_makes_as_well_is_passed_on() {
        panic_on(true);
    }

    #[test]
    fn the_one_that_takes_makes_some_as_well() {
        let caller = std::thread::current().id();
        let makers = Mutex::new(HashSet::new());
        let make = |(): &mut (), at: usize| {
            makers.lock().unwrap().insert(std::thread::current().id());
            // until each has begun one
            while makers.lock().unwrap().len() < 3 {
                std::thread::yield_now();
            }
            Ok(at)
        };
        in_order(3, 50, || (), make, |_| Ok(())).unwrap();
        assert!(makers.into_inner().unwrap().contains(&caller));
    }
}
