use std::sync::atomic::{AtomicU64, Ordering};

use model::Timestamp;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has been counted since the start.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// Counters and states of a database, for the metrics of the program it is in. The `prometheus_tsdb_*` metric that
        /// upstream has for it is named where there is one.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Series in the head: `head_series`.
            pub head_series: u64,
            /// Chunks in the head: `head_chunks`.
            pub head_chunks: u64,
            /// Time of the earliest sample in the head: `head_min_time`.
            pub head_min_time: Timestamp,
            /// Time of the latest sample in the head: `head_max_time`.
            pub head_max_time: Timestamp,
            /// Bytes of memory the head takes, by its own account.
            pub head_bytes: u64,
            /// Blocks: `blocks_loaded`.
            pub blocks_loaded: u64,
            /// Bytes of the blocks: `storage_blocks_bytes`.
            pub blocks_bytes: u64,
            /// Start of the oldest block, or of the head: `lowest_timestamp`.
            pub lowest_timestamp: Timestamp,
            /// Bytes of the log.
            pub wal_bytes: u64,
            /// Number of the segment the log is written to: `wal_segment_current`.
            pub wal_segment_current: u64,
            /// Exemplars kept: `exemplar_exemplars_in_storage`.
            pub exemplars_in_storage: u64,
            /// Series that have exemplars: `exemplar_series_with_exemplars_in_storage`.
            pub exemplar_series: u64,
            /// Exemplars kept at most: `exemplar_max_exemplars`.
            pub exemplar_max: u64,
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Metrics {
                Metrics { $($name: self.$name.get(),)* ..Metrics::default() }
            }
        }
    };
}

counters! {
    /// Float samples taken: `head_samples_appended_total{type="float"}`.
    floats_appended,
    /// Histogram samples taken: `head_samples_appended_total{type="histogram"}`.
    histograms_appended,
    /// Float samples taken out of order: `head_out_of_order_samples_appended_total{type="float"}`.
    out_of_order_floats_appended,
    /// Histogram samples taken out of order: `head_out_of_order_samples_appended_total{type="histogram"}`.
    out_of_order_histograms_appended,
    /// Samples refused as out of order: `out_of_order_samples_total`.
    out_of_order_refused,
    /// Samples refused as too old: `too_old_samples_total`.
    too_old_refused,
    /// Samples refused as out of bounds: `out_of_bound_samples_total`.
    out_of_bounds_refused,
    /// Samples refused as duplicates with another value.
    duplicates_refused,
    /// Series created: `head_series_created_total`.
    series_created,
    /// Series removed: `head_series_removed_total`.
    series_removed,
    /// Commits acknowledged.
    commits,
    /// Records written to the log.
    wal_records,
    /// Bytes written to the log: `wal_record_bytes_saved_total` has no counterpart here.
    wal_bytes_written,
    /// Writes to the log that failed: `wal_writes_failed_total`.
    wal_writes_failed,
    /// Fsyncs of the log: `wal_fsync_duration_seconds_count`.
    wal_fsyncs,
    /// Fsyncs of the log that failed; what they were for is written again.
    wal_fsyncs_failed,
    /// Nanoseconds spent in them.
    wal_fsync_nanos,
    /// Damaged parts of the log left out at the start: `wal_corruptions_total`.
    wal_corruptions,
    /// Samples of the log whose series record was lost with a damaged part.
    wal_unknown_series,
    /// Milliseconds the replay of the log took.
    replay_millis,
    /// Images of the head written.
    images,
    /// Images of the head that could not be written; the log has all that they would have.
    images_failed,
    /// Images of the head that could not be used at the start, so that the whole log was read: `snapshot_replay_error_total`.
    images_refused,
    /// Checkpoints written: `checkpoint_creations_total`.
    checkpoints,
    /// Checkpoints that failed: `checkpoint_creations_failed_total`.
    checkpoints_failed,
    /// Blocks cut from the head and made of other blocks: `compactions_total`.
    compactions,
    /// Of those, the ones that failed: `compactions_failed_total`.
    compactions_failed,
    /// Compactions of blocks that overlap: `vertical_compactions_total`.
    vertical_compactions,
    /// Removals of old samples from the head: `head_truncations_total`.
    head_truncations,
    /// Blocks deleted because of their age: `time_retentions_total`.
    time_retentions,
    /// Blocks deleted because of the size: `size_retentions_total`.
    size_retentions,
    /// Blocks that could not be opened or read.
    damaged_blocks,
    /// Requests that met samples, of the head or a block, that could not be read.
    reads_failed,
    /// Panics in background work, which goes on.
    panics,
    /// Exemplars taken: `exemplar_exemplars_appended_total`.
    exemplars_appended,
    /// Exemplars refused as out of order: `exemplar_out_of_order_exemplars_total`.
    exemplars_out_of_order,
}

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
