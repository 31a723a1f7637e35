//! What an encoder writes, the parser of the format reads back: the same series and values in every format.

use std::collections::BTreeMap;
use std::path::Path;

use common::exposition::{Entry, EscapingScheme, Format, FormatKind, ParseOptions, Parser, encode, labels_of};
use common::metrics::{ClassicBucket, HistogramValue, Page, Quantile, SummaryValue};
use model::MetricType;
use proptest::prelude::*;

type Samples = BTreeMap<String, (u64, Option<i64>)>;

fn samples(kind: FormatKind, page: &[u8]) -> Samples {
    let mut parser = Parser::new(kind, page, ParseOptions::default());
    let mut found = Samples::new();
    while let Some(entry) = parser.next_entry().unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(page))) {
        if let Entry::Sample(sample) = entry {
            let labels = labels_of(sample.series).expect("series of a page").to_string();
            // the text format writes whole numbers without a point
            let labels = labels.replace(".0\"", "\"");
            found.insert(labels, (sample.value.to_bits(), sample.timestamp));
        }
    }
    found
}

const KINDS: [FormatKind; 5] = [
    FormatKind::Text0_0_4,
    FormatKind::Text1_0_0,
    FormatKind::OpenMetrics0_0_1,
    FormatKind::OpenMetrics1_0_0,
    FormatKind::Protobuf,
];

fn encoded(page: &Page, kind: FormatKind) -> Vec<u8> {
    let (families, errors) = page.families();
    assert_eq!(errors, []);
    let mut out = Vec::new();
    encode(&families, Format { kind, escaping: EscapingScheme::AllowUtf8 }, &mut out);
    out
}

proptest! {
    #[test]
    fn every_format_reads_back(
        name in "[a-z_:][a-z0-9_:é. \"\\\\\n]{0,8}",
        help in "\\PC{0,10}[\n\\\\\"]{0,2}",
        label in "[a-z][a-z0-9.\"\\\\é]{0,5}".prop_filter("the histogram's own label", |label| label != "le"),
        values in proptest::collection::btree_map("\\PC{0,5}[\n\\\\\",{}]{0,3}", any::<f64>(), 1..6),
        timestamp in proptest::option::of(0i64..4_000_000_000_000),
    ) {
        let mut page = Page::new();
        let gauge = page.family(&format!("{name}g"), &help, MetricType::Gauge);
        let histogram = page.family(&format!("{name}h"), &help, MetricType::Histogram);
        let summary = page.family(&format!("{name}s"), &help, MetricType::Summary);
        for (value, number) in &values {
            let number = if number.is_nan() { f64::NAN } else { *number };
            let labels = [(label.as_str(), value.as_str())];
            match timestamp {
                Some(t) => page.sample_at(gauge, &labels, number, t),
                None => page.sample(gauge, &labels, number),
            }
            let buckets = vec![ClassicBucket { upper_bound: 0.5, cumulative_count: 1, exemplar: None }];
            page.histogram_at(histogram, &labels, HistogramValue { buckets, count: 2, sum: number, ..Default::default() }, timestamp);
            let quantiles = vec![Quantile { quantile: 0.9, value: number }];
            page.summary_at(summary, &labels, SummaryValue { quantiles, count: 2, sum: 1.5, created: None }, timestamp);
        }
        let reference = samples(KINDS[0], &encoded(&page, KINDS[0]));
        prop_assert_eq!(reference.len(), values.len() * 8);
        for kind in KINDS {
            let mut read = samples(kind, &encoded(&page, kind));
            if kind == FormatKind::Protobuf {
                // no difference there between the time 0 and none
                read.values_mut().for_each(|v| v.1 = v.1.or(timestamp.filter(|t| *t == 0)));
            }
            prop_assert_eq!(&read, &reference, "{:?}", kind);
        }
    }
}

/// The recorded pages of other exporters, where they are at hand.
#[test]
fn recorded_pages_are_read_to_their_end() {
    let Ok(folder) = std::env::var("FIREWATCH_CONFORMANCE") else {
        println!("skipped: FIREWATCH_CONFORMANCE names no folder with recorded pages");
        return;
    };
    for (file, kind) in [
        ("1histogram.om.txt", FormatKind::OpenMetrics1_0_0),
        ("alltypes.5mfs.om.txt", FormatKind::OpenMetrics1_0_0),
        ("alltypes.237mfs.nometa.prom.txt", FormatKind::Text0_0_4),
        ("alltypes.237mfs.prom.txt", FormatKind::Text0_0_4),
    ] {
        let page = std::fs::read(Path::new(&folder).join("exposition").join(file)).expect("a recorded page");
        let lines = page.split(|b| *b == b'\n').filter(|l| !l.is_empty() && l[0] != b'#').count();
        assert_eq!(samples(kind, &page).len(), lines, "{file}");
    }
}
