//! Who asks for some labels of series only gets these, wherever the series lie; what is found is the same.

use model::{KeptLabels, Labels, MatchOp, Matcher};
use tsdb::Db;

#[path = "shared/scratch.rs"]
mod scratch;
#[path = "shared/short_blocks.rs"]
mod short_blocks;
use scratch::scratch;
use short_blocks::short_blocks;

const BLOCK: i64 = 1000;
const SERIES: i64 = 300;

/// Series of several metrics, of which those that follow each other have the same labels or others.
fn labels(n: i64) -> Labels {
    let number = n.to_string();
    let mut pairs = vec![("__name__", ["a", "b", "c"][n as usize % 3]), ("n", &*number)];
    if n % 3 == 1 {
        pairs.push(("zone", if n % 2 == 0 { "x" } else { "y" }));
    }
    if n % 3 == 2 && n % 5 < 2 {
        pairs.push(("extra", &*number));
    }
    Labels::from_pairs(pairs)
}

fn append(db: &Db, time: i64) {
    let mut appender = db.appender();
    for n in 0..SERIES {
        let series = appender.series(&labels(n)).unwrap();
        appender.append(series, time, n as f64).unwrap();
    }
    appender.commit().unwrap();
}

#[test]
fn labels_that_are_asked_for_are_there() {
    let dir = scratch();
    let db = Db::open(dir.path(), short_blocks(BLOCK)).unwrap();
    (0..5).for_each(|block| append(&db, block * BLOCK + 500));
    db.maintain().unwrap();
    assert!(db.blocks().len() >= 3, "{} blocks", db.blocks().len());

    let (name, zone) = (["__name__".to_owned()], ["zone".to_owned(), "none".to_owned()]);
    let all_kept = [
        KeptLabels::All,
        KeptLabels::Only(&[]),
        KeptLabels::Only(&name),
        KeptLabels::Only(&zone),
        KeptLabels::Without(&name),
        KeptLabels::Without(&zone),
        KeptLabels::Without(&[]),
    ];
    let any = Matcher::new(MatchOp::NotEqual, "__name__", "b").unwrap();
    let some = Matcher::new(MatchOp::Regex, "n", ".*7|1.*").unwrap();
    for matchers in [vec![any.clone()], vec![some.clone()], vec![any, some]] {
        let mut expected: Vec<(Labels, f64)> = (0..SERIES)
            .map(|n| (labels(n), n as f64))
            .filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels.value(&m.name))))
            .collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        // in one block, in several, in the head, and in both
        for (from, to) in [(1000, 1999), (0, 1999), (4000, 4999), (0, 4999)] {
            for kept in all_kept {
                let selection = db.select_while(&matchers, from, to, kept, &|_| true).unwrap();
                assert_eq!(selection.len(), expected.len());
                for range in [0..selection.len(), 3..selection.len().min(50)] {
                    let expected: Vec<Labels> = expected[range.clone()].iter().map(|(l, _)| kept.of(l)).collect();
                    assert_eq!(selection.labels_of(range, kept), expected, "{kept:?} {from}..={to}");
                }
                let newest = selection.newest(0..selection.len(), from, to).unwrap();
                let values = newest.iter().map(|newest| match newest {
                    model::Newest::Float(value) => *value,
                    _ => f64::NAN,
                });
                assert!(values.eq(expected.iter().map(|(_, value)| *value)), "{kept:?} {from}..={to}");
            }
        }
    }
}
