//! Command-line flags with the spellings of the ecosystem's programs: `--flag=x`, `--flag x`, `--switch` and `--no-switch`,
//! `@file` for arguments from a file; exit code 1 for a wrong one.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::http::Listen;
use crate::logging;

/// What `--version` and `*_build_info` say about a program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The name upstream has: `node_exporter`.
    pub name: &'static str,
    /// The upstream version this one matches; clients choose features by it.
    pub version: &'static str,
    /// Our own version.
    pub firewatch_version: &'static str,
}

impl Program {
    /// The output of `--version`.
    pub fn version_text(&self) -> String {
        format!(
            "{}, version {} (branch: {}, revision: {})\n  build user:       {}\n  build date:       {}\n  rust version:     {}\n  \
             platform:         {}\n  firewatch:        {}",
            self.name,
            self.version,
            build_value(option_env!("FIREWATCH_BRANCH")),
            self.revision(),
            build_value(option_env!("FIREWATCH_BUILD_USER")),
            build_value(option_env!("FIREWATCH_BUILD_DATE")),
            build_value(option_env!("FIREWATCH_RUST_VERSION")),
            platform(),
            self.firewatch_version
        )
    }

    /// The revision it was built from, `unknown` if the build did not say.
    pub fn revision(&self) -> &'static str {
        build_value(option_env!("FIREWATCH_REVISION"))
    }

    /// The branch it was built from, `unknown` if the build did not say.
    pub fn branch(&self) -> &'static str {
        build_value(option_env!("FIREWATCH_BRANCH"))
    }
}

fn build_value(value: Option<&'static str>) -> &'static str {
    value.unwrap_or("unknown")
}

/// `linux/amd64` as Go names it.
pub fn platform() -> String {
    format!("{}/{}", std::env::consts::OS, architecture())
}

/// The processor as Go names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Why a program ends before it begins: what to print and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// What to print: on standard output if the code is 0, else on standard error.
    pub text: String,
}

impl Exit {
    /// A failure.
    pub fn failure(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// Prints and ends the process. For a `main` only.
    pub fn exit(self) -> ! {
        // whoever was to read it may have closed the pipe
        let _ = match self.code {
            0 => writeln!(std::io::stdout(), "{}", self.text.trim_end()),
            _ => writeln!(std::io::stderr(), "{}", self.text.trim_end()),
        };
        std::process::exit(self.code)
    }
}

/// A flag that is on or off: `--name` and `--no-name`.
pub fn switch(name: &'static str, default: bool, help: impl Into<clap::builder::StyledStr>) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::Set)
        .value_parser(clap::value_parser!(bool))
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(if default { "true" } else { "false" })
        .hide_possible_values(true)
        .hide_default_value(true)
        .value_name("BOOL")
        .help(help)
}

/// A flag with a value.
pub fn value(name: &'static str, default: &'static str, help: impl Into<clap::builder::StyledStr>) -> Arg {
    let arg = Arg::new(name).long(name).action(ArgAction::Set).allow_hyphen_values(true).value_name("VALUE").help(help);
    if default.is_empty() { arg } else { arg.default_value(default) }
}

/// The flags of every daemon that serves HTTP; `address` is the default of `--web.listen-address`.
pub fn web(address: &'static str) -> Vec<Arg> {
    vec![
        Arg::new("web.listen-address")
            .long("web.listen-address")
            .action(ArgAction::Append)
            .default_value(address)
            .value_name("ADDRESS")
            .help("Addresses on which to expose metrics and web interface. Repeatable for multiple addresses."),
        switch("web.systemd-socket", false, "Use systemd socket activation listeners instead of port listeners."),
        value("web.config.file", "", "Path to configuration file that can enable TLS or authentication."),
    ]
}

/// The flags of every daemon that logs.
pub fn log() -> Vec<Arg> {
    vec![
        value(
            "log.level",
            "info",
            "Only log messages with the given severity or above. One of: [debug, info, warn, error]",
        )
        .value_parser(["debug", "info", "warn", "error"]),
        value("log.format", "logfmt", "Output format of log messages. One of: [logfmt, json]")
            .value_parser(["logfmt", "json"]),
    ]
}

/// The values of [`web`].
pub fn web_of(matches: &ArgMatches) -> (Listen, Option<PathBuf>) {
    let file = text(matches, "web.config.file");
    let listen = if on(matches, "web.systemd-socket") {
        Listen::Systemd
    } else {
        Listen::Addresses(texts(matches, "web.listen-address"))
    };
    (listen, (!file.is_empty()).then(|| PathBuf::from(file)))
}

/// The values of [`log`].
pub fn log_of(matches: &ArgMatches) -> (logging::Level, logging::Format) {
    let (level, format) = (text(matches, "log.level"), text(matches, "log.format"));
    (level.parse().unwrap_or_default(), format.parse().unwrap_or_default())
}

/// A switch's value.
pub fn on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or(false)
}

/// A flag's value, empty if it was not given and has no default.
pub fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

/// The values of a flag that may come several times.
pub fn texts(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

/// Whether a flag was given on the command line.
pub fn given(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine)
}

/// Parses the arguments after the program's name. Help and version are an [`Exit`] with code 0, anything wrong one with code 1.
pub fn parse(
    command: Command,
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, Exit> {
    let mut command = command
        .no_binary_name(true)
        .disable_version_flag(true)
        .disable_help_flag(true)
        .arg(Arg::new("help").long("help").short('h').action(ArgAction::Help).help("Show context-sensitive help."))
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("Show application version."));
    let mut expanded = Vec::new();
    for argument in arguments {
        expand(argument, &mut expanded)?;
    }
    for argument in &mut expanded {
        if let Some(positive) = positive(&command, argument) {
            *argument = positive;
        }
    }
    if expanded.iter().any(|a| a == "--version") {
        return Err(Exit { code: 0, text: program.version_text() });
    }
    command.build();
    command.try_get_matches_from(expanded).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Exit { code: 0, text: error.to_string() },
        ErrorKind::UnknownArgument => {
            let flag = error.get(clap::error::ContextKind::InvalidArg).map_or(String::new(), ToString::to_string);
            Exit::failure(format!("{}: error: unknown long flag '{flag}', try --help", program.name))
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or("").trim_start_matches("error: ");
            Exit::failure(format!("{}: error: {first}, try --help", program.name))
        }
    })
}

/// `@file` stands for the lines of a file; `#` begins a comment line.
fn expand(argument: OsString, out: &mut Vec<OsString>) -> Result<(), Exit> {
    let Some(path) = argument.to_str().and_then(|a| a.strip_prefix('@')) else {
        out.push(argument);
        return Ok(());
    };
    let text = std::fs::read_to_string(path).map_err(|e| Exit::failure(format!("error: {argument:?}: {e}")))?;
    out.extend(text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(OsString::from));
    Ok(())
}

/// `--no-switch` as `--switch=false`, if there is such a switch.
fn positive(command: &Command, argument: &OsString) -> Option<OsString> {
    let name = argument.to_str()?.strip_prefix("--no-")?;
    let is_switch = |arg: &Arg| arg.get_long() == Some(name) && arg.is_require_equals_set();
    command.get_arguments().any(is_switch).then(|| format!("--{name}=false").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program { name: "some_exporter", version: "1.2.3", firewatch_version: "0.1.0" };

    fn parsed(arguments: &[&str]) -> Result<ArgMatches, Exit> {
        let command = Command::new("some_exporter")
            .args(web(":9100"))
            .args(log())
            .arg(switch("collector.cpu", true, "CPU."))
            .arg(switch("collector.wifi", false, "Wifi."))
            .arg(value("path.procfs", "/proc", "procfs."));
        parse(command, &PROGRAM, arguments.iter().map(OsString::from))
    }

    #[test]
    fn every_spelling_is_taken() {
        let m =
            parsed(&["--no-collector.cpu", "--collector.wifi", "--path.procfs", "-x", "--log.level=debug"]).unwrap();
        assert!(!on(&m, "collector.cpu") && on(&m, "collector.wifi"));
        assert_eq!((text(&m, "path.procfs"), log_of(&m).0), ("-x", logging::Level::Debug));
        let m = parsed(&[]).unwrap();
        assert!(on(&m, "collector.cpu") && !on(&m, "collector.wifi") && !given(&m, "collector.cpu"));
        assert_eq!(web_of(&m), (Listen::Addresses(vec![":9100".into()]), None));
        let m = parsed(&["--web.listen-address=:1", "--web.listen-address", ":2", "--collector.cpu"]).unwrap();
        assert_eq!(web_of(&m).0, Listen::Addresses(vec![":1".into(), ":2".into()]));
        assert!(given(&m, "collector.cpu"));
    }

    #[test]
    fn wrong_flags_end_with_code_1() {
        for (arguments, expected) in [
            (&["--nonsense"][..], "some_exporter: error: unknown long flag '--nonsense', try --help"),
            (&["--no-path.procfs"], "some_exporter: error: unknown long flag '--no-path.procfs', try --help"),
            (&["--log.level=loud"], "some_exporter: error: invalid value 'loud'"),
            (&["extra"], "some_exporter: error: "),
        ] {
            let exit = parsed(arguments).unwrap_err();
            assert!(exit.code == 1 && exit.text.starts_with(expected), "{arguments:?}: {exit:?}");
        }
    }

    #[test]
    fn help_and_version_end_with_code_0() {
        let version = parsed(&["--version"]).unwrap_err();
        assert!(version.code == 0 && version.text.starts_with("some_exporter, version 1.2.3 (branch: "), "{version:?}");
        let help = parsed(&["--help"]).unwrap_err();
        assert!(help.code == 0 && help.text.contains("--web.listen-address"), "{help:?}");
    }

    #[test]
    fn arguments_come_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flags");
        std::fs::write(&file, "--no-collector.cpu\n# note\n--path.procfs=/x\n").unwrap();
        let m = parsed(&[&format!("@{}", file.display())]).unwrap();
        assert_eq!((on(&m, "collector.cpu"), text(&m, "path.procfs")), (false, "/x"));
        assert_eq!(parsed(&["@/does/not/exist"]).unwrap_err().code, 1);
    }
}
