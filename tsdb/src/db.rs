use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use model::{Labels, Matcher, Metadata, Timestamp};
use parking_lot::{Mutex, RwLock};

use crate::appender::Appender;
use crate::block::{Block, BlockMeta};
use crate::durable;
use crate::error::{AppendError, CommitError, FileError, MaintainError, OpenError, ReadError};
use crate::exemplars::ExemplarStore;
use crate::head::{Bounds, Groups, HeadSnapshot, Limits, SeriesIndex, SpillArea};
use crate::lock::DirLock;
use crate::maintain;
use crate::metrics::{Counters, Metrics};
use crate::options::Options;
use crate::postings::{self, LabelIndex};
use crate::replay;
use crate::sample::Exemplar;
use crate::select::{Selection, Source};
use crate::status::{Status, top};
use crate::tombstones::{Interval, Tombstones};
use crate::wal::{RecordBuilder, WalOptions, WalWriter};

/// The folder, in the one a database is opened in, that all its files lie in.
pub const FOLDER: &str = "firewatch";

/// Memory that tables of block indexes may take together, before the first are dropped.
const INDEX_BYTES: usize = 48 << 20;

/// A database. To be shared in an `Arc`; everything may be called from any thread.
#[derive(Debug)]
pub struct Db {
    inner: Arc<Inner>,
    worker: Mutex<Option<Worker>>,
}

#[derive(Debug)]
struct Worker {
    stop: Vec<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Label names or values, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Each once, in order.
    pub values: Vec<String>,
    /// Whether there were more than the limit.
    pub truncated: bool,
    /// What could not be read, for the user.
    pub warnings: Vec<String>,
}

/// The state behind a [`Db`]. Locks are taken in the order `maintenance`, `index`, `groups`, `wal`, others.
pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) counters: Counters,
    /// Held while blocks are made, merged, changed or removed.
    pub(crate) maintenance: Mutex<()>,
    pub(crate) index: RwLock<SeriesIndex>,
    pub(crate) groups: Mutex<Groups>,
    pub(crate) wal: Mutex<WalWriter>,
    /// Held while files are fsynced.
    syncing: Mutex<()>,
    pub(crate) blocks: RwLock<Vec<Arc<Block>>>,
    /// Blocks that cannot be opened, for warnings.
    pub(crate) damaged: Mutex<Vec<(BlockMetaOrPath, String)>>,
    pub(crate) exemplars: Mutex<ExemplarStore>,
    pub(crate) metadata: Mutex<HashMap<u32, Metadata>>,
    /// Numbers under which the log may mention a series that has another one now.
    pub(crate) aliases: Mutex<HashMap<u32, u32>>,
    /// Open transactions, with the oldest sample each takes once that is known.
    transactions: Mutex<BTreeMap<u64, Option<Timestamp>>>,
    next_transaction: AtomicU64,
    closed: AtomicBool,
    #[expect(dead_code, reason = "held until the database is gone")]
    lock: DirLock,
}

/// What is known of a damaged block: its range if the meta can be read.
pub(crate) type BlockMetaOrPath = Option<(Timestamp, Timestamp)>;

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database in `dir`, which is created if need be; the log is replayed.
    ///
    /// # Errors
    /// When the folder is in use, cannot be written, or the options contradict each other. Damaged files are no error:
    /// what is good in them is served, what is not is logged and counted.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        if options.min_block_duration < 1 || options.max_block_duration < options.min_block_duration {
            return Err(OpenError::Options(
                "block durations must be positive, the longest not below the shortest".into(),
            ));
        }
        if options.out_of_order_window < 0 {
            return Err(OpenError::Options("the out-of-order window must not be negative".into()));
        }
        let dir = dir.as_ref().join(FOLDER);
        durable::create_dir(&dir)?;
        let lock = DirLock::acquire(&dir)?;
        let counters = Counters::default();
        let blocks_dir = dir.join("blocks");
        durable::create_dir(&blocks_dir)?;
        let (blocks, damaged) = maintain::open_blocks(&blocks_dir)?;
        counters.damaged_blocks.add(damaged.len() as u64);

        let began = Instant::now();
        let area = SpillArea::open(&dir.join("head"))?;
        let bounds = Bounds {
            min_time: Timestamp::MAX,
            max_time: Timestamp::MIN,
            min_valid: Timestamp::MIN,
            window: options.out_of_order_window,
            block_range: options.min_block_duration,
        };
        let wal_dir = dir.join("wal");
        durable::create_dir(&wal_dir)?;
        let exemplars = ExemplarStore::new(options.max_exemplars);
        let mut replayed = replay::replay(&wal_dir, Groups::new(bounds, area), exemplars, &counters)?;
        if let Some(end) = blocks.iter().map(|b| b.meta.max_time).max() {
            // cut before a crash, but not noted in the log
            replay::forget_before(&mut replayed, end);
        }
        counters.replay_millis.add(began.elapsed().as_millis() as u64);
        let wal_options = WalOptions { segment_bytes: options.wal_segment_bytes };
        let min_valid = replayed.groups.bounds.min_valid;
        let wal =
            WalWriter::create(&wal_dir, wal_options, replayed.stats.next_segment, replayed.stats.segments, min_valid)?;

        let inner = Arc::new(Inner {
            dir,
            counters,
            maintenance: Mutex::new(()),
            index: RwLock::new(replayed.index),
            groups: Mutex::new(replayed.groups),
            wal: Mutex::new(wal),
            syncing: Mutex::new(()),
            blocks: RwLock::new(blocks),
            damaged: Mutex::new(damaged),
            exemplars: Mutex::new(replayed.exemplars),
            metadata: Mutex::new(replayed.metadata),
            aliases: Mutex::new(replayed.aliases),
            transactions: Mutex::new(BTreeMap::new()),
            next_transaction: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            lock,
            options,
        });
        inner.note_flushed()?;
        let worker = inner.options.background.then(|| Worker::start(&inner));
        Ok(Self { inner, worker: Mutex::new(worker) })
    }

    /// A transaction. Dropped without a commit, it leaves nothing.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.inner))
    }

    /// The series that satisfy all matchers and have samples in `min_time..=max_time`, as they are now.
    ///
    /// # Errors
    /// None at present: blocks that cannot be read are left out and named in [`Selection::warnings`].
    pub fn select(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Result<Selection, ReadError> {
        Ok(self.inner.select(matchers, min_time, max_time))
    }

    /// Names of labels that series in the range have, and that satisfy all matchers if there are any.
    ///
    /// # Errors
    /// As [`Db::select`].
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        limit: Option<usize>,
    ) -> Result<Answer, ReadError> {
        if matchers.is_empty() {
            return Ok(self.inner.ask_indexes(Ask::Names, min_time, max_time, limit));
        }
        let selection = self.inner.select(matchers, min_time, max_time);
        let names = selection.labels().iter().flat_map(Labels::iter).map(|(name, _)| name);
        Ok(answer(names.collect(), limit, selection.warnings()))
    }

    /// Values of a label that series in the range have, and that satisfy all matchers if there are any.
    ///
    /// # Errors
    /// As [`Db::select`].
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        limit: Option<usize>,
    ) -> Result<Answer, ReadError> {
        if matchers.is_empty() {
            return Ok(self.inner.ask_indexes(Ask::Values(name), min_time, max_time, limit));
        }
        let selection = self.inner.select(matchers, min_time, max_time);
        let values = selection.labels().iter().filter_map(|labels| labels.get(name));
        Ok(answer(values.collect(), limit, selection.warnings()))
    }

    /// Exemplars in the range of series that satisfy one of the sets of matchers, series in label order.
    pub fn exemplars(
        &self,
        matchers: &[Vec<Matcher>],
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        self.inner.exemplars.lock().select(matchers, min_time, max_time)
    }

    /// What was noted of a series in the head with [`Appender::set_metadata`].
    pub fn metadata(&self, labels: &Labels) -> Option<Metadata> {
        let id = self.inner.index.read().find(labels)?;
        self.inner.metadata.lock().get(&id).cloned()
    }

    /// Deletes the samples in `min_time..=max_time` of the series that satisfy all matchers. They are gone from queries when
    /// this returns, and from disk after [`Db::clean_tombstones`] or a compaction.
    ///
    /// # Errors
    /// When the log or a block's folder cannot be written, or a block cannot be read.
    pub fn delete(&self, matchers: &[Matcher], min_time: Timestamp, max_time: Timestamp) -> Result<(), MaintainError> {
        let inner = &self.inner;
        let _maintenance = inner.maintenance.lock();
        let blocks = inner.blocks.read().clone();
        for block in blocks.iter().filter(|b| b.meta.overlaps(min_time, max_time)) {
            block.delete(matchers, min_time, max_time)?;
        }
        let ids = inner.head_ids(matchers);
        let mut groups = inner.groups.lock();
        // what comes later is not deleted: each range ends with the series, as upstream's does
        let mut tombstones = Tombstones::default();
        for id in ids {
            if let Some(newest) = groups.newest(id).filter(|newest| *newest >= min_time) {
                tombstones.add(id, Interval { min: min_time, max: max_time.min(newest) });
            }
        }
        if tombstones.is_empty() || min_time > max_time {
            return Ok(());
        }
        let mut record = RecordBuilder::default();
        record.tombstones(&tombstones);
        record.max_time = Some(groups.extent().1.min(max_time));
        match inner.log(&record) {
            Ok(()) => {}
            Err(CommitError::Wal(error)) => return Err(error.into()),
            Err(CommitError::Closed) => return Err(MaintainError::Closed),
        }
        for (id, ranges) in tombstones.sorted() {
            ranges.iter().for_each(|range| groups.tombstones.add(id, *range));
        }
        drop(groups);
        inner.sync_wal()?;
        Ok(())
    }

    /// Rewrites blocks without deleted samples.
    ///
    /// # Errors
    /// When a block cannot be read or written; the old one stays.
    pub fn clean_tombstones(&self) -> Result<(), MaintainError> {
        maintain::clean_tombstones(&self.inner)
    }

    /// Links all blocks into the new folder `dir`/[`FOLDER`], which can be opened as a database; with `with_head`, what the
    /// head has is written there as a block too.
    ///
    /// # Errors
    /// When the folder cannot be written or the head cannot be read.
    pub fn snapshot(&self, dir: impl AsRef<Path>, with_head: bool) -> Result<(), MaintainError> {
        maintain::snapshot(&self.inner, dir.as_ref(), with_head)
    }

    /// Cuts blocks from the head, deletes what is beyond the retention, merges blocks, and shortens the log: all that is
    /// due. The background thread calls it; it may be called at any time.
    ///
    /// # Errors
    /// The first that occurs; what is due is tried again at the next call.
    pub fn maintain(&self) -> Result<(), MaintainError> {
        maintain::maintain(&self.inner)
    }

    /// Fsyncs the log.
    ///
    /// # Errors
    /// When that fails; the next call tries again.
    pub fn sync(&self) -> Result<(), FileError> {
        self.inner.sync_wal()
    }

    /// The blocks, oldest first.
    pub fn blocks(&self) -> Vec<BlockMeta> {
        self.inner.blocks.read().iter().map(|b| b.meta()).collect()
    }

    /// The folder all files lie in.
    pub fn folder(&self) -> &Path {
        &self.inner.dir
    }

    /// What the head holds; `limit` bounds each list.
    pub fn status(&self, limit: usize) -> Status {
        let index = self.inner.index.read();
        let mut status =
            Status { num_series: index.len() as u64, num_label_pairs: index.pair_count() as u64, ..Status::default() };
        let mut metrics: Vec<(String, u64)> = Vec::new();
        let mut pairs: Vec<(String, u64)> = Vec::new();
        let mut values: HashMap<&str, (u64, u64)> = HashMap::new();
        for (name, value, count) in index.pair_counts() {
            if name == model::METRIC_NAME {
                metrics.push((value.to_owned(), count as u64));
            }
            pairs.push((format!("{name}={value}"), count as u64));
            let entry = values.entry(name).or_default();
            entry.0 += 1;
            entry.1 += (value.len() * count) as u64;
        }
        status.series_count_by_metric_name = top(metrics, limit);
        status.series_count_by_label_value_pair = top(pairs, limit);
        status.label_value_count_by_label_name = top(values.iter().map(|(n, c)| ((*n).to_owned(), c.0)), limit);
        status.memory_in_bytes_by_label_name = top(values.iter().map(|(n, c)| ((*n).to_owned(), c.1)), limit);
        drop(values);
        drop(index);
        let groups = self.inner.groups.lock();
        status.chunk_count = groups.chunk_count() as u64;
        status.min_time = groups.bounds.min_time;
        status.max_time = groups.bounds.max_time;
        status
    }

    /// Counters and states.
    pub fn metrics(&self) -> Metrics {
        let inner = &self.inner;
        let mut metrics = inner.counters.snapshot();
        {
            let index = inner.index.read();
            metrics.head_series = index.len() as u64;
            metrics.head_bytes = index.heap_bytes() as u64;
        }
        {
            let groups = inner.groups.lock();
            metrics.head_chunks = groups.chunk_count() as u64;
            metrics.head_min_time = groups.bounds.min_time;
            metrics.head_max_time = groups.bounds.max_time;
            metrics.head_bytes += groups.heap_bytes() as u64;
        }
        {
            let blocks = inner.blocks.read();
            metrics.blocks_loaded = blocks.len() as u64;
            metrics.blocks_bytes = blocks.iter().map(|b| b.bytes).sum();
            let oldest = blocks.iter().map(|b| b.meta.min_time).min();
            metrics.lowest_timestamp = oldest.unwrap_or(metrics.head_min_time);
        }
        metrics.wal_segment_current = inner.wal.lock().segment();
        metrics.wal_bytes = durable::dir_size(&inner.dir.join("wal"));
        let exemplars = inner.exemplars.lock();
        let counts = exemplars.counts();
        (metrics.exemplars_in_storage, metrics.exemplar_series) = (counts.0 as u64, counts.1 as u64);
        metrics.exemplar_max = exemplars.max() as u64;
        metrics
    }

    /// Ends the background work and fsyncs the log. Later commits fail; reading goes on. Dropping does the same.
    ///
    /// # Errors
    /// When the last fsync fails.
    pub fn close(&self) -> Result<(), FileError> {
        if let Some(worker) = self.worker.lock().take() {
            worker.stop();
        }
        self.inner.closed.store(true, Ordering::SeqCst);
        // who is in the middle of a commit comes to its end
        drop(self.inner.groups.lock());
        self.inner.sync_wal()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the log could not be made durable at the end");
        }
    }
}

impl Worker {
    fn start(inner: &Arc<Inner>) -> Self {
        let mut worker = Self { stop: Vec::new(), threads: Vec::new() };
        let sync = inner.options.wal_fsync_interval;
        if !sync.is_zero() {
            worker.spawn("tsdb-fsync", sync, inner, |inner| {
                if let Err(error) = inner.sync_wal() {
                    tracing::error!(%error, "the log could not be made durable");
                }
            });
        }
        worker.spawn("tsdb-maintain", inner.options.maintenance_interval, inner, |inner| {
            if let Err(error) = maintain::maintain(inner) {
                tracing::error!(%error, "storage maintenance failed and will be tried again");
            }
        });
        worker
    }

    fn spawn(&mut self, name: &str, interval: Duration, inner: &Arc<Inner>, work: fn(&Inner)) {
        let (stop, stopped) = mpsc::channel::<()>();
        let inner = Arc::clone(inner);
        let run = move || {
            while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                work(&inner);
            }
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(thread) => {
                self.stop.push(stop);
                self.threads.push(thread);
            }
            Err(error) => tracing::error!(%error, name, "cannot start a thread of the storage"),
        }
    }

    fn stop(self) {
        drop(self.stop);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the storage panicked");
            }
        }
    }
}

impl Inner {
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

    pub(crate) fn series(&self, labels: &Labels, transaction: u64) -> Result<u32, AppendError> {
        {
            let index = self.index.read();
            if let Some(id) = index.find(labels) {
                self.groups.lock().pin_if_idle(id, transaction);
                return Ok(id);
            }
        }
        let mut index = self.index.write();
        let (id, created) = index.get_or_create(labels).ok_or(AppendError::TooManySeries)?;
        let mut groups = self.groups.lock();
        if created {
            groups.create(id);
            groups.unlogged.insert(id, labels.clone());
            self.counters.series_created.add(1);
        }
        groups.pin(id, transaction);
        Ok(id)
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

    /// Writes a record; the lock of the groups is held by the caller, so that the log has the order of the head.
    pub(crate) fn log(&self, record: &RecordBuilder) -> Result<(), CommitError> {
        if self.is_closed() {
            return Err(CommitError::Closed);
        }
        match self.wal.lock().append(&record.bytes, record.max_time) {
            Ok(()) => {
                self.counters.wal_records.add(1);
                self.counters.wal_bytes_written.add(record.bytes.len() as u64);
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
        let files = self.wal.lock().take_unsynced();
        for (at, file) in files.iter().enumerate() {
            let began = Instant::now();
            if let Err(error) = file.sync_data() {
                self.wal.lock().still_unsynced(files[at..].to_vec());
                return Err(FileError::at("sync", self.dir.join("wal"))(error));
            }
            self.counters.wal_fsyncs.add(1);
            self.counters.wal_fsync_nanos.add(began.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    /// Notes in a fresh log what is in blocks, for the next replay.
    fn note_flushed(&self) -> Result<(), FileError> {
        let groups = self.groups.lock();
        let min_valid = groups.bounds.min_valid;
        if min_valid == Timestamp::MIN {
            return Ok(());
        }
        let mut record = RecordBuilder::default();
        maintain::put_flushed(&mut record, &groups, min_valid);
        self.wal.lock().append(&record.bytes, record.max_time)
    }

    /// The head's series that match, in no order of interest.
    pub(crate) fn head_ids(&self, matchers: &[Matcher]) -> Vec<u32> {
        let Ok(ids) = postings::select(&*self.index.read(), matchers);
        ids
    }

    /// The head's series that match, in label order.
    pub(crate) fn head_sorted(&self, matchers: &[Matcher]) -> (Vec<u32>, Vec<Labels>) {
        if !self.index.read().sortable() {
            self.index.write().prepare_sort();
        }
        loop {
            let index = self.index.read();
            let Ok(ids) = postings::select(&*index, matchers);
            if ids.is_empty() {
                return (Vec::new(), Vec::new());
            }
            if index.sortable() {
                let ids = index.sort(&ids);
                let labels = ids.iter().map(|id| index.labels(*id)).collect();
                return (ids, labels);
            }
            // a series came in between
            drop(index);
            self.index.write().prepare_sort();
        }
    }

    pub(crate) fn select(&self, matchers: &[Matcher], min_time: Timestamp, max_time: Timestamp) -> Selection {
        let (ids, labels) = self.head_sorted(matchers);
        let mut warnings = Vec::new();
        let (mut head, blocks) = {
            // blocks take over from the head under this lock
            let groups = self.groups.lock();
            (HeadSnapshot::take(&groups, &ids), self.blocks.read().clone())
        };
        head.prepare(min_time, max_time);
        let (kept, labels) = head.retain(labels, min_time, max_time);
        let mut parts = Vec::new();
        let mut wanted: Vec<&Arc<Block>> = blocks.iter().filter(|b| b.meta.overlaps(min_time, max_time)).collect();
        wanted.sort_by_key(|b| b.meta.ulid);
        for block in wanted {
            match block.select(matchers, min_time, max_time) {
                Ok((selection, labels)) => parts.push((Source::Block(selection), labels)),
                Err(error) => {
                    self.counters.damaged_blocks.add(1);
                    warnings.push(format!("block {} left out: {error}", block.meta.ulid));
                }
            }
        }
        for (range, error) in self.damaged.lock().iter() {
            if range.is_none_or(|(min, max)| min <= max_time && max > min_time) {
                warnings.push(error.clone());
            }
        }
        parts.push((Source::Head(kept), labels));
        self.bound_index_memory(&blocks);
        Selection::join(parts, warnings)
    }

    fn bound_index_memory(&self, blocks: &[Arc<Block>]) {
        let mut total = 0;
        // the newest are asked for most
        for block in blocks.iter().rev() {
            total += block.index_bytes();
            if total > INDEX_BYTES {
                block.unload_index();
            }
        }
    }

    fn ask_indexes(&self, ask: Ask<'_>, min_time: Timestamp, max_time: Timestamp, limit: Option<usize>) -> Answer {
        let mut warnings = Vec::new();
        let mut all: BTreeSet<String> = BTreeSet::new();
        let in_head = {
            let extent = self.groups.lock().extent();
            extent.0 <= max_time && extent.1 >= min_time
        };
        if in_head {
            let Ok(found) = ask.of(&*self.index.read());
            all.extend(found);
        }
        let blocks = self.blocks.read().clone();
        for b in blocks.iter().filter(|b| b.meta.overlaps(min_time, max_time)) {
            match b.with_index(|index| ask.of(index)) {
                Ok(found) => all.extend(found),
                Err(error) => warnings.push(format!("block {} left out: {error}", b.meta.ulid)),
            }
        }
        self.bound_index_memory(&blocks);
        answer(all.iter().map(String::as_str).collect(), limit, &warnings)
    }
}

/// A question that indexes answer without looking at series.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Names,
    /// Of this label.
    Values(&'a str),
}

impl Ask<'_> {
    fn of<I: LabelIndex>(self, index: &I) -> Result<Vec<String>, I::Error> {
        match self {
            Self::Names => index.names(),
            Self::Values(name) => index.values(name),
        }
    }
}

fn answer(values: BTreeSet<&str>, limit: Option<usize>, warnings: &[String]) -> Answer {
    let limit = limit.unwrap_or(usize::MAX);
    Answer {
        truncated: values.len() > limit,
        values: values.into_iter().take(limit).map(str::to_owned).collect(),
        warnings: warnings.to_vec(),
    }
}
