//! The engine, its disk and the model of both, and the steps that are taken at random.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{FloatHistogram, Histogram, Labels, MatchOp, Matcher};
use tsdb::{Appender, Db, HistogramSample, Options, SeriesRef};

use crate::copy::copy;
use crate::disk::{Disk, Kind, Plan};
use crate::random::Random;

const RANGE: i64 = 1000;

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Float(u64),
    Histogram(String),
}

type Series = BTreeMap<i64, Value>;

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

pub(crate) struct Simulation {
    random: Random,
    disk: Disk,
    home: PathBuf,
    folder: PathBuf,
    folders: usize,
    options: Options,
    db: Db,
    model: BTreeMap<Labels, Series>,
    /// Samples of the model that a loss of power may take.
    unsynced: Vec<(Labels, i64)>,
    /// Samples that were offered since the last fsync and are not in the model: they may be there after a crash.
    offered: Vec<(Labels, i64, Value)>,
    /// What may be deleted after a crash.
    deleting: Vec<(Vec<Matcher>, i64, i64)>,
    /// Steps until the disk is well again.
    ailing: usize,
    /// Newest in-order sample of each series: at least, at most.
    last: BTreeMap<Labels, (i64, i64)>,
    newest: i64,
    now: i64,
    refs: BTreeMap<Labels, SeriesRef>,
    targets: Vec<Vec<Labels>>,
    pub(crate) log: Vec<String>,
}

fn labels(metric: u64, instance: u64) -> Labels {
    let instance = instance.to_string();
    let mut pairs = vec![("__name__", ["a", "b", "c", "d", "e"][metric as usize % 5]), ("instance", &instance)];
    if metric % 3 == 1 {
        pairs.push(("zone", "z"));
    }
    Labels::from_pairs(pairs)
}

/// Samples of a transaction, to be told to the model when it commits.
type Pending = Vec<(Labels, i64, Value)>;

impl Simulation {
    pub(crate) fn new(seed: u64, home: &Path) -> Self {
        let mut random = Random(seed);
        let folder = home.join("0");
        let disk = Disk::new(&folder);
        let options = Options {
            files: disk.files(),
            wal_fsync_interval: if random.one_in(4) { Duration::ZERO } else { Duration::from_secs(5) },
            background: false,
            min_block_duration: RANGE,
            max_block_duration: RANGE * 9,
            retention_duration: None,
            wal_segment_bytes: 1 << (10 + random.below(6)),
            image_interval_bytes: if random.one_in(3) { None } else { Some(1 << random.below(15)) },
            out_of_order_window: if random.one_in(2) { 0 } else { RANGE * (1 + random.below(5) as i64) },
            compaction: !random.one_in(4),
            ..Options::default()
        };
        let targets = (0..3).map(|t| (0..4 + random.below(40)).map(|m| labels(m, t * 100 + m / 5)).collect()).collect();
        Self {
            db: Db::open(&folder, options.clone()).unwrap(),
            random,
            disk,
            home: home.to_owned(),
            folder,
            folders: 1,
            options,
            model: BTreeMap::new(),
            unsynced: Vec::new(),
            offered: Vec::new(),
            deleting: Vec::new(),
            ailing: 0,
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
        // the lines of the last target have timestamps of their own
        if target + 1 == self.targets.len() {
            for (at, (labels, value)) in series.into_iter().zip(values).enumerate() {
                let own = time - (at as i64 * 7) % 5 - i64::from(self.random.one_in(20));
                let result = appender.append(refs[at], own, value);
                self.judge(&labels, own, result.as_ref().err().map(ToString::to_string).as_deref());
                if result.is_ok() {
                    pending.push((labels, own, Value::Float(value.to_bits())));
                }
            }
            return;
        }
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
        let certain = self.last.get(&series).is_none_or(|(low, high)| low == high);
        let time = match self.random.below(6) {
            0 | 1 if !certain => self.now,
            0 => self.now - self.random.below(RANGE as u64 * 6) as i64,
            1 => self.last.get(&series).map_or(self.now, |last| last.1),
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
        let (low, high) = self.last.get(labels).copied().unwrap_or((i64::MIN, i64::MIN));
        let window = self.options.out_of_order_window;
        // the first transaction goes by its first sample
        if time > high && self.newest > i64::MIN && time >= self.newest - RANGE / 2 {
            assert_eq!(refused, None, "{labels} at {time}, last {high}, newest {}", self.newest);
        }
        if window == 0 && time < low {
            assert!(refused.is_some(), "{labels} at {time} taken before {low}");
        }
        if window > 0 && self.newest > i64::MIN && time < low && time >= self.newest - window {
            assert_eq!(refused, None, "{labels} at {time}, newest {}, window {window}", self.newest);
        }
    }

    /// Commits, and tells the model what the engine should have now.
    fn commit(&mut self, appender: Appender, mut pending: Pending) {
        let result = appender.commit();
        // a transaction's floats go before its histograms
        pending.sort_by_key(|p| matches!(p.2, Value::Histogram(_)));
        if !self.went("commit", result) {
            // an fsync may have failed after the write
            for (labels, time, value) in pending {
                let last = self.last.entry(labels.clone()).or_insert((i64::MIN, i64::MIN));
                last.1 = last.1.max(time);
                self.newest = self.newest.max(time);
                self.offered.push((labels, time, value));
            }
            return;
        }
        let window = self.options.out_of_order_window;
        for (labels, time, value) in pending {
            self.offered.push((labels.clone(), time, value.clone()));
            let last = self.last.entry(labels.clone()).or_insert((i64::MIN, i64::MIN));
            if time <= last.0 && window == 0 {
                continue;
            }
            if time > last.1 {
                *last = (time, time);
            }
            if let std::collections::btree_map::Entry::Vacant(slot) =
                self.model.entry(labels.clone()).or_default().entry(time)
            {
                slot.insert(value);
                self.unsynced.push((labels, time));
            }
            self.newest = self.newest.max(time);
        }
        if self.options.wal_fsync_interval.is_zero() {
            self.synced();
        }
    }

    /// Everything so far is on the disk.
    fn synced(&mut self) {
        self.unsynced.clear();
        if self.ailing == 0 {
            self.offered.clear();
            self.deleting.clear();
        }
    }

    /// Whether an operation went well; it must, unless the disk does not.
    fn went<T, E: std::fmt::Display>(&mut self, what: &str, result: Result<T, E>) -> bool {
        match result {
            Ok(_) => true,
            Err(error) => {
                assert!(self.disk.faulty(), "{what}: {error}");
                self.log.push(format!("{what} failed: {error}"));
                false
            }
        }
    }

    pub(crate) fn step(&mut self) {
        self.now += 5 + self.random.below(30) as i64;
        self.random_step();
        if self.disk.is_off() {
            self.lose_power();
        } else if self.ailing > 0 {
            self.ailing -= 1;
            if self.ailing == 0 {
                self.heal();
            }
        }
    }

    fn random_step(&mut self) {
        match self.random.below(104) {
            0..=63 => {
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
                    self.commit(appender, pending);
                }
            }
            64..=67 => self.honoured_timestamps(),
            68..=71 => self.two_lines_one_series(),
            72..=75 => self.target_anew(),
            76..=80 => {
                // two writers of the same series, in either order
                let (mut a, mut b) = (self.db.appender(), self.db.appender());
                let (mut from_a, mut from_b) = (Pending::new(), Pending::new());
                for _ in 0..3 {
                    self.single(&mut a, &mut from_a);
                    self.single(&mut b, &mut from_b);
                }
                self.log.push(format!("two writers {} {} at {}", from_a.len(), from_b.len(), self.now));
                if self.random.one_in(2) {
                    self.commit(a, from_a);
                    self.commit(b, from_b);
                } else {
                    self.commit(b, from_b);
                    self.commit(a, from_a);
                }
            }
            81..=85 => self.maintain(),
            86 => self.crash(),
            87 if self.ailing == 0 => {
                self.log.push("close and open".into());
                let closed = self.db.close();
                if self.went("close", closed) {
                    self.synced();
                }
                self.reopen(false);
            }
            // with late samples, a deleted range would hide what comes later
            88..=89 if self.options.out_of_order_window == 0 => self.delete(),
            90 => {
                self.log.push("clean".into());
                let cleaned = self.db.clean_tombstones();
                self.went("clean", cleaned);
            }
            91..=92 => {
                let synced = self.db.sync();
                if self.went("sync", synced) {
                    self.log.push("sync".into());
                    self.synced();
                }
            }
            93 if self.ailing == 0 => self.lose_power(),
            94..=95 if self.ailing == 0 => {
                // in the middle of what comes next
                let changes = self.random.below(40);
                self.log.push(format!("power goes after {changes} changes"));
                self.disk.cut_after(changes);
                self.ailing = 1000;
                self.maintain();
            }
            96..=97 if self.ailing == 0 => {
                let kind = [Kind::Change, Kind::Space, Kind::Sync, Kind::Truncate][self.random.below(4) as usize];
                let mut plan = Plan::new(kind, "", if kind == Kind::Space { 28 } else { 5 });
                plan.path = ["", "wal", "blocks", "head", "checkpoint"][self.random.below(5) as usize];
                plan.after = self.random.below(20);
                plan.times = 1 + self.random.below(30);
                plan.short = self.random.one_in(2);
                self.log.push(format!("{plan:?}"));
                self.disk.inject(plan);
                if self.random.one_in(2) {
                    self.disk.inject(Plan { times: 1, ..Plan::new(Kind::Truncate, "wal", 5) });
                }
                self.ailing = 1 + self.random.below(8) as usize;
            }
            _ => {
                let from = self.now - self.random.below(6000) as i64;
                let to = from + self.random.below(3000) as i64;
                let matchers = self.matchers();
                self.check(&matchers, from, to);
            }
        }
    }

    fn maintain(&mut self) {
        self.log.push("maintain".into());
        let result = self.db.maintain();
        if self.went("maintain", result) && self.options.out_of_order_window == 0 {
            // what is in blocks is on the disk
            let end = self.db.blocks().iter().map(|b| b.max_time).max().unwrap_or(i64::MIN);
            self.unsynced.retain(|(_, time)| *time >= end);
        }
    }

    fn delete(&mut self) {
        let from = self.now - self.random.below(4000) as i64;
        let to = from + self.random.below(2000) as i64;
        let matchers = self.matchers();
        self.log.push(format!("delete {matchers:?} {from} {to}"));
        let result = self.db.delete(&matchers, from, to);
        if self.went("delete", result) {
            let concerned = |labels: &Labels, time: i64| (from..=to).contains(&time) && matches(&matchers, labels);
            for (labels, series) in &mut self.model {
                series.retain(|time, _| !concerned(labels, *time));
            }
            self.offered.retain(|(labels, time, _)| !concerned(labels, *time));
        } else {
            self.deleting.push((matchers, from, to));
        }
    }

    /// Lines of a page with timestamps of their own: rows of one series each.
    fn honoured_timestamps(&mut self) {
        let mut appender = self.db.appender();
        let mut pending = Pending::new();
        for number in 0..2 + self.random.below(6) {
            let series = labels(number, 3000 + self.random.below(3));
            let reference = self.resolve(&mut appender, &series);
            let time = self.now - self.random.below(60) as i64;
            let value = self.random.value();
            let result = appender.append(reference, time, value);
            self.judge(&series, time, result.as_ref().err().map(ToString::to_string).as_deref());
            if result.is_ok() {
                pending.push((series, time, Value::Float(value.to_bits())));
            }
        }
        self.log.push(format!("honoured timestamps {} at {}", pending.len(), self.now));
        self.commit(appender, pending);
    }

    /// Relabelling has made some lines of a page one series: the first counts.
    fn two_lines_one_series(&mut self) {
        let mut appender = self.db.appender();
        let mut pending = Pending::new();
        let lines: Vec<Labels> =
            (0..2 + self.random.below(8)).map(|_| labels(self.random.below(5), 4000 + self.random.below(2))).collect();
        let refs: Vec<SeriesRef> = lines.iter().map(|l| self.resolve(&mut appender, l)).collect();
        let values: Vec<f64> = lines.iter().map(|_| self.random.value()).collect();
        let report = appender.append_row(self.now, &refs, &values);
        for (at, (labels, value)) in lines.iter().zip(values).enumerate() {
            let first = !lines[..at].contains(labels);
            let refused = report.refused.iter().find(|r| r.0 == at).map(|r| r.1);
            if first {
                self.judge(labels, self.now, refused.map(|e| e.to_string()).as_deref());
            }
            if refused.is_none() {
                pending.push((labels.clone(), self.now, Value::Float(value.to_bits())));
            }
        }
        self.log.push(format!("two lines one series {} at {}", pending.len(), self.now));
        self.commit(appender, pending);
    }

    /// A target goes and comes back with the same labels within two intervals: the end of the old one, with stale markers,
    /// and the beginning of the new one come in either order, from two writers that know nothing of each other.
    fn target_anew(&mut self) {
        let series = self.targets[self.random.below(3) as usize].clone();
        self.log.push(format!("target anew {} at {}", series.len(), self.now));
        let mut times = [self.now, self.now + self.random.below(20) as i64];
        if self.random.one_in(3) {
            times.swap(0, 1);
        }
        for (writer, time) in times.into_iter().enumerate() {
            let mut appender = self.db.appender();
            let mut pending = Pending::new();
            let refs: Vec<SeriesRef> = if writer == 0 {
                series.iter().map(|l| self.resolve(&mut appender, l)).collect()
            } else {
                series.iter().map(|l| appender.series(l).unwrap()).collect()
            };
            let value = if writer == 0 { model::STALE_NAN } else { self.random.value() };
            let report = appender.append_row(time, &refs, &vec![value; refs.len()]);
            for (at, labels) in series.iter().enumerate() {
                let refused = report.refused.iter().find(|r| r.0 == at).map(|r| r.1);
                self.judge(labels, time, refused.map(|e| e.to_string()).as_deref());
                if refused.is_none() {
                    pending.push((labels.clone(), time, Value::Float(value.to_bits())));
                }
            }
            self.commit(appender, pending);
        }
        self.now += 20;
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

    fn next_folder(&mut self) -> PathBuf {
        let folder = self.home.join(self.folders.to_string());
        self.folders += 1;
        folder
    }

    /// As if the process were killed: the folder as it is, opened elsewhere.
    pub(crate) fn crash(&mut self) {
        self.log.push("crash".into());
        let folder = self.next_folder();
        copy(&self.folder, &folder);
        self.open_other(folder, false);
    }

    fn lose_power(&mut self) {
        let keep = [0, 50, 90, 100][self.random.below(4) as usize];
        self.log.push(format!("power lost, {keep} % kept, {} samples at risk", self.unsynced.len()));
        let folder = self.next_folder();
        self.disk.lose_power(&mut self.random, keep, &folder);
        self.open_other(folder, true);
        // times go on behind what was lost
        self.now += 100;
    }

    /// Goes on with another folder, of which everything is on the disk.
    fn open_other(&mut self, folder: PathBuf, power: bool) {
        self.folder = folder;
        self.disk = Disk::new(&self.folder);
        self.options.files = self.disk.files();
        self.ailing = 0;
        self.reopen(power);
    }

    /// The same folder with another process.
    fn reopen(&mut self, power: bool) {
        self.refs.clear();
        let placeholder = self.home.join("placeholder");
        let options = Options { files: Disk::new(&placeholder).files(), ..self.options.clone() };
        // the old one first, where it is the same folder
        drop(std::mem::replace(&mut self.db, Db::open(placeholder, options).unwrap()));
        self.db = Db::open(&self.folder, self.options.clone()).unwrap();
        self.reconcile(power);
    }

    fn heal(&mut self) {
        let injected = self.disk.heal();
        self.log.push(format!("the disk is well again after {injected} faults"));
        self.reconcile(false);
        // and what failed goes well
        let synced = self.db.sync();
        assert!(self.went("sync", synced));
        self.synced();
    }

    /// Takes over from the engine what the model cannot know: which of the samples at risk, or offered when something
    /// failed, are there.
    fn reconcile(&mut self, power: bool) {
        let found = self.read(&[], i64::MIN, i64::MAX);
        let mut lost = 0;
        let doubtful = |labels: &Labels, time: i64| {
            self.deleting.iter().any(|(m, from, to)| (*from..=*to).contains(&time) && matches(m, labels))
        };
        for (labels, series) in &self.model {
            for (time, value) in series {
                let there = found.get(labels).and_then(|s| s.get(time));
                if there == Some(value) || doubtful(labels, *time) {
                    continue;
                }
                let risk = power && self.unsynced.contains(&(labels.clone(), *time));
                assert!(risk, "{labels} at {time}: {value:?} is acknowledged, found {there:?}");
                lost += 1;
            }
        }
        for (labels, series) in &found {
            for (time, value) in series {
                let known = self.model.get(labels).and_then(|s| s.get(time)) == Some(value);
                let offered = || self.offered.iter().any(|(l, t, v)| l == labels && t == time && v == value);
                assert!(known || offered(), "{labels} at {time}: {value:?} was never stored");
            }
        }
        self.log.push(format!("lost {lost} of {} at risk", self.unsynced.len()));
        for (labels, (low, _)) in &mut self.last {
            // what was deleted may still be the last
            let newest = found.get(labels).and_then(|s| s.keys().next_back()).copied().unwrap_or(i64::MIN);
            *low = if power { newest } else { (*low).max(newest) };
        }
        self.model = found;
        self.unsynced.clear();
        self.offered.clear();
        self.deleting.clear();
    }

    fn read(&self, matchers: &[Matcher], from: i64, to: i64) -> BTreeMap<Labels, Series> {
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
        found
    }

    pub(crate) fn check(&self, matchers: &[Matcher], from: i64, to: i64) {
        if self.ailing > 0 {
            return;
        }
        let found = self.read(matchers, from, to);
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

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(&m.name)))
}
