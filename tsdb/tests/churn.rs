//! Series that come and go: the head takes no more from hour to hour.

use model::Labels;
use tsdb::{Db, Options, SeriesRef};

#[path = "shared/scratch.rs"]
mod scratch;
use scratch::scratch;

const SERIES: usize = 3000;
const MINUTE: i64 = 60_000;

#[test]
fn a_head_whose_series_change_does_not_grow() {
    let dir = scratch();
    let db = Db::open(dir.path(), Options { background: false, ..Options::default() }).unwrap();
    let name = |series: usize, generation: usize| {
        Labels::from_pairs([("__name__", "m"), ("pod", &format!("pod-{series}-{generation}"))])
    };
    let mut refs: Vec<SeriesRef> = Vec::new();
    let mut sizes = Vec::new();
    for minute in 0..14 * 60usize {
        let mut appender = db.appender();
        if refs.is_empty() {
            refs = (0..SERIES).map(|series| appender.series(&name(series, 0)).unwrap()).collect();
        }
        // a tenth in an hour
        for at in 0..SERIES / 600 {
            let series = (minute * (SERIES / 600) + at) % SERIES;
            refs[series] = appender.series(&name(series, minute)).unwrap();
        }
        let time = minute as i64 * MINUTE;
        let values: Vec<f64> = (0..SERIES).map(|series| (series * minute) as f64).collect();
        assert_eq!(appender.append_row(time, &refs, &values).refused, []);
        appender.commit().unwrap();
        if minute % 60 == 59 {
            db.maintain().unwrap();
            let metrics = db.metrics();
            sizes.push((metrics.head_bytes, metrics.head_series));
        }
    }
    // a block is cut every other hour: the hours behind one are alike
    let cut: Vec<_> = sizes.iter().skip(3).step_by(2).collect();
    let (first, rest) = cut.split_first().unwrap();
    assert!(first.1 as usize > SERIES, "{sizes:?}");
    for later in rest {
        assert!(later.0 <= first.0 + first.0 / 8, "{sizes:?}");
        assert!(later.1 <= first.1 + first.1 / 8, "{sizes:?}");
    }
}
