//! `bench NAME`: us beside the real programs. `bench farm` is the load, which benchmarks start by themselves.

use std::process::ExitCode;

use bench::benchmark::{BENCHMARKS, BenchError, Benchmark, Settings};
use bench::farm::{self, FarmSpec};
use bench::markdown::{self, TableSettings};
use bench::recorded::{self, RecordSettings};
use clap::{Args, FromArgMatches};

fn main() -> ExitCode {
    let settings = Settings::augment_args(clap::Command::new("benchmark"));
    let mut command = clap::Command::new("bench")
        .about("Measures our daemons beside the real programs.")
        .subcommand_required(true)
        .arg_required_else_help(true);
    for benchmark in BENCHMARKS {
        command = command.subcommand(settings.clone().name(benchmark.name).about(benchmark.about));
    }
    let farm = FarmSpec::augment_args(clap::Command::new("farm").about("Serve scrape targets until stdin ends."));
    let record = RecordSettings::augment_args(
        clap::Command::new("record").about("Record the real exporters of this machine for `disk --data recorded`."),
    );
    let table = TableSettings::augment_args(
        clap::Command::new("table").about("Make the table of docs/benchmarks.md from the reports."),
    );
    let matches = command.subcommands([farm, record, table]).get_matches();
    let outcome = match matches.subcommand() {
        Some(("farm", matches)) => parsed::<FarmSpec>(matches).and_then(farm::run).map(|()| ExitCode::SUCCESS),
        Some(("table", matches)) => {
            parsed::<TableSettings>(matches).and_then(|settings| markdown::run(&settings)).map(|()| ExitCode::SUCCESS)
        }
        Some(("record", matches)) => parsed::<RecordSettings>(matches)
            .and_then(|settings| recorded::record(&settings))
            .map(|()| ExitCode::SUCCESS),
        Some((name, matches)) => parsed::<Settings>(matches).and_then(|settings| run(name, &settings)),
        None => Err(BenchError::Usage("which benchmark?".to_owned())),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::FAILURE
    })
}

fn parsed<T: FromArgMatches>(matches: &clap::ArgMatches) -> Result<T, BenchError> {
    T::from_arg_matches(matches).map_err(|e| BenchError::Usage(e.to_string()))
}

/// Runs a benchmark, prints its table and writes its JSON. Fails if a program's figures do not count.
fn run(name: &str, settings: &Settings) -> Result<ExitCode, BenchError> {
    let report = Benchmark::named(name)?.run(settings)?;
    let path = settings.out.join(format!("{}.json", report.name));
    let io = |source| BenchError::Io { what: path.display().to_string(), source };
    std::fs::create_dir_all(&settings.out).map_err(io)?;
    std::fs::write(&path, format!("{:#}\n", report.json())).map_err(io)?;
    print!("\n{}", report.table());
    println!("written to {}", path.display());
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
