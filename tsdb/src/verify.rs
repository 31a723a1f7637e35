//! Looking for damage in the files of a database, and making good what can be.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Timestamp;

use crate::block::{Block, BlockMeta, BlockWriter, Compaction, Effort, Ulid};
use crate::db::FOLDER;
use crate::error::{FileError, MaintainError, OpenError, ReadError};
use crate::files::Files;
use crate::lock::DirLock;
use crate::options::Options;
use crate::select::{Selection, Source};
use crate::wal::{self, Frame, Frames, SEGMENT_MAGIC, checkpoint_path, record, segment_path};

/// The folder, beside that of the blocks, where a repair puts blocks that are damaged.
const DAMAGED: &str = "damaged";

/// Faults that are kept of a file; more are only counted.
const FAULTS: usize = 10;

/// What is wrong with a file or a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first of them.
    pub texts: Vec<String>,
    /// How many there are.
    pub count: u64,
}

impl Faults {
    fn note(&mut self, fault: &dyn Display) {
        self.count += 1;
        if self.texts.len() < FAULTS {
            self.texts.push(fault.to_string());
        }
    }
}

/// A block that was looked at.
#[derive(Clone, Debug)]
pub struct CheckedBlock {
    /// Its name.
    pub ulid: Ulid,
    /// What it says of itself, if that can be read.
    pub meta: Option<BlockMeta>,
    /// What is wrong with it: of each series that cannot be read one fault.
    pub faults: Faults,
}

/// A file of the log that was looked at.
#[derive(Clone, Debug)]
pub struct CheckedLog {
    /// The file.
    pub path: PathBuf,
    /// Good records.
    pub records: u64,
    /// What is wrong with it. What follows the last good record of the newest file is no fault: it may be being written.
    pub faults: Faults,
}

/// Blocks and files of the log.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// By name.
    pub blocks: Vec<CheckedBlock>,
    /// Oldest first.
    pub log: Vec<CheckedLog>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.blocks.iter().all(|b| b.faults.count == 0) && self.log.iter().all(|l| l.faults.count == 0)
    }
}

/// Reads everything that is stored in `dir` and checks it. Changes nothing; another process may write to the database meanwhile.
///
/// # Errors
/// When there is no database, or the operating system does not let it be read.
pub fn verify(dir: impl AsRef<Path>) -> Result<Verification, FileError> {
    let (files, dir) = (Files::read_only(), dir.as_ref().join(FOLDER));
    let mut verification = Verification::default();
    for (ulid, path) in block_folders(&files, &dir)? {
        // a block that a writer has merged meanwhile is no fault
        let (meta, faults) = check_block(&files, &path);
        if path.exists() {
            verification.blocks.push(CheckedBlock { ulid, meta, faults });
        }
    }
    let wal_dir = dir.join("wal");
    // without it nobody has written samples yet
    let (segments, checkpoints) = if wal_dir.is_dir() { wal::list(&files, &wal_dir)? } else { Default::default() };
    let checkpoint = checkpoints.last().map(|number| checkpoint_path(&wal_dir, *number));
    let newest = segments.last().copied();
    let paths = checkpoint.map(|path| (path, false)).into_iter();
    let paths = paths.chain(segments.iter().map(|number| (segment_path(&wal_dir, *number), Some(*number) == newest)));
    for (path, newest) in paths {
        match check_log(&files, &path, newest) {
            Ok(checked) => verification.log.push(checked),
            Err(error) if !path.exists() => tracing::debug!(%error, "a file of the log has gone meanwhile"),
            Err(error) => return Err(error),
        }
    }
    Ok(verification)
}

fn block_folders(files: &Files, dir: &Path) -> Result<Vec<(Ulid, PathBuf)>, FileError> {
    let paths = files.list(&dir.join("blocks"))?.into_iter();
    let mut found: Vec<_> = paths.filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path))).collect();
    found.sort_by_key(|(ulid, _): &(Ulid, PathBuf)| *ulid);
    Ok(found)
}

/// All of a block, series by series.
fn whole(block: &Arc<Block>) -> Result<Selection, ReadError> {
    let (selection, labels) = block.select(&[], Timestamp::MIN, Timestamp::MAX)?;
    Ok(Selection::join(vec![(Source::Block(selection), labels)], Vec::new()))
}

/// Calls `each` with whether a series can be read, for all series in order. Gives the number of samples.
fn read_each(selection: &Selection, mut each: impl FnMut(Result<(), ReadError>)) -> u64 {
    let mut samples = 0;
    for at in 0..selection.labels().len() {
        let read = selection.read_raw(at..at + 1, Timestamp::MIN, Timestamp::MAX);
        each(read.map(|series| {
            samples += series.iter().map(|s| (s.floats.len() + s.histograms.len()) as u64).sum::<u64>();
        }));
    }
    samples
}

fn check_block(files: &Files, path: &Path) -> (Option<BlockMeta>, Faults) {
    let mut faults = Faults::default();
    let meta = BlockMeta::read(files, path).ok();
    let block = match Block::open(files, path) {
        Ok(block) => Arc::new(block),
        Err(error) => {
            faults.note(&error);
            return (meta, faults);
        }
    };
    if let Err(error) = block.check_index() {
        faults.note(&error);
    }
    let selection = match whole(&block) {
        Ok(selection) => selection,
        Err(error) => {
            // it may be the one that is known
            if faults.count == 0 {
                faults.note(&error);
            }
            return (meta, faults);
        }
    };
    let samples = read_each(&selection, |read| {
        read.inspect_err(|error| faults.note(error)).ok();
    });
    let stats = block.meta.stats;
    let series = selection.labels().len() as u64;
    if stats.num_series != series {
        faults.note(&format!("{series} series where its meta.json says {}", stats.num_series));
    }
    // deleted samples are still counted in the meta
    if faults.count == 0 && !block.has_tombstones() && stats.num_samples != samples {
        faults.note(&format!("{samples} samples where its meta.json says {}", stats.num_samples));
    }
    (meta, faults)
}

fn check_log(files: &Files, path: &Path, newest: bool) -> Result<CheckedLog, FileError> {
    let mut checked = CheckedLog { path: path.to_owned(), records: 0, faults: Faults::default() };
    let mut frames = Frames::open(files, path, *SEGMENT_MAGIC)?;
    if !frames.header && !newest {
        checked.faults.note(&"the header is damaged");
    }
    while let Some(frame) = frames.next()? {
        match frame {
            Frame::Record(payload) => match record::decode(&payload, &mut |_| ()) {
                Ok(()) => checked.records += 1,
                Err(damaged) => checked.faults.note(&format!("a record does not decode: {}", damaged.0)),
            },
            Frame::Damaged { offset, bytes } => checked.faults.note(&format!("{bytes} bytes from {offset} on")),
            Frame::Torn { .. } if newest => {}
            Frame::Torn { offset, bytes } => checked.faults.note(&format!("the end: {bytes} bytes from {offset} on")),
        }
    }
    Ok(checked)
}

/// What became of a damaged block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairedBlock {
    /// Its name.
    pub ulid: Ulid,
    /// The block that has what could be read of it; `None` if nothing could.
    pub replacement: Option<Ulid>,
    /// Series that are in the replacement, and series that could not be read; both 0 if the index could not be.
    pub series: (u64, u64),
    /// Where its folder is now.
    pub moved_to: PathBuf,
}

/// Puts a block with what can be read in the place of each damaged one, and those into a folder of their own. Blocks of a newer
/// format are not touched. The log needs no repair: whoever opens the database leaves out what is damaged of it.
///
/// # Errors
/// When another process has the database open, or a file cannot be written; what has been done stays done.
pub fn repair(dir: impl AsRef<Path>) -> Result<Vec<RepairedBlock>, RepairError> {
    let options = Options::default();
    let (files, dir) = (&options.files, dir.as_ref().join(FOLDER));
    let folders = block_folders(files, &dir).map_err(OpenError::from)?;
    let _lock = DirLock::acquire(&dir)?;
    let mut repaired = Vec::new();
    for (ulid, path) in folders {
        let newer = matches!(BlockMeta::read(files, &path), Err(ReadError::File(e)) if e.is_newer_format());
        if newer || check_block(files, &path).1.count == 0 {
            continue;
        }
        let salvaged = salvage(files, &path, Ulid::new(options.clock.now()))?;
        let aside = dir.join(DAMAGED);
        files.create_dir(&aside).map_err(OpenError::from)?;
        let moved_to = aside.join(ulid.to_string());
        let moved = files.rename(&path, &moved_to).map_err(FileError::at("rename", &path));
        moved.and_then(|()| files.sync_dir(&dir.join("blocks"))).map_err(OpenError::from)?;
        let (replacement, series) = salvaged.map_or((None, (0, 0)), |(meta, lost)| match meta {
            Some(meta) => (Some(meta.ulid), (meta.stats.num_series, lost)),
            None => (None, (0, lost)),
        });
        repaired.push(RepairedBlock { ulid, replacement, series, moved_to });
    }
    Ok(repaired)
}

/// Why a repair ends early.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The database cannot be taken hold of, or a folder not be moved.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A block cannot be written.
    #[error(transparent)]
    Write(#[from] MaintainError),
}

/// Writes what can be read of a block as another one. Gives its meta, if there is anything in it, and how many series are lost; `None` if
/// the index cannot be read.
fn salvage(files: &Files, path: &Path, ulid: Ulid) -> Result<Option<(Option<BlockMeta>, u64)>, MaintainError> {
    let Ok(block) = Block::open(files, path).map(Arc::new) else { return Ok(None) };
    let Ok(selection) = whole(&block) else { return Ok(None) };
    let mut good = Vec::with_capacity(selection.labels().len());
    read_each(&selection, |read| good.push(read.is_ok()));
    let lost = good.iter().filter(|good| !**good).count() as u64;
    let (mut kept, mut labels) = block.select(&[], Timestamp::MIN, Timestamp::MAX)?;
    kept.retain(&good);
    let mut each = good.iter();
    labels.retain(|_| each.next().is_some_and(|good| *good));
    let selection = Selection::join(vec![(Source::Block(kept), labels)], Vec::new());
    // the damaged one does not count any more once this one is there
    let compaction = Compaction { parents: vec![block.meta.parent()], ..block.meta.compaction.clone() };
    let (min_time, max_time) = (block.meta.min_time, block.meta.max_time);
    let dir = path.parent().unwrap_or(path);
    let written =
        BlockWriter { files, dir, min_time, max_time, compaction, ulid, effort: Effort::Most }.write(&selection)?;
    Ok(Some((written, lost)))
}
