use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{Timestamp, now_millis};

use crate::files::Files;

/// How a [`crate::Db`] keeps its samples. Times of samples are milliseconds, as everywhere in the data model.
#[derive(Clone, Debug)]
pub struct Options {
    /// Range of the blocks that are cut from the head, and the unit all block ranges are multiples of (2 h).
    pub min_block_duration: i64,
    /// Compaction makes no block longer than this (31 days; upstream takes a tenth of the retention if that is less).
    pub max_block_duration: i64,
    /// Blocks that end this long before the newest block are deleted; `None` keeps them.
    pub retention_duration: Option<i64>,
    /// The oldest blocks are deleted while blocks, log and head files take more bytes than this; `None` keeps them.
    pub retention_size: Option<u64>,
    /// The oldest blocks are deleted while blocks, log and head files take more than this share (0 to 100) of the file system; 0 keeps
    /// them.
    pub retention_percentage: f64,
    /// The log is fsynced this often; zero means before each commit returns (5 s).
    pub wal_fsync_interval: Duration,
    /// A log segment is closed when it has this many bytes (128 MiB).
    pub wal_segment_bytes: u64,
    /// When the log has grown by this many bytes since the last one (and by twice as much as that one has), an image of the head is written, and
    /// at the close: a start reads it and the log behind it only. `None` writes none (4 MiB).
    pub image_interval_bytes: Option<u64>,
    /// Segments that a [`crate::LogFollower`] has not read are kept while all closed segments from the oldest such one on have at most this
    /// many bytes (1 GiB).
    pub log_follower_bytes: u64,
    /// Samples this much older than the newest sample of the head are still taken out of order; 0 takes none.
    pub out_of_order_window: i64,
    /// Exemplars kept in memory, the oldest forgotten first; 0 keeps none (100,000).
    pub max_exemplars: usize,
    /// Whether the database owns a thread that fsyncs the log and calls [`crate::Db::maintain`]; otherwise the caller does both.
    pub background: bool,
    /// How often the thread calls [`crate::Db::maintain`] (1 min).
    pub maintenance_interval: Duration,
    /// Whether blocks are merged into longer ones (they are still cut and deleted otherwise).
    pub compaction: bool,
    /// What time it is, where that matters (block ids, ages shown in the status); tests put their own here.
    pub clock: Clock,
    /// The way to the disk; tests of faults put their own here.
    pub files: Files,
}

impl Default for Options {
    fn default() -> Self {
        const HOUR: i64 = 3_600_000;
        Self {
            min_block_duration: 2 * HOUR,
            max_block_duration: 31 * 24 * HOUR,
            retention_duration: Some(15 * 24 * HOUR),
            retention_size: None,
            retention_percentage: 0.0,
            wal_fsync_interval: Duration::from_secs(5),
            wal_segment_bytes: 128 << 20,
            image_interval_bytes: Some(4 << 20),
            log_follower_bytes: 1 << 30,
            out_of_order_window: 0,
            max_exemplars: 100_000,
            background: true,
            maintenance_interval: Duration::from_secs(60),
            compaction: true,
            clock: Clock::default(),
            files: Files::default(),
        }
    }
}

/// A source of the current time in milliseconds.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(now_millis)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
