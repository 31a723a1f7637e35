//! Series that are appended together, each sample with a timestamp of its own: what is read is what was appended, from open rows, sealed
//! chunks, the log, an image of the head and blocks.

use std::collections::BTreeMap;
use std::path::Path;

use model::Labels;
use tsdb::{Db, Options};

#[path = "shared/numbers.rs"]
mod numbers;
#[path = "shared/scratch.rs"]
mod scratch;
use numbers::Numbers;
use scratch::scratch;

const INTERVAL: i64 = 10_000;
const SERIES: usize = 40;

fn below(numbers: &mut Numbers, limit: u64) -> u64 {
    (numbers.next() >> 32) % limit
}

/// Samples by series and time: bits of the value, start timestamp.
type Samples = BTreeMap<(usize, i64), (u64, i64)>;

fn options(image: bool) -> Options {
    Options {
        background: false,
        min_block_duration: INTERVAL * 60,
        retention_duration: None,
        image_interval_bytes: image.then_some(1),
        ..Options::default()
    }
}

fn open(dir: &Path, image: bool) -> Db {
    Db::open(dir, options(image)).unwrap()
}

fn labels(series: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("i", &format!("{series:02}"))])
}

fn read(db: &Db, from: i64, to: i64) -> Samples {
    let selection = db.select(&[], from, to).unwrap();
    let mut found = Samples::new();
    for (at, samples) in selection.read(0..selection.labels().len(), from, to).unwrap().iter().enumerate() {
        let series = selection.labels().get(at).unwrap().value("i").parse().unwrap();
        for (row, time) in samples.floats.timestamps.iter().enumerate() {
            let start = samples.floats.start_timestamps.as_ref().map_or(0, |starts| starts[row]);
            assert!(found.insert((series, *time), (samples.floats.values[row].to_bits(), start)).is_none());
        }
    }
    found
}

fn check(db: &Db, expected: &Samples, numbers: &mut Numbers, what: &str) {
    assert_eq!(read(db, i64::MIN, i64::MAX), *expected, "{what}");
    let newest = expected.keys().map(|(_, time)| *time).max().unwrap();
    for number in 0..40 {
        let from = below(numbers, newest as u64) as i64;
        let to = from + below(numbers, [20, 3000, 300_000][number % 3]) as i64;
        let within = expected.iter().filter(|((_, time), _)| (from..=to).contains(time));
        let within: Samples = within.map(|(key, sample)| (*key, *sample)).collect();
        assert_eq!(read(db, from, to), within, "{what} between {from} and {to}");
    }
}

/// Appends a scrape in which each line has a time of its own: mostly so long before the scrape as ever, and with some of what may happen.
fn scrape(db: &Db, number: i64, numbers: &mut Numbers, expected: &mut Samples) {
    let mut appender = db.appender();
    let mut order: Vec<usize> = (0..SERIES).collect();
    if below(numbers, 10) == 0 {
        order.rotate_left(below(numbers, SERIES as u64) as usize);
    }
    for series in order {
        // a few have the times of others, and some of them now and then nothing
        let lag =
            (series / 3 * 137 % 5000) as i64 + if below(numbers, 30) == 0 { below(numbers, 50) as i64 } else { 0 };
        if series > SERIES - 5 && below(numbers, 3) == 0 {
            continue;
        }
        let reference = appender.series(&labels(series)).unwrap();
        let value = match series % 4 {
            0 => 1.0,
            1 => number as f64 * 100.0,
            2 => number as f64 / 3.0,
            _ => f64::from_bits(f64::NAN.to_bits() + number as u64 % 3),
        };
        let time = number * INTERVAL - lag;
        let start = if series % 5 == 0 { time - 77 } else { 0 };
        appender.append_with_start(reference, start, time, value).unwrap();
        expected.insert((series, time), (value.to_bits(), start));
        if below(numbers, 200) == 0 {
            // the first one counts
            let _ = appender.append(reference, time, value + 1.0);
            appender.append(reference, time + 60, -0.0).unwrap();
            expected.insert((series, time + 60), ((-0.0f64).to_bits(), 0));
        }
    }
    appender.commit().unwrap();
}

#[test]
fn what_is_read_is_what_was_appended() {
    for seed in 1..=3 {
        let mut numbers = Numbers(seed);
        let dir = scratch();
        let mut expected = Samples::new();
        let mut db = open(dir.path(), false);
        for number in 1..=80 {
            scrape(&db, number, &mut numbers, &mut expected);
            if number % 20 == 0 {
                check(&db, &expected, &mut numbers, "in memory");
                let image = number == 40;
                db = reopened(db, dir.path(), image);
                check(&db, &expected, &mut numbers, "after a start");
                // what an image has goes on as well
                db = reopened(db, dir.path(), image);
            }
        }
        let metrics = db.metrics();
        assert_eq!((metrics.wal_corruptions, metrics.images_refused), (0, 0));
        for number in 81..=120 {
            scrape(&db, number, &mut numbers, &mut expected);
        }
        db.maintain().unwrap();
        assert!(!db.blocks().is_empty());
        check(&db, &expected, &mut numbers, "with a block");
        db = reopened(db, dir.path(), true);
        check(&db, &expected, &mut numbers, "with a block, after a start");
    }
}

fn reopened(db: Db, dir: &Path, image: bool) -> Db {
    if image {
        db.maintain().unwrap();
        db.close().unwrap();
    }
    drop(db);
    open(dir, image)
}

#[test]
fn a_series_with_times_of_its_own_takes_little_memory_and_log() {
    let dir = scratch();
    let db = open(dir.path(), false);
    let mut numbers = Numbers(1);
    let mut first = 0;
    for scrape in 0..20 {
        let mut appender = db.appender();
        for series in 0..2000 {
            let reference = appender.series(&labels(series)).unwrap();
            let time = scrape * INTERVAL - (series as i64 * 7919 % 5000) + INTERVAL;
            appender.append(reference, time, below(&mut numbers, 100) as f64).unwrap();
        }
        appender.commit().unwrap();
        if scrape == 0 {
            first = db.metrics().wal_bytes_written;
        }
    }
    let metrics = db.metrics();
    let per_sample = (metrics.wal_bytes_written - first) as f64 / (19.0 * 2000.0);
    assert!(per_sample < 4.0, "{per_sample} bytes of log a sample");
    let per_series = metrics.head_bytes as f64 / 2000.0;
    assert!(per_series < 320.0, "{per_series} bytes of memory a series");
    let per_label_set = first as f64 / 2000.0;
    assert!(per_label_set < 12.0, "{per_label_set} bytes of log for a series");
}
