//! Series that come and go: the head takes no more from hour to hour.

use std::collections::BTreeMap;

use model::{Labels, Matcher};
use tsdb::{Db, Options, SeriesRef};

#[path = "shared/numbers.rs"]
mod numbers;
#[path = "shared/scratch.rs"]
mod scratch;
use numbers::Numbers;
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

/// What the series `a="N"` hold.
fn stored(db: &Db) -> BTreeMap<String, Vec<(i64, f64)>> {
    let selection = db.select(&[Matcher::equal("__name__", "m")], i64::MIN, i64::MAX).unwrap();
    let samples = selection.read(0..selection.labels().len(), i64::MIN, i64::MAX).unwrap();
    let samples = samples.into_iter().map(|s| s.floats.timestamps.iter().copied().zip(s.floats.values).collect());
    selection.labels().iter().map(|labels| labels.get("a").unwrap().to_owned()).zip(samples).collect()
}

#[test]
fn rows_whose_series_come_go_and_move_are_kept_as_they_are() {
    let dir = scratch();
    let options = || Options { background: false, ..Options::default() };
    let mut db = Db::open(dir.path(), options()).unwrap();
    let mut expected: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    let mut numbers = Numbers(7);
    let mut below = move |limit: usize| (numbers.next() >> 33) as usize % limit;
    let mut row: Vec<usize> = (0..120).collect();
    for round in 0..500usize {
        match below(6) {
            // a new one, or one that was there before
            0 => row.insert(below(row.len()), below(120 + round)),
            1 => _ = row.remove(below(row.len())),
            2 => {
                let (a, b) = (below(row.len()), below(row.len()));
                row.swap(a, b);
            }
            _ => {}
        }
        let time = round as i64 * 10_000;
        let mut appender = db.appender();
        let name = |series: usize| Labels::from_pairs([("__name__", "m"), ("a", &series.to_string())]);
        let refs: Vec<SeriesRef> = row.iter().map(|series| appender.series(&name(*series)).unwrap()).collect();
        let values: Vec<f64> = (0..row.len()).map(|at| (at * round) as f64 / 4.0).collect();
        assert_eq!(appender.append_row(time, &refs, &values).refused, []);
        let report = appender.commit().unwrap();
        let mut seen = Vec::new();
        for (series, value) in row.iter().zip(&values) {
            // of two samples of a series the first counts
            if !seen.contains(series) {
                seen.push(*series);
                expected.entry(series.to_string()).or_default().push((time, *value));
            }
        }
        assert_eq!((report.floats, report.refused), (seen.len(), row.len() - seen.len()), "{round}");
        if round % 150 == 149 {
            assert_eq!(stored(&db), expected, "{round}");
            if round > 300 {
                drop(db);
                db = Db::open(dir.path(), options()).unwrap();
                assert_eq!(stored(&db), expected, "{round}, from the log");
            }
        }
    }
    assert_eq!(stored(&db), expected);
}
