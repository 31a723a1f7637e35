//! What happens to samples after they are in: merging of blocks, retention, deletion from disk, snapshots, and what else is due.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;
use model::Timestamp;

use crate::block::{Block, BlockMeta, BlockWriter, Compaction, Effort, TEMPORARY, Ulid};
use crate::blocks::DamagedBlock;
use crate::checkpoint::shorten_log;
use crate::compact;
use crate::cut::{cut_due, flush_late};
use crate::db::FOLDER;
use crate::engine::Engine;
use crate::error::{FileError, MaintainError, ReadError};
use crate::files::{Files, dir_size};
use crate::head::Groups;
use crate::image::{self, When};
use crate::retention::{self, Sized};
use crate::select::{Selection, Source};
use crate::wal::{RecordBuilder, WalWriter};

/// The blocks in a folder.
pub(crate) struct FoundBlocks {
    /// Those that count, oldest first.
    pub(crate) blocks: Vec<Arc<Block>>,
    /// Those that cannot be opened.
    pub(crate) damaged: Vec<DamagedBlock>,
    /// What was being written at a crash: its name says that it does not count.
    unfinished: Vec<PathBuf>,
    /// Blocks that others replace.
    replaced: Vec<Arc<Block>>,
}

/// Finds the blocks in a folder and opens them. Changes nothing.
pub(crate) fn find_blocks(files: &Files, dir: &Path) -> Result<FoundBlocks, FileError> {
    let mut found =
        FoundBlocks { blocks: Vec::new(), damaged: Vec::new(), unfinished: Vec::new(), replaced: Vec::new() };
    for path in files.list(dir)? {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if name.ends_with(TEMPORARY) {
            found.unfinished.push(path);
        } else if name.parse::<Ulid>().is_ok() {
            match Block::open(files, &path) {
                Ok(block) => found.blocks.push(Arc::new(block)),
                // somebody who writes has just merged it: another one has its samples, which may not be in this list
                Err(_) if !path.exists() => return Err(FileError::at("open", &path)(io::ErrorKind::NotFound.into())),
                Err(error) => {
                    tracing::error!(block = name, %error, "left out a damaged block");
                    let range = BlockMeta::read(files, &path).ok().map(|m| (m.min_time, m.max_time));
                    found.damaged.push((range, format!("block {name} left out: {error}")));
                }
            }
        }
    }
    let replaced: HashSet<Ulid> =
        found.blocks.iter().flat_map(|b| &b.meta.compaction.parents).map(|p| p.ulid).collect();
    found.replaced = found.blocks.extract_if(.., |block| replaced.contains(&block.meta.ulid)).collect();
    found.blocks.sort_by_key(|b| (b.meta.min_time, b.meta.max_time, b.meta.ulid));
    Ok(found)
}

/// Opens the blocks in a folder. What was being written at a crash, and blocks that others replace, are removed.
pub(crate) fn open_blocks(files: &Files, dir: &Path) -> Result<(Vec<Arc<Block>>, Vec<DamagedBlock>), FileError> {
    let FoundBlocks { blocks, damaged, unfinished, replaced } = find_blocks(files, dir)?;
    for path in unfinished {
        let removed = files.sync_dir(dir).map_err(|e| e.source).and_then(|()| files.remove_tree(&path));
        if let Err(error) = removed {
            tracing::error!(path = %path.display(), %error, "cannot remove an unfinished block");
        }
    }
    for block in replaced {
        remove_dir(files, &block.dir);
    }
    Ok((blocks, damaged))
}

/// Removes a block's folder, so that a crash in between leaves no block that looks whole.
pub(crate) fn remove_dir(files: &Files, dir: &Path) -> bool {
    let remove = || -> io::Result<()> {
        let temporary = dir.with_extension("tmp");
        match files.rename(dir, &temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // before its files go: else a loss of power could leave the old name for what is left of them
        files.sync_dir(dir.parent().unwrap_or(dir)).map_err(|e| e.source)?;
        match files.remove_tree(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    let removed = remove();
    if let Err(error) = &removed {
        tracing::error!(path = %dir.display(), %error, "cannot remove a block");
    }
    removed.is_ok()
}

/// Removes the folders of blocks that do not count any more; what cannot be removed now is tried again, since at the next
/// start it would count again.
fn remove_dirs(db: &Engine, dirs: impl IntoIterator<Item = PathBuf>) {
    let mut leftover = db.leftover.lock();
    leftover.extend(dirs);
    leftover.retain(|dir| !remove_dir(&db.options.files, dir));
}

/// Does all that is due.
pub(crate) fn maintain(db: &Engine) -> Result<(), MaintainError> {
    let _maintenance = db.maintenance.lock();
    if db.is_closed() {
        return Err(MaintainError::Closed);
    }
    remove_dirs(db, []);
    let noted = if db.note_due.load(Ordering::Relaxed) {
        let mut wal = db.wal.lock();
        log_flushed(db, &mut wal, &db.groups.lock())
    } else {
        Ok(())
    };
    // a step that fails does not keep the others from theirs: on a full disk, retention is what makes room
    let mut outcome = noted.map_err(MaintainError::from);
    let truncations = db.counters.head_truncations.get();
    outcome = outcome.and(cut_due(db));
    outcome = outcome.and(flush_late(db));
    retain(db);
    if db.options.compaction {
        outcome = outcome.and(merge(db));
        retain(db);
    }
    // before the log loses what the last one stands on
    let cut = db.counters.head_truncations.get() > truncations;
    outcome = outcome.and(image::write_if_due(db, if cut { When::Always } else { When::Grown }));
    outcome.and(shorten_log(db))
}

/// Writes a block with what `write` gives its writer.
pub(crate) fn write_block(
    db: &Engine,
    min_time: Timestamp,
    max_time: Timestamp,
    compaction: Compaction,
    write: impl FnOnce(BlockWriter<'_>) -> Result<Option<BlockMeta>, MaintainError>,
) -> Result<Option<Arc<Block>>, MaintainError> {
    let dir = db.dir.join("blocks");
    let files = &db.options.files;
    let ulid = Ulid::new(db.options.clock.now());
    let effort = if compaction.level == 1 && will_merge(db) { Effort::Little } else { Effort::Most };
    let writer = BlockWriter { files, dir: &dir, min_time, max_time, compaction, ulid, effort };
    let finished = dir.join(ulid.to_string());
    // a block that this process does not know of must not be there at the next start
    let Some(meta) = write(writer).inspect_err(|_| remove_dirs(db, [finished.clone()]))? else {
        return Ok(None);
    };
    tracing::info!(
        block = %meta.ulid, min_time, max_time, series = meta.stats.num_series, samples = meta.stats.num_samples,
        "wrote a block"
    );
    let block = Block::open(files, &finished).inspect_err(|_| remove_dirs(db, [finished.clone()]))?;
    Ok(Some(Arc::new(block)))
}

/// Whether blocks cut from the head are merged with their neighbours.
fn will_merge(db: &Engine) -> bool {
    db.options.compaction && compact::ranges(db.options.min_block_duration, db.options.max_block_duration).len() > 1
}

/// Puts a block in the place of others.
pub(crate) fn add_blocks(db: &Engine, block: Option<Arc<Block>>, gone: &[Ulid]) {
    let mut blocks = db.blocks.write();
    blocks.retain(|b| !gone.contains(&b.meta.ulid));
    blocks.extend(block);
    blocks.sort_by_key(|b| (b.meta.min_time, b.meta.max_time, b.meta.ulid));
}

/// Says that samples before `min_valid` are in blocks but for the out-of-order ones, which are repeated.
pub(crate) fn put_flushed(record: &mut RecordBuilder, groups: &Groups, min_valid: Timestamp) {
    record.flushed(min_valid);
    put_late(record, groups, min_valid);
}

/// Repeats the out-of-order samples before a time.
pub(crate) fn put_late(record: &mut RecordBuilder, groups: &Groups, before: Timestamp) {
    let (floats, histograms) = groups.out_of_order.before(before);
    for row in floats.chunk_by(|a, b| a.0 == b.0) {
        let series: Vec<u32> = row.iter().map(|s| s.1).collect();
        let values: Vec<f64> = row.iter().map(|s| s.2).collect();
        record.late_row(row[0].0, &series, &values);
    }
    record.histograms(&histograms, true);
}

/// Notes in the log what is in blocks; where that fails it is due again with the next maintenance.
pub(crate) fn log_flushed(db: &Engine, wal: &mut WalWriter, groups: &Groups) -> Result<(), FileError> {
    let mut record = RecordBuilder::default();
    put_flushed(&mut record, groups, groups.bounds.min_valid);
    db.note_due.store(true, Ordering::Relaxed);
    wal.append(&record.bytes, record.max_time)?;
    wal.flushed(groups.bounds.min_valid);
    db.note_due.store(false, Ordering::Relaxed);
    Ok(())
}

fn retain(db: &Engine) {
    let sized = |blocks: &[Arc<Block>]| -> Vec<Sized> {
        blocks.iter().map(|b| Sized { ulid: b.meta.ulid, max_time: b.meta.max_time, bytes: b.bytes }).collect()
    };
    let blocks = sized(&db.blocks.read());
    let by_time = db.options.retention_duration.map(|d| retention::beyond_time(&blocks, d)).unwrap_or_default();
    let share = (db.options.retention_percentage > 0.0).then(|| file_system_share(db)).flatten();
    let limit = db.options.retention_size.into_iter().chain(share).min();
    let by_size = match limit {
        Some(limit) => {
            let head = db.groups.lock().file_bytes();
            retention::beyond_size(&blocks, dir_size(&db.dir.join("wal")) + head, limit)
        }
        None => Vec::new(),
    };
    db.counters.time_retentions.add(by_time.len() as u64);
    db.counters.size_retentions.add(by_size.iter().filter(|u| !by_time.contains(u)).count() as u64);
    let gone: Vec<Ulid> = by_time.into_iter().chain(by_size).collect();
    if gone.is_empty() {
        return;
    }
    tracing::info!(blocks = gone.len(), "deleting blocks beyond the retention");
    remove_blocks(db, None, &gone);
}

/// The bytes that the configured percentage of the file system is; `None` if the system does not say how large it is.
fn file_system_share(db: &Engine) -> Option<u64> {
    match rustix::fs::statvfs(&db.dir) {
        Ok(stat) => {
            let bytes = stat.f_blocks.saturating_mul(stat.f_frsize) as f64;
            Some((bytes * db.options.retention_percentage / 100.0) as u64)
        }
        Err(error) => {
            tracing::error!(%error, path = %db.dir.display(), "cannot find out how large the file system is");
            None
        }
    }
}

/// Puts a block in the place of others and deletes those. Who reads them has them open.
fn remove_blocks(db: &Engine, block: Option<Arc<Block>>, gone: &[Ulid]) {
    let dirs: Vec<_> = db.blocks.read().iter().filter(|b| gone.contains(&b.meta.ulid)).map(|b| b.dir.clone()).collect();
    // under the lock that queries take their blocks in
    let groups = db.groups.lock();
    add_blocks(db, block, gone);
    drop(groups);
    remove_dirs(db, dirs);
}

fn merge(db: &Engine) -> Result<(), MaintainError> {
    let ranges = compact::ranges(db.options.min_block_duration, db.options.max_block_duration);
    let mut failed: HashSet<Ulid> = HashSet::new();
    let mut first_error = None;
    loop {
        let metas: Vec<BlockMeta> = db.blocks.read().iter().map(|b| b.meta.clone()).collect();
        let usable: Vec<BlockMeta> = metas.into_iter().filter(|m| !failed.contains(&m.ulid)).collect();
        let plan = compact::plan(&usable, &ranges);
        if plan.is_empty() {
            return first_error.map_or(Ok(()), Err);
        }
        db.counters.compactions.add(1);
        if let Err(error) = merge_blocks(db, &plan) {
            db.counters.compactions_failed.add(1);
            tracing::error!(%error, "cannot merge blocks");
            // the others may still be merged
            failed.extend(plan);
            first_error.get_or_insert(error);
        }
    }
}

fn merge_blocks(db: &Engine, plan: &[Ulid]) -> Result<(), MaintainError> {
    let blocks: Vec<Arc<Block>> = db.blocks.read().iter().filter(|b| plan.contains(&b.meta.ulid)).cloned().collect();
    if blocks.windows(2).any(|w| w[0].meta.max_time > w[1].meta.min_time) {
        db.counters.vertical_compactions.add(1);
    }
    let Merge { selection, min_time, max_time, compaction } = Merge::of(&blocks)?;
    let block = write_block(db, min_time, max_time, compaction, |writer| writer.write(&selection))?;
    drop(selection);
    remove_blocks(db, block, plan);
    Ok(())
}

/// All that some blocks have, for one that is to replace them.
pub(crate) struct Merge {
    pub(crate) selection: Selection,
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    pub(crate) compaction: Compaction,
}

impl Merge {
    pub(crate) fn of(blocks: &[Arc<Block>]) -> Result<Self, ReadError> {
        let min_time = blocks.iter().map(|b| b.meta.min_time).min().unwrap_or(0);
        let max_time = blocks.iter().map(|b| b.meta.max_time).max().unwrap_or(0);
        let mut sources: Vec<Ulid> = blocks.iter().flat_map(|b| b.meta.compaction.sources.clone()).collect();
        sources.sort_unstable();
        sources.dedup();
        let mut hints: Vec<String> = blocks.iter().flat_map(|b| b.meta.compaction.hints.clone()).collect();
        hints.sort_unstable();
        hints.dedup();
        let compaction = Compaction {
            level: blocks.iter().map(|b| b.meta.compaction.level).max().unwrap_or(0) + 1,
            sources,
            parents: blocks.iter().map(|b| b.meta.parent()).collect(),
            hints,
        };
        let mut parts = Vec::new();
        let mut blocks: Vec<&Arc<Block>> = blocks.iter().collect();
        blocks.sort_by_key(|b| b.meta.ulid);
        for block in blocks {
            let (selection, labels) = block.select(&[], min_time, max_time - 1)?;
            parts.push((Source::Block(selection), labels));
        }
        Ok(Self { selection: Selection::join(parts, Vec::new()), min_time, max_time, compaction })
    }
}

/// Rewrites blocks that have deleted ranges.
pub(crate) fn clean_tombstones(db: &Engine) -> Result<(), MaintainError> {
    let _maintenance = db.maintenance.lock();
    let blocks = db.blocks.read().clone();
    for block in blocks.iter().filter(|b| b.has_tombstones()) {
        merge_blocks(db, &[block.meta.ulid])?;
    }
    Ok(())
}

/// Links blocks into another folder.
pub(crate) fn snapshot(db: &Engine, dir: &Path, with_head: bool) -> Result<(), MaintainError> {
    let _maintenance = db.maintenance.lock();
    let files = &db.options.files;
    let target = dir.join(FOLDER).join("blocks");
    files.create_dir(&target)?;
    let blocks = db.blocks.read().clone();
    for block in &blocks {
        files.link_dir(&block.dir, &target.join(block.meta.ulid.to_string()))?;
    }
    if with_head {
        let (mut head, labels, (min_time, newest)) = db.head_snapshot(Groups::extent);
        if min_time <= newest {
            head.prepare();
            let selection = Selection::of_head(head, labels);
            let compaction = Compaction { level: 1, ..Compaction::default() };
            let max_time = newest + 1;
            let writer = BlockWriter {
                files,
                dir: &target,
                min_time,
                max_time,
                compaction,
                ulid: Ulid::new(db.options.clock.now()),
                effort: Effort::Most,
            };
            writer.write(&selection)?;
        }
    }
    files.sync_dir(&target)?;
    Ok(())
}
