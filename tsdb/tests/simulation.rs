//! The engine against a plain model in memory: random appends, two writers of one series, deletions, cuts, merges, crashes.
//!
//! A failing seed is printed; `TSDB_SEED=n cargo test -p tsdb --test simulation` runs it alone, `TSDB_RUNS=n` runs more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{FloatHistogram, Histogram, Labels, MatchOp, Matcher, Span};
use tsdb::{Appender, Db, HistogramSample, Options, SeriesRef};

const RANGE: i64 = 1000;

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Float(u64),
    Histogram(String),
}

type Series = BTreeMap<i64, Value>;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn value(&mut self) -> f64 {
        match self.below(8) {
            0 => self.below(1000) as f64 / 100.0,
            1 => f64::from_bits(self.next()),
            2 => model::STALE_NAN,
            3 => -0.0,
            4..=5 => self.below(3) as f64,
            _ => self.below(1 << 40) as f64,
        }
    }

    fn histogram(&mut self) -> HistogramSample {
        let buckets = self.below(4) as u32;
        let spans =
            if buckets == 0 { vec![] } else { vec![Span { offset: self.below(9) as i32 - 4, length: buckets }] };
        if self.one_in(2) {
            let positive_buckets: Vec<f64> = (0..buckets).map(|_| self.below(9) as f64 / 2.0).collect();
            let count = positive_buckets.iter().sum();
            HistogramSample::Float(Arc::new(FloatHistogram {
                schema: self.below(5) as i32,
                count,
                sum: self.value(),
                positive_spans: spans,
                positive_buckets,
                ..FloatHistogram::default()
            }))
        } else {
            HistogramSample::Integer(Arc::new(Histogram {
                schema: 3,
                count: u64::from(buckets) * 4,
                sum: self.below(100) as f64,
                positive_spans: spans,
                positive_buckets: (0..buckets).map(|i| if i == 0 { 4 } else { 0 }).collect(),
                ..Histogram::default()
            }))
        }
    }
}

fn text(sample: &HistogramSample) -> String {
    // the sum's bits, since a NaN is no other's equal
    match sample {
        HistogramSample::Integer(h) => {
            format!("{:?}", Histogram { sum: 0.0, ..(**h).clone() }) + &h.sum.to_bits().to_string()
        }
        HistogramSample::Float(h) => {
            format!("{:?}", FloatHistogram { sum: 0.0, ..(**h).clone() }) + &h.sum.to_bits().to_string()
        }
    }
}

struct Simulation {
    random: Random,
    home: PathBuf,
    folder: PathBuf,
    folders: usize,
    options: Options,
    db: Db,
    model: BTreeMap<Labels, Series>,
    /// Newest in-order sample of each series.
    last: BTreeMap<Labels, i64>,
    newest: i64,
    now: i64,
    refs: BTreeMap<Labels, SeriesRef>,
    targets: Vec<Vec<Labels>>,
    log: Vec<String>,
}

fn labels(metric: u64, instance: u64) -> Labels {
    let instance = instance.to_string();
    let mut pairs = vec![("__name__", ["a", "b", "c", "d", "e"][metric as usize % 5]), ("instance", &instance)];
    if metric % 3 == 1 {
        pairs.push(("zone", "z"));
    }
    Labels::from_pairs(pairs)
}

/// A folder in memory if there is one: every start of a database fsyncs.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Samples of a transaction, to be told to the model when it commits.
type Pending = Vec<(Labels, i64, Value)>;

impl Simulation {
    fn new(seed: u64, home: &Path) -> Self {
        let mut random = Random(seed);
        let options = Options {
            background: false,
            min_block_duration: RANGE,
            max_block_duration: RANGE * 9,
            retention_duration: None,
            wal_segment_bytes: 1 << (10 + random.below(6)),
            out_of_order_window: if random.one_in(2) { 0 } else { RANGE * (1 + random.below(5) as i64) },
            compaction: !random.one_in(4),
            ..Options::default()
        };
        let folder = home.join("0");
        let targets = (0..3).map(|t| (0..4 + random.below(40)).map(|m| labels(m, t * 100 + m / 5)).collect()).collect();
        Self {
            db: Db::open(&folder, options.clone()).unwrap(),
            random,
            home: home.to_owned(),
            folder,
            folders: 1,
            options,
            model: BTreeMap::new(),
            last: BTreeMap::new(),
            newest: i64::MIN,
            now: 10_000,
            refs: BTreeMap::new(),
            targets,
            log: Vec::new(),
        }
    }

    /// The reference of a series: one kept from before, if there is one and it is still good.
    fn resolve(&mut self, appender: &mut Appender, labels: &Labels) -> SeriesRef {
        if let Some(known) = self.refs.get(labels) {
            match appender.labels(*known) {
                Some(found) => {
                    assert_eq!(found, *labels);
                    return *known;
                }
                None => assert!(!self.db.blocks().is_empty(), "gone though nothing was cut"),
            }
        }
        let fresh = appender.series(labels).unwrap();
        self.refs.insert(labels.clone(), fresh);
        fresh
    }

    fn scrape(&mut self, target: usize, appender: &mut Appender, pending: &mut Pending) {
        if self.random.one_in(10) {
            let at = self.random.below(self.targets[target].len() as u64) as usize;
            let gone = self.targets[target].remove(at);
            if self.random.one_in(2) {
                self.targets[target].push(gone);
            }
            let fresh = labels(self.random.below(5), 1000 + self.random.below(60));
            if !self.targets[target].contains(&fresh) {
                self.targets[target].insert(0, fresh);
            }
        }
        let series = self.targets[target].clone();
        let time = self.now - self.random.below(3) as i64;
        let refs: Vec<SeriesRef> = series.iter().map(|l| self.resolve(appender, l)).collect();
        let values: Vec<f64> =
            series.iter().map(|_| if self.random.one_in(2) { 7.0 } else { self.random.value() }).collect();
        let report = appender.append_row(time, &refs, &values);
        for (at, (labels, value)) in series.iter().zip(values).enumerate() {
            let refused = report.refused.iter().find(|r| r.0 == at).map(|r| r.1);
            self.judge(labels, time, refused.map(|e| e.to_string()).as_deref());
            if refused.is_none() {
                pending.push((labels.clone(), time, Value::Float(value.to_bits())));
            }
        }
    }

    fn single(&mut self, appender: &mut Appender, pending: &mut Pending) {
        let series = labels(self.random.below(5), self.random.below(12) * 50);
        let reference = self.resolve(appender, &series);
        let time = match self.random.below(6) {
            0 => self.now - self.random.below(RANGE as u64 * 6) as i64,
            1 => self.last.get(&series).copied().unwrap_or(self.now),
            _ => self.now + self.random.below(5) as i64,
        };
        let histogram = self.random.one_in(3);
        let (result, value) = if histogram {
            let sample = self.random.histogram();
            let value = Value::Histogram(text(&sample));
            (appender.append_histogram(reference, time, sample), value)
        } else {
            let value = self.random.value();
            (appender.append(reference, time, value), Value::Float(value.to_bits()))
        };
        self.judge(&series, time, result.as_ref().err().map(ToString::to_string).as_deref());
        if result.is_ok() {
            pending.push((series, time, value));
        }
    }

    /// Whether a refusal, or none, can be right.
    fn judge(&self, labels: &Labels, time: i64, refused: Option<&str>) {
        let last = self.last.get(labels).copied().unwrap_or(i64::MIN);
        let window = self.options.out_of_order_window;
        // the first transaction goes by its first sample
        if time > last && self.newest > i64::MIN && time >= self.newest - RANGE / 2 {
            assert_eq!(refused, None, "{labels} at {time}, last {last}, newest {}", self.newest);
        }
        if window == 0 && time < last {
            assert!(refused.is_some(), "{labels} at {time} taken before {last}");
        }
        if window > 0 && self.newest > i64::MIN && time < last && time >= self.newest - window {
            assert_eq!(refused, None, "{labels} at {time}, newest {}, window {window}", self.newest);
        }
    }

    fn committed(&mut self, mut pending: Pending) {
        // a transaction's floats go before its histograms
        pending.sort_by_key(|p| matches!(p.2, Value::Histogram(_)));
        let window = self.options.out_of_order_window;
        for (labels, time, value) in pending {
            let last = self.last.get(&labels).copied().unwrap_or(i64::MIN);
            if time <= last && window == 0 {
                continue;
            }
            self.model.entry(labels.clone()).or_default().entry(time).or_insert(value);
            if time > last {
                self.last.insert(labels, time);
            }
            self.newest = self.newest.max(time);
        }
    }

    fn step(&mut self) {
        self.now += 5 + self.random.below(30) as i64;
        match self.random.below(100) {
            0..=69 => {
                let mut appender = self.db.appender();
                let mut pending = Pending::new();
                for _ in 0..1 + self.random.below(3) {
                    if self.random.one_in(3) {
                        self.single(&mut appender, &mut pending);
                    } else {
                        let target = self.random.below(3) as usize;
                        self.scrape(target, &mut appender, &mut pending);
                    }
                }
                if self.random.one_in(12) {
                    self.log.push(format!("drop {}", pending.len()));
                } else {
                    self.log.push(format!("commit {} at {}", pending.len(), self.now));
                    appender.commit().unwrap();
                    self.committed(pending);
                }
            }
            70..=79 => {
                // two writers of the same series, in either order
                let (mut a, mut b) = (self.db.appender(), self.db.appender());
                let (mut from_a, mut from_b) = (Pending::new(), Pending::new());
                for _ in 0..3 {
                    self.single(&mut a, &mut from_a);
                    self.single(&mut b, &mut from_b);
                }
                self.log.push(format!("two writers {} {} at {}", from_a.len(), from_b.len(), self.now));
                if self.random.one_in(2) {
                    a.commit().unwrap();
                    b.commit().unwrap();
                    self.committed(from_a);
                    self.committed(from_b);
                } else {
                    b.commit().unwrap();
                    a.commit().unwrap();
                    self.committed(from_b);
                    self.committed(from_a);
                }
            }
            80..=84 => {
                self.log.push("maintain".into());
                self.db.maintain().unwrap();
            }
            85..=87 => self.crash(),
            88 => {
                self.log.push("close and open".into());
                self.db.close().unwrap();
                self.db = self.reopen();
            }
            // with late samples, a deleted range would hide what comes later
            89..=90 if self.options.out_of_order_window == 0 => {
                let from = self.now - self.random.below(4000) as i64;
                let to = from + self.random.below(2000) as i64;
                let matchers = self.matchers();
                self.log.push(format!("delete {matchers:?} {from} {to}"));
                self.db.delete(&matchers, from, to).unwrap();
                for (_, series) in self.model.iter_mut().filter(|(labels, _)| matches(&matchers, labels)) {
                    series.retain(|t, _| !(from..=to).contains(t));
                }
            }
            91 => {
                self.log.push("clean".into());
                self.db.clean_tombstones().unwrap();
            }
            _ => {
                let from = self.now - self.random.below(6000) as i64;
                let to = from + self.random.below(3000) as i64;
                let matchers = self.matchers();
                self.check(&matchers, from, to);
            }
        }
    }

    fn matchers(&mut self) -> Vec<Matcher> {
        let all = [
            Matcher::equal("__name__", "a"),
            Matcher::not_equal("__name__", "b"),
            Matcher::new(MatchOp::Regex, "instance", "1.*").unwrap(),
            Matcher::new(MatchOp::NotRegex, "instance", "1.*|50").unwrap(),
            Matcher::equal("zone", ""),
            Matcher::new(MatchOp::Regex, "__name__", "c|d|x").unwrap(),
        ];
        (0..1 + self.random.below(2)).map(|_| all[self.random.below(6) as usize].clone()).collect()
    }

    /// As if the process were killed: the folder as it is, opened elsewhere.
    fn crash(&mut self) {
        self.log.push("crash".into());
        let folder = self.home.join(self.folders.to_string());
        self.folders += 1;
        copy(&self.folder, &folder);
        self.folder = folder;
        self.db = self.reopen();
    }

    fn reopen(&mut self) -> Db {
        self.refs.clear();
        // the old one first, where it is the same folder
        let placeholder = Db::open(self.home.join("placeholder"), self.options.clone()).unwrap();
        drop(std::mem::replace(&mut self.db, placeholder));
        Db::open(&self.folder, self.options.clone()).unwrap()
    }

    fn check(&self, matchers: &[Matcher], from: i64, to: i64) {
        let selection = self.db.select(matchers, from, to).unwrap();
        assert_eq!(selection.warnings(), &[] as &[String]);
        assert!(selection.labels().is_sorted());
        let count = selection.labels().len();
        let mut found: BTreeMap<Labels, Series> = BTreeMap::new();
        for at in (0..count).step_by(7) {
            let range = at..(at + 7).min(count);
            for (labels, samples) in
                selection.labels()[range.clone()].iter().zip(selection.read_raw(range, from, to).unwrap())
            {
                let mut series = Series::new();
                assert!(samples.floats.timestamps.is_sorted());
                for (t, v) in samples.floats.timestamps.iter().zip(&samples.floats.values) {
                    assert_eq!(series.insert(*t, Value::Float(v.to_bits())), None);
                }
                for (t, h) in samples.histograms.timestamps.iter().zip(&samples.histograms.values) {
                    assert_eq!(series.insert(*t, Value::Histogram(text(h))), None);
                }
                if !series.is_empty() {
                    found.insert(labels.clone(), series);
                }
            }
        }
        let expected: BTreeMap<Labels, Series> = self
            .model
            .iter()
            .filter(|(labels, _)| matches(matchers, labels))
            .map(|(l, s)| (l.clone(), s.range(from..=to).map(|(t, v)| (*t, v.clone())).collect::<Series>()))
            .filter(|(_, s)| !s.is_empty())
            .collect();
        for labels in expected.keys().chain(found.keys()) {
            let (e, f) = (expected.get(labels), found.get(labels));
            if e != f {
                let empty = Series::new();
                let (e, f) = (e.unwrap_or(&empty), f.unwrap_or(&empty));
                let missing: Vec<_> = e.iter().filter(|(t, v)| f.get(*t) != Some(v)).take(5).collect();
                let extra: Vec<_> = f.iter().filter(|(t, v)| e.get(*t) != Some(v)).take(5).collect();
                panic!("{labels} in {from}..={to}: expected {missing:?}, found {extra:?}");
            }
        }
    }
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(&m.name)))
}

fn run(seed: u64, steps: usize) {
    let dir = scratch();
    let mut simulation = Simulation::new(seed, dir.path());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for step in 0..steps {
            simulation.step();
            if step % 50 == 49 || std::env::var_os("TSDB_SEED").is_some() {
                simulation.check(&[], i64::MIN, i64::MAX);
            }
        }
        simulation.crash();
        simulation.check(&[], i64::MIN, i64::MAX);
    }));
    if let Err(panic) = outcome {
        let from = simulation.log.len().saturating_sub(30);
        eprintln!("seed {seed}, {:?}\nlast steps: {:#?}", simulation.options, &simulation.log[from..]);
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_engine_does_what_the_model_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("TSDB_SEED") {
        return run(seed, 600);
    }
    for seed in 0..number("TSDB_RUNS").unwrap_or(16) {
        run(seed, 600);
    }
}
