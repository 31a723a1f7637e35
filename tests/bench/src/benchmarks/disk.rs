//! `disk`: how many bytes a day of history takes after all merging, and what it cost to get there.

use crate::benchmark::{BenchError, Benchmark, Settings};
use crate::datasets::{DataSet, Which, now};
use crate::filled::{self, Figures};
use crate::report::{Column, Report, Unit};
use crate::store::STORES;

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "disk", about: "Bytes of a day of history, index included, and the cost to store it.", run };

const COLUMNS: [Column; 10] = [
    Column { key: "bytes_per_sample", title: "B/sample", unit: Unit::Bytes, compared: true },
    Column { key: "block_bytes", title: "blocks", unit: Unit::Megabytes, compared: true },
    Column { key: "folder_bytes", title: "folder", unit: Unit::Megabytes, compared: true },
    Column { key: "cpu_seconds", title: "CPU", unit: Unit::Seconds, compared: true },
    Column { key: "cpu_seconds_per_million_samples", title: "CPU/M samples", unit: Unit::Milliseconds, compared: true },
    Column { key: "cpu_seconds_taking", title: "CPU until sent", unit: Unit::Seconds, compared: true },
    Column { key: "seconds_taking", title: "sent in", unit: Unit::Seconds, compared: true },
    Column { key: "seconds_merging", title: "merged after", unit: Unit::Seconds, compared: false },
    Column { key: "rss_peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
    Column { key: "blocks", title: "blocks", unit: Unit::Count, compared: false },
];

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let set = DataSet::new(settings, Which::Disk, now()?)?;
    let mut report = Report::new(&set.name, settings.quick, &COLUMNS);
    report.work = format!("{}, by remote write in order of time, after compaction", set.about);
    let contestants = settings.enlist(&STORES, &mut report)?;
    for found in &contestants {
        eprintln!("{} {}: {}", found.name, found.version, set.about);
        match filled::fill(settings, &set, found) {
            Ok(figures) => report.rows.push(found.row("store", values(&figures))),
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    Ok(report)
}

fn values(figures: &Figures) -> Vec<Option<f64>> {
    let samples = figures.samples as f64;
    let values = [
        figures.block_bytes as f64 / samples,
        figures.block_bytes as f64,
        figures.folder_bytes as f64,
        figures.cpu.as_secs_f64(),
        figures.cpu.as_secs_f64() / (samples / 1e6),
        figures.send_cpu.as_secs_f64(),
        figures.sent.as_secs_f64(),
        figures.merged.as_secs_f64(),
        figures.peak as f64,
        figures.blocks as f64,
    ];
    values.map(Some).to_vec()
}
