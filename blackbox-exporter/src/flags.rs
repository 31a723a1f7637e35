use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use common::flags::{
    Exit, Program, given, log, log_of, on, parse as parse_flags, switch, text, texts, value, web, web_of,
};
use common::http::Listen;
use common::logging;

use crate::guard::{Guard, Network};

/// What this program says it is.
pub const PROGRAM: Program =
    Program { name: "blackbox_exporter", version: "0.28.0", firewatch_version: env!("CARGO_PKG_VERSION") };

/// The `User-Agent` header of probes, blackbox_exporter's: servers may let it in by its name.
pub(crate) const USER_AGENT: &str = "Blackbox-Exporter/0.28.0";

/// A parsed command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: Listen,
    /// The web configuration file.
    pub web_config: Option<PathBuf>,
    /// The configuration file.
    pub config_file: PathBuf,
    /// A document to use instead of a file, for programs that bring their own.
    pub config_text: Option<String>,
    /// What is taken off the scrape's timeout.
    pub timeout_offset: f64,
    /// Checks the configuration and ends.
    pub config_check: bool,
    /// How often the file is looked at for changes, if at all.
    pub auto_reload: Option<Duration>,
    /// From which level the lines of probes are kept and logged.
    pub log_prober: logging::Level,
    /// Results that are kept.
    pub history_limit: usize,
    /// The path that every page is below, without a slash at its end.
    pub route_prefix: String,
    /// The path that links on pages begin with, without a slash at its end.
    pub external_prefix: String,
    /// How much is logged.
    pub log_level: logging::Level,
    /// In which form.
    pub log_format: logging::Format,
    /// What may be probed.
    pub guard: Guard,
    /// Probes that run at once; 0 for what the limit of open files allows.
    pub max_in_flight: usize,
    /// Targets of one request.
    pub max_targets: usize,
    /// Probes of one request that run at once.
    pub request_concurrency: usize,
    /// The folder of lists of targets.
    pub targets_folder: Option<PathBuf>,
}

fn repeated(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::Append).value_name("VALUE").help(help)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    value(name, default, help).value_parser(clap::value_parser!(u32))
}

fn command() -> Command {
    Command::new(PROGRAM.name)
        .about("Probes of HTTP, TCP, ICMP, DNS, gRPC, WebSocket and Unix sockets.")
        .args(web(":9115"))
        .args(log())
        .arg(value("config.file", "blackbox.yml", "Blackbox exporter configuration file."))
        .arg(
            value("timeout-offset", "0.5", "Offset to subtract from timeout in seconds.")
                .value_parser(clap::value_parser!(f64)),
        )
        .arg(switch("config.check", false, "If true validate the config file and then exit."))
        .arg(switch("config.enable-auto-reload", false, "Reload the configuration file when it has changed."))
        .arg(number("config.auto-reload-interval", "30", "Seconds between looks at the configuration file."))
        .arg(
            value("log.prober", "info", "Log level for probe request logs. One of: [debug, info, warn, error]")
                .value_parser(["debug", "info", "warn", "error"]),
        )
        .arg(number("history.limit", "100", "The maximum amount of items to keep in the history."))
        .arg(value("web.external-url", "", "The URL under which the exporter can be reached, for a proxy before it."))
        .arg(value("web.route-prefix", "", "Prefix of all paths. Defaults to the path of --web.external-url."))
        .arg(repeated("probe.allow-network", "Network that may be probed, as CIDR; without any, all. Repeatable."))
        .arg(repeated("probe.deny-network", "Network that may not be probed, as CIDR. Repeatable."))
        .arg(repeated("probe.allow-module", "Module that may be asked for; without any, all. Repeatable."))
        .arg(repeated("probe.deny-module", "Module that may not be asked for. Repeatable."))
        .arg(number("probe.max-in-flight", "0", "Probes that run at once; 0 for half of the open files allowed."))
        .arg(number("probe.max-targets", "10000", "Targets of one request."))
        .arg(number("probe.request-concurrency", "256", "Probes of one request that run at once."))
        .arg(value("probe.targets-dir", "", "Folder with lists of targets for the parameter targets_file."))
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// Wrong arguments, and the texts of `--help` and `--version`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, Exit> {
    let matches = parse_flags(command(), &PROGRAM, arguments)?;
    options(&matches).map_err(|error| Exit::failure(format!("{}: error: {error}, try --help", PROGRAM.name)))
}

fn options(matches: &ArgMatches) -> Result<Options, String> {
    let (listen, web_config) = web_of(matches);
    let (log_level, log_format) = log_of(matches);
    let count = |name: &str| matches.get_one::<u32>(name).map_or(0, |n| *n as usize);
    let external_prefix = match text(matches, "web.external-url") {
        "" => String::new(),
        url => prefix(url::Url::parse(url).map_err(|e| format!("--web.external-url {url:?}: {e}"))?.path()),
    };
    let route_prefix = match text(matches, "web.route-prefix") {
        "" => external_prefix.clone(),
        path => prefix(path),
    };
    let external_prefix = if given(matches, "web.external-url") { external_prefix } else { route_prefix.clone() };
    let networks = |name: &str| -> Result<Vec<Network>, String> {
        texts(matches, name).iter().map(|n| n.parse().map_err(|e| format!("--{name}: {e}"))).collect()
    };
    let interval = count("config.auto-reload-interval").max(1) as u64;
    Ok(Options {
        listen,
        web_config,
        config_file: PathBuf::from(text(matches, "config.file")),
        config_text: None,
        timeout_offset: matches.get_one::<f64>("timeout-offset").copied().unwrap_or(0.5),
        config_check: on(matches, "config.check"),
        auto_reload: on(matches, "config.enable-auto-reload").then_some(Duration::from_secs(interval)),
        log_prober: text(matches, "log.prober").parse().unwrap_or_default(),
        history_limit: count("history.limit"),
        route_prefix,
        external_prefix,
        log_level,
        log_format,
        guard: Guard {
            allow_networks: networks("probe.allow-network")?,
            deny_networks: networks("probe.deny-network")?,
            allow_modules: texts(matches, "probe.allow-module"),
            deny_modules: texts(matches, "probe.deny-module"),
        },
        max_in_flight: count("probe.max-in-flight"),
        max_targets: count("probe.max-targets"),
        request_concurrency: count("probe.request-concurrency").max(1),
        targets_folder: Some(text(matches, "probe.targets-dir")).filter(|f| !f.is_empty()).map(PathBuf::from),
    })
}

/// `/a/b` for `a/b/`, and nothing for `/`.
fn prefix(path: &str) -> String {
    let plain = path.trim_matches('/');
    if plain.is_empty() { String::new() } else { format!("/{plain}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, String> {
        parse(arguments.iter().map(OsString::from)).map_err(|exit| exit.text)
    }

    #[test]
    fn prefixes_follow_each_other() {
        for (arguments, route, external) in [
            (&[][..], "", ""),
            (&["--web.external-url=http://x/blackbox/"], "/blackbox", "/blackbox"),
            (&["--web.external-url=http://x/blackbox", "--web.route-prefix=/"], "", "/blackbox"),
            (&["--web.route-prefix=a/b/"], "/a/b", "/a/b"),
        ] {
            let options = parsed(arguments).unwrap();
            assert_eq!(
                (options.route_prefix.as_str(), options.external_prefix.as_str()),
                (route, external),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for arguments in [
            &["--probe.allow-network=nonsense"][..],
            &["--web.external-url=nonsense"],
            &["--timeout-offset=x"],
            &["--history.limit=-1"],
            &["--log.prober=loud"],
        ] {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
        let options =
            parsed(&["--probe.deny-network=10.0.0.0/8", "--probe.deny-network", "::1", "--history.limit=7"]).unwrap();
        assert_eq!((options.guard.deny_networks.len(), options.history_limit), (2, 7));
    }
}
