//! Prometheus' command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use clap::{ArgMatches, Command};
use common::flags::{self, Exit, switch, text, texts, value};
use common::http::{Limits, ServerOptions};
use common::logging::{Format, Level};
use model::{Duration, LabelRegex};
use promql::{EngineOptions, Features, MemoryPool};

use crate::api::ApiOptions;
use crate::config::{LoadOptions, Size};
use crate::notifier::NotifierOptions;
use crate::rules::AlertOptions;
use crate::scrape::StartTimes;
use crate::{CollectorOptions, PROGRAM, query};

/// Flags about Go's runtime or the inner workings of upstream's storage and scraping: taken so that unit files go on working.
const WITHOUT_EFFECT: [(&str, &str); 16] = [
    ("auto-gomemlimit.ratio", "0.9"),
    ("auto-gomemlimit.refresh-interval", "0s"),
    ("web.console.templates", "consoles"),
    ("web.console.libraries", "console_libraries"),
    ("web.page-title", ""),
    ("web.search.max-limit", "10000"),
    ("storage.tsdb.max-block-chunk-segment-size", ""),
    ("storage.tsdb.wal-compression-type", "snappy"),
    ("storage.tsdb.head-chunks-write-queue-size", "0"),
    ("storage.tsdb.samples-per-chunk", "120"),
    ("storage.tsdb.delayed-compaction.max-percent", "10"),
    ("storage.remote.flush-deadline", "1m"),
    ("storage.remote.read-sample-limit", "5e7"),
    ("storage.remote.read-concurrent-limit", "10"),
    ("storage.remote.read-max-bytes-in-frame", "1048576"),
    ("rules.max-concurrent-evals", "4"),
];
const SWITCHES_WITHOUT_EFFECT: [(&str, bool); 5] = [
    ("auto-gomaxprocs", true),
    ("auto-gomemlimit", true),
    ("storage.tsdb.no-lockfile", false),
    ("storage.tsdb.allow-overlapping-compaction", true),
    ("storage.tsdb.wal-compression", true),
];
/// Flags of things that this version does not have: using one is an error.
const UNSUPPORTED: [&str; 10] = [
    "web.user-assets",
    "web.remote-write-receiver.accepted-protobuf-messages",
    "storage.tsdb.delay-compact-file.path",
    "storage.agent.path",
    "storage.agent.wal-segment-size",
    "storage.agent.wal-compression-type",
    "storage.agent.wal-truncate-frequency",
    "storage.agent.retention.min-time",
    "storage.agent.retention.max-time",
    "storage.agent.checkpoint-batch-size",
];
const UNSUPPORTED_SWITCHES: [&str; 6] = [
    "agent",
    "web.enable-otlp-receiver",
    "storage.agent.wal-compression",
    "storage.agent.no-lockfile",
    "storage.agent.checkpoint-from-in-memory-series",
    "write-documentation",
];

/// Features that are always on here, or that concern Go's storage: taken, and said so.
const FEATURES_WITHOUT_EFFECT: [&str; 12] = [
    "exemplar-storage",
    "memory-snapshot-on-shutdown",
    "promql-duration-expr",
    "native-histograms",
    "ooo-native-histograms",
    "concurrent-rule-eval",
    "delayed-compaction",
    "old-ui",
    "use-uncached-io",
    "fast-startup",
    "xor2-encoding",
    "histograms-st-encoding",
];

fn command() -> Command {
    let mut command = Command::new("prometheus")
        .about("The Firewatch collector: scrapes, stores, answers PromQL, evaluates rules and alerts.")
        .arg(value("config.file", "prometheus.yml", "Prometheus configuration file path."))
        .arg(switch("config.auto-reload", false, "Reload the configuration when it, a rule file or a scrape configuration file has changed."))
        .arg(value("config.auto-reload-interval", "30s", "How often to look for changes of these files."))
        .args(flags::web("0.0.0.0:9090"))
        .arg(value("web.read-timeout", "5m", "Maximum duration before timing out read of the request, and closing idle connections."))
        .arg(value("web.max-connections", "512", "Maximum number of simultaneous connections across all listeners."))
        .arg(value("web.external-url", "", "The URL under which this server is externally reachable; used for links back to it."))
        .arg(value("web.route-prefix", "", "Prefix for the internal routes of web endpoints. Defaults to path of --web.external-url."))
        .arg(value("web.cors.origin", ".*", "Regex for CORS origin. It is fully anchored. Example: 'https?://(domain1|domain2)\\.com'"))
        .arg(value("web.max-notifications-subscribers", "16", "Limits the maximum number of subscribers that can concurrently receive live notifications."))
        .arg(switch("web.enable-lifecycle", false, "Enable shutdown and reload via HTTP request."))
        .arg(switch("web.enable-admin-api", false, "Enable API endpoints for admin control actions."))
        .arg(switch("web.enable-remote-write-receiver", false, "Enable API endpoint accepting remote write requests."))
        .arg(value("storage.tsdb.path", "data/", "Base path for metrics storage."))
        .arg(value("storage.tsdb.min-block-duration", "2h", "Minimum duration of a data block before being persisted.").hide(true))
        .arg(value("storage.tsdb.max-block-duration", "", "Maximum duration compacted blocks may span.").hide(true))
        .arg(value("storage.tsdb.wal-segment-size", "", "Size at which to split the write-ahead log into segments.").hide(true))
        .arg(value("storage.tsdb.wal-fsync-interval", "5s", "Longest time that acknowledged samples may be lost by a loss of power; 0s waits for the disk at each commit. (Firewatch only.)"))
        .arg(value("storage.tsdb.block-reload-interval", "1m", "How often to look for blocks to cut, merge and delete.").hide(true))
        .arg(value("storage.tsdb.retention.time", "", "How long to retain samples in storage (15d unless this or a size is given)."))
        .arg(value("storage.tsdb.retention.size", "", "Maximum number of bytes that can be stored for blocks."))
        .arg(value("rules.alert.for-outage-tolerance", "1h", "Max time to tolerate outage for restoring \"for\" state of alert."))
        .arg(value("rules.alert.for-grace-period", "10m", "Minimum duration between alert and restored \"for\" state."))
        .arg(value("rules.alert.resend-delay", "1m", "Minimum amount of time to wait before resending an alert to Alertmanager."))
        .arg(value("alertmanager.notification-queue-capacity", "10000", "The capacity of the queue for pending Alertmanager notifications."))
        .arg(value("alertmanager.notification-batch-size", "256", "The maximum number of notifications per batch to send to the Alertmanager."))
        .arg(switch("alertmanager.drain-notification-queue-on-shutdown", true, "Send any outstanding Alertmanager notifications when shutting down."))
        .arg(value("scrape.discovery-reload-interval", "5s", "Shortest time between two changes of a job's targets; a second unless it is given.").hide(true))
        .arg(switch("scrape.adjust-timestamps", true, "Adjust scrape timestamps by up to --scrape.timestamp-tolerance to align them to the intended schedule.").hide(true))
        .arg(value("scrape.timestamp-tolerance", "2ms", "Timestamp tolerance.").hide(true))
        .arg(value("query.lookback-delta", "5m", "The maximum lookback duration for retrieving metrics during expression evaluations."))
        .arg(value("query.timeout", "2m", "Maximum time a query may take before being aborted."))
        .arg(value("query.max-concurrency", "20", "Maximum number of queries executed concurrently."))
        .arg(value("query.max-samples", "50000000", "Maximum number of samples a single query can load into memory."))
        .arg(value("query.max-series", "0", "Maximum number of series the selectors of a single query may match together; 0 for no limit. (Firewatch only.)"))
        .arg(value("query.max-memory", "", "Memory a single query may take, its result included, such as 512MB; 0 for no limit. An eighth of the memory there is unless given. (Firewatch only.)"))
        .arg(value("query.max-memory-total", "", "Memory all queries together may take; 0 for no limit. A quarter of the memory there is unless given. (Firewatch only.)"))
        .arg(value("query.max-queued", "200", "Maximum number of queries that wait for their turn. (Firewatch only.)"))
        .arg(
            clap::Arg::new("enable-feature")
                .long("enable-feature")
                .action(clap::ArgAction::Append)
                .value_name("FEATURE")
                .help("Comma separated feature names to enable."),
        )
        .args(flags::log());
    for (name, default) in WITHOUT_EFFECT {
        command = command.arg(value(name, default, "Accepted, without effect.").hide(true));
    }
    for (name, default) in SWITCHES_WITHOUT_EFFECT {
        command = command.arg(switch(name, default, "Accepted, without effect.").hide(true));
    }
    for name in UNSUPPORTED {
        command = command.arg(value(name, "", "Not supported.").hide(true));
    }
    for name in UNSUPPORTED_SWITCHES {
        command = command.arg(switch(name, false, "Not supported.").hide(true));
    }
    command
}

/// What a command line asks for.
#[derive(Debug)]
pub struct Flags {
    /// The server's settings.
    pub options: CollectorOptions,
    /// Lowest level that is logged.
    pub log_level: Level,
    /// How it is logged.
    pub log_format: Format,
    /// Flags that were given and change nothing, for a word in the log.
    pub without_effect: Vec<String>,
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// Help and version; anything wrong, with exit code 1.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Flags, Exit> {
    let command = command();
    let names: Vec<String> = command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect();
    let matches = flags::parse(command, &PROGRAM, arguments)?;
    for name in UNSUPPORTED.iter().chain(&UNSUPPORTED_SWITCHES) {
        if flags::given(&matches, name) {
            return Err(Exit::failure(format!(
                "prometheus: error: --{name} is not supported by Firewatch's collector yet"
            )));
        }
    }
    let mut without_effect: Vec<String> = WITHOUT_EFFECT
        .iter()
        .map(|(name, _)| *name)
        .chain(SWITCHES_WITHOUT_EFFECT.iter().map(|(name, _)| *name))
        .filter(|name| flags::given(&matches, name))
        .map(|name| format!("--{name}"))
        .collect();
    let (features, server) = features(&matches, &mut without_effect)?;
    let options = options(&matches, features, server, &names)?;
    let (log_level, log_format) = flags::log_of(&matches);
    Ok(Flags { options, log_level, log_format, without_effect })
}

/// Features of the server beside those of PromQL.
#[derive(Clone, Copy, Debug, Default)]
struct ServerFeatures {
    auto_reload: bool,
    extra_scrape_metrics: bool,
    start_times: StartTimes,
    type_and_unit_labels: bool,
}

fn features(matches: &ArgMatches, without_effect: &mut Vec<String>) -> Result<(Features, ServerFeatures), Exit> {
    let (mut features, mut server) = (Features::default(), ServerFeatures::default());
    for list in texts(matches, "enable-feature") {
        for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            match name {
                "promql-experimental-functions" => features.experimental_functions = true,
                "promql-extended-range-selectors" => features.extended_range_selectors = true,
                "promql-binop-fill-modifiers" => features.binop_fill_modifiers = true,
                "promql-delayed-name-removal" => features.delayed_name_removal = true,
                "promql-per-step-stats" => features.per_step_stats = true,
                "use-start-timestamps" => features.use_start_timestamps = true,
                "auto-reload-config" => server.auto_reload = true,
                "extra-scrape-metrics" => server.extra_scrape_metrics = true,
                "created-timestamp-zero-ingestion" => server.start_times.zero_samples = true,
                "type-and-unit-labels" => {
                    (features.type_and_unit_labels, server.type_and_unit_labels) = (true, true);
                }
                "st-storage" => server.start_times.stored = true,
                other if FEATURES_WITHOUT_EFFECT.contains(&other) => {
                    without_effect.push(format!("--enable-feature={other}"));
                }
                other => {
                    let message = format!(
                        "prometheus: error: --enable-feature={other} is not supported by Firewatch's collector"
                    );
                    return Err(Exit::failure(message));
                }
            }
        }
    }
    Ok((features, server))
}

/// How often the configuration's files are looked at, if they are: not oftener than once a second, never for 0.
fn auto_reload_interval(matches: &ArgMatches, server: ServerFeatures) -> Result<Option<Duration>, Exit> {
    let interval: Duration = parsed(matches, "config.auto-reload-interval")?;
    let wanted = server.auto_reload || flags::on(matches, "config.auto-reload");
    Ok((wanted && !interval.is_zero()).then(|| interval.max(Duration::from_secs(1))))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(matches: &ArgMatches, name: &str) -> Result<T, Exit> {
    let written = text(matches, name);
    written
        .parse()
        .map_err(|e| Exit::failure(format!("prometheus: error: invalid value {written:?} for --{name}: {e}")))
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(matches: &ArgMatches, name: &str) -> Result<Option<T>, Exit> {
    if text(matches, name).is_empty() { Ok(None) } else { parsed(matches, name).map(Some) }
}

fn options(
    matches: &ArgMatches,
    features: Features,
    server: ServerFeatures,
    names: &[String],
) -> Result<CollectorOptions, Exit> {
    let (listen, web_config) = flags::web_of(matches);
    let retention_time: Option<Duration> = optional(matches, "storage.tsdb.retention.time")?;
    let retention_size: Option<Size> = optional(matches, "storage.tsdb.retention.size")?;
    let external_url = text(matches, "web.external-url").trim_end_matches('/').to_owned();
    if !external_url.is_empty() && url::Url::parse(&external_url).is_err() {
        return Err(Exit::failure(format!("prometheus: error: --web.external-url {external_url:?} is not a URL")));
    }
    let prefix = match text(matches, "web.route-prefix") {
        "" => url::Url::parse(&external_url).map(|u| u.path().to_owned()).unwrap_or_default(),
        given => format!("/{}", given.trim_matches('/')),
    };
    let origin = text(matches, "web.cors.origin");
    let origin = LabelRegex::new(origin).map_err(|e| {
        Exit::failure(format!("prometheus: error: could not compile CORS regex string {origin:?}: {e}"))
    })?;
    let shown = |name: &String| (name.clone(), texts_of(matches, name));
    let bytes = |name: &str| optional::<Size>(matches, name).map(|size| size.map(|size| size.0));
    let (max_memory, all_memory) = query::memory::limits(bytes("query.max-memory")?, bytes("query.max-memory-total")?);
    Ok(CollectorOptions {
        files: tsdb::Files::default(),
        config_file: PathBuf::from(text(matches, "config.file")),
        load: LoadOptions {
            extra_scrape_metrics: server.extra_scrape_metrics,
            protobuf_first: server.start_times.wanted(),
            ..LoadOptions::default()
        },
        auto_reload_interval: auto_reload_interval(matches, server)?,
        discovery_reload_interval: match flags::given(matches, "scrape.discovery-reload-interval") {
            true => Some(parsed(matches, "scrape.discovery-reload-interval")?),
            false => None,
        },
        storage_path: PathBuf::from(text(matches, "storage.tsdb.path")),
        min_block_duration: parsed(matches, "storage.tsdb.min-block-duration")?,
        max_block_duration: optional(matches, "storage.tsdb.max-block-duration")?,
        wal_segment_size: optional(matches, "storage.tsdb.wal-segment-size")?,
        wal_fsync_interval: parsed::<Duration>(matches, "storage.tsdb.wal-fsync-interval")?,
        maintenance_interval: parsed::<Duration>(matches, "storage.tsdb.block-reload-interval")?,
        retention_time,
        retention_size,
        server: ServerOptions {
            listen,
            web_config,
            limits: Limits {
                connections: parsed(matches, "web.max-connections")?,
                header_timeout: StdDuration::from(parsed::<Duration>(matches, "web.read-timeout")?),
                ..Limits::default()
            },
        },
        engine: EngineOptions {
            lookback: parsed::<Duration>(matches, "query.lookback-delta")?.millis(),
            max_samples: parsed(matches, "query.max-samples")?,
            max_series: match parsed(matches, "query.max-series")? {
                0 => usize::MAX,
                limit => limit,
            },
            max_memory,
            memory: Arc::new(MemoryPool::new(all_memory)),
            timeout: Some(StdDuration::from(parsed::<Duration>(matches, "query.timeout")?)),
            features,
            ..EngineOptions::default()
        },
        query_concurrency: parsed(matches, "query.max-concurrency")?,
        query_queue: parsed(matches, "query.max-queued")?,
        alerts: AlertOptions {
            for_outage_tolerance: parsed(matches, "rules.alert.for-outage-tolerance")?,
            for_grace_period: parsed(matches, "rules.alert.for-grace-period")?,
            resend_delay: parsed(matches, "rules.alert.resend-delay")?,
        },
        notifier: NotifierOptions {
            queue_capacity: parsed::<NonZeroUsize>(matches, "alertmanager.notification-queue-capacity")?.get(),
            batch_size: parsed::<NonZeroUsize>(matches, "alertmanager.notification-batch-size")?.get(),
            drain: flags::on(matches, "alertmanager.drain-notification-queue-on-shutdown"),
        },
        timestamp_tolerance: match flags::on(matches, "scrape.adjust-timestamps") {
            true => Some(parsed(matches, "scrape.timestamp-tolerance")?),
            false => None,
        },
        start_times: server.start_times,
        type_and_unit_labels: server.type_and_unit_labels,
        allowed_hosts: None,
        api: ApiOptions {
            external_url,
            route_prefix: prefix.trim_end_matches('/').to_owned(),
            cors_origin: Some(origin),
            max_notifications_subscribers: parsed(matches, "web.max-notifications-subscribers")?,
            enable_lifecycle: flags::on(matches, "web.enable-lifecycle"),
            enable_admin_api: flags::on(matches, "web.enable-admin-api"),
            enable_remote_write_receiver: flags::on(matches, "web.enable-remote-write-receiver"),
            flags: names.iter().map(shown).collect(),
            ..ApiOptions::default()
        },
    })
}

/// A flag's value as text, for the API.
fn texts_of(matches: &ArgMatches, name: &str) -> String {
    match matches.try_get_many::<String>(name) {
        Ok(Some(values)) => values.cloned().collect::<Vec<_>>().join(","),
        Ok(None) => String::new(),
        Err(_) => flags::on(matches, name).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(arguments: &[&str]) -> Result<Flags, Exit> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn defaults_and_values() {
        let flags = parse_all(&[]).unwrap();
        assert_eq!(flags.options.config_file, PathBuf::from("prometheus.yml"));
        assert_eq!((flags.options.retention_time, flags.options.engine.lookback), (None, 300_000));
        let engine = &flags.options.engine;
        assert!(engine.max_memory <= engine.memory.limit() && engine.memory.limit() < usize::MAX, "{engine:?}");
        assert_eq!((engine.max_series, flags.options.query_queue), (usize::MAX, 200));
        let given =
            ["--query.max-memory=64MB", "--query.max-memory-total=0", "--query.max-series=9", "--query.max-queued=3"];
        let flags = parse_all(&given).unwrap();
        let engine = &flags.options.engine;
        assert_eq!((engine.max_memory, engine.memory.limit(), engine.max_series), (64 << 20, usize::MAX, 9));
        assert_eq!(flags.options.query_queue, 3);
        let flags = parse_all(&[
            "--config.file=x.yml",
            "--storage.tsdb.retention.time",
            "30d",
            "--storage.tsdb.retention.size=10GB",
            "--web.external-url=http://host/prom/",
            "--enable-feature=promql-experimental-functions,exemplar-storage",
            "--no-auto-gomaxprocs",
        ])
        .unwrap();
        assert_eq!(flags.options.retention_time, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(flags.options.retention_size, Some(Size(10 << 30)));
        assert_eq!(flags.options.api.route_prefix, "/prom");
        assert!(flags.options.engine.features.experimental_functions);
        assert_eq!(flags.without_effect, ["--auto-gomaxprocs", "--enable-feature=exemplar-storage"]);
    }

    #[test]
    fn the_server_is_told_what_the_flags_say() {
        let options = parse_all(&[]).unwrap().options;
        assert_eq!((options.auto_reload_interval, options.discovery_reload_interval), (None, None));
        assert_eq!(options.timestamp_tolerance, Some(Duration::from_millis(2)));
        assert_eq!(options.server.limits.header_timeout, StdDuration::from_secs(300));
        assert!(options.notifier.drain && !options.load.extra_scrape_metrics);
        assert!(options.api.cors_origin.unwrap().is_match("http://anywhere.example"));
        let options = parse_all(&[
            "--config.auto-reload",
            "--config.auto-reload-interval=10ms",
            "--scrape.discovery-reload-interval=7s",
            "--no-scrape.adjust-timestamps",
            "--no-alertmanager.drain-notification-queue-on-shutdown",
            "--alertmanager.notification-batch-size=3",
            "--web.read-timeout=1m",
            "--web.cors.origin=http://a",
            "--enable-feature=extra-scrape-metrics",
        ])
        .unwrap()
        .options;
        // not oftener than once a second
        assert_eq!(options.auto_reload_interval, Some(Duration::from_secs(1)));
        assert_eq!(options.discovery_reload_interval, Some(Duration::from_secs(7)));
        assert_eq!(options.timestamp_tolerance, None);
        assert_eq!((options.notifier.batch_size, options.notifier.drain), (3, false));
        assert_eq!(options.server.limits.header_timeout, StdDuration::from_secs(60));
        assert!(!options.api.cors_origin.unwrap().is_match("http://a.example"));
        assert!(options.load.extra_scrape_metrics);
        assert_eq!((options.start_times, options.load.protobuf_first), (StartTimes::default(), false));
        for (feature, zero_samples, stored) in
            [("created-timestamp-zero-ingestion", true, false), ("st-storage", false, true)]
        {
            let options = parse_all(&[&format!("--enable-feature={feature}")]).unwrap().options;
            assert_eq!(options.start_times, StartTimes { zero_samples, stored });
            assert!(options.load.protobuf_first);
        }
        let options = parse_all(&["--enable-feature=type-and-unit-labels"]).unwrap().options;
        assert!(options.type_and_unit_labels && options.engine.features.type_and_unit_labels);
        let by_feature = &["--enable-feature=auto-reload-config"];
        assert_eq!(parse_all(by_feature).unwrap().options.auto_reload_interval, Some(Duration::from_secs(30)));
        for wrong in ["--web.cors.origin=(", "--alertmanager.notification-batch-size=0"] {
            assert_eq!(parse_all(&[wrong]).unwrap_err().code, 1);
        }
    }

    /// No flag and no feature of Prometheus is passed over in silence.
    #[test]
    fn every_flag_of_prometheus_works_or_is_told_about() {
        let Some(folder) = std::env::var_os("FIREWATCH_CONFORMANCE").map(PathBuf::from) else {
            println!("skipped: FIREWATCH_CONFORMANCE does not name a folder");
            return;
        };
        let docs = include_str!("../../docs/collector.md");
        // `--storage.remote.*` stands for all of them
        let documented = |name: &str| {
            let parts: Vec<usize> = name.char_indices().filter(|(_, c)| ".-".contains(*c)).map(|(at, _)| at).collect();
            let families =
                parts.iter().flat_map(|at| [format!("--{}*", &name[..*at]), format!("--{}*", &name[..=*at])]);
            families.chain(["`", " ", "*"].map(|end| format!("--{name}{end}"))).any(|text| docs.contains(&text))
        };
        let table = |name: &str| std::fs::read_to_string(folder.join("prometheus").join(name)).unwrap();
        let mut seen = 0;
        for row in table("flags.tsv").lines().skip(1) {
            let cells: Vec<&str> = row.split('\t').collect();
            let (program, flag, kind, default) = (cells[0], cells[2], cells[4], cells[5]);
            let name = flag.trim_start_matches("--");
            if program != "prometheus" || ["help", "version", "enable-feature"].contains(&name) {
                continue;
            }
            seen += 1;
            let argument = if kind == "bool" { flag.to_owned() } else { format!("{flag}={default}") };
            match parse_all(&[&argument]) {
                Ok(flags) if flags.without_effect.is_empty() => {}
                Ok(flags) => assert!(documented(name), "{:?} is not in docs/collector.md", flags.without_effect),
                Err(exit) => assert!(exit.text.contains("is not supported by Firewatch"), "{flag}: {}", exit.text),
            }
        }
        assert!(seen > 50, "{seen} flags");
        for row in table("feature-flags.tsv").lines().skip(1) {
            let name = row.split('\t').next().unwrap();
            match parse_all(&[&format!("--enable-feature={name}")]) {
                Ok(_) => assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/collector.md"),
                Err(exit) => assert!(exit.text.contains("is not supported by Firewatch"), "{name}: {}", exit.text),
            }
        }
    }

    #[test]
    fn what_is_not_supported_is_an_error() {
        for arguments in [
            &["--agent"][..],
            &["--web.enable-otlp-receiver"],
            &["--enable-feature=nope"],
            &["--nope"],
            &["--query.timeout=x"],
        ] {
            let exit = parse_all(arguments).unwrap_err();
            assert_eq!(exit.code, 1, "{arguments:?}: {}", exit.text);
        }
    }
}
