use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Command;
use common::flags::{Exit, Program, given, log, log_of, on, parse as parse_flags, switch, text, value, web, web_of};
use common::http::Listen;
use common::logging;

use crate::Collector;
use crate::collectors::ALL;
use crate::files::Paths;
use crate::options::Settings;

/// What this program says it is.
pub const PROGRAM: Program =
    Program { name: "node_exporter", version: "1.12.0", firewatch_version: env!("CARGO_PKG_VERSION") };

/// Flags that are taken because unit files have them, and do nothing.
const WITHOUT_EFFECT: [&str; 3] = ["runtime.gomaxprocs", "collector.arp.netlink", "collector.filesystem.stat-workers"];

/// A parsed command line.
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// The web configuration file.
    pub web_config: Option<PathBuf>,
    /// Where metrics are served.
    pub telemetry_path: String,
    /// Leaves out metrics about the exporter itself.
    pub disable_exporter_metrics: bool,
    /// Scrapes at once; 0 for no limit.
    pub max_requests: u64,
    /// How much is logged.
    pub log_level: logging::Level,
    /// In which form.
    pub log_format: logging::Format,
    /// How long collectors are waited for; `None` for as long as the scraper's own limit allows.
    pub timeout: Option<Duration>,
    /// Flags that were given and have no effect here.
    pub ignored: Vec<&'static str>,
    /// Where to read.
    pub paths: Arc<Paths>,
    /// The collectors that run, in order of their names.
    pub collectors: Vec<(&'static str, Arc<dyn Collector>)>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.collectors.iter().map(|(name, _)| name).collect();
        f.debug_struct("Config").field("listen", &self.listen).field("collectors", &names).finish_non_exhaustive()
    }
}

fn command() -> Command {
    let mut command = Command::new(PROGRAM.name)
        .about("Metrics of this machine.")
        .args(web(":9100"))
        .args(log())
        .arg(value("web.telemetry-path", "/metrics", "Path under which to expose metrics."))
        .arg(switch(
            "web.disable-exporter-metrics",
            false,
            "Exclude metrics about the exporter itself (promhttp_*, process_*).",
        ))
        .arg(
            value("web.max-requests", "40", "Maximum number of parallel scrape requests. Use 0 to disable.")
                .value_parser(clap::value_parser!(u64)),
        )
        .arg(switch("collector.disable-defaults", false, "Set all collectors to disabled by default."))
        .arg(value(
            "collector.timeout",
            "0s",
            "How long to wait for a collector before the page is served without it. 0s: half a second less than the scraper's timeout.",
        ))
        .arg(value("runtime.gomaxprocs", "1", "Accepted and without effect: there is no Go runtime here."))
        .arg(value("path.procfs", "/proc", "procfs mountpoint."))
        .arg(value("path.sysfs", "/sys", "sysfs mountpoint."))
        .arg(value("path.rootfs", "/", "rootfs mountpoint."))
        .arg(value("path.udev.data", "/run/udev/data", "udev data path."));
    for collector in ALL {
        // flags that live as long as the program
        let name: &'static str = format!("collector.{}", collector.name).leak();
        let state = if collector.default { "enabled" } else { "disabled" };
        let help = format!("Enable the {} collector (default: {state}).", collector.name);
        command = command.arg(switch(name, collector.default, help));
        command = command.args(collector.flags.iter().map(|flag| flag.to_arg()));
    }
    command
}

/// Parses the arguments after the program's name and builds the collectors they ask for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Config, Exit> {
    let matches = parse_flags(command(), &PROGRAM, arguments)?;
    let path = |name: &str| PathBuf::from(text(&matches, name));
    let paths = Arc::new(Paths {
        procfs: path("path.procfs"),
        sysfs: path("path.sysfs"),
        rootfs: path("path.rootfs"),
        udev: path("path.udev.data"),
        ..Paths::default()
    });
    let settings = Settings { paths: paths.clone(), matches: &matches };
    let disable_defaults = on(&matches, "collector.disable-defaults");
    let mut collectors: Vec<(&'static str, Arc<dyn Collector>)> = Vec::new();
    for collector in ALL {
        let flag = format!("collector.{}", collector.name);
        if !on(&matches, &flag) || (disable_defaults && !given(&matches, &flag)) {
            continue;
        }
        let built = (collector.build)(&settings).map_err(|e| {
            Exit::failure(format!("{}: error: couldn't create collector {}: {e}", PROGRAM.name, collector.name))
        })?;
        collectors.push((collector.name, Arc::from(built)));
    }
    collectors.sort_by_key(|(name, _)| *name);
    let timeout: model::Duration = text(&matches, "collector.timeout")
        .parse()
        .map_err(|e| Exit::failure(format!("{}: error: --collector.timeout: {e}", PROGRAM.name)))?;
    let timeout = Some(timeout.as_std()).filter(|t| !t.is_zero());
    let (listen, web_config) = web_of(&matches);
    let (log_level, log_format) = log_of(&matches);
    Ok(Config {
        listen,
        web_config,
        telemetry_path: text(&matches, "web.telemetry-path").to_owned(),
        disable_exporter_metrics: on(&matches, "web.disable-exporter-metrics"),
        max_requests: matches.get_one::<u64>("web.max-requests").copied().unwrap_or(40),
        log_level,
        log_format,
        timeout,
        ignored: WITHOUT_EFFECT.into_iter().filter(|name| given(&matches, name)).collect(),
        paths,
        collectors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Vec<&'static str>, Exit> {
        parse(arguments.iter().map(OsString::from)).map(|c| c.collectors.iter().map(|(name, _)| *name).collect())
    }

    #[test]
    fn collectors_are_switched_on_and_off() {
        let defaults = parsed(&[]).unwrap();
        assert!(defaults.contains(&"cpu") && !defaults.contains(&"swap"), "{defaults:?}");
        assert!(!parsed(&["--no-collector.cpu"]).unwrap().contains(&"cpu"));
        assert_eq!(
            parsed(&["--collector.disable-defaults", "--collector.swap", "--collector.cpu"]).unwrap(),
            ["cpu", "swap"]
        );
    }

    #[test]
    fn flags_without_effect_are_named() {
        let of = |arguments: &[&str]| parse(arguments.iter().map(OsString::from)).unwrap().ignored;
        assert!(of(&[]).is_empty());
        assert_eq!(
            of(&["--runtime.gomaxprocs=4", "--no-collector.arp.netlink"]),
            ["runtime.gomaxprocs", "collector.arp.netlink"]
        );
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused() {
        let exit = parsed(&["--collector.arp.device-include=a", "--collector.arp.device-exclude=b"]).unwrap_err();
        assert!(exit.text.contains("mutually exclusive"), "{exit:?}");
    }
}
