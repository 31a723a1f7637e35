//! Prometheus' configuration file: reading, defaults, checks.

mod alerting;
mod checksum;
mod discovery;
mod global;
mod http_client;
mod keys;
mod otlp;
mod protocol;
mod remote;
mod remote_credentials;
mod scrape;
mod shown_job;
mod sigv4;
mod size;
pub(crate) mod start_only;
mod storage;
mod tracing;
mod web_address;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use model::{NameValidation, quote};

use crate::relabel::RelabelRule;
pub use alerting::{Alerting, AlertmanagerConfig};
pub use checksum::checksum;
pub(crate) use discovery::discovery_mechanisms;
pub use discovery::{DiscoveryConfig, FileDiscovery, HttpDiscovery, TargetGroup, read_groups, read_json_groups};
pub use global::Global;
pub use keys::Settings;
pub use protocol::ScrapeProtocol;
pub use scrape::{ScrapeConfig, ScrapeLimits};
pub use sigv4::SigV4;
pub use size::Size;
pub use storage::StorageConfig;

/// A configuration file that has been read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Defaults for jobs and rules.
    pub global: Global,
    /// Jobs of the file itself and of `scrape_config_files`.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Where alerts go.
    pub alerting: Alerting,
    /// Rule files; the last part of a path may have a `*`.
    pub rule_files: Vec<PathBuf>,
    /// Settings of the storage.
    pub storage: StorageConfig,
    /// Sections and mechanisms of the file that this version does not have. A server does not start with them.
    pub unsupported: Vec<String>,
    /// The file with secrets hidden, as the API shows it.
    pub shown: String,
    /// Each job by name, with the values in force and secrets hidden, as the API shows it.
    pub shown_jobs: BTreeMap<String, String>,
}

/// Why a configuration file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("open {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file says something wrong.
    #[error("parsing YAML file {path}: {fault}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What and where.
        fault: yaml::Error,
    },
}

/// The folder that paths in a file are relative to.
#[derive(Clone, Debug, Default)]
struct Base {
    folder: PathBuf,
}

/// What may be missing when a file is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The file is for agent mode, where rules, alerting and remote reads have no place.
    pub agent: bool,
    /// Files named in `scrape_config_files` are not read.
    pub skip_scrape_config_files: bool,
    /// The additional scrape series are written unless a job says otherwise.
    pub extra_scrape_metrics: bool,
    /// Targets are asked for protobuf first unless the file says otherwise.
    pub protobuf_first: bool,
}

/// `gogc` tunes a garbage collector that this program does not have; it is accepted and has no effect.
const RUNTIME: keys::Section = keys::Section::new("config.RuntimeConfig", &[keys::int("gogc", "75")]);

const TOP_LEVEL: [&str; 12] = [
    "global",
    "runtime",
    "alerting",
    "rule_files",
    "scrape_config_files",
    "scrape_configs",
    "storage",
    "tracing",
    "remote_write",
    "remote_read",
    "otlp",
    "features",
];

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When the file, or one it names, cannot be read or is wrong.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self, ConfigError> {
        let text = read_file(path)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Self::parse(&text, path, folder, options)
    }

    /// Reads configuration text as if it stood in the file `path`, with paths relative to `folder`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, folder: PathBuf, options: LoadOptions) -> Result<Self, ConfigError> {
        let invalid = |fault| ConfigError::Invalid { path: path.to_owned(), fault };
        let node = yaml::Node::parse(text).map_err(invalid)?;
        let base = Base { folder };
        let mut config = Self::read(&node, &base, options).map_err(invalid)?;
        if !options.skip_scrape_config_files {
            config.add_scrape_config_files(&node, path, &base)?;
        }
        Ok(config)
    }

    fn read(node: &yaml::Node, base: &Base, options: LoadOptions) -> Result<Self, yaml::Error> {
        let (_, unknown) = node.split(|key| TOP_LEVEL[..11].contains(&key))?;
        if let yaml::Kind::Mapping(entries) = &unknown.kind
            && let Some((key, _)) = entries.first()
        {
            return Err(key.error(format!("field {} not found in type config.plain", key.as_str().unwrap_or_default())));
        }
        let empty = yaml::Node::empty_mapping(node.line, node.column);
        let section = |name: &str| node.get(name).unwrap_or(&empty);
        if options.agent {
            for (name, shown) in
                [("alerting", "alerting"), ("rule_files", "rule_files"), ("remote_read", "remote_read")]
            {
                if node.get(name).is_some_and(|n| !n.is_null()) {
                    return Err(section(name).error(format!("field {shown} is not allowed in agent mode")));
                }
            }
        }
        let mut global = Global::read(section("global"), base)?;
        global.extra_scrape_metrics |= options.extra_scrape_metrics;
        if options.protobuf_first && !global.scrape_protocols_set {
            (global.scrape_protocols, global.scrape_protocols_set) = (protocol::default_list(true), true);
        }
        let scrape_configs = scrape_configs(section("scrape_configs"), &global, base)?;
        unique_jobs(&scrape_configs).map_err(|m| section("scrape_configs").error(m))?;
        let shown_jobs = shown_jobs(section("scrape_configs"), &scrape_configs)?;
        let mut rule_files = Vec::new();
        for item in list(section("rule_files"), "rule_files")? {
            let pattern = item.as_str().unwrap_or_default();
            if !valid_pattern(pattern) {
                return Err(item.error(format!("invalid rule file path {}", quote(pattern))));
            }
            rule_files.push(base.join(pattern));
        }
        for item in list(section("scrape_config_files"), "scrape_config_files")? {
            let pattern = item.as_str().unwrap_or_default();
            if !valid_pattern(pattern) {
                return Err(item.error(format!("invalid scrape config file path {}", quote(pattern))));
            }
        }
        let alerting = Alerting::read(section("alerting"), base)?;
        let storage = StorageConfig::read(section("storage"))?;
        remote::check_writes(section("remote_write"), base)?;
        remote::check_reads(section("remote_read"), base)?;
        otlp::check(section("otlp"), global.metric_name_validation_scheme, base)?;
        if let Some(node) = node.get("tracing").filter(|n| !n.is_null()) {
            tracing::check(node, base)?;
        }
        RUNTIME.read(section("runtime"), base)?;
        let mut unsupported = Vec::new();
        for name in ["remote_write", "remote_read", "tracing", "otlp"] {
            let present = match node.get(name).map(|n| &n.kind) {
                Some(yaml::Kind::Sequence(items)) => !items.is_empty(),
                Some(yaml::Kind::Mapping(entries)) => !entries.is_empty(),
                _ => false,
            };
            if present {
                unsupported.push(name.to_owned());
            }
        }
        unsupported.extend(storage.unsupported.iter().map(|s| (*s).to_owned()));
        Ok(Self { global, scrape_configs, alerting, rule_files, storage, unsupported, shown: show(node), shown_jobs })
    }

    fn add_scrape_config_files(&mut self, node: &yaml::Node, path: &Path, base: &Base) -> Result<(), ConfigError> {
        let empty = yaml::Node::empty_mapping(1, 1);
        let patterns = node.get("scrape_config_files").unwrap_or(&empty);
        let invalid = |path: &Path| {
            let path = path.to_owned();
            move |fault| ConfigError::Invalid { path, fault }
        };
        for item in list(patterns, "scrape_config_files").map_err(invalid(path))? {
            for file in expand_pattern(&base.join(item.as_str().unwrap_or_default())) {
                let text = read_file(&file)?;
                let node = yaml::Node::parse(&text).map_err(invalid(&file))?;
                let (known, other) = node.split(|key| key == "scrape_configs").map_err(invalid(&file))?;
                if let yaml::Kind::Mapping(entries) = &other.kind
                    && let Some((key, _)) = entries.first()
                {
                    let message =
                        format!("field {} not found in type config.ScrapeConfigs", key.as_str().unwrap_or_default());
                    return Err(invalid(&file)(key.error(message)));
                }
                let base = Base { folder: file.parent().unwrap_or(Path::new("")).to_path_buf() };
                let jobs = known.get("scrape_configs").unwrap_or(&empty);
                let configs = scrape_configs(jobs, &self.global, &base).map_err(invalid(&file))?;
                self.shown_jobs.extend(shown_jobs(jobs, &configs).map_err(invalid(&file))?);
                self.scrape_configs.extend(configs);
                unique_jobs(&self.scrape_configs)
                    .map_err(|m| invalid(path)(patterns.error(format!("{m} (also in {})", file.display()))))?;
            }
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|e| ConfigError::Read { path: path.to_owned(), reason: e.to_string() })
}

fn scrape_configs(node: &yaml::Node, global: &Global, base: &Base) -> Result<Vec<ScrapeConfig>, yaml::Error> {
    list(node, "scrape_configs")?
        .iter()
        .map(|item| {
            if item.is_null() {
                return Err(item.error("empty or null scrape config section"));
            }
            ScrapeConfig::read(item, global, base)
        })
        .collect()
}

/// The jobs of a section for people, by name.
fn shown_jobs(node: &yaml::Node, configs: &[ScrapeConfig]) -> Result<BTreeMap<String, String>, yaml::Error> {
    let written = list(node, "scrape_configs")?.iter().zip(configs);
    Ok(written.map(|(node, config)| (config.job_name.clone(), shown_job::show(node, config))).collect())
}

fn unique_jobs(jobs: &[ScrapeConfig]) -> Result<(), String> {
    let mut seen = HashSet::new();
    match jobs.iter().find(|job| !seen.insert(job.job_name.as_str())) {
        Some(job) => Err(format!("found multiple scrape configs with job name {}", quote(&job.job_name))),
        None => Ok(()),
    }
}

fn list<'a>(node: &'a yaml::Node, name: &str) -> Result<&'a [yaml::Node], yaml::Error> {
    match &node.kind {
        yaml::Kind::Sequence(items) => Ok(items),
        yaml::Kind::Mapping(entries) if entries.is_empty() => Ok(&[]),
        _ if node.is_null() => Ok(&[]),
        _ => Err(node.error(format!("{name} must be a list"))),
    }
}

fn relabel_rules(
    node: &yaml::Node,
    key: &str,
    names: NameValidation,
    what: &str,
) -> Result<Vec<RelabelRule>, yaml::Error> {
    let Some(rules) = node.get(key) else { return Ok(Vec::new()) };
    list(rules, key)?
        .iter()
        .map(|item| {
            if item.is_null() {
                return Err(item.error(format!("empty or null {what}")));
            }
            RelabelRule::read(item, names)
        })
        .collect()
}

/// A `*` may stand in the last part of a path only.
fn valid_pattern(pattern: &str) -> bool {
    !pattern.is_empty() && !pattern.rsplit_once('/').is_some_and(|(folder, _)| folder.contains('*'))
}

/// The files a pattern stands for, sorted; `*` and `?` in the last part match any text and any character.
///
/// A pattern without either stands for itself, whether the file exists or not.
pub fn expand_pattern(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !name.contains(['*', '?', '[']) {
        return if pattern.exists() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let folder = pattern.parent().unwrap_or(Path::new("."));
    let mut expression = String::from("^");
    for c in name.chars() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' | ']' => expression.push(c),
            other => expression.push_str(&regex::escape(&other.to_string())),
        }
    }
    expression.push('$');
    let Ok(matcher) = regex::Regex::new(&expression) else { return Vec::new() };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| matcher.is_match(&entry.file_name().to_string_lossy()))
        .map(|entry| pattern.with_file_name(entry.file_name()))
        .collect();
    files.sort();
    files
}

const SECRET_KEYS: [&str; 18] = [
    "password",
    "bearer_token",
    "credentials",
    "client_secret",
    "secret_key",
    "key",
    "secrets",
    "proxy_connect_header",
    "token",
    "auth_token",
    "application_secret",
    "client_certificate_key",
    "consumer_key",
    "application_credential_secret",
    "key_passphrase",
    "service_account_key",
    "private_key",
    "certificate_password",
];

/// The document with secrets hidden.
fn show(node: &yaml::Node) -> String {
    let hidden = hide_secrets(node, false);
    hidden.to_yaml()
}

fn hide_secrets(node: &yaml::Node, secret: bool) -> yaml::Node {
    let kind = match &node.kind {
        yaml::Kind::Scalar { .. } | yaml::Kind::Binary(_) if secret && !node.is_null() => {
            yaml::Kind::Scalar { text: "<secret>".into(), plain: true }
        }
        yaml::Kind::Scalar { .. } | yaml::Kind::Binary(_) => node.kind.clone(),
        yaml::Kind::Sequence(items) => yaml::Kind::Sequence(items.iter().map(|i| hide_secrets(i, secret)).collect()),
        yaml::Kind::Mapping(entries) => yaml::Kind::Mapping(
            entries
                .iter()
                .map(|(k, v)| {
                    (k.clone(), hide_secrets(v, secret || SECRET_KEYS.contains(&k.as_str().unwrap_or_default())))
                })
                .collect(),
        ),
    };
    yaml::Node { line: node.line, column: node.column, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let options = LoadOptions::default();
        Config::parse(text, Path::new("p.yml"), PathBuf::from("/etc/p"), options).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_flow_from_global_to_jobs() {
        let config = parse("global: {scrape_interval: 5s, sample_limit: 7}\nscrape_configs: [{job_name: a}, {job_name: b, scrape_interval: 1m, sample_limit: 9}]").unwrap();
        let [a, b] = config.scrape_configs.as_slice() else { panic!("two jobs") };
        assert_eq!((a.scrape_interval.millis(), a.scrape_timeout.millis(), a.limits.samples), (5000, 5000, 7));
        assert_eq!((b.scrape_interval.millis(), b.scrape_timeout.millis(), b.limits.samples), (60_000, 5000, 9));
        assert_eq!((a.metrics_path.as_str(), a.scheme.as_str(), a.honor_timestamps), ("/metrics", "http", true));
        assert!(parse("").unwrap().scrape_configs.is_empty());
    }

    #[test]
    fn faults_name_file_and_line() {
        for (text, expected) in [
            ("global:\n  nope: 1\n", "parsing YAML file p.yml: line 2: field nope not found in type config.plain"),
            ("nope: 1\n", "parsing YAML file p.yml: line 1: field nope not found in type config.plain"),
            (
                "scrape_configs:\n- job_name: a\n- job_name: a\n",
                "parsing YAML file p.yml: line 2: found multiple scrape configs with job name \"a\"",
            ),
            (
                "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - regex: '('\n    target_label: x\n",
                "parsing YAML file p.yml: line 4: error parsing regexp",
            ),
            (
                "scrape_configs:\n- job_name: a\n  consult_sd_configs: []\n",
                "parsing YAML file p.yml: line 3: field consult_sd_configs not found in type config.ScrapeConfig",
            ),
            (
                "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['http://x']\n",
                "parsing YAML file p.yml: line 4: \"http://x\" is not a valid hostname",
            ),
            ("rule_files: ['a/*/b']\n", "parsing YAML file p.yml: line 1: invalid rule file path \"a/*/b\""),
            ("scrape_configs:\n-\n", "parsing YAML file p.yml: line 2: empty or null scrape config section"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn protobuf_may_be_asked_for_first() {
        let first = |text: &str, protobuf_first: bool| {
            let options = LoadOptions { protobuf_first, ..LoadOptions::default() };
            let config = Config::parse(text, Path::new("p.yml"), PathBuf::new(), options).unwrap();
            config.scrape_configs[0].scrape_protocols[0]
        };
        let job = "scrape_configs: [{job_name: a}]";
        assert_eq!(first(job, false), ScrapeProtocol::OpenMetricsText1_0_0);
        assert_eq!(first(job, true), ScrapeProtocol::PrometheusProto);
        let named = format!("global: {{scrape_protocols: [PrometheusText0.0.4]}}\n{job}");
        assert_eq!(first(&named, true), ScrapeProtocol::PrometheusText0_0_4);
    }

    #[test]
    fn what_this_version_lacks_is_named() {
        let text =
            "remote_write: [{url: 'http://x'}]\nscrape_configs: [{job_name: a, consul_sd_configs: [{server: x}]}]";
        // every mechanism is there
        assert_eq!(parse(text).unwrap().unsupported, ["remote_write"]);
    }

    #[test]
    fn jobs_are_shown_as_they_are_in_force() {
        let config = parse(
            "global: {scrape_interval: 5s, sample_limit: 7}\nscrape_configs:\n- job_name: a\n  metrics_path: /m\n  basic_auth: {username: u, password: hush}\n  static_configs: [{targets: ['h:1']}]\n",
        )
        .unwrap();
        let shown = &config.shown_jobs["a"];
        for line in [
            "job_name: a\n",
            "\nscrape_interval: 5s\n",
            "\nscrape_timeout: 5s\n",
            "\nsample_limit: 7\n",
            "\nmetrics_path: /m\n",
            "\nscheme: http\n",
            "password: <secret>\n",
            "OpenMetricsText1.0.0",
            "h:1",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
        // it is a configuration again, and says the same
        let again = yaml::Node::parse(shown).unwrap();
        let read = ScrapeConfig::read(&again, &Global::default(), &Base { folder: PathBuf::new() }).unwrap();
        assert_eq!(
            (read.scrape_interval, read.limits, read.metrics_path),
            (config.scrape_configs[0].scrape_interval, config.scrape_configs[0].limits, "/m".to_owned(),)
        );
    }

    #[test]
    fn secrets_are_hidden() {
        let config = parse("scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: hush}\n").unwrap();
        assert!(config.shown.contains("password: <secret>") && !config.shown.contains("hush"), "{}", config.shown);
    }

    #[test]
    fn agents_have_no_rules() {
        let options = LoadOptions { agent: true, ..LoadOptions::default() };
        let error = Config::parse("rule_files: [a]", Path::new("p"), PathBuf::new(), options).unwrap_err();
        assert!(error.to_string().contains("field rule_files is not allowed in agent mode"));
    }

    #[test]
    fn patterns_expand_in_the_last_part() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> =
            expand_pattern(&folder.path().join("*.yml")).iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.yml", "b.yml"]);
    }

    /// Each file of the conformance folder loads or is refused as recorded.
    #[test]
    fn recorded_files() {
        let Some(folder) = std::env::var_os("FIREWATCH_CONFORMANCE") else {
            println!("skipped: FIREWATCH_CONFORMANCE is not set");
            return;
        };
        let folder = PathBuf::from(folder).join("prometheus-config");
        let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
        for row in table.lines().skip(1) {
            let fields: Vec<&str> = row.split('\t').collect();
            let [file, expect, reason, mode, stage] = fields[..] else { panic!("five fields: {row}") };
            if !matches!(stage, "load" | "") {
                continue;
            }
            let options =
                LoadOptions { agent: mode == "agent", skip_scrape_config_files: true, ..LoadOptions::default() };
            let loaded = Config::load(&folder.join(file), options).map(drop);
            assert_eq!(loaded.is_ok(), expect == "ok", "{file}: {loaded:?}, recorded: {expect} {reason}");
        }
    }
}
