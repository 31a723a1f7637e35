//! `firewatch test`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum What {
    /// Run scripts of PromQL queries with expected results.
    Promql {
        /// Scripts, and folders that are searched for `*.test`.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

/// Runs the tests. Exit code 1 if one fails.
pub(crate) fn run(what: &What) -> ExitCode {
    let What::Promql { paths } = what;
    match promql::testing::run_scripts(paths, &mut std::io::stdout().lock()) {
        Ok(summary) if summary.failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("firewatch: {error}");
            ExitCode::FAILURE
        }
    }
}
