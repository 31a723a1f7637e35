//! What several blocks have together.

use std::sync::Arc;

use model::{KeptLabels, Matcher, Timestamp};

use crate::block::Block;
use crate::engine::{Ask, take};
use crate::metrics::Counters;
use crate::select::{SeriesLabels, Source};
use crate::texts::Texts;
use crate::watch::Pace;

/// Memory that tables of block indexes may take together, before the first are dropped.
const INDEX_BYTES: usize = 48 << 20;

/// A block that cannot be opened: its range if the meta can be read, and the warning about it.
pub(crate) type DamagedBlock = (Option<(Timestamp, Timestamp)>, String);

/// The blocks of a database as they are at one moment, oldest first.
pub(crate) struct Blocks<'a> {
    pub(crate) blocks: &'a [Arc<Block>],
    pub(crate) damaged: &'a [DamagedBlock],
    pub(crate) counters: &'a Counters,
}

/// For each source its series in label order.
pub(crate) type Parts = Vec<(Source, SeriesLabels)>;

impl Blocks<'_> {
    /// The series that match and may have samples in the range, and warnings about what could not be read; anything if `pace` has
    /// said stop.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        min_time: Timestamp,
        max_time: Timestamp,
        kept: KeptLabels<'_>,
        pace: &Pace<'_>,
    ) -> (Parts, Vec<String>) {
        let (mut parts, mut warnings) = (Vec::new(), Vec::new());
        let mut wanted: Vec<_> = self.blocks.iter().filter(|b| b.meta.overlaps(min_time, max_time)).collect();
        wanted.sort_by_key(|b| b.meta.ulid);
        let kept = if wanted.len() == 1 { kept } else { KeptLabels::All };
        for block in wanted {
            match block.find(matchers, min_time, max_time, kept, pace) {
                Ok((selection, labels)) => parts.push((Source::Block(selection), SeriesLabels::Block(labels))),
                Err(error) => {
                    self.counters.damaged_blocks.add(1);
                    warnings.push(format!("block {} left out: {error}", block.meta.ulid));
                }
            }
        }
        for (range, error) in self.damaged {
            if range.is_none_or(|(min, max)| min <= max_time && max > min_time) {
                warnings.push(error.clone());
            }
        }
        self.bound_index_memory();
        (parts, warnings)
    }

    /// Adds to `all` what the indexes of blocks that overlap the range answer, and gives warnings; anything if `pace` has said stop.
    pub(crate) fn ask(
        &self,
        ask: Ask<'_>,
        min_time: Timestamp,
        max_time: Timestamp,
        all: &mut Texts,
        pace: &Pace<'_>,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut wanted = self.blocks.iter().filter(|b| b.meta.overlaps(min_time, max_time));
        while let (true, Some(block)) = (pace.done(0), wanted.next()) {
            match block.with_index(|index| ask.of(index, pace)) {
                Ok(found) => take(all, found, pace),
                Err(error) => warnings.push(format!("block {} left out: {error}", block.meta.ulid)),
            }
        }
        self.bound_index_memory();
        warnings
    }

    /// Whether series in the range may have a label; yes if that cannot be found out.
    pub(crate) fn may_have_label(&self, name: &str, min_time: Timestamp, max_time: Timestamp) -> bool {
        let mut blocks = self.blocks.iter().filter(|b| b.meta.overlaps(min_time, max_time));
        blocks.any(|block| block.with_index(|index| Ok(index.labels.has(name))).unwrap_or(true))
    }

    fn bound_index_memory(&self) {
        let mut total = 0;
        // the newest are asked for most
        for block in self.blocks.iter().rev() {
            total += block.index_bytes();
            if total > INDEX_BYTES {
                block.unload_index();
            }
        }
    }
}
