//! Runs PromQL test scripts: `cargo run --release -p promql --example script -- PATH...`.

use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let paths: Vec<std::path::PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let summary = promql::testing::run_scripts(&paths, &mut std::io::stdout().lock())?;
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
