//! `startup`: from the start of a program to its first good answer, and what it keeps at rest.

use std::path::Path;
use std::time::Duration;

use crate::benchmark::{BenchError, Benchmark, Contestant, Found, Maker, Settings};
use crate::process::{Running, free_address};
use crate::report::{Column, Report, Row, Unit};

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "startup", about: "Time to the first answer, and memory at rest, of every daemon.", run };

const COLUMNS: [Column; 5] = [
    Column { key: "ready_median_seconds", title: "ready", unit: Unit::Milliseconds, compared: true },
    Column { key: "cpu_seconds", title: "CPU", unit: Unit::Milliseconds, compared: true },
    Column { key: "rss_bytes", title: "RSS at rest", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_anon_bytes", title: "RSS anon", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
];

/// How a daemon is started with next to nothing to do.
struct Daemon {
    name: &'static str,
    maker: Maker,
    /// What is compared with what.
    group: &'static str,
    /// Answers 200 as soon as it is ready.
    ready: &'static str,
    /// Its configuration file, written as `config.yml` into the folder that it runs in.
    config: &'static str,
    /// `ADDRESS` and `PORT` stand for what it has to listen on.
    arguments: &'static [&'static str],
}

/// `firewatch up`, and the programs whose work it does today.
const ALL_IN_ONE: &str = "all in one";
const STOOD_IN_FOR: [&str; 2] = ["prometheus", "prometheus-node-exporter"];

const BLACKBOX: &str = "modules:\n  http_2xx:\n    prober: http\n";
const ALERTMANAGER: &str = "route:\n  receiver: none\nreceivers:\n  - name: none\n";
const COLLECTOR: &str = "scrape_configs: []\n";
const COLLECTOR_ARGUMENTS: &[&str] =
    &["--config.file=config.yml", "--storage.tsdb.path=data", "--web.listen-address=ADDRESS"];
const ALERTMANAGER_ARGUMENTS: &[&str] =
    &["--config.file=config.yml", "--storage.path=data", "--web.listen-address=ADDRESS", "--cluster.listen-address="];
const BLACKBOX_ARGUMENTS: &[&str] = &["--config.file=config.yml", "--web.listen-address=ADDRESS"];

const DAEMONS: [Daemon; 10] = [
    Daemon {
        name: "collector",
        maker: Maker::Us,
        group: "collector",
        ready: "/-/ready",
        config: COLLECTOR,
        arguments: COLLECTOR_ARGUMENTS,
    },
    Daemon {
        name: "prometheus",
        maker: Maker::Peer,
        group: "collector",
        ready: "/-/ready",
        config: COLLECTOR,
        arguments: COLLECTOR_ARGUMENTS,
    },
    Daemon {
        name: "victoria-metrics",
        maker: Maker::Peer,
        group: "collector",
        ready: "/-/ready",
        config: COLLECTOR,
        arguments: &["-promscrape.config=config.yml", "-storageDataPath=data", "-httpListenAddr=ADDRESS"],
    },
    Daemon {
        name: "node-exporter",
        maker: Maker::Us,
        group: "node",
        ready: "/metrics",
        config: "",
        arguments: &["--web.listen-address=ADDRESS"],
    },
    Daemon {
        name: "prometheus-node-exporter",
        maker: Maker::Peer,
        group: "node",
        ready: "/metrics",
        config: "",
        arguments: &["--web.listen-address=ADDRESS"],
    },
    Daemon {
        name: "blackbox-exporter",
        maker: Maker::Us,
        group: "blackbox",
        ready: "/metrics",
        config: BLACKBOX,
        arguments: BLACKBOX_ARGUMENTS,
    },
    Daemon {
        name: "prometheus-blackbox-exporter",
        maker: Maker::Peer,
        group: "blackbox",
        ready: "/metrics",
        config: BLACKBOX,
        arguments: BLACKBOX_ARGUMENTS,
    },
    Daemon {
        name: "alertmanager",
        maker: Maker::Us,
        group: "alertmanager",
        ready: "/-/ready",
        config: ALERTMANAGER,
        arguments: ALERTMANAGER_ARGUMENTS,
    },
    Daemon {
        name: "prometheus-alertmanager",
        maker: Maker::Peer,
        group: "alertmanager",
        ready: "/-/ready",
        config: ALERTMANAGER,
        arguments: ALERTMANAGER_ARGUMENTS,
    },
    Daemon {
        name: "firewatch",
        maker: Maker::Us,
        group: ALL_IN_ONE,
        ready: "/-/ready",
        config: "",
        arguments: &["up", "--port", "PORT", "--data", "data"],
    },
];

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let mut report = Report::new("startup", settings.quick, &COLUMNS);
    let (starts, rest) = if settings.quick { (3, 2) } else { (11, 10) };
    report.work = format!(
        "empty data folder, next to no configuration; the median of {starts} starts; memory {rest} s after the last"
    );
    let contestants = DAEMONS.map(|daemon| Contestant { name: daemon.name, maker: daemon.maker });
    let contestants = settings.enlist(&contestants, &mut report)?;
    // the package's Alertmanager reads its templates from where the package would install them
    let templates = Path::new("/usr/share/prometheus/alertmanager/default.tmpl");
    for (found, daemon) in contestants.iter().flat_map(|f| DAEMONS.iter().find(|d| d.name == f.name).map(|d| (f, d))) {
        if found.name == "prometheus-alertmanager" && !templates.exists() {
            report.left_out.push((found.name.to_owned(), format!("it needs {}", templates.display())));
            continue;
        }
        eprintln!("{} {}", found.name, found.version);
        match measure(settings, found, daemon, starts, Duration::from_secs(rest)) {
            Ok(values) => report.rows.push(found.row(daemon.group, values)),
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    report.rows.extend(together(&report.rows));
    Ok(report)
}

/// What the peers take together that one process of ours stands in for: the slowest start, and the sum of all else.
fn together(rows: &[Row]) -> Option<Row> {
    let peers: Vec<&Row> = STOOD_IN_FOR.iter().filter_map(|name| rows.iter().find(|r| r.program == *name)).collect();
    let all_there = peers.len() == STOOD_IN_FOR.len() && rows.iter().any(|row| row.group == ALL_IN_ONE);
    let values = (0..COLUMNS.len()).map(|column| {
        let values = peers.iter().filter_map(|row| row.values[column]);
        Some(if column == 0 { values.fold(0.0, f64::max) } else { values.sum() })
    });
    all_there.then(|| Row {
        group: ALL_IN_ONE.to_owned(),
        program: STOOD_IN_FOR.join(" + "),
        ours: false,
        version: String::new(),
        values: values.collect(),
    })
}

fn measure(
    settings: &Settings,
    found: &Found,
    daemon: &Daemon,
    starts: usize,
    rest: Duration,
) -> Result<Vec<Option<f64>>, BenchError> {
    let mut times = Vec::with_capacity(starts);
    loop {
        let folder = settings.data_folder()?;
        let (mut running, ready) = start(found, daemon, folder.path())?;
        times.push(ready.as_secs_f64());
        if times.len() < starts {
            running.stop()?;
            continue;
        }
        let spent = running.processor_time()?;
        std::thread::sleep(rest);
        running.check()?;
        let memory = running.memory()?;
        running.stop()?;
        times.sort_by(f64::total_cmp);
        let median = times[starts / 2];
        return Ok([median, spent.as_secs_f64(), memory.resident as f64, memory.anonymous as f64, memory.peak as f64]
            .map(Some)
            .to_vec());
    }
}

fn start(found: &Found, daemon: &Daemon, folder: &Path) -> Result<(Running, Duration), BenchError> {
    let address = free_address()?;
    std::fs::write(folder.join("config.yml"), daemon.config).map_err(|e| BenchError::io("config.yml", e))?;
    let arguments: Vec<String> = daemon
        .arguments
        .iter()
        .map(|argument| argument.replace("ADDRESS", &address.to_string()).replace("PORT", &address.port().to_string()))
        .collect();
    let mut running = Running::start(found.name, &found.binary, &arguments, folder)?;
    let ready = running.wait_ready(address, daemon.ready, Duration::from_secs(60))?;
    Ok((running, ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_together_are_the_slowest_start_and_the_sum_of_all_else() {
        let row = |group: &str, program: &str, values: [f64; 5]| Row {
            group: group.to_owned(),
            program: program.to_owned(),
            ours: group == ALL_IN_ONE,
            version: String::new(),
            values: values.map(Some).to_vec(),
        };
        let mut rows = vec![
            row("collector", "prometheus", [3.0, 1.0, 10.0, 20.0, 30.0]),
            row("node", "prometheus-node-exporter", [1.0, 2.0, 1.0, 2.0, 3.0]),
        ];
        assert!(together(&rows).is_none(), "nothing to compare with");
        rows.push(row(ALL_IN_ONE, "firewatch", [1.0; 5]));
        assert_eq!(together(&rows).expect("a row").values, [3.0, 3.0, 11.0, 22.0, 33.0].map(Some));
        rows.remove(0);
        assert!(together(&rows).is_none(), "one is missing");
    }
}
