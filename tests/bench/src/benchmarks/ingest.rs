//! `ingest`: a collector that scrapes a farm of targets and stores what it finds.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::benchmark::{BenchError, Benchmark, Found, Settings};
use crate::datasets;
use crate::farm::{self, FarmSpec};
use crate::history::Live;
use crate::pages::Kind;
use crate::proc_files;
use crate::process::{FarmCount, FarmProcess, Running, free_address};
use crate::report::{Column, Report, Unit};
use crate::store::{STORES, StoreKind, allocated_bytes};
use harness::client as http;

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "ingest", about: "Processor time and memory of a collector that scrapes a farm.", run };

const COLUMNS: [Column; 12] = [
    Column { key: "cpu_seconds", title: "CPU", unit: Unit::Seconds, compared: true },
    Column { key: "cpu_seconds_per_million_samples", title: "CPU/M samples", unit: Unit::Milliseconds, compared: true },
    Column { key: "cpu_seconds_warm_up", title: "warm-up CPU", unit: Unit::Seconds, compared: true },
    Column { key: "rss_bytes", title: "RSS", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_anon_bytes", title: "RSS anon", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_mean_bytes", title: "RSS mean", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
    Column { key: "disk_bytes", title: "disk", unit: Unit::Megabytes, compared: true },
    Column { key: "samples", title: "samples", unit: Unit::Count, compared: false },
    Column { key: "samples_share_of_expected", title: "of expected", unit: Unit::Percent, compared: false },
    Column { key: "targets_up", title: "up", unit: Unit::Count, compared: false },
    Column { key: "other_cpu_seconds", title: "others' CPU", unit: Unit::Seconds, compared: false },
];

/// Recording rules in the hostile mode.
const RULES: usize = 2_000;

const INTERVAL: Duration = Duration::from_secs(10);

/// Share of the targets that is replaced at each interval, and of the series that come and go, with `--churn`.
const CHURN_TARGETS: f64 = 0.01;
const CHURN_SERIES: f64 = 0.05;

/// A program has done its work if it has at least this share of the samples.
const ENOUGH: f64 = 0.95;

/// How the targets behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// The same targets with the same series all the time.
    Steady,
    /// Targets are replaced, and series come and go.
    Churn,
    /// Every line has a timestamp of its own.
    Hostile,
}

struct Plan {
    load: Load,
    farm: FarmSpec,
    warm_up: Duration,
    steady: Duration,
}

impl Plan {
    fn new(settings: &Settings) -> Result<Self, BenchError> {
        let load = match (settings.churn, settings.hostile) {
            (true, _) => Load::Churn,
            (_, true) => Load::Hostile,
            _ => Load::Steady,
        };
        let (targets, warm_up, steady) = if settings.quick { (50, 20, 60) } else { (200, 60, 180) };
        let plan = Self {
            load,
            farm: FarmSpec {
                targets: settings.targets.unwrap_or(targets),
                series: settings.series.unwrap_or(1500),
                seed: 1,
                flapping: if load == Load::Churn { CHURN_SERIES } else { 0.0 },
                moving: settings.moving.unwrap_or(0.0),
                timestamps: load == Load::Hostile,
            },
            warm_up: Duration::from_secs(settings.warm_up.unwrap_or(warm_up)),
            steady: Duration::from_secs(settings.seconds.unwrap_or(steady)),
        };
        if plan.warm_up < INTERVAL || plan.steady < INTERVAL {
            return Err(BenchError::Usage("--warm-up and --seconds are at least one scrape interval, 10".to_owned()));
        }
        Ok(plan)
    }

    fn work(&self) -> String {
        let FarmSpec { targets, series, .. } = self.farm;
        let load = match self.load {
            Load::Steady if self.farm.moving > 0.0 => {
                format!(", {:.1} % of the lines another series at each scrape", self.farm.moving * 1e2)
            }
            Load::Steady => String::new(),
            Load::Churn => {
                let replaced = self.replaced_per_interval();
                format!(", {replaced} replaced every 10 s, {:.0} % of the series come and go", CHURN_SERIES * 1e2)
            }
            Load::Hostile => format!(
                ", a timestamp of its own on every line, {} series more by remote write in {} shards, {RULES} rules",
                self.remote_targets() * series,
                datasets::HOSTILE_SHARDS
            ),
        };
        let (warm_up, steady) = (self.warm_up.as_secs(), self.steady.as_secs());
        format!("{targets} targets x {series} series every 10 s, gzip{load}; {steady} s after {warm_up} s of warm-up")
    }

    /// Targets whose series come by remote write.
    fn remote_targets(&self) -> usize {
        if self.load == Load::Hostile { self.farm.targets.div_ceil(10) } else { 0 }
    }

    fn replaced_per_interval(&self) -> usize {
        if self.load == Load::Churn { (self.farm.targets as f64 * CHURN_TARGETS).ceil() as usize } else { 0 }
    }
}

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let plan = Plan::new(settings)?;
    let name = match plan.load {
        Load::Steady if plan.farm.moving > 0.0 => "ingest-moving",
        Load::Steady => "ingest",
        Load::Churn => "ingest-churn",
        Load::Hostile => "ingest-hostile",
    };
    let mut report = Report::new(name, settings.quick, &COLUMNS);
    report.work = plan.work();
    let contestants = settings.enlist(&STORES, &mut report)?;
    for found in &contestants {
        let seconds = (plan.warm_up + plan.steady).as_secs();
        eprintln!("{} {}: {seconds} s", found.name, found.version);
        match measure(settings, &plan, found) {
            Ok(measured) => {
                report.rows.push(found.row("collector", measured.values));
                report.notes.push(format!("{}: {}", found.name, measured.note));
                report.problems.extend(measured.problems.iter().map(|p| format!("{}: {p}", found.name)));
            }
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    Ok(report)
}

/// What one program did.
struct Measured {
    values: Vec<Option<f64>>,
    note: String,
    problems: Vec<String>,
}

fn measure(settings: &Settings, plan: &Plan, found: &Found) -> Result<Measured, BenchError> {
    let folder = settings.data_folder()?;
    let farm = FarmProcess::start(&plan.farm)?;
    let address = free_address()?;
    write_targets(folder.path(), plan, farm.port, 0)?;
    let arguments = configure(found, plan, folder.path(), address)?;
    let mut running = Running::start(found.name, &found.binary, &arguments, folder.path())?;
    running.wait_ready(address, "/-/ready", Duration::from_secs(60))?;

    let now = datasets::now()?;
    let remote = (plan.load == Load::Hostile)
        .then(|| Live::start(datasets::hostile_live(plan.remote_targets(), plan.farm.series, now), address));
    let mut drive = Drive { plan, folder: folder.path(), port: farm.port, started: Instant::now(), intervals: 0 };
    drive.until(plan.warm_up, &mut running)?;
    let before = Reading::take(found, &running, &farm, remote.as_ref(), address)?;
    let resident = drive.until(plan.warm_up + plan.steady, &mut running)?;
    let after = Reading::take(found, &running, &farm, remote.as_ref(), address)?;
    let memory = running.memory()?;
    let seconds = (after.at - before.at).as_secs_f64();

    let cpu = (after.processor - before.processor).as_secs_f64();
    let farm_cpu = (after.farm_processor - before.farm_processor).as_secs_f64();
    let others = ((after.machine - before.machine).as_secs_f64() - cpu - farm_cpu).max(0.0);
    let samples = after.samples - before.samples;
    let served = after.served.samples - before.served.samples;
    let expected = (plan.farm.targets * plan.farm.series) as f64 * seconds / INTERVAL.as_secs_f64();
    // with churn, the farm knows how many lines there were
    let wanted = if plan.load == Load::Churn { served.min(expected) } else { expected };
    let wanted_pages = wanted;
    let wanted = wanted + (after.remote - before.remote) as f64;

    let mut problems = Vec::new();
    if samples < ENOUGH * wanted {
        problems.push(format!("it stored {samples:.0} samples of the {wanted:.0} expected: it did not do the work"));
    }
    if served < ENOUGH * wanted_pages {
        problems.push(format!("it fetched pages of {served:.0} samples, and {wanted_pages:.0} were expected"));
    }
    let (up, down) = targets(address).map_err(|e| running.failure(&format!("/api/v1/targets: {e}")))?;
    // those that have just been replaced may not have had their first scrape
    if up + 2 * plan.replaced_per_interval() < plan.farm.targets || !down.is_empty() {
        let reason = down.first().map_or_else(String::new, |reason| format!("; the first says: {reason}"));
        problems.push(format!("{up} of {} targets are up, {} are down{reason}", plan.farm.targets, down.len()));
    }
    // what is stored must also be found; a store may take a moment until it shows new samples
    let enough = plan.farm.targets as f64 * ENOUGH;
    let mut stored = query(address, "count(up == 1)");
    for _ in 0..10 {
        if stored.as_ref().is_ok_and(|up| *up >= enough) {
            break;
        }
        sleep(Duration::from_secs(1));
        stored = query(address, "count(up == 1)");
    }
    match stored {
        Ok(up) if up >= enough => {}
        Ok(up) => problems.push(format!("count(up == 1) is {up}, and there are {} targets", plan.farm.targets)),
        Err(reason) => problems.push(format!("count(up == 1) cannot be asked: {reason}")),
    }
    if let Some(remote) = remote {
        remote.stop()?;
    }
    running.stop()?;
    let disk = allocated_bytes(&folder.path().join("data"));
    let pages = after.served.pages - before.served.pages;
    let note = format!(
        "{pages:.0} pages of {:.0} bytes ({:.0} sent); the farm took {farm_cpu:.2} CPU-s",
        (after.served.bytes - before.served.bytes) / pages.max(1.0),
        (after.served.sent - before.served.sent) / pages.max(1.0),
    );
    let values = [
        cpu,
        cpu / (samples / 1e6),
        before.processor.as_secs_f64(),
        memory.resident as f64,
        memory.anonymous as f64,
        resident,
        memory.peak as f64,
        disk as f64,
        samples,
        samples / wanted,
        up as f64,
        others,
    ];
    Ok(Measured { values: values.map(|v| v.is_finite().then_some(v)).to_vec(), note, problems })
}

/// All counters at one moment.
struct Reading {
    at: Instant,
    processor: Duration,
    farm_processor: Duration,
    machine: Duration,
    samples: f64,
    served: FarmCount,
    remote: u64,
}

impl Reading {
    fn take(
        found: &Found,
        running: &Running,
        farm: &FarmProcess,
        remote: Option<&Live>,
        address: SocketAddr,
    ) -> Result<Self, BenchError> {
        let page = http::get(address, "/metrics")
            .and_then(|answer| answer.text())
            .map_err(|e| running.failure(&format!("/metrics: {e}")))?;
        let samples = StoreKind::of(found).samples(&page);
        Ok(Self {
            at: Instant::now(),
            processor: running.processor_time()?,
            farm_processor: farm.processor_time()?,
            machine: proc_files::machine_time()?,
            samples,
            served: farm.count()?,
            remote: remote.map_or(0, Live::sent),
        })
    }
}

/// Lets time pass, and replaces targets when it is time.
struct Drive<'a> {
    plan: &'a Plan,
    folder: &'a Path,
    port: u16,
    started: Instant,
    intervals: usize,
}

impl Drive<'_> {
    /// Returns the mean of the resident memory until then, `end` being the time since the start.
    fn until(&mut self, end: Duration, running: &mut Running) -> Result<f64, BenchError> {
        let (mut sum, mut readings) = (0.0, 0.0);
        while self.started.elapsed() < end {
            sleep(Duration::from_secs(1).min(end.saturating_sub(self.started.elapsed())));
            running.check()?;
            sum += running.memory()?.resident as f64;
            readings += 1.0;
            let intervals = (self.started.elapsed().as_secs() / INTERVAL.as_secs()) as usize;
            if intervals > self.intervals && self.plan.load == Load::Churn {
                self.intervals = intervals;
                write_targets(self.folder, self.plan, self.port, intervals)?;
            }
        }
        Ok(sum / readings)
    }
}

/// Writes the configuration and returns the arguments.
fn configure(found: &Found, plan: &Plan, folder: &Path, address: SocketAddr) -> Result<Vec<String>, BenchError> {
    let victoria = found.name == "victoria-metrics";
    // VictoriaMetrics has a flag for how often files are read, and knows no field for it
    let refresh = if victoria { "" } else { "        refresh_interval: 10s\n" };
    // VictoriaMetrics leaves rules to another program
    let with_rules = plan.load == Load::Hostile && !victoria;
    let rules = if with_rules { "rule_files: [rules.yml]\n" } else { "" };
    let config = format!(
        "global:\n  scrape_interval: 10s\n  scrape_timeout: 10s\n{rules}scrape_configs:\n  - job_name: farm\n    \
         file_sd_configs:\n      - files: [targets.json]\n{refresh}"
    );
    let path = folder.join("config.yml");
    fs::write(&path, config).map_err(|e| BenchError::io(path.display().to_string(), e))?;
    if with_rules {
        let path = folder.join("rules.yml");
        fs::write(&path, rules_file()).map_err(|e| BenchError::io(path.display().to_string(), e))?;
    }
    let mut arguments = StoreKind::of(found).arguments(address);
    if victoria {
        arguments.push("-promscrape.fileSDCheckInterval=10s".to_owned());
    }
    Ok(arguments)
}

/// Recording rules, each of which commits a sample by itself, in groups of a hundred.
fn rules_file() -> String {
    let mut text = "groups:\n".to_owned();
    for rule in 0..RULES {
        if rule % 100 == 0 {
            text.push_str(&format!("  - name: group{}\n    interval: 10s\n    rules:\n", rule / 100));
        }
        text.push_str(&format!("      - record: bench:up:rule{rule}\n        expr: count(up) + {rule}\n"));
    }
    text
}

/// Writes the list of targets as it is after so many intervals, in one step as programs watch the file.
fn write_targets(folder: &Path, plan: &Plan, port: u16, intervals: usize) -> Result<(), BenchError> {
    let list = target_list(plan.farm.targets, plan.replaced_per_interval(), port, intervals);
    let (new, path) = (folder.join("targets.new"), folder.join("targets.json"));
    fs::write(&new, list.to_string())
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|e| BenchError::io(path.display().to_string(), e))
}

fn target_list(targets: usize, per_interval: usize, port: u16, intervals: usize) -> Value {
    let target = |target: usize| {
        let generation = generation(target, targets, per_interval, intervals);
        let address = SocketAddr::new(farm::address(target), port);
        json!({
            "targets": [address.to_string()],
            "labels": {
                "__metrics_path__": format!("/t/{target}/{generation}"),
                "instance": format!("{}-{target}-{generation}.example:9100", Kind::of(target).name()),
                "kind": Kind::of(target).name(),
            },
        })
    };
    (0..targets).map(target).collect()
}

/// How often a target has been replaced after so many intervals: `per_interval` at a time, one after another, round and round.
fn generation(target: usize, targets: usize, per_interval: usize, intervals: usize) -> usize {
    let replaced = per_interval * intervals;
    replaced / targets + usize::from(target < replaced % targets)
}

/// How many targets are up, and what is wrong with those that could not be scraped.
fn targets(address: SocketAddr) -> Result<(usize, Vec<String>), String> {
    up_and_down(&api(address, "/api/v1/targets?state=active")?)
}

/// A target without an error that is not up either has not been scraped yet.
fn up_and_down(json: &Value) -> Result<(usize, Vec<String>), String> {
    let active = json["data"]["activeTargets"].as_array().ok_or("it has no activeTargets")?;
    let (up, others): (Vec<_>, Vec<_>) = active.iter().partition(|target| target["health"] == "up");
    let errors = others.iter().filter_map(|target| target["lastError"].as_str()).filter(|error| !error.is_empty());
    Ok((up.len(), errors.map(str::to_owned).collect()))
}

/// The value of an expression with a single result now. VictoriaMetrics hides the newest samples unless told not to; the others
/// know no such parameters and ignore them.
fn query(address: SocketAddr, expression: &str) -> Result<f64, String> {
    let json =
        api(address, &format!("/api/v1/query?latency_offset=1s&nocache=1&query={}", harness::encode(expression)))?;
    let value = &json["data"]["result"][0]["value"][1];
    value.as_str().and_then(|v| v.parse().ok()).ok_or_else(|| format!("no result in {json}"))
}

fn api(address: SocketAddr, path: &str) -> Result<Value, String> {
    let text = http::get(address, path).and_then(|answer| answer.text()).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| format!("{e} in {:?}", text.chars().take(200).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_replaced_in_turn() {
        // ten targets, three at a time
        let generations = |intervals| (0..10).map(|t| generation(t, 10, 3, intervals)).collect::<Vec<_>>();
        assert_eq!(generations(0), [0; 10]);
        assert_eq!(generations(1), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(generations(4), [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((0..10).map(|t| generation(t, 10, 0, 99)).sum::<usize>(), 0);
    }

    #[test]
    fn every_target_has_an_address_a_path_and_an_instance_of_its_own() {
        let list = target_list(200, 2, 1234, 5);
        let entries = list.as_array().expect("a list");
        for field in ["__metrics_path__", "instance"] {
            let all: std::collections::HashSet<_> = entries.iter().map(|e| e["labels"][field].to_string()).collect();
            assert_eq!(all.len(), 200, "{field}");
        }
        assert_eq!(entries[9]["labels"]["__metrics_path__"], "/t/9/1");
        assert_eq!(entries[10]["labels"]["__metrics_path__"], "/t/10/0");
        assert_eq!(entries[10]["targets"][0], "127.77.0.11:1234");
    }

    #[test]
    fn a_target_that_was_not_scraped_yet_is_not_down() {
        let target = |health: &str, error: &str| json!({"health": health, "lastError": error});
        let active = json!([target("up", ""), target("unknown", ""), target("down", ""), target("down", "refused")]);
        let json = json!({"data": {"activeTargets": active}});
        assert_eq!(up_and_down(&json), Ok((1, vec!["refused".to_owned()])));
        assert!(up_and_down(&json!({"status": "error"})).is_err());
    }
}
