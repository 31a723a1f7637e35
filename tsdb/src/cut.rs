//! Samples of the head are written to blocks and removed from it, when a block's worth of them is there or they are older than the head.

use std::sync::Arc;

use model::Timestamp;

use crate::block::{Block, BlockWriter, Compaction};
use crate::engine::Engine;
use crate::error::MaintainError;
use crate::head::{HeadSnapshot, OrderedSeries, OutOfOrderSeries};
use crate::maintain::{add_blocks, log_flushed, write_block};
use crate::select::Selection;

/// Series that are written together, at least: what is known of them while they are read takes some kilobytes for each group.
const PART: usize = 4096;
/// Series that are written together for each group, at least: what a group has is looked up anew for each part.
const OF_GROUP: usize = 8;

/// Out-of-order samples, by series.
type Late = Vec<(u32, Arc<OutOfOrderSeries>)>;

pub(crate) fn cut_due(db: &Engine) -> Result<(), MaintainError> {
    while let Some((min_time, max_time)) = due_cut(db) {
        db.counters.compactions.add(1);
        cut(db, min_time, max_time).inspect_err(|_| db.counters.compactions_failed.add(1))?;
    }
    Ok(())
}

/// The range to cut from the head, if it spans one and a half block ranges and nobody may still write to the range.
fn due_cut(db: &Engine) -> Option<(Timestamp, Timestamp)> {
    let bounds = db.groups.lock().bounds;
    let range = bounds.block_range;
    if bounds.min_time > bounds.max_time || bounds.max_time - bounds.min_time <= range / 2 * 3 {
        return None;
    }
    let max_time = (bounds.min_time.div_euclid(range) + 1) * range;
    (!db.open_before(max_time)).then_some((bounds.min_time, max_time))
}

/// Writes `min_time..max_time` of the head as a block and removes it from the head.
fn cut(db: &Engine, min_time: Timestamp, max_time: Timestamp) -> Result<(), MaintainError> {
    seal_before(db, max_time);
    let series = db.series_in_order(|_, _| true);
    let (block, late) = write_head(db, &series, min_time, max_time, |head| head)?;
    drop(series);

    let mut wal = db.wal.lock();
    let mut index = db.index.write();
    let mut groups = db.groups.lock();
    add_blocks(db, block, &[]);
    groups.out_of_order.remove(&late, min_time, max_time);
    let gone = groups.truncate(max_time, db.oldest_transaction());
    let noted = log_flushed(db, &mut wal, &groups);
    drop((groups, wal));
    index.remove(&gone);
    drop(index);
    let mut metadata = db.metadata.lock();
    gone.iter().for_each(|id| {
        metadata.remove(id);
    });
    db.counters.series_removed.add(gone.len() as u64);
    db.counters.head_truncations.add(1);
    // at the next start the block says it as well
    noted.map_err(Into::into)
}

/// Writes what series have in `min_time..max_time` as a block, part by part. Nobody may add samples to that range meanwhile but
/// out of order: gives those of them that the block may have, with others of the same series.
fn write_head(
    db: &Engine,
    series: &OrderedSeries,
    min_time: Timestamp,
    max_time: Timestamp,
    keep: impl Fn(HeadSnapshot) -> HeadSnapshot,
) -> Result<(Option<Arc<Block>>, Late), MaintainError> {
    let mut late = Late::new();
    let size = PART.max(db.groups.lock().each().count() * OF_GROUP);
    let parts = series.parts(size).map(|(ids, labels)| {
        let mut head = keep(HeadSnapshot::take(&db.groups.lock(), ids, (min_time, max_time - 1)));
        head.prepare();
        if size == PART {
            head.read_together();
        }
        late.extend(head.late());
        Selection::of_head(head, labels)
    });
    let compaction = Compaction { level: 1, ..Compaction::default() };
    let write = |writer: BlockWriter<'_>| writer.write_parts(series.texts(), parts);
    let block = write_block(db, min_time, max_time, compaction, write)?;
    Ok((block, late))
}

/// Puts open rows from before a time into chunks. A block is written series by series, in which each series' rows would have to stay
/// decoded until the last one of its group: half a kilobyte for each.
fn seal_before(db: &Engine, time: Timestamp) {
    let mut number = 0;
    // one by one: others need the lock
    while db.groups.lock().seal_before(number, time) {
        number += 1;
    }
}

/// Writes the out-of-order samples that are older than the head to blocks.
pub(crate) fn flush_late(db: &Engine) -> Result<(), MaintainError> {
    let range = db.options.min_block_duration;
    loop {
        let (oldest, min_valid) = {
            let groups = db.groups.lock();
            (groups.out_of_order.min_time, groups.bounds.min_valid)
        };
        let Some(oldest) = oldest.filter(|t| *t < min_valid) else { return Ok(()) };
        let start = oldest.div_euclid(range) * range;
        let end = (start + range).min(min_valid);
        let series = db.series_in_order(|groups, id| groups.out_of_order.contains(id));
        db.counters.compactions.add(1);
        let (block, late) = write_head(db, &series, start, end, HeadSnapshot::only_late)
            .inspect_err(|_| db.counters.compactions_failed.add(1))?;
        let mut wal = db.wal.lock();
        let mut groups = db.groups.lock();
        add_blocks(db, block, &[]);
        groups.out_of_order.remove(&late, start, end);
        log_flushed(db, &mut wal, &groups)?;
    }
}
