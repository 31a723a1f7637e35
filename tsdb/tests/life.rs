//! Samples from the commit to the block: appended, read, killed, cut, merged, deleted.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use model::{FloatHistogram, Labels, MatchOp, Matcher, Metadata, MetricType};
use tsdb::{
    AppendError, Appender, Db, Exemplar, HistogramSample, Lent, Newest, NewestAt, OpenError, Options, Selection,
    SeriesRef, SeriesSamples,
};

#[path = "shared/copy.rs"]
mod copy;
#[path = "shared/numbers.rs"]
mod numbers;
#[path = "shared/scratch.rs"]
mod scratch;
use copy::copy;
use numbers::Numbers;
use scratch::scratch;

const HOUR: i64 = 3_600_000;

fn options() -> Options {
    Options { background: false, ..Options::default() }
}

fn open(dir: &Path) -> Db {
    Db::open(dir, options()).unwrap()
}

fn labels(name: &str, instance: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("instance", instance)])
}

fn append(db: &Db, name: &str, instance: &str, samples: &[(i64, f64)]) {
    let mut appender = db.appender();
    let series = appender.series(&labels(name, instance)).unwrap();
    for (t, v) in samples {
        appender.append(series, *t, *v).unwrap();
    }
    appender.commit().unwrap();
}

/// Series are the same one after the other, until they are not wanted any more.
fn check_each(selection: &Selection, samples: &[SeriesSamples], (min, max): (i64, i64)) {
    for wanted in [samples.len(), 1] {
        let mut each = Vec::new();
        let mut take = |series| {
            each.push(series);
            each.len() < wanted
        };
        selection.read_each(0..samples.len(), min, max, &mut take).unwrap();
        assert_eq!(format!("{each:?}"), format!("{:?}", &samples[..wanted.min(samples.len())]));
    }
}

/// All samples of all series as text, one line each.
fn dump(db: &Db, matchers: &[Matcher], min: i64, max: i64) -> Vec<String> {
    let selection = db.select(matchers, min, max).unwrap();
    assert_eq!(selection.warnings(), &[] as &[String]);
    let samples = selection.read(0..selection.labels().len(), min, max).unwrap();
    check_each(&selection, &samples, (min, max));
    check_newest(&selection, &samples, (min, max));
    check_newest_at(&selection, (min, max));
    selection
        .labels()
        .iter()
        .zip(samples)
        .map(|(labels, s)| {
            let floats: Vec<String> =
                s.floats.timestamps.iter().zip(&s.floats.values).map(|(t, v)| format!("{t}={v}")).collect();
            let histograms: Vec<String> = s
                .histograms
                .timestamps
                .iter()
                .zip(&s.histograms.values)
                .map(|(t, h)| format!("{t}=h{}", h.count))
                .collect();
            format!("{}@{} {}", labels.metric_name(), labels.value("instance"), [floats, histograms].concat().join(" "))
        })
        .collect()
}

/// The newest samples are the last of those that are read, in any part of the range.
fn check_newest(selection: &Selection, samples: &[SeriesSamples], (min, max): (i64, i64)) {
    let times = || samples.iter().flat_map(|s| s.floats.timestamps.iter().chain(&*s.histograms.timestamps)).copied();
    let (first, last) = (times().min().unwrap_or(min), times().max().unwrap_or(max));
    let middle = first + (last - first) / 2;
    for range in [(min, max), (min, middle), (middle, max), (middle - HOUR / 2, middle), (last, last), (first, first)] {
        if range.0 < min || range.1 > max {
            continue;
        }
        let newest = selection.newest(0..samples.len(), range.0, range.1).unwrap();
        for (series, newest) in samples.iter().zip(newest) {
            let latest = |times: &[i64]| times[..times.partition_point(|t| *t <= range.1)].len().checked_sub(1);
            let time = |times: &[i64]| latest(times).map(|at| times[at]).filter(|time| *time >= range.0);
            let (float, histogram) = (time(&series.floats.timestamps), time(&series.histograms.timestamps));
            let at = |times: &[i64]| latest(times).unwrap_or_default();
            match newest {
                Newest::None => assert_eq!((float, histogram), (None, None), "{range:?}"),
                Newest::Float(value) => {
                    assert!(float > histogram, "{range:?}");
                    let expected = series.floats.values[at(&series.floats.timestamps)];
                    assert_eq!(value.to_bits(), expected.to_bits(), "{range:?}");
                }
                Newest::Histogram(value) => {
                    assert!(histogram > float, "{range:?}");
                    assert_eq!(value.count, series.histograms.values[at(&series.histograms.timestamps)].count);
                }
            }
        }
    }
}

/// The newest samples at some times are those of a search for each in what is read.
fn check_newest_at(selection: &Selection, (min, max): (i64, i64)) {
    let interval = (max.min(100 * HOUR) - min.max(-HOUR)) / 8;
    for (start, range) in [(min.max(-HOUR) + 70_001, 70_000), (min.max(-HOUR) + 10 * HOUR, 9 * HOUR)] {
        let at = NewestAt { start, interval, count: 6, offset: 0, range };
        let (from, to) = at.span();
        if from < min || to > max {
            continue;
        }
        let samples = selection.read(0..selection.len(), from, to).unwrap();
        let mut expected = samples.iter();
        let mut check = |lent: Lent<'_, Arc<FloatHistogram>>| {
            let series = expected.next().unwrap();
            match lent {
                Lent::Samples(floats, histograms) => {
                    assert_eq!(floats.timestamps, &*series.floats.timestamps);
                    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(floats.values), bits(&series.floats.values));
                    assert_eq!(histograms.map_or(0, |h| h.len()), series.histograms.len());
                }
                Lent::Newest(values) => {
                    assert_eq!((values.len(), series.histograms.len()), (at.count, 0));
                    for (step, value) in values.iter().enumerate() {
                        let behind = series.floats.timestamps.partition_point(|t| *t <= at.time(step));
                        let newest =
                            behind.checked_sub(1).filter(|n| series.floats.timestamps[*n] > at.time(step) - range);
                        let expected = newest.map_or(model::STALE_NAN, |n| series.floats.values[n]);
                        assert_eq!(value.to_bits(), expected.to_bits(), "{at:?} {step}");
                    }
                }
            }
            true
        };
        selection.newest_at(0..samples.len(), at, &mut check).unwrap();
        assert!(expected.next().is_none());
    }
}

fn all(db: &Db) -> Vec<String> {
    dump(db, &[], i64::MIN, i64::MAX)
}

#[test]
fn commits_are_visible_whole_or_not_at_all() {
    let dir = scratch();
    let db = open(dir.path());
    let mut appender = db.appender();
    let a = appender.series(&labels("a", "1")).unwrap();
    appender.append(a, 1000, 1.0).unwrap();
    assert_eq!(all(&db), [""; 0]);
    drop(appender);
    assert_eq!(all(&db), [""; 0], "dropped is rolled back");
    append(&db, "b", "1", &[(1000, 2.0), (2000, -0.0)]);
    append(&db, "a", "1", &[(1000, f64::NAN)]);
    assert_eq!(all(&db), ["a@1 1000=NaN", "b@1 1000=2 2000=-0"]);
    assert_eq!(dump(&db, &[], 1500, 9000), ["b@1 2000=-0"]);
}

#[test]
fn acknowledged_samples_survive_a_kill() {
    let dir = scratch();
    let db = open(&dir.path().join("a"));
    let names: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    let mut refs: Vec<SeriesRef> = Vec::new();
    for round in 0..200i64 {
        let mut appender = db.appender();
        if refs.is_empty() {
            refs = names.iter().map(|n| appender.series(&labels("m", n)).unwrap()).collect();
        }
        let values: Vec<f64> = (0..50).map(|i| (round * i) as f64 / 4.0).collect();
        assert_eq!(appender.append_row(round * 15_000, &refs, &values).refused, []);
        assert_eq!(appender.commit().unwrap().floats, 50);
    }
    let mut appender = db.appender();
    let h = appender.series(&labels("h", "1")).unwrap();
    let histogram = FloatHistogram { count: 7.0, ..FloatHistogram::default() };
    appender.append_histogram(h, 5000, HistogramSample::Float(Arc::new(histogram))).unwrap();
    appender.commit().unwrap();
    let before = all(&db);
    assert_eq!(before.len(), 51);
    assert!(before[0].ends_with("5000=h7"), "{}", before[0]);
    assert_eq!(before[1].split(' ').count(), 201);
    copy(&dir.path().join("a"), &dir.path().join("b"));
    std::mem::forget(db);
    let db = open(&dir.path().join("b"));
    assert_eq!(all(&db), before);
    // and again, with the numbers the series had
    append(&db, "m", "0", &[(200 * 15_000, 1.0)]);
    append(&db, "new", "0", &[(200 * 15_000, 1.0)]);
    let before = all(&db);
    drop(db);
    assert_eq!(all(&open(&dir.path().join("b"))), before);
}

#[test]
fn series_of_one_scrape_share_their_timestamps() {
    let dir = scratch();
    let db = open(dir.path());
    let mut refs = Vec::new();
    for round in 0..150i64 {
        let mut appender = db.appender();
        if refs.is_empty() {
            refs = ["a", "b", "c"].map(|n| appender.series(&labels(n, "1")).unwrap()).to_vec();
        }
        appender.append_row(round * 1000 + round % 3, &refs, &[1.0, round as f64, 0.5]);
        appender.commit().unwrap();
    }
    for (min, max) in [(0, 1_000_000), (5000, 140_000), (149_000, 149_010)] {
        let selection = db.select(&[], min, max).unwrap();
        let first = selection.read(0..1, min, max).unwrap().remove(0);
        for other in selection.read(1..3, min, max).unwrap() {
            assert!(Arc::ptr_eq(&first.floats.timestamps, &other.floats.timestamps));
        }
        assert_eq!(first.floats.timestamps.len(), first.floats.values.len());
    }
}

#[test]
fn only_one_writer() {
    let dir = scratch();
    let db = open(dir.path());
    assert!(matches!(Db::open(dir.path(), options()), Err(OpenError::Locked(_))));
    drop(db);
    open(dir.path());
}

/// Appends to a series that has (100 h: 1) in a head whose newest sample is at 101 h.
#[test]
fn samples_are_refused_by_the_rules() {
    let check = |window: i64, t: i64, v: f64, expected: Result<(), &str>| {
        let dir = scratch();
        let db = Db::open(dir.path(), Options { out_of_order_window: window, ..options() }).unwrap();
        append(&db, "a", "1", &[(100 * HOUR, 1.0)]);
        append(&db, "b", "1", &[(101 * HOUR, 1.0)]);
        let mut appender = db.appender();
        let a = appender.series(&labels("a", "1")).unwrap();
        let got = appender.append(a, t, v).map_err(|e| e.to_string());
        assert_eq!(got, expected.map_err(str::to_owned), "window {window}, time {t}, value {v}");
        appender.commit().unwrap();
        let stored = dump(&db, &[Matcher::equal("__name__", "a")], t, t);
        assert_eq!(stored.len(), usize::from(expected.is_ok()), "{stored:?}");
    };
    check(0, 100 * HOUR + 1, 2.0, Ok(()));
    check(0, 100 * HOUR, 1.0, Ok(()));
    let mut appender_error = String::new();
    {
        let dir = scratch();
        let db = open(dir.path());
        append(&db, "a", "1", &[(100, 1.0)]);
        let mut appender = db.appender();
        let a = appender.series(&labels("a", "1")).unwrap();
        if let Err(error) = appender.append(a, 100, 2.0) {
            appender_error = error.to_string();
        }
        assert_eq!(appender.append(SeriesRef(99), 100, 1.0), Err(AppendError::UnknownSeries(SeriesRef(99))));
        assert_eq!(appender.series(&Labels::empty()), Err(AppendError::EmptyLabels));
        assert_eq!(db.metrics().duplicates_refused, 1);
    }
    assert!(
        appender_error.starts_with("duplicate sample for timestamp 100; overrides not allowed"),
        "{appender_error}"
    );
    check(0, 100 * HOUR - 1, 2.0, Err("out of bounds"));
    let dir = scratch();
    let db = open(dir.path());
    append(&db, "a", "1", &[(100 * HOUR, 1.0), (100 * HOUR + 10, 1.0)]);
    let mut appender = db.appender();
    let a = appender.series(&labels("a", "1")).unwrap();
    assert_eq!(appender.append(a, 100 * HOUR + 5, 2.0), Err(AppendError::OutOfOrder));
    check(2 * HOUR, 100 * HOUR - 1, 2.0, Ok(()));
    check(2 * HOUR, 99 * HOUR, 2.0, Ok(()));
    check(2 * HOUR, 99 * HOUR - 1, 2.0, Err("too old sample"));
}

#[test]
fn a_changing_page_keeps_its_series() {
    let dir = scratch();
    let db = open(dir.path());
    let mut expected: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for round in 0..400i64 {
        // some come, some go, and the order turns
        let mut names: Vec<i64> = (0..40).filter(|i| (round / 7 + i) % 5 != 0).collect();
        if round % 50 > 25 {
            names.reverse();
        }
        names.push(1000 + round / 30);
        let mut appender = db.appender();
        let refs: Vec<SeriesRef> =
            names.iter().map(|n| appender.series(&labels("m", &format!("{n:04}"))).unwrap()).collect();
        let values: Vec<f64> = names.iter().map(|n| (n * round) as f64).collect();
        assert_eq!(appender.append_row(round * 1000, &refs, &values).refused, []);
        appender.commit().unwrap();
        for (name, value) in names.iter().zip(&values) {
            expected.entry(format!("m@{name:04}")).or_default().push(format!("{}={value}", round * 1000));
        }
    }
    let expected: Vec<String> = expected.into_iter().map(|(name, s)| format!("{name} {}", s.join(" "))).collect();
    assert_eq!(all(&db), expected);
}

fn fill(db: &Db, hours: std::ops::Range<i64>) {
    for minute in hours.start * 60..hours.end * 60 {
        let mut appender = db.appender();
        let refs = ["a", "b", "c"].map(|n| appender.series(&labels(n, "1")).unwrap());
        appender.append_row(minute * 60_000, &refs, &[minute as f64, 1.0, minute as f64 / 10.0]);
        appender.commit().unwrap();
    }
}

#[test]
fn blocks_are_cut_merged_and_deleted() {
    let dir = scratch();
    let options = Options { retention_duration: Some(24 * HOUR), ..options() };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    fill(&db, 0..3);
    db.maintain().unwrap();
    assert_eq!(db.blocks().len(), 0, "not yet one and a half ranges");
    fill(&db, 3..4);
    let before = all(&db);
    db.maintain().unwrap();
    let ranges = |db: &Db| db.blocks().iter().map(|b| (b.min_time / HOUR, b.max_time / HOUR)).collect::<Vec<_>>();
    assert_eq!(ranges(&db), [(0, 2)]);
    assert_eq!(all(&db), before);
    assert_eq!(db.metrics().head_min_time, 2 * HOUR);
    fill(&db, 4..12);
    let before = all(&db);
    db.maintain().unwrap();
    assert_eq!(ranges(&db), [(0, 6), (6, 8), (8, 10)]);
    assert_eq!(db.blocks()[0].compaction.level, 2);
    assert_eq!(db.blocks()[0].stats.num_samples, 3 * 360);
    assert_eq!(all(&db), before);
    drop(db);
    let db = Db::open(dir.path(), options).unwrap();
    assert_eq!(all(&db), before);
    assert_eq!(dump(&db, &[Matcher::equal("__name__", "a")], HOUR, HOUR + 60_000), ["a@1 3600000=60 3660000=61"]);
    fill(&db, 12..40);
    db.maintain().unwrap();
    assert!(ranges(&db)[0].0 > 0, "{:?}", ranges(&db));
    assert!(db.metrics().time_retentions > 0);
    let segments = fs::read_dir(dir.path().join("firewatch/wal")).unwrap().count();
    assert!(segments <= 3, "{segments} files in the log");
    let before = all(&db);
    drop(db);
    assert_eq!(all(&open(dir.path())), before);
}

#[test]
fn a_block_that_will_be_merged_costs_little_effort() {
    let bytes = |compaction: bool, hours: i64| -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options { compaction, ..options() }).unwrap();
        let mut numbers = Numbers(1);
        let values: Vec<(i64, f64)> = (0..hours * 240)
            .map(|at| {
                let state = numbers.next();
                // mostly small, now and then large: what takes some effort
                let value = if state >> 60 == 0 { state >> 40 } else { state >> 61 };
                (at * 15_000, value as f64)
            })
            .collect();
        append(&db, "noise", "a", &values);
        let before = all(&db);
        db.maintain().unwrap();
        assert_eq!(all(&db), before);
        db.blocks().iter().map(|block| fs::metadata(db_path(dir.path(), &block.ulid.to_string())).unwrap().len()).sum()
    };
    let (hasty, thorough) = (bytes(true, 4), bytes(false, 4));
    assert!(hasty > thorough * 5 / 4, "{hasty} {thorough}");
    // three merged ones and another: were they merged hastily, they would take as much as four
    let merged = bytes(true, 10);
    assert!(merged < hasty * 3, "{merged} {hasty} {thorough}");
}

fn db_path(dir: &Path, block: &str) -> std::path::PathBuf {
    dir.join("firewatch/blocks").join(block).join("data")
}

#[test]
fn series_that_end_leave_the_head_and_come_back() {
    let dir = scratch();
    let db = open(dir.path());
    let mut appender = db.appender();
    let old = appender.series(&labels("old", "1")).unwrap();
    appender.append(old, 60_000, 1.0).unwrap();
    appender.commit().unwrap();
    fill(&db, 0..6);
    let mut holder = db.appender();
    holder.series(&labels("fresh", "1")).unwrap();
    db.maintain().unwrap();
    assert_eq!(db.metrics().head_series, 4, "a, b, c and the one just asked for");
    drop(holder);
    let mut appender = db.appender();
    assert_eq!(appender.append(old, 6 * HOUR, 1.0), Err(AppendError::UnknownSeries(old)));
    let report = appender.append_row(6 * HOUR, &[old], &[1.0]);
    assert_eq!(report.refused, [(0, AppendError::UnknownSeries(old))]);
    let again = appender.series(&labels("old", "1")).unwrap();
    appender.append(again, 6 * HOUR, 5.0).unwrap();
    appender.commit().unwrap();
    let old = |db: &Db| dump(db, &[Matcher::equal("__name__", "old")], 0, i64::MAX);
    assert_eq!(old(&db), ["old@1 60000=1 21600000=5"]);
    drop(db);
    assert_eq!(old(&open(dir.path())), ["old@1 60000=1 21600000=5"]);
}

#[test]
fn deleted_samples_are_gone_from_queries_then_from_disk() {
    let dir = scratch();
    let db = open(dir.path());
    fill(&db, 0..4);
    db.maintain().unwrap();
    let a = [Matcher::equal("__name__", "a")];
    db.delete(&a, HOUR, 3 * HOUR).unwrap();
    let expected = |db: &Db| {
        let line = dump(db, &a, 0, i64::MAX).remove(0);
        assert_eq!(line.split(' ').count(), 1 + 60 + 59);
        assert!(!line.contains(" 3600000=") && !line.contains(" 10800000=") && line.contains(" 10860000="));
        assert_eq!(dump(db, &[Matcher::equal("__name__", "b")], 0, i64::MAX)[0].split(' ').count(), 241);
    };
    expected(&db);
    assert_eq!(db.blocks()[0].stats.num_tombstones, 1);
    drop(db);
    let db = open(dir.path());
    expected(&db);
    db.clean_tombstones().unwrap();
    assert_eq!(db.blocks()[0].stats.num_tombstones, 0);
    assert_eq!(db.blocks()[0].stats.num_samples, 60 + 120 + 120);
    expected(&db);
    append(&db, "a", "1", &[(5 * HOUR, 1.0)]);
    db.delete(&a, 5 * HOUR, i64::MAX).unwrap();
    append(&db, "a", "1", &[(5 * HOUR + 1, 1.0)]);
    assert_eq!(dump(&db, &a, 5 * HOUR, i64::MAX), ["a@1 18000001=1"], "what comes later is not deleted");
}

#[test]
fn late_samples_are_merged_wherever_they_are() {
    let dir = scratch();
    let options = Options { out_of_order_window: 24 * HOUR, ..options() };
    let db = Db::open(dir.path().join("live"), options.clone()).unwrap();
    fill(&db, 10..12);
    append(&db, "a", "1", &[(10 * HOUR + 30, -1.0), (10 * HOUR + 60_000, -2.0), (HOUR, -3.0)]);
    append(&db, "z", "1", &[(5 * HOUR, 9.0)]);
    let late = dump(&db, &[Matcher::equal("__name__", "a")], 0, 10 * HOUR + 60_000);
    assert_eq!(
        late,
        ["a@1 3600000=-3 36000000=600 36000030=-1 36060000=-2"].map(|l| l.replace("36060000=-2", "36060000=601"))
    );
    fill(&db, 12..16);
    let before = all(&db);
    let check = |db: &Db| assert_eq!(all(db), before);
    copy(&dir.path().join("live"), &dir.path().join("killed"));
    check(&Db::open(dir.path().join("killed"), options.clone()).unwrap());
    db.maintain().unwrap();
    check(&db);
    assert_eq!(db.blocks()[0].min_time, 0, "late samples are written apart and merged");
    append(&db, "z", "1", &[(6 * HOUR, 9.5)]);
    let before = all(&db);
    copy(&dir.path().join("live"), &dir.path().join("again"));
    let killed = Db::open(dir.path().join("again"), options.clone()).unwrap();
    assert_eq!(all(&killed), before);
    killed.maintain().unwrap();
    assert_eq!(all(&killed), before);
    drop(killed);
    assert_eq!(all(&Db::open(dir.path().join("again"), options).unwrap()), before);
}

#[test]
fn names_and_values_come_from_head_and_blocks() {
    let dir = scratch();
    let db = open(dir.path());
    append(&db, "gone", "x", &[(0, 1.0)]);
    fill(&db, 0..4);
    db.maintain().unwrap();
    let values = |name, matchers: &[Matcher], min, max| db.label_values(name, matchers, min, max, None).unwrap().values;
    assert_eq!(values("__name__", &[], 0, i64::MAX), ["a", "b", "c", "gone"]);
    assert_eq!(values("__name__", &[], 3 * HOUR, i64::MAX), ["a", "b", "c"]);
    let regex = [Matcher::new(MatchOp::Regex, "instance", "x|y").unwrap()];
    assert_eq!(values("__name__", &regex, 0, i64::MAX), ["gone"]);
    let names = db.label_names(&[], 0, i64::MAX, Some(1)).unwrap();
    assert!(names.values == ["__name__"] && names.truncated, "{names:?}");
    let status = db.status(2);
    assert_eq!((status.num_series, status.num_label_pairs), (3, 4));
    assert_eq!(status.series_count_by_label_value_pair[0].name, "instance=1");
}

#[test]
fn a_snapshot_is_a_database() {
    let dir = scratch();
    let db = open(dir.path());
    fill(&db, 0..4);
    db.maintain().unwrap();
    db.snapshot(dir.path().join("snap"), true).unwrap();
    assert_eq!(all(&open(&dir.path().join("snap"))), all(&db));
    db.snapshot(dir.path().join("blocks"), false).unwrap();
    assert_eq!(dump(&open(&dir.path().join("blocks")), &[], 0, i64::MAX), dump(&db, &[], 0, 2 * HOUR - 1));
}

#[test]
fn after_close_nothing_is_taken() {
    let dir = scratch();
    let db = open(dir.path());
    fill(&db, 0..1);
    db.close().unwrap();
    let mut appender = db.appender();
    let a = appender.series(&labels("a", "1")).unwrap();
    appender.append(a, 2 * HOUR, 1.0).unwrap();
    assert!(matches!(appender.commit(), Err(tsdb::CommitError::Closed)));
    assert_eq!(all(&db).len(), 3);
}

#[test]
fn start_timestamps_exemplars_and_metadata_are_kept() {
    let dir = scratch();
    let db = open(dir.path());
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "t")]), value: 0.5, timestamp: 7 };
    let metadata = Metadata { metric_type: MetricType::Counter, help: "What.".into(), unit: "".into() };
    for minute in 0..4 * 60i64 {
        let mut appender = db.appender();
        let a = appender.series(&labels("a", "1")).unwrap();
        let b = appender.series(&labels("b", "1")).unwrap();
        let h = appender.series(&labels("h", "1")).unwrap();
        let time = minute * 60_000;
        let start = if minute < 100 { 0 } else { time - 5 };
        appender.append_with_start(a, start, time, minute as f64).unwrap();
        appender.append(b, time, 1.0).unwrap();
        let histogram = FloatHistogram { count: minute as f64, ..FloatHistogram::default() };
        appender.append_histogram_with_start(h, time - 1, time, HistogramSample::Float(Arc::new(histogram))).unwrap();
        if minute == 0 {
            appender.append_exemplar(a, exemplar.clone()).unwrap();
            appender.set_metadata(a, metadata.clone()).unwrap();
        }
        appender.commit().unwrap();
    }
    let check = |db: &Db| {
        let selection = db.select(&[], 0, i64::MAX).unwrap();
        let all = selection.read(0..3, 0, i64::MAX).unwrap();
        let starts = all[0].floats.start_timestamps.clone().unwrap();
        assert_eq!((starts.len(), starts[99], starts[100], starts[239]), (240, 0, 5_999_995, 239 * 60_000 - 5));
        assert_eq!(all[1].floats.start_timestamps, None);
        assert!(Arc::ptr_eq(&all[0].floats.timestamps, &all[1].floats.timestamps));
        assert_eq!(all[2].histograms.start_timestamps.as_ref().unwrap()[7], 7 * 60_000 - 1);
        let found = db.exemplars(&[vec![Matcher::equal("__name__", "a")]], 0, 10);
        assert_eq!(found, [(labels("a", "1"), vec![exemplar.clone()])]);
        assert_eq!(db.metadata(&labels("a", "1")), Some(metadata.clone()));
    };
    check(&db);
    drop(db);
    let db = open(dir.path());
    check(&db);
    db.maintain().unwrap();
    assert_eq!(db.blocks().len(), 1);
    check(&db);
}

#[test]
fn size_retention_deletes_the_oldest_blocks() {
    let dir = scratch();
    let options = Options { retention_size: Some(1), compaction: false, ..options() };
    let db = Db::open(dir.path(), options).unwrap();
    fill(&db, 0..8);
    db.maintain().unwrap();
    assert_eq!(db.blocks(), []);
    assert_eq!(db.metrics().size_retentions, 3);
    assert_eq!(fs::read_dir(dir.path().join("firewatch/blocks")).unwrap().count(), 0);
    assert_eq!(dump(&db, &[Matcher::equal("__name__", "a")], 0, i64::MAX)[0].split(' ').count(), 1 + 120);
}

#[test]
fn a_series_of_two_scrapes_is_one() {
    let dir = scratch();
    let db = open(dir.path());
    for round in 0..200i64 {
        for (offset, names) in [(0, ["a", "both"]), (500, ["both", "z"])] {
            let mut appender = db.appender();
            let refs = names.map(|n| appender.series(&labels(n, "1")).unwrap());
            assert_eq!(appender.append_row(round * 1000 + offset, &refs, &[offset as f64; 2]).refused, []);
            appender.commit().unwrap();
        }
    }
    let lines = all(&db);
    let counts: Vec<usize> = lines.iter().map(|l| l.split(' ').count() - 1).collect();
    assert_eq!(counts, [200, 400, 200]);
    assert!(lines[1].starts_with("both@1 0=0 500=500 1000=0 1500=500"), "{}", lines[1]);
}

#[test]
fn databases_and_selections_go_to_any_thread() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Db>();
    shared::<tsdb::Selection>();
    sent::<tsdb::Appender>();
    let dir = scratch();
    let db = open(dir.path());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let db = &db;
            scope.spawn(move || {
                for round in 0..300 {
                    append(db, "m", &writer.to_string(), &[(round, 1.0)]);
                    // a commit of ten series at once is seen whole
                    let mut appender = db.appender();
                    for series in 0..10 {
                        let series = appender.series(&labels("whole", &format!("{writer}-{series}"))).unwrap();
                        appender.append(series, round, round as f64).unwrap();
                    }
                    appender.commit().unwrap();
                }
            });
        }
        for _ in 0..100 {
            let lines = dump(&db, &[Matcher::equal("__name__", "whole")], 0, i64::MAX);
            for writer in 0..4 {
                let of_writer: Vec<usize> = lines
                    .iter()
                    .filter(|l| l.starts_with(&format!("whole@{writer}-")))
                    .map(|l| l.split(' ').count())
                    .collect();
                assert!(of_writer.is_empty() || of_writer == [of_writer[0]; 10], "{of_writer:?}");
            }
        }
    });
    assert_eq!(all(&db).len(), 44);
}

#[test]
fn series_that_a_commit_creates_are_seen_together() {
    // small databases, many times: where much is there already, a look takes longer than the moment that matters
    for _ in 0..40 {
        let dir = scratch();
        let db = open(dir.path());
        std::thread::scope(|scope| {
            let writers = [0, 1, 2, 3].map(|writer| {
                let db = &db;
                scope.spawn(move || {
                    for commit in 0..50 {
                        let mut appender = db.appender();
                        for series in 0..10 {
                            let series = labels("new", &format!("{writer}-{commit}-{series}"));
                            let series = appender.series(&series).unwrap();
                            appender.append(series, 1000, 1.0).unwrap();
                        }
                        appender.commit().unwrap();
                    }
                })
            });
            while writers.iter().any(|writer| !writer.is_finished()) {
                let seen = db.select(&[Matcher::equal("__name__", "new")], 0, i64::MAX).unwrap().labels().len();
                assert!(seen.is_multiple_of(10), "{seen} series");
            }
        });
        assert_eq!(all(&db).len(), 2000);
    }
}

#[test]
fn series_that_others_have_created_are_found_by_their_labels() {
    let dir = scratch();
    let db = open(dir.path());
    let find = |series: usize| dump(&db, &[Matcher::equal("instance", &series.to_string())], 0, i64::MAX);
    let found = |series: usize| vec![format!("m@{series} 1000=1")];
    // more than wait for a commit, and some
    const MANY: usize = 5000;
    let create = |appender: &mut Appender, series: usize| appender.series(&labels("m", &series.to_string())).unwrap();
    let mut first = db.appender();
    let created: Vec<SeriesRef> = (0..MANY).map(|series| create(&mut first, series)).collect();
    // found by its labels, and not asked for at all
    let mut second = db.appender();
    assert_eq!(create(&mut second, MANY - 1), created[MANY - 1]);
    for series in [MANY - 1, MANY - 2, 1] {
        second.append(created[series], 1000, 1.0).unwrap();
    }
    assert_eq!(find(1), [""; 0]);
    second.commit().unwrap();
    assert_eq!([1, MANY - 2, MANY - 1].map(find), [1, MANY - 2, MANY - 1].map(found));
    assert_eq!(find(2), [""; 0]);
    // whoever has created a series need not be the one who gives it a sample
    drop(first);
    let mut third = db.appender();
    let (known, new) = (create(&mut third, 2), create(&mut third, MANY));
    assert_eq!(known, created[2]);
    third.append_row(1000, &[known, new, created[3]], &[1.0; 3]);
    third.commit().unwrap();
    assert_eq!([2, 3, MANY].map(find), [2, 3, MANY].map(found));
    assert_eq!(db.select(&[Matcher::equal("__name__", "m")], 0, i64::MAX).unwrap().len(), 6);
}

#[test]
fn series_created_side_by_side_are_the_same() {
    for _ in 0..20 {
        let dir = scratch();
        let db = open(dir.path());
        // all of them add the same series, and the same page shows each twice
        let page = |time: i64| {
            let mut appender = db.appender();
            let names = (0..300).chain(100..400).map(|series| labels("m", &(series % 400).to_string()));
            let series: Vec<SeriesRef> = names.map(|labels| appender.series(&labels).unwrap()).collect();
            appender.append_row(time, &series, &vec![time as f64; series.len()]);
            appender.commit().unwrap();
            series
        };
        let created: Vec<Vec<SeriesRef>> = std::thread::scope(|scope| {
            let writers = [1000, 2000, 3000].map(|time| scope.spawn(move || page(time)));
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(created.iter().all(|series| *series == created[0]));
        let check = |db: &Db| {
            for series in [0, 150, 399] {
                let dumped = dump(db, &[Matcher::equal("instance", &series.to_string())], 3000, i64::MAX);
                assert_eq!(dumped, [format!("m@{series} 3000=3000")]);
            }
            assert_eq!(all(db).len(), 400);
        };
        check(&db);
        drop(db);
        check(&open(dir.path()));
    }
}

#[test]
fn a_series_twice_in_each_row_has_the_first_value() {
    let dir = scratch();
    let db = open(dir.path());
    let names = ["a", "b", "a", "c"];
    for row in 0..3000i64 {
        let mut appender = db.appender();
        let refs: Vec<_> = names.iter().map(|n| appender.series(&labels(n, "1")).unwrap()).collect();
        let value = row as f64;
        appender.append_row(row * 10_000, &refs, &[value, value + 0.1, value + 0.2, value + 0.3]);
        appender.commit().unwrap();
        if row % 100 == 0 {
            db.maintain().unwrap();
        }
    }
    let selection = db.select(&[], 0, i64::MAX).unwrap();
    assert_eq!(selection.labels().len(), 3);
    for (series, offset) in selection.read(0..3, 0, i64::MAX).unwrap().iter().zip([0.0, 0.1, 0.3]) {
        let expected: Vec<f64> = (0..3000).map(|row| f64::from(row) + offset).collect();
        assert_eq!(series.floats.values, expected);
    }
}

#[test]
fn a_late_first_sample_survives_a_kill_between_a_block_and_its_note_in_the_log() {
    let dir = scratch();
    // an image would say that it was late
    let options =
        Options { out_of_order_window: 24 * HOUR, compaction: false, image_interval_bytes: None, ..options() };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    append(&db, "a", "1", &[(20 * HOUR, 1.0)]);
    append(&db, "b", "1", &[(11 * HOUR, 2.0)]);
    drop(db);
    // to the replay it is in order, so that the next cut begins there
    let db = Db::open(dir.path(), options.clone()).unwrap();
    append(&db, "c", "1", &[(10 * HOUR, 3.0)]);
    let killed = scratch();
    copy(dir.path(), killed.path());
    db.maintain().unwrap();
    let before = all(&db);
    assert_eq!(before.len(), 3);
    // of the blocks only the first is there
    let first = db.blocks().iter().find(|b| b.min_time == 11 * HOUR).unwrap().ulid.to_string();
    let blocks = |dir: &Path| dir.join("firewatch/blocks").join(&first);
    copy(&blocks(dir.path()), &blocks(killed.path()));
    let db = Db::open(killed.path(), options).unwrap();
    assert_eq!(all(&db), before);
}

#[test]
fn a_share_of_the_file_system_limits_the_blocks() {
    let dir = scratch();
    let open = |share: f64| {
        let options = Options { retention_percentage: share, retention_duration: None, compaction: false, ..options() };
        Db::open(dir.path(), options).unwrap()
    };
    let db = open(100.0);
    append(&db, "a", "1", &(0..10).map(|i| (i * HOUR, 1.0)).collect::<Vec<_>>());
    db.maintain().unwrap();
    let blocks = db.blocks().len();
    assert!(blocks > 2 && db.metrics().size_retentions == 0);
    drop(db);
    // less than a byte of any disk
    let db = open(1e-12);
    db.maintain().unwrap();
    assert_eq!((db.blocks().len(), db.metrics().size_retentions), (0, blocks as u64));
}

#[test]
fn after_a_kill_an_image_spares_the_log_before_it_and_a_damaged_one_costs_nothing() {
    let dir = scratch();
    let options = Options { image_interval_bytes: Some(1), wal_segment_bytes: 1 << 10, ..options() };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let series = ["a", "b", "c"].map(|name| labels(name, "1"));
    for row in 0..300i64 {
        let mut appender = db.appender();
        let refs: Vec<_> = series.iter().map(|l| appender.series(l).unwrap()).collect();
        appender.append_row(row * 10_000, &refs, &[row as f64, -0.0, 1.0 / row as f64]);
        appender.commit().unwrap();
        if row % 70 == 69 {
            db.maintain().unwrap();
        }
    }
    assert_eq!((db.metrics().images, db.metrics().images_refused), (4, 0));
    let before = all(&db);
    let head = |dir: &Path| {
        let files = std::fs::read_dir(dir.join("firewatch/head")).unwrap().map(|f| f.unwrap().path());
        files.collect::<Vec<_>>()
    };
    let wal = dir.path().join("firewatch/wal");
    // the log before the image is not asked for: without it all is there
    let image = head(dir.path()).into_iter().find(|p| p.to_str().unwrap().contains("image.")).unwrap();
    let number: u64 = image.extension().unwrap().to_str().unwrap().parse().unwrap();
    let killed = scratch();
    copy(dir.path(), killed.path());
    for segment in std::fs::read_dir(&wal).unwrap().map(|f| f.unwrap().file_name()) {
        if segment.to_str().unwrap().parse::<u64>().unwrap() < number {
            std::fs::remove_file(killed.path().join("firewatch/wal").join(segment)).unwrap();
        }
    }
    assert_eq!(all(&Db::open(killed.path(), options.clone()).unwrap()), before);
    // each file of the head damaged or gone: the log has it all
    for file in head(dir.path()) {
        for gone in [false, true] {
            let killed = scratch();
            copy(dir.path(), killed.path());
            let path = killed.path().join("firewatch/head").join(file.file_name().unwrap());
            if gone {
                std::fs::remove_file(&path).unwrap();
            } else {
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
            let db = Db::open(killed.path(), options.clone()).unwrap();
            assert_eq!(all(&db), before, "{} gone: {gone}", path.display());
            let was_image = path.to_str().unwrap().contains("image.");
            assert_eq!(db.metrics().images_refused, u64::from(!(gone && was_image)));
        }
    }
}

#[test]
fn label_values_of_matching_series_come_from_head_and_blocks() {
    let dir = scratch();
    let db = Db::open(dir.path(), Options { compaction: false, ..options() }).unwrap();
    for (at, instance) in ["1", "2", "3"].into_iter().enumerate() {
        append(&db, "a", instance, &[(at as i64 * 4 * HOUR, 1.0)]);
        append(&db, "b", "9", &[(at as i64 * 4 * HOUR, 1.0)]);
    }
    db.maintain().unwrap();
    assert!(!db.blocks().is_empty());
    let values = |name: &str, min: i64, max: i64| {
        db.label_values("instance", &[Matcher::equal("__name__", name)], min, max, None).unwrap().values
    };
    assert_eq!(values("a", 0, i64::MAX), ["1", "2", "3"]);
    assert_eq!(values("b", 0, i64::MAX), ["9"]);
    assert_eq!(values("a", 0, HOUR), ["1"]);
    assert_eq!(values("none", 0, i64::MAX), [""; 0]);
    let limited = db.label_values("instance", &[Matcher::equal("__name__", "a")], 0, i64::MAX, Some(2)).unwrap();
    assert!(limited.values == ["1", "2"] && limited.truncated, "{limited:?}");
}

#[test]
fn images_follow_the_growth_of_the_log() {
    let dir = scratch();
    let options = Options {
        background: true,
        wal_fsync_interval: std::time::Duration::from_millis(5),
        image_interval_bytes: Some(1000),
        ..Options::default()
    };
    let db = Db::open(dir.path(), options).unwrap();
    for row in 0.. {
        append(&db, "a", "1", &[(row * 1000, 1.0)]);
        if db.metrics().images >= 3 {
            break;
        }
    }
    let before = all(&db);
    let killed = scratch();
    copy(dir.path(), killed.path());
    assert_eq!(all(&open(killed.path())), before);
}

#[test]
fn an_image_is_due_when_the_log_has_grown_by_two_of_the_last_one() {
    let dir = scratch();
    let db = Db::open(dir.path(), Options { image_interval_bytes: Some(1), ..options() }).unwrap();
    (0..200).for_each(|i| append(&db, "a", &i.to_string(), &[(0, 1.0)]));
    db.maintain().unwrap();
    let image = std::fs::read_dir(dir.path().join("firewatch/head")).unwrap().map(|file| file.unwrap());
    let bytes: u64 = image
        .filter(|file| file.file_name().to_str().unwrap().starts_with("image."))
        .map(|file| file.metadata().unwrap().len())
        .sum();
    let given = db.metrics().wal_bytes_written;
    let mut images = Vec::new();
    for row in 1.. {
        append(&db, "a", "1", &[(row * 1000, row as f64)]);
        let grown = db.metrics().wal_bytes_written - given;
        db.maintain().unwrap();
        images.push((grown >= 2 * bytes, db.metrics().images));
        if grown >= 2 * bytes {
            break;
        }
    }
    assert!(bytes > 500 && images.len() > 10, "{bytes} {}", images.len());
    assert!(images.iter().all(|(due, images)| *images == 1 + u64::from(*due)), "{images:?}");
}

/// With a timestamp column for each series, a query over many would hold all of them to its end.
#[test]
fn timestamps_that_one_series_has_are_not_kept_for_others() {
    let dir = scratch();
    let db = open(dir.path());
    // two of the three have the same
    for (instance, shift) in [("a", 0), ("b", 0), ("c", 7)] {
        let samples: Vec<(i64, f64)> = (0..100).map(|i| (i * 30_000 + shift, i as f64)).collect();
        append(&db, "m", instance, &samples);
    }
    append(&db, "end", "a", &[(5 * HOUR, 0.0)]);
    db.maintain().unwrap();
    assert!(!db.blocks().is_empty());
    let selection = db.select(&[Matcher::equal("__name__", "m")], 60_000, HOUR).unwrap();
    let times: Vec<Arc<[i64]>> =
        selection.read(0..3, 60_000, HOUR).unwrap().into_iter().map(|series| series.floats.timestamps).collect();
    assert!(Arc::ptr_eq(&times[0], &times[1]));
    assert_eq!((times[0].len(), times[2].len(), times[2][0]), (98, 98, 60_007));
    assert_eq!(Arc::strong_count(&times[2]), 1, "the selection has kept a column that nobody else reads");
    // the newest of them are found without a column
    let at = NewestAt { start: 120_000, interval: 30_000, count: 90, offset: 10_000, range: 25_000 };
    let mut lent = Vec::new();
    let each = &mut |series: Lent<'_, Arc<FloatHistogram>>| {
        lent.push(if let Lent::Newest(values) = series { values.to_vec() } else { Vec::new() });
        lent.len() < 3
    };
    selection.newest_at(0..3, at, each).unwrap();
    assert_eq!((lent[0].len(), lent[1].len()), (0, 0));
    assert_eq!(lent[2], (0..90).map(|step| f64::from(step + 3)).collect::<Vec<_>>());
    let nothing = NewestAt { range: 19_000, ..at };
    selection
        .newest_at(2..3, nothing, &mut |series| {
            assert!(matches!(series, Lent::Newest(values) if values.iter().all(|v| model::is_stale(*v))));
            true
        })
        .unwrap();
    check_newest_at(&selection, (60_000, HOUR));
    let again = selection.read(0..1, 60_000, HOUR).unwrap();
    assert!(Arc::ptr_eq(&times[0], &again[0].floats.timestamps), "what several series have is read once");
}
