//! The parsers of the formats, as a scrape uses them.

use common::exposition::{Entry, ParseError, Sample, openmetrics, protobuf, text};

/// A parser that can be told what it will probably find.
pub(super) trait PageParser<'p> {
    /// Reads the next line as a sample of this series, if it is one.
    fn sample_of(&mut self, series: &[u8]) -> Result<Option<Sample<'_>>, ParseError>;
    /// Skips the next line if it is this one.
    fn skip_line(&mut self, line: &[u8]) -> bool;
    /// Reads whatever comes.
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ParseError>;
    /// What is left of the page, for formats with lines.
    fn rest(&self) -> &'p [u8];
}

macro_rules! line_parsers {
    ($($format:ident),*) => {$(
        impl<'p> PageParser<'p> for $format::Parser<'p> {
            #[inline]
            fn sample_of(&mut self, series: &[u8]) -> Result<Option<Sample<'_>>, ParseError> {
                self.sample_of(series)
            }
            #[inline]
            fn skip_line(&mut self, line: &[u8]) -> bool {
                self.skip_line(line)
            }
            fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ParseError> {
                self.next_entry()
            }
            fn rest(&self) -> &'p [u8] {
                self.rest()
            }
        }
    )*};
}

line_parsers!(text, openmetrics);

/// Parsers that have to see every line.
macro_rules! whole_parsers {
    ($($parser:ty, $rest:expr;)*) => {$(
        impl<'p> PageParser<'p> for $parser {
            fn sample_of(&mut self, _: &[u8]) -> Result<Option<Sample<'_>>, ParseError> {
                Ok(None)
            }
            fn skip_line(&mut self, _: &[u8]) -> bool {
                false
            }
            fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ParseError> {
                self.next_entry()
            }
            fn rest(&self) -> &'p [u8] {
                $rest(self)
            }
        }
    )*};
}

whole_parsers! {
    protobuf::Parser<'p>, |_: &Self| &[];
    openmetrics::CreatedParser<'p>, |parser: &Self| parser.rest();
}
