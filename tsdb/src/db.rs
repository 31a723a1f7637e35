use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use model::{KeptLabels, Labels, Matcher, Metadata, Timestamp};
use parking_lot::Mutex;

use crate::appender::Appender;
use crate::block::BlockMeta;
use crate::blocks::Blocks;
use crate::engine::{Ask, Engine};
use crate::error::{CommitError, FileError, MaintainError, OpenError, ReadError};
use crate::files::dir_size;
use crate::follow::{LogFollower, LogStart};
use crate::image::{self, When};
use crate::maintain;
use crate::metrics::Metrics;
use crate::opening::Opening;
use crate::options::Options;
use crate::sample::Exemplar;
use crate::select::Selection;
use crate::status::{Status, top};
use crate::texts::Texts;
use crate::tombstones::{Interval, Tombstones};
use crate::wal::RecordBuilder;
use crate::watch::{Pace, Stopped, Watch};
use crate::worker::Worker;

/// The folder, in the one a database is opened in, that all its files lie in.
pub const FOLDER: &str = "firewatch";

/// A database. To be shared in an `Arc`; everything may be called from any thread.
#[derive(Debug)]
pub struct Db {
    engine: Arc<Engine>,
    worker: Mutex<Option<Worker>>,
}

/// Label names or values, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Each once, in order.
    pub values: Texts,
    /// Whether there were more than the limit.
    pub truncated: bool,
    /// What could not be read, for the user.
    pub warnings: Vec<String>,
}

impl Db {
    /// Opens the database in `dir`, which is created if need be; the log is replayed. [`Opening`] does the same in two steps.
    ///
    /// # Errors
    /// When the folder is in use, cannot be written, or the options contradict each other. Damaged files are no error:
    /// what is good in them is served, what is not is logged and counted.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Opening::begin(dir, options)?.replay()
    }

    /// A database whose log is read, and its threads.
    pub(crate) fn start(engine: Engine) -> Result<Self, OpenError> {
        let engine = Arc::new(engine);
        engine.note_flushed()?;
        let worker = engine.options.background.then(|| Worker::start(&engine));
        Ok(Self { engine, worker: Mutex::new(worker) })
    }

    /// A transaction. Dropped without a commit, it leaves nothing.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.engine))
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
        Ok(self.engine.select(matchers, min_time, max_time))
    }

    /// As [`Db::select`], for who asks for no labels but those `kept`: others may be missing. `watch` is asked now and then whether to go on.
    ///
    /// # Errors
    /// When it says no.
    pub fn select_while(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        kept: KeptLabels<'_>,
        watch: Watch<'_>,
    ) -> Result<Selection, Stopped> {
        Pace::watched(watch, |pace| self.engine.select_paced(matchers, min_time, max_time, kept, pace))
    }

    /// Whether series in the range may have a label: none does if this says no.
    pub fn may_have_label(&self, name: &str, min_time: Timestamp, max_time: Timestamp) -> bool {
        self.engine.index.read().has_symbol(name)
            || Blocks { blocks: &self.engine.blocks.read().clone(), damaged: &[], counters: &self.engine.counters }
                .may_have_label(name, min_time, max_time)
    }

    /// Names of labels that series have, and that satisfy all matchers if there are any. It looks at blocks and the head as
    /// [`Db::label_values`] does.
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
        Ok(self.engine.ask_indexes(Ask::Names(matchers), min_time, max_time, limit, &Pace::unwatched()))
    }

    /// As [`Db::label_names`], of all names; `watch` is asked now and then whether to go on.
    ///
    /// # Errors
    /// When it says no.
    pub fn label_names_while(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        watch: Watch<'_>,
    ) -> Result<Answer, Stopped> {
        Pace::watched(watch, |pace| self.engine.ask_indexes(Ask::Names(matchers), min_time, max_time, None, pace))
    }

    /// Values of a label that series have, and that satisfy all matchers if there are any. As upstream's, it looks at blocks and the
    /// head as a whole: series are counted in that have samples in one that overlaps the range.
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
        Ok(self.engine.ask_indexes(Ask::Values(name, matchers), min_time, max_time, limit, &Pace::unwatched()))
    }

    /// As [`Db::label_values`], of all values; `watch` is asked now and then whether to go on.
    ///
    /// # Errors
    /// When it says no.
    pub fn label_values_while(
        &self,
        name: &str,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        watch: Watch<'_>,
    ) -> Result<Answer, Stopped> {
        Pace::watched(watch, |pace| {
            self.engine.ask_indexes(Ask::Values(name, matchers), min_time, max_time, None, pace)
        })
    }

    /// Exemplars in the range of series that satisfy one of the sets of matchers, series in label order.
    pub fn exemplars(
        &self,
        matchers: &[Vec<Matcher>],
        min_time: Timestamp,
        max_time: Timestamp,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        self.engine.exemplars.lock().select(matchers, min_time, max_time)
    }

    /// What was noted of a series in the head with [`Appender::set_metadata`].
    pub fn metadata(&self, labels: &Labels) -> Option<Metadata> {
        let id = self.engine.index.read().find(labels)?;
        self.engine.metadata.lock().get(&id).cloned()
    }

    /// Deletes the samples in `min_time..=max_time` of the series that satisfy all matchers. They are gone from queries when
    /// this returns, and from disk after [`Db::clean_tombstones`] or a compaction.
    ///
    /// # Errors
    /// When the log or a block's folder cannot be written, or a block cannot be read.
    pub fn delete(&self, matchers: &[Matcher], min_time: Timestamp, max_time: Timestamp) -> Result<(), MaintainError> {
        let engine = &self.engine;
        let _maintenance = engine.maintenance.lock();
        let blocks = engine.blocks.read().clone();
        for block in blocks.iter().filter(|b| b.meta.overlaps(min_time, max_time)) {
            block.delete(matchers, min_time, max_time)?;
        }
        let ids = engine.head_ids(matchers);
        let mut wal = engine.wal.lock();
        let mut groups = engine.groups.lock();
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
        match engine.log(&mut wal, &record) {
            Ok(()) => {}
            Err(CommitError::Wal(error)) => return Err(error.into()),
            Err(CommitError::Closed) => return Err(MaintainError::Closed),
        }
        for (id, ranges) in tombstones.sorted() {
            ranges.iter().for_each(|range| groups.tombstones.add(id, *range));
        }
        drop((groups, wal));
        engine.sync_wal()?;
        Ok(())
    }

    /// Rewrites blocks without deleted samples.
    ///
    /// # Errors
    /// When a block cannot be read or written; the old one stays.
    pub fn clean_tombstones(&self) -> Result<(), MaintainError> {
        maintain::clean_tombstones(&self.engine)
    }

    /// Links all blocks into the new folder `dir`/[`FOLDER`], which can be opened as a database; with `with_head`, what the
    /// head has is written there as a block too.
    ///
    /// # Errors
    /// When the folder cannot be written or the head cannot be read.
    pub fn snapshot(&self, dir: impl AsRef<Path>, with_head: bool) -> Result<(), MaintainError> {
        maintain::snapshot(&self.engine, dir.as_ref(), with_head)
    }

    /// Cuts blocks from the head, deletes what is beyond the retention, merges blocks, and shortens the log: all that is
    /// due. The background thread calls it; it may be called at any time.
    ///
    /// # Errors
    /// The first that occurs; what is due is tried again at the next call.
    pub fn maintain(&self) -> Result<(), MaintainError> {
        maintain::maintain(&self.engine)
    }

    /// Follows the log.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn follow_log(&self, start: LogStart) -> Result<LogFollower, FileError> {
        LogFollower::new(Arc::clone(&self.engine), start)
    }

    /// Fsyncs the log.
    ///
    /// # Errors
    /// When that fails; the next call tries again.
    pub fn sync(&self) -> Result<(), FileError> {
        self.engine.sync_wal()
    }

    /// The blocks, oldest first.
    pub fn blocks(&self) -> Vec<BlockMeta> {
        self.engine.blocks.read().iter().map(|b| b.meta()).collect()
    }

    /// How it was opened.
    pub fn options(&self) -> &Options {
        &self.engine.options
    }

    /// The folder all files lie in.
    pub fn folder(&self) -> &Path {
        &self.engine.dir
    }

    /// What the head holds; `limit` bounds each list.
    pub fn status(&self, limit: usize) -> Status {
        let index = self.engine.index.read();
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
        let groups = self.engine.groups.lock();
        status.chunk_count = groups.chunk_count() as u64;
        status.min_time = groups.bounds.min_time;
        status.max_time = groups.bounds.max_time;
        status
    }

    /// Counters and states.
    pub fn metrics(&self) -> Metrics {
        let engine = &self.engine;
        let mut metrics = engine.counters.snapshot();
        {
            let index = engine.index.read();
            metrics.head_series = index.len() as u64;
            metrics.head_bytes = (index.heap_bytes() + engine.order.heap_bytes()) as u64;
        }
        {
            let groups = engine.groups.lock();
            metrics.head_chunks = groups.chunk_count() as u64;
            metrics.head_min_time = groups.bounds.min_time;
            metrics.head_max_time = groups.bounds.max_time;
            metrics.head_bytes += groups.heap_bytes() as u64;
        }
        {
            let blocks = engine.blocks.read();
            metrics.blocks_loaded = blocks.len() as u64;
            metrics.blocks_bytes = blocks.iter().map(|b| b.bytes).sum();
            let oldest = blocks.iter().map(|b| b.meta.min_time).min();
            metrics.lowest_timestamp = oldest.unwrap_or(metrics.head_min_time);
        }
        metrics.wal_segment_current = engine.wal.lock().segment();
        metrics.wal_bytes = dir_size(&engine.dir.join("wal"));
        let exemplars = engine.exemplars.lock();
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
        self.engine.closed.store(true, Ordering::SeqCst);
        // who is in the middle of a commit comes to its end
        drop(self.engine.wal.lock());
        self.engine.sync_wal()?;
        if self.engine.options.image_interval_bytes.is_some() {
            // the log has it all, if this fails
            if let Err(error) = image::write_if_due(&self.engine, When::Changed) {
                tracing::warn!(%error, "no image of the head could be written at the end");
            }
            self.engine.groups.lock().area.keep();
        }
        Ok(())
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the log could not be made durable at the end");
        }
    }
}
