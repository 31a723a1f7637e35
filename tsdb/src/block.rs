//! Immutable blocks: a folder with `meta.json`, `index`, `data` and perhaps `tombstones`. `docs/format.md` has the bytes.

mod index_reader;
mod index_writer;
mod label_search;
mod label_table;
mod labels;
mod meta;
pub(crate) mod pages;
mod posting_lists;
mod reader;
mod symbols;
pub(crate) mod tombstone_file;
mod ulid;
mod writer;

pub use meta::{BlockMeta, BlockStats, Compaction, Parent};
pub use ulid::{Ulid, UlidError};

pub(crate) use labels::BlockLabels;
pub(crate) use meta::IMPORTED;
pub(crate) use reader::{Block, BlockBuffers, BlockColumn, BlockSelection, NewestFloat};
pub(crate) use writer::{BlockWriter, Effort, TEMPORARY};
