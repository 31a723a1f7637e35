//! What developers type: `cargo xtask up | test | bench`. Uses the standard library only, so that the first command starts quickly.

mod bench;
mod command;
mod test;
mod up;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  up [ARGS]              build, and monitor this machine; ARGS go to `firewatch up`
  test [--long]          install what the tests need, run every test; --long adds what takes hours
  bench NAME [ARGS]      compare with the real programs; --quick for a short run; bench table, bench record
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "up" => up::run(&rest),
        "test" => test::run(&rest),
        "bench" => bench::run(&rest),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no command {other:?}\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
