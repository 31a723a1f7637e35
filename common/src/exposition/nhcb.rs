//! Classic histograms of a page as native histograms with custom buckets (NHCB): what `convert_classic_histograms_to_nhcb` asks
//! for, by the rules of Prometheus' scraper.

use model::{
    BUCKET_LABEL, CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Labels, METRIC_NAME, MetricType, Span, Timestamp, parse_float,
};

use super::entry::{Entry, HistogramEntry, RawExemplar, Sample};
use super::negotiation::FormatKind;
use super::series::labels_of;
use super::series_text::push_series;
use crate::metrics::NativeHistogram;

/// Empty buckets that may stand between others without a span of their own in histograms of whole numbers, as upstream has it.
const MAX_EMPTY_BUCKETS: usize = 2;

/// Gathers the series of classic histograms while a page is read.
///
/// A histogram is a run of series `NAME_bucket`, `NAME_count` and `NAME_sum` with the same other labels, without anything else
/// between them, below `# TYPE NAME histogram`. It ends with the first other entry. What breaks the rules of histograms, by
/// falling counts for instance, gives nothing.
#[derive(Debug)]
pub struct NhcbConverter {
    format: FormatKind,
    /// Name and type of the family that is being read.
    family: String,
    metric_type: MetricType,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Gathering(Box<Gathered>),
    /// A native histogram of these labels came: its classic series stay what they are.
    Native(Labels),
}

/// A classic histogram as far as it has been read.
#[derive(Debug)]
struct Gathered {
    /// The labels without `le`, under the family's name.
    labels: Labels,
    timestamp: Option<Timestamp>,
    created: Option<Timestamp>,
    classic: ClassicHistogram,
    exemplars: Vec<OwnedExemplar>,
}

#[derive(Clone, Debug, PartialEq)]
struct OwnedExemplar {
    labels: Vec<u8>,
    value: f64,
    timestamp: Option<Timestamp>,
}

impl OwnedExemplar {
    fn raw(&self) -> RawExemplar<'_> {
        RawExemplar { labels: &self.labels, value: self.value, timestamp: self.timestamp }
    }
}

/// A classic histogram that has become a native one.
#[derive(Debug)]
pub struct ConvertedHistogram {
    series: String,
    histogram: NativeHistogram,
    timestamp: Option<Timestamp>,
    created: Option<Timestamp>,
    exemplars: Vec<OwnedExemplar>,
}

/// What an entry means for the classic histograms of a page.
#[derive(Debug)]
pub struct Progress {
    /// The histogram that ends before the entry.
    pub ended: Option<ConvertedHistogram>,
    /// Whether the entry is a part of a classic histogram that is converted.
    pub gathered: bool,
}

impl NhcbConverter {
    /// A converter for a page in this format.
    pub fn new(format: FormatKind) -> Self {
        Self { format, family: String::new(), metric_type: MetricType::Unknown, state: State::Idle }
    }

    /// Takes note of the next entry of the page.
    pub fn take(&mut self, entry: &Entry<'_>) -> Progress {
        match entry {
            Entry::Sample(sample) => self.sample(sample),
            Entry::Histogram(histogram) => {
                let ended = self.finish();
                self.state = labels_of(histogram.series).map_or(State::Idle, State::Native);
                Progress { ended, gathered: false }
            }
            Entry::Type { family, metric_type } => {
                let ended = self.finish();
                self.family.clear();
                self.family.push_str(family);
                self.metric_type = *metric_type;
                Progress { ended, gathered: false }
            }
            Entry::Help { .. } | Entry::Unit { .. } | Entry::Comment(_) => {
                Progress { ended: self.finish(), gathered: false }
            }
        }
    }

    /// The histogram that ends here, if there is one: with the page, or with what does not belong to it.
    pub fn finish(&mut self) -> Option<ConvertedHistogram> {
        match std::mem::take(&mut self.state) {
            State::Gathering(gathered) => gathered.convert(),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn sample(&mut self, sample: &Sample<'_>) -> Progress {
        let part = self.part_of(sample).filter(|(labels, part)| match (part, &self.state) {
            // in the other formats it is a series like any other; alone it makes no histogram
            (Part::Created(_), State::Gathering(gathered)) => self.says_created() && gathered.labels == *labels,
            (Part::Created(_), _) => false,
            _ => true,
        });
        let Some((labels, part)) = part else {
            return Progress { ended: self.finish(), gathered: false };
        };
        let mut ended = None;
        match &self.state {
            State::Native(native) if *native == labels => return Progress { ended: None, gathered: false },
            State::Gathering(gathered) if gathered.labels == labels => {}
            _ => ended = self.finish(),
        }
        if !matches!(self.state, State::Gathering(_)) {
            self.state = State::Gathering(Box::new(Gathered {
                labels,
                timestamp: sample.timestamp,
                created: sample.created,
                classic: ClassicHistogram::default(),
                exemplars: Vec::new(),
            }));
        }
        let State::Gathering(gathered) = &mut self.state else { return Progress { ended, gathered: false } };
        match part {
            Part::Bucket { bound, count } => gathered.classic.bucket(bound, count),
            Part::Count(count) => gathered.classic.count(count),
            Part::Sum(sum) => gathered.classic.sum = sum,
            Part::Created(seconds) => gathered.created = Some((seconds * 1000.0) as Timestamp),
        }
        gathered.exemplars.extend(sample.exemplar.as_ref().map(|e| OwnedExemplar {
            labels: e.labels.to_vec(),
            value: e.value,
            timestamp: e.timestamp,
        }));
        Progress { ended, gathered: true }
    }

    /// Whether a line of the format with the suffix `_created` is a part of the histogram before it.
    fn says_created(&self) -> bool {
        matches!(self.format, FormatKind::OpenMetrics0_0_1 | FormatKind::OpenMetrics1_0_0)
    }

    /// What a sample says about a histogram of the family that is being read, and the labels of that histogram.
    fn part_of(&self, sample: &Sample<'_>) -> Option<(Labels, Part)> {
        if self.metric_type != MetricType::Histogram {
            return None;
        }
        let labels = labels_of(sample.series).ok()?;
        let suffix = labels.metric_name().strip_prefix(self.family.as_str())?;
        let part = match suffix {
            "_bucket" => {
                let bound = parse_float(labels.get(BUCKET_LABEL)?).filter(|bound| !bound.is_nan())?;
                Part::Bucket { bound, count: sample.value }
            }
            "_count" => Part::Count(sample.value),
            "_sum" => Part::Sum(sample.value),
            "_created" => Part::Created(sample.value),
            _ => return None,
        };
        let labels = labels.to_builder().remove(BUCKET_LABEL).set(METRIC_NAME, &self.family).build();
        Some((labels, part))
    }
}

impl Gathered {
    fn convert(self) -> Option<ConvertedHistogram> {
        let histogram = self.classic.convert()?;
        let mut series = String::new();
        let labels = self.labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        push_series(self.labels.metric_name(), labels, &mut series);
        // native histograms keep only exemplars that tell their time, and these in order
        let mut exemplars = self.exemplars;
        exemplars.retain(|e| e.timestamp.is_some());
        exemplars.sort_by_key(|e| e.timestamp);
        Some(ConvertedHistogram { series, histogram, timestamp: self.timestamp, created: self.created, exemplars })
    }
}

impl ConvertedHistogram {
    /// The histogram as if the page had it.
    pub fn entry(&self) -> HistogramEntry<'_> {
        HistogramEntry {
            series: self.series.as_bytes(),
            histogram: self.histogram.clone(),
            timestamp: self.timestamp,
            created: self.created,
            exemplars: self.exemplars.iter().map(OwnedExemplar::raw).collect(),
        }
    }
}

/// What one series says about a classic histogram.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Observations up to a bound.
    Bucket {
        bound: f64,
        count: f64,
    },
    Count(f64),
    Sum(f64),
    /// When counting began, in seconds.
    Created(f64),
}

/// The parts of a classic histogram.
#[derive(Debug, Default)]
struct ClassicHistogram {
    /// Cumulative counts in rising order of their bounds.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    broken: bool,
}

impl ClassicHistogram {
    fn count(&mut self, count: f64) {
        self.broken |= count < 0.0;
        self.count = Some(count);
    }

    /// Buckets may come in any order; of two with the same bound the first counts.
    fn bucket(&mut self, bound: f64, count: f64) {
        let at = self.buckets.partition_point(|(known, _)| *known < bound);
        if self.buckets.get(at).is_some_and(|(known, _)| *known == bound) {
            return;
        }
        let falls =
            at > 0 && count < self.buckets[at - 1].1 || self.buckets.get(at).is_some_and(|(_, next)| count > *next);
        self.broken |= falls || count < 0.0;
        self.buckets.insert(at, (bound, count));
    }

    /// The native histogram with the same buckets: of integers if all counts are whole. A missing count is that of the highest
    /// bucket, a missing infinite bucket has the count. `None` if the parts do not make a histogram.
    fn convert(mut self) -> Option<NativeHistogram> {
        if self.broken {
            return None;
        }
        let highest = self.buckets.last().map(|(_, count)| *count);
        let count = self.count.or(highest)?;
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.buckets.last().is_none_or(|(_, all)| *all != count) {
            return None;
        }
        let mut before = 0.0;
        let counts: Vec<f64> = self.buckets.iter().map(|(_, all)| all - std::mem::replace(&mut before, *all)).collect();
        let bounds = &self.buckets[..self.buckets.len() - 1];
        let mut histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).ok()? }],
            positive_buckets: counts,
            custom_values: Some(bounds.iter().map(|(bound, _)| *bound).collect()),
            ..FloatHistogram::default()
        };
        let whole = |value: f64| value.fract() == 0.0 && value < i64::MAX as f64;
        if self.buckets.iter().all(|(_, count)| whole(*count)) {
            let histogram = histogram.compact(MAX_EMPTY_BUCKETS).to_integer();
            return histogram.validate().is_ok().then_some(NativeHistogram::Integer(histogram));
        }
        histogram.compact(0);
        histogram.validate().is_ok().then_some(NativeHistogram::Float(histogram))
    }
}

#[cfg(test)]
mod tests {
    use model::Histogram;

    use super::*;
    use crate::exposition::{ParseOptions, Parser};

    /// What a page in this format becomes: samples with their series and value, histograms with all that they hold.
    fn converted(format: FormatKind, page: &[u8], keep_classic: bool) -> Vec<String> {
        let options = ParseOptions { classic_histograms: true, ..ParseOptions::default() };
        let mut parser = Parser::new(format, page, options);
        let mut converter = NhcbConverter::new(format);
        let mut lines = Vec::new();
        let show = |entry: &HistogramEntry<'_>| {
            let series = String::from_utf8_lossy(entry.series);
            let (kind, histogram) = match &entry.histogram {
                NativeHistogram::Integer(h) => ("integer", h.to_float()),
                NativeHistogram::Float(h) => ("float", h.clone()),
            };
            let spans: Vec<_> = histogram.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
            let exemplars: String = entry
                .exemplars
                .iter()
                .map(|e| format!(" # {} {} @{}", String::from_utf8_lossy(e.labels), e.value, e.timestamp.unwrap_or(-1)))
                .collect();
            let time = entry.timestamp.map_or(String::new(), |t| format!(" @{t}"));
            let since = entry.created.map_or(String::new(), |t| format!(" since {t}"));
            let bounds = histogram.custom_bounds();
            format!(
                "{series} {kind} {bounds:?} {spans:?} {:?} count {} sum {}{time}{since}{exemplars}",
                histogram.positive_buckets, histogram.count, histogram.sum
            )
        };
        while let Some(entry) = parser.next_entry().unwrap() {
            let Progress { ended, gathered } = converter.take(&entry);
            lines.extend(ended.map(|h| show(&h.entry())));
            match &entry {
                Entry::Sample(s) if keep_classic || !gathered => {
                    lines.push(format!("{} {}", String::from_utf8_lossy(s.series), s.value));
                }
                Entry::Histogram(h) => lines.push(show(h)),
                _ => {}
            }
        }
        lines.extend(converter.finish().map(|h| show(&h.entry())));
        lines
    }

    fn check(page: &str, expected: &[&str]) {
        let page = page.replace('\'', "\"");
        let found = converted(FormatKind::Text0_0_4, page.as_bytes(), false);
        assert_eq!(found, expected, "{page}");
    }

    #[test]
    fn a_classic_histogram_becomes_one_sample() {
        let page = "# TYPE h histogram\nh_bucket{a='1',le='1'} 1\nh_bucket{a='1',le='2.5'} 3\nh_bucket{a='1',le='+Inf'} 4\nh_sum{a='1'} 9.5\nh_count{a='1'} 4\n# TYPE g gauge\ng 1\n";
        let native = "h{a=\"1\"} integer [1.0, 2.5] [(0, 3)] [1.0, 2.0, 1.0] count 4 sum 9.5";
        check(page, &[native, "g 1"]);
        let kept = converted(FormatKind::Text0_0_4, page.replace('\'', "\"").as_bytes(), true);
        assert_eq!(kept.len(), 7, "{kept:?}");
        assert_eq!((kept[0].as_str(), kept[5].as_str()), ("h_bucket{a=\"1\",le=\"1\"} 1", native));
    }

    #[test]
    fn each_label_set_is_a_histogram() {
        check(
            "# TYPE h histogram\nh_bucket{a='1',le='+Inf'} 1\nh_count{a='1'} 1\nh_bucket{le='+Inf',a='2'} 2\nh_count{a='2'} 2\n",
            &[
                "h{a=\"1\"} integer [] [(0, 1)] [1.0] count 1 sum 0",
                "h{a=\"2\"} integer [] [(0, 1)] [2.0] count 2 sum 0",
            ],
        );
        // a histogram in pieces is several; the second of a label set is refused by the scrape
        check(
            "# TYPE h histogram\nh_bucket{a='1',le='1'} 1\nh_bucket{a='2',le='1'} 2\nh_bucket{a='1',le='+Inf'} 3\n",
            &[
                "h{a=\"1\"} integer [1.0] [(0, 1)] [1.0] count 1 sum 0",
                "h{a=\"2\"} integer [1.0] [(0, 1)] [2.0] count 2 sum 0",
                "h{a=\"1\"} integer [] [(0, 1)] [3.0] count 3 sum 0",
            ],
        );
    }

    #[test]
    fn only_what_is_declared_a_histogram_is_converted() {
        check("h_bucket{le='+Inf'} 1\n", &["h_bucket{le=\"+Inf\"} 1"]);
        check("# TYPE h gauge\nh_bucket{le='+Inf'} 1\n", &["h_bucket{le=\"+Inf\"} 1"]);
        check("# TYPE h histogram\nother_bucket{le='+Inf'} 1\n", &["other_bucket{le=\"+Inf\"} 1"]);
        check(
            "# TYPE h histogram\nh_bucket 1\nh_bucket{le='x'} 1\nh 2\n",
            &["h_bucket 1", "h_bucket{le=\"x\"} 1", "h 2"],
        );
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        check(
            "# TYPE h histogram\nh_bucket{le='1'} 1\nh_count 3\n",
            &["h integer [1.0] [(0, 2)] [1.0, 2.0] count 3 sum 0"],
        );
        check("# TYPE h histogram\nh_bucket{le='1'} 1\n", &["h integer [1.0] [(0, 1)] [1.0] count 1 sum 0"]);
        check("# TYPE h histogram\nh_count 3\nh_sum 2\n", &["h integer [] [(0, 1)] [3.0] count 3 sum 2"]);
        check("# TYPE h histogram\nh_sum 2\n", &[]);
    }

    #[test]
    fn buckets_come_in_any_order() {
        check(
            "# TYPE h histogram\nh_bucket{le='+Inf'} 9\nh_bucket{le='1'} 1\nh_bucket{le='2'} 2\nh_bucket{le='1.0'} 7\nh_count 9\n",
            &["h integer [1.0, 2.0] [(0, 3)] [1.0, 1.0, 7.0] count 9 sum 0"],
        );
    }

    #[test]
    fn broken_histograms_give_nothing_and_do_not_spoil_the_next() {
        for broken in [
            "h_bucket{le='1'} 3\nh_bucket{le='2'} 2\nh_count 3\n",
            "h_bucket{le='2'} 2\nh_bucket{le='1'} 3\n",
            "h_bucket{le='1'} -1\n",
            "h_count -1\n",
            "h_bucket{le='+Inf'} 3\nh_count 4\n",
            "h_bucket{le='1'} 4\nh_count 3\n",
            "h_bucket{le='-Inf'} 0\nh_count NaN\n",
        ] {
            let page = format!("# TYPE h histogram\n{broken}h_count{{a='1'}} 1\n");
            check(&page, &["h{a=\"1\"} integer [] [(0, 1)] [1.0] count 1 sum 0"]);
        }
    }

    #[test]
    fn counts_that_are_not_whole_make_a_float_histogram() {
        check(
            "# TYPE h histogram\nh_bucket{le='1'} 0.5\nh_bucket{le='2'} 0.5\nh_bucket{le='+Inf'} 1\n",
            &["h float [1.0, 2.0] [(0, 1), (1, 1)] [0.5, 0.5] count 1 sum 0"],
        );
        check("# TYPE h histogram\nh_count 1e20\n", &["h float [] [(0, 1)] [1e20] count 100000000000000000000 sum 0"]);
    }

    #[test]
    fn runs_of_empty_buckets_are_left_out() {
        let buckets: String = (1..=8).map(|i| format!("h_bucket{{le='{i}'}} {}\n", i / 4)).collect();
        check(
            &format!("# TYPE h histogram\n{buckets}h_count 2\n"),
            &["h integer [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] [(3, 1), (3, 1)] [1.0, 1.0] count 2 sum 0"],
        );
        let buckets: String = (1..=6).map(|i| format!("h_bucket{{le='{i}'}} {}\n", i / 3)).collect();
        check(
            &format!("# TYPE h histogram\n{buckets}h_count 2\n"),
            &["h integer [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] [(2, 4)] [1.0, 0.0, 0.0, 1.0] count 2 sum 0"],
        );
        check("# TYPE h histogram\nh_bucket{le='1'} 0\nh_count 0\n", &["h integer [1.0] [] [] count 0 sum 0"]);
    }

    #[test]
    fn the_time_counting_began_is_a_part_of_the_histogram_in_openmetrics_only() {
        let page = "# TYPE h histogram\nh_count 1\nh_created 1.5\n# TYPE c counter\nc_created 2\n# EOF\n";
        let native = "h integer [] [(0, 1)] [1.0] count 1 sum 0";
        let found = converted(FormatKind::OpenMetrics1_0_0, page.as_bytes(), false);
        assert_eq!(found, [format!("{native} since 1500"), "c_created 2".to_owned()]);
        check(page.trim_end_matches("# EOF\n"), &[native, "h_created 1.5", "c_created 2"]);
        let alone = "# TYPE h histogram\nh_created 1.5\n# EOF\n";
        assert_eq!(converted(FormatKind::OpenMetrics1_0_0, alone.as_bytes(), false), ["h_created 1.5"]);
    }

    #[test]
    fn comments_between_the_series_end_a_histogram() {
        check(
            "# TYPE h histogram\nh_count 1\n# a word\nh_count 2\n",
            &["h integer [] [(0, 1)] [1.0] count 1 sum 0", "h integer [] [(0, 1)] [2.0] count 2 sum 0"],
        );
    }

    #[test]
    fn timestamps_exemplars_and_strange_names_go_along() {
        let page = concat!(
            "# TYPE \"a.h\" histogram\n",
            "{\"a.h_bucket\",le=\"1\",\"l.x\"=\"q\\\"\\n\"} 1 7 # {id=\"late\"} 0.5 9\n",
            "{\"a.h_bucket\",le=\"+Inf\",\"l.x\"=\"q\\\"\\n\"} 2 7 # {id=\"early\"} 2 8\n",
            "{\"a.h_count\",\"l.x\"=\"q\\\"\\n\"} 2 7 # {id=\"timeless\"} 3\n",
            "# EOF\n"
        );
        assert_eq!(
            converted(FormatKind::OpenMetrics1_0_0, page.as_bytes(), false),
            [
                r#"{"a.h","l.x"="q\"\n"} integer [1.0] [(0, 2)] [1.0, 1.0] count 2 sum 0 @7000 # {id="early"} 2 @8000 # {id="late"} 0.5 @9000"#
            ]
        );
    }

    #[test]
    fn classic_series_of_a_native_histogram_stay_as_they_are() {
        use crate::exposition::{EscapingScheme, Format};
        use crate::metrics::{ClassicBucket, HistogramValue, Page};

        let native = Histogram {
            count: 3,
            sum: 2.0,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![3],
            ..Histogram::default()
        };
        let classic = HistogramValue {
            buckets: vec![ClassicBucket { upper_bound: 1.0, cumulative_count: 3, exemplar: None }],
            count: 3,
            sum: 2.0,
            ..HistogramValue::default()
        };
        let both = HistogramValue { native: Some(NativeHistogram::Integer(native)), ..classic.clone() };
        let mut page = Page::new();
        let family = page.family("h", "", MetricType::Histogram);
        page.histogram(family, &[("a", "1")], both);
        page.histogram(family, &[("a", "2")], classic);
        let mut out = Vec::new();
        let (families, _) = page.families();
        let format = Format { kind: FormatKind::Protobuf, escaping: EscapingScheme::AllowUtf8 };
        crate::exposition::encode(&families, format, &mut out);
        let found = converted(FormatKind::Protobuf, &out, false);
        assert!(found[0].starts_with("h{a=\"1\"} integer [] [(0, 1)] [3.0] count 3"), "{found:?}");
        assert_eq!(
            found[1..5],
            [
                "h_count{a=\"1\"} 3",
                "h_sum{a=\"1\"} 2",
                "h_bucket{a=\"1\",le=\"1.0\"} 3",
                "h_bucket{a=\"1\",le=\"+Inf\"} 3",
            ]
        );
        assert_eq!(found[5..], ["h{a=\"2\"} integer [1.0] [(0, 1)] [3.0] count 3 sum 2"]);
    }
}
