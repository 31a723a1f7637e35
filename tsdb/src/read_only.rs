use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{KeptLabels, Matcher, Timestamp};

use crate::block::BlockMeta;
use crate::blocks::Blocks;
use crate::db::FOLDER;
use crate::error::{FileError, OpenError};
use crate::exemplars::ExemplarStore;
use crate::files::Files;
use crate::head::{Bounds, Groups, HeadSeries, SeriesOrder, SpillArea};
use crate::maintain::{self, FoundBlocks};
use crate::metrics::Counters;
use crate::opening::{ReplayProgress, cut_ranges};
use crate::options::Options;
use crate::postings;
use crate::replay::{self, Replayed};
use crate::select::{Selection, SeriesLabels, Source};
use crate::wal::TornEnd;
use crate::watch::Pace;

/// A database as it was when it was opened, for tools: nothing in its folder is changed, and it may be opened while another
/// process writes to it. The head is held in memory.
pub struct ReadOnlyDb {
    found: FoundBlocks,
    head: Replayed,
    order: SeriesOrder,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for ReadOnlyDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOnlyDb").field("blocks", &self.found.blocks.len()).finish_non_exhaustive()
    }
}

/// A writer that cuts a block removes files that were there a moment ago; so often is looked again.
const ATTEMPTS: usize = 5;

impl ReadOnlyDb {
    /// Reads the database in `dir` as it is now.
    ///
    /// # Errors
    /// When there is none, or a file cannot be read. Damaged files are no error: what is good in them is there.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref().join(FOLDER);
        let mut attempt = 1;
        loop {
            match Self::read(&dir) {
                Err(error) if attempt < ATTEMPTS && error.source.kind() == io::ErrorKind::NotFound && dir.exists() => {
                    attempt += 1;
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    fn read(dir: &Path) -> Result<Self, FileError> {
        let (files, counters) = (Files::read_only(), Arc::new(Counters::default()));
        // first: what a cut takes from the log is in blocks then
        let head = Self::read_log(&files, &dir.join("wal"), &counters)?;
        let found = maintain::find_blocks(&files, &dir.join("blocks"))?;
        let mut read = Self { found, head, order: SeriesOrder::default(), counters };
        let ranges = cut_ranges(&read.found.blocks).collect();
        if let Err(error) = replay::forget_blocks(&mut read.head, ranges) {
            tracing::error!(%error, "samples of the log cannot be compared with the blocks");
        }
        Ok(read)
    }

    fn read_log(files: &Files, dir: &Path, counters: &Counters) -> Result<Replayed, FileError> {
        let options = Options::default();
        let bounds = Bounds::empty(options.out_of_order_window, options.min_block_duration);
        let groups = Groups::new(bounds, SpillArea::heap_only());
        let state = Replayed::new(groups, ExemplarStore::new(0));
        if !dir.is_dir() {
            // blocks have been loaded, and nobody has written samples yet
            return Ok(state);
        }
        replay::replay(files, dir, state, None, counters, &ReplayProgress::default(), TornEnd::Keep)
    }

    /// The blocks, oldest first, with the bytes of their files.
    pub fn blocks(&self) -> Vec<(BlockMeta, u64)> {
        self.found.blocks.iter().map(|block| (block.meta(), block.bytes)).collect()
    }

    /// Times of the first and the last sample of the head, and its series; `None` if it has none.
    pub fn head(&self) -> Option<(Timestamp, Timestamp, usize)> {
        let (min_time, max_time) = self.head.groups.extent();
        (min_time <= max_time).then(|| (min_time, max_time, self.head.index.len()))
    }

    /// As [`crate::Db::select`].
    pub fn select(&self, matchers: &[Matcher], min_time: Timestamp, max_time: Timestamp) -> Selection {
        let FoundBlocks { blocks, damaged, .. } = &self.found;
        let blocks = Blocks { blocks, damaged, counters: &self.counters };
        let pace = Pace::unwatched();
        let (mut parts, warnings) = blocks.select(matchers, min_time, max_time, KeptLabels::All, &pace);
        let Replayed { index, groups, .. } = &self.head;
        let Ok(ids) = postings::select(index, matchers, &pace);
        let found = HeadSeries::take(index, groups, ids, (min_time, max_time), &pace).present(&pace);
        let (head, labels) = found.in_order(&self.order, &pace);
        parts.push((Source::Head(head), SeriesLabels::Head(labels)));
        Selection::joined(parts, warnings, &pace).counted(&self.counters)
    }
}
