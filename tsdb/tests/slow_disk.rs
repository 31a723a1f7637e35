//! A disk that does not come back for a while holds up who writes, and nobody else; what others do meanwhile is kept.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use model::{Labels, Matcher};
use parking_lot::Mutex;
use tempfile::TempDir;
use tsdb::{Db, FileFault, FileObserver, FileOperation, Files, LogEntry, LogStart, Options};

#[path = "shared/copy.rs"]
mod copy;
#[path = "shared/scratch.rs"]
mod scratch;
#[path = "shared/short_blocks.rs"]
mod short_blocks;
use copy::copy;
use scratch::scratch;
use short_blocks::short_blocks;

const BLOCK: i64 = 1000;

/// A disk that stops at an operation until it is told to go on.
#[derive(Debug)]
struct Slow {
    armed: AtomicBool,
    stops_at: fn(&FileOperation<'_>) -> bool,
    stopped: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl FileObserver for Slow {
    fn before(&self, operation: &FileOperation<'_>) -> Result<(), FileFault> {
        if (self.stops_at)(operation) && self.armed.swap(false, Ordering::SeqCst) {
            self.stopped.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
        }
        Ok(())
    }

    fn done(&self, _: &FileOperation<'_>) {}
}

fn in_log(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("wal"))
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

fn append(db: &Db, name: &str, time: i64) {
    let mut appender = db.appender();
    let series = appender.series(&labels(name)).unwrap();
    appender.append(series, time, 1.0).unwrap();
    appender.commit().unwrap();
}

fn options() -> Options {
    Options { wal_segment_bytes: 200, ..short_blocks(BLOCK) }
}

/// A series with a sample every 100 ms, three blocks of them.
fn one_series(db: &Db) {
    (0..30).for_each(|step| append(db, "m", step * 100));
}

/// Does something that stops at a place; meanwhile others do something else, which does not wait for it.
fn others_go_on(
    options: Options,
    fill: fn(&Db),
    stops_at: fn(&FileOperation<'_>) -> bool,
    work: fn(&Db),
    meanwhile: impl FnOnce(&Db) + Send,
) -> (TempDir, Db) {
    let dir = scratch();
    let (stopped, has_stopped) = channel();
    let (go, go_on) = channel();
    let slow = Arc::new(Slow { armed: AtomicBool::new(false), stops_at, stopped, go_on: Mutex::new(go_on) });
    let observer: Arc<dyn FileObserver> = Arc::<Slow>::clone(&slow);
    let db = Db::open(dir.path(), Options { files: Files::observed(observer), ..options }).unwrap();
    fill(&db);
    slow.armed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let db = &db;
        let working = scope.spawn(|| work(db));
        has_stopped.recv_timeout(Duration::from_secs(60)).expect("the work comes to this place");
        let (done, is_done) = channel();
        let others = scope.spawn(move || {
            meanwhile(db);
            done.send(()).unwrap();
        });
        let went_on = is_done.recv_timeout(Duration::from_secs(60));
        go.send(()).unwrap();
        working.join().unwrap();
        others.join().unwrap();
        went_on.expect("others wait for the disk");
    });
    (dir, db)
}

/// Reads, and puts a transaction together.
fn read_and_begin(db: &Db) {
    let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
    let read = selection.read(0..1, i64::MIN, i64::MAX).unwrap();
    assert!(read[0].floats.len() >= 30);
    assert_eq!(db.label_values("__name__", &[], i64::MIN, i64::MAX, None).unwrap().values, ["m"]);
    let mut appender = db.appender();
    let series = appender.series(&labels("other")).unwrap();
    appender.append(series, 3000, 1.0).unwrap();
}

#[test]
fn nobody_but_writers_waits_for_a_record_of_the_log() {
    let writes = |op: &FileOperation<'_>| matches!(op, FileOperation::Write(path, ..) if in_log(path));
    others_go_on(options(), one_series, writes, |db| append(db, "m", 3000), read_and_begin);
}

fn syncs_checkpoint(op: &FileOperation<'_>) -> bool {
    matches!(op, FileOperation::Sync(path) if in_log(path) && path.extension().is_some_and(|e| e == "tmp"))
}

/// Times of the samples of a series in the database that a kill leaves of one.
fn after_a_kill(dir: &Path, name: &str) -> Vec<i64> {
    let left = scratch();
    copy(dir, left.path());
    let db = Db::open(left.path(), options()).unwrap();
    assert_eq!(db.metrics().wal_unknown_series, 0);
    let selection = db.select(&[Matcher::equal("__name__", name)], i64::MIN, i64::MAX).unwrap();
    let read = selection.read(0..selection.len(), i64::MIN, i64::MAX).unwrap();
    read.iter().flat_map(|samples| samples.floats.timestamps.to_vec()).collect()
}

#[test]
fn commits_go_on_while_a_checkpoint_is_written_and_are_there_after_a_kill() {
    let mut before = None;
    let mut follower = None;
    // without images the log is all there is
    let options = Options { image_interval_bytes: None, ..options() };
    let (dir, db) = others_go_on(
        options,
        one_series,
        syncs_checkpoint,
        |db| db.maintain().unwrap(),
        |db| {
            let mut from_now = db.follow_log(LogStart::Now).unwrap();
            // more than a segment of them
            for step in 30..40 {
                append(db, "m", step * 100);
                append(db, "new", step * 100);
            }
            while from_now.read().unwrap().is_some() {}
            follower = Some(from_now);
            let dir = db.folder().parent().unwrap();
            before = Some(["m", "new"].map(|name| after_a_kill(dir, name)));
        },
    );
    assert_eq!(db.metrics().checkpoints, 1);
    let all = |steps: std::ops::Range<i64>| steps.map(|step| step * 100).collect::<Vec<i64>>();
    let expected = [all(0..40), all(30..40)];
    assert_eq!(before.unwrap(), expected, "killed while it was written");
    assert_eq!(["m", "new"].map(|name| after_a_kill(dir.path(), name)), expected, "killed afterwards");
    // whoever forgets the series that are not named again must be told of those that are newer than what the checkpoint says
    let mut named = Vec::new();
    let mut follower = follower.unwrap();
    while let Some(entries) = follower.read().unwrap() {
        for entry in entries {
            if let LogEntry::Series(series) = entry {
                named.extend(series.into_iter().map(|(_, labels)| labels));
            }
        }
    }
    assert!(named.contains(&labels("m")) && named.contains(&labels("new")), "{named:?}");
}

#[test]
fn segments_stay_for_who_begins_to_follow_the_log_while_a_checkpoint_is_written() {
    let mut follower = None;
    let (_dir, db) = others_go_on(
        options(),
        one_series,
        syncs_checkpoint,
        |db| db.maintain().unwrap(),
        |db| {
            follower = Some(db.follow_log(LogStart::Oldest).unwrap());
        },
    );
    let mut follower = follower.unwrap();
    let mut rows = 0;
    while let Some(entries) = follower.read().unwrap() {
        assert!(!entries.iter().any(|entry| matches!(entry, LogEntry::Lost { .. })));
        rows += entries.iter().filter(|entry| matches!(entry, LogEntry::Row { .. })).count();
    }
    assert_eq!((rows, db.metrics().checkpoints), (30, 0));
    db.maintain().unwrap();
    assert_eq!(db.metrics().checkpoints, 1, "it has read them");
}

#[test]
fn nobody_waits_for_a_checkpoint() {
    others_go_on(
        options(),
        one_series,
        syncs_checkpoint,
        |db| db.maintain().unwrap(),
        |db| {
            read_and_begin(db);
            append(db, "m", 3000);
        },
    );
}

#[test]
fn nobody_waits_for_a_block() {
    let syncs = |op: &FileOperation<'_>| matches!(op, FileOperation::Sync(path) if path.ends_with("index"));
    others_go_on(options(), one_series, syncs, |db| db.maintain().unwrap(), read_and_begin);
}

/// More series than are written together.
const MANY: i64 = 5000;

fn commit_to_all(db: &Db, time: i64, value: impl Fn(i64) -> f64) {
    let mut appender = db.appender();
    for number in 0..MANY {
        let series = appender.series(&labels(&format!("m{number:04}"))).unwrap();
        appender.append(series, time, value(number)).unwrap();
    }
    appender.commit().unwrap();
}

fn many_series(db: &Db) {
    // nothing that compresses away: the block's file is written to before all series are there
    (0..30).for_each(|step| commit_to_all(db, step * 100, |number| ((step * MANY + number) as f64).sqrt()));
}

fn check_many(db: &Db) {
    let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
    assert_eq!(selection.len(), MANY as usize);
    let mut expected: Vec<i64> = (0..30).map(|step| step * 100).collect();
    expected.insert(5, 450);
    for (at, samples) in selection.read(0..selection.len(), i64::MIN, i64::MAX).unwrap().iter().enumerate() {
        assert_eq!(samples.floats.timestamps[..], expected, "series {at}");
        assert_eq!(
            (samples.floats.values[5], samples.floats.values[6]),
            (-1.0, ((5 * MANY + at as i64) as f64).sqrt())
        );
    }
}

#[test]
fn late_samples_that_come_while_a_block_is_cut_are_in_one_block() {
    let creates_index = |op: &FileOperation<'_>| matches!(op, FileOperation::Create(path) if path.ends_with("index"));
    let writes_data = |op: &FileOperation<'_>| matches!(op, FileOperation::Write(path, ..) if path.ends_with("data"));
    let syncs_data = |op: &FileOperation<'_>| matches!(op, FileOperation::Sync(path) if path.ends_with("data"));
    let places: [fn(&FileOperation<'_>) -> bool; 3] = [creates_index, writes_data, syncs_data];
    // of the late samples, how many are in the block that was being written
    let in_first = places.map(|stops_at| {
        let options = Options { out_of_order_window: 10 * BLOCK, compaction: false, ..options() };
        let late = |db: &Db| commit_to_all(db, 450, |_| -1.0);
        let (dir, db) = others_go_on(options.clone(), many_series, stops_at, |db| db.maintain().unwrap(), late);
        check_many(&db);
        let in_blocks: u64 = db.blocks().iter().map(|block| block.stats.num_samples).sum();
        assert_eq!(in_blocks, (2 * 10 + 1) * MANY as u64);
        let first = db.blocks().iter().filter(|block| block.min_time == 0).map(|block| block.stats.num_samples).max();
        let left = scratch();
        copy(dir.path(), left.path());
        check_many(&Db::open(left.path(), options).unwrap());
        first.unwrap() as i64 - 10 * MANY
    });
    assert_eq!((in_first[0], in_first[2]), (MANY, 0));
    assert!((1..MANY).contains(&in_first[1]), "between two parts: {in_first:?}");
}
