//! `firewatch tsdb`: works on a store's files.

mod import;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use model::Duration;

#[derive(Subcommand)]
pub(crate) enum What {
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
    let What::Import(Import::Openmetrics { file, path, max_block_duration, quiet }) = what;
    match import::openmetrics(file, path, *max_block_duration, *quiet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firewatch: {error}");
            ExitCode::FAILURE
        }
    }
}
