//! The histories that benchmarks of storage and queries work on.

use serde_json::{Value, json};

use crate::benchmark::{BenchError, Settings};
use crate::history::{Batch, Labels, Times, Timing, labels};
use crate::pages::{Behaviour, Kind, PageSpec};
use crate::recorded::Recording;

/// Connections that the series of a target are spread over in the mode that is hostile to shared timestamps.
pub(crate) const HOSTILE_SHARDS: usize = 8;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The longest block range that a day is merged into by default; histories start at a multiple of it.
const BLOCK: i64 = 18 * HOUR;

/// For so long after the end a single series goes on, so that the stores see a reason to close and merge the last blocks.
const TAIL: i64 = 8 * HOUR;

/// From when to when the samples are, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Window {
    /// The latest one of this length that starts with a block and whose tail is over.
    pub(crate) fn latest(now: i64, hours: i64) -> Self {
        let start = (now - TAIL - hours * HOUR).div_euclid(BLOCK) * BLOCK;
        Self { start, end: start + hours * HOUR }
    }

    /// The last part of it.
    pub(crate) fn last(self, length: i64) -> Self {
        Self { start: self.start.max(self.end - length), end: self.end }
    }

    fn times(self, interval: i64, timing: Timing) -> Times {
        Times { start: self.start, end: self.end, interval, timing }
    }
}

/// A history.
pub(crate) struct DataSet {
    /// Its name, and that of its folder.
    pub(crate) name: String,
    /// In words, for the report.
    pub(crate) about: String,
    pub(crate) window: Window,
    /// Everything that its samples depend on; a store that was filled with the same need not be filled again.
    pub(crate) identity: Value,
    batches: Box<dyn Fn() -> Vec<Batch>>,
}

impl DataSet {
    /// The samples, to be sent once.
    pub(crate) fn batches(&self) -> Vec<Batch> {
        (self.batches)()
    }

    /// The set as a store has it that was filled earlier.
    pub(crate) fn at(settings: &Settings, which: Which, start: i64) -> Result<Self, BenchError> {
        Self::made(settings, which, Window { start, end: start + which.hours(settings) * HOUR })
    }

    /// The set as of now.
    pub(crate) fn new(settings: &Settings, which: Which, now: i64) -> Result<Self, BenchError> {
        Self::made(settings, which, Window::latest(now, which.hours(settings)))
    }

    fn made(settings: &Settings, which: Which, window: Window) -> Result<Self, BenchError> {
        match which {
            Which::Disk => disk(settings, window),
            Which::Wide => Ok(wide(settings, window)),
            Which::KubePrometheus => Ok(kube_prometheus(settings, window)),
        }
    }
}

/// Which history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one whose size on disk is measured.
    Disk,
    /// Many series, for queries that the other has not enough for.
    Wide,
    /// Series that the expressions of kube-prometheus select.
    KubePrometheus,
}

impl Which {
    fn hours(self, settings: &Settings) -> i64 {
        if let Some(hours) = settings.hours {
            return hours;
        }
        if settings.quick { 6 } else { 24 }
    }
}

/// What the history for `disk` is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DiskData {
    /// Node exporters only.
    #[default]
    Node,
    /// Node exporters, applications and kube-state-metrics, 7 to 2 to 1.
    Mixed,
    /// What `bench record` recorded from the real exporters of this machine, repeated.
    Recorded,
}

fn timing(settings: &Settings) -> Timing {
    if settings.regular { Timing::Regular } else { Timing::AsScraped }
}

fn tail(window: Window) -> Batch {
    let times = Times { start: window.end, end: window.end + TAIL, interval: 30 * MINUTE, timing: Timing::Regular };
    let series = (labels(&[("__name__", "bench_tail"), ("job", "bench")]), Behaviour::Constant(1.0));
    Batch::table(0, std::iter::once(series), times)
}

fn disk(settings: &Settings, window: Window) -> Result<DataSet, BenchError> {
    if settings.data == DiskData::Recorded {
        return recorded(settings, window);
    }
    let (pages, series) = match (settings.data, settings.quick) {
        (DiskData::Node, false) => (5, 1500),
        (DiskData::Node, true) => (2, 750),
        (_, false) => (10, 750),
        (_, true) => (10, 150),
    };
    let pages = settings.targets.unwrap_or(pages);
    let series = settings.series.unwrap_or(series);
    let (data, timing, hostile) = (settings.data, timing(settings), settings.hostile);
    let kind = move |target: usize| if data == DiskData::Node { Kind::Node } else { Kind::of(target) };
    let batches = move || {
        let page = |target| {
            let kind = kind(target);
            let spec = PageSpec { seed: 1, kind, target, generation: 0, series, flapping: 0.0, moving: 0.0 };
            let instance = format!("{}-{target}.example:9100", kind.name());
            Batch::page(&spec, &[("job", kind.name()), ("instance", &instance)], window.times(15_000, timing))
        };
        let pages = (0..pages).map(page);
        let pages: Vec<Batch> =
            if hostile { pages.flat_map(|p| p.scattered(HOSTILE_SHARDS)).collect() } else { pages.collect() };
        pages.into_iter().chain([tail(window)]).collect()
    };
    let hours = (window.end - window.start) / HOUR;
    let (stamps, suffix) = match timing {
        _ if hostile => ("a timestamp of its own for each series, one sample of it in a request", "-hostile"),
        Timing::Regular => ("regular timestamps", "-regular"),
        Timing::AsScraped => ("timestamps as scraped", ""),
    };
    let (what, data_suffix) = match data {
        DiskData::Node => ("node-like", ""),
        _ => ("mixed", "-mixed"),
    };
    Ok(DataSet {
        name: format!("disk{data_suffix}{suffix}"),
        about: format!("{hours} h of {} {what} series at 15 s, {stamps}", pages * series),
        window,
        identity: json!({
            "version": 1, "pages": pages, "series": series, "hours": hours, "data": what, "timestamps": stamps,
        }),
        batches: Box::new(batches),
    })
}

fn recorded(settings: &Settings, window: Window) -> Result<DataSet, BenchError> {
    let recordings = Recording::load_all(&settings.out)?;
    let series: usize = recordings.iter().map(|r| r.heads.len()).sum();
    let scrapes: Vec<usize> = recordings.iter().map(|r| r.rows.len()).collect();
    let timing = timing(settings);
    // repetition would flatter whoever finds it, so a recording is repeated only if a length is asked for
    let length = scrapes.iter().copied().max().unwrap_or(0) as i64 * 15_000;
    let window = if settings.hours.is_some() { window } else { Window { end: window.start + length, ..window } };
    let batches = move || {
        let batch = |recording: &Recording| {
            let labels = [("job", recording.name.as_str()), ("instance", "localhost")];
            Batch::recorded(recording.clone(), &labels, window.times(15_000, timing))
        };
        recordings.iter().map(batch).chain([tail(window)]).collect()
    };
    let minutes = (window.end - window.start) / MINUTE;
    let suffix = if timing == Timing::Regular { "-regular" } else { "" };
    Ok(DataSet {
        name: format!("disk-recorded{suffix}"),
        about: format!("{minutes} min of {series} series recorded from real exporters, as if at 15 s"),
        window,
        identity: json!({"version": 1, "series": series, "scrapes": scrapes, "minutes": minutes, "timing": format!("{timing:?}")}),
        batches: Box::new(batches),
    })
}

/// Sizes of the parts of the wide set.
#[derive(Clone, Copy)]
struct Wide {
    labelled: usize,
    targets: usize,
    page: usize,
    applications: usize,
    pods: usize,
}

fn wide(settings: &Settings, window: Window) -> DataSet {
    let wide = if settings.quick {
        Wide { labelled: 5_000, targets: 500, page: 10_000, applications: 3, pods: 100 }
    } else {
        Wide { labelled: 100_000, targets: 10_000, page: 230_000, applications: 10, pods: 1_000 }
    };
    let timing = timing(settings);
    let batches = move || {
        let mut batches = vec![tail(window)];
        batches.extend(labelled(wide.labelled, window));
        batches.extend(up(wide.targets, window, timing));
        batches.push(kube_page(wide.page, window, timing));
        for target in 0..wide.applications {
            let kind = Kind::Application;
            let spec = PageSpec { seed: 2, kind, target, generation: 0, series: 1500, flapping: 0.0, moving: 0.0 };
            let instance = format!("application-{target}.example:8080");
            let times = window.last(6 * HOUR).times(30_000, timing);
            batches.push(Batch::page(&spec, &[("job", "application"), ("instance", &instance)], times));
        }
        batches.push(pods(wide.pods, window, timing));
        batches
    };
    let Wide { labelled, targets, page, applications, pods } = wide;
    DataSet {
        name: "wide".to_owned(),
        about: format!(
            "{labelled} series with many label values; up and a gauge of {targets} targets at 60 s; a page of {page} \
             series for 1 h; {applications} applications for 6 h; {pods} pods for 6 h"
        ),
        window,
        identity: json!({"version": 1, "sizes": [labelled, targets, page, applications, pods], "timing": format!("{timing:?}"),
            "hours": (window.end - window.start) / HOUR}),
        batches: Box::new(batches),
    }
}

/// Many series of one metric in the last ten minutes, from a hundred targets.
fn labelled(count: usize, window: Window) -> Vec<Batch> {
    let per_target = count / 100;
    let times = window.last(10 * MINUTE).times(60_000, Timing::Regular);
    let target = |target: usize| {
        let series = (0..per_target).map(move |number| {
            let id = target * per_target + number;
            let (pod, path) = (format!("frontend-{:05}", id / 4), format!("/items/{}", number % 97));
            let code = ["200", "301", "404", "500"][id % 4];
            let (instance, zone) = (format!("edge-{target}.example:80"), format!("zone-{}", target % 7));
            let labels = labels(&[
                ("__name__", "edge_requests_total"),
                ("code", code),
                ("instance", &instance),
                ("job", "edge"),
                ("path", &path),
                ("pod", &pod),
                ("zone", &zone),
            ]);
            (labels, Behaviour::Count(20.0))
        });
        Batch::table(100 + target as u64, series, times)
    };
    (0..100).map(target).collect()
}

/// `up` and one gauge of many targets; about one in fifty is down at a time.
fn up(targets: usize, window: Window, timing: Timing) -> Vec<Batch> {
    let target = |target: usize| {
        let (instance, zone) = (format!("machine-{target:05}.example:9100"), format!("zone-{}", target % 7));
        let of = |name| labels(&[("__name__", name), ("instance", &instance), ("job", "machines"), ("zone", &zone)]);
        let series = [(of("up"), Behaviour::Up(0.02)), (of("machine_temperature_celsius"), Behaviour::Level(45.0))];
        Batch::table(1_000_000 + target as u64, series.into_iter(), window.times(60_000, timing))
    };
    (0..targets).map(target).collect()
}

/// One large page of kube-state-metrics.
fn kube_page(series: usize, window: Window, timing: Timing) -> Batch {
    let spec = PageSpec { seed: 3, kind: Kind::Kube, target: 9, generation: 0, series, flapping: 0.0, moving: 0.0 };
    let target = [("job", "kube-state-metrics"), ("instance", "kube-state-metrics.example:8080")];
    Batch::page(&spec, &target, window.last(HOUR).times(60_000, timing))
}

/// Two metrics of as many pods, to be joined.
fn pods(count: usize, window: Window, timing: Timing) -> Batch {
    let pod = |pod: usize| {
        let (namespace, name) = (format!("team-{}", pod % 20), format!("worker-{pod:04}"));
        let (node, host) = (format!("node-{}", pod % 50), format!("10.0.{}.{}", pod / 250, pod % 250));
        let cpu = labels(&[
            ("__name__", "joined_cpu_seconds_total"),
            ("container", "main"),
            ("namespace", &namespace),
            ("pod", &name),
        ]);
        let info = labels(&[
            ("__name__", "joined_pod_info"),
            ("host_ip", &host),
            ("namespace", &namespace),
            ("node", &node),
            ("pod", &name),
        ]);
        [(cpu, Behaviour::Seconds(0.4)), (info, Behaviour::Constant(1.0))]
    };
    Batch::table(5, (0..count).flat_map(pod), window.last(6 * HOUR).times(30_000, timing))
}

/// From one sample to the next in the history of `restart`, in milliseconds.
pub(crate) const RESTART_INTERVAL: i64 = 10_000;

/// The history of `restart`: the last hour before now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restart {
    targets: usize,
    series: usize,
    timing: Timing,
}

/// Series for remote write in the hostile mode of `ingest`, from now on.
pub(crate) fn hostile_live(targets: usize, series: usize, now: i64) -> Vec<Batch> {
    let times = Times { start: now, end: now + 24 * HOUR, interval: 10_000, timing: Timing::AsScraped };
    let table = (0..targets).flat_map(|target| {
        let instance = format!("remote-{target}.example:9100");
        (0..series).map(move |number| {
            let name = format!("remote_metric_{:03}_total", number % 300);
            let row = (number / 300).to_string();
            let pairs = [("__name__", name.as_str()), ("instance", &instance), ("job", "remote"), ("row", &row)];
            (labels(&pairs), Behaviour::Count(50.0))
        })
    });
    Batch::table(11, table, times).scattered(HOSTILE_SHARDS)
}

impl Restart {
    pub(crate) fn new(settings: &Settings) -> Self {
        let targets = settings.targets.unwrap_or(if settings.quick { 20 } else { 200 });
        Self { targets, series: settings.series.unwrap_or(1500), timing: timing(settings) }
    }

    /// The work in words.
    pub(crate) fn about(&self) -> String {
        let Self { targets, series, .. } = self;
        format!("1 h of {targets} targets x {series} series at 10 s by remote write, kill -9, start")
    }

    pub(crate) fn series_count(&self) -> usize {
        self.targets * self.series
    }

    pub(crate) fn window(self, now: i64) -> Window {
        let end = now.div_euclid(RESTART_INTERVAL) * RESTART_INTERVAL;
        Window { start: end - HOUR, end }
    }

    pub(crate) fn batches(self, window: Window) -> Vec<Batch> {
        let page = |target| {
            let kind = Kind::of(target);
            let spec =
                PageSpec { seed: 1, kind, target, generation: 0, series: self.series, flapping: 0.0, moving: 0.0 };
            let instance = format!("{}-{target}.example:9100", kind.name());
            Batch::page(&spec, &[("job", "farm"), ("instance", &instance)], window.times(RESTART_INTERVAL, self.timing))
        };
        (0..self.targets).map(page).collect()
    }
}

/// The head of `series`: many targets, each with as many series, for the last minute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Million {
    targets: usize,
    series: usize,
}

impl Million {
    /// From one sample to the next, in milliseconds.
    pub(crate) const INTERVAL: i64 = 15_000;

    pub(crate) fn new(settings: &Settings) -> Self {
        let targets = settings.targets.unwrap_or(if settings.quick { 100 } else { 1000 });
        Self { targets, series: settings.series.unwrap_or(1000) }
    }

    /// The work in words.
    pub(crate) fn about(&self) -> String {
        let Self { targets, series, .. } = self;
        format!("{targets} targets x {series} series in the head, 4 samples each at 15 s")
    }

    pub(crate) fn window(self, now: i64) -> Window {
        let end = now.div_euclid(Self::INTERVAL) * Self::INTERVAL;
        Window { start: end - 4 * Self::INTERVAL, end }
    }

    pub(crate) fn batches(self, window: Window) -> Vec<Batch> {
        let times = window.times(Self::INTERVAL, Timing::Regular);
        let target = |target: usize| {
            let (instance, zone) = (format!("machine-{target:04}.example:9100"), format!("zone-{}", target % 7));
            let series = (0..self.series).map(move |number| {
                let name = format!("load_metric_{:02}_total", number % 50);
                let (pod, row) = (format!("pod-{:05}", target * 10 + number / 100), number.to_string());
                let labels = labels(&[
                    ("__name__", &name),
                    ("instance", &instance),
                    ("job", "load"),
                    ("pod", &pod),
                    ("row", &row),
                    ("zone", &zone),
                ]);
                (labels, Behaviour::Count(20.0))
            });
            Batch::table(2_000_000 + target as u64, series, times)
        };
        (0..self.targets).map(target).collect()
    }
}

/// Six hours of what the expressions of kube-prometheus ask for.
fn kube_prometheus(settings: &Settings, window: Window) -> DataSet {
    let series = conformance::kube_prometheus::samples(&settings.kube_prometheus().unwrap_or_default());
    let all: Vec<(Labels, Behaviour)> =
        series.into_iter().map(|s| (behaviour(&s.labels), s.labels)).map(|(b, l)| (l, b)).collect();
    let (count, timing) = (all.len(), timing(settings));
    let batches = move || {
        let times = window.last(6 * HOUR).times(30_000, timing);
        vec![tail(window), Batch::table(7, all.iter().cloned(), times)]
    };
    DataSet {
        name: "kube-prometheus".to_owned(),
        about: format!("{count} series that its expressions select, 6 h at 30 s"),
        window,
        identity: json!({"version": 1, "series": count, "timing": format!("{timing:?}"),
            "hours": (window.end - window.start) / HOUR}),
        batches: Box::new(batches),
    }
}

/// The series of `rules`: those that kube-prometheus' rules select, for so many pods and nodes that they are as many as asked for.
pub(crate) struct Cluster {
    series: Vec<(Labels, Behaviour)>,
}

impl Cluster {
    /// From one sample to the next, in milliseconds.
    const INTERVAL: i64 = 15_000;

    /// Labels of which each copy of a series has values of its own.
    const OWN: [&str; 3] = ["instance", "pod", "node"];

    pub(crate) fn new(settings: &Settings, folder: &std::path::Path) -> Self {
        let count = settings.cluster.unwrap_or(if settings.quick { 20_000 } else { 100_000 });
        let mut found = conformance::kube_prometheus::expressions(folder);
        found.retain(|found| !found.place.contains(".json: "));
        let one = conformance::kube_prometheus::samples(&found);
        let copies = count.div_ceil(one.len().max(1));
        let copy = |copy: usize| {
            let own = move |(name, value): &(String, String)| {
                let value =
                    if Self::OWN.contains(&name.as_str()) { format!("{value}-{copy:04}") } else { value.clone() };
                (name.clone(), value)
            };
            one.iter().map(move |series| (series.labels.iter().map(own).collect::<Labels>(), behaviour(&series.labels)))
        };
        let mut known = std::collections::HashSet::new();
        let series = (0..copies).flat_map(copy).filter(|(labels, _)| known.insert(labels.clone())).take(count);
        Self { series: series.collect() }
    }

    /// The work in words.
    pub(crate) fn about(&self) -> String {
        format!("the rules of kube-prometheus over {} series that they select, a sample each 15 s", self.series.len())
    }

    /// Ten minutes until `now`.
    pub(crate) fn past(&self, now: i64) -> Vec<Batch> {
        self.batches(now - 10 * MINUTE, now)
    }

    /// From `now` on.
    pub(crate) fn from(&self, now: i64) -> Vec<Batch> {
        self.batches(now, now + HOUR)
    }

    fn batches(&self, start: i64, end: i64) -> Vec<Batch> {
        let times = Times { start, end, interval: Self::INTERVAL, timing: Timing::Regular };
        let part =
            |(seed, part): (usize, &[(Labels, Behaviour)])| Batch::table(seed as u64, part.iter().cloned(), times);
        self.series.chunks(1000).enumerate().map(part).collect()
    }
}

/// How a series with these labels would move, by its name.
fn behaviour(labels: &[(String, String)]) -> Behaviour {
    let of = |name: &str| labels.iter().find(|l| l.0 == name).map_or("", |l| l.1.as_str());
    let name = of("__name__");
    if name.ends_with("_bucket") {
        return Behaviour::Bucket { first: of("le") == "0.1", rate: 10.0 };
    }
    match name {
        _ if name.ends_with("_total") || name.ends_with("_count") || name.ends_with("_sum") => Behaviour::Count(30.0),
        _ if name.ends_with("_bytes") => Behaviour::Bytes(500.0),
        _ => Behaviour::Constant(1.0),
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> Result<i64, BenchError> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|d| d.as_millis() as i64).map_err(|e| BenchError::Usage(format!("the clock is before 1970: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_with_a_block_and_are_over_with_their_tail() {
        for now in [1_800_000_000_000, 1_800_000_000_001, 1_800_064_799_999] {
            for hours in [3, 6, 24] {
                let window = Window::latest(now, hours);
                assert_eq!((window.start % BLOCK, window.end - window.start), (0, hours * HOUR));
                assert!(window.end + TAIL <= now && window.end + TAIL > now - BLOCK, "{now} {window:?}");
            }
        }
    }
}
