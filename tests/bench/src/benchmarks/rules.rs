//! `rules`: all rules of kube-prometheus, evaluated again and again over a cluster of many series.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::benchmark::{BenchError, Benchmark, Found, Settings};
use crate::datasets::{self, Cluster};
use crate::history::{self, Live};
use crate::report::{Column, Report, Unit};
use crate::store::{RunningStore, STORES, sum};
use harness::client::Connection;

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "rules", about: "Processor time of the rules of kube-prometheus over 100,000 series.", run };

const COLUMNS: [Column; 8] = [
    Column { key: "cpu_seconds_per_evaluation", title: "CPU/evaluation", unit: Unit::Milliseconds, compared: true },
    Column { key: "cpu_seconds_with_ingestion", title: "with ingestion", unit: Unit::Milliseconds, compared: true },
    Column { key: "rss_peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
    Column { key: "evaluations", title: "evaluations", unit: Unit::Count, compared: false },
    Column { key: "failures", title: "failures", unit: Unit::Count, compared: false },
    Column { key: "rules", title: "rules", unit: Unit::Count, compared: false },
    Column { key: "samples_per_evaluation", title: "samples", unit: Unit::Count, compared: false },
    Column { key: "series", title: "series", unit: Unit::Count, compared: false },
];

/// How often rules are evaluated.
fn interval(settings: &Settings) -> Duration {
    Duration::from_secs(if settings.quick { 5 } else { 15 })
}

/// How long each phase is measured.
fn phase(settings: &Settings) -> Duration {
    Duration::from_secs(settings.seconds.unwrap_or(if settings.quick { 30 } else { 120 }))
}

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let mut report = Report::new("rules", settings.quick, &COLUMNS);
    let Some(folder) = settings.kube_prometheus_folder() else {
        let reason = "FIREWATCH_CONFORMANCE does not name a folder with kube-prometheus";
        report.left_out.push(("rules of kube-prometheus".to_owned(), reason.to_owned()));
        return Ok(report);
    };
    let cluster = Cluster::new(settings, &folder);
    report.work = format!(
        "{}; every {} s; processor time for one evaluation of all rules, without that of taking the samples",
        cluster.about(),
        interval(settings).as_secs()
    );
    // VictoriaMetrics leaves rules to another program
    for found in &settings.enlist(&STORES[..2], &mut report)? {
        eprintln!("{} {}: {}", found.name, found.version, report.work);
        match measure(settings, &cluster, &folder, found) {
            Ok(values) => report.rows.push(found.row("kube-prometheus", values)),
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    Ok(report)
}

fn measure(
    settings: &Settings,
    cluster: &Cluster,
    rules: &Path,
    found: &Found,
) -> Result<Vec<Option<f64>>, BenchError> {
    let folder = settings.data_folder()?;
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).map_err(|e| BenchError::io(name.to_owned(), e))
    };
    let config = format!("global:\n  evaluation_interval: {}s\nscrape_configs: []\n", interval(settings).as_secs());
    write("config.yml", &config)?;
    let store = RunningStore::start(found, folder.path(), &["--web.enable-lifecycle".to_owned()])?;
    let now = datasets::now()?;
    history::send(cluster.past(now), store.address, history::BULK)?;
    let live = Live::start(cluster.from(now), store.address);
    sleep(interval(settings));
    let before = store.running.processor_time()?;
    sleep(phase(settings));
    let taking = (store.running.processor_time()? - before).as_secs_f64() / phase(settings).as_secs_f64();

    let mut names = Vec::new();
    for (number, text) in rule_files(rules)?.iter().enumerate() {
        names.push(format!("rules{number}.yml"));
        write(&names[number], text)?;
    }
    write("config.yml", &format!("{config}rule_files: [{}]\n", names.join(", ")))?;
    let reloaded = Connection::open(store.address, Duration::from_secs(60))
        .and_then(|mut connection| connection.post("/-/reload", &[], &[]))
        .map_err(|e| BenchError::io("/-/reload", e))?;
    if reloaded.status != 200 {
        let text = String::from_utf8_lossy(&reloaded.body).into_owned();
        return Err(store.running.failure(&format!("it does not take the rules: {text}")));
    }
    // groups begin within the interval, each at a time of its own
    sleep(2 * interval(settings));
    let evaluated = |store: &RunningStore| -> Result<[f64; 3], BenchError> {
        let page = store.metrics()?;
        let names = [
            "prometheus_rule_evaluations_total",
            "prometheus_rule_evaluation_failures_total",
            "prometheus_rule_group_last_evaluation_samples",
        ];
        Ok(names.map(|name| sum(&page, name, "")))
    };
    let [evaluations, failures, _] = evaluated(&store)?;
    let before = store.running.processor_time()?;
    sleep(phase(settings));
    let spent = (store.running.processor_time()? - before).as_secs_f64();
    let after = evaluated(&store)?;
    let page = store.metrics()?;
    let (rules, series) =
        (sum(&page, "prometheus_rule_group_rules", ""), sum(&page, "prometheus_tsdb_head_series", ""));
    let peak = store.running.memory()?.peak as f64;
    live.stop()?;
    store.running.stop()?;
    let rounds = (after[0] - evaluations) / rules.max(1.0);
    let whole = spent / rounds;
    let alone = (spent - taking * phase(settings).as_secs_f64()).max(0.0) / rounds;
    let values = [alone, whole, peak, rounds, after[1] - failures, rules, after[2], series];
    Ok(values.map(Some).to_vec())
}

/// The rule files in the manifests of a folder.
fn rule_files(folder: &Path) -> Result<Vec<String>, BenchError> {
    let folder = folder.join("rules");
    let named = |e| BenchError::io(folder.display().to_string(), e);
    let entries = fs::read_dir(&folder).map_err(named)?.collect::<Result<Vec<_>, _>>().map_err(named)?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    paths.iter().map(|path| Ok(rule_file(&fs::read_to_string(path).map_err(named)?))).collect()
}

/// The groups of a PrometheusRule as a rule file: what is under `spec`, without its indentation.
fn rule_file(manifest: &str) -> String {
    let spec = manifest.lines().skip_while(|line| *line != "spec:").skip(1);
    let spec = spec.take_while(|line| line.is_empty() || line.starts_with(' '));
    spec.map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn rule_files_are_what_is_under_spec() {
        let manifest = "kind: PrometheusRule\nspec:\n  groups:\n  - name: a\n    rules:\n    - expr: |\n\n        up\n";
        assert_eq!(super::rule_file(manifest), "groups:\n- name: a\n  rules:\n  - expr: |\n\n      up\n");
        assert_eq!(super::rule_file("spec:\n  groups: []\nstatus: {}\n"), "groups: []\n");
    }
}
