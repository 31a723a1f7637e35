//! A start in two steps: blocks first, then the log.

use std::path::Path;

use model::{Labels, Matcher};
use tsdb::{Answer, Db, OpenError, Opening, Options, Selection};

#[path = "shared/copy.rs"]
mod copy;
#[path = "shared/scratch.rs"]
mod scratch;
use copy::copy;
use scratch::scratch;

const HOUR: i64 = 3_600_000;

/// Small segments and no image: there is a log to read.
fn options() -> Options {
    Options { background: false, image_interval_bytes: None, wal_segment_bytes: 4096, ..Options::default() }
}

/// A database with a block of the first two hours, and the third and fourth in the log, as a kill leaves it.
fn killed(dir: &Path) {
    let live = dir.join("live");
    let db = Db::open(&live, options()).unwrap();
    for minute in 0..4 * 60 {
        let mut appender = db.appender();
        for instance in 0..10 {
            let name = if minute < 3 * 60 { "old" } else { "new" };
            let labels = Labels::from_pairs([("__name__", name), ("instance", &instance.to_string())]);
            let series = appender.series(&labels).unwrap();
            appender.append(series, minute * 60_000, minute as f64).unwrap();
        }
        appender.commit().unwrap();
    }
    db.maintain().unwrap();
    assert_eq!(db.blocks().len(), 1);
    copy(&live, &dir.join("killed"));
}

fn count(selection: &Selection) -> usize {
    let samples = selection.read(0..selection.labels().len(), 0, 4 * HOUR).unwrap();
    samples.iter().map(|series| series.floats.values.len()).sum()
}

#[test]
fn blocks_answer_while_the_log_is_read() {
    let dir = scratch();
    killed(dir.path());
    let opening = Opening::begin(dir.path().join("killed"), options()).unwrap();
    let (view, progress) = (opening.view(), opening.progress());
    assert_eq!(progress.segments(), (0, 0, 0));

    // what is in blocks is complete, and nothing is said about it
    let old = Matcher::equal("__name__", "old");
    let selection = view.select(std::slice::from_ref(&old), 0, 2 * HOUR - 1);
    assert_eq!((count(&selection), selection.warnings()), (10 * 120, &[] as &[String]));
    // beyond, it is said that something is missing
    let selection = view.select(std::slice::from_ref(&old), 0, 2 * HOUR);
    assert_eq!(count(&selection), 10 * 120);
    assert!(selection.warnings()[0].contains("still being read"), "{:?}", selection.warnings());
    let names = |answer: Answer| (answer.values, answer.warnings.len());
    assert_eq!(names(view.label_values("__name__", &[], 0, HOUR, None)), (["old"].into_iter().collect(), 0));
    assert_eq!(names(view.label_values("__name__", &[], 0, 4 * HOUR, None)), (["old"].into_iter().collect(), 1));
    assert_eq!(names(view.label_values("instance", std::slice::from_ref(&old), 0, HOUR, Some(2))).0, ["0", "1"]);
    assert_eq!(names(view.label_names(&[], 0, HOUR, None)).0, ["__name__", "instance"]);
    assert_eq!(names(view.label_names(&[old], 0, 3 * HOUR, None)).1, 1);

    let db = opening.replay().unwrap();
    let (first, last, current) = progress.segments();
    assert!(first < last && current == last, "{first} {current} {last}");
    let all = db.select(&[], 0, 4 * HOUR).unwrap();
    assert_eq!((count(&all), all.warnings()), (10 * 240, &[] as &[String]));
}

#[test]
fn a_new_folder_lacks_nothing_that_could_be_asked_for() {
    let dir = scratch();
    let opening = Opening::begin(dir.path(), options()).unwrap();
    assert!(opening.view().select(&[], 0, HOUR).labels().is_empty());
    // the folder is held from the first step on
    assert!(matches!(Opening::begin(dir.path(), options()), Err(OpenError::Locked(_))));
    opening.replay().unwrap();
    Opening::begin(dir.path(), options()).unwrap();
}

#[test]
fn a_start_that_is_stopped_loses_nothing() {
    let dir = scratch();
    killed(dir.path());
    let folder = dir.path().join("killed");
    for images in [None, Some(1)] {
        let options = || Options { image_interval_bytes: images, ..options() };
        let opening = Opening::begin(&folder, options()).unwrap();
        opening.progress().stop();
        assert!(matches!(opening.replay(), Err(OpenError::Stopped)));
        // at any moment
        let opening = Opening::begin(&folder, options()).unwrap();
        let progress = opening.progress();
        let stopping = std::thread::spawn(move || progress.stop());
        let outcome = opening.replay();
        stopping.join().unwrap();
        assert!(matches!(outcome, Ok(_) | Err(OpenError::Stopped)));
        drop(outcome);
        let db = Db::open(&folder, options()).unwrap();
        assert_eq!(count(&db.select(&[], 0, 4 * HOUR).unwrap()), 10 * 240);
    }
}
