use std::sync::Arc;

use hashbrown::HashMap;
use model::Timestamp;

use crate::HistogramSample;
use crate::encoding::varint::Reader;
use crate::encoding::{histogram, timestamps, varint};
use crate::error::{Damaged, ReadError};
use crate::head::chunk::{put_starts, take_starts};
use crate::head::spill::{ImageFiles, SpillArea, Stored};

/// Histograms of one series that are kept as they came before they are sealed.
const OPEN: usize = 32;

/// One histogram sample.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) time: Timestamp,
    /// Start timestamp, 0 if unknown.
    pub(crate) start: Timestamp,
    pub(crate) sample: HistogramSample,
    /// It came out of order.
    pub(crate) late: bool,
}

/// The histogram samples of the head, series by series.
#[derive(Default)]
pub(crate) struct Histograms {
    series: HashMap<u32, HistogramSeries>,
}

/// The histogram samples of one series; cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct HistogramSeries {
    open: Arc<Vec<Entry>>,
    sealed: Vec<Arc<HistogramChunk>>,
}

pub(crate) struct HistogramChunk {
    min_time: Timestamp,
    max_time: Timestamp,
    count: u32,
    len: u32,
    stored: Stored,
}

impl Histograms {
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(crate) fn get(&self, series: u32) -> Option<&HistogramSeries> {
        self.series.get(&series)
    }

    pub(crate) fn push(&mut self, series: u32, entry: Entry, area: &SpillArea) {
        let column = self.series.entry(series).or_default();
        let open = Arc::make_mut(&mut column.open);
        open.push(entry);
        if open.len() > OPEN {
            // the newest stays, duplicates are compared with it
            let newest = open.split_off(OPEN);
            column.sealed.push(Arc::new(HistogramChunk::seal(open, area)));
            *open = newest;
        }
    }

    /// Each series with its samples, by number.
    pub(crate) fn sorted(&self) -> Vec<(u32, &HistogramSeries)> {
        let mut all: Vec<(u32, &HistogramSeries)> = self.series.iter().map(|(id, s)| (*id, s)).collect();
        all.sort_unstable_by_key(|s| s.0);
        all
    }

    /// Puts a series' samples in the place of what there is.
    pub(crate) fn restore(&mut self, series: u32, samples: HistogramSeries) {
        self.series.insert(series, samples);
    }

    /// Drops what is older than `min_time`.
    pub(crate) fn truncate(&mut self, min_time: Timestamp) {
        self.series.retain(|_, s| {
            s.sealed.retain(|c| c.max_time >= min_time);
            !s.sealed.is_empty() || s.open.iter().any(|e| e.time >= min_time)
        });
        self.series.shrink_to_fit();
    }

    pub(crate) fn chunk_count(&self) -> usize {
        self.series.values().map(|s| s.sealed.len() + 1).sum()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.series.allocation_size()
            + self.series.values().map(|s| s.open.capacity() * 400 + s.sealed.len() * 64).sum::<usize>()
    }
}

impl HistogramSeries {
    /// Appends the samples, for an image of the head:
    ///
    /// ```text
    /// number of sealed chunks, for each: first and last time (zigzag), samples, bytes, where they lie; number of open samples, and
    /// those as a sealed chunk has them (bytes)
    /// ```
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        varint::put(out, self.sealed.len() as u64);
        for chunk in &self.sealed {
            varint::put_signed(out, chunk.min_time);
            varint::put_signed(out, chunk.max_time);
            varint::put(out, u64::from(chunk.count));
            varint::put(out, u64::from(chunk.len));
            chunk.stored.put(out);
        }
        varint::put(out, self.open.len() as u64);
        let mut bytes = Vec::new();
        put_entries(&self.open, &mut bytes);
        varint::put_bytes(out, &bytes);
    }

    /// Reads what [`HistogramSeries::put`] wrote, without what blocks have and no file has any more.
    pub(crate) fn take(reader: &mut Reader<'_>, files: &mut ImageFiles<'_>) -> Result<Self, Damaged> {
        let mut sealed = Vec::new();
        for _ in 0..reader.count(reader.rest.len())? {
            let (min_time, max_time) = (reader.signed()?, reader.signed()?);
            let (count, len) = (reader.u32()?, reader.u32()?);
            match Stored::take(reader, files)? {
                Some(stored) => sealed.push(Arc::new(HistogramChunk { min_time, max_time, count, len, stored })),
                None if files.in_blocks(min_time, max_time) => {}
                None => return Err(Damaged("a file of head chunks")),
            }
        }
        let count = reader.count(OPEN + 1)?;
        let open = take_entries(reader.bytes()?, count)?;
        if open.is_empty() {
            return Err(reader.damaged());
        }
        Ok(Self { open: Arc::new(open), sealed })
    }

    /// The newest sample; there is always one.
    pub(crate) fn last(&self) -> Option<&Entry> {
        self.open.last()
    }

    pub(crate) fn min_time(&self) -> Timestamp {
        self.sealed.first().map(|c| c.min_time).or_else(|| self.open.first().map(|e| e.time)).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn max_time(&self) -> Timestamp {
        self.last().map_or(Timestamp::MIN, |e| e.time)
    }

    /// Appends the samples in `min_time..=max_time` to `out`.
    pub(crate) fn read(&self, min_time: Timestamp, max_time: Timestamp, out: &mut Vec<Entry>) -> Result<(), ReadError> {
        let wanted = |e: &Entry| (min_time..=max_time).contains(&e.time);
        for chunk in &self.sealed {
            if chunk.max_time >= min_time && chunk.min_time <= max_time {
                out.extend(chunk.read()?.into_iter().filter(wanted));
            }
        }
        out.extend(self.open.iter().filter(|e| wanted(e)).cloned());
        Ok(())
    }
}

impl HistogramChunk {
    fn seal(entries: &[Entry], area: &SpillArea) -> Self {
        let mut bytes = Vec::new();
        put_entries(entries, &mut bytes);
        Self {
            min_time: entries[0].time,
            max_time: entries[entries.len() - 1].time,
            count: entries.len() as u32,
            len: bytes.len() as u32,
            stored: area.store(&bytes),
        }
    }

    fn read(&self) -> Result<Vec<Entry>, ReadError> {
        let bytes = self.stored.read(0, self.len as usize)?;
        take_entries(&bytes, self.count as usize).map_err(|e| e.in_file(self.stored.path()))
    }
}

fn put_entries(entries: &[Entry], out: &mut Vec<u8>) {
    let times: Vec<Timestamp> = entries.iter().map(|e| e.time).collect();
    let mut bytes = Vec::new();
    timestamps::encode(&times, &mut bytes);
    varint::put_bytes(out, &bytes);
    let starts: Vec<Timestamp> = entries.iter().map(|e| e.start).collect();
    put_starts(if starts.iter().all(|s| *s == 0) { &[] } else { &starts }, out);
    histogram::encode(entries.iter().map(|e| &e.sample), out);
}

fn take_entries(bytes: &[u8], count: usize) -> Result<Vec<Entry>, Damaged> {
    let mut reader = varint::Reader::new(bytes, "histogram chunk");
    let times = timestamps::decode(reader.bytes()?, count)?;
    let (starts, rest) = take_starts(reader.rest, count)?;
    let samples = histogram::decode(rest, count)?;
    let starts = starts.unwrap_or_else(|| vec![0; count]);
    Ok(times
        .into_iter()
        .zip(starts)
        .zip(samples)
        .map(|((time, start), sample)| Entry { time, start, sample, late: false })
        .collect())
}
