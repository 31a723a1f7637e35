//! Opening a database in two steps: its blocks can be read at once, what is in the log when that has been read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use hashbrown::HashSet;
use model::{KeptLabels, Matcher, Timestamp};

use crate::block::Block;
use crate::blocks::{Blocks, DamagedBlock};
use crate::db::{Answer, Db, FOLDER};
use crate::engine::{Ask, Engine, answer};
use crate::error::OpenError;
use crate::exemplars::ExemplarStore;
use crate::head::{Bounds, Groups, SpillArea};
use crate::image;
use crate::lock::DirLock;
use crate::maintain;
use crate::metrics::Counters;
use crate::options::Options;
use crate::replay::{self, Replayed};
use crate::select::Selection;
use crate::texts::Texts;
use crate::wal::{TornEnd, WalOptions, WalWriter};
use crate::watch::{Pace, Stopped, Watch};

/// A folder that is held and whose blocks are open. Nothing has been read of the log.
#[derive(Debug)]
pub struct Opening {
    dir: PathBuf,
    options: Options,
    lock: DirLock,
    view: BlocksView,
}

/// What is in the blocks of a database whose log is being read. It keeps the blocks open, so it should go when the database is
/// there.
#[derive(Clone)]
pub struct BlocksView {
    blocks: Arc<[Arc<Block>]>,
    damaged: Arc<[DamagedBlock]>,
    counters: Arc<Counters>,
    progress: Arc<ReplayProgress>,
    /// From here on there may be samples that only the log has.
    incomplete_from: Timestamp,
}

/// How far the reading of a log is.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    first: AtomicU64,
    last: AtomicU64,
    current: AtomicU64,
    stopped: AtomicBool,
}

impl ReplayProgress {
    /// Numbers of the first and the last segment that are read, and of the one that is being read. All are 0 before that is known, and
    /// where there is nothing to read.
    pub fn segments(&self) -> (u64, u64, u64) {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (of(&self.first), of(&self.last), of(&self.current))
    }

    /// Has [`Opening::replay`] give up soon. The log stays as it is.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self, first: u64, last: u64) {
        self.current.store(first, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        self.first.store(first, Ordering::Relaxed);
    }

    pub(crate) fn at(&self, segment: u64) {
        self.current.store(segment, Ordering::Relaxed);
    }
}

/// Bytes of indexes that the system is told to read when a database is opened.
const READ_AHEAD: u64 = 32 << 20;

/// Has the system read the indexes of the newest blocks while the log is being read: the first questions after a start are about them,
/// and would wait for the disk part by part. They go to the system's cache, which has them only while it has room.
fn read_indexes_ahead(blocks: &[Arc<Block>]) {
    let mut left = READ_AHEAD;
    for block in blocks.iter().rev() {
        match left.checked_sub(block.index_file_bytes()) {
            Some(rest) => left = rest,
            None => break,
        }
        block.read_index_ahead();
    }
}

impl Opening {
    /// Takes hold of the database in `dir`, which is created if need be, and opens its blocks.
    ///
    /// # Errors
    /// When the folder is in use, cannot be written, or the options contradict each other. Damaged blocks are no error: they are
    /// logged and counted, and named in the warnings of what is asked for.
    pub fn begin(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        if options.min_block_duration < 1 || options.max_block_duration < options.min_block_duration {
            return Err(OpenError::Options(
                "block durations must be positive, the longest not below the shortest".into(),
            ));
        }
        if options.out_of_order_window < 0 {
            return Err(OpenError::Options("the out-of-order window must not be negative".into()));
        }
        let dir = dir.as_ref().join(FOLDER);
        let files = options.files.clone();
        files.create_dir(&dir)?;
        let lock = DirLock::acquire(&dir)?;
        let counters = Arc::new(Counters::default());
        let blocks_dir = dir.join("blocks");
        files.create_dir(&blocks_dir)?;
        let (blocks, damaged) = maintain::open_blocks(&files, &blocks_dir)?;
        counters.damaged_blocks.add(damaged.len() as u64);
        read_indexes_ahead(&blocks);
        let end = cut_ranges(&blocks).map(|(_, end)| end).max().unwrap_or(Timestamp::MIN);
        let view = BlocksView {
            blocks: blocks.into(),
            damaged: damaged.into(),
            counters,
            progress: Arc::default(),
            incomplete_from: end.saturating_sub(options.out_of_order_window),
        };
        Ok(Self { dir, options, lock, view })
    }

    /// What can be asked already.
    pub fn view(&self) -> BlocksView {
        self.view.clone()
    }

    /// How far [`Opening::replay`] is.
    pub fn progress(&self) -> Arc<ReplayProgress> {
        Arc::clone(&self.view.progress)
    }

    /// Reads the log and gives the database.
    ///
    /// # Errors
    /// When a file cannot be read or written, or [`ReplayProgress::stop`] was called. Damaged files are no error: what is good in
    /// them is served, what is not is logged and counted.
    pub fn replay(self) -> Result<Db, OpenError> {
        let Self { dir, options, lock, view: BlocksView { blocks, damaged, counters, progress, .. } } = self;
        let files = options.files.clone();
        let began = Instant::now();
        let bounds = Bounds::empty(options.out_of_order_window, options.min_block_duration);
        let (wal_dir, head_dir) = (dir.join("wal"), dir.join("head"));
        files.create_dir(&wal_dir)?;
        files.create_dir(&head_dir)?;
        let empty = || {
            let groups = Groups::new(bounds, SpillArea::open(&files, &head_dir)?);
            Ok(Replayed::new(groups, ExemplarStore::new(options.max_exemplars)))
        };
        let ranges: Vec<_> = cut_ranges(&blocks).collect();
        let (state, known) = match image::load(&files, &head_dir, &wal_dir, empty, &ranges, &counters)? {
            Some((state, known)) => (state, Some(known)),
            None => {
                let state = empty()?;
                state.groups.area.sweep(&HashSet::new());
                (state, None)
            }
        };
        let mut replayed = replay::replay(&files, &wal_dir, state, known, &counters, &progress, TornEnd::Cut)?;
        if progress.is_stopped() {
            // what has been read of the head is taken over by the next start
            replayed.groups.area.keep();
            return Err(OpenError::Stopped);
        }
        // cut before a crash, but not noted in the log
        if let Err(error) = replay::forget_blocks(&mut replayed, ranges) {
            tracing::error!(%error, "samples of the log cannot be compared with the blocks");
            counters.reads_failed.add(1);
        }
        counters.replay_millis.add(began.elapsed().as_millis() as u64);
        let wal_options = WalOptions { segment_bytes: options.wal_segment_bytes };
        let min_valid = replayed.groups.bounds.min_valid;
        let wal = WalWriter::create(
            files,
            &wal_dir,
            wal_options,
            replayed.stats.next_segment,
            std::mem::take(&mut replayed.stats.segments),
            min_valid,
        )?;
        Db::start(Engine::new(dir, options, lock, counters, (blocks.to_vec(), damaged.to_vec()), replayed, wal))
    }
}

/// The ranges of blocks that were cut from the head, ends not included. Of what was imported the head knows nothing.
pub(crate) fn cut_ranges(blocks: &[Arc<Block>]) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    blocks.iter().filter(|b| !b.meta.compaction.is_imported()).map(|b| (b.meta.min_time, b.meta.max_time))
}

impl std::fmt::Debug for BlocksView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlocksView").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

impl BlocksView {
    /// As [`Db::select`], with a warning where samples may be missing.
    pub fn select(&self, matchers: &[Matcher], min_time: Timestamp, max_time: Timestamp) -> Selection {
        self.select_paced(matchers, min_time, max_time, KeptLabels::All, &Pace::unwatched())
    }

    /// As [`Db::select_while`], with a warning where samples may be missing.
    ///
    /// # Errors
    /// When `watch` says stop.
    pub fn select_while(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        kept: KeptLabels<'_>,
        watch: Watch<'_>,
    ) -> Result<Selection, Stopped> {
        Pace::watched(watch, |pace| self.select_paced(matchers, min_time, max_time, kept, pace))
    }

    /// As [`Db::may_have_label`].
    pub fn may_have_label(&self, name: &str, min_time: Timestamp, max_time: Timestamp) -> bool {
        self.blocks().may_have_label(name, min_time, max_time)
    }

    fn select_paced(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        kept: KeptLabels<'_>,
        pace: &Pace<'_>,
    ) -> Selection {
        let (parts, mut warnings) = self.blocks().select(matchers, min_time, max_time, kept, pace);
        warnings.extend(self.missing(max_time));
        Selection::joined(parts, warnings, pace).counted(&self.counters)
    }

    /// As [`Db::label_names`], with a warning where names may be missing.
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        limit: Option<usize>,
    ) -> Answer {
        self.ask(Ask::Names(matchers), min_time, max_time, limit, &Pace::unwatched())
    }

    /// As [`Db::label_names_while`], with a warning where names may be missing.
    ///
    /// # Errors
    /// When `watch` says stop.
    pub fn label_names_while(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        watch: Watch<'_>,
    ) -> Result<Answer, Stopped> {
        Pace::watched(watch, |pace| self.ask(Ask::Names(matchers), min_time, max_time, None, pace))
    }

    /// As [`Db::label_values`], with a warning where values may be missing.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        limit: Option<usize>,
    ) -> Answer {
        self.ask(Ask::Values(name, matchers), min_time, max_time, limit, &Pace::unwatched())
    }

    /// As [`Db::label_values_while`], with a warning where values may be missing.
    ///
    /// # Errors
    /// When `watch` says stop.
    pub fn label_values_while(
        &self,
        name: &str,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        watch: Watch<'_>,
    ) -> Result<Answer, Stopped> {
        Pace::watched(watch, |pace| self.ask(Ask::Values(name, matchers), min_time, max_time, None, pace))
    }

    /// How far the reading of the log is.
    pub fn progress(&self) -> &Arc<ReplayProgress> {
        &self.progress
    }

    fn ask(
        &self,
        ask: Ask<'_>,
        min_time: Timestamp,
        max_time: Timestamp,
        limit: Option<usize>,
        pace: &Pace<'_>,
    ) -> Answer {
        let mut found = Texts::default();
        let mut warnings = self.blocks().ask(ask, min_time, max_time, &mut found, pace);
        warnings.extend(self.missing(max_time));
        answer(found, limit, warnings)
    }

    fn blocks(&self) -> Blocks<'_> {
        Blocks { blocks: &self.blocks, damaged: &self.damaged, counters: &self.counters }
    }

    fn missing(&self, max_time: Timestamp) -> Option<String> {
        (max_time >= self.incomplete_from).then(|| {
            let (first, last, current) = self.progress.segments();
            let (done, all) = (current.saturating_sub(first), last.saturating_sub(first) + 1);
            format!(
                "the write-ahead log is still being read ({done} of {all} segments): the newest samples are missing"
            )
        })
    }
}
