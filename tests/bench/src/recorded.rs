//! Values recorded from the real exporters of this machine, and their repetition as a history of any length.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use std::collections::HashMap;

use crate::benchmark::{BenchError, Contestant, Found, Maker, Settings};
use crate::process::{Running, free_address};
use harness::client as http;

/// What is recorded: programs that tell of themselves or of the machine.
const EXPORTERS: [Contestant; 3] = [
    Contestant { name: "prometheus-node-exporter", maker: Maker::Peer },
    Contestant { name: "prometheus", maker: Maker::Peer },
    Contestant { name: "victoria-metrics", maker: Maker::Peer },
];

/// `bench record`.
#[derive(Args, Clone, Debug)]
pub struct RecordSettings {
    /// Number of scrapes, a second apart; `disk` takes them for scrapes every 15 s, so the default is 6 h of history.
    #[arg(long, default_value_t = 1440)]
    pub scrapes: usize,
    /// Folder that benchmarks write to; the recording lies in `recorded` there.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

/// The pages of one exporter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recording {
    /// The exporter.
    pub(crate) name: String,
    /// Name and labels of each series, as on the page.
    pub(crate) heads: Vec<String>,
    /// The values of each scrape. A series that was not there has the value of the scrape before, or NaN.
    pub(crate) rows: Vec<Vec<f64>>,
}

/// Starts the real exporters, scrapes them and writes what they show.
///
/// # Errors
/// An exporter cannot be fetched or started, or the files cannot be written.
pub fn record(settings: &RecordSettings) -> Result<(), BenchError> {
    let folder = tempfile::tempdir().map_err(|e| BenchError::io("a folder", e))?;
    let roster = Settings::for_peers(&settings.out).roster(&EXPORTERS)?;
    for (name, reason) in &roster.left_out {
        eprintln!("left out: {name}: {reason}");
    }
    let addresses = roster.found.iter().map(|_| free_address()).collect::<Result<Vec<_>, _>>()?;
    let mut running = Vec::new();
    let mut recordings = Vec::new();
    for (found, address) in roster.found.iter().zip(&addresses) {
        running.push(start(found, *address, &addresses, folder.path())?);
        recordings.push(Recording { name: found.name.to_owned(), heads: Vec::new(), rows: Vec::new() });
    }
    for (running, address) in running.iter_mut().zip(&addresses) {
        running.wait_ready(*address, "/metrics", Duration::from_secs(60))?;
    }
    let mut known: Vec<HashMap<String, usize>> = vec![HashMap::new(); recordings.len()];
    let began = Instant::now();
    for number in 0..settings.scrapes {
        for ((recording, known), address) in recordings.iter_mut().zip(&mut known).zip(&addresses) {
            let page = http::get(*address, "/metrics").and_then(|a| a.text());
            recording.add(&page.map_err(|e| BenchError::io(recording.name.clone(), e))?, known);
        }
        sleep(Duration::from_secs(number as u64 + 1).saturating_sub(began.elapsed()));
    }
    let target = folder_of(&settings.out);
    fs::create_dir_all(&target).map_err(|e| BenchError::io(target.display().to_string(), e))?;
    for recording in &mut recordings {
        recording.fill();
        let path = target.join(format!("{}.txt", recording.name));
        fs::write(&path, recording.to_text()).map_err(|e| BenchError::io(path.display().to_string(), e))?;
        println!("{}: {} series, {} scrapes", path.display(), recording.heads.len(), recording.rows.len());
    }
    Ok(())
}

fn folder_of(out: &Path) -> PathBuf {
    out.join("recorded")
}

fn start(found: &Found, address: SocketAddr, all: &[SocketAddr], folder: &Path) -> Result<Running, BenchError> {
    let folder = folder.join(found.name);
    let io = |e| BenchError::io(folder.display().to_string(), e);
    fs::create_dir_all(&folder).map_err(io)?;
    // the stores have something to do, so that their own metrics move
    let targets: Vec<String> = all.iter().map(|a| format!("\"{a}\"")).collect();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: all\n    static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    );
    fs::write(folder.join("config.yml"), config).map_err(io)?;
    let arguments = match found.name {
        "prometheus-node-exporter" => vec![format!("--web.listen-address={address}")],
        _ => crate::store::StoreKind::of(found).arguments(address),
    };
    Running::start(found.name, &found.binary, &arguments, &folder)
}

impl Recording {
    /// The recordings that are there.
    pub(crate) fn load_all(out: &Path) -> Result<Vec<Self>, BenchError> {
        let folder = folder_of(out);
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "txt"));
        paths.sort();
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path).map_err(|e| BenchError::io(path.display().to_string(), e))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Self::from_text(name, &text)
                .ok_or_else(|| BenchError::Usage(format!("{} is no recording; make it anew", path.display())))
        };
        let all = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            let reason = format!("there is no recording in {}; make one with `bench record`", folder.display());
            return Err(BenchError::Usage(reason));
        }
        Ok(all)
    }

    fn add(&mut self, page: &str, known: &mut HashMap<String, usize>) {
        let mut row = self.rows.last().cloned().unwrap_or_default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((head, value)) = line.rsplit_once(' ') else { continue };
            let Some(value) = model::parse_float(value) else { continue };
            let number = *known.entry(head.to_owned()).or_insert_with(|| {
                self.heads.push(head.to_owned());
                self.heads.len() - 1
            });
            row.resize(self.heads.len(), f64::NAN);
            row[number] = value;
        }
        self.rows.push(row);
    }

    /// Gives every row a value for each series: a series that came late has its first value before that.
    fn fill(&mut self) {
        let width = self.heads.len();
        let mut next = vec![f64::NAN; width];
        for row in self.rows.iter_mut().rev() {
            row.resize(width, f64::NAN);
            for (value, next) in row.iter_mut().zip(&mut next) {
                if value.is_nan() {
                    *value = *next;
                }
                *next = *value;
            }
        }
    }

    /// A line for each series, an empty one, and a line for each scrape.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for head in &self.heads {
            text.push_str(head);
            text.push('\n');
        }
        for row in &self.rows {
            text.push('\n');
            for value in row {
                model::format_float(*value, &mut text);
                text.push(' ');
            }
        }
        text.push('\n');
        text
    }

    fn from_text(name: String, text: &str) -> Option<Self> {
        // the first row starts after the line feed of the last series
        let (heads, rows) = text.split_once("\n\n")?;
        let heads: Vec<String> = heads.lines().map(str::to_owned).collect();
        let row = |line: &str| line.split_whitespace().map(model::parse_float).collect::<Option<Vec<f64>>>();
        let rows: Vec<Vec<f64>> = rows.lines().map(row).collect::<Option<_>>()?;
        (rows.len() > 1 && rows.iter().all(|row| row.len() == heads.len())).then_some(Self { name, heads, rows })
    }

    /// How each series goes on after the last scrape: how much a counter has gained by then, and nothing for a gauge, which goes
    /// back the way that it came.
    pub(crate) fn gains(&self) -> Vec<Option<f64>> {
        let steps = self.rows.len() as f64;
        let gain = |series: usize| {
            let values = || self.rows.iter().map(|row| row[series]);
            let (first, last) = (self.rows[0][series], self.rows[self.rows.len() - 1][series]);
            let rises = values().zip(values().skip(1)).all(|(a, b)| b >= a);
            // whole counters stay whole
            let whole = values().all(|v| v.fract() == 0.0);
            let gain = (last - first) * steps / (steps - 1.0);
            (rises && last > first).then_some(if whole { gain.round() } else { gain })
        };
        (0..self.heads.len()).map(gain).collect()
    }

    /// The value at a scrape of the endless history.
    pub(crate) fn value(&self, series: usize, gain: Option<f64>, tick: u64) -> f64 {
        let length = self.rows.len() as u64;
        match gain {
            Some(gain) => self.rows[(tick % length) as usize][series] + (tick / length) as f64 * gain,
            None => {
                let turn = tick % (2 * length - 2);
                self.rows[turn.min(2 * length - 2 - turn) as usize][series]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(pages: &[&str]) -> Recording {
        let mut recording = Recording { name: "x".to_owned(), heads: Vec::new(), rows: Vec::new() };
        let mut known = HashMap::new();
        pages.iter().for_each(|page| recording.add(page, &mut known));
        recording.fill();
        recording
    }

    #[test]
    fn pages_become_rows_and_are_read_back() {
        let recording =
            recorded(&["# TYPE a counter\na{b=\"c d\"} 1\ng 2.5\n", "a{b=\"c d\"} 3\nlate 9\n", "g 1e+06\n"]);
        assert_eq!(recording.heads, ["a{b=\"c d\"}", "g", "late"]);
        assert_eq!(recording.rows, [[1.0, 2.5, 9.0], [3.0, 2.5, 9.0], [3.0, 1e6, 9.0]]);
        assert_eq!(Recording::from_text("x".to_owned(), &recording.to_text()), Some(recording));
        assert_eq!(Recording::from_text("x".to_owned(), "a\nb\n\n1 2\n1\n"), None);
    }

    #[test]
    fn counters_go_on_and_gauges_go_back() {
        let recording = recorded(&["c 10\ng 1", "c 12\ng 3", "c 14\ng 2"]);
        let gains = recording.gains();
        assert_eq!(gains, [Some(6.0), None]);
        let history = |series| (0..7).map(|t| recording.value(series, gains[series], t)).collect::<Vec<_>>();
        assert_eq!(history(0), [10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0]);
        assert_eq!(history(1), [1.0, 3.0, 2.0, 3.0, 1.0, 3.0, 2.0]);
    }
}
