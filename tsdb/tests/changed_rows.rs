//! Rows of one target whose series come, go, move and stand twice: what is read is what was appended, from open rows, sealed chunks, the
//! log and an image of the head.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use model::Labels;
use tsdb::{Db, Options, SeriesRef};

#[path = "shared/numbers.rs"]
mod numbers;
#[path = "shared/scratch.rs"]
mod scratch;
use numbers::Numbers;
use scratch::scratch;

const INTERVAL: i64 = 10_000;

/// Bits of values by series and time.
type Samples = BTreeMap<(usize, i64), u64>;

fn below(numbers: &mut Numbers, limit: usize) -> usize {
    ((numbers.next() >> 32) % limit.max(1) as u64) as usize
}

fn open(dir: &Path, image: bool) -> Db {
    let options = Options { background: false, image_interval_bytes: image.then_some(1), ..Options::default() };
    Db::open(dir, options).unwrap()
}

fn read(db: &Db) -> Samples {
    let (from, to) = (i64::MIN, i64::MAX);
    let selection = db.select(&[], from, to).unwrap();
    let mut found = Samples::new();
    for (at, samples) in selection.read(0..selection.len(), from, to).unwrap().iter().enumerate() {
        let series = selection.labels()[at].value("i").parse().unwrap();
        for (time, value) in samples.floats.timestamps.iter().zip(&samples.floats.values) {
            assert!(found.insert((series, *time), value.to_bits()).is_none());
        }
    }
    found
}

/// The series of the next row: some of those of the last one are gone, parts have changed places, others are new or have come back, and
/// now and then one stands twice.
fn change(row: &mut Vec<usize>, known: &mut usize, numbers: &mut Numbers) {
    for _ in 0..below(numbers, 4) {
        let at = below(numbers, row.len());
        row.drain(at..row.len().min(at + 1 + below(numbers, 3)));
    }
    if below(numbers, 3) == 0 {
        let (from, to) = (below(numbers, row.len()), below(numbers, row.len()));
        row[from.min(to)..from.max(to)].rotate_left(below(numbers, 2).min(from.abs_diff(to)));
    }
    for _ in 0..below(numbers, 5) {
        let series = if below(numbers, 3) == 0 { below(numbers, *known) } else { *known };
        *known = (*known).max(series + 1);
        if !row.contains(&series) {
            row.insert(below(numbers, row.len() + 1), series);
        }
    }
    if !row.is_empty() && below(numbers, 6) == 0 {
        let twice = row[below(numbers, row.len())];
        row.insert(below(numbers, row.len() + 1), twice);
    }
}

#[test]
fn rows_that_change_read_back() {
    for seed in 0..40 {
        let mut numbers = Numbers(seed);
        let dir = scratch();
        let image = seed % 2 == 0;
        let mut db = open(dir.path(), image);
        let mut known = [3, 40, 200][seed as usize % 3];
        let mut row: Vec<usize> = (0..known).collect();
        let mut expected = Samples::new();
        let rows = 150;
        for at in 0..rows {
            let time = at * INTERVAL;
            let mut appender = db.appender();
            let labels = |i: &usize| Labels::from_pairs([("__name__", "m"), ("i", &format!("{i:04}"))]);
            let series: Vec<SeriesRef> = row.iter().map(|i| appender.series(&labels(i)).unwrap()).collect();
            // some stand still
            let value = |i: &usize| ((at / (1 + *i as i64 % 3)) * *i as i64) as f64;
            let values: Vec<f64> = row.iter().map(value).collect();
            let mut refused = BTreeSet::new();
            // mostly in one row, sometimes in two parts
            let cut = if below(&mut numbers, 4) == 0 { below(&mut numbers, row.len()) } else { row.len() };
            for part in [0..cut, cut..row.len()] {
                let report = appender.append_row(time, &series[part.clone()], &values[part.clone()]);
                refused.extend(report.refused.iter().map(|(place, _)| part.start + place));
            }
            assert!(refused.is_empty(), "seed {seed}, row {at}: {refused:?}");
            let distinct = row.iter().collect::<BTreeSet<_>>().len();
            let report = appender.commit().unwrap();
            assert_eq!(report.floats, distinct, "seed {seed}, row {at}");
            // the same value twice may be known already
            assert!(report.refused <= row.len() - distinct, "seed {seed}, row {at}");
            for (i, value) in row.iter().zip(&values) {
                expected.entry((*i, time)).or_insert(value.to_bits());
            }
            change(&mut row, &mut known, &mut numbers);
            if row.len() < 2 {
                row.extend(known..known + 10);
                known += 10;
            }
            if at % 37 == 20 {
                assert_eq!(read(&db), expected, "seed {seed}, row {at}");
                if image {
                    db.maintain().unwrap();
                }
                drop(db);
                db = open(dir.path(), image);
                assert_eq!(read(&db), expected, "seed {seed}, row {at}, opened again");
            }
        }
        assert_eq!(read(&db), expected, "seed {seed}");
    }
}

/// What is stored of rows that are committed one after another.
#[derive(Default)]
struct Model {
    samples: Samples,
    newest: BTreeMap<usize, i64>,
}

impl Model {
    /// Takes a row. How many samples of it are stored.
    fn take(&mut self, row: &[usize], time: i64) -> usize {
        let mut taken = 0;
        for i in row {
            let newest = self.newest.entry(*i).or_insert(i64::MIN);
            if time > *newest {
                *newest = time;
                self.samples.insert((*i, time), (time as f64 + *i as f64).to_bits());
                taken += 1;
            }
        }
        taken
    }
}

/// Between the check of a row and its commit others commit: the place that was found for it may be another one then.
#[test]
fn rows_read_back_whatever_is_committed_between_their_check_and_their_commit() {
    let labels = |i: &usize| Labels::from_pairs([("__name__", "m"), ("i", &format!("{i:04}"))]);
    let mut refused_at_commit = 0;
    for seed in 0..40 {
        let mut numbers = Numbers(seed);
        let dir = scratch();
        let options = || Options { background: false, min_block_duration: 60 * INTERVAL, ..Options::default() };
        let mut db = Db::open(dir.path(), options()).unwrap();
        let mut known = [3, 40, 200][seed as usize % 3];
        let mut row: Vec<usize> = (0..known).collect();
        let mut model = Model::default();
        for at in 0..200 {
            let time = at * INTERVAL;
            let append = |row: &[usize], time: i64| {
                let mut appender = db.appender();
                let series: Vec<SeriesRef> = row.iter().map(|i| appender.series(&labels(i)).unwrap()).collect();
                let values: Vec<f64> = row.iter().map(|i| time as f64 + *i as f64).collect();
                let refused = appender.append_row(time, &series, &values).refused;
                (appender, refused)
            };
            let (checked, refused) = append(&row, time);
            assert_eq!(refused, [], "seed {seed}, row {at}");
            // others have series of their own, or some of the same ones, or are there first with what is new
            for _ in 0..below(&mut numbers, 3) {
                let mut other = row.clone();
                other.truncate(1 + below(&mut numbers, row.len()));
                let middle = below(&mut numbers, other.len());
                match below(&mut numbers, 4) {
                    0 => other.rotate_left(middle),
                    1 => other.insert(0, known + 1 + below(&mut numbers, 50)),
                    2 => other = (0..below(&mut numbers, known) + 1).collect(),
                    _ => {}
                }
                let behind = below(&mut numbers, 4) > 0;
                let other_time = if behind { time - 1 - below(&mut numbers, 9) as i64 } else { time + 1 };
                // what is not newer is refused at once
                let floats = model.take(&other, other_time);
                let (appender, _) = append(&other, other_time);
                assert_eq!(appender.commit().unwrap().floats, floats, "seed {seed}, row {at}");
                known = known.max(other.iter().max().unwrap() + 1);
            }
            if at % 20 == 19 {
                db.maintain().unwrap();
            }
            let floats = model.take(&row, time);
            let report = checked.commit().unwrap();
            assert_eq!(report.floats, floats, "seed {seed}, row {at}");
            refused_at_commit += row.len() - floats;
            change(&mut row, &mut known, &mut numbers);
            if row.len() < 2 {
                row.extend(known..known + 10);
                known += 10;
            }
            if at % 50 == 49 {
                assert_eq!(read(&db), model.samples, "seed {seed}, row {at}");
                drop(db);
                db = Db::open(dir.path(), options()).unwrap();
                assert_eq!(read(&db), model.samples, "seed {seed}, row {at}, opened again");
            }
        }
    }
    assert!(refused_at_commit > 1000, "{refused_at_commit}");
}

#[test]
fn a_row_is_in_its_place_though_others_have_moved_columns_since_it_was_checked() {
    let dir = scratch();
    let db = open(dir.path(), false);
    let mut expected = Samples::new();
    let mut append = |time: i64, row: &[usize]| {
        let mut appender = db.appender();
        let labels = |i: &usize| Labels::from_pairs([("__name__", "m"), ("i", &format!("{i:04}"))]);
        let series: Vec<SeriesRef> = row.iter().map(|i| appender.series(&labels(i)).unwrap()).collect();
        let values: Vec<f64> = row.iter().map(|i| (*i as i64 * 1000 + time) as f64).collect();
        assert!(appender.append_row(time, &series, &values).refused.is_empty());
        expected.extend(row.iter().zip(&values).map(|(i, value)| ((*i, time), value.to_bits())));
        appender
    };
    let all: Vec<usize> = (0..40).collect();
    // until the columns of ten series are out of use
    for time in 0..300 {
        append(time, if time < 10 { &all } else { &all[..30] }).commit().unwrap();
    }
    // one of these comes back, in a row that is checked before another one takes its column for a new series
    let checked = append(302, &all[..31]);
    append(301, &[&all[..30], &[100]].concat()).commit().unwrap();
    checked.commit().unwrap();
    // and one with a new series that somebody else is faster to give a place elsewhere
    let checked = append(304, &[&all[..30], &[200]].concat());
    append(303, &[200, 201]).commit().unwrap();
    checked.commit().unwrap();
    assert_eq!(read(&db), expected);
}
