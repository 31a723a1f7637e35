//! Damaged files: nothing panics, what is intact is still served, and the user is told.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Labels, Matcher};
use tsdb::{Db, Options};

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
    Options { background: false, compaction: false, wal_segment_bytes: 4 << 10, ..Options::default() }
}

/// Two blocks, deleted ranges, a checkpoint, log segments; and an extra series in the last record.
fn build(dir: &Path) {
    let db = Db::open(dir, options()).unwrap();
    for minute in 0..6 * 60i64 {
        let mut appender = db.appender();
        let refs = ["a", "b", "c"].map(|n| appender.series(&labels(n)).unwrap());
        appender.append_row(minute * 60_000, &refs, &[minute as f64, 1.5, (minute * minute) as f64]);
        appender.commit().unwrap();
    }
    db.maintain().unwrap();
    db.delete(&[Matcher::equal("__name__", "b")], 0, HOUR).unwrap();
    assert_eq!(db.blocks().len(), 2);
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "x")])
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Samples of series `c`, which no deletion concerns, and whether anything was amiss.
fn read(dir: &Path) -> (Vec<(i64, f64)>, bool) {
    let db = Db::open(dir, options()).unwrap();
    let told = db.metrics().wal_corruptions > 0 || db.metrics().damaged_blocks > 0;
    let selection = db.select(&[Matcher::equal("__name__", "c")], i64::MIN, i64::MAX).unwrap();
    let mut amiss = told || !selection.warnings().is_empty();
    db.label_values("__name__", &[], i64::MIN, i64::MAX, None).unwrap();
    let mut samples = Vec::new();
    for range in [(0, 2 * HOUR - 1), (2 * HOUR, 4 * HOUR - 1), (4 * HOUR, i64::MAX)] {
        // a damaged column of a block is an error of the ranges it is in
        match selection.read(0..selection.labels().len(), range.0, range.1) {
            Ok(series) => {
                for s in series {
                    samples.extend(s.floats.timestamps.iter().copied().zip(s.floats.values.iter().copied()));
                }
            }
            Err(_) => amiss = true,
        }
    }
    (samples, amiss)
}

fn check(good: &Path, file: &Path, what: &str, damage: impl FnOnce(&mut Vec<u8>)) {
    let copied = scratch();
    copy(good, copied.path());
    let path = copied.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    let before = bytes.clone();
    damage(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let (samples, amiss) = read(copied.path());
    let name = file.file_name().unwrap().to_str().unwrap();
    let context = format!("{} {what}", file.display());
    assert!(samples.is_sorted_by(|a, b| a.0 < b.0), "{context}");
    for (t, v) in &samples {
        let minute = (t / 60_000) as f64;
        assert_eq!(*v, minute * minute, "{context}: a value that was never stored");
    }
    let expected = match name {
        // one block of two hours is lost at most
        "index" | "data" | "meta.json" | "tombstones" => 240,
        // of the log what the damaged record has: a sample, or the series that a checkpoint names
        _ if name.starts_with("checkpoint") => 240,
        _ => 360 - cut_records(name, &before, &bytes),
    };
    assert!(samples.len() >= expected, "{context}: {} samples left", samples.len());
    assert!(samples.len() == 360 || amiss, "{context}: {} samples left and nothing said", samples.len());
}

/// How many records of a log segment a change can cost.
fn cut_records(_: &str, before: &[u8], after: &[u8]) -> usize {
    if after.len() == before.len() { 1 } else { (before.len() - after.len()).div_ceil(30) + 1 }
}

#[test]
fn any_damaged_byte_and_any_cut_is_survived() {
    let good = scratch();
    build(good.path());
    let (samples, amiss) = read(good.path());
    assert_eq!((samples.len(), amiss), (360, false));
    let all = files(&good.path().join("firewatch"));
    let kinds = ["meta.json", "index", "data", "tombstones", "wal/checkpoint", "wal/0000"];
    for kind in kinds {
        assert!(all.iter().any(|f| f.to_str().unwrap().contains(kind)), "no {kind} among {all:?}");
    }
    let mut numbers = Numbers(7);
    for path in all.iter().filter(|p| !p.ends_with("lock")) {
        let file = path.strip_prefix(good.path()).unwrap();
        let len = fs::metadata(path).unwrap().len() as usize;
        // places spread over the file, another bit each
        for _ in 0..24 {
            let number = numbers.next();
            let (at, bit) = ((number >> 33) as usize % len.max(1), number >> 61);
            check(good.path(), file, &format!("byte {at} bit {bit}"), |bytes| bytes[at] ^= 1 << bit);
        }
        for part in 0..8 {
            let left = len * part / 8;
            // a hole in the middle of the log costs a segment's records; what the last one loses was never durable
            if !file.to_str().unwrap().contains("wal/0") {
                check(good.path(), file, &format!("cut to {left}"), |bytes| bytes.truncate(left));
            }
        }
    }
    // the last segment, cut anywhere
    let log: Vec<&PathBuf> = all.iter().filter(|p| p.to_str().unwrap().contains("wal/0")).collect();
    let last = log[log.len() - 1];
    let file = last.strip_prefix(good.path()).unwrap();
    for left in (0..fs::metadata(last).unwrap().len() as usize).step_by(37) {
        check(good.path(), file, &format!("cut to {left}"), |bytes| bytes.truncate(left));
    }
}

#[test]
fn a_torn_end_is_cut_and_written_on() {
    let dir = scratch();
    build(dir.path());
    let wal = dir.path().join("firewatch/wal");
    let last = files(&wal).into_iter().rfind(|p| !p.to_str().unwrap().contains("checkpoint")).unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend_from_slice(&[0xf1, 0x5e, 0xc0, 0x7d, 9, 0, 0, 0, 1, 2]);
    fs::write(&last, &bytes).unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(db.metrics().wal_corruptions, 1);
    assert_eq!(fs::metadata(&last).unwrap().len() as usize, bytes.len() - 10);
    let mut appender = db.appender();
    let c = appender.series(&labels("c")).unwrap();
    appender.append(c, 6 * HOUR, 360.0 * 360.0).unwrap();
    appender.commit().unwrap();
    drop(db);
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(db.metrics().wal_corruptions, 0);
    drop(db);
    assert_eq!(read(dir.path()).0.len(), 361);
}
