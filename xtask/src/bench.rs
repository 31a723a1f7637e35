//! `cargo xtask bench NAME`: us beside the real programs, with the profile that is shipped.

use std::process::Command;

use crate::command::{self, binaries, cargo, root};

/// Builds everything as shipped and runs a benchmark.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    command::run(cargo().args(["build", "--profile", "shipping", "--workspace", "--exclude", "xtask", "--bins"]))?;
    let folder = binaries("shipping");
    let mut bench = Command::new(folder.join("bench"));
    bench.current_dir(root()).args(arguments);
    // these two start no program of ours
    if !arguments.first().is_some_and(|name| name == "table" || name == "record") {
        bench.arg("--bin").arg(&folder);
    }
    command::run(bench.arg("--out").arg(folder.with_file_name("bench")))
}
