use std::path::{Path, PathBuf};
use std::{fmt, io};

use model::Timestamp;

use crate::SeriesRef;
use crate::version::NewerFormat;

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct FileError {
    /// What was being done, such as `write`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: names the action and the path.
    pub(crate) fn at(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.as_ref().to_owned(), source }
    }

    /// Whether the file has been written by a newer version of this program, which can go on with it.
    pub(crate) fn is_newer_format(&self) -> bool {
        self.source.get_ref().and_then(|source| source.downcast_ref::<NewerFormat>()).is_some()
    }
}

/// The database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another `Db` of this one) has the folder open.
    #[error("{} is in use by another process; stop it or choose another storage path", .0.display())]
    Locked(PathBuf),
    /// The options contradict each other.
    #[error("storage options: {0}")]
    Options(String),
    /// It was told to stop before the log was read.
    #[error("stopped while the write-ahead log was being read")]
    Stopped,
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a sample was not taken. The rules are Prometheus'.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// The series has a later sample, and no out-of-order window is configured.
    #[error("out of order sample")]
    OutOfOrder,
    /// The sample is older than the out-of-order window.
    #[error("too old sample")]
    TooOld,
    /// The sample is older than what the head takes.
    #[error("out of bounds")]
    OutOfBounds,
    /// The series has another value at this timestamp.
    #[error("duplicate sample for timestamp {timestamp}; overrides not allowed: {conflict}")]
    Duplicate {
        /// The timestamp both have.
        timestamp: Timestamp,
        /// What is stored and what was offered.
        conflict: Conflict,
    },
    /// The reference is of a series that has been removed: call [`crate::Appender::series`] again.
    #[error("unknown series reference {}", .0.0)]
    UnknownSeries(SeriesRef),
    /// A series without labels.
    #[error("empty labelset: invalid sample")]
    EmptyLabels,
    /// The histogram contradicts itself.
    #[error("invalid histogram: {0}")]
    InvalidHistogram(&'static str),
    /// An exemplar is older than the newest one of its series, or has the same time and another value.
    #[error("out of order exemplar")]
    ExemplarOutOfOrder,
    /// An exemplar's labels have more than 128 characters.
    #[error("label length for exemplar exceeds maximum of 128 UTF-8 characters")]
    ExemplarTooLong,
    /// More series were created than there are references for; a restart numbers them anew.
    #[error("out of series references; restart to number the series anew")]
    TooManySeries,
}

/// Two values for one timestamp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conflict {
    /// Two floats.
    Floats {
        /// The stored value.
        existing: f64,
        /// The offered value.
        new: f64,
    },
    /// A histogram, where the stored sample is a float or another histogram, or the other way round.
    Histogram,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Floats { existing, new } => write!(f, "existing is a float with value {existing}, new value {new}"),
            Self::Histogram => f.write_str("existing and new sample are different and at least one is a histogram"),
        }
    }
}

/// A commit was not acknowledged: nothing of it is visible.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The log could not be written.
    #[error("write-ahead log: {0}")]
    Wal(#[from] FileError),
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
}

/// Something stored could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes are damaged.
    #[error("{}: {what} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part that does not check out.
        what: &'static str,
    },
}

/// Maintenance (cutting, compaction, retention, deletion, snapshots) failed; what was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// Reading what was to be rewritten failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
}

/// Bytes do not decode. Carried up to the place that knows the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged(pub(crate) &'static str);

impl Damaged {
    pub(crate) fn in_file(self, path: &Path) -> ReadError {
        ReadError::Damaged { path: path.to_owned(), what: self.0 }
    }
}
