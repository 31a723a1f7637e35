use std::borrow::Cow;

use model::{MetricType, Timestamp};

use crate::metrics::NativeHistogram;

/// One thing a page says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A family's type.
    Type {
        /// The family's name.
        family: Cow<'a, str>,
        /// The type; `untyped` is [`MetricType::Unknown`].
        metric_type: MetricType,
    },
    /// A family's help text.
    Help {
        /// The family's name.
        family: Cow<'a, str>,
        /// The text without escapes.
        help: Cow<'a, str>,
    },
    /// A family's unit.
    Unit {
        /// The family's name.
        family: Cow<'a, str>,
        /// The unit.
        unit: &'a str,
    },
    /// A comment, from its `#` on.
    Comment(&'a [u8]),
    /// A float sample.
    Sample(Sample<'a>),
    /// A native histogram.
    Histogram(Box<HistogramEntry<'a>>),
}

/// A float sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The bytes that name the series, as they stand on the page: `name{a="b"}`. [`super::labels_of`] reads them. Equal bytes
    /// are the same series; one series may be written in several ways.
    pub series: &'a [u8],
    /// The value; every NaN is the normal one.
    pub value: f64,
    /// Milliseconds, if the page gives a time.
    pub timestamp: Option<Timestamp>,
    /// The exemplar (OpenMetrics and protobuf).
    pub exemplar: Option<RawExemplar<'a>>,
    /// When counting began (protobuf). In the text formats this is a sample of its own with the suffix `_created`, which
    /// [`super::openmetrics::CreatedParser`] looks for.
    pub created: Option<Timestamp>,
}

/// An exemplar as it stands on the page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawExemplar<'a> {
    /// The bytes `{a="b"}`. [`super::labels_of_exemplar`] reads them.
    pub labels: &'a [u8],
    /// The measured value.
    pub value: f64,
    /// Milliseconds, if given.
    pub timestamp: Option<Timestamp>,
}

/// A native histogram sample.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramEntry<'a> {
    /// The bytes that name the series, as in [`Sample::series`].
    pub series: &'a [u8],
    /// The histogram.
    pub histogram: NativeHistogram,
    /// Milliseconds, if the page gives a time.
    pub timestamp: Option<Timestamp>,
    /// When counting began.
    pub created: Option<Timestamp>,
    /// Its exemplars, those of classic buckets included if there are no others.
    pub exemplars: Vec<RawExemplar<'a>>,
}

/// A page that is not well-formed, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct ParseError {
    /// The line, from 1. In protobuf, the message.
    pub line: usize,
    /// The byte of the line, from 1. In protobuf, the byte of the message.
    pub column: usize,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// What is wrong with a page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// A line starts with something else than a name, a brace or `#`.
    #[error("expected a valid start token, got {0:?}")]
    Start(String),
    /// `# TYPE`, `# HELP` or `# UNIT` without a name.
    #[error("expected metric name after {keyword}, got {got:?}")]
    MetadataName {
        /// The keyword.
        keyword: &'static str,
        /// What stands there.
        got: String,
    },
    /// `# TYPE name` without a text.
    #[error("expected text in {0}")]
    MetadataText(&'static str),
    /// Not one of the types of the format.
    #[error("invalid metric type {0:?}")]
    MetricType(String),
    /// The help is no UTF-8.
    #[error("help text {0:?} is not a valid utf8 string")]
    HelpUtf8(String),
    /// The unit does not end the name.
    #[error("unit {unit:?} not a suffix of metric {metric:?}")]
    Unit {
        /// The unit.
        unit: String,
        /// The metric's name.
        metric: String,
    },
    /// Something else where a label's name or the closing brace should be.
    #[error("expected label name, got {0:?}")]
    LabelName(String),
    /// No `=` after a label's name.
    #[error("expected equal, got {0:?}")]
    Equal(String),
    /// No quoted value after `=`.
    #[error("expected label value, got {0:?}")]
    LabelValue(String),
    /// Neither comma nor brace after a label.
    #[error("expected comma or brace close, got {0:?}")]
    CommaOrBrace(String),
    /// A name or value is no UTF-8.
    #[error("invalid UTF-8 label value: {0:?}")]
    Utf8(String),
    /// `{a="b"}` without a quoted name.
    #[error("metric name not set while parsing: {0:?}")]
    NoName(String),
    /// Two names.
    #[error("metric name already set while parsing: {0:?}")]
    TwoNames(String),
    /// No value.
    #[error("expected value after {after}, got {got:?}")]
    ValueMissing {
        /// What it should follow.
        after: &'static str,
        /// What stands there.
        got: String,
    },
    /// Not a number.
    #[error("{0:?} is not a valid float")]
    Value(String),
    /// Something else than a time or the line's end after a value.
    #[error("expected timestamp or new record, got {0:?}")]
    TimestampOrEnd(String),
    /// Not a time.
    #[error("invalid timestamp {0:?}")]
    Timestamp(String),
    /// Something after the time.
    #[error("expected next entry after timestamp, got {0:?}")]
    AfterTimestamp(String),
    /// OpenMetrics only.
    #[error("data does not end with # EOF")]
    NoEof,
    /// OpenMetrics only.
    #[error("unexpected data after # EOF")]
    AfterEof,
    /// A protobuf message that does not decode.
    #[error("protobuf: {0}")]
    Protobuf(&'static str),
}
