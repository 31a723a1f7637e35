//! The decoders of the file formats on their own, for tests that feed them arbitrary bytes. Each `rewrite` function decodes
//! bytes and encodes what they say; it gives `None` for what a reader calls damaged. What it gives is rewritten to itself.

use std::path::Path;

use crate::block::pages::{PageReader, PageWriter};
use crate::block::{BlockMeta, tombstone_file};
use crate::encoding::{floats, histogram, timestamps};
use crate::error::{FileError, ReadError};
use crate::files::Files;
use crate::wal::{self, RecordBuilder, SEGMENT_MAGIC, Section, record, record_header};

/// The payload of a record of the log.
pub fn rewrite_log_record(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = RecordBuilder::default();
    let mut each = |section: Section| match section {
        Section::Series(all) => out.series(all.iter().map(|(id, labels)| (*id, labels))),
        Section::Row { time, series, values, starts, late } => {
            if late {
                out.late_row(time, &series, &values);
            } else {
                out.row(time, &series, &values, starts.as_deref());
            }
        }
        Section::Samples { series, times, values, starts } => out.samples(&times, &series, &values, starts.as_deref()),
        Section::Histograms { samples, late } => out.histograms(&samples, late),
        Section::Metadata(all) => out.metadata(all.iter().map(|(id, metadata)| (*id, metadata))),
        Section::Exemplars(all) => out.exemplars(&all),
        Section::Tombstones(tombstones) => out.tombstones(&tombstones),
        Section::Flushed(time) => out.flushed(time),
        Section::End => out.end(),
    };
    record::decode(payload, &mut each).ok()?;
    Some(out.bytes)
}

/// A timestamp column.
pub fn rewrite_timestamps(bytes: &[u8], rows: usize) -> Option<Vec<u8>> {
    let times = timestamps::decode(bytes, rows).ok()?;
    let mut out = Vec::new();
    timestamps::encode_best(&times, &mut out);
    Some(out)
}

/// A float column.
pub fn rewrite_floats(bytes: &[u8], rows: usize) -> Option<Vec<u8>> {
    let mut values = Vec::new();
    floats::decode(bytes, rows, &mut values).ok()?;
    let mut out = Vec::new();
    floats::encode_best(&values, &mut out);
    Some(out)
}

/// A histogram column.
pub fn rewrite_histograms(bytes: &[u8], rows: usize) -> Option<Vec<u8>> {
    let samples = histogram::decode(bytes, rows).ok()?;
    let mut out = Vec::new();
    histogram::encode(samples.iter(), &mut out);
    Some(out)
}

/// A block's `tombstones`.
pub fn rewrite_tombstones(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(tombstone_file::format(&tombstone_file::parse(bytes).ok()?))
}

/// A block's `meta.json`.
pub fn rewrite_meta(bytes: &[u8]) -> Option<Vec<u8>> {
    BlockMeta::parse(bytes).ok()?.to_json().ok()
}

/// A log segment with these bytes as its first record, with the right checksum, and other bytes behind it as they are.
pub fn log_segment(number: u64, payload: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = crate::version::header(*SEGMENT_MAGIC, number);
    bytes.extend_from_slice(&record_header(payload));
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(rest);
    bytes
}

/// The payloads of the records of a log segment, as they were before they were compressed, but for damaged ones.
///
/// # Errors
/// When it cannot be read.
pub fn log_records(path: &Path) -> Result<Vec<Vec<u8>>, FileError> {
    wal::records(path, *SEGMENT_MAGIC)
}

/// An image of the head with these records, with the right checksums.
pub fn image(number: u64, records: &[Vec<u8>]) -> Vec<u8> {
    crate::image::from_records(number, records)
}

/// The payloads of the records of an image of the head, but for damaged ones.
///
/// # Errors
/// When it cannot be read.
pub fn image_records(path: &Path) -> Result<Vec<Vec<u8>>, FileError> {
    wal::records(path, crate::image::MAGIC)
}

/// Writes a file in checksummed pages, as a block's `index` and `data` are.
///
/// # Errors
/// When it cannot be written.
pub fn write_pages(path: &Path, payload: &[u8]) -> Result<(), FileError> {
    let mut writer = PageWriter::create(&Files::default(), path)?;
    writer.write(payload)?;
    writer.finish()
}

/// What [`write_pages`] has written.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read_pages(path: &Path) -> Result<Vec<u8>, ReadError> {
    let reader = PageReader::open(&Files::default(), path)?;
    reader.read(0, reader.len() as usize, "pages")
}
