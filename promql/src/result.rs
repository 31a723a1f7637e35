//! What a query gives.

use std::sync::Arc;

use model::{FloatHistogram, Labels, Timestamp};

use crate::{Charge, PlanNode, ValueType};

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// Final texts of warnings, positions included.
    pub warnings: Vec<String>,
    /// Final texts of infos, positions included.
    pub infos: Vec<String>,
    /// How many samples it took.
    pub stats: QueryStats,
    /// What the parts of the query came to, if that was asked for.
    pub plan: Option<PlanNode>,
    /// Counts the memory of the value as taken until the last clone is dropped. Nothing for a value that was made otherwise.
    pub held: Option<Arc<Charge>>,
}

/// How many samples a query read and held, counted as Prometheus counts: a histogram counts by its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Samples loaded, those in overlapping windows again for each.
    pub total_queryable_samples: u64,
    /// Samples read, those in overlapping windows once.
    pub samples_read: u64,
    /// Most samples held at once.
    pub peak_samples: u64,
    /// Most bytes of memory taken at once.
    pub peak_bytes: u64,
    /// Samples loaded at each step, with the step's time, if asked for.
    pub queryable_per_step: Option<Vec<(Timestamp, u64)>>,
    /// Samples read at each step, with the step's time, if asked for.
    pub read_per_step: Option<Vec<(Timestamp, u64)>>,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number at a time.
    Scalar(Timestamp, f64),
    /// A text at a time.
    String(Timestamp, String),
    /// One sample per series.
    Vector(Vec<VectorSample>),
    /// A range of samples per series, in label order.
    Matrix(Vec<MatrixSeries>),
}

/// One sample of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// The series.
    pub labels: Labels,
    /// When.
    pub timestamp: Timestamp,
    /// What.
    pub value: SampleValue,
}

/// A float or a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// One series of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// The series.
    pub labels: Labels,
    /// Its float samples.
    pub floats: Points<f64>,
    /// Its histogram samples.
    pub histograms: Points<Arc<FloatHistogram>>,
}

/// Timestamps in rising order, and a value for each. Series with samples at the same times may share the timestamps.
#[derive(Clone, Debug, PartialEq)]
pub struct Points<V> {
    /// When.
    pub timestamps: Arc<[Timestamp]>,
    /// What, as many.
    pub values: Vec<V>,
}

impl<V> Default for Points<V> {
    fn default() -> Self {
        Self { timestamps: Arc::from([]), values: Vec::new() }
    }
}

impl<V> Points<V> {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Timestamps and values.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, &V)> {
        self.timestamps.iter().copied().zip(&self.values)
    }
}

impl Value {
    /// The type, as the HTTP API's `resultType`.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Scalar(..) => ValueType::Scalar,
            Self::String(..) => ValueType::String,
            Self::Vector(_) => ValueType::Vector,
            Self::Matrix(_) => ValueType::Matrix,
        }
    }
}
