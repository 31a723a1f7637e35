//! The memory that queries take, counted while it is taken: a query that would take more than it may ends with an error.
//!
//! Every value that grows with the data holds a [`Charge`]. Charges draw from the account of their query, accounts from the pool of
//! all queries; each takes more than it needs at once, so that most additions touch no shared state.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Column, FloatHistogram, Labels};

use crate::QueryError;
use crate::result::{MatrixSeries, Points};
use crate::storage::Samples;

/// A charge takes at least so many bytes at a time from the account.
const CHARGE_GRAIN: usize = 4096;

/// An account takes multiples of so many bytes from the pool, or of less from a small one.
const ACCOUNT_GRAIN: usize = 1 << 20;

/// A query that holds no more than this part of the pool is small.
const SMALL: usize = 128;

/// What allocations cost beside the bytes that are asked for.
const ALLOCATION: usize = 16;

/// What an entry of a table by labels takes, without the labels.
pub(crate) const TABLE_ENTRY: usize = 48;

/// The memory that all queries together may take.
#[derive(Debug)]
pub struct MemoryPool {
    limit: usize,
    held: AtomicUsize,
}

impl MemoryPool {
    /// A pool of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    /// Bytes that queries may hold together.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that queries hold now, their results included until those are dropped.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize, limit: usize) -> Result<(), QueryError> {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|_| QueryError::MemoryTaken { limit: ByteSize(self.limit) })
    }

    fn give(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for MemoryPool {
    /// A pool without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// Who may take the last of a pool's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Three quarters of the pool at most, but for small queries: what users ask.
    #[default]
    Ordinary,
    /// All of it, for what must go on while users ask too much: rules.
    Urgent,
}

impl Urgency {
    /// How much of a pool may be taken when a query holds so much of it. Who asks little is answered while others ask too much.
    fn share(self, limit: usize, held: usize) -> usize {
        match self {
            Self::Ordinary if held > limit / SMALL => limit - limit / 4,
            Self::Ordinary | Self::Urgent => limit,
        }
    }
}

/// What one query may take, takes and has taken.
#[derive(Debug)]
pub(crate) struct Account {
    limit: usize,
    held: AtomicUsize,
    peak: AtomicUsize,
    pool: Arc<MemoryPool>,
    urgency: Urgency,
    /// Taken from the pool.
    reserved: AtomicUsize,
    /// Held while more or less is taken from the pool.
    reserving: Mutex<()>,
}

impl Account {
    pub(crate) fn new(limit: usize, pool: Arc<MemoryPool>, urgency: Urgency) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            pool,
            urgency,
            reserved: AtomicUsize::new(0),
            reserving: Mutex::new(()),
        })
    }

    /// An empty charge.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        Charge { account: Arc::clone(self), taken: 0, needed: 0 }
    }

    /// Most bytes that may be held at a time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Most bytes that were held at a time.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), QueryError> {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let before = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|_| QueryError::TooMuchMemory { limit: ByteSize(self.limit) })?;
        let held = before + bytes;
        if held > self.reserved.load(Ordering::Relaxed)
            && let Err(error) = self.reserve(held)
        {
            self.give(bytes);
            return Err(error);
        }
        self.peak.fetch_max(held, Ordering::Relaxed);
        Ok(())
    }

    fn give(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn reserve(&self, held: usize) -> Result<(), QueryError> {
        let _alone = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let reserved = self.reserved.load(Ordering::Relaxed);
        let grain = ACCOUNT_GRAIN.min(self.pool.limit / SMALL).max(CHARGE_GRAIN);
        let wanted = held.saturating_add(grain - 1) / grain * grain;
        if wanted > reserved {
            self.pool.take(wanted - reserved, self.urgency.share(self.pool.limit, held))?;
            self.reserved.store(wanted, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives back to the pool what is not held any more: to be called when a query has been evaluated.
    pub(crate) fn settle(&self) {
        let _alone = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let reserved = self.reserved.load(Ordering::Relaxed);
        let held = self.held.load(Ordering::Relaxed);
        if held < reserved {
            self.reserved.store(held, Ordering::Relaxed);
            self.pool.give(reserved - held);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.pool.give(*self.reserved.get_mut());
    }
}

/// Bytes that are counted as taken for as long as this lives. Part of a value that takes them.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    taken: usize,
    needed: usize,
}

impl Charge {
    /// So many bytes more are needed.
    ///
    /// # Errors
    /// When the query, or all queries together, would hold more than they may. Nothing changes then.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.set(self.needed.saturating_add(bytes))
    }

    /// So many bytes are needed instead.
    ///
    /// # Errors
    /// As [`Charge::add`].
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), QueryError> {
        if bytes > self.taken {
            let more = (bytes - self.taken).max(CHARGE_GRAIN);
            self.account.take(more)?;
            self.taken += more;
        } else if self.taken - bytes > CHARGE_GRAIN {
            self.account.give(self.taken - bytes);
            self.taken = bytes;
        }
        self.needed = bytes;
        Ok(())
    }

    /// Bytes that are needed.
    pub fn bytes(&self) -> usize {
        self.needed
    }

    /// Holds what another one holds, too.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.account, &other.account), "charges of one query");
        self.taken += std::mem::take(&mut other.taken);
        self.needed += std::mem::take(&mut other.needed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give(self.taken);
    }
}

/// A number of bytes, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub usize);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..1024 => (1, "B"),
            1024..1_048_576 => (1 << 10, "KiB"),
            _ => (1 << 20, "MiB"),
        };
        write!(f, "{} {name}", self.0 / unit)
    }
}

/// How much memory something takes, what it refers to included.
pub(crate) trait Footprint {
    /// In bytes.
    fn bytes(&self) -> usize;
}

impl Footprint for Labels {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.as_bytes().len() + 2 * ALLOCATION
    }
}

impl Footprint for FloatHistogram {
    fn bytes(&self) -> usize {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        let floats = self.positive_buckets.len() + self.negative_buckets.len() + self.custom_bounds().len();
        size_of::<Self>() + 8 * (spans + floats) + 4 * ALLOCATION
    }
}

impl<V: ValueBytes> Footprint for Column<V> {
    /// Without timestamps, which columns share.
    fn bytes(&self) -> usize {
        V::bytes_of(&self.values) + self.start_timestamps.as_ref().map_or(0, |starts| 8 * starts.len())
    }
}

impl Footprint for Samples {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.floats.bytes() + self.histograms.bytes()
    }
}

impl Footprint for (Labels, Samples) {
    fn bytes(&self) -> usize {
        self.0.bytes() + self.1.bytes()
    }
}

impl<V: ValueBytes> Footprint for Points<V> {
    fn bytes(&self) -> usize {
        V::bytes_of(&self.values) + 8 * self.timestamps.len()
    }
}

impl Footprint for MatrixSeries {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.labels.bytes() + self.floats.bytes() + self.histograms.bytes()
    }
}

/// Values of a column.
pub(crate) trait ValueBytes: Sized {
    fn bytes_of(values: &[Self]) -> usize;
}

impl ValueBytes for f64 {
    fn bytes_of(values: &[Self]) -> usize {
        8 * values.len()
    }
}

impl ValueBytes for Arc<FloatHistogram> {
    fn bytes_of(values: &[Self]) -> usize {
        values.iter().map(|histogram| 8 + histogram.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back() {
        let pool = Arc::new(MemoryPool::new(64 << 20));
        let account = Account::new(10 << 20, Arc::clone(&pool), Urgency::Urgent);
        let mut first = account.charge();
        first.add(3 << 20).unwrap();
        let mut second = account.charge();
        second.add(5 << 20).unwrap();
        assert_eq!((first.bytes(), pool.held()), (3 << 20, 8 << 20));
        assert!(
            matches!(second.add(3 << 20), Err(QueryError::TooMuchMemory { limit: ByteSize(limit) }) if limit == 10 << 20)
        );
        assert_eq!(second.bytes(), 5 << 20, "a refusal changes nothing");
        first.absorb(second);
        assert_eq!(first.bytes(), 8 << 20);
        first.set(1 << 20).unwrap();
        account.settle();
        assert_eq!((account.peak(), pool.held()), (8 << 20, 1 << 20));
        drop((first, account));
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn a_quarter_of_the_pool_is_left_to_what_is_urgent() {
        let pool = Arc::new(MemoryPool::new(8 << 20));
        let [mut user, mut rule] = [Urgency::Ordinary, Urgency::Urgent]
            .map(|urgency| Account::new(usize::MAX, Arc::clone(&pool), urgency).charge());
        user.add(6 << 20).unwrap();
        assert!(matches!(user.add(1), Err(QueryError::MemoryTaken { .. })));
        let mut small = Account::new(usize::MAX, Arc::clone(&pool), Urgency::Ordinary).charge();
        small.add(60 << 10).unwrap();
        drop(small);
        rule.add(2 << 20).unwrap();
        assert!(matches!(rule.add(1), Err(QueryError::MemoryTaken { .. })));
        drop(user);
        rule.add(6 << 20).unwrap();
    }

    #[test]
    fn absurd_sizes_are_refused_and_not_wrapped() {
        let mut charge = Account::new(1 << 30, Arc::default(), Urgency::Ordinary).charge();
        charge.add(10).unwrap();
        assert!(charge.add(usize::MAX).is_err() && charge.add(usize::MAX - 5).is_err());
        assert_eq!(charge.bytes(), 10);
    }

    /// Threads that take and give at the same time leave nothing behind.
    #[test]
    fn threads_share_an_account() {
        let pool = Arc::new(MemoryPool::new(1 << 30));
        let account = Account::new(1 << 30, Arc::clone(&pool), Urgency::Urgent);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..1000usize {
                        let mut charge = account.charge();
                        (0..20).for_each(|n| charge.add(round * n * 16).unwrap());
                        charge.set(round).unwrap();
                    }
                });
            }
        });
        assert!(account.peak() > 1 << 20);
        account.settle();
        assert_eq!((pool.held(), account.held.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        for (bytes, text) in [(5, "5 B"), (2048, "2 KiB"), (3 << 20, "3 MiB"), (5 << 30, "5120 MiB")] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
