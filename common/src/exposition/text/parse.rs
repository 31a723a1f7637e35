use std::borrow::Cow;

use model::MetricType;

use crate::exposition::entry::{Entry, ParseError, ParseErrorKind, Sample};
use crate::exposition::number::parse_value;
use crate::exposition::series::unescape;
use crate::exposition::tokens::{
    At, Dialect, is_name_start, locate, name_end, piece, quoted_end, scan_labels, skip_blanks,
};

/// Reads a page of the Prometheus text format. Accepts and refuses what Prometheus' parser does. Allocates nothing but for
/// escaped names and help texts.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    /// A parser at the page's start.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// What has not been read yet; it begins at the start of a line.
    pub fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    /// The next entry, `None` at the page's end. After an error the parser stands where it was.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        self.entry().map_err(|error| locate(self.input, error))
    }

    /// Skips the next line if it is exactly this one (without its line break). The quick way over metadata that has not changed.
    #[inline]
    pub fn skip_line(&mut self, line: &[u8]) -> bool {
        let found = self.rest().starts_with(line) && self.input.get(self.at + line.len()) == Some(&b'\n');
        if found {
            self.at += line.len() + 1;
        }
        found
    }

    /// Reads the next line as a sample of `series` (a [`Sample::series`] of before); `None`, and nothing is read, if it is
    /// something else. The quick way through a page of which only the values have changed.
    #[inline]
    pub fn sample_of(&mut self, series: &[u8]) -> Result<Option<Sample<'a>>, ParseError> {
        let end = self.at + series.len();
        if !self.rest().starts_with(series) || !matches!(self.input.get(end), Some(b' ' | b'\t')) {
            return Ok(None);
        }
        // `up {a="b"}` does not continue the series `up`
        if self.input.get(skip_blanks(self.input, end)) == Some(&b'{') {
            return Ok(None);
        }
        self.sample(self.at, end).map(Some).map_err(|error| locate(self.input, error))
    }

    fn entry(&mut self) -> At<Option<Entry<'a>>> {
        let input = self.input;
        loop {
            let start = skip_blanks(input, self.at);
            match input.get(start) {
                None => {
                    self.at = start;
                    return Ok(None);
                }
                Some(b'\n') => self.at = start + 1,
                Some(b'#') => return self.comment(start).map(Some),
                Some(b'{') => {
                    let mut named = false;
                    let end = scan_labels(input, start + 1, Dialect::Text, &mut named)?;
                    if !named {
                        return Err((start, ParseErrorKind::NoName(piece(input, start))));
                    }
                    return self.sample_checked(start, end).map(Some);
                }
                Some(b) if is_name_start(*b) => {
                    let mut end = name_end(input, start);
                    let brace = skip_blanks(input, end);
                    if input.get(brace) == Some(&b'{') {
                        end = scan_labels(input, brace + 1, Dialect::Text, &mut true)?;
                    }
                    return self.sample_checked(start, end).map(Some);
                }
                Some(_) => return Err((start, ParseErrorKind::Start(piece(input, start)))),
            }
        }
    }

    fn sample_checked(&mut self, start: usize, end: usize) -> At<Entry<'a>> {
        if std::str::from_utf8(&self.input[start..end]).is_err() {
            return Err((start, ParseErrorKind::Utf8(piece(self.input, start))));
        }
        self.sample(start, end).map(Entry::Sample)
    }

    /// The value and time after a series.
    #[inline]
    fn sample(&mut self, start: usize, end: usize) -> At<Sample<'a>> {
        let input = self.input;
        let from = skip_blanks(input, end);
        let mut at = from;
        while input.get(at).is_some_and(|b| !matches!(b, b' ' | b'\n' | b'\t' | b'{')) {
            at += 1;
        }
        if at == from {
            return Err((from, ParseErrorKind::ValueMissing { after: "metric", got: piece(input, from) }));
        }
        let token = &input[from..at];
        let value = parse_value(token)
            .ok_or_else(|| (from, ParseErrorKind::Value(String::from_utf8_lossy(token).into_owned())))?;
        at = skip_blanks(input, at);
        let mut timestamp = None;
        if let Some(b'0'..=b'9') = input.get(at) {
            let from = at;
            while input.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            let digits = std::str::from_utf8(&input[from..at]).unwrap_or("");
            timestamp = Some(digits.parse().map_err(|_| (from, ParseErrorKind::Timestamp(digits.to_owned())))?);
            at = skip_blanks(input, at);
        }
        match input.get(at) {
            None => self.at = at,
            Some(b'\n') => self.at = at + 1,
            Some(_) if timestamp.is_some() => return Err((at, ParseErrorKind::AfterTimestamp(piece(input, at)))),
            Some(_) => return Err((at, ParseErrorKind::TimestampOrEnd(piece(input, at)))),
        }
        Ok(Sample { series: &input[start..end], value, timestamp, exemplar: None, created: None })
    }

    fn comment(&mut self, start: usize) -> At<Entry<'a>> {
        let input = self.input;
        let end = memchr::memchr(b'\n', &input[start..]).map_or(input.len(), |n| start + n);
        let next = (end + 1).min(input.len());
        let word = skip_blanks(input, start + 1);
        let keyword = match &input[word..end] {
            rest if rest.starts_with(b"HELP") => "HELP",
            rest if rest.starts_with(b"TYPE") => "TYPE",
            _ => "",
        };
        let name = skip_blanks(input, word + keyword.len());
        if keyword.is_empty() || word == start + 1 || name == word + keyword.len() {
            self.at = next;
            return Ok(Entry::Comment(&input[start..end]));
        }
        let (family, after) = family_name(input, name, keyword)?;
        // The character after the name is the separator, whatever it is.
        let text = input[after..end].get(1..).unwrap_or_default();
        let entry = if keyword == "TYPE" {
            let metric_type = match text {
                b"counter" => MetricType::Counter,
                b"gauge" => MetricType::Gauge,
                b"histogram" => MetricType::Histogram,
                b"summary" => MetricType::Summary,
                b"untyped" => MetricType::Unknown,
                other => return Err((after, ParseErrorKind::MetricType(String::from_utf8_lossy(other).into_owned()))),
            };
            Entry::Type { family, metric_type }
        } else {
            let help = std::str::from_utf8(text)
                .map_err(|_| (after, ParseErrorKind::HelpUtf8(String::from_utf8_lossy(text).into_owned())))?;
            Entry::Help { family, help: unescape_help(help) }
        };
        self.at = next;
        Ok(entry)
    }
}

/// The name after `HELP` or `TYPE`, quoted or not, and where it ends.
pub(in crate::exposition) fn family_name<'a>(
    input: &'a [u8],
    at: usize,
    keyword: &'static str,
) -> At<(Cow<'a, str>, usize)> {
    let missing = || (at, ParseErrorKind::MetadataName { keyword, got: piece(input, at) });
    match input.get(at) {
        Some(b'"') => {
            let end = quoted_end(input, at, false).ok_or_else(missing)?;
            let name = std::str::from_utf8(&input[at + 1..end - 1])
                .map_err(|_| (at, ParseErrorKind::Utf8(piece(input, at))))?;
            Ok((unescape(name), end))
        }
        Some(b) if is_name_start(*b) => {
            let end = name_end(input, at);
            Ok((Cow::Borrowed(std::str::from_utf8(&input[at..end]).unwrap_or("")), end))
        }
        _ => Err(missing()),
    }
}

/// In help texts only `\\` and `\n` are escapes.
fn unescape_help(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (escape, len) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            _ => ('\\', 1),
        };
        out.push(escape);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: &[u8]) -> Vec<String> {
        let mut parser = Parser::new(page);
        let mut lines = Vec::new();
        loop {
            match parser.next_entry() {
                Ok(None) => return lines,
                Ok(Some(Entry::Sample(s))) => {
                    let time = s.timestamp.map_or(String::new(), |t| format!(" @{t}"));
                    lines.push(format!("{} => {}{time}", String::from_utf8_lossy(s.series), s.value));
                }
                Ok(Some(other)) => lines.push(format!("{other:?}")),
                Err(error) => {
                    lines.push(error.to_string());
                    return lines;
                }
            }
        }
    }

    #[track_caller]
    fn check(page: &str, expected: &[&str]) {
        assert_eq!(shown(page.as_bytes()), expected, "{page:?}");
    }

    #[test]
    fn entries_of_a_page() {
        check(
            "# HELP m Help \\\\ with\\n\\q\n# TYPE m counter\nm 1\nm{a=\"b\"} 2 123\n\n \t\n# other\n#HELP x y\nlast{} +Inf",
            &[
                r#"Help { family: "m", help: "Help \\ with\n\\q" }"#,
                r#"Type { family: "m", metric_type: Counter }"#,
                "m => 1",
                "m{a=\"b\"} => 2 @123",
                "Comment([35, 32, 111, 116, 104, 101, 114])",
                "Comment([35, 72, 69, 76, 80, 32, 120, 32, 121])",
                "last{} => inf",
            ],
        );
        check(
            "# HELP m\n# TYPE \"a.b\" untyped\n{\"a.b\",x=\"1\"} 2\n",
            &[
                r#"Help { family: "m", help: "" }"#,
                r#"Type { family: "a.b", metric_type: Unknown }"#,
                "{\"a.b\",x=\"1\"} => 2",
            ],
        );
        check("\tm\t{ a = \"x\" , } \t1\t5 \n", &["m\t{ a = \"x\" , } => 1 @5"]);
        check("a{b=\"multi\nline\"} 1\n", &["a{b=\"multi\nline\"} => 1"]);
    }

    #[test]
    fn what_prometheus_refuses() {
        for (page, expected) in [
            ("a", "line 1, column 2: expected value after metric, got \"\""),
            ("ok 1\na\n", "line 2, column 2: expected value after metric, got \"\\n\""),
            ("a{b='c'} 1\n", "line 1, column 5: expected label value, got \"'c'} 1\\n\""),
            ("a{b=\n", "line 1, column 5: expected label value, got \"\\n\""),
            ("a{b=\"x} 1\n", "line 1, column 5: expected label value, got \"\\\"x} 1\\n\""),
            ("empty_label_name{=\"\"} 0", "line 1, column 18: expected label name, got \"=\\\"\\\"} 0\""),
            ("foo 1_2\n", "line 1, column 5: \"1_2\" is not a valid float"),
            ("foo 0x1p-3\n", "line 1, column 5: \"0x1p-3\" is not a valid float"),
            ("foo 0 1_2\n", "line 1, column 8: expected next entry after timestamp, got \"_2\\n\""),
            ("foo 0 -2\n", "line 1, column 7: expected timestamp or new record, got \"-2\\n\""),
            ("foo 0 99999999999999999999\n", "line 1, column 7: invalid timestamp \"99999999999999999999\""),
            ("{a=\"ok\"} 1", "line 1, column 1: metric name not set while parsing: \"{a=\\\"ok\\\"} 1\""),
            ("x{\"a\"} 1", "line 1, column 3: metric name already set while parsing: \"\\\"a\\\"} 1\""),
            ("# TYPE #\n", "line 1, column 8: expected metric name after TYPE, got \"#\\n\""),
            ("# TYPE m foo\n", "line 1, column 9: invalid metric type \"foo\""),
            ("# TYPE m  counter\n", "line 1, column 9: invalid metric type \" counter\""),
            ("m{a=\"1\"}{b=\"2\"} 1\n", "line 1, column 9: expected value after metric, got \"{b=\\\"2\\\"} 1\\n\""),
            ("9a 1\n", "line 1, column 1: expected a valid start token, got \"9a 1\\n\""),
            ("m{a:b=\"1\"} 1\n", "line 1, column 4: expected equal, got \":b=\\\"1\\\"} 1\\n\""),
        ] {
            check(
                page,
                &[page.strip_prefix("ok 1\n").map(|_| "ok => 1"), Some(expected)]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>(),
            );
        }
        assert!(shown(b"a{b=\"\xff\"} 1\n")[0].contains("invalid UTF-8 label value"));
        assert!(shown(b"a{\xff=\"foo\"} 1\n")[0].contains("expected label name"));
        assert!(shown(b"# HELP m \xff\n")[0].contains("not a valid utf8 string"));
    }

    #[test]
    fn a_known_series_is_read_by_its_bytes() {
        let mut parser = Parser::new(b"# TYPE up gauge\nup 1\nup_total 2\nup {a=\"b\"} 3 7\nup{a=\"b\"} 4\n");
        assert!(!parser.skip_line(b"# TYPE up"));
        assert!(parser.skip_line(b"# TYPE up gauge"));
        let value = |parser: &mut Parser<'_>, series: &str| {
            parser.sample_of(series.as_bytes()).unwrap().map(|s| (s.value, s.timestamp))
        };
        assert_eq!(value(&mut parser, "up"), Some((1.0, None)));
        assert_eq!(value(&mut parser, "up"), None);
        assert_eq!(value(&mut parser, "up_total"), Some((2.0, None)));
        assert_eq!(value(&mut parser, "up"), None);
        assert_eq!(value(&mut parser, "up {a=\"b\"}"), Some((3.0, Some(7))));
        assert_eq!(value(&mut parser, "up{a=\"b\"}"), Some((4.0, None)));
        assert_eq!(parser.rest(), b"");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, text in "[a1_:\"\\\\{}=, \n#.+-]{0,40}") {
            for page in [bytes.as_slice(), text.as_bytes()] {
                let mut parser = Parser::new(page);
                while let Ok(Some(entry)) = parser.next_entry() {
                    if let Entry::Sample(sample) = entry {
                        let labels = crate::exposition::labels_of(sample.series);
                        let fine = !matches!(labels, Err(crate::exposition::LabelError::Malformed(_)));
                        proptest::prop_assert!(fine, "{:?}", sample);
                    }
                }
            }
        }
    }
}
