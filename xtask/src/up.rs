//! `cargo xtask up`: needs cargo and a C compiler only.

use std::process::Command;

use crate::command::{self, binaries, cargo};

/// Builds `firewatch` and runs `firewatch up` until it is stopped.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    command::run(cargo().args(["build", "--release", "--package", "firewatch"]))?;
    command::run(Command::new(binaries("release").join("firewatch")).arg("up").args(arguments))
}
