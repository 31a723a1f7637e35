use std::io;
use std::path::Path;

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::block::Ulid;
use crate::error::{Damaged, FileError, ReadError};
use crate::files::Files;
use crate::version::NewerFormat;

/// The version this program writes.
pub(crate) const VERSION: u32 = 4;
/// The oldest one that it reads.
pub(crate) const OLDEST: u32 = 1;
pub(crate) const FILE: &str = "meta.json";

/// The magic of a file of a block, of which the last character is the version.
pub(crate) fn magic(name: &[u8; 7], version: u32) -> [u8; 8] {
    let mut magic = [b'0' + version as u8; 8];
    magic[..7].copy_from_slice(name);
    magic
}

/// What a block is, as its `meta.json` says; the fields are named as in Prometheus' blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// The block's name.
    pub ulid: Ulid,
    /// First timestamp of its range.
    pub min_time: Timestamp,
    /// End of its range, not included.
    pub max_time: Timestamp,
    /// Contents.
    pub stats: BlockStats,
    /// Where it comes from.
    pub compaction: Compaction,
    /// Format of the folder's files.
    pub version: u32,
}

/// Contents of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// All samples.
    pub num_samples: u64,
    /// Float samples.
    pub num_float_samples: u64,
    /// Native histogram samples.
    pub num_histogram_samples: u64,
    /// Series.
    pub num_series: u64,
    /// Value columns.
    pub num_chunks: u64,
    /// Series with deleted ranges.
    pub num_tombstones: u64,
}

/// Where a block comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compaction {
    /// 1 for a block cut from the head, one more than the highest of those it was made of otherwise.
    pub level: u32,
    /// The blocks of level 1 it holds.
    pub sources: Vec<Ulid>,
    /// The blocks it was made of and replaces.
    pub parents: Vec<Parent>,
    /// What else is known: `imported` if it has samples that have never been in the head.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// The hint of blocks that say nothing about what the head has: they were loaded, or made of such.
pub(crate) const IMPORTED: &str = "imported";

impl Compaction {
    pub(crate) fn is_imported(&self) -> bool {
        self.hints.iter().any(|hint| hint == IMPORTED)
    }
}

/// The version, if it is a newer one; then no other field need be as we know it.
fn newer(bytes: &[u8]) -> Option<NewerFormat> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version: major } = serde_json::from_slice(bytes).ok()?;
    (major > VERSION).then_some(NewerFormat { major, known: VERSION })
}

/// A block that another one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// Its name.
    pub ulid: Ulid,
    /// First timestamp of its range.
    pub min_time: Timestamp,
    /// End of its range, not included.
    pub max_time: Timestamp,
}

impl BlockMeta {
    pub(crate) fn read(files: &Files, dir: &Path) -> Result<Self, ReadError> {
        let path = dir.join(FILE);
        let bytes = files.read(&path).map_err(FileError::at("read", &path))?;
        // the other files are not looked at before this says what they are
        if let Some(newer) = newer(&bytes) {
            return Err(newer.in_file(&path).into());
        }
        Self::parse(&bytes).map_err(|e| e.in_file(&path))
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Damaged> {
        let meta: Self = serde_json::from_slice(bytes).map_err(|_| Damaged("block meta"))?;
        if !(OLDEST..=VERSION).contains(&meta.version) || meta.min_time >= meta.max_time {
            return Err(Damaged("block meta"));
        }
        Ok(meta)
    }

    pub(crate) fn to_json(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(crate) fn parent(&self) -> Parent {
        Parent { ulid: self.ulid, min_time: self.min_time, max_time: self.max_time }
    }

    /// Whether the range has a time in `min..=max`.
    pub(crate) fn overlaps(&self, min: Timestamp, max: Timestamp) -> bool {
        self.min_time <= max && self.max_time > min
    }
}
