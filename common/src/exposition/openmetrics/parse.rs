use model::MetricType;

use crate::exposition::entry::{Entry, ParseError, ParseErrorKind, RawExemplar, Sample};
use crate::exposition::number::parse_value;
use crate::exposition::series::unescape;
use crate::exposition::text::family_name;
use crate::exposition::tokens::{At, Dialect, is_name_start, locate, name_end, piece, scan_labels};

/// Reads a page of OpenMetrics text. Accepts and refuses what Prometheus' parser does: stricter than the text format in its
/// blanks, and `# EOF` must end the page. Times are seconds on the page and milliseconds here. `_created` samples are samples:
/// [`super::CreatedParser`] takes them for more.
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

    /// The next entry, `None` after `# EOF`. After an error the parser stands where it was.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        self.entry().map_err(|error| locate(self.input, error))
    }

    /// Skips the next line if it is exactly this one (without its line break).
    #[inline]
    pub fn skip_line(&mut self, line: &[u8]) -> bool {
        let found = self.rest().starts_with(line) && self.input.get(self.at + line.len()) == Some(&b'\n');
        if found {
            self.at += line.len() + 1;
        }
        found
    }

    /// Reads the next line as a sample of `series` (a [`Sample::series`] of before); `None`, and nothing is read, if it is
    /// something else.
    #[inline]
    pub fn sample_of(&mut self, series: &[u8]) -> Result<Option<Sample<'a>>, ParseError> {
        let end = self.at + series.len();
        if !self.rest().starts_with(series) || self.input.get(end) != Some(&b' ') {
            return Ok(None);
        }
        self.sample(self.at, end).map(Some).map_err(|error| locate(self.input, error))
    }

    fn entry(&mut self) -> At<Option<Entry<'a>>> {
        let (input, start) = (self.input, self.at);
        match input.get(start) {
            None => Err((start, ParseErrorKind::NoEof)),
            Some(b'#') => self.metadata(start),
            Some(b'{') => {
                let mut named = false;
                let end = scan_labels(input, start + 1, Dialect::OpenMetrics, &mut named)?;
                if !named {
                    return Err((start, ParseErrorKind::NoName(piece(input, start))));
                }
                self.sample_checked(start, end).map(Some)
            }
            Some(b) if is_name_start(*b) => {
                let mut end = name_end(input, start);
                if input.get(end) == Some(&b'{') {
                    end = scan_labels(input, end + 1, Dialect::OpenMetrics, &mut true)?;
                }
                self.sample_checked(start, end).map(Some)
            }
            Some(_) => Err((start, ParseErrorKind::Start(piece(input, start)))),
        }
    }

    fn sample_checked(&mut self, start: usize, end: usize) -> At<Entry<'a>> {
        if std::str::from_utf8(&self.input[start..end]).is_err() {
            return Err((start, ParseErrorKind::Utf8(piece(self.input, start))));
        }
        self.sample(start, end).map(Entry::Sample)
    }

    /// A blank and a word: where the word ends.
    fn word(&self, at: usize) -> Option<(usize, usize)> {
        let from = at + 1;
        let mut end = from;
        while self.input.get(end).is_some_and(|b| !matches!(b, b' ' | b'\n')) {
            end += 1;
        }
        (self.input.get(at) == Some(&b' ') && end > from).then_some((from, end))
    }

    fn value(&self, at: usize, after: &'static str) -> At<(f64, usize)> {
        let input = self.input;
        let missing = || (at, ParseErrorKind::ValueMissing { after, got: piece(input, at) });
        let (from, end) = self.word(at).ok_or_else(missing)?;
        let token = &input[from..end];
        match parse_value(token) {
            Some(value) => Ok((value, end)),
            None => Err((from, ParseErrorKind::Value(String::from_utf8_lossy(token).into_owned()))),
        }
    }

    /// A time in seconds, given in milliseconds. The beginning of an exemplar is none.
    fn time(&self, at: usize) -> At<Option<(i64, usize)>> {
        if self.input[at..].starts_with(b" # {") {
            return Ok(None);
        }
        let Some((from, end)) = self.word(at) else { return Ok(None) };
        let token = &self.input[from..end];
        match parse_value(token) {
            Some(seconds) if seconds.is_finite() => Ok(Some((whole_millis(seconds), end))),
            _ => Err((from, ParseErrorKind::Timestamp(String::from_utf8_lossy(token).into_owned()))),
        }
    }

    #[inline]
    fn sample(&mut self, start: usize, end: usize) -> At<Sample<'a>> {
        let input = self.input;
        let (value, mut at) = self.value(end, "metric")?;
        let mut timestamp = None;
        if input.get(at) != Some(&b'\n')
            && let Some((time, end)) = self.time(at)?
        {
            timestamp = Some(time);
            at = end;
        }
        let mut exemplar = None;
        match input.get(at) {
            None => return Err((at, ParseErrorKind::NoEof)),
            Some(b'\n') => {}
            Some(b' ') if input[at..].starts_with(b" # {") => {
                let (found, end) = self.exemplar(at + 3)?;
                exemplar = Some(found);
                at = end;
            }
            Some(_) if timestamp.is_some() => return Err((at, ParseErrorKind::AfterTimestamp(piece(input, at)))),
            Some(_) => return Err((at, ParseErrorKind::TimestampOrEnd(piece(input, at)))),
        }
        self.at = at + 1;
        Ok(Sample { series: &input[start..end], value, timestamp, exemplar, created: None })
    }

    /// An exemplar from its brace on; ends at the line break.
    fn exemplar(&self, start: usize) -> At<(RawExemplar<'a>, usize)> {
        let input = self.input;
        let end = scan_labels(input, start + 1, Dialect::Exemplar, &mut true)?;
        let labels = &input[start..end];
        if std::str::from_utf8(labels).is_err() {
            return Err((start, ParseErrorKind::Utf8(piece(input, start))));
        }
        let (value, mut at) = self.value(end, "exemplar labels")?;
        let mut timestamp = None;
        if let Some((time, end)) = self.time(at)? {
            timestamp = Some(time);
            at = end;
        }
        match input.get(at) {
            None => Err((at, ParseErrorKind::NoEof)),
            Some(b'\n') => Ok((RawExemplar { labels, value, timestamp }, at)),
            Some(_) => Err((at, ParseErrorKind::AfterTimestamp(piece(input, at)))),
        }
    }

    fn metadata(&mut self, start: usize) -> At<Option<Entry<'a>>> {
        let input = self.input;
        let rest = &input[start..];
        let keyword = match rest {
            _ if rest.starts_with(b"# HELP ") => "HELP",
            _ if rest.starts_with(b"# TYPE ") => "TYPE",
            _ if rest.starts_with(b"# UNIT ") => "UNIT",
            b"# EOF" | b"# EOF\n" => return Ok(None),
            _ if rest.starts_with(b"# EOF") => return Err((start + 5, ParseErrorKind::AfterEof)),
            _ => return Err((start, ParseErrorKind::Start(piece(input, start)))),
        };
        let (family, after) = family_name(input, start + 7, keyword)?;
        let end = memchr::memchr(b'\n', &input[after..]).map(|n| after + n);
        let (Some(end), Some(b' ')) = (end, input.get(after)) else {
            return Err((after, ParseErrorKind::MetadataText(keyword)));
        };
        let bytes = &input[after + 1..end];
        let text = std::str::from_utf8(bytes)
            .map_err(|_| (after, ParseErrorKind::HelpUtf8(String::from_utf8_lossy(bytes).into_owned())))?;
        let entry = match keyword {
            "HELP" => Entry::Help { family, help: unescape(text) },
            "UNIT" => {
                let suffixed = family.strip_suffix(text).is_some_and(|stem| stem.ends_with('_'));
                if !text.is_empty() && !suffixed {
                    let (unit, metric) = (text.to_owned(), family.into_owned());
                    return Err((after, ParseErrorKind::Unit { unit, metric }));
                }
                Entry::Unit { family, unit: text }
            }
            _ => {
                let metric_type = match text {
                    "counter" => MetricType::Counter,
                    "gauge" => MetricType::Gauge,
                    "histogram" => MetricType::Histogram,
                    "gaugehistogram" => MetricType::GaugeHistogram,
                    "summary" => MetricType::Summary,
                    "info" => MetricType::Info,
                    "stateset" => MetricType::StateSet,
                    "unknown" => MetricType::Unknown,
                    other => return Err((after, ParseErrorKind::MetricType(other.to_owned()))),
                };
                Entry::Type { family, metric_type }
            }
        };
        self.at = end + 1;
        Ok(Some(entry))
    }
}

/// Milliseconds, fractions cut off as upstream does, except where they are only the error of the multiplication.
pub(super) fn whole_millis(seconds: f64) -> i64 {
    let millis = seconds * 1000.0;
    let nearest = millis.round();
    if (millis - nearest).abs() < 1e-3 { nearest as i64 } else { millis as i64 }
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
                    let exemplar = s.exemplar.map_or(String::new(), |e| {
                        format!(" # {} {} {:?}", String::from_utf8_lossy(e.labels), e.value, e.timestamp)
                    });
                    lines.push(format!("{} => {}{time}{exemplar}", String::from_utf8_lossy(s.series), s.value));
                }
                Ok(Some(other)) => lines.push(format!("{other:?}")),
                Err(error) => {
                    lines.push(error.to_string());
                    return lines;
                }
            }
        }
    }

    #[test]
    fn entries_of_a_page() {
        let page = "# HELP foo Some \\\"text\\\"\\n\n# TYPE foo counter\n# UNIT foo_seconds seconds\nfoo_total 17.0 1520879607.789 \
                    # {id=\"counter-test\"} 5\nfoo_total{a=\"b\"} 1 # {} 0.5 1.5\n{\"a.b\",x=\"1\"} 2 0.001\nm{} NaN\n# EOF\n";
        assert_eq!(
            shown(page.as_bytes()),
            [
                r#"Help { family: "foo", help: "Some \"text\"\n" }"#,
                r#"Type { family: "foo", metric_type: Counter }"#,
                r#"Unit { family: "foo_seconds", unit: "seconds" }"#,
                r#"foo_total => 17 @1520879607789 # {id="counter-test"} 5 None"#,
                r#"foo_total{a="b"} => 1 # {} 0.5 Some(1500)"#,
                r#"{"a.b",x="1"} => 2 @1"#,
                "m{} => NaN",
            ]
        );
        assert_eq!(shown(b"# EOF"), [""; 0]);
    }

    #[test]
    fn what_prometheus_refuses() {
        for (page, expected) in [
            ("", "line 1, column 1: data does not end with # EOF"),
            ("\n", "line 1, column 1: expected a valid start token, got \"\\n\""),
            ("a 1", "line 1, column 4: data does not end with # EOF"),
            ("a 1\n", "line 2, column 1: data does not end with # EOF"),
            ("# EOF\nfoo 1\n", "line 1, column 6: unexpected data after # EOF"),
            ("# EOF \n", "line 1, column 6: unexpected data after # EOF"),
            ("#\n# EOF\n", "line 1, column 1: expected a valid start token, got \"#\\n\""),
            ("# comment\n# EOF\n", "line 1, column 1: expected a valid start token, got \"# comment\\n\""),
            ("a\n# EOF\n", "line 1, column 2: expected value after metric, got \"\\n\""),
            ("a  1\n# EOF\n", "line 1, column 2: expected value after metric, got \"  1\\n\""),
            ("a\t1\n# EOF\n", "line 1, column 2: expected value after metric, got \"\\t1\\n\""),
            ("a 1 \n# EOF\n", "line 1, column 4: expected timestamp or new record, got \" \\n\""),
            ("a 1 x\n# EOF\n", "line 1, column 5: invalid timestamp \"x\""),
            ("a 1 NaN\n# EOF\n", "line 1, column 5: invalid timestamp \"NaN\""),
            ("a 1 1 1\n# EOF\n", "line 1, column 6: expected next entry after timestamp, got \" 1\\n\""),
            (
                "a{b=\"1\" c=\"2\"} 1\n# EOF\n",
                "line 1, column 8: expected comma or brace close, got \" c=\\\"2\\\"} 1\\n\"",
            ),
            ("a{b=\"\n\"} 1\n# EOF\n", "line 1, column 5: expected label value, got \"\\\"\\n\""),
            ("a{,} 1\n# EOF\n", "line 1, column 3: expected label name, got \",} 1\\n\""),
            ("a 1 # {\"x\"} 1\n# EOF\n", "line 1, column 11: expected equal, got \"} 1\\n\""),
            ("a 1 # {}1\n# EOF\n", "line 1, column 9: expected value after exemplar labels, got \"1\\n\""),
            ("a 0x1p-3\n# EOF\n", "line 1, column 3: \"0x1p-3\" is not a valid float"),
            ("# TYPE c counter \n# EOF\n", "line 1, column 9: invalid metric type \"counter \""),
            ("# TYPE c untyped\n# EOF\n", "line 1, column 9: invalid metric type \"untyped\""),
            ("# UNIT metric suffix\n# EOF\n", "line 1, column 14: unit \"suffix\" not a suffix of metric \"metric\""),
            ("# HELP \n# EOF\n", "line 1, column 8: expected metric name after HELP, got \"\\n\""),
            ("# HELP m\n# EOF\n", "line 1, column 9: expected text in HELP"),
            ("{a=\"ok\"} 1\n# EOF\n", "line 1, column 1: metric name not set while parsing: \"{a=\\\"ok\\\"} 1\\n\""),
        ] {
            let lines = shown(page.as_bytes());
            assert_eq!(lines.last().map(String::as_str), Some(expected), "{page:?}");
        }
    }

    #[test]
    fn seconds_become_the_milliseconds_they_were() {
        for (seconds, millis) in [(2162045249.561, 2162045249561), (1.0009, 1000), (-0.5, -500), (1e30, i64::MAX)] {
            assert_eq!(whole_millis(seconds), millis, "{seconds}");
        }
    }

    #[test]
    fn a_known_series_is_read_by_its_bytes() {
        let mut parser = Parser::new(b"# TYPE up gauge\nup 1\nup{a=\"b\"} 4 # {} 1\n# EOF\n");
        assert!(parser.skip_line(b"# TYPE up gauge"));
        assert_eq!(parser.sample_of(b"up{a=\"b\"}").unwrap(), None);
        assert_eq!(parser.sample_of(b"up").unwrap().map(|s| s.value), Some(1.0));
        assert!(parser.sample_of(b"up{a=\"b\"}").unwrap().unwrap().exemplar.is_some());
        assert_eq!(parser.next_entry(), Ok(None));
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
