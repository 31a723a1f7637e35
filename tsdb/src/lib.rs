//! A store for samples: a head in memory backed by a write-ahead log, and immutable blocks on disk.
//!
//! Synchronous, and all that is shared is behind [`Db`]. It knows labels, samples and matchers; scraping, queries and
//! HTTP belong to others. Files lie in one folder, [`FOLDER`], of the folder a database is opened in.
//!
//! What an [`Appender`] commits has been written to the log with `write(2)` when [`Appender::commit`] returns, and is
//! visible to later [`Db::select`] calls as a whole. Selections are of one moment: they do not see later commits, and keep
//! what they need alive.

mod appender;
mod block;
mod blocks;
mod bulk;
mod checkpoint;
mod compact;
mod cut;
mod db;
mod encoding;
mod engine;
mod error;
mod exemplars;
mod files;
mod follow;
pub mod formats;
mod head;
mod image;
mod lock;
mod maintain;
mod metrics;
mod opening;
mod options;
mod piece;
mod postings;
mod read_only;
mod replay;
mod retention;
mod sample;
mod select;
mod sorting;
mod status;
mod symbol_labels;
mod text_row;
mod texts;
mod tombstones;
mod verify;
mod version;
mod wal;
mod watch;
mod worker;

pub use appender::{Appender, CommitReport, RowReport};
pub use block::{BlockMeta, BlockStats, Compaction, Parent, Ulid, UlidError};
pub use bulk::{BulkLoader, BulkReport, BulkSeries, ImportError};
pub use db::{Answer, Db, FOLDER};
pub use error::{AppendError, CommitError, Conflict, FileError, MaintainError, OpenError, ReadError};
pub use files::{FileFault, FileObserver, FileOperation, Files};
pub use follow::{LogEntry, LogFollower, LogPosition, LogPositionError, LogStart};
pub use metrics::Metrics;
pub use model::{Column, FloatsRef, Lent, Newest, NewestAt};
pub use opening::{BlocksView, Opening, ReplayProgress};
pub use options::{Clock, Options};
pub use read_only::ReadOnlyDb;
pub use sample::{Exemplar, HistogramSample, RawSamples, SeriesRef, SeriesSamples};
pub use select::Selection;
pub use status::{NamedCount, Status};
pub use text_row::TextPiece;
pub use texts::Texts;
pub use verify::{CheckedBlock, CheckedLog, Faults, RepairError, RepairedBlock, Verification, repair, verify};
pub use watch::{Progress, Stopped, Watch};
