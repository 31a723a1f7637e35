//! Samples that are loaded straight into blocks, past the log and the head: history from elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use model::{Column, Labels, Timestamp};

use crate::block::{Block, BlockMeta, BlockWriter, Compaction, Effort, IMPORTED, Ulid};
use crate::compact;
use crate::db::FOLDER;
use crate::error::{MaintainError, OpenError};
use crate::lock::DirLock;
use crate::maintain::{self, Merge};
use crate::options::Options;
use crate::select::{Selection, Source};

/// Samples kept before they are written, 16 bytes each and about half of it to spare.
const BATCH: usize = 8 << 20;

/// Loads float samples into new blocks of a database that nobody has open. Samples may come in any order; memory is bounded by
/// writing blocks whenever so many have come, which are merged at the end where they overlap.
///
/// A load that is not finished leaves the blocks written so far.
pub struct BulkLoader {
    dir: PathBuf,
    options: Options,
    batch: usize,
    numbers: HashMap<Labels, u32>,
    series: Vec<Vec<(Timestamp, f64)>>,
    kept: usize,
    written: Vec<BlockMeta>,
    report: BulkReport,
    #[expect(dead_code, reason = "held until the loader is gone")]
    lock: DirLock,
}

/// A series of a [`BulkLoader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkSeries(u32);

/// What a [`BulkLoader`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// Samples that were given.
    pub samples: u64,
    /// Samples left out because the series had one with this time already; the first one counts.
    pub duplicates: u64,
    /// Series.
    pub series: u64,
    /// The blocks that are there now, oldest first.
    pub blocks: Vec<BlockMeta>,
}

/// Why samples could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The database is in use, or its folder cannot be written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A block cannot be written, or read again to be merged.
    #[error(transparent)]
    Write(#[from] MaintainError),
}

impl BulkLoader {
    /// A loader for the database in `dir`, which is created if need be. Blocks are as long as the options allow, in steps of three
    /// from the shortest range.
    ///
    /// # Errors
    /// When another process has the database open, or the folder cannot be written.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, ImportError> {
        let dir = dir.as_ref().join(FOLDER);
        let blocks = dir.join("blocks");
        options.files.create_dir(&dir).map_err(OpenError::from)?;
        let lock = DirLock::acquire(&dir)?;
        options.files.create_dir(&blocks).map_err(OpenError::from)?;
        Ok(Self {
            dir: blocks,
            options,
            batch: BATCH,
            numbers: HashMap::new(),
            series: Vec::new(),
            kept: 0,
            written: Vec::new(),
            report: BulkReport::default(),
            lock,
        })
    }

    /// The series with these labels.
    pub fn series(&mut self, labels: &Labels) -> BulkSeries {
        if let Some(number) = self.numbers.get(labels) {
            return BulkSeries(*number);
        }
        let number = self.series.len() as u32;
        self.numbers.insert(labels.clone(), number);
        self.series.push(Vec::new());
        BulkSeries(number)
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// When blocks were due and cannot be written.
    pub fn add(&mut self, series: BulkSeries, time: Timestamp, value: f64) -> Result<(), ImportError> {
        self.series[series.0 as usize].push((time, value));
        self.report.samples += 1;
        self.kept += 1;
        if self.kept < self.batch { Ok(()) } else { self.flush() }
    }

    /// Writes what is left, and merges the blocks of the load that belong together.
    ///
    /// # Errors
    /// When that fails; blocks that have been written stay.
    pub fn finish(mut self) -> Result<BulkReport, ImportError> {
        self.flush()?;
        self.report.series = self.numbers.len() as u64;
        self.written.sort_by_key(|m| (m.min_time, m.ulid));
        let range = self.range();
        let same_range = |a: &BlockMeta, b: &BlockMeta| a.min_time.div_euclid(range) == b.min_time.div_euclid(range);
        let parts = self.written.chunk_by(same_range);
        let merged = parts.map(|part| if let [only] = part { Ok(only.clone()) } else { self.merge(part) });
        self.report.blocks = merged.collect::<Result<_, ImportError>>()?;
        Ok(self.report)
    }

    /// Each block lies in one multiple of this.
    fn range(&self) -> i64 {
        let ranges = compact::ranges(self.options.min_block_duration, self.options.max_block_duration);
        ranges.last().copied().unwrap_or(self.options.min_block_duration)
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        for samples in &mut self.series {
            // stable: of two samples for one time the first counts
            samples.sort_by_key(|s| s.0);
            let before = samples.len();
            samples.dedup_by_key(|s| s.0);
            self.report.duplicates += (before - samples.len()) as u64;
        }
        let mut order: Vec<(&Labels, u32)> = self.numbers.iter().map(|(labels, number)| (labels, *number)).collect();
        order.sort_unstable();
        let range = self.range();
        // what is left of each series
        let mut from = vec![0; self.series.len()];
        let mut written = Vec::new();
        loop {
            let heads = self.series.iter().zip(&from).filter_map(|(samples, from)| samples.get(*from));
            let Some(start) = heads.map(|s| s.0).min() else { break };
            let aligned_end = start.div_euclid(range).saturating_add(1).saturating_mul(range);
            let (mut labels, mut columns) = (Vec::new(), Vec::new());
            let mut known: HashSet<Arc<[Timestamp]>> = HashSet::new();
            let mut newest = start;
            for (set, number) in &order {
                let number = *number as usize;
                let samples = &self.series[number][from[number]..];
                let part = &samples[..samples.partition_point(|s| s.0 < aligned_end)];
                let Some(last) = part.last() else { continue };
                newest = newest.max(last.0);
                from[number] += part.len();
                let times: Vec<Timestamp> = part.iter().map(|s| s.0).collect();
                let timestamps = known.get_or_insert_with(&times[..], |times| times.into());
                labels.push((*set).clone());
                columns.push(Column {
                    timestamps: Arc::clone(timestamps),
                    values: part.iter().map(|s| s.1).collect(),
                    start_timestamps: None,
                });
            }
            let selection = Selection::join(vec![(Source::Loaded(columns), labels)], Vec::new());
            let compaction = Compaction { level: 1, hints: vec![IMPORTED.to_owned()], ..Compaction::default() };
            // no longer than its samples: what ends later would keep the head from times that are yet to come
            written.extend(self.write(&selection, start, newest.saturating_add(1), compaction)?);
        }
        self.written.append(&mut written);
        self.series.iter_mut().for_each(|samples| *samples = Vec::new());
        self.kept = 0;
        Ok(())
    }

    fn write(
        &self,
        selection: &Selection,
        min_time: Timestamp,
        max_time: Timestamp,
        compaction: Compaction,
    ) -> Result<Option<BlockMeta>, MaintainError> {
        let ulid = Ulid::new(self.options.clock.now());
        let (files, dir) = (&self.options.files, self.dir.as_path());
        BlockWriter { files, dir, min_time, max_time, compaction, ulid, effort: Effort::Most }.write(selection)
    }

    fn merge(&self, metas: &[BlockMeta]) -> Result<BlockMeta, ImportError> {
        let files = &self.options.files;
        let open = |m: &BlockMeta| Ok(Arc::new(Block::open(files, &self.dir.join(m.ulid.to_string()))?));
        let blocks = metas.iter().map(open).collect::<Result<Vec<_>, MaintainError>>()?;
        let Merge { selection, min_time, max_time, compaction } = Merge::of(&blocks).map_err(MaintainError::from)?;
        let merged = self.write(&selection, min_time, max_time, compaction)?;
        drop(selection);
        for block in &blocks {
            maintain::remove_dir(files, &block.dir);
        }
        // blocks with samples give a block with samples
        Ok(merged.unwrap_or_else(|| metas[0].clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    const HOUR: i64 = 3_600_000;

    fn options() -> Options {
        Options { background: false, max_block_duration: 8 * HOUR, retention_duration: None, ..Options::default() }
    }

    fn labels(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    #[test]
    fn samples_in_any_order_become_blocks_that_do_not_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let mut loader = BulkLoader::open(dir.path(), options()).unwrap();
        loader.batch = 100;
        let (a, b) = (loader.series(&labels("a")), loader.series(&labels("b")));
        assert_eq!(loader.series(&labels("a")), a);
        for minute in (0..20 * 60).rev() {
            loader.add(a, minute * 60_000, minute as f64).unwrap();
        }
        for minute in 0..20 * 60 {
            loader.add(b, minute * 60_000, -(minute as f64)).unwrap();
        }
        loader.add(b, 0, 7.0).unwrap();
        loader.add(b, 0, 8.0).unwrap();
        let report = loader.finish().unwrap();
        assert_eq!((report.samples, report.series, report.duplicates), (2402, 2, 1));
        let ranges: Vec<(i64, i64)> = report.blocks.iter().map(|m| (m.min_time, m.max_time)).collect();
        assert_eq!(ranges[..2], [(0, 6 * HOUR - 59_999), (6 * HOUR, 12 * HOUR - 59_999)]);
        assert_eq!(std::fs::read_dir(dir.path().join("firewatch/blocks")).unwrap().count(), 4);
        let db = Db::open(dir.path(), options()).unwrap();
        let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
        let read = selection.read(0..2, i64::MIN, i64::MAX).unwrap();
        let expected: Vec<f64> = (0..20 * 60).map(f64::from).collect();
        assert_eq!(read[0].floats.values, expected);
        assert_eq!((read[1].floats.len(), read[1].floats.values[0]), (20 * 60, 0.0), "the first one counts");
    }

    #[test]
    fn what_the_head_has_stays_when_a_block_over_the_same_time_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let append = |db: &Db, time: i64| {
            let mut appender = db.appender();
            let series = appender.series(&labels("scraped")).unwrap();
            appender.append(series, time, 1.0).unwrap();
            appender.commit().unwrap();
        };
        let db = Db::open(dir.path(), options()).unwrap();
        (0..60).for_each(|minute| append(&db, 10 * HOUR + minute * 60_000));
        assert!(matches!(BulkLoader::open(dir.path(), options()), Err(ImportError::Open(OpenError::Locked(_)))));
        drop(db);
        let mut loader = BulkLoader::open(dir.path(), options()).unwrap();
        let loaded = loader.series(&labels("loaded"));
        (0..200).for_each(|minute| loader.add(loaded, 9 * HOUR + minute * 60_000, 2.0).unwrap());
        loader.finish().unwrap();
        // as it was closed, and after a kill
        for round in 0..2 {
            let db = Db::open(dir.path(), Options { image_interval_bytes: None, ..options() }).unwrap();
            let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
            let read = selection.read(0..2, i64::MIN, i64::MAX).unwrap();
            assert_eq!((read[0].floats.len(), read[1].floats.len()), (200, 60 + round));
            // the head takes what comes next
            append(&db, 11 * HOUR + round as i64 * 60_000);
        }
        let db = Db::open(dir.path(), options()).unwrap();
        (0..600).for_each(|minute| append(&db, 12 * HOUR + minute * 60_000));
        db.maintain().unwrap();
        let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
        let read = selection.read(0..2, i64::MIN, i64::MAX).unwrap();
        assert_eq!((read[0].floats.len(), read[1].floats.len()), (200, 662));
    }
}
