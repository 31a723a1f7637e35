//! `firewatch`: everything on one machine with `up`, and the command-line tools.

mod check;
mod query;
mod test;
mod tsdb;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Monitoring on one machine, and tools for configuration, rules and queries.
#[derive(Parser)]
#[command(name = "firewatch", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Monitor this machine: exporter, collector and web page in one process.
    Up(up::Arguments),
    /// Check files for validity.
    #[command(subcommand)]
    Check(check::What),
    /// Run tests of queries.
    #[command(subcommand)]
    Test(test::What),
    /// Ask a server.
    #[command(subcommand)]
    Query(query::What),
    /// Work on the files of a store.
    #[command(subcommand)]
    Tsdb(tsdb::What),
}

fn main() -> ExitCode {
    // clap ends with 2 on wrong arguments; the ecosystem's tools end with 1
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        Command::Up(arguments) => up::run(arguments),
        Command::Check(what) => check::run(&what),
        Command::Test(what) => test::run(&what),
        Command::Query(what) => query::run(&what),
        Command::Tsdb(what) => tsdb::run(&what),
    }
}
