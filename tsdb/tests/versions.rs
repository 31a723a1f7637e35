//! Files that a newer version has written: what it added is passed over, what it changed is refused and left alone.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Labels, MatchOp, Matcher};
use tsdb::{Db, LogEntry, LogPosition, LogStart, OpenError, Options, repair, verify};

const HOUR: i64 = 3_600_000;

fn options() -> Options {
    Options { background: false, ..Options::default() }
}

/// A database with a block, a log and an image of the head.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    for hour in 0..5 {
        let mut appender = db.appender();
        let series = appender.series(&Labels::from_pairs([("__name__", "m")])).unwrap();
        appender.append(series, hour * HOUR, hour as f64).unwrap();
        appender.commit().unwrap();
    }
    db.maintain().unwrap();
    assert_eq!(db.blocks().len(), 1);
    db.close().unwrap();
    dir
}

fn samples(db: &Db) -> usize {
    let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
    let series = selection.read(0..selection.labels().len(), i64::MIN, i64::MAX).unwrap();
    series.iter().map(|s| s.floats.len()).sum()
}

/// The only file of a folder whose name begins so.
fn file(dir: &Path, folder: &str, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(dir.join("firewatch").join(folder)).unwrap();
    let mut named: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    named.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    named.sort();
    named.pop().unwrap_or_else(|| panic!("no {prefix} in {folder}"))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, &bytes).unwrap();
    bytes
}

/// Gives a file the header of another version, as that version would write it.
fn set_version(bytes: &mut Vec<u8>, minor: u8, major: u8) {
    (bytes[6], bytes[7]) = (minor, major);
    let sum = crc32fast::hash(&bytes[..16]).to_le_bytes();
    bytes.splice(16..20, sum.into_iter().filter(|_| major > 1));
}

#[test]
fn what_a_newer_minor_version_added_is_passed_over() {
    let dir = filled();
    let block = file(dir.path(), "blocks", "0");
    change(&block.join("meta.json"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replacen('{', "{ \"madeUp\": {\"x\": [1]},", 1).into_bytes();
    });
    fs::write(block.join("made-up"), "x").unwrap();
    // the footer says where each part of the index begins, so there may be others between them
    let index = tsdb::formats::read_pages(&block.join("index")).unwrap();
    let (body, footer) = index.split_at(index.len() - 64);
    tsdb::formats::write_pages(&block.join("index"), &[body, b"a part that is new", footer].concat()).unwrap();
    for (folder, prefix) in [("wal", "0"), ("head", "image")] {
        // the tag of an unknown part, its length, and bytes
        let record = tsdb::formats::log_segment(1, &[0x7f, 3, 1, 2, 3], &[]);
        change(&file(dir.path(), folder, prefix), |bytes| {
            set_version(bytes, 9, 2);
            bytes.splice(20..20, record[20..].iter().copied());
        });
    }
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(samples(&db), 5);
    let metrics = db.metrics();
    assert_eq!((metrics.wal_corruptions, metrics.images_refused, metrics.damaged_blocks), (0, 0, 0));
}

#[test]
fn a_newer_major_version_is_refused_and_left_alone() {
    for (folder, prefix) in [("wal", "0"), ("head", "image")] {
        let dir = filled();
        let path = file(dir.path(), folder, prefix);
        let bytes = change(&path, |bytes| set_version(bytes, 0, 3));
        let error = match Db::open(dir.path(), options()) {
            Err(error @ OpenError::File(_)) => error.to_string(),
            other => panic!("{folder}: {other:?}"),
        };
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("has format 3") && error.contains("reads format 2"), "{error}");
        assert!(fs::read(&path).unwrap() == bytes, "{folder} has been changed");
    }
}

/// The records of version 1 are those of a small commit.
#[test]
fn logs_and_images_of_the_first_version_are_read_and_followed() {
    for with_image in [true, false] {
        let dir = filled();
        let mut paths: Vec<PathBuf> =
            fs::read_dir(dir.path().join("firewatch/wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let image = file(dir.path(), "head", "image");
        for path in paths.iter().chain([&image]) {
            let bytes = change(path, |bytes| set_version(bytes, 0, 1));
            assert!(bytes.len() == 16 || bytes[16..20] == [0xf1, 0x5e, 0xc0, 0x7d], "a record behind the header");
        }
        if !with_image {
            fs::remove_file(image).unwrap();
        }
        paths.retain(|path| path.extension().is_none());
        paths.sort();
        let first: u64 = paths[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
        let db = Db::open(dir.path(), options()).unwrap();
        let metrics = db.metrics();
        assert_eq!((samples(&db), metrics.wal_corruptions, metrics.images_refused), (5, 0, 0), "{with_image}");
        let mut appender = db.appender();
        let series = appender.series(&Labels::from_pairs([("__name__", "m")])).unwrap();
        appender.append(series, 5 * HOUR, 5.0).unwrap();
        appender.commit().unwrap();
        // from behind the header of the old segment, through the new one
        for start in [LogStart::Oldest, LogStart::At(LogPosition { segment: first, offset: 16 })] {
            let mut follower = db.follow_log(start).unwrap();
            let mut rows = 0;
            while let Some(entries) = follower.read().unwrap() {
                rows += entries.iter().filter(|entry| matches!(entry, LogEntry::Row { .. })).count();
            }
            assert!(rows > 0, "{start:?}");
            assert!(!follower.wait(std::time::Duration::ZERO));
        }
        let check = verify(dir.path()).unwrap();
        assert!(check.is_good(), "{check:?}");
        db.close().unwrap();
        drop(db);
        assert_eq!(samples(&Db::open(dir.path(), options()).unwrap()), 6);
    }
}

#[test]
fn a_block_of_a_newer_major_version_is_shown_and_kept() {
    let dir = filled();
    let block = file(dir.path(), "blocks", "0");
    let meta = change(&block.join("meta.json"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\"version\": 4", "\"version\": 5").replace("minTime", "start").into_bytes();
    });
    let index = change(&block.join("index"), |bytes| bytes.reverse());
    {
        let db = Db::open(dir.path(), options()).unwrap();
        assert_eq!(db.metrics().damaged_blocks, 1);
        let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
        assert!(selection.warnings()[0].contains("has format 5"), "{:?}", selection.warnings());
        db.maintain().unwrap();
        db.close().unwrap();
    }
    let found = verify(dir.path()).unwrap();
    let fault = &found.blocks[0].faults.texts[0];
    assert!(fault.contains("has format 5"), "{fault}");
    assert!(repair(dir.path()).unwrap().is_empty());
    assert_eq!(fs::read(block.join("meta.json")).unwrap(), meta);
    assert_eq!(fs::read(block.join("index")).unwrap(), index);
}

#[test]
fn blocks_of_earlier_versions_are_read_and_merged_into_the_next() {
    (1..=3).for_each(check_earlier);
}

/// A block as version 3 wrote it: 700 series with a sample each half an hour, whose columns are as the earlier versions wrote them too.
fn check_earlier(version: u8) {
    let dir = tempfile::tempdir().unwrap();
    drop(Db::open(dir.path(), options()).unwrap());
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores/block-of-version-3");
    let block = dir.path().join("firewatch/blocks/01M8D92BQE21XWAKSQHHBEF5Z7");
    fs::create_dir(&block).unwrap();
    for name in ["index", "data", "meta.json"] {
        fs::copy(stored.join(name), block.join(name)).unwrap();
    }
    let set_version = |name: &str, ends: &[bool]| {
        let mut bytes = tsdb::formats::read_pages(&block.join(name)).unwrap();
        for end in ends {
            let at = if *end { bytes.len() - 1 } else { 7 };
            assert_eq!(std::mem::replace(&mut bytes[at], b'0' + version), b'3', "{name}");
        }
        tsdb::formats::write_pages(&block.join(name), &bytes).unwrap();
    };
    if version < 3 {
        set_version("index", &[false, true]);
        set_version("data", &[false]);
        let db = Db::open(dir.path(), options()).unwrap();
        assert_eq!(db.metrics().damaged_blocks, 1, "its meta says another version");
    }
    change(&block.join("meta.json"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\"version\": 3", &format!("\"version\": {version}")).into_bytes();
    });
    let db = Db::open(dir.path(), options()).unwrap();
    let metrics = db.metrics();
    assert_eq!((samples(&db), metrics.damaged_blocks), (700 * 4, 0));
    let answers = |db: &Db| {
        let is = |name: &str, value: &str| Matcher::new(MatchOp::Equal, name, value).unwrap();
        let all = (i64::MIN, i64::MAX);
        let values =
            |name: &str, matchers: &[Matcher]| db.label_values(name, matchers, all.0, all.1, None).unwrap().values;
        assert_eq!(db.label_names(&[], all.0, all.1, None).unwrap().values, ["__name__", "a", "b", "n"]);
        assert_eq!(db.label_names(&[is("b", "two")], all.0, all.1, None).unwrap().values, ["__name__", "b", "n"]);
        assert_eq!((values("n", &[]).len(), values("n", &[is("a", "one")]).len()), (700, 350));
        assert_eq!(values("b", &[is("n", "value-301")]), ["two"]);
        let selection = db.select(&[is("n", "value-699")], all.0, all.1).unwrap();
        assert_eq!(
            selection.labels().iter().map(ToString::to_string).collect::<Vec<_>>(),
            [r#"{__name__="m", b="two", n="value-699"}"#]
        );
    };
    answers(&db);
    let mut appender = db.appender();
    let series = appender.series(&Labels::from_pairs([("__name__", "m"), ("b", "two"), ("n", "value-699")])).unwrap();
    for hour in 5..12 {
        appender.append(series, hour * HOUR, 1.5).unwrap();
    }
    appender.commit().unwrap();
    db.maintain().unwrap();
    let versions = |db: &Db| db.blocks().iter().map(|b| (b.compaction.level, b.version)).collect::<Vec<_>>();
    assert_eq!(versions(&db), [(2, 4), (1, 4)]);
    assert_eq!(samples(&db), 700 * 4 + 7);
    answers(&db);
    assert!(verify(dir.path()).unwrap().blocks.iter().all(|b| b.faults.texts.is_empty()));
}
