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

/// The floats of one series, lent for a while.
#[derive(Clone, Copy, Debug)]
pub struct FloatsRef<'a> {
    /// Timestamps in milliseconds.
    pub timestamps: &'a [Timestamp],
    /// Where they lie, unless no other series of the answer has them: the same `Arc` in series that were sampled together.
    pub shared: Option<&'a Arc<[Timestamp]>>,
    /// As many values.
    pub values: &'a [f64],
}

impl<'a> From<&'a Column<f64>> for FloatsRef<'a> {
    fn from(column: &'a Column<f64>) -> Self {
        Self { timestamps: &column.timestamps, shared: Some(&column.timestamps), values: &column.values }
    }
}
