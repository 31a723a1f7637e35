use std::io;
use std::path::Path;

use crate::encoding::varint::Reader;
use crate::error::{Damaged, FileError, ReadError};
use crate::files::Files;
use crate::tombstones::Tombstones;

pub(crate) const FILE: &str = "tombstones";
const MAGIC: &[u8; 8] = b"FWTOMBS1";

/// Reads a block's deleted ranges; a block without the file has none.
pub(crate) fn read(files: &Files, dir: &Path) -> Result<Tombstones, ReadError> {
    let path = dir.join(FILE);
    let bytes = match files.read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Tombstones::default()),
        Err(e) => return Err(FileError::at("read", &path)(e).into()),
    };
    parse(&bytes).map_err(|e| e.in_file(&path))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Tombstones, Damaged> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Damaged("tombstones"))?;
    let mut reader = Reader::new(body, "tombstones");
    if u32::from_le_bytes(*sum) != crc32fast::hash(body) || reader.array()? != *MAGIC {
        return Err(reader.damaged());
    }
    Tombstones::decode(&mut reader)
}

/// Replaces a block's deleted ranges.
pub(crate) fn write(files: &Files, dir: &Path, tombstones: &Tombstones) -> Result<(), FileError> {
    let path = dir.join(FILE);
    let temporary = dir.join("tombstones.tmp");
    files.replace(&path, &temporary, &format(tombstones))
}

pub(crate) fn format(tombstones: &Tombstones) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    tombstones.encode(&mut bytes);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}
