//! `firewatch up`: exporters, collector and web page in one process, on this machine only unless told otherwise.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use collector::{Collector, StartError, flags as collector_flags};
use common::logging::{Format, Level};
use common::{daemon, logging, memory};
use tokio_util::sync::CancellationToken;

const RULES: &str = include_str!("up/rules.yml");
/// The blackbox exporter's modules.
const PROBES: &str = include_str!("up/blackbox.yml");

/// Where the exporters listen.
#[derive(Clone, Copy)]
struct Exporters {
    node: SocketAddr,
    blackbox: SocketAddr,
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// Address to listen on, for the web page and the exporters. Others than loopback can be reached from other machines.
    #[arg(long, default_value = "127.0.0.1")]
    listen: IpAddr,
    /// Port of the web page and API. If it is taken, a free one is used and named.
    #[arg(long, default_value_t = 9090)]
    port: u16,
    /// Folder for the samples and the generated configuration (default: firewatch in the user's data folder).
    #[arg(long)]
    data: Option<PathBuf>,
    /// Time between scrapes and between rule evaluations.
    #[arg(long, default_value = "15s")]
    interval: String,
    /// How long samples are kept.
    #[arg(long, default_value = "15d")]
    retention: String,
    /// Alertmanager to send alerts to, such as 127.0.0.1:9093. Repeatable.
    #[arg(long)]
    alertmanager: Vec<String>,
    /// Further rule files, after the default set. Repeatable.
    #[arg(long)]
    rules: Vec<PathBuf>,
    /// Configuration file to use instead of the generated one.
    #[arg(long)]
    config_file: Option<PathBuf>,
    /// Lowest level of log lines.
    #[arg(long, default_value = "warn", value_parser = ["debug", "info", "warn", "error"])]
    log_level: String,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    logging::init(arguments.log_level.parse::<Level>().unwrap_or_default(), Format::default());
    memory::set_up_heaps();
    daemon::raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    runtime.spawn(memory::keep_trimmed());
    match runtime.block_on(up(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("firewatch: {error}");
    ExitCode::FAILURE
}

async fn up(arguments: Arguments) -> Result<(), String> {
    let signals = daemon::signals().map_err(|e| e.to_string())?;
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => user_data_folder().ok_or("there is no home folder; say where to store with --data")?,
    };
    std::fs::create_dir_all(&data).map_err(|e| format!("cannot make the folder {}: {e}", data.display()))?;

    // listened on before its address is written down: somebody else may take a free port in the meantime
    let exporter = exporter(arguments.listen, 9100).or_else(|_| exporter(arguments.listen, 0))?;
    let node = exporter.addresses().first().copied().ok_or("the node exporter listens nowhere")?;
    let tasks = daemon::Tasks::new();
    let shutdown = signals.shutdown.clone();
    tasks.spawn("node-exporter", exporter.serve(shutdown));
    let prober = blackbox(arguments.listen, 9115).or_else(|_| blackbox(arguments.listen, 0))?;
    let address = prober.addresses().first().copied().ok_or("the blackbox exporter listens nowhere")?;
    let (_reload, never) = tokio::sync::mpsc::channel(1);
    tasks.spawn("blackbox-exporter", prober.serve(signals.shutdown.clone(), never));
    let exporters = Exporters { node, blackbox: address };

    let (collector, config_file, web) = start_collector(&arguments, &data, exporters, &signals.shutdown).await?;
    let url = format!("http://{web}");
    announce(&arguments, &url, exporters, web, &data, &config_file);

    collector.reload_at(signals.reload);
    let outcome = collector.run().await;
    signals.shutdown.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(10), tasks.join()).await;
    outcome.map_err(|e| e.to_string())
}

fn exporter(address: IpAddr, port: u16) -> Result<node_exporter::Bound, String> {
    let flag = OsString::from(format!("--web.listen-address={}", SocketAddr::new(address, port)));
    let config = node_exporter::parse([flag]).map_err(|exit| exit.text)?;
    node_exporter::bind(config).map_err(|e| format!("node exporter: {e}"))
}

fn blackbox(address: IpAddr, port: u16) -> Result<blackbox_exporter::Bound, String> {
    let flag = OsString::from(format!("--web.listen-address={}", SocketAddr::new(address, port)));
    let mut options = blackbox_exporter::parse([flag]).map_err(|exit| exit.text)?;
    options.config_text = Some(PROBES.to_owned());
    blackbox_exporter::bind(options).map_err(|e| format!("blackbox exporter: {e}"))
}

/// Starts the collector on the wished port, or on a free one: (it, its configuration, its address).
async fn start_collector(
    arguments: &Arguments,
    data: &Path,
    exporters: Exporters,
    shutdown: &CancellationToken,
) -> Result<(Collector, PathBuf, SocketAddr), String> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let web = free_port(arguments.listen, arguments.port)?;
        let config_file = match &arguments.config_file {
            Some(file) => file.clone(),
            None => generate(data, arguments, exporters, web)?,
        };
        let options = collector_options(arguments, data, &config_file, web)?;
        match Collector::start(options, shutdown.clone()).await {
            Ok(collector) => return Ok((collector, config_file, web)),
            // the port was taken since it was looked at
            Err(StartError::Listen(_)) if attempts < 5 => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn announce(arguments: &Arguments, url: &str, exporters: Exporters, web: SocketAddr, data: &Path, config: &Path) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "Firewatch is up: {url}");
    if web.port() != arguments.port {
        let _ = writeln!(out, "  port {} is taken, so {} is used", arguments.port, web.port());
    }
    let Exporters { node, blackbox } = exporters;
    let taken = if node.port() == 9100 { "" } else { " (port 9100 is taken)" };
    let _ = writeln!(out, "  node exporter    http://{node}/metrics{taken}");
    let taken = if blackbox.port() == 9115 { "" } else { " (port 9115 is taken)" };
    let _ = writeln!(out, "  blackbox         http://{blackbox}/{taken}");
    let _ = writeln!(out, "  configuration    {}", config.display());
    let _ = writeln!(out, "  data             {}", data.display());
    let _ = writeln!(out, "Stop it with Ctrl-C.");
    let _ = out.flush();
}

fn collector_options(
    arguments: &Arguments,
    data: &Path,
    config_file: &Path,
    web: SocketAddr,
) -> Result<collector::CollectorOptions, String> {
    let flags = [
        format!("--config.file={}", config_file.display()),
        format!("--storage.tsdb.path={}", data.display()),
        format!("--storage.tsdb.retention.time={}", arguments.retention),
        format!("--web.listen-address={web}"),
    ];
    let mut options = collector_flags::parse(flags.map(OsString::from)).map_err(|exit| exit.text)?.options;
    options.api.external_url = format!("http://{web}");
    if arguments.listen.is_loopback() {
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), arguments.listen.to_string()];
        options.allowed_hosts = Some(hosts.into());
    }
    Ok(options)
}

/// `$XDG_DATA_HOME/firewatch` or `~/.local/share/firewatch`.
fn user_data_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")))?;
    Some(base.join("firewatch"))
}

/// The port if it is free, else any that is.
fn free_port(address: IpAddr, port: u16) -> Result<SocketAddr, String> {
    let bind = |port| TcpListener::bind((address, port)).and_then(|listener| listener.local_addr());
    bind(port).or_else(|_| bind(0)).map_err(|e| format!("cannot listen on {address}: {e}"))
}

/// Writes the configuration and the default rules into the data folder.
fn generate(data: &Path, arguments: &Arguments, exporters: Exporters, web: SocketAddr) -> Result<PathBuf, String> {
    let write = |name: &str, text: &str| {
        let path = data.join(name);
        std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok::<PathBuf, String>(path)
    };
    let head = "# Written by `firewatch up` at each start. To change it, copy it and use --config-file.\n";
    write("firewatch-rules.yml", &format!("{head}{RULES}"))?;
    let mut rule_files = vec!["firewatch-rules.yml".to_owned()];
    for path in &arguments.rules {
        let path = std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))?;
        rule_files.push(path.display().to_string());
    }
    let list = |items: &[String]| {
        items.iter().map(|i| serde_json::Value::from(i.as_str()).to_string()).collect::<Vec<_>>().join(", ")
    };
    let alerting = match arguments.alertmanager.as_slice() {
        [] => String::new(),
        addresses => {
            format!("alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [{}]\n", list(addresses))
        }
    };
    let interval = &arguments.interval;
    // the machine's name, not an address: ports may differ from one start to the next, and series should not
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = serde_json::Value::from(if host.trim().is_empty() { "localhost" } else { host.trim() });
    let Exporters { node, blackbox } = exporters;
    let config = format!(
        "{head}global:\n  scrape_interval: {interval}\n  evaluation_interval: {interval}\n{alerting}rule_files: [{}]\nscrape_configs:\n  \
         - job_name: node\n    static_configs:\n      - targets: [\"{node}\"]\n        labels: {{instance: {host}}}\n  - job_name: blackbox\n    static_configs:\n      \
         - targets: [\"{blackbox}\"]\n        labels: {{instance: {host}}}\n  - job_name: firewatch\n    static_configs:\n      \
         - targets: [\"{web}\"]\n        labels: {{instance: {host}}}\n",
        list(&rule_files)
    );
    write("firewatch.yml", &config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced() {
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let holder = TcpListener::bind((address, 0)).unwrap();
        let taken = holder.local_addr().unwrap().port();
        let found = free_port(address, taken).unwrap();
        assert_ne!(found.port(), taken);
    }

    #[test]
    fn the_modules_are_valid() {
        let config = blackbox_exporter::Config::parse(PROBES, "blackbox.yml").unwrap();
        assert!(config.module_names().any(|name| name == "http_2xx"));
    }

    #[test]
    fn the_generated_files_are_valid() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = Arguments {
            listen: "127.0.0.1".parse().unwrap(),
            port: 9090,
            data: None,
            interval: "5s".into(),
            retention: "1d".into(),
            alertmanager: vec!["127.0.0.1:9093".into()],
            rules: vec![],
            config_file: None,
            log_level: "warn".into(),
        };
        let node = "127.0.0.1:9100".parse().unwrap();
        let exporters = Exporters { node, blackbox: "127.0.0.1:9115".parse().unwrap() };
        let file = generate(folder.path(), &arguments, exporters, "127.0.0.1:9090".parse().unwrap()).unwrap();
        let config = collector::config::Config::load(&file, collector::config::LoadOptions::default()).unwrap();
        assert_eq!((config.scrape_configs.len(), config.alerting.alertmanagers.len()), (3, 1));
        let rules = collector::rules::file::load(&config.rule_files[0], &Default::default()).unwrap();
        assert!(rules.iter().map(|g| g.rules.len()).sum::<usize>() >= 10);
    }
}
