use super::{Entry, FormatKind, ParseError, openmetrics, protobuf, text};

/// How a page is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Gives the classic buckets of a histogram that also has native ones (`always_scrape_classic_histograms`). Without, they
    /// are passed over.
    pub classic_histograms: bool,
    /// Takes native histograms for what classic buckets they have (`scrape_native_histograms: false`).
    pub ignore_native_histograms: bool,
}

/// A parser of any of the formats.
#[derive(Clone, Debug)]
pub enum Parser<'a> {
    /// Text 0.0.4 and 1.0.0.
    Text(text::Parser<'a>),
    /// OpenMetrics.
    OpenMetrics(openmetrics::Parser<'a>),
    /// Protobuf.
    Protobuf(Box<protobuf::Parser<'a>>),
}

impl<'a> Parser<'a> {
    /// A parser for a page in this format.
    pub fn new(format: FormatKind, page: &'a [u8], options: ParseOptions) -> Self {
        match format {
            FormatKind::Text0_0_4 | FormatKind::Text1_0_0 => Self::Text(text::Parser::new(page)),
            FormatKind::OpenMetrics0_0_1 | FormatKind::OpenMetrics1_0_0 => {
                Self::OpenMetrics(openmetrics::Parser::new(page))
            }
            FormatKind::Protobuf => Self::Protobuf(Box::new(protobuf::Parser::new(page, options))),
        }
    }

    /// The next entry, `None` at the page's end. It borrows from the page and, in protobuf, from the parser's buffer.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ParseError> {
        match self {
            Self::Text(parser) => parser.next_entry(),
            Self::OpenMetrics(parser) => parser.next_entry(),
            Self::Protobuf(parser) => parser.next_entry(),
        }
    }
}
