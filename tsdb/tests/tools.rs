//! What tools do with a folder: reading beside a writer, looking for damage, repairing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use model::{Labels, Matcher};
use tsdb::{BulkLoader, Db, OpenError, Options, ReadOnlyDb, RepairError, Selection, repair, verify};

#[path = "shared/copy.rs"]
mod copy;
#[path = "shared/scratch.rs"]
mod scratch;
use copy::copy;
use scratch::scratch;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
const SERIES: i64 = 200;

fn options() -> Options {
    Options { background: false, wal_segment_bytes: 16 << 10, ..Options::default() }
}

fn append(db: &Db, minutes: std::ops::Range<i64>) {
    for minute in minutes {
        let mut appender = db.appender();
        for instance in 0..SERIES {
            let labels = Labels::from_pairs([("__name__", "m"), ("instance", &format!("{instance:03}"))]);
            let series = appender.series(&labels).unwrap();
            // next to random, so that blocks have several pages
            let value = (minute * 7919 + instance * 104_729) as f64;
            appender.append(series, minute * MINUTE, value.sin()).unwrap();
        }
        appender.commit().unwrap();
    }
}

/// The number of samples of each series.
fn counts(selection: &Selection) -> BTreeMap<String, usize> {
    let samples = selection.read(0..selection.labels().len(), i64::MIN, i64::MAX).unwrap();
    let counts = samples.iter().map(|series| series.floats.len());
    selection.labels().iter().map(|labels| labels.value("instance").to_owned()).zip(counts).collect()
}

fn all(db: &ReadOnlyDb) -> BTreeMap<String, usize> {
    let selection = db.select(&[], i64::MIN, i64::MAX);
    assert_eq!(selection.warnings(), &[] as &[String]);
    counts(&selection)
}

/// Every file below a folder with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_store_is_read_beside_its_writer_and_nothing_is_changed() {
    let dir = scratch();
    let db = Db::open(dir.path(), options()).unwrap();
    append(&db, 0..5 * 60);
    db.maintain().unwrap();
    append(&db, 5 * 60..6 * 60);
    assert!(!db.blocks().is_empty());
    // a record that is being written
    let last = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let end = bytes.len();
    bytes.extend_from_slice(b"FWRC half a record");
    fs::write(&last, &bytes).unwrap();

    let before = files(dir.path());
    let read = ReadOnlyDb::open(dir.path()).unwrap();
    let whole = all(&read);
    assert_eq!((whole.len(), whole["007"]), (SERIES as usize, 6 * 60));
    assert_eq!(read.blocks().len(), db.blocks().len());
    let (_, newest, series) = read.head().unwrap();
    assert_eq!((newest, series), ((6 * 60 - 1) * MINUTE, SERIES as usize));
    let one = read.select(&[Matcher::equal("instance", "003")], 5 * HOUR, 6 * HOUR);
    assert_eq!(one.labels().len(), 1);
    assert_eq!(one.read(0..1, 5 * HOUR, 6 * HOUR).unwrap()[0].floats.len(), 60);
    assert!(verify(dir.path()).unwrap().is_good());
    assert_eq!(files(dir.path()), before);
    fs::OpenOptions::new().write(true).open(&last).unwrap().set_len(end as u64).unwrap();

    assert!(matches!(ReadOnlyDb::open(dir.path().join("none")), Err(OpenError::File(_))));
    assert!(matches!(repair(dir.path()), Err(RepairError::Open(OpenError::Locked(_)))));
}

#[test]
fn a_store_that_has_only_been_loaded_into_is_read() {
    let dir = scratch();
    let mut loader = BulkLoader::open(dir.path(), options()).unwrap();
    let series = loader.series(&Labels::from_pairs([("instance", "0")]));
    loader.add(series, 1000, 1.0).unwrap();
    loader.finish().unwrap();
    let read = ReadOnlyDb::open(dir.path()).unwrap();
    assert_eq!((all(&read)["0"], read.head()), (1, None));
    assert!(verify(dir.path()).unwrap().is_good());
}

#[test]
fn a_reader_never_misses_what_a_writer_moves_from_the_log_into_blocks_and_merges() {
    let dir = scratch();
    let db = Db::open(dir.path(), options()).unwrap();
    append(&db, 0..60);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for hour in 1..40 {
                append(&db, hour * 60..(hour + 1) * 60);
                db.maintain().unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut least = 60;
        while !done.load(Ordering::SeqCst) {
            let counts = all(&ReadOnlyDb::open(dir.path()).unwrap());
            let (min, max) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            assert_eq!(min, max, "commits are seen whole");
            assert!(*min >= least, "{min} after {least}");
            least = *min;
        }
    });
    assert_eq!(all(&ReadOnlyDb::open(dir.path()).unwrap())["000"], 40 * 60);
}

/// The segments of the log, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir.join("firewatch/wal")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| !path.to_str().unwrap().contains("checkpoint")).collect();
    found.sort();
    found
}

/// Damages a byte of a file.
fn damage(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x5a;
    fs::write(path, bytes).unwrap();
}

fn blocks(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(dir.join("firewatch/blocks")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn damage_is_found_where_it_is_and_repaired_as_far_as_can_be() {
    let dir = scratch();
    let db = Db::open(dir.path(), Options { compaction: false, ..options() }).unwrap();
    append(&db, 0..12 * 60);
    db.maintain().unwrap();
    drop(db);
    let [data, index, meta, ..] = &blocks(dir.path())[..] else { panic!("too few blocks") };
    assert!(verify(dir.path()).unwrap().is_good());
    assert_eq!(repair(dir.path()).unwrap(), []);
    let intact = scratch();
    copy(dir.path(), intact.path());

    damage(&data.join("data"), |len| len / 2);
    damage(&index.join("index"), |len| len / 2);
    fs::write(meta.join("meta.json"), "{").unwrap();
    let segments = segments(dir.path());
    let segment = segments.iter().find(|path| path.metadata().unwrap().len() > 8000).unwrap();
    damage(segment, |_| 4000);

    let found = verify(dir.path()).unwrap();
    let bad: Vec<_> = found.blocks.iter().filter(|b| b.faults.count > 0).map(|b| b.ulid.to_string()).collect();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(bad, [name(data), name(index), name(meta)], "{found:#?}");
    let bad: Vec<_> = found.log.iter().filter(|l| l.faults.count > 0).map(|l| &l.path).collect();
    assert_eq!(bad, [segment], "{found:#?}");

    let repaired = repair(dir.path()).unwrap();
    assert_eq!(repaired.len(), 3);
    let of = |path: &Path| repaired.iter().find(|r| r.ulid.to_string() == name(path)).unwrap();
    assert_eq!(of(meta).replacement, None);
    assert!(of(data).moved_to.join("data").exists() && !data.exists());
    // a page of the data is lost
    let (kept, lost) = of(data).series;
    assert!(kept + lost == SERIES as u64 && kept > 0 && lost > 0, "{repaired:#?}");
    assert!(of(data).replacement.is_some());
    assert!(verify(dir.path()).unwrap().blocks.iter().all(|b| b.faults.count == 0));
    // the database opens without a warning
    let db = Db::open(dir.path(), options()).unwrap();
    let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
    assert_eq!(selection.warnings(), &[] as &[String]);
    let after = counts(&selection);
    // eight of twelve hours lie in other blocks and in the log; two more in what was kept
    let of_hours = |hours: usize| after.values().filter(|count| **count == hours * 60).count() as u64;
    assert_eq!((of_hours(8), of_hours(6)), (kept, lost), "{after:?}");
    assert_eq!(all(&ReadOnlyDb::open(intact.path()).unwrap())["000"], 12 * 60);
}

#[test]
fn damage_in_an_index_is_found_and_concerns_those_who_need_the_page() {
    let dir = scratch();
    let db = Db::open(dir.path(), options()).unwrap();
    let value = |n: usize| format!("{:03}-of-a-label-with-many-values-{n}", n * 7919 % 1000);
    for half_hour in 0..8 {
        let mut appender = db.appender();
        for n in 0..3000 {
            let series = appender.series(&Labels::from_pairs([("__name__", "m"), ("v", &value(n))])).unwrap();
            appender.append(series, half_hour * HOUR / 2, 1.0).unwrap();
        }
        appender.commit().unwrap();
    }
    db.maintain().unwrap();
    drop(db);
    let [block] = &blocks(dir.path())[..] else { panic!("one block") };
    let index = block.join("index");
    let (intact, page) = (fs::read(&index).unwrap(), 8192);
    assert!(intact.len() > 8 * page, "{} bytes", intact.len());
    let mut answered = 0;
    for start in (0..intact.len()).step_by(page) {
        let mut bytes = intact.clone();
        bytes[start + page.min(intact.len() - start) / 3] ^= 0x10;
        fs::write(&index, &bytes).unwrap();
        let found = verify(dir.path()).unwrap();
        assert!(found.blocks[0].faults.count > 0, "nothing is wrong at {start}");
        let db = ReadOnlyDb::open(dir.path()).unwrap();
        for n in [5, 1234, 2999] {
            let selection = db.select(&[Matcher::equal("v", &value(n))], 0, HOUR);
            let found: Vec<_> = selection.labels().iter().map(|labels| labels.value("v")).collect();
            if selection.warnings().is_empty() {
                assert_eq!(found, [value(n)]);
                answered += 1;
            } else {
                assert!(found.is_empty(), "{found:?}");
            }
        }
    }
    let asked = 3 * intact.len().div_ceil(page);
    assert!(answered > asked / 4 && answered < asked, "{answered} of {asked}");
    fs::write(&index, intact).unwrap();
    assert!(verify(dir.path()).unwrap().is_good());
}
