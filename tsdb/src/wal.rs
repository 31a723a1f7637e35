//! The write-ahead log: one record for each commit, in numbered segments, with checkpoints that stand for removed ones.

mod checkpoint;
mod packing;
mod reader;
pub(crate) mod record;
mod writer;

pub(crate) use checkpoint::CheckpointWriter;
pub(crate) use packing::{Packer, Passing};
pub(crate) use reader::{Frame, Frames, Known, ReplayStats, TornEnd, list, records, replay};
pub(crate) use record::{RecordBuilder, Section};
pub(crate) use writer::{Segment, WalOptions, WalWriter};

use std::path::{Path, PathBuf};

pub(crate) const SEGMENT_MAGIC: &[u8; 8] = b"FWWAL\x00\x00\x02";
/// Of a segment of this version.
pub(crate) const SEGMENT_HEADER: usize = crate::version::HEADER_WITH_CHECKSUM;
/// Begins every record, so that reading can go on behind a damaged part.
pub(crate) const RECORD_MAGIC: [u8; 4] = [0xf1, 0x5e, 0xc0, 0x7d];
/// Magic, length, checksum.
pub(crate) const RECORD_HEADER: usize = 12;
/// No record is longer; what says so is damaged.
pub(crate) const MAX_RECORD: usize = 256 << 20;

pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}"))
}

/// The checkpoint that stands for all segments up to `number`.
pub(crate) fn checkpoint_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("checkpoint.{number:08}"))
}

pub(crate) fn record_checksum(len: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The header of a record.
pub(crate) fn record_header(payload: &[u8]) -> [u8; RECORD_HEADER] {
    let len = payload.len() as u32;
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&RECORD_MAGIC);
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[8..].copy_from_slice(&record_checksum(len, payload).to_le_bytes());
    header
}
