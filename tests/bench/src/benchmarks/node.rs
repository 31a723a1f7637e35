//! `node`: what it costs to ask a node exporter with its default collectors, on this machine or on a generated one.

use std::path::Path;
use std::time::Duration;

use crate::benchmark::{BenchError, Benchmark, Contestant, Found, Maker, Settings};
use crate::machine::{self, Size};
use crate::process::{Running, free_address};
use crate::report::{Column, Report, Unit};
use harness::client::Connection;

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "node", about: "Processor time and memory of a node exporter that is scraped.", run };

const CONTESTANTS: [Contestant; 2] = [
    Contestant { name: "node-exporter", maker: Maker::Us },
    Contestant { name: "prometheus-node-exporter", maker: Maker::Peer },
];

const COLUMNS: [Column; 10] = [
    Column { key: "cpu_seconds_per_scrape", title: "CPU/scrape", unit: Unit::Milliseconds, compared: true },
    Column { key: "first_byte_median_seconds", title: "first byte", unit: Unit::Milliseconds, compared: true },
    Column { key: "first_byte_p99_seconds", title: "p99", unit: Unit::Milliseconds, compared: true },
    Column { key: "rss_bytes", title: "RSS", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_rest_bytes", title: "RSS at rest", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_anon_bytes", title: "RSS anon", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
    Column { key: "series", title: "series", unit: Unit::Count, compared: false },
    Column { key: "page_bytes", title: "page", unit: Unit::Megabytes, compared: false },
    Column { key: "sent_bytes", title: "sent", unit: Unit::Megabytes, compared: false },
];

/// How often is scraped.
struct Work {
    /// Before the measurement.
    warm_up: usize,
    scrapes: usize,
    /// Between two scrapes.
    pause: Duration,
    arguments: Vec<String>,
}

/// After the last scrape, before memory at rest is read: scrapers ask four times a minute.
const REST: Duration = Duration::from_secs(5);

/// The machine of `--large`.
const LARGE: Size = Size { cpus: 256, disks: 500, mounts: 2000, interfaces: 5000 };

/// What Prometheus asks with.
const HEADERS: [(&str, &str); 2] = [
    ("Accept", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
    ("Accept-Encoding", "gzip"),
];

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let name = if settings.large { "node-large" } else { "node" };
    let mut report = Report::new(name, settings.quick, &COLUMNS);
    let contestants = settings.enlist(&CONTESTANTS, &mut report)?;
    let folder = settings.data_folder()?;
    let work = if settings.large {
        let part = |whole: usize| if settings.quick { whole / 10 } else { whole };
        let size = Size {
            cpus: part(LARGE.cpus),
            disks: part(LARGE.disks),
            mounts: part(LARGE.mounts),
            interfaces: part(LARGE.interfaces),
        };
        let scrapes = if settings.quick { 3 } else { 20 };
        report.work = format!(
            "{scrapes} scrapes of a generated machine with {} CPUs, {} disks, {} mounts and {} interfaces, default collectors \
             without netlink, gzip, after 2 to warm up",
            size.cpus, size.disks, size.mounts, size.interfaces
        );
        machine::write(folder.path(), size).map_err(|e| BenchError::io("writing the machine", e))?;
        Work { warm_up: 2, scrapes, pause: Duration::ZERO, arguments: arguments_of(folder.path()) }
    } else {
        let (warm_up, scrapes) = (20, if settings.quick { 100 } else { 1000 });
        report.work = format!(
            "{scrapes} scrapes of the default collectors on one connection, 10 ms apart, gzip, after {warm_up} to warm up"
        );
        Work { warm_up, scrapes, pause: Duration::from_millis(10), arguments: Vec::new() }
    };
    for found in &contestants {
        eprintln!("{} {}: {} scrapes", found.name, found.version, work.scrapes);
        match measure(found, &work, folder.path()) {
            Ok(values) => report.rows.push(found.row(name, values)),
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    Ok(report)
}

/// Flags by which an exporter sees a generated machine; the kernel's own interfaces would show the real one.
fn arguments_of(folder: &Path) -> Vec<String> {
    let at = |flag: &str, name: &str| format!("--path.{flag}={}", folder.join(name).display());
    let paths = [at("procfs", "proc"), at("sysfs", "sys"), at("udev.data", "udev"), at("rootfs", "root")];
    let netlink = ["netdev", "arp"].map(|name| format!("--no-collector.{name}.netlink"));
    paths.into_iter().chain(netlink).collect()
}

fn measure(found: &Found, work: &Work, folder: &Path) -> Result<Vec<Option<f64>>, BenchError> {
    let address = free_address()?;
    let mut arguments = work.arguments.clone();
    arguments.push(format!("--web.listen-address={address}"));
    let mut running = Running::start(found.name, &found.binary, &arguments, folder)?;
    running.wait_ready(address, "/", Duration::from_secs(30))?;
    let named = |e| BenchError::io(format!("scraping {}", found.name), e);
    let mut connection = Connection::open(address, Duration::from_secs(60)).map_err(named)?;
    for _ in 0..work.warm_up {
        connection.get("/metrics", &HEADERS).map_err(named)?;
    }
    let before = running.processor_time()?;
    let scrapes = work.scrapes;
    let mut first_bytes = Vec::with_capacity(scrapes);
    let (mut page, mut sent) = (String::new(), 0);
    for number in 0..scrapes {
        let answer = connection.get("/metrics", &HEADERS).map_err(named)?;
        if answer.status != 200 {
            return Err(running.failure(&format!("/metrics answers {}", answer.status)));
        }
        first_bytes.push(answer.first_byte.as_secs_f64());
        if number + 1 == scrapes {
            sent = answer.body.len();
            page = answer.text().map_err(named)?;
        }
        std::thread::sleep(work.pause);
    }
    let spent = running.processor_time()? - before;
    let memory = running.memory()?;
    std::thread::sleep(REST);
    let rest = running.memory()?;
    running.stop()?;
    first_bytes.sort_by(f64::total_cmp);
    let series = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    Ok([
        spent.as_secs_f64() / scrapes as f64,
        first_bytes[scrapes / 2],
        first_bytes[scrapes * 99 / 100],
        memory.resident as f64,
        rest.resident as f64,
        memory.anonymous as f64,
        memory.peak as f64,
        series as f64,
        page.len() as f64,
        sent as f64,
    ]
    .map(Some)
    .to_vec())
}
