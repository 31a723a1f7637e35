//! `bench table`: the table of `docs/benchmarks.md`, made from the reports that lie in the folder of results.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::benchmark::BenchError;
use crate::report::{Unit, show};

/// What is between these lines of the document is the tool's.
const START: &str = "<!-- made by `bench table` -->";
const END: &str = "<!-- end -->";

/// `bench table`.
#[derive(Args, Clone, Debug)]
pub struct TableSettings {
    /// Folder of the reports.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
    /// The document whose table is replaced; without it, the table is printed.
    #[arg(long)]
    pub document: Option<PathBuf>,
}

/// The figures of each benchmark that the table shows, by the start of its name.
const HEADLINES: [(&str, &[&str]); 7] = [
    (
        "ingest",
        &[
            "cpu_seconds",
            "cpu_seconds_per_million_samples",
            "rss_bytes",
            "rss_anon_bytes",
            "rss_peak_bytes",
            "disk_bytes",
        ],
    ),
    ("disk", &["bytes_per_sample", "cpu_seconds_per_million_samples", "cpu_seconds_taking", "rss_peak_bytes"]),
    ("query", &["cold_seconds", "cold_cpu_seconds", "median_seconds", "cpu_seconds", "peak_bytes"]),
    ("restart", &["ready_seconds", "first_answer_seconds", "rss_peak_replay_bytes"]),
    ("node", &["cpu_seconds_per_scrape", "first_byte_median_seconds", "rss_bytes"]),
    ("blackbox", &["cpu_seconds_per_probe", "rss_bytes"]),
    ("startup", &["ready_median_seconds", "rss_bytes"]),
];

/// Makes the table and puts it into the document or prints it.
///
/// # Errors
/// There is no report, one cannot be read, or the document has no place for the table.
pub fn run(settings: &TableSettings) -> Result<(), BenchError> {
    let reports = load(&settings.out)?;
    let text = render(&reports);
    let Some(document) = &settings.document else {
        print!("{text}");
        return Ok(());
    };
    let io = |e| BenchError::io(document.display().to_string(), e);
    let old = fs::read_to_string(document).map_err(io)?;
    let new = replace(&old, &text).ok_or_else(|| {
        let reason = format!("{} has no lines {START:?} and {END:?} around the table", document.display());
        BenchError::Usage(reason)
    })?;
    fs::write(document, new).map_err(io)
}

/// The reports, in the order of [`HEADLINES`].
fn load(folder: &Path) -> Result<Vec<Value>, BenchError> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let mut reports = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|e| BenchError::io(path.display().to_string(), e))?;
        let report: Value = serde_json::from_str(&text)
            .map_err(|e| BenchError::Usage(format!("{} is no report: {e}", path.display())))?;
        if report["columns"].is_array() {
            reports.push(report);
        }
    }
    reports.sort_by_key(|report| HEADLINES.iter().position(|(name, _)| name_of(report).starts_with(name)));
    if reports.is_empty() {
        return Err(BenchError::Usage(format!("there are no reports in {}", folder.display())));
    }
    Ok(reports)
}

fn name_of(report: &Value) -> &str {
    report["benchmark"].as_str().unwrap_or_default()
}

fn replace(document: &str, table: &str) -> Option<String> {
    let start = document.find(START)? + START.len();
    let end = start + document[start..].find(END)?;
    Some(format!("{}\n{table}{}", &document[..start], &document[end..]))
}

fn render(reports: &[Value]) -> String {
    let mut text = String::new();
    let machine = reports.iter().max_by_key(|r| r["date"].as_str().map(str::to_owned));
    if let Some(report) = machine {
        let text_of = |key: &str| report["machine"][key].as_str().unwrap_or("unknown").to_owned();
        let memory = report["machine"]["memory_bytes"].as_f64().unwrap_or(0.0) / 1e9;
        text.push_str(&format!(
            "Machine: {} processors ({}), {memory:.0} GB of memory, Linux {}.\n\n",
            report["machine"]["processors"],
            text_of("processor"),
            text_of("kernel"),
        ));
    }
    text.push_str(
        "| benchmark | figure | ours | Prometheus | VictoriaMetrics | another |\n|---|---|---|---|---|---|\n",
    );
    for report in reports {
        rows(report, &mut text);
    }
    text.push_str("\nThe work, and when it was measured:\n\n");
    for report in reports {
        let quick = if report["quick"] == true { " (a quick run, whose figures are no claim)" } else { "" };
        text.push_str(&format!(
            "- `{}`{quick}: {}. {}, load {} before.\n",
            name_of(report),
            report["work"].as_str().unwrap_or_default(),
            report["date"].as_str().unwrap_or("at an unknown time"),
            report["machine"]["load_before"],
        ));
        for left_out in report["left_out"].as_array().into_iter().flatten() {
            let field = |key: &str| left_out[key].as_str().unwrap_or_default().to_owned();
            if !field("reason").contains("cargo build") {
                text.push_str(&format!("  - left out: {}: {}\n", field("program"), field("reason")));
            }
        }
        for problem in report["problems"].as_array().into_iter().flatten() {
            text.push_str(&format!("  - problem: {}\n", problem.as_str().unwrap_or_default()));
        }
    }
    text
}

/// A line for each group and headline figure that we have.
fn rows(report: &Value, text: &mut String) {
    let benchmark = name_of(report);
    let Some((_, keys)) = HEADLINES.iter().find(|(name, _)| benchmark.starts_with(name)) else { return };
    let results: Vec<&Value> = report["results"].as_array().into_iter().flatten().collect();
    let mut groups: Vec<&str> = results.iter().filter_map(|row| row["group"].as_str()).collect();
    groups.dedup();
    let several = groups.len() > 1;
    for group in groups {
        let of_group: Vec<&&Value> = results.iter().filter(|row| row["group"] == group).collect();
        for key in *keys {
            let Some(column) = report["columns"].as_array().into_iter().flatten().find(|c| c["key"] == *key) else {
                continue;
            };
            let unit = column["unit"].as_str().and_then(Unit::parse).unwrap_or(Unit::Count);
            let ours = of_group.iter().find(|row| row["ours"] == true).and_then(|row| row["values"][key].as_f64());
            let Some(ours) = ours else { continue };
            let mut cells = [show(ours, unit), String::new(), String::new(), String::new()];
            for peer in of_group.iter().filter(|row| row["ours"] != true) {
                let Some(value) = peer["values"][key].as_f64() else { continue };
                let name = peer["program"].as_str().unwrap_or_default();
                let ratio = if ours > 0.0 { format!(" ({:.1} x)", value / ours) } else { String::new() };
                let shown = show(value, unit) + &ratio;
                match name {
                    "prometheus" => cells[1] = shown,
                    "victoria-metrics" => cells[2] = shown,
                    other if cells[3].is_empty() => cells[3] = format!("{other}: {shown}"),
                    other => cells[3].push_str(&format!("; {other}: {shown}")),
                }
            }
            let work = if several { format!("`{benchmark}`: {group}") } else { format!("`{benchmark}`") };
            let title = column["title"].as_str().unwrap_or_default();
            text.push_str(&format!("| {work} | {title} | {} |\n", cells.join(" | ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        let column = |key: &str, title: &str, unit: &str| json!({"key": key, "title": title, "unit": unit});
        let row = |program: &str, ours: bool, cpu: f64| json!({"group": "node", "program": program, "ours": ours, "values": {"cpu_seconds_per_scrape": cpu}});
        json!({
            "benchmark": "node", "work": "scrapes", "quick": true, "date": "2026-01-02", "problems": ["bad"],
            "machine": {"processors": 2, "processor": "P", "kernel": "6.1", "memory_bytes": 8e9, "load_before": 0.5},
            "columns": [column("cpu_seconds_per_scrape", "CPU/scrape", "milliseconds"), column("x", "x", "bytes")],
            "results": [row("node-exporter", true, 0.002), row("prometheus-node-exporter", false, 0.01)],
            "left_out": [{"program": "vm", "reason": "no network"}],
        })
    }

    #[test]
    fn the_table_has_figures_ratios_machine_and_work() {
        let text = render(&[report()]);
        let expected = "\
Machine: 2 processors (P), 8 GB of memory, Linux 6.1.

| benchmark | figure | ours | Prometheus | VictoriaMetrics | another |
|---|---|---|---|---|---|
| `node` | CPU/scrape | 2.00 ms |  |  | prometheus-node-exporter: 10.00 ms (5.0 x) |

The work, and when it was measured:

- `node` (a quick run, whose figures are no claim): scrapes. 2026-01-02, load 0.5 before.
  - left out: vm: no network
  - problem: bad
";
        assert_eq!(text, expected);
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let document = format!("a\n{START}\nold\n{END}\nb\n");
        assert_eq!(replace(&document, "new\n"), Some(format!("a\n{START}\nnew\n{END}\nb\n")));
        assert_eq!(replace("nothing", "new\n"), None);
    }
}
