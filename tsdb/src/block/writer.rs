use std::borrow::Borrow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use model::{Column, KeptLabels, Timestamp};

use crate::HistogramSample;
use crate::block::Ulid;
use crate::block::index_writer::{ColumnEntry, IndexWriter, TimesEntry};
use crate::block::meta::{self, BlockMeta, BlockStats, Compaction, magic};
use crate::block::pages::PageWriter;
use crate::block::reader::{DATA, DATA_NAME, INDEX};
use crate::encoding::{floats, histogram, timestamps};
use crate::error::{FileError, MaintainError};
use crate::files::Files;
use crate::head::put_starts;
use crate::sample::RawSamples;
use crate::select::Selection;
use crate::texts::Texts;

/// What the folder of a block is called while it is written; found later, it is removed.
pub(crate) const TEMPORARY: &str = ".tmp";
/// A column has no more rows than this, so that reading a short range of a long block decodes little.
const ROWS: usize = 8192;
/// Series that are read and encoded at a time.
const BATCH: usize = 512;

/// How much work goes into the columns of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For a block that is soon merged with others: a quarter of the time, for a quarter more bytes.
    Little,
    /// For one that may stay.
    Most,
}

/// Writes a selection as a block.
pub(crate) struct BlockWriter<'a> {
    pub(crate) files: &'a Files,
    /// The folder of all blocks.
    pub(crate) dir: &'a Path,
    pub(crate) min_time: Timestamp,
    /// End of the range, not included.
    pub(crate) max_time: Timestamp,
    pub(crate) compaction: Compaction,
    /// Its name.
    pub(crate) ulid: Ulid,
    pub(crate) effort: Effort,
}

/// Timestamp columns, each once.
#[derive(Default)]
struct TimesTable {
    /// By encoded bytes.
    known: HashMap<Box<[u8]>, u32>,
    entries: Vec<TimesEntry>,
    bytes: Vec<Box<[u8]>>,
    /// Columns that several series share, by address; the `Arc` keeps the address theirs.
    recent: HashMap<usize, (Arc<[Timestamp]>, Vec<u32>)>,
}

impl TimesTable {
    /// Numbers of the column's parts of [`ROWS`] rows.
    fn parts(&mut self, times: &Arc<[Timestamp]>) -> Vec<u32> {
        let address = times.as_ptr().addr();
        if let Some((_, parts)) = self.recent.get(&address) {
            return parts.clone();
        }
        let parts: Vec<u32> = times.chunks(ROWS).map(|part| self.part(part)).collect();
        // what nobody else has will not come again
        if Arc::strong_count(times) > 1 {
            self.recent.insert(address, (Arc::clone(times), parts.clone()));
        }
        parts
    }

    fn part(&mut self, times: &[Timestamp]) -> u32 {
        let mut key = Vec::new();
        timestamps::encode_best(times, &mut key);
        // a regular column's bytes do not tell its length
        let len = key.len();
        key.extend_from_slice(&(times.len() as u32).to_le_bytes());
        if let Some(number) = self.known.get(&key[..]) {
            return *number;
        }
        let number = self.entries.len() as u32;
        self.entries.push(TimesEntry {
            rows: times.len() as u32,
            min: times[0],
            max: times[times.len() - 1],
            len: len as u32,
        });
        self.bytes.push(key[..len].into());
        self.known.insert(key.into(), number);
        number
    }
}

/// What has been written of a block.
struct BlockFiles {
    data: PageWriter,
    index: IndexWriter,
    times: TimesTable,
    stats: BlockStats,
}

/// One series, encoded but for its timestamps.
struct Encoded {
    floats: Vec<Vec<u8>>,
    histograms: Vec<Vec<u8>>,
}

impl BlockWriter<'_> {
    /// Writes the samples of the block's range and returns the finished folder's meta; `None` if there are none.
    pub(crate) fn write(self, selection: &Selection) -> Result<Option<BlockMeta>, MaintainError> {
        let mut known: HashSet<Box<str>> = HashSet::new();
        for labels in batches(selection).flat_map(|range| selection.labels_of(range, KeptLabels::All)) {
            for text in labels.iter().flat_map(<[&str; 2]>::from) {
                if !known.contains(text) {
                    known.insert(text.into());
                }
            }
        }
        let mut texts: Vec<Box<str>> = known.into_iter().collect();
        texts.sort_unstable();
        let symbols = texts.iter().map(|text| &**text).collect();
        drop(texts);
        self.write_parts(symbols, std::iter::once(selection))
    }

    /// As [`BlockWriter::write`], of selections that follow each other in label order. `symbols` are the names and values of all their
    /// labels, each once and in order.
    pub(crate) fn write_parts(
        self,
        symbols: Texts,
        parts: impl Iterator<Item: Borrow<Selection>>,
    ) -> Result<Option<BlockMeta>, MaintainError> {
        let ulid = self.ulid;
        let temporary = self.dir.join(format!("{ulid}{TEMPORARY}"));
        self.files.create_dir(&temporary)?;
        let result = self.write_files(symbols, parts, &temporary);
        if !matches!(result, Ok(Some(_))) {
            // best effort: what stays is removed at the next start
            let _ = self.files.remove_tree(&temporary);
        }
        result
    }

    fn write_files(
        &self,
        symbols: Texts,
        parts: impl Iterator<Item: Borrow<Selection>>,
        temporary: &Path,
    ) -> Result<Option<BlockMeta>, MaintainError> {
        let mut data = PageWriter::create(self.files, &temporary.join(DATA))?;
        data.write(&magic(DATA_NAME, meta::VERSION))?;
        let mut files = BlockFiles {
            data,
            index: IndexWriter::create(self.files, &temporary.join(INDEX), symbols)?,
            times: TimesTable::default(),
            stats: BlockStats::default(),
        };
        for part in parts {
            self.write_part(part.borrow(), &mut files)?;
        }
        let BlockFiles { mut data, index, times, mut stats } = files;
        stats.num_samples = stats.num_float_samples + stats.num_histogram_samples;
        if stats.num_samples == 0 {
            return Ok(None);
        }
        let times_offset = data.offset();
        for bytes in &times.bytes {
            data.write(bytes)?;
        }
        data.finish()?;
        index.finish(&times.entries, times_offset)?;
        let (ulid, mut compaction) = (self.ulid, self.compaction.clone());
        if compaction.sources.is_empty() {
            compaction.sources.push(ulid);
        }
        let (min_time, max_time) = (self.min_time, self.max_time);
        let meta = BlockMeta { ulid, min_time, max_time, stats, compaction, version: meta::VERSION };
        let path = temporary.join(meta::FILE);
        self.files.write_durable(&path, &meta.to_json().map_err(FileError::at("write", &path))?)?;
        self.files.sync_dir(temporary)?;
        let finished: PathBuf = self.dir.join(ulid.to_string());
        self.files.rename(temporary, &finished).map_err(FileError::at("rename", temporary))?;
        self.files.sync_dir(self.dir)?;
        Ok(Some(meta))
    }

    fn write_part(&self, selection: &Selection, files: &mut BlockFiles) -> Result<(), MaintainError> {
        let BlockFiles { data, index, times, stats } = files;
        for range in batches(selection) {
            let labels = selection.labels_of(range.clone(), KeptLabels::All);
            let samples = selection.read_raw(range, self.min_time, self.max_time - 1)?;
            let encoded = encode_all(&samples, self.effort);
            for ((labels, samples), encoded) in labels.iter().zip(&samples).zip(encoded) {
                let start = data.offset();
                let mut columns = Vec::new();
                let kinds = [
                    (false, &samples.floats.timestamps, encoded.floats),
                    (true, &samples.histograms.timestamps, encoded.histograms),
                ];
                for (histogram, timestamps, parts) in kinds {
                    if parts.is_empty() {
                        continue;
                    }
                    for (bytes, times) in parts.into_iter().zip(times.parts(timestamps)) {
                        data.write(&bytes)?;
                        columns.push(ColumnEntry { histogram, times, len: bytes.len() as u32 });
                    }
                }
                if columns.is_empty() {
                    continue;
                }
                index.add(labels, &columns, start)?;
                stats.num_series += 1;
                stats.num_chunks += columns.len() as u64;
                stats.num_float_samples += samples.floats.len() as u64;
                stats.num_histogram_samples += samples.histograms.len() as u64;
            }
        }
        times.recent.clear();
        Ok(())
    }
}

/// Series that are read and encoded together.
fn batches(selection: &Selection) -> impl Iterator<Item = Range<usize>> {
    let count = selection.len();
    (0..count).step_by(BATCH).map(move |from| from..(from + BATCH).min(count))
}

/// Encodes on all cores; the order is that of the samples.
fn encode_all(samples: &[RawSamples], effort: Effort) -> Vec<Encoded> {
    let encode = move |samples: &RawSamples| encode(samples, effort);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = samples.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let mut parts = samples.chunks(share);
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(encode).collect::<Vec<_>>())).collect();
        let mut encoded: Vec<Encoded> = first.iter().map(encode).collect();
        for other in others {
            match other.join() {
                Ok(part) => encoded.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        encoded
    })
}

fn encode(samples: &RawSamples, effort: Effort) -> Encoded {
    let floats = parts(&samples.floats, |values: &[f64], out| match effort {
        Effort::Little => floats::encode(values, out),
        Effort::Most => floats::encode_best(values, out),
    });
    let histograms =
        parts(&samples.histograms, |values: &[HistogramSample], out| histogram::encode(values.iter(), out));
    Encoded { floats, histograms }
}

fn parts<V>(column: &Column<V>, encode: impl Fn(&[V], &mut Vec<u8>)) -> Vec<Vec<u8>> {
    let part = |(at, values): (usize, &[V])| {
        let mut out = Vec::new();
        let starts = column.start_timestamps.as_deref().map(|s| &s[at * ROWS..at * ROWS + values.len()]);
        put_starts(starts.filter(|s| s.iter().any(|t| *t != 0)).unwrap_or_default(), &mut out);
        encode(values, &mut out);
        out
    };
    column.values.chunks(ROWS).enumerate().map(part).collect()
}
