use std::path::{Path, PathBuf};

use model::{METRIC_NAME, Matcher, is_stale};
use tsdb::{Db, Options};

use super::super::start_times::StartTimes;
use super::super::target::{Settled, settle};
use super::*;
use crate::config::{Config, DiscoveryConfig, LoadOptions};

mod page_sequences;

struct Bench {
    store: Store,
    options: ScrapeOptions,
    ingest: Ingest,
    time: Timestamp,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(job: &str) -> Self {
        Self::with(job, ScrapeOptions::default(), 0)
    }

    fn with(job: &str, options: ScrapeOptions, out_of_order_window: i64) -> Self {
        let text = format!("scrape_configs: [{{job_name: j, static_configs: [{{targets: ['h:1']}}]{job}}}]");
        let config = Config::parse(&text, Path::new("p"), PathBuf::new(), LoadOptions::default()).unwrap();
        let config = Arc::new(config.scrape_configs[0].clone());
        let DiscoveryConfig::Static(groups) = &config.discovery[0] else { panic!("static targets") };
        let Ok(Settled::Kept(target)) = settle(&groups[0], &config).remove(0) else { panic!("a target") };
        let folder = tempfile::tempdir().unwrap();
        let settings = Options { background: false, out_of_order_window, ..Options::default() };
        let store = Store::new(Arc::new(Db::open(folder.path(), settings).unwrap()));
        let ingest = Ingest::new(config, Arc::from(target), options);
        Self { store, options, ingest, time: model::now_millis(), folder }
    }

    /// The server starts anew.
    fn restart(self) -> Self {
        let settings = self.store.db().unwrap().options().clone();
        self.store.db().unwrap().close().unwrap();
        let Self { store, options, ingest, time, folder } = self;
        drop(store);
        let store = Store::new(Arc::new(Db::open(folder.path(), settings).unwrap()));
        let ingest = Ingest::new(Arc::clone(&ingest.config), Arc::clone(&ingest.target), options);
        Self { store, options, ingest, time, folder }
    }

    fn scrape_as(&mut self, format: FormatKind, page: impl Into<Vec<u8>>) -> (Result<(), String>, Refusals) {
        self.time += 15_000;
        let page = Page { body: page.into().into(), format };
        let (result, refusals) = self.ingest.scrape(&self.store, self.time, Instant::now(), Ok(page));
        (result.map_err(|e| e.to_string()), refusals)
    }

    fn scrape(&mut self, page: &str) -> Result<(), String> {
        self.scrape_as(FormatKind::Text0_0_4, page).0
    }

    /// The samples of a metric: series without job and instance, and the values, `-` for a staleness marker.
    fn stored(&self, metric: &str) -> Vec<String> {
        let selection = self.store.db().unwrap().select(&[Matcher::equal(METRIC_NAME, metric)], 0, i64::MAX).unwrap();
        let samples = selection.read(0..selection.labels().len(), 0, i64::MAX).unwrap();
        let shown = |v: &f64| if is_stale(*v) { "-".to_owned() } else { v.to_string() };
        selection
            .labels()
            .iter()
            .zip(samples)
            .map(|(labels, samples)| {
                let labels = labels.filter(|name| !["job", "instance", METRIC_NAME].contains(&name));
                let floats = samples.floats.timestamps.iter().zip(samples.floats.values.iter().map(shown));
                let histograms = samples.histograms.values.iter().map(ToString::to_string);
                let mut values: Vec<_> = floats.chain(samples.histograms.timestamps.iter().zip(histograms)).collect();
                values.sort();
                let values: Vec<String> = values.into_iter().map(|(_, value)| value).collect();
                format!("{labels} {}", values.join(" "))
            })
            .collect()
    }
}

#[test]
fn lines_may_come_go_and_move() {
    let mut bench = Bench::new("");
    let head = "# HELP m Help.\n# TYPE m gauge\n";
    bench.scrape(&format!("{head}m{{i=\"1\"}} 1\nm{{i=\"2\"}} 2\nm{{i=\"3\"}} 3\n")).unwrap();
    bench.scrape(&format!("{head}m{{i=\"1\"}} 4\nm{{i=\"2\"}} 5\nm{{i=\"3\"}} 6\n")).unwrap();
    // one line goes, two swap, one is new
    bench.scrape(&format!("{head}m{{i=\"3\"}} 7\nm{{i=\"1\"}} 8\nm{{i=\"4\"}} 9\n")).unwrap();
    bench.scrape(&format!("{head}m{{i=\"3\"}} 10\nm{{i=\"1\"}} 11\nm{{i=\"4\"}} 12\n")).unwrap();
    assert_eq!(
        bench.stored("m"),
        [r#"{i="1"} 1 4 8 11"#, r#"{i="2"} 2 5 -"#, r#"{i="3"} 3 6 7 10"#, r#"{i="4"} 9 12"#]
    );
    assert_eq!(bench.stored("scrape_series_added"), ["{} 3 0 1 0"]);
    // the last lines of a page may go too
    bench.scrape(&format!("{head}m{{i=\"3\"}} 13\n")).unwrap();
    assert_eq!(bench.stored("m")[3], r#"{i="4"} 9 12 -"#);
    let metadata = bench.ingest.target.metadata.get("m").unwrap();
    assert_eq!((&*metadata.help, metadata.metric_type), ("Help.", model::MetricType::Gauge));
}

#[test]
fn a_failed_page_leaves_only_markers_and_its_report() {
    let mut bench = Bench::new("");
    bench.scrape("a 1\nb 2\n").unwrap();
    assert!(bench.scrape("a 3\nb two\n").unwrap_err().starts_with("line 2, column "));
    assert!(bench.scrape("a 3\nb two\n").is_err());
    bench.scrape("a 5\nb 6\n").unwrap();
    assert_eq!((bench.stored("a"), bench.stored("b")), (vec!["{} 1 - 5".to_owned()], vec!["{} 2 - 6".to_owned()]));
    assert_eq!(bench.stored("up"), ["{} 1 0 0 1"]);
    bench.ingest.end(&bench.store, bench.time + 1).unwrap();
    assert_eq!(
        (bench.stored("a"), bench.stored("up")),
        (vec!["{} 1 - 5 -".to_owned()], vec!["{} 1 0 0 1 -".to_owned()])
    );
}

#[test]
fn a_series_counts_once_in_a_page() {
    let mut bench = Bench::new("");
    for _ in 0..3 {
        let (result, refusals) = bench.scrape_as(FormatKind::Text0_0_4, "m{a=\"1\",b=\"2\"} 1\nm{b=\"2\",a=\"1\"} 9\n");
        assert_eq!((result, refusals.duplicate), (Ok(()), 1));
    }
    assert_eq!(bench.stored("m"), [r#"{a="1", b="2"} 1 1 1"#]);
    // the second line alone is as good as the first
    bench.scrape("m{b=\"2\",a=\"1\"} 9\n").unwrap();
    assert_eq!(bench.stored("m"), [r#"{a="1", b="2"} 1 1 1 9"#]);
}

#[test]
fn timestamps_may_come_and_go_with_a_series() {
    let mut bench = Bench::new("");
    let at = bench.time + 14_000;
    // several samples of a series, each with its time
    bench.scrape(&format!("a 1 {}\na 2 {at}\nb 3\n", at - 5000)).unwrap();
    bench.scrape("a 4\nb 5\n").unwrap();
    // now the series ends, as the last sample had no time of its own
    bench.scrape("b 6\n").unwrap();
    assert_eq!(bench.stored("a"), ["{} 1 2 4 -"]);
    assert_eq!(bench.stored("b"), ["{} 3 5 6"]);
    bench.scrape(&format!("a 7 {}\nb 8 {}\n", bench.time + 15_000, bench.time + 14_000)).unwrap();
    bench.scrape("").unwrap();
    assert_eq!(bench.stored("a"), ["{} 1 2 4 - 7"]);
}

#[test]
fn all_samples_of_a_page_are_counted() {
    let mut bench = Bench::new(
        ", sample_limit: 3, metric_relabel_configs: [{source_labels: [__name__], regex: drop, action: drop}]",
    );
    bench.scrape("a 1\na 2\nb 3\ndrop 4\n").unwrap();
    bench.scrape("a 1\nb 2\nc 3\nd 4\ndrop 5\ne 6\n").unwrap_err();
    bench.scrape("a 1\na{b=\"1\",b=\"2\"} 2\nb 3\n").unwrap_err();
    assert_eq!(bench.stored("scrape_samples_scraped"), ["{} 4 6 2"]);
    assert_eq!(bench.stored("scrape_samples_post_metric_relabeling"), ["{} 3 5 1"]);
    assert_eq!(bench.stored("scrape_series_added"), ["{} 2 1 0"]);
    assert_eq!(bench.stored("e"), [""; 0]);
}

#[test]
fn honoured_labels_may_be_empty() {
    for (job, expected) in [("", "j h:1"), (", honor_labels: true", "j ")] {
        let mut bench = Bench::new(job);
        bench.scrape("m{instance=\"\",a=\"b\"} 1\n").unwrap();
        let selection = bench.store.db().unwrap().select(&[Matcher::equal(METRIC_NAME, "m")], 0, i64::MAX).unwrap();
        let labels = &selection.labels()[0];
        assert_eq!(format!("{} {}", labels.value("job"), labels.value("instance")), expected);
    }
}

#[test]
fn dropped_series_are_scraped_and_not_kept() {
    let mut bench = Bench::new(", metric_relabel_configs: [{source_labels: [__name__], regex: secret, action: drop}]");
    bench.scrape("secret 1\nopen 2\n").unwrap();
    bench.scrape("secret 3\nopen 4\n").unwrap();
    assert_eq!((bench.stored("secret"), bench.stored("open")), (vec![], vec!["{} 2 4".to_owned()]));
    assert_eq!(bench.stored("scrape_samples_scraped"), ["{} 2 2"]);
    assert_eq!(bench.stored("scrape_samples_post_metric_relabeling"), ["{} 1 1"]);
}

#[test]
fn timestamps_of_the_page_are_kept_without_markers() {
    let mut bench = Bench::new("");
    let at = bench.time - 5_000;
    bench.scrape(&format!("m 1 {at}\nn 1\n")).unwrap();
    bench.scrape("n 2\n").unwrap();
    assert_eq!((bench.stored("m"), bench.stored("n")), (vec!["{} 1".to_owned()], vec!["{} 1 2".to_owned()]));
    let (_, refusals) = bench.scrape_as(FormatKind::Text0_0_4, format!("m 1 {}\n", bench.time + 3_600_000));
    assert_eq!(refusals.out_of_bounds, 1);
    let mut bench = Bench::new(", honor_timestamps: false");
    bench.scrape(&format!("m 1 {at}\n")).unwrap();
    bench.scrape("\n").unwrap();
    assert_eq!(bench.stored("m"), ["{} 1 -"]);
}

#[test]
fn exemplars_are_kept() {
    let mut bench = Bench::new("");
    let page = "# TYPE m counter\nm_total 1 # {trace_id=\"abc\"} 0.5\n# EOF\n";
    bench.scrape_as(FormatKind::OpenMetrics1_0_0, page).0.unwrap();
    let found = bench.store.db().unwrap().exemplars(&[vec![Matcher::equal(METRIC_NAME, "m_total")]], 0, i64::MAX);
    assert_eq!(found[0].1[0].labels.to_string(), r#"{trace_id="abc"}"#);
    assert_eq!((found[0].1[0].value, found[0].1[0].timestamp), (0.5, bench.time));
}

#[test]
fn names_must_be_valid() {
    let mut bench = Bench::new(", metric_name_validation_scheme: legacy");
    assert!(bench.scrape("{\"a.b\"} 1\n").unwrap_err().contains("invalid metric name or label names"));
    let mut bench = Bench::new("");
    bench.scrape("{\"a.b\"} 1\n").unwrap();
    assert_eq!(bench.stored("a.b"), ["{} 1"]);
}

#[test]
fn bounds_are_written_one_way_whatever_the_page_writes() {
    let mut bench = Bench::new("");
    let head = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n";
    let tail = "# TYPE s summary\ns{quantile=\"1\"} 3\n# TYPE g gauge\ng{le=\"1\"} 4\n";
    bench.scrape(&format!("{head}{tail}")).unwrap();
    bench.scrape(&format!("{head}{tail}")).unwrap();
    // a bucket that is new on a page whose first lines are the ones expected
    bench.scrape(&format!("{head}h_bucket{{le=\"2e0\"}} 2\n{tail}")).unwrap();
    assert_eq!(bench.stored("h_bucket"), [r#"{le="1.0"} 1 1 1"#, r#"{le="2.0"} 2"#]);
    assert_eq!(
        (bench.stored("s"), bench.stored("g")),
        (vec![r#"{quantile="1.0"} 3 3 3"#.to_owned()], vec![r#"{le="1"} 4 4 4"#.to_owned()])
    );
    // OpenMetrics writes the same series
    let page = "# TYPE h histogram\nh_bucket{le=\"1.0\"} 5\n# EOF\n";
    bench.scrape_as(FormatKind::OpenMetrics1_0_0, page).0.unwrap();
    assert_eq!(bench.stored("h_bucket")[0], r#"{le="1.0"} 1 1 1 5"#);
}

/// A page with one histogram and a gauge behind it.
fn histogram_page(one: u64, all: u64, gauge: u64) -> String {
    format!(
        "# HELP h Help.\n# TYPE h histogram\nh_bucket{{a=\"x\",le=\"1\"}} {one}\nh_bucket{{a=\"x\",le=\"+Inf\"}} {all}\nh_sum{{a=\"x\"}} 5\nh_count{{a=\"x\"}} {all}\n# TYPE g gauge\ng {gauge}\n"
    )
}

#[test]
fn classic_histograms_become_native_ones() {
    let mut bench = Bench::new(", convert_classic_histograms_to_nhcb: true");
    for (at, (one, all)) in [(1, 2), (1, 3), (2, 4)].into_iter().enumerate() {
        bench.scrape(&histogram_page(one, all, at as u64)).unwrap();
    }
    assert_eq!(
        bench.stored("h"),
        [
            r#"{a="x"} {count:2, sum:5, [-Inf,1]:1, (1,+Inf]:1} {count:3, sum:5, [-Inf,1]:1, (1,+Inf]:2} {count:4, sum:5, [-Inf,1]:2, (1,+Inf]:2}"#
        ]
    );
    assert!(bench.stored("h_bucket").is_empty() && bench.stored("h_count").is_empty());
    assert_eq!(bench.stored("g"), ["{} 0 1 2"]);
    assert_eq!(
        (bench.stored("scrape_samples_scraped"), bench.stored("scrape_series_added")),
        (vec!["{} 2 2 2".to_owned()], vec!["{} 2 0 0".to_owned()])
    );
    // it ends like any other series
    bench.scrape("# TYPE g gauge\ng 3\n").unwrap();
    assert_eq!(bench.stored("g"), ["{} 0 1 2 3"]);
    assert!(bench.stored("h")[0].ends_with("(1,+Inf]:2} -"), "{:?}", bench.stored("h"));
    let metadata = bench.ingest.target.metadata.get("h").unwrap();
    assert_eq!((&*metadata.help, metadata.metric_type), ("Help.", model::MetricType::Histogram));
}

#[test]
fn both_forms_of_a_histogram_are_kept_if_asked_for() {
    let options = ", convert_classic_histograms_to_nhcb: true, always_scrape_classic_histograms: true";
    let mut bench = Bench::new(options);
    bench.scrape(&histogram_page(1, 2, 0)).unwrap();
    bench.scrape(&histogram_page(1, 3, 0)).unwrap();
    assert_eq!(bench.stored("h").len(), 1);
    assert_eq!(bench.stored("h_bucket"), [r#"{a="x", le="+Inf"} 2 3"#, r#"{a="x", le="1.0"} 1 1"#]);
    assert_eq!(bench.stored("scrape_samples_scraped"), ["{} 6 6"]);
}

#[test]
fn of_a_histogram_in_pieces_the_first_counts() {
    let mut bench = Bench::new(", convert_classic_histograms_to_nhcb: true");
    let page = "# TYPE h histogram\nh_count{a=\"1\"} 1\nh_count{a=\"2\"} 2\nh_count{a=\"1\"} 3\n";
    for _ in 0..2 {
        let (result, refusals) = bench.scrape_as(FormatKind::Text0_0_4, page);
        assert_eq!((result, refusals.duplicate), (Ok(()), 1));
    }
    assert_eq!(
        bench.stored("h"),
        [
            r#"{a="1"} {count:1, sum:0, [-Inf,+Inf]:1} {count:1, sum:0, [-Inf,+Inf]:1}"#,
            r#"{a="2"} {count:2, sum:0, [-Inf,+Inf]:2} {count:2, sum:0, [-Inf,+Inf]:2}"#,
        ]
    );
}

#[test]
fn a_page_over_a_limit_is_counted_to_its_end() {
    let mut bench = Bench::new(", sample_limit: 2");
    bench.scrape("a 1\nb 2\na 1\n").unwrap();
    assert_eq!(bench.scrape("a 1\nb 2\nc 3\nd 4\n").unwrap_err(), "sample limit exceeded");
    assert_eq!((bench.stored("a"), bench.stored("c")), (vec!["{} 1 -".to_owned()], vec![]));
    assert_eq!(bench.stored("scrape_samples_scraped"), ["{} 3 4"]);
    assert_eq!(bench.stored("scrape_samples_post_metric_relabeling"), ["{} 3 4"]);
    assert_eq!(bench.stored("scrape_series_added"), ["{} 2 0"]);

    let mut bench = Bench::new(", convert_classic_histograms_to_nhcb: true, native_histogram_bucket_limit: 1");
    assert_eq!(bench.scrape(&histogram_page(1, 2, 7)).unwrap_err(), "histogram bucket limit exceeded");
    assert_eq!((bench.stored("h"), bench.stored("g")), (vec![], vec![]));
    assert_eq!(bench.stored("scrape_samples_scraped"), ["{} 2"]);
    bench.scrape(&histogram_page(2, 2, 7)).unwrap();
    assert_eq!(bench.stored("h"), [r#"{a="x"} {count:2, sum:5, [-Inf,1]:2}"#]);
}

/// Samples of a series with their times and starts, counted from `bench.time` at its beginning.
impl Bench {
    fn timed(&self, metric: &str, from: Timestamp) -> Vec<String> {
        let selection = self.store.db().unwrap().select(&[Matcher::equal(METRIC_NAME, metric)], 0, i64::MAX).unwrap();
        let samples = selection.read(0..selection.labels().len(), 0, i64::MAX).unwrap();
        let shown = |v: &f64| if is_stale(*v) { "-".to_owned() } else { v.to_string() };
        let mut all = Vec::new();
        for series in samples {
            let floats = series.floats.values.iter().map(shown).collect();
            let histograms = series.histograms.values.iter().map(ToString::to_string).collect();
            for (column, values) in [
                ((series.floats.timestamps, series.floats.start_timestamps), floats),
                ((series.histograms.timestamps, series.histograms.start_timestamps), histograms),
            ] {
                let ((times, starts), values): (_, Vec<String>) = (column, values);
                for (at, value) in values.iter().enumerate() {
                    let start = starts.as_ref().map_or(0, |s| s[at]);
                    let since = if start == 0 { String::new() } else { format!(" since {}", start - from) };
                    all.push(format!("{value} at {}{since}", times[at] - from));
                }
            }
        }
        all
    }

    fn open(&mut self, page: &str) {
        self.scrape_as(FormatKind::OpenMetrics1_0_0, page).0.unwrap();
    }
}

const ZEROS: StartTimes = StartTimes { zero_samples: true, stored: false };
const STARTS: StartTimes = StartTimes { zero_samples: false, stored: true };

fn with_starts(start_times: StartTimes, out_of_order_window: i64) -> Bench {
    let mut bench = Bench::with(
        ", scrape_native_histograms: true",
        ScrapeOptions { start_times, ..ScrapeOptions::default() },
        out_of_order_window,
    );
    // whole seconds, as OpenMetrics writes times
    bench.time -= bench.time % 1000;
    bench
}

fn counter_since(seconds: i64, value: u64) -> String {
    format!("# TYPE a counter\na_total {value}\na_created {seconds}\n# EOF\n")
}

#[test]
fn counters_begin_with_a_zero() {
    for window in [0, 600_000] {
        let mut bench = with_starts(ZEROS, window);
        let from = bench.time;
        let second = from / 1000;
        bench.open(&counter_since(second + 5, 1));
        bench.open(&counter_since(second + 5, 2));
        // it started again; once more, but before the last sample; in the future, and then not any more
        bench.open(&counter_since(second + 40, 3));
        bench.open(&counter_since(second + 44, 4));
        bench.open(&counter_since(second + 80, 5));
        bench.open(&counter_since(second + 80, 6));
        let mut bench = bench.restart();
        bench.open(&counter_since(second + 80, 7));
        let expected = ["0 at 5000", "1 at 15000", "2 at 30000", "0 at 40000", "3 at 45000", "4 at 60000"];
        let expected: Vec<_> =
            expected.into_iter().chain(["5 at 75000", "0 at 80000", "6 at 90000", "7 at 105000"]).collect();
        assert_eq!(bench.timed("a_total", from), expected, "with a window of {window} ms");
        assert!(bench.timed("a_created", from).is_empty());
        // a restart is no refusal of the page's samples
        assert_eq!(bench.timed("scrape_samples_scraped", from).len(), 7);
    }
}

#[test]
fn a_zero_is_tried_again_when_its_page_was_not_stored() {
    let mut bench = with_starts(ZEROS, 0);
    let (from, second) = (bench.time, bench.time / 1000);
    let broken = counter_since(second + 5, 1).replace("# EOF", "b{");
    bench.scrape_as(FormatKind::OpenMetrics1_0_0, broken).0.unwrap_err();
    bench.open(&counter_since(second + 5, 2));
    assert_eq!(bench.timed("a_total", from), ["0 at 5000", "2 at 30000"]);
}

#[test]
fn created_lines_are_samples_without_the_features() {
    let mut bench = Bench::new("");
    bench.open(&counter_since(5, 1));
    bench.open(&counter_since(5, 2));
    assert_eq!((bench.stored("a_total"), bench.stored("a_created")), (vec!["{} 1 2".into()], vec!["{} 5 5".into()]));
}

/// A protobuf page with a native histogram and a counter.
fn native_page(created: Timestamp, count: u64) -> Vec<u8> {
    use common::metrics::{HistogramValue, Page};
    let mut page = Page::new();
    let c = page.family("c_total", "", MetricType::Counter);
    page.counter_sample(c, &[], count as f64, None, Some(created));
    let h = page.family("h", "", MetricType::Histogram);
    let native = model::Histogram {
        schema: 3,
        zero_threshold: 0.25,
        count,
        sum: 1.0,
        positive_spans: vec![model::Span { offset: 0, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Default::default()
    };
    let native = Some(NativeHistogram::Integer(native));
    page.histogram(h, &[], HistogramValue { count, sum: 1.0, native, created: Some(created), ..Default::default() });
    let mut out = Vec::new();
    protobuf::encode(&page.families().0, common::exposition::EscapingScheme::AllowUtf8, &mut out);
    out
}

#[test]
fn histograms_begin_empty() {
    let mut bench = with_starts(ZEROS, 0);
    let from = bench.time;
    for (created, count) in [(1, 1), (1, 2), (40_000, 1)] {
        bench.scrape_as(FormatKind::Protobuf, native_page(from + created, count)).0.unwrap();
    }
    let one = "{count:1, sum:1, (0.9170040432046711,1]:1} at";
    assert_eq!(
        bench.timed("h", from),
        [
            "{count:0, sum:0} at 1".to_owned(),
            format!("{one} 15000"),
            "{count:2, sum:1, (0.9170040432046711,1]:2} at 30000".to_owned(),
            "{count:0, sum:0} at 40000".to_owned(),
            format!("{one} 45000"),
        ]
    );
    assert_eq!(bench.timed("c_total", from).len(), 5);
}

#[test]
fn converted_histograms_begin_empty_too() {
    let options = ScrapeOptions { start_times: ZEROS, ..ScrapeOptions::default() };
    let mut bench = Bench::with(", convert_classic_histograms_to_nhcb: true", options, 0);
    let (from, seconds) = (bench.time, (bench.time + 1000) / 1000);
    let page = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_created";
    bench.open(&format!("{page} {seconds}\n# EOF\n"));
    let samples = bench.timed("h", from);
    assert_eq!((samples.len(), samples[0].starts_with("{count:0, sum:0} at ")), (2, true), "{samples:?}");
    assert!(bench.timed("h_created", from).is_empty());
}

#[test]
fn samples_are_stored_with_their_starts() {
    let mut bench = with_starts(STARTS, 0);
    let (from, second) = (bench.time, bench.time / 1000);
    bench.open(&counter_since(second + 5, 1));
    let timed =
        format!("# TYPE b gauge\nb 1\n# TYPE a counter\na_total 2 {}\na_created {second}\n# EOF\n", second + 20);
    bench.open(&timed);
    bench.scrape_as(FormatKind::Protobuf, native_page(from + 1, 1)).0.unwrap();
    let bench = bench.restart();
    assert_eq!(bench.timed("a_total", from)[..2], ["1 at 15000 since 5000", "2 at 20000 since 0"]);
    assert_eq!(bench.timed("b", from)[0], "1 at 30000");
    assert_eq!(bench.timed("h", from), ["{count:1, sum:1, (0.9170040432046711,1]:1} at 45000 since 1"]);
    assert_eq!(bench.timed("c_total", from), ["1 at 45000 since 1"]);
}

#[test]
fn series_may_have_their_type_and_unit() {
    let options = ScrapeOptions { type_and_unit_labels: true, ..ScrapeOptions::default() };
    let mut bench = Bench::with("", options, 0);
    let gauge = "# TYPE b_bytes gauge\n# UNIT b_bytes bytes\nb_bytes 1\n";
    let page = |a: &str| {
        format!(
            "# TYPE a {a}\na{{x=\"1\",__unit__=\"own\"}} 1\n{gauge}# TYPE c unknown\nc{{__type__=\"own\"}} 1\n# EOF\n"
        )
    };
    for a in ["gauge", "gauge", "info", "info"] {
        bench.open(&page(a));
    }
    assert_eq!(
        bench.stored("a"),
        [r#"{__type__="gauge", __unit__="own", x="1"} 1 1 -"#, r#"{__type__="info", __unit__="own", x="1"} 1 1"#]
    );
    assert_eq!(bench.stored("b_bytes"), [r#"{__type__="gauge", __unit__="bytes"} 1 1 1 1"#]);
    assert_eq!(bench.stored("c"), [r#"{__type__="own"} 1 1 1 1"#]);
    // in protobuf too, where no line tells that the type is another
    for (kind, counter) in [(MetricType::Gauge, false), (MetricType::Gauge, false), (MetricType::Counter, true)] {
        let mut page = common::metrics::Page::new();
        let family = page.family_with_unit("p", "", "seconds", kind);
        if counter {
            page.counter_sample(family, &[], 1.0, None, None);
        } else {
            page.sample(family, &[], 1.0);
        }
        let mut out = Vec::new();
        protobuf::encode(&page.families().0, common::exposition::EscapingScheme::AllowUtf8, &mut out);
        bench.scrape_as(FormatKind::Protobuf, out).0.unwrap();
    }
    let unit = r#"__unit__="seconds"}"#;
    assert_eq!(
        bench.stored("p"),
        [format!(r#"{{__type__="counter", {unit} 1"#), format!(r#"{{__type__="gauge", {unit} 1 1 -"#)]
    );
}
