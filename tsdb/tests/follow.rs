//! Followers of the log: they get what is committed, whole and in order, with labels, through checkpoints and restarts.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{FloatHistogram, Labels, Metadata, MetricType};
use tsdb::{Db, Exemplar, HistogramSample, LogEntry, LogFollower, LogPosition, LogStart, Options, SeriesRef};

#[path = "shared/scratch.rs"]
mod scratch;
#[path = "shared/short_blocks.rs"]
mod short_blocks;
use scratch::scratch;
use short_blocks::short_blocks;

const BLOCK: i64 = 1000;

fn options() -> Options {
    Options { wal_segment_bytes: 2 << 10, ..short_blocks(BLOCK) }
}

fn open(dir: &Path) -> Db {
    Db::open(dir, options()).unwrap()
}

fn labels(name: u64) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("i", &name.to_string())])
}

/// Adds a sample to each of some series.
fn append(db: &Db, time: i64, names: impl Iterator<Item = u64>) -> Vec<(u64, i64, f64)> {
    let mut appender = db.appender();
    let mut added = Vec::new();
    for name in names {
        let series = appender.series(&labels(name)).unwrap();
        let value = (time * 1000 + name as i64) as f64;
        appender.append(series, time, value).unwrap();
        added.push((name, time, value));
    }
    appender.commit().unwrap();
    added
}

/// What somebody knows who reads the log only.
#[derive(Default)]
struct Seen {
    labels: HashMap<SeriesRef, Labels>,
    /// Named since a checkpoint began.
    named: Option<HashSet<SeriesRef>>,
    samples: Vec<(u64, i64, f64)>,
    lost: Vec<(LogPosition, LogPosition)>,
    checkpoints: usize,
    forgotten: usize,
}

impl Seen {
    fn take(&mut self, entries: Vec<LogEntry>) {
        for entry in entries {
            match entry {
                LogEntry::CheckpointBegin => self.named = Some(HashSet::new()),
                LogEntry::CheckpointEnd => {
                    let named = self.named.take().expect("it has begun");
                    let before = self.labels.len();
                    self.labels.retain(|series, _| named.contains(series));
                    self.forgotten += before - self.labels.len();
                    self.checkpoints += 1;
                }
                LogEntry::Series(all) => {
                    for (series, labels) in all {
                        self.named.iter_mut().for_each(|named| _ = named.insert(series));
                        self.labels.insert(series, labels);
                    }
                }
                LogEntry::Row { time, series, values, .. } => {
                    for (series, value) in series.iter().zip(values) {
                        let name = self.labels[series].value("i").parse().unwrap();
                        self.samples.push((name, time, value));
                    }
                }
                LogEntry::Lost { from, to } => self.lost.push((from, to)),
                LogEntry::Histograms(_) | LogEntry::Metadata(_) | LogEntry::Exemplars(_) => {}
            }
        }
    }

    fn read(&mut self, follower: &mut LogFollower, records: usize) -> usize {
        for read in 0..records {
            let Some(entries) = follower.read().unwrap() else { return read };
            self.take(entries);
        }
        records
    }

    fn read_all(&mut self, follower: &mut LogFollower) {
        self.read(follower, usize::MAX);
    }
}

#[test]
fn a_commit_is_read_as_it_was_written() {
    let dir = scratch();
    let db = open(dir.path());
    append(&db, 1, 0..1);
    let mut follower = db.follow_log(LogStart::Now).unwrap();
    let mut seen = Seen::default();
    seen.read_all(&mut follower);
    assert_eq!((seen.labels.len(), seen.samples.len()), (1, 0), "what is there is named, and nothing else");

    let mut appender = db.appender();
    let (a, b) = (appender.series(&labels(0)).unwrap(), appender.series(&labels(1)).unwrap());
    let histogram = HistogramSample::Float(Arc::new(FloatHistogram { count: 2.5, ..FloatHistogram::default() }));
    appender.append_with_start(a, 1, 2, 0.5).unwrap();
    appender.append_histogram_with_start(b, 1, 3, histogram).unwrap();
    appender
        .append_exemplar(a, Exemplar { labels: Labels::from_pairs([("id", "x")]), value: 7.0, timestamp: 2 })
        .unwrap();
    let metadata = Metadata { metric_type: MetricType::Gauge, help: "h".into(), unit: "".into() };
    appender.set_metadata(b, metadata.clone()).unwrap();
    assert!(follower.read().unwrap().is_none(), "not before it is committed");
    appender.commit().unwrap();
    let entries = follower.read().unwrap().unwrap();
    assert!(follower.read().unwrap().is_none());
    let [series, row, histograms, meta, exemplars] = &entries[..] else { panic!("{entries:?}") };
    assert!(matches!(series, LogEntry::Series(all) if *all == [(b, labels(1))]), "{series:?}");
    assert!(
        matches!(row, LogEntry::Row { time: 2, series, values, starts: Some(starts) }
            if *series == [a] && *values == [0.5] && *starts == [1]),
        "{row:?}"
    );
    assert!(
        matches!(histograms, LogEntry::Histograms(all) if matches!(&all[..], [(s, 3, 1, HistogramSample::Float(h))] if *s == b && h.count == 2.5)),
        "{histograms:?}"
    );
    assert!(matches!(meta, LogEntry::Metadata(all) if *all == [(b, metadata)]), "{meta:?}");
    assert!(matches!(exemplars, LogEntry::Exemplars(all) if all[0].0 == a && all[0].1.value == 7.0), "{exemplars:?}");
}

#[test]
fn a_waiting_follower_is_woken() {
    let dir = scratch();
    let db = open(dir.path());
    let mut follower = db.follow_log(LogStart::Oldest).unwrap();
    Seen::default().read_all(&mut follower);
    assert!(!follower.wait(Duration::ZERO));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| follower.wait(Duration::from_secs(60)));
        append(&db, 1, 0..1);
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn nothing_is_missed_through_checkpoints_and_restarts() {
    let mut checkpoints = 0;
    for seed in 1..=20u64 {
        let dir = scratch();
        let mut state = seed * 0x9e37_79b9_7f4a_7c15;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut db = open(dir.path());
        let mut follower = db.follow_log(LogStart::Oldest).unwrap();
        let mut seen = Seen::default();
        let mut written = Vec::new();
        for step in 0..600i64 {
            // names move on with time, so that series leave the head
            let oldest = step as u64 / 40;
            let names: Vec<u64> = (oldest..oldest + 12).filter(|_| random(3) > 0).collect();
            written.extend(append(&db, step * 20, names.into_iter()));
            match random(20) {
                0..=3 => db.maintain().unwrap(),
                4..=12 => _ = seen.read(&mut follower, 4),
                13 => {
                    // far enough that no series it has not read has left the head
                    seen.read(&mut follower, seen.samples.len().max(20));
                    let position: LogPosition = follower.position().to_string().parse().unwrap();
                    drop(follower);
                    drop(db);
                    db = open(dir.path());
                    follower = db.follow_log(LogStart::At(position)).unwrap();
                    seen.labels.clear();
                }
                _ => {}
            }
        }
        seen.read_all(&mut follower);
        assert_eq!(seen.samples, written, "seed {seed}");
        assert_eq!(seen.lost, []);
        // nobody holds on to series that are gone for good
        let known: HashSet<&str> = seen.labels.values().map(|labels| labels.value("i")).collect();
        assert!(known.len() < 200, "seed {seed}: {}", known.len());
        checkpoints += seen.checkpoints;
        assert!(seen.forgotten > 0, "seed {seed}");
    }
    assert!(checkpoints > 40, "{checkpoints}");
}

fn segments(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("firewatch/wal")).unwrap().count()
}

#[test]
fn segments_wait_for_a_follower_up_to_a_limit() {
    let fill = |db: &Db| {
        let mut written = Vec::new();
        for step in 0..600 {
            written.extend(append(db, step * 20, 0..20));
            if step % 50 == 0 {
                db.maintain().unwrap();
            }
        }
        written
    };
    let dir = scratch();
    let without = {
        let db = open(dir.path());
        fill(&db);
        segments(dir.path())
    };

    let dir = scratch();
    let db = open(dir.path());
    let mut follower = db.follow_log(LogStart::Oldest).unwrap();
    let written = fill(&db);
    assert!(segments(dir.path()) > 2 * without, "{} where there are {without} otherwise", segments(dir.path()));
    let mut seen = Seen::default();
    seen.read_all(&mut follower);
    assert_eq!((seen.samples, seen.lost), (written, vec![]));
    drop(follower);
    db.maintain().unwrap();
    assert!(segments(dir.path()) <= without + 1);

    let dir = scratch();
    let db = Db::open(dir.path(), Options { log_follower_bytes: 8 << 10, ..options() }).unwrap();
    let mut follower = db.follow_log(LogStart::Oldest).unwrap();
    let mut seen = Seen::default();
    seen.read(&mut follower, 3);
    let written = fill(&db);
    seen.read_all(&mut follower);
    assert_eq!(seen.lost.len(), 1);
    assert!(seen.lost[0].0 < seen.lost[0].1);
    assert!(segments(dir.path()) < 3 * without, "{} where there are {without} otherwise", segments(dir.path()));
    // what comes behind the gap is whole
    assert!(seen.samples.len() < written.len() && seen.samples.len() > 1000, "{}", seen.samples.len());
    let rest = seen.samples.len() - 1000;
    assert_eq!(seen.samples[rest..], written[written.len() - 1000..]);
}

#[test]
fn a_position_of_another_log_is_lost() {
    let dir = scratch();
    let db = open(dir.path());
    let written = append(&db, 1, 0..3);
    let at = LogPosition { segment: 77, offset: 5 };
    let mut follower = db.follow_log(LogStart::At(at)).unwrap();
    let mut seen = Seen::default();
    seen.read_all(&mut follower);
    assert_eq!((seen.samples, seen.lost[0].0), (written, at));
    for bad in ["", "1", "a:b", "1:2:3", "-1:0"] {
        assert!(bad.parse::<LogPosition>().is_err(), "{bad}");
    }
}
