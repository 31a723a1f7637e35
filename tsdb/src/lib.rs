//! The retention store: head, write-ahead log, blocks, index, compaction, retention.
