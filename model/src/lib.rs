//! The data model every other crate speaks: label sets, matchers, samples, native histograms, durations, timestamps
//! and the ecosystem's number formats.
//!
//! This crate knows nothing of exposition formats, storage, queries or daemons, and does no I/O.

mod column;
mod duration;
mod histogram;
mod kept_labels;
mod label_regex;
mod labels;
mod matcher;
mod metadata;
mod name;
mod newest;
mod number;
mod timestamp;
mod value;
mod wildcards;

pub use column::{Column, FloatsRef};
pub use duration::{Duration, DurationError};
pub use histogram::{
    Bucket, CUSTOM_BUCKETS_SCHEMA, Combined, CounterResetHint, FloatHistogram, Histogram, HistogramError,
    IncompatibleSchemas, Keep, Span, exponential_bound, kahan_inc,
};
pub use kept_labels::KeptLabels;
pub use label_regex::{LabelRegex, RegexError, translate_re2};
pub use labels::{BUCKET_LABEL, INSTANCE, JOB, LabelPairs, Labels, LabelsBuilder, METRIC_NAME, QUANTILE_LABEL};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Metadata, MetricType};
pub use name::{
    NameValidation, escape_label_value, is_legacy_label_name, is_legacy_metric_name, is_valid_label_name,
    is_valid_metric_name, quote,
};
pub use newest::{Lent, Newest, NewestAt};
pub use number::{format_float, format_float_json, parse_float};
pub use timestamp::{Timestamp, format_rfc3339_millis, now_millis};
pub use value::{NORMAL_NAN, STALE_NAN, is_stale};
