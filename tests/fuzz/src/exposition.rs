//! Pages that targets answer with.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use common::exposition::{
    ConvertedHistogram, Entry, EscapingScheme, Format, FormatKind, NhcbConverter, ParseOptions, Parser, encode,
    labels_of, labels_of_exemplar, openmetrics, parse_value, push_value,
};
use common::metrics::{ClassicBucket, Exemplar, HistogramValue, NativeHistogram, Page, Quantile, SummaryValue};
use model::{Histogram, Labels, MetricType, Span};

use crate::{Target, kind_of};

const WORDS: &[&str] = &[
    "# HELP ",
    "# TYPE ",
    "# UNIT ",
    "# EOF\n",
    "counter\n",
    "gauge\n",
    "histogram\n",
    "summary\n",
    "untyped\n",
    "info\n",
    "stateset\n",
    "gaugehistogram\n",
    "unknown\n",
    "_total",
    "_bucket",
    "_count",
    "_sum",
    "_created",
    "_info",
    "{le=\"+Inf\"}",
    "quantile=",
    "NaN",
    "+Inf",
    "-Inf",
    "1e308",
    "0x1p4",
    " # {trace_id=\"a\"} 1 2\n",
    "\\n",
    "\\\"",
    "\n",
    "\r\n",
    "\u{e9}",
    "{\"a.b\"}",
    "{\"a\",b=\"c\"}",
    " 1700000000000\n",
    "_5",
    "-0",
];

pub(crate) const TEXT: Target = Target {
    name: "text",
    run: |input| read(FormatKind::Text0_0_4, input),
    words: WORDS,
    seeds: || pages(FormatKind::Text0_0_4),
};
pub(crate) const OPENMETRICS: Target = Target {
    name: "openmetrics",
    run: |input| {
        with_created_lines(input);
        read(FormatKind::OpenMetrics1_0_0, input)
    },
    words: WORDS,
    seeds: || pages(FormatKind::OpenMetrics1_0_0),
};
pub(crate) const PROTOBUF: Target = Target {
    name: "protobuf",
    run: |input| read(FormatKind::Protobuf, input),
    words: &["\u{1}a", "le", "\n"],
    seeds: || pages(FormatKind::Protobuf),
};

/// Reads a page with its `_created` lines hidden: nothing else may be missing, and it ends where it does with them.
fn with_created_lines(page: &[u8]) {
    let mut hiding = openmetrics::CreatedParser::new(page);
    let mut plain = openmetrics::Parser::new(page);
    loop {
        let visible = hiding.next_entry();
        loop {
            match (&visible, plain.next_entry()) {
                (Ok(Some(Entry::Sample(shown))), Ok(Some(Entry::Sample(read)))) if shown.series == read.series => break,
                // a line that is hidden
                (Ok(_) | Err(_), Ok(Some(Entry::Sample(read)))) => {
                    assert!(String::from_utf8_lossy(read.series).contains("_created"), "{:?}", read.series);
                }
                (Ok(Some(shown)), Ok(Some(read))) => {
                    assert_eq!(*shown, read);
                    break;
                }
                (Ok(None), Ok(None)) => return,
                (Err(shown), Err(read)) => return assert_eq!(*shown, read),
                (shown, read) => panic!("{shown:?} is not {read:?}"),
            }
        }
    }
}

/// Reads a page to its end or first error. Every series has labels or is refused, every value is written as it was read.
fn read(format: FormatKind, page: &[u8]) -> u64 {
    let mut kinds = DefaultHasher::new();
    for classic_histograms in [false, true] {
        let options = ParseOptions { classic_histograms, ignore_native_histograms: false };
        let mut parser = Parser::new(format, page, options);
        let mut converter = NhcbConverter::new(format);
        // no page says more than it has bytes for
        for entries in 0.. {
            assert!(entries <= page.len() * 2, "a parser that does not come to an end");
            match parser.next_entry() {
                Ok(Some(entry)) => {
                    std::mem::discriminant(&entry).hash(&mut kinds);
                    check(&entry);
                    check_converted(converter.take(&entry).ended);
                }
                Ok(None) => {
                    check_converted(converter.finish());
                    break;
                }
                Err(error) => {
                    assert!(error.line > 0, "{error}");
                    kind_of(&error.to_string()).hash(&mut kinds);
                    break;
                }
            }
        }
    }
    write_and_read(format, page);
    kinds.finish()
}

fn check(entry: &Entry<'_>) {
    match entry {
        Entry::Sample(sample) => {
            if let Ok(labels) = labels_of(sample.series) {
                assert!(labels.iter().is_sorted_by(|a, b| a.0 < b.0), "{labels}");
                assert!(labels.iter().all(|(_, value)| !value.is_empty()), "{labels}");
            }
            if let Some(exemplar) = &sample.exemplar {
                let _ = labels_of_exemplar(exemplar.labels);
            }
            let mut text = String::new();
            push_value(sample.value, &mut text);
            let read = parse_value(text.as_bytes()).expect("our own text");
            assert!(read.to_bits() == sample.value.to_bits() || read.is_nan() && sample.value.is_nan(), "{text}");
        }
        Entry::Histogram(histogram) => {
            let _ = labels_of(histogram.series);
            for exemplar in &histogram.exemplars {
                let _ = labels_of_exemplar(exemplar.labels);
            }
        }
        Entry::Type { .. } | Entry::Help { .. } | Entry::Unit { .. } | Entry::Comment(_) => {}
    }
}

/// What classic series become is a histogram that holds together, under a name that can be read.
fn check_converted(ended: Option<ConvertedHistogram>) {
    let Some(ended) = ended else { return };
    let entry = ended.entry();
    let labels = labels_of(entry.series).expect("our own text");
    assert!(!labels.metric_name().is_empty() && labels.get("le").is_none(), "{labels}");
    let valid = match &entry.histogram {
        NativeHistogram::Integer(histogram) => histogram.validate(),
        NativeHistogram::Float(histogram) => histogram.validate(),
    };
    assert_eq!(valid, Ok(()), "{labels}");
}

/// A page with something of each kind, in each format.
fn pages(format: FormatKind) -> Vec<Vec<u8>> {
    let mut page = Page::new();
    page.counter("requests_total", "Requests.\nAll.", &[("code", "200"), ("path", "/a\"b\\c")], 1027.0);
    page.gauge("temperature", "", &[("r\u{f6}om", "x")], -0.5);
    page.untyped("some.thing", "dots", &[], f64::NAN);
    let exemplar =
        Exemplar { labels: vec![("trace_id".into(), "a".into())], value: 0.3, timestamp: Some(1_500_000_000_000) };
    let bucket = |upper_bound, cumulative_count, exemplar| ClassicBucket { upper_bound, cumulative_count, exemplar };
    let histogram = HistogramValue {
        buckets: vec![bucket(0.1, 3, None), bucket(1.0, 5, Some(exemplar.clone())), bucket(f64::INFINITY, 6, None)],
        count: 6,
        sum: 4.5,
        created: Some(1_400_000_000_000),
        native: Some(NativeHistogram::Integer(Histogram {
            count: 6,
            sum: 4.5,
            schema: 3,
            zero_threshold: 1e-9,
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
            positive_buckets: vec![1, 1, 1],
            ..Histogram::default()
        })),
        exemplars: vec![exemplar],
    };
    let family = page.family("latency_seconds", "Latency", MetricType::Histogram);
    page.histogram(family, &[("method", "GET")], histogram);
    let family = page.family("size_bytes", "Sizes", MetricType::Summary);
    let quantiles = vec![Quantile { quantile: 0.5, value: 10.0 }, Quantile { quantile: 0.99, value: f64::NAN }];
    page.summary(family, &[], SummaryValue { quantiles, count: 7, sum: 70.0, created: None });
    let whole = write(&page, format);
    // and its first half, which may end anywhere
    vec![whole[..whole.len() / 2].to_vec(), whole]
}

fn write(page: &Page, kind: FormatKind) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&page.families().0, Format { kind, escaping: EscapingScheme::AllowUtf8 }, &mut out);
    out
}

/// The float samples of a page by labels, the first of each series.
fn samples(format: FormatKind, page: &[u8]) -> BTreeMap<Labels, (u64, Option<i64>)> {
    let mut parser = Parser::new(format, page, ParseOptions::default());
    let mut found = BTreeMap::new();
    while let Ok(Some(entry)) = parser.next_entry() {
        if let Entry::Sample(sample) = entry
            && let Ok(labels) = labels_of(sample.series)
            && !labels.metric_name().is_empty()
            // the text format has no times before 1970, OpenMetrics has
            && sample.timestamp.is_none_or(|time| time >= 0)
        {
            found.entry(labels).or_insert((sample.value.to_bits(), sample.timestamp));
        }
    }
    found
}

/// What a page says, written by our encoder as untyped samples, says the same.
fn write_and_read(format: FormatKind, input: &[u8]) {
    let said = samples(format, input);
    let mut page = Page::new();
    for (labels, (value, timestamp)) in &said {
        let family = page.family(labels.metric_name(), "", MetricType::Unknown);
        let pairs: Vec<(&str, &str)> = labels.iter().filter(|(name, _)| *name != model::METRIC_NAME).collect();
        let value = f64::from_bits(*value);
        match timestamp {
            Some(time) => page.sample_at(family, &pairs, value, *time),
            None => page.sample(family, &pairs, value),
        }
    }
    let written = write(&page, FormatKind::Text1_0_0);
    let again = samples(FormatKind::Text1_0_0, &written);
    assert_eq!(said, again, "{}", String::from_utf8_lossy(&written));
}
