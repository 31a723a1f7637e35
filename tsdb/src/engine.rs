use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use hashbrown::HashMap;
use model::{KeptLabels, Labels, Matcher, Metadata, Timestamp};
use parking_lot::{Mutex, RwLock};

use crate::block::Block;
use crate::blocks::{Blocks, DamagedBlock};
use crate::db::Answer;
use crate::error::{AppendError, CommitError, FileError};
use crate::exemplars::ExemplarStore;
use crate::follow::Followers;
use crate::head::{
    Groups, HeadLabels, HeadSeries, HeadSnapshot, KnownLabels, Limits, OrderedSeries, SeriesIndex, SeriesOrder,
};
use crate::image::LastImage;
use crate::lock::DirLock;
use crate::maintain;
use crate::metrics::Counters;
use crate::options::Options;
use crate::postings::{self, LabelIndex};
use crate::replay::Replayed;
use crate::select::{Selection, SeriesLabels, Source};
use crate::texts::Texts;
use crate::wal::{RecordBuilder, WalWriter};
use crate::watch::Pace;

/// The state behind a [`Db`]. Locks are taken in the order `maintenance`, `wal`, `index`, `groups`, others. While records are
/// written `index` and `groups` are free, so that a slow disk holds up commits only; while checkpoints and blocks are, `wal` is as well.
pub(crate) struct Engine {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) counters: Arc<Counters>,
    /// Held while blocks are made, merged, changed or removed.
    pub(crate) maintenance: Mutex<()>,
    pub(crate) index: RwLock<SeriesIndex>,
    /// Some of its series may not be found by the values of their labels yet. Changed with the index in hand only.
    pub(crate) unposted: AtomicBool,
    /// The order of its series, for large selections.
    pub(crate) order: SeriesOrder,
    pub(crate) groups: Mutex<Groups>,
    pub(crate) wal: Mutex<WalWriter>,
    pub(crate) followers: Followers,
    /// Held while files are fsynced.
    pub(crate) syncing: Mutex<()>,
    pub(crate) blocks: RwLock<Vec<Arc<Block>>>,
    /// Blocks that cannot be opened, for warnings.
    pub(crate) damaged: Mutex<Vec<DamagedBlock>>,
    /// The log has not been told what is in blocks.
    pub(crate) note_due: AtomicBool,
    /// The last image of the head.
    pub(crate) image: Mutex<LastImage>,
    /// Folders of blocks that could not be removed.
    pub(crate) leftover: Mutex<Vec<PathBuf>>,
    pub(crate) exemplars: Mutex<ExemplarStore>,
    pub(crate) metadata: Mutex<HashMap<u32, Metadata>>,
    /// Numbers under which the log may mention a series that has another one now.
    pub(crate) aliases: Mutex<HashMap<u32, u32>>,
    /// Open transactions, with the oldest sample each takes once that is known.
    pub(crate) transactions: Mutex<BTreeMap<u64, Option<Timestamp>>>,
    pub(crate) next_transaction: AtomicU64,
    pub(crate) closed: AtomicBool,
    #[expect(dead_code, reason = "held until the database is gone")]
    pub(crate) lock: DirLock,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Engine {
    /// A database of its blocks, those that cannot be opened among them, and the head that its log tells of.
    pub(crate) fn new(
        dir: PathBuf,
        options: Options,
        lock: DirLock,
        counters: Arc<Counters>,
        (blocks, damaged): (Vec<Arc<Block>>, Vec<DamagedBlock>),
        head: Replayed,
        wal: WalWriter,
    ) -> Self {
        Self {
            dir,
            counters,
            maintenance: Mutex::new(()),
            index: RwLock::new(head.index),
            unposted: AtomicBool::new(false),
            order: SeriesOrder::default(),
            groups: Mutex::new(head.groups),
            wal: Mutex::new(wal),
            followers: Followers::default(),
            syncing: Mutex::new(()),
            blocks: RwLock::new(blocks),
            damaged: Mutex::new(damaged),
            note_due: AtomicBool::new(false),
            image: Mutex::default(),
            leftover: Mutex::default(),
            exemplars: Mutex::new(head.exemplars),
            metadata: Mutex::new(head.metadata),
            aliases: Mutex::new(head.aliases),
            transactions: Mutex::new(BTreeMap::new()),
            next_transaction: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            lock,
            options,
        }
    }

    pub(crate) fn begin(&self) -> u64 {
        let mut transactions = self.transactions.lock();
        let number = self.next_transaction.fetch_add(1, Ordering::Relaxed);
        transactions.insert(number, None);
        number
    }

    /// Notes the oldest sample a transaction takes, and returns its limits.
    pub(crate) fn enter(&self, transaction: u64, limits: Limits) -> Limits {
        self.transactions.lock().insert(transaction, Some(limits.min_valid));
        limits
    }

    pub(crate) fn end(&self, transaction: u64) {
        self.transactions.lock().remove(&transaction);
    }

    /// The oldest open transaction, or the next one.
    pub(crate) fn oldest_transaction(&self) -> u64 {
        let transactions = self.transactions.lock();
        transactions.keys().next().copied().unwrap_or(self.next_transaction.load(Ordering::Relaxed))
    }

    /// Whether an open transaction may have samples before `time`.
    pub(crate) fn open_before(&self, time: Timestamp) -> bool {
        self.transactions.lock().values().flatten().any(|min_valid| *min_valid < time)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn series(
        &self,
        labels: &Labels,
        transaction: u64,
        known: &mut KnownLabels,
    ) -> Result<u32, AppendError> {
        let key = {
            let index = self.index.read();
            let key = index.key_of(labels, known);
            if let Some(id) = key.as_ref().and_then(|key| index.find_key(key)) {
                self.groups.lock().pin_if_idle(id, transaction);
                return Ok(id);
            }
            key
        };
        let mut index = self.index.write();
        let (id, created) = index.get_or_create(labels, key).ok_or(AppendError::TooManySeries)?;
        let mut groups = self.groups.lock();
        if created {
            self.unposted.store(true, Ordering::Release);
            groups.create(id);
            groups.unlogged.insert(id, labels.clone());
            self.counters.series_created.add(1);
        }
        groups.pins.pin(id, transaction);
        Ok(id)
    }

    /// Makes all series that have been created found by the values of their labels. To be called before samples of them can be seen.
    pub(crate) fn post_series(&self) {
        // whoever commits to series that others have created finds out about it as well
        if self.unposted.load(Ordering::Acquire) {
            let mut index = self.index.write();
            index.post_new();
            self.unposted.store(false, Ordering::Release);
        }
    }

    pub(crate) fn labels(&self, id: u32) -> Option<Labels> {
        let index = self.index.read();
        index.contains(id).then(|| index.labels(id))
    }

    pub(crate) fn count_refused(&self, error: &AppendError) {
        let counter = match error {
            AppendError::OutOfOrder => &self.counters.out_of_order_refused,
            AppendError::TooOld => &self.counters.too_old_refused,
            AppendError::OutOfBounds => &self.counters.out_of_bounds_refused,
            AppendError::Duplicate { .. } => &self.counters.duplicates_refused,
            AppendError::ExemplarOutOfOrder => &self.counters.exemplars_out_of_order,
            AppendError::UnknownSeries(_)
            | AppendError::EmptyLabels
            | AppendError::InvalidHistogram(_)
            | AppendError::ExemplarTooLong
            | AppendError::TooManySeries => return,
        };
        counter.add(1);
    }

    /// Writes a record. Whoever then changes the groups takes their lock before giving back that of the log, so that both have the same
    /// order.
    pub(crate) fn log(&self, wal: &mut WalWriter, record: &RecordBuilder) -> Result<(), CommitError> {
        if self.is_closed() {
            return Err(CommitError::Closed);
        }
        match wal.append(&record.bytes, record.max_time) {
            Ok(bytes) => {
                self.counters.wal_records.add(1);
                self.counters.wal_bytes_written.add(bytes);
                Ok(())
            }
            Err(error) => {
                self.counters.wal_writes_failed.add(1);
                Err(error.into())
            }
        }
    }

    pub(crate) fn sync_wal(&self) -> Result<(), FileError> {
        // a second caller waits, and then finds that the first has done its work
        let _syncing = self.syncing.lock();
        let mut parts = self.wal.lock().take_unsynced();
        for at in 0..parts.len() {
            let began = Instant::now();
            if let Err(error) = parts[at].sync(&self.options.files) {
                self.counters.wal_fsyncs_failed.add(1);
                self.wal.lock().still_unsynced(parts.split_off(at));
                return Err(error);
            }
            self.counters.wal_fsyncs.add(1);
            self.counters.wal_fsync_nanos.add(began.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    /// Notes in a fresh log what is in blocks, for the next replay.
    pub(crate) fn note_flushed(&self) -> Result<(), FileError> {
        let mut wal = self.wal.lock();
        let groups = self.groups.lock();
        let min_valid = groups.bounds.min_valid;
        if min_valid == Timestamp::MIN {
            return Ok(());
        }
        let mut record = RecordBuilder::default();
        maintain::put_flushed(&mut record, &groups, min_valid);
        wal.append(&record.bytes, record.max_time).map(|_| ())
    }

    /// The head's series that match, in no order of interest.
    pub(crate) fn head_ids(&self, matchers: &[Matcher]) -> Vec<u32> {
        let Ok(ids) = postings::select(&*self.index.read(), matchers, &Pace::unwatched());
        ids
    }

    /// What the head's series that match have now in a range, and what `beside` finds at that moment. No series is created between the
    /// look at the index and the look at the samples: of a commit that is seen every series is known.
    fn look_at_head<T>(
        &self,
        matchers: &[Matcher],
        range: (Timestamp, Timestamp),
        pace: &Pace<'_>,
        beside: impl FnOnce(&Groups) -> T,
    ) -> (HeadSeries, T) {
        let index = self.index.read();
        let Ok(ids) = postings::select(&*index, matchers, pace);
        let groups = self.groups.lock();
        (HeadSeries::take(&index, &groups, ids, range, pace), beside(&groups))
    }

    /// What all series of the head have now, with their labels in order, and what `beside` finds at that moment.
    pub(crate) fn head_snapshot<T>(&self, beside: impl FnOnce(&Groups) -> T) -> (HeadSnapshot, HeadLabels, T) {
        let pace = Pace::unwatched();
        let (found, beside) = self.look_at_head(&[], (Timestamp::MIN, Timestamp::MAX), &pace, beside);
        let (head, labels) = found.in_order(&self.order, &pace);
        (head, labels, beside)
    }

    /// The head's series that are `wanted`, in the order of their labels.
    pub(crate) fn series_in_order(&self, wanted: impl Fn(&Groups, u32) -> bool) -> OrderedSeries {
        let series = {
            let index = self.index.read();
            let groups = self.groups.lock();
            OrderedSeries::take(&index, index.ids().filter(|id| wanted(&groups, *id)).collect())
        };
        series.in_order(&self.order)
    }

    pub(crate) fn select(&self, matchers: &[Matcher], min_time: Timestamp, max_time: Timestamp) -> Selection {
        self.select_paced(matchers, min_time, max_time, KeptLabels::All, &Pace::unwatched())
    }

    /// Labels that are not `kept` may be missing. Anything if `pace` has said stop.
    pub(crate) fn select_paced(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        kept: KeptLabels<'_>,
        pace: &Pace<'_>,
    ) -> Selection {
        // blocks take over from the head under the lock of the groups
        let (found, blocks) = self.look_at_head(matchers, (min_time, max_time), pace, |_| self.blocks.read().clone());
        let (head, labels) = found.present(pace).in_order(&self.order, pace);
        let damaged = self.damaged.lock().clone();
        let blocks = Blocks { blocks: &blocks, damaged: &damaged, counters: &self.counters };
        // series of several sources are told apart by all labels
        let kept = if labels.places.is_empty() { kept } else { KeptLabels::All };
        let (mut parts, warnings) = blocks.select(matchers, min_time, max_time, kept, pace);
        parts.push((Source::Head(head), SeriesLabels::Head(labels)));
        Selection::joined(parts, warnings, pace).counted(&self.counters)
    }

    /// Anything if `pace` has said stop.
    pub(crate) fn ask_indexes(
        &self,
        ask: Ask<'_>,
        min_time: Timestamp,
        max_time: Timestamp,
        limit: Option<usize>,
        pace: &Pace<'_>,
    ) -> Answer {
        let in_head = {
            let extent = self.groups.lock().extent();
            extent.0 <= max_time && extent.1 >= min_time
        };
        let mut all = Texts::default();
        if in_head {
            let Ok(found) = ask.of(&*self.index.read(), pace);
            take(&mut all, found, pace);
        }
        let blocks = self.blocks.read().clone();
        let blocks = Blocks { blocks: &blocks, damaged: &[], counters: &self.counters };
        let warnings = blocks.ask(ask, min_time, max_time, &mut all, pace);
        answer(all, limit, warnings)
    }
}

/// A question that indexes answer without looking at series.
#[derive(Clone, Copy)]
pub(crate) enum Ask<'a> {
    /// Of the series that satisfy all matchers.
    Names(&'a [Matcher]),
    /// Of this label, of the series that satisfy all matchers.
    Values(&'a str, &'a [Matcher]),
}

impl Ask<'_> {
    /// What an index answers, in any order; anything if `pace` has said stop.
    pub(crate) fn of<I: LabelIndex>(self, index: &I, pace: &Pace<'_>) -> Result<Texts, I::Error> {
        match self {
            Self::Names([]) => index.names(),
            Self::Names(matchers) => index.names_among(&postings::select(index, matchers, pace)?, pace),
            Self::Values(name, matchers) => postings::values(index, name, matchers, pace),
        }
    }
}

/// Adds what was found to what is known already, in order, each once; anything if `pace` has said stop.
pub(crate) fn take(all: &mut Texts, found: Texts, pace: &Pace<'_>) {
    let before = all.heap_bytes();
    all.merge_paced(found, pace);
    pace.found(0, all.heap_bytes().saturating_sub(before));
}

/// The first `limit` of values that are in order.
pub(crate) fn answer(mut values: Texts, limit: Option<usize>, warnings: Vec<String>) -> Answer {
    let limit = limit.unwrap_or(usize::MAX);
    let truncated = values.len() > limit;
    values.truncate(limit);
    Answer { values, truncated, warnings }
}
