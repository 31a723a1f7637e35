//! A disk that does not come back for a while holds up who writes, and nobody else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use model::Labels;
use parking_lot::Mutex;
use tsdb::{Db, FileFault, FileObserver, FileOperation, Files, Options};

#[path = "shared/scratch.rs"]
mod scratch;
use scratch::scratch;

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

fn append(db: &Db, name: &str, time: i64) {
    let mut appender = db.appender();
    let series = appender.series(&Labels::from_pairs([("__name__", name)])).unwrap();
    appender.append(series, time, 1.0).unwrap();
    appender.commit().unwrap();
}

/// Does something that stops at a place; meanwhile others read, and put transactions together.
fn others_go_on(stops_at: fn(&FileOperation<'_>) -> bool, work: fn(&Db)) {
    let dir = scratch();
    let (stopped, has_stopped) = channel();
    let (go, go_on) = channel();
    let slow = Arc::new(Slow { armed: AtomicBool::new(false), stops_at, stopped, go_on: Mutex::new(go_on) });
    let observer: Arc<dyn FileObserver> = Arc::<Slow>::clone(&slow);
    let options = Options {
        background: false,
        min_block_duration: BLOCK,
        max_block_duration: BLOCK,
        retention_duration: None,
        wal_segment_bytes: 200,
        files: Files::observed(observer),
        ..Options::default()
    };
    let db = Db::open(dir.path(), options).unwrap();
    (0..30).for_each(|step| append(&db, "m", step * 100));
    slow.armed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| work(&db));
        has_stopped.recv_timeout(Duration::from_secs(60)).expect("the work comes to this place");
        let (done, is_done) = channel();
        let db = &db;
        scope.spawn(move || {
            let selection = db.select(&[], i64::MIN, i64::MAX).unwrap();
            let read = selection.read(0..1, i64::MIN, i64::MAX).unwrap();
            assert!(read[0].floats.len() >= 30);
            assert_eq!(db.label_values("__name__", &[], i64::MIN, i64::MAX, None).unwrap().values, ["m"]);
            let mut appender = db.appender();
            let series = appender.series(&Labels::from_pairs([("__name__", "other")])).unwrap();
            appender.append(series, 3000, 1.0).unwrap();
            done.send(()).unwrap();
        });
        let went_on = is_done.recv_timeout(Duration::from_secs(60));
        go.send(()).unwrap();
        working.join().unwrap();
        went_on.expect("others wait for the disk");
    });
}

#[test]
fn nobody_but_writers_waits_for_a_record_of_the_log() {
    others_go_on(|op| matches!(op, FileOperation::Write(path, ..) if in_log(path)), |db| append(db, "m", 3000));
}

#[test]
fn nobody_but_writers_waits_for_a_checkpoint() {
    let syncs = |op: &FileOperation<'_>| matches!(op, FileOperation::Sync(path) if in_log(path) && path.extension().is_some_and(|e| e == "tmp"));
    others_go_on(syncs, |db| db.maintain().unwrap());
}

#[test]
fn nobody_waits_for_a_block() {
    let syncs = |op: &FileOperation<'_>| matches!(op, FileOperation::Sync(path) if path.ends_with("index"));
    others_go_on(syncs, |db| db.maintain().unwrap());
}
