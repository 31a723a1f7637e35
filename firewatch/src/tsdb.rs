//! `firewatch tsdb`: works on a store's files.

mod dump;
mod import;
mod list;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use model::{Duration, Timestamp};
use tsdb::ReadOnlyDb;

#[derive(Subcommand)]
pub(crate) enum What {
    /// List the blocks of a store. A collector may have it open.
    List {
        /// The folder of the store.
        #[arg(value_name = "DB PATH", default_value = "data/")]
        path: PathBuf,
        /// Print times and sizes for people.
        #[arg(long, short = 'r')]
        human_readable: bool,
    },
    /// Print the samples of a store, a line each. A collector may have it open.
    Dump {
        /// The folder of the store.
        #[arg(value_name = "DB PATH", default_value = "data/")]
        path: PathBuf,
        /// Not what is before this time, in milliseconds.
        #[arg(long, default_value_t = Timestamp::MIN, hide_default_value = true, allow_negative_numbers = true)]
        min_time: Timestamp,
        /// Not what is after this time, in milliseconds.
        #[arg(long, default_value_t = Timestamp::MAX, hide_default_value = true, allow_negative_numbers = true)]
        max_time: Timestamp,
        /// Only series that satisfy the selector. Repeatable.
        #[arg(long = "match", value_name = "SELECTOR")]
        selectors: Vec<String>,
    },
    /// Read everything that is stored and look for damage; exit code 1 if there is any. A collector may have the store open.
    Verify {
        /// The folder of the store.
        #[arg(value_name = "DB PATH", default_value = "data/")]
        path: PathBuf,
    },
    /// Put what can be read of damaged blocks into new ones, and the damaged ones aside. No collector may have the store open.
    Repair {
        /// The folder of the store.
        #[arg(value_name = "DB PATH", default_value = "data/")]
        path: PathBuf,
    },
    /// Load samples into a store that no collector has open.
    #[command(subcommand)]
    Import(Import),
}

#[derive(Subcommand)]
pub(crate) enum Import {
    /// Load samples with timestamps from a page of OpenMetrics text, which ends with `# EOF`.
    Openmetrics {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// The folder of the store, as the collector's flag of this name.
        #[arg(long = "storage.tsdb.path", value_name = "DIR", default_value = "data/")]
        path: PathBuf,
        /// Blocks are no longer than this.
        #[arg(long, default_value = "1d")]
        max_block_duration: Duration,
        /// Do not print the blocks that were written.
        #[arg(long, short = 'q')]
        quiet: bool,
    },
}

/// Carries it out. Exit code 1 if it fails.
pub(crate) fn run(what: &What) -> ExitCode {
    match carry_out(what) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("firewatch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(what: &What) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match what {
        What::List { path, human_readable } => list(path, *human_readable)?,
        What::Dump { path, min_time, max_time, selectors } => dump::run(path, selectors, *min_time, *max_time)?,
        What::Verify { path } => {
            let found = tsdb::verify(path)?;
            verify::print(&mut io::stdout().lock(), &found)?;
            if !found.is_good() {
                return Ok(ExitCode::FAILURE);
            }
        }
        What::Repair { path } => verify::print_repaired(&mut io::stdout().lock(), &tsdb::repair(path)?)?,
        What::Import(Import::Openmetrics { file, path, max_block_duration, quiet }) => {
            import::openmetrics(file, path, *max_block_duration, *quiet)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(path: &Path, human_readable: bool) -> Result<(), Box<dyn std::error::Error>> {
    let blocks = ReadOnlyDb::open(path)?.blocks();
    let blocks = blocks.iter().map(|(meta, bytes)| (meta, Some(*bytes)));
    Ok(list::print(&mut io::stdout().lock(), blocks, human_readable)?)
}
