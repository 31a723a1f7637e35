use model::{BUCKET_LABEL, METRIC_NAME, MetricType, QUANTILE_LABEL, Timestamp};

use super::parse::{Parser, whole_millis};
use crate::exposition::entry::{Entry, ParseError};
use crate::exposition::series::SeriesLabels;

const SUFFIX: &str = "_created";

/// Reads a page as [`Parser`] does and takes the `_created` lines of counters, histograms and summaries for what they tell: they
/// are no samples, and the other samples of their metric have the time in [`crate::exposition::Sample::created`].
///
/// The rules are those of Prometheus' scraper. The line of a metric is the next one with the suffix, wherever it stands in the
/// family; if that is of another metric, there is none. What was found last holds for further samples of the same metric.
/// Labels are compared in the order of the page. Each line is read twice at most.
#[derive(Clone, Debug)]
pub struct CreatedParser<'a> {
    parser: Parser<'a>,
    /// Length of the name in the last line of metadata: series of its family begin with that much of their metric.
    family_len: usize,
    metric_type: MetricType,
    /// What was found last.
    found: Option<(Vec<u8>, Timestamp)>,
    /// The next `_created` line, as long as the parser has not reached it.
    ahead: Option<Ahead>,
}

#[derive(Clone, Debug)]
struct Ahead {
    /// Bytes that were left of the page where the search ended.
    rest: usize,
    created: Option<(Vec<u8>, Timestamp)>,
}

impl<'a> CreatedParser<'a> {
    /// A parser at the page's start.
    pub fn new(input: &'a [u8]) -> Self {
        Self { parser: Parser::new(input), family_len: 0, metric_type: MetricType::Unknown, found: None, ahead: None }
    }

    /// What has not been read yet, from the next line on that is not hidden.
    pub fn rest(&self) -> &'a [u8] {
        self.parser.rest()
    }

    /// As [`Parser::next_entry`].
    ///
    /// # Errors
    /// Those of [`Parser::next_entry`].
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        let mut entry = self.parser.next_entry()?;
        match &mut entry {
            Some(Entry::Type { family, metric_type }) => {
                (self.family_len, self.metric_type) = (family.len(), *metric_type);
            }
            Some(Entry::Help { family, .. } | Entry::Unit { family, .. }) => self.family_len = family.len(),
            Some(Entry::Sample(sample)) => sample.created = self.created_of(sample.series),
            Some(Entry::Comment(_) | Entry::Histogram(_)) | None => {}
        }
        self.skip_created();
        Ok(entry)
    }

    /// Whether metrics of this type say when their counting began.
    fn tells(&self) -> bool {
        matches!(self.metric_type, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
    }

    /// Goes past `_created` lines. One that is broken stays, to be told about.
    fn skip_created(&mut self) {
        while self.tells() {
            let mut parser = self.parser.clone();
            match parser.next_entry() {
                Ok(Some(Entry::Sample(sample))) if is_created(sample.series) => self.parser = parser,
                _ => return,
            }
        }
    }

    fn created_of(&mut self, series: &[u8]) -> Option<Timestamp> {
        if !self.tells() {
            self.found = None;
            return None;
        }
        let key = self.key(series, |name| name.get(..self.family_len));
        if let Some((known, created)) = &self.found
            && key.as_ref() == Some(known)
        {
            return Some(*created);
        }
        if self.ahead.as_ref().is_none_or(|ahead| self.parser.rest().len() < ahead.rest) {
            self.ahead = Some(self.look_ahead());
        }
        let next = self.ahead.as_ref().and_then(|ahead| ahead.created.clone());
        self.found = next.filter(|(of, created)| key.as_ref() == Some(of) && *created != 0);
        self.found.as_ref().map(|(_, created)| *created)
    }

    /// The next `_created` line before anything that is no sample.
    fn look_ahead(&self) -> Ahead {
        let mut parser = self.parser.clone();
        loop {
            let rest = parser.rest().len();
            let created = match parser.next_entry() {
                Ok(Some(Entry::Sample(sample))) if is_created(sample.series) => self
                    .key(sample.series, |name| name.strip_suffix(SUFFIX))
                    .map(|key| (key, whole_millis(sample.value))),
                Ok(Some(Entry::Sample(_))) => continue,
                _ => None,
            };
            return Ahead { rest, created };
        }
    }

    /// What the samples of one metric have in common: a name, and labels but for bounds and quantiles.
    fn key(&self, series: &[u8], name: impl FnOnce(&str) -> Option<&str>) -> Option<Vec<u8>> {
        let left_out = match self.metric_type {
            MetricType::Histogram => BUCKET_LABEL,
            MetricType::Summary => QUANTILE_LABEL,
            _ => "",
        };
        let (mut key, mut metric) = (Vec::new(), None);
        for pair in SeriesLabels::new(series).ok()? {
            let (label, value) = pair.ok()?;
            if label == METRIC_NAME {
                metric.get_or_insert(value);
            } else if label != left_out {
                for part in [label, value] {
                    key.extend_from_slice(part.as_bytes());
                    key.push(0xff);
                }
            }
        }
        key.extend_from_slice(name(&metric?)?.as_bytes());
        Some(key)
    }
}

fn is_created(series: &[u8]) -> bool {
    let mut labels = SeriesLabels::new(series).into_iter().flatten().flatten();
    labels.find(|(name, _)| name == METRIC_NAME).is_some_and(|(_, metric)| metric.ends_with(SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Series with what they count since, and errors.
    #[track_caller]
    fn check(page: &str, expected: &[&str]) {
        let page = format!("{page}# EOF\n");
        let mut parser = CreatedParser::new(page.as_bytes());
        let mut lines = Vec::new();
        loop {
            match parser.next_entry() {
                Ok(Some(Entry::Sample(s))) => {
                    let since = s.created.map_or(String::new(), |t| format!(" since {t}"));
                    lines.push(format!("{}{since}", String::from_utf8_lossy(s.series)));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    lines.push(error.to_string());
                    break;
                }
            }
        }
        assert_eq!(lines, expected, "{page}");
    }

    #[test]
    fn samples_count_since_their_created_line() {
        check("# TYPE a counter\na_total 1\na_created 1.5\n", &["a_total since 1500"]);
        check(
            "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 1\na_total{x=\"2\"} 1\na_created{x=\"2\"} 2\n",
            &["a_total{x=\"1\"} since 1000", "a_total{x=\"2\"} since 2000"],
        );
        let histogram = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\n";
        check(
            &format!("{histogram}h_created 7\n"),
            &[
                "h_bucket{le=\"1\"} since 7000",
                "h_bucket{le=\"+Inf\"} since 7000",
                "h_count since 7000",
                "h_sum since 7000",
            ],
        );
        check(
            "# TYPE s summary\ns_count{a=\"b\"} 1\ns_created{a=\"b\"} 2\ns{a=\"b\",quantile=\"1\"} 1\n",
            &["s_count{a=\"b\"} since 2000", "s{a=\"b\",quantile=\"1\"} since 2000"],
        );
        check(
            "# TYPE \"a.b\" counter\n{\"a.b_total\",x=\"1\"} 1\n{\"a.b_created\",x=\"1\"} 3\n",
            &["{\"a.b_total\",x=\"1\"} since 3000"],
        );
    }

    #[test]
    fn lines_of_others_say_nothing() {
        // the next line is that of another metric; the second metric is found
        check(
            "# TYPE a counter\na_total{x=\"1\"} 1\na_total{x=\"2\"} 1\na_created{x=\"2\"} 2\n",
            &["a_total{x=\"1\"}", "a_total{x=\"2\"} since 2000"],
        );
        check("# TYPE a counter\na_total 1\n# TYPE b counter\na_created 1\n", &["a_total"]);
        check(
            "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 1\na_created{y=\"2\",x=\"1\"} 2\n",
            &["a_total{x=\"1\",y=\"2\"}"],
        );
        check("# TYPE a counter\na_created 5\na_total 1\n", &["a_total"]);
        check("# TYPE a counter\na_total 1\na_created 0\n", &["a_total"]);
        check("# TYPE a_total counter\na_total 1\na_created 5\n", &["a_total"]);
    }

    #[test]
    fn other_types_have_samples_with_that_suffix() {
        check("a_created 1\n# TYPE g gauge\ng 1\ng_created 5\n", &["a_created", "g", "g_created"]);
        check("# TYPE g gaugehistogram\ng_created 5\n", &["g_created"]);
    }

    #[test]
    fn a_broken_line_is_told_about() {
        check(
            "# TYPE a counter\na_total 1\na_created x\n",
            &["a_total", "line 3, column 11: \"x\" is not a valid float"],
        );
    }

    #[test]
    fn hidden_lines_are_not_left() {
        let page = b"# TYPE a counter\na_total 1\na_created 5\n# TYPE b gauge\n# EOF\n";
        let mut parser = CreatedParser::new(page);
        parser.next_entry().unwrap();
        parser.next_entry().unwrap();
        assert_eq!(parser.rest(), b"# TYPE b gauge\n# EOF\n");
    }

    proptest::proptest! {
        /// What is given are the samples of the plain parser, but for hidden ones.
        #[test]
        fn nothing_else_is_hidden(lines in proptest::collection::vec("(# TYPE (a|b) (counter|gauge|summary|histogram))|(a|b)(_total|_created|_sum)?(\\{(le|x)=\"1\"\\})? [0-9]", 0..12)) {
            let page = format!("{}\n# EOF\n", lines.join("\n"));
            let mut tells = false;
            let mut expected = Vec::new();
            let mut plain = Parser::new(page.as_bytes());
            while let Ok(Some(entry)) = plain.next_entry() {
                match entry {
                    Entry::Type { metric_type, .. } => tells = metric_type != MetricType::Gauge,
                    Entry::Sample(s) if !(tells && is_created(s.series)) => expected.push(s.series),
                    _ => {}
                }
            }
            let mut given = Vec::new();
            let mut parser = CreatedParser::new(page.as_bytes());
            while let Ok(Some(entry)) = parser.next_entry() {
                if let Entry::Sample(s) = entry {
                    given.push(s.series);
                }
            }
            proptest::prop_assert_eq!(given, expected);
        }
    }
}
