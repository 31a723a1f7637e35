//! What a benchmark is, the list of them, and what they share: settings, errors, and the programs to compare.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use conformance::kube_prometheus;

use crate::benchmarks::{blackbox, disk, ingest, node, query, restart, rules, series, startup};
use crate::datasets::DiskData;
use crate::peers::Peers;
use crate::report::{Report, Row};

/// All benchmarks.
pub const BENCHMARKS: &[Benchmark] = &[
    ingest::BENCHMARK,
    disk::BENCHMARK,
    query::BENCHMARK,
    restart::BENCHMARK,
    rules::BENCHMARK,
    series::BENCHMARK,
    node::BENCHMARK,
    blackbox::BENCHMARK,
    startup::BENCHMARK,
];

/// A benchmark that can be asked for by its name.
pub struct Benchmark {
    /// Its name on the command line and of its report.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// Measures.
    pub(crate) run: fn(&Settings) -> Result<Report, BenchError>,
}

impl Benchmark {
    /// The benchmark with that name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<&'static Self, BenchError> {
        BENCHMARKS.iter().find(|b| b.name == name).ok_or_else(|| {
            let names: Vec<_> = BENCHMARKS.iter().map(|b| b.name).collect();
            BenchError::Usage(format!("there is no benchmark {name:?}; there are: {}", names.join(", ")))
        })
    }

    /// Runs it and returns what it found, without printing or writing.
    ///
    /// # Errors
    /// The settings make no sense, or the machine refuses something. A program that fails is a problem in the report.
    pub fn run(&self, settings: &Settings) -> Result<Report, BenchError> {
        (self.run)(settings)
    }
}

/// What is asked for on the command line, after the name of the benchmark.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// Shorter runs with less work; good for seeing a trend, not for a claim.
    #[arg(long)]
    pub quick: bool,
    /// Programs to run: `us` and names of peers, with commas between.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Folder of our binaries [default: target/shipping, else target/release].
    #[arg(long)]
    pub bin: Option<PathBuf>,
    /// Folder for the report and, while it runs, for data.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
    /// ingest: a share of the targets is replaced at each interval, and series come and go.
    #[arg(long, conflicts_with = "hostile")]
    pub churn: bool,
    /// ingest: this share of the lines, 0 to 1, shows another series at each scrape.
    #[arg(long, conflicts_with_all = ["churn", "hostile"])]
    pub moving: Option<f64>,
    /// ingest, disk, query: what shares no timestamps: each series has its own, remote write brings one sample of a series at a
    /// time over 8 connections; ingest has 2,000 rules in addition.
    #[arg(long)]
    pub hostile: bool,
    /// disk, query: what the history is made of.
    #[arg(long, value_enum, default_value_t)]
    pub data: DiskData,
    /// disk, query: exactly regular timestamps, instead of one in twenty a little late.
    #[arg(long)]
    pub regular: bool,
    /// restart: ten minutes of samples in a request, as after an outage of the network, instead of a request for each scrape.
    #[arg(long)]
    pub bulk: bool,
    /// node: a generated machine of 256 CPUs, 500 disks, 2,000 mounts and 5,000 interfaces; with --quick a tenth of it.
    #[arg(long)]
    pub large: bool,
    /// disk, query: length of the history.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=240))]
    pub hours: Option<i64>,
    /// disk, query: how often our store looks for blocks to cut and merge [default: its own, with --quick 1s].
    #[arg(long)]
    pub our_maintenance: Option<String>,
    /// ingest, disk, restart, series: number of targets.
    #[arg(long)]
    pub targets: Option<usize>,
    /// ingest, disk, restart, series: series of each target.
    #[arg(long)]
    pub series: Option<usize>,
    /// ingest: seconds before the measurement starts.
    #[arg(long)]
    pub warm_up: Option<u64>,
    /// rules: number of series.
    #[arg(long)]
    pub cluster: Option<usize>,
    /// ingest, rules: seconds of the measurement.
    #[arg(long)]
    pub seconds: Option<u64>,
}

/// Why a benchmark could not run, or not one program of it.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// The file or thing concerned.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file under `/proc` is not as expected: the process has ended, or this is not Linux.
    #[error("{path} cannot be understood; the process may have ended")]
    Process {
        /// The file.
        path: String,
    },
    /// A program did not do what it should.
    #[error("{program}: {reason}")]
    Program {
        /// Its name.
        program: String,
        /// What it did, with the end of its log.
        reason: String,
    },
}

impl BenchError {
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    pub(crate) fn program(program: &str, reason: impl Into<String>) -> Self {
        Self::Program { program: program.to_owned(), reason: reason.into() }
    }
}

/// A program that a benchmark compares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contestant {
    /// The name of its binary.
    pub(crate) name: &'static str,
    pub(crate) maker: Maker,
}

/// Who made a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// We did.
    Us,
    /// Somebody else; the name of its package in Debian.
    Peer,
}

/// A contestant that is on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: &'static str,
    pub(crate) maker: Maker,
    pub(crate) binary: PathBuf,
    pub(crate) version: String,
}

impl Found {
    /// What was measured of it.
    pub(crate) fn row(&self, group: &str, values: Vec<Option<f64>>) -> Row {
        Row {
            group: group.to_owned(),
            program: self.name.to_owned(),
            ours: self.maker == Maker::Us,
            version: self.version.clone(),
            values,
        }
    }
}

/// The contestants that are there, and those that are left out with the reason.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) found: Vec<Found>,
    pub(crate) left_out: Vec<(String, String)>,
    /// What a reader must know of how they were found.
    pub(crate) notes: Vec<String>,
}

impl Settings {
    /// The contestants of [`Settings::roster`]; the report says who does not take part.
    pub(crate) fn enlist(&self, contestants: &[Contestant], report: &mut Report) -> Result<Vec<Found>, BenchError> {
        let roster = self.roster(contestants)?;
        (report.left_out, report.notes) = (roster.left_out, roster.notes);
        Ok(roster.found)
    }

    /// Looks for the contestants that are asked for, and fetches the peers among them that are not on this machine yet.
    pub(crate) fn roster(&self, contestants: &[Contestant]) -> Result<Roster, BenchError> {
        for asked in &self.only {
            if asked != "us" && !contestants.iter().any(|c| c.name == asked) {
                let names: Vec<_> = contestants.iter().map(|c| c.name).collect();
                return Err(BenchError::Usage(format!("--only {asked}: there are us, {}", names.join(", "))));
            }
        }
        let asked: Vec<&Contestant> = contestants.iter().filter(|c| self.asks_for(c)).collect();
        let mut roster = Roster::default();
        let (folder, note) = self.our_folder();
        roster.notes.extend(note);
        let wanted: Vec<&str> = asked.iter().filter(|c| c.maker == Maker::Peer).map(|c| c.name).collect();
        let peers = Peers::fetch(&wanted);
        for contestant in asked {
            let Contestant { name, maker } = *contestant;
            let located = match maker {
                Maker::Us => our_binary(&folder, name),
                Maker::Peer => peers.binary(name),
            };
            match located {
                Ok(binary) => {
                    let version = match maker {
                        Maker::Us => our_version(&binary),
                        Maker::Peer => peers.version(name),
                    };
                    roster.found.push(Found { name, maker, binary, version });
                }
                Err(reason) => roster.left_out.push((name.to_owned(), reason)),
            }
        }
        Ok(roster)
    }

    /// Settings of those that need peers only.
    pub(crate) fn for_peers(out: &Path) -> Self {
        Self { out: out.to_owned(), ..Self::default() }
    }

    fn asks_for(&self, contestant: &Contestant) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|o| o == contestant.name || (o == "us" && contestant.maker == Maker::Us))
    }

    /// Where our binaries are, and what to say of it.
    fn our_folder(&self) -> (PathBuf, Option<String>) {
        if let Some(folder) = &self.bin {
            return (folder.clone(), None);
        }
        let shipping = Path::new("target/shipping");
        if shipping.is_dir() {
            return (shipping.to_owned(), None);
        }
        let note = "our programs are from target/release, which is not what is shipped (no LTO)";
        (PathBuf::from("target/release"), Some(note.to_owned()))
    }

    /// The expressions of kube-prometheus, if `FIREWATCH_CONFORMANCE` names a folder that has them.
    pub(crate) fn kube_prometheus(&self) -> Option<Vec<kube_prometheus::Found>> {
        self.kube_prometheus_folder().map(|folder| kube_prometheus::expressions(&folder))
    }

    /// The folder of kube-prometheus' rules and dashboards, if there is one.
    pub(crate) fn kube_prometheus_folder(&self) -> Option<PathBuf> {
        let folder = PathBuf::from(std::env::var_os("FIREWATCH_CONFORMANCE")?).join("kube-prometheus");
        folder.is_dir().then_some(folder)
    }

    /// How often our store is to look for blocks to cut and merge, if not as often as by default. A quick run does not wait.
    pub(crate) fn our_maintenance(&self) -> Option<&str> {
        self.our_maintenance.as_deref().or(self.quick.then_some("1s"))
    }

    /// A new folder for data, on the same disk as the report. It is removed when dropped.
    pub(crate) fn data_folder(&self) -> Result<tempfile::TempDir, BenchError> {
        let named = |e| BenchError::io(self.out.display().to_string(), e);
        std::fs::create_dir_all(&self.out).map_err(named)?;
        let out = self.out.canonicalize().map_err(named)?;
        tempfile::Builder::new().prefix("data-").tempdir_in(out).map_err(named)
    }
}

fn our_binary(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let binary = folder.join(name);
    if binary.is_file() {
        return Ok(binary);
    }
    Err(format!("{} is not there; build it with: cargo build --profile shipping -p {name}", binary.display()))
}

/// What it prints as its own version, beside that of the program that it stands in for.
fn our_version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    parse_our_version(&text).unwrap_or("unknown").to_owned()
}

fn parse_our_version(text: &str) -> Option<&str> {
    let ours = text.lines().find_map(|line| line.trim().strip_prefix("firewatch"))?;
    Some(ours.trim_start_matches(':').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTESTANTS: [Contestant; 2] =
        [Contestant { name: "collector", maker: Maker::Us }, Contestant { name: "node-exporter", maker: Maker::Us }];

    fn settings(bin: &Path, only: &[&str]) -> Settings {
        Settings {
            quick: true,
            only: only.iter().map(|o| (*o).to_owned()).collect(),
            bin: Some(bin.to_owned()),
            out: bin.join("out"),
            ..Settings::default()
        }
    }

    #[test]
    fn what_is_not_built_is_left_out_with_the_way_to_build_it() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("collector"), "").expect("a file");
        let roster = settings(folder.path(), &[]).roster(&CONTESTANTS).expect("a roster");
        assert_eq!(roster.found.iter().map(|f| f.name).collect::<Vec<_>>(), ["collector"]);
        assert_eq!(roster.left_out.len(), 1);
        assert!(roster.left_out[0].1.contains("cargo build --profile shipping -p node-exporter"), "{roster:?}");
    }

    #[test]
    fn only_takes_us_and_names_and_refuses_others() {
        let folder = tempfile::tempdir().expect("a folder");
        for (only, left_out) in [(vec!["us"], 2), (vec!["collector"], 1), (vec![], 2)] {
            let roster = settings(folder.path(), &only).roster(&CONTESTANTS).expect("a roster");
            assert_eq!(roster.left_out.len(), left_out, "{only:?}");
        }
        let error = settings(folder.path(), &["graphite"]).roster(&CONTESTANTS).expect_err("no such program");
        assert_eq!(error.to_string(), "--only graphite: there are us, collector, node-exporter");
    }

    #[test]
    fn our_version_is_not_that_of_the_program_we_stand_in_for() {
        let daemon =
            "prometheus, version 3.14.0 (branch: x, revision: y)\n  platform:  linux/amd64\n  firewatch:  0.1.0\n";
        for (text, version) in [(daemon, Some("0.1.0")), ("firewatch 0.2.0\n", Some("0.2.0")), ("what\n", None)] {
            assert_eq!(parse_our_version(text), version, "{text}");
        }
    }

    #[test]
    fn benchmarks_are_found_by_name() {
        assert_eq!(Benchmark::named("ingest").expect("ingest").name, "ingest");
        let error = Benchmark::named("nothing").err().expect("an error").to_string();
        assert!(error.contains("ingest, disk, "), "{error}");
    }
}
