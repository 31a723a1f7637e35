//! References of series that somebody remembers: good as long as the store knows them, and for a transaction that has asked.

use model::Labels;
use tsdb::{AppendError, Db, SeriesRef};

#[path = "shared/scratch.rs"]
mod scratch;
#[path = "shared/short_blocks.rs"]
mod short_blocks;
use scratch::scratch;
use short_blocks::short_blocks;

const BLOCK: i64 = 1000;

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

fn append(db: &Db, name: &str, times: std::ops::Range<i64>) -> SeriesRef {
    let mut appender = db.appender();
    let series = appender.series(&labels(name)).unwrap();
    for time in times.step_by(100) {
        appender.append(series, time, 1.0).unwrap();
    }
    appender.commit().unwrap();
    series
}

#[test]
fn a_reference_is_good_until_the_series_has_left_the_head() {
    let dir = scratch();
    let db = Db::open(dir.path(), short_blocks(BLOCK)).unwrap();
    let (gone, kept) = (append(&db, "gone", 0..100), append(&db, "kept", 0..100));
    let mut asking = db.appender();
    let newest =
        [(gone, -1), (gone, 0), (gone, 1), (SeriesRef(77), 1)].map(|(series, time)| asking.is_newest(series, time));
    assert_eq!(newest, [false, false, true, false]);
    drop(asking);
    assert_eq!(db.metrics().out_of_order_refused, 0, "asking is no refusal");
    append(&db, "other", 0..5000);
    let mut appender = db.appender();
    assert!(appender.keep(kept));
    db.maintain().unwrap();
    assert!(!appender.keep(gone));
    assert!(appender.keep(kept));
    assert!(!appender.keep(SeriesRef(u64::MAX)));
    assert_eq!(appender.append(gone, 5000, 1.0), Err(AppendError::UnknownSeries(gone)));
    appender.append(kept, 5000, 1.0).unwrap();
    assert_eq!(appender.commit().unwrap().floats, 1);
    // it gets another number
    assert_ne!(append(&db, "gone", 5000..5100), gone);
}
