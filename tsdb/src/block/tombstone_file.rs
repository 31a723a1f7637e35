use std::io::Write;
use std::path::Path;
use std::{fs, io};

use crate::encoding::varint::Reader;
use crate::error::{Damaged, FileError, ReadError};
use crate::tombstones::Tombstones;

pub(crate) const FILE: &str = "tombstones";
const MAGIC: &[u8; 8] = b"FWTOMBS1";

/// Reads a block's deleted ranges; a block without the file has none.
pub(crate) fn read(dir: &Path) -> Result<Tombstones, ReadError> {
    let path = dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Tombstones::default()),
        Err(e) => return Err(FileError::at("read", &path)(e).into()),
    };
    let parse = || {
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Damaged("tombstones"))?;
        let mut reader = Reader::new(body, "tombstones");
        if u32::from_le_bytes(*sum) != crc32fast::hash(body) || reader.array()? != *MAGIC {
            return Err(reader.damaged());
        }
        Tombstones::decode(&mut reader)
    };
    parse().map_err(|e| e.in_file(&path))
}

/// Replaces a block's deleted ranges.
pub(crate) fn write(dir: &Path, tombstones: &Tombstones) -> Result<(), FileError> {
    let path = dir.join(FILE);
    let temporary = dir.join("tombstones.tmp");
    let mut bytes = MAGIC.to_vec();
    tombstones.encode(&mut bytes);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    let mut file = fs::File::create(&temporary).map_err(FileError::at("create", &temporary))?;
    file.write_all(&bytes).map_err(FileError::at("write", &temporary))?;
    file.sync_all().map_err(FileError::at("sync", &temporary))?;
    fs::rename(&temporary, &path).map_err(FileError::at("rename", &temporary))?;
    crate::durable::sync_dir(dir)
}
