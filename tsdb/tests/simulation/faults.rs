//! Faults one by one: what the engine says, what it still serves, and that it recovers.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Labels, Matcher};
use tsdb::{CommitError, Db, Options};

use crate::disk::{Disk, Kind, Plan};
use crate::random::Random;
use crate::scratch::scratch;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const NAMES: [&str; 3] = ["a", "b", "c"];

fn options(disk: &Disk) -> Options {
    Options {
        background: false,
        compaction: false,
        wal_segment_bytes: 4 << 10,
        files: disk.files(),
        ..Options::default()
    }
}

fn value(time: i64, series: usize) -> f64 {
    // nothing that compresses away
    f64::from((time / MINUTE) as u32).sqrt() + series as f64
}

fn append(db: &Db, time: i64) -> Result<(), CommitError> {
    let mut appender = db.appender();
    let refs = NAMES.map(|n| appender.series(&Labels::from_pairs([("__name__", n)])).unwrap());
    appender.append_row(time, &refs, &[0, 1, 2].map(|s| value(time, s)));
    appender.commit().map(|_| ())
}

/// Times of the samples there are, all series having the same ones with the right values.
fn times(db: &Db) -> Vec<i64> {
    let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
    assert_eq!(selection.warnings(), &[] as &[String]);
    let all = selection.read(0..selection.labels().len(), i64::MIN, i64::MAX).unwrap();
    let times = all.first().map(|s| s.floats.timestamps.to_vec()).unwrap_or_default();
    for (at, samples) in all.iter().enumerate() {
        assert_eq!(samples.floats.timestamps[..], times);
        let expected: Vec<f64> = times.iter().map(|t| value(*t, at)).collect();
        assert_eq!(samples.floats.values, expected);
    }
    times
}

fn minutes(range: std::ops::Range<i64>) -> Vec<i64> {
    range.map(|m| m * MINUTE).collect()
}

/// A database with six hours of samples, two blocks of which are cut.
fn filled(disk: &Disk, dir: &Path) -> Db {
    let db = Db::open(dir, options(disk)).unwrap();
    for time in minutes(0..6 * 60) {
        append(&db, time).unwrap();
    }
    db.maintain().unwrap();
    assert_eq!(db.blocks().len(), 2);
    db
}

fn files(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, name));
        } else if path.to_str().unwrap().contains(name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn on_a_full_disk_nothing_is_taken_all_is_served_and_it_goes_on_with_space() {
    let dir = scratch();
    let disk = Disk::new(dir.path());
    let db = filled(&disk, dir.path());
    disk.inject(Plan { short: true, ..Plan::new(Kind::Space, "", ENOSPC) });
    for time in minutes(360..370) {
        assert!(matches!(append(&db, time), Err(CommitError::Wal(_))));
    }
    assert!(db.maintain().is_ok(), "nothing is due");
    let metrics = db.metrics();
    assert_eq!((metrics.wal_writes_failed, metrics.commits), (10, 360));
    assert_eq!(times(&db), minutes(0..360));
    assert!(disk.heal() >= 10);
    for time in minutes(370..800) {
        append(&db, time).unwrap();
    }
    disk.inject(Plan::new(Kind::Space, "blocks", ENOSPC));
    assert!(db.maintain().is_err());
    assert!(db.metrics().compactions_failed > 0);
    disk.heal();
    db.maintain().unwrap();
    assert_eq!(db.blocks().len(), 6);
    let expected = [minutes(0..360), minutes(370..800)].concat();
    assert_eq!(times(&db), expected);
    assert_eq!(fs::read_dir(dir.path().join("firewatch/blocks")).unwrap().count(), 6, "unfinished blocks");
    drop(db);
    let db = Db::open(dir.path(), options(&disk)).unwrap();
    assert_eq!(times(&db), expected);
    assert_eq!((db.metrics().wal_corruptions, db.metrics().damaged_blocks), (0, 0));
}

#[test]
fn retention_makes_room_though_no_block_can_be_written() {
    let dir = scratch();
    let disk = Disk::new(dir.path());
    let db = filled(&disk, dir.path());
    drop(db);
    let db = Db::open(dir.path(), Options { retention_size: Some(1), ..options(&disk) }).unwrap();
    for time in minutes(360..600) {
        append(&db, time).unwrap();
    }
    disk.inject(Plan::new(Kind::Space, "blocks", ENOSPC));
    assert!(db.maintain().is_err());
    assert_eq!((db.blocks().len(), db.metrics().size_retentions), (0, 2));
}

#[test]
fn after_a_failed_fsync_the_data_is_written_again() {
    let dir = scratch();
    let disk = Disk::new(&dir.path().join("a"));
    let db = Db::open(dir.path().join("a"), options(&disk)).unwrap();
    // several segments, the last one in use
    for time in minutes(0..100) {
        append(&db, time).unwrap();
    }
    disk.inject(Plan { times: 2, ..Plan::new(Kind::Sync, "wal/", EIO) });
    assert!(db.sync().is_err());
    for time in minutes(100..110) {
        append(&db, time).unwrap();
    }
    assert!(db.sync().is_err());
    assert_eq!(db.metrics().wal_fsyncs_failed, 2);
    append(&db, 110 * MINUTE).unwrap();
    db.sync().unwrap();
    append(&db, 111 * MINUTE).unwrap();
    let after = dir.path().join("b");
    disk.lose_power(&mut Random(1), 0, &after);
    let disk = Disk::new(&after);
    assert_eq!(times(&Db::open(&after, options(&disk)).unwrap()), minutes(0..111));
}

#[test]
fn a_torn_record_that_cannot_be_removed_costs_no_other() {
    let dir = scratch();
    let disk = Disk::new(dir.path());
    let db = Db::open(dir.path(), options(&disk)).unwrap();
    let mut expected = Vec::new();
    for time in minutes(0..60) {
        if time % (7 * MINUTE) == 0 {
            disk.inject(Plan { short: true, times: 1, ..Plan::new(Kind::Space, "wal", ENOSPC) });
            disk.inject(Plan { times: 1, ..Plan::new(Kind::Truncate, "wal", EIO) });
            append(&db, time).unwrap_err();
            disk.heal();
        } else {
            append(&db, time).unwrap();
            expected.push(time);
        }
    }
    drop(db);
    assert_eq!(times(&Db::open(dir.path(), options(&disk)).unwrap()), expected);
}

/// How reading goes when files whose path has `name` in it are damaged under an open database: an error, counted once, for
/// the ranges they hold, the others as before.
fn check_reads(
    name: &str,
    damaged: std::ops::Range<i64>,
    good: std::ops::Range<i64>,
    damage: impl FnOnce(&Disk, &Path),
) {
    let dir = scratch();
    let disk = Disk::new(dir.path());
    let db = filled(&disk, dir.path());
    let all = [Matcher::equal("__name__", "b")];
    let open = db.select(&all, i64::MIN, i64::MAX).unwrap();
    damage(&disk, dir.path());
    for selection in [open, db.select(&all, i64::MIN, i64::MAX).unwrap()] {
        let before = db.metrics().reads_failed;
        let error = selection.read(0..1, damaged.start, damaged.end - 1).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(db.metrics().reads_failed, before + 1);
        let samples = &selection.read(0..1, good.start, good.end - 1).unwrap()[0].floats;
        assert_eq!(samples.timestamps.len() as i64, (good.end - good.start) / MINUTE, "{name}");
    }
    // writing goes on
    append(&db, 6 * HOUR).unwrap();
}

#[test]
fn a_file_that_fails_under_queries_is_an_error_of_its_range() {
    let eio = |path: &'static str| move |disk: &Disk, _: &Path| disk.inject(Plan::new(Kind::Read, path, EIO));
    let cut = |path: &'static str| {
        move |_: &Disk, dir: &Path| {
            for file in files(dir, path) {
                fs::OpenOptions::new().write(true).open(file).unwrap().set_len(100).unwrap();
            }
        }
    };
    // blocks have four hours, of what the head has most is sealed in files
    check_reads("data", 0..4 * HOUR, 5 * HOUR + 55 * MINUTE..6 * HOUR, eio("/data"));
    check_reads("data", 0..4 * HOUR, 5 * HOUR + 55 * MINUTE..6 * HOUR, cut("/data"));
    check_reads("head", 4 * HOUR..6 * HOUR, 0..4 * HOUR, eio("/head/"));
    check_reads("head", 4 * HOUR..6 * HOUR, 0..4 * HOUR, cut("/head/"));
}

#[test]
fn a_block_that_cannot_be_opened_is_left_out_and_told() {
    let dir = scratch();
    let disk = Disk::new(dir.path());
    drop(filled(&disk, dir.path()));
    disk.inject(Plan::new(Kind::Read, "/index", EIO));
    let db = Db::open(dir.path(), options(&disk)).unwrap();
    assert_eq!(db.metrics().damaged_blocks, 2);
    let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
    assert_eq!(selection.warnings().len(), 2);
    let samples = selection.read(0..1, i64::MIN, i64::MAX).unwrap();
    assert_eq!(samples[0].floats.timestamps[..], minutes(240..360));
    // and is there again when it can
    drop((selection, db));
    disk.heal();
    assert_eq!(times(&Db::open(dir.path(), options(&disk)).unwrap()), minutes(0..360));
}

#[test]
fn a_removed_block_does_not_come_back_in_part() {
    let home = scratch();
    let dir = home.path().join("db");
    let disk = Disk::new(&dir);
    let options = Options { compaction: true, max_block_duration: 36 * HOUR, ..options(&disk) };
    let db = Db::open(&dir, options.clone()).unwrap();
    for time in minutes(0..12 * 60) {
        append(&db, time).unwrap();
    }
    db.sync().unwrap();
    db.maintain().unwrap();
    assert!(db.blocks().iter().any(|b| b.compaction.level > 1), "blocks have been merged");
    for seed in 0..40 {
        let after = home.path().join(seed.to_string());
        disk.lose_power(&mut Random(seed), 50, &after);
        let db = Db::open(&after, Options { files: Disk::new(&after).files(), ..options.clone() }).unwrap();
        assert_eq!(db.metrics().damaged_blocks, 0, "seed {seed}");
        assert_eq!(times(&db), minutes(0..12 * 60), "seed {seed}");
    }
}
