//! The exposition formats: text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0, and delimited protobuf; encoders for pages,
//! streaming parsers for scrapers, and the negotiation between the two sides.

mod entry;
mod escaping;
mod negotiation;
mod nhcb;
mod number;
pub mod openmetrics;
mod parser;
pub mod protobuf;
mod series;
mod series_text;
pub mod text;
mod tokens;

pub use entry::{Entry, HistogramEntry, ParseError, ParseErrorKind, RawExemplar, Sample};
pub use escaping::EscapingScheme;
pub use negotiation::{Compression, Format, FormatKind, negotiate, negotiate_compression};
pub use nhcb::{ConvertedHistogram, NhcbConverter, Progress};
pub use number::{parse_value, push_value};
pub use parser::{ParseOptions, Parser};
pub use series::{LabelError, SeriesLabels, labels_of, labels_of_exemplar, labels_of_typed};

use crate::metrics::Families;

/// Appends a page in the format agreed on.
pub fn encode(families: &Families<'_>, format: Format, out: &mut Vec<u8>) {
    match format.kind {
        FormatKind::Text0_0_4 | FormatKind::Text1_0_0 => text::encode(families, format.escaping, out),
        FormatKind::OpenMetrics0_0_1 | FormatKind::OpenMetrics1_0_0 => {
            openmetrics::encode(families, format.escaping, openmetrics::Created::Hide, out);
        }
        FormatKind::Protobuf => protobuf::encode(families, format.escaping, out),
    }
}
