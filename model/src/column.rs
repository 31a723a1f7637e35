use std::sync::Arc;

use crate::Timestamp;

/// Samples of one series as flat columns: timestamps in ascending order and a value for each.
#[derive(Clone, Debug)]
pub struct Column<V> {
    /// Timestamps in milliseconds: the same `Arc` in series of one answer that were sampled together.
    pub timestamps: Arc<[Timestamp]>,
    /// As many values.
    pub values: Vec<V>,
    /// As many start timestamps (0 where unknown), if any is known.
    pub start_timestamps: Option<Arc<[Timestamp]>>,
}

impl<V> Default for Column<V> {
    fn default() -> Self {
        Self { timestamps: Arc::from([]), values: Vec::new(), start_timestamps: None }
    }
}

impl<V> Column<V> {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
