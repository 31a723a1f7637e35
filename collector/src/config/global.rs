use std::collections::BTreeMap;

use model::{Duration, Labels, NameValidation, is_valid_label_name, quote};
use serde::Deserialize;

use super::Base;
use super::protocol::{self, ScrapeProtocol};
use super::size::Size;

/// The `global` section: what holds wherever a scrape configuration says nothing else.
#[derive(Clone, Debug)]
pub struct Global {
    /// Time between scrapes.
    pub scrape_interval: Duration,
    /// Time a scrape may take.
    pub scrape_timeout: Duration,
    /// Formats to ask for, best first.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// Whether jobs take `scrape_protocols` from here and not a default of their own: it was written in the file, or a feature
    /// asks for it.
    pub scrape_protocols_set: bool,
    /// Time between rule evaluations.
    pub evaluation_interval: Duration,
    /// How far in the past rules are evaluated.
    pub rule_query_offset: Duration,
    /// File for the query log, empty for none.
    pub query_log_file: String,
    /// File for failed scrapes, empty for none.
    pub scrape_failure_log_file: String,
    /// Labels added to series and alerts that leave this server.
    pub external_labels: Labels,
    /// Largest page, decompressed; 0 is no limit.
    pub body_size_limit: Size,
    /// Most samples of a scrape; 0 is no limit.
    pub sample_limit: u64,
    /// Most targets of a job; 0 is no limit.
    pub target_limit: u64,
    /// Most labels of a series; 0 is no limit.
    pub label_limit: u64,
    /// Longest label name; 0 is no limit.
    pub label_name_length_limit: u64,
    /// Longest label value; 0 is no limit.
    pub label_value_length_limit: u64,
    /// Dropped targets kept for display; 0 is no limit.
    pub keep_dropped_targets: u64,
    /// Characters allowed in names.
    pub metric_name_validation_scheme: NameValidation,
    /// Escaping asked of targets.
    pub metric_name_escaping_scheme: String,
    /// Whether native histograms are scraped.
    pub scrape_native_histograms: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether the classic form of a histogram is kept beside its native one.
    pub always_scrape_classic_histograms: bool,
    /// Whether the additional scrape series are written.
    pub extra_scrape_metrics: bool,
}

#[derive(Deserialize)]
#[serde(default, rename = "config.plain")]
struct Written {
    scrape_interval: Duration,
    scrape_timeout: Option<Duration>,
    scrape_protocols: Option<Vec<String>>,
    evaluation_interval: Duration,
    rule_query_offset: Duration,
    query_log_file: String,
    scrape_failure_log_file: String,
    external_labels: BTreeMap<String, String>,
    body_size_limit: Size,
    sample_limit: u64,
    target_limit: u64,
    label_limit: u64,
    label_name_length_limit: u64,
    label_value_length_limit: u64,
    keep_dropped_targets: u64,
    metric_name_validation_scheme: String,
    metric_name_escaping_scheme: String,
    scrape_native_histograms: bool,
    convert_classic_histograms_to_nhcb: bool,
    always_scrape_classic_histograms: bool,
    extra_scrape_metrics: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: None,
            scrape_protocols: None,
            evaluation_interval: Duration::from_secs(60),
            rule_query_offset: Duration::ZERO,
            query_log_file: String::new(),
            scrape_failure_log_file: String::new(),
            external_labels: BTreeMap::new(),
            body_size_limit: Size(0),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: String::new(),
            metric_name_escaping_scheme: String::new(),
            scrape_native_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
        }
    }
}

impl Default for Global {
    fn default() -> Self {
        Self::read(&yaml::Node::empty_mapping(1, 1), &Base { folder: ".".into() }).expect("the defaults are valid")
    }
}

impl Global {
    pub(super) fn read(node: &yaml::Node, base: &Base) -> Result<Self, yaml::Error> {
        let written: Written = node.read()?;
        let error = |message: String| node.error(message);
        let or_default = |value: Duration, default| if value.is_zero() { default } else { value };
        let minute = Duration::from_secs(60);
        let scrape_interval = or_default(written.scrape_interval, minute);
        let scrape_timeout = match written.scrape_timeout.filter(|t| !t.is_zero()) {
            Some(timeout) if timeout > scrape_interval => {
                return Err(error("global scrape timeout greater than scrape interval".into()));
            }
            Some(timeout) => timeout,
            None => Duration::from_secs(10).min(scrape_interval),
        };
        let mut external_labels = Vec::new();
        for (name, value) in &written.external_labels {
            if !is_valid_label_name(name, NameValidation::Utf8) || name.starts_with("__") {
                return Err(error(format!("{} is not a valid label name", quote(name))));
            }
            external_labels.push((name.clone(), expand_environment(value)));
        }
        let validation = parse_validation(&written.metric_name_validation_scheme).map_err(error)?;
        let scheme = written.metric_name_escaping_scheme;
        check_escaping(&scheme, validation).map_err(error)?;
        let scrape_protocols_set = written.scrape_protocols.is_some();
        let scrape_protocols = match &written.scrape_protocols {
            Some(names) => protocol::parse_list(names).map_err(|m| error(format!("{m} for global config")))?,
            None => protocol::default_list(written.scrape_native_histograms),
        };
        Ok(Self {
            scrape_interval,
            scrape_timeout,
            scrape_protocols,
            scrape_protocols_set,
            evaluation_interval: or_default(written.evaluation_interval, minute),
            rule_query_offset: written.rule_query_offset,
            query_log_file: base.join_text(&written.query_log_file),
            scrape_failure_log_file: written.scrape_failure_log_file,
            external_labels: Labels::from_pairs(external_labels),
            body_size_limit: written.body_size_limit,
            sample_limit: written.sample_limit,
            target_limit: written.target_limit,
            label_limit: written.label_limit,
            label_name_length_limit: written.label_name_length_limit,
            label_value_length_limit: written.label_value_length_limit,
            keep_dropped_targets: written.keep_dropped_targets,
            metric_name_validation_scheme: validation,
            metric_name_escaping_scheme: scheme,
            scrape_native_histograms: written.scrape_native_histograms,
            convert_classic_histograms_to_nhcb: written.convert_classic_histograms_to_nhcb,
            always_scrape_classic_histograms: written.always_scrape_classic_histograms,
            extra_scrape_metrics: written.extra_scrape_metrics,
        })
    }
}

pub(super) fn parse_validation(text: &str) -> Result<NameValidation, String> {
    match text {
        "" | "utf8" => Ok(NameValidation::Utf8),
        "legacy" => Ok(NameValidation::Legacy),
        other => Err(format!("unrecognized ValidationScheme: {}", quote(other))),
    }
}

pub(super) fn check_escaping(scheme: &str, validation: NameValidation) -> Result<(), String> {
    match scheme {
        "" | "underscores" | "dots" | "values" => Ok(()),
        "allow-utf-8" if validation == NameValidation::Utf8 => Ok(()),
        "allow-utf-8" => Err("utf8 metric names requested but validation scheme is not set to UTF8".into()),
        other => Err(format!(
            "unknown global name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', got {}",
            quote(other)
        )),
    }
}

/// `$NAME` and `${NAME}` become the environment's values, `$$` a dollar sign; what is not set becomes empty.
fn expand_environment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let word = |t: &str| t.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            out.push_str(&std::env::var(name).unwrap_or_default());
            rest = after;
        } else if word(rest) > 0 {
            out.push_str(&std::env::var(&rest[..word(rest)]).unwrap_or_default());
            rest = &rest[word(rest)..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_expanded() {
        let home = std::env::var("HOME").unwrap_or_default();
        assert_eq!(expand_environment("a$$b ${HOME}/$HOME."), format!("a$b {home}/{home}."));
        assert_eq!(expand_environment("${FIREWATCH_NOT_SET}x"), "x");
    }

    #[test]
    fn a_short_interval_shortens_the_timeout() {
        let base = Base { folder: "/etc".into() };
        let global = Global::read(&yaml::Node::parse("scrape_interval: 5s").unwrap(), &base).unwrap();
        assert_eq!(global.scrape_timeout, Duration::from_secs(5));
        let global = Global::read(&yaml::Node::parse("query_log_file: queries.log").unwrap(), &base).unwrap();
        assert_eq!(global.query_log_file, "/etc/queries.log");
        assert!(Global::read(&yaml::Node::parse("{scrape_interval: 5s, scrape_timeout: 6s}").unwrap(), &base).is_err());
    }
}
