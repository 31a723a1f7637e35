use std::collections::BTreeMap;
use std::path::PathBuf;

use common::http::client::HttpClientConfig;
use model::{Duration, NameValidation, quote};
use serde::Deserialize;

use super::discovery::DiscoveryConfig;
use super::global::{Global, check_escaping, parse_validation};
use super::protocol::{self, ScrapeProtocol};
use super::size::Size;
use super::{Base, http_client, relabel_rules};
use crate::relabel::RelabelRule;

/// One scrape job, with everything `global` adds to it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// Name of the job, unique.
    pub job_name: String,
    /// Whether labels of the page win over those of the target.
    pub honor_labels: bool,
    /// Whether timestamps of the page are kept.
    pub honor_timestamps: bool,
    /// Whether series with timestamps of the page get staleness markers.
    pub track_timestamps_staleness: bool,
    /// Query parameters of the request.
    pub params: BTreeMap<String, Vec<String>>,
    /// Time between scrapes.
    pub scrape_interval: Duration,
    /// Time a scrape may take.
    pub scrape_timeout: Duration,
    /// Formats to ask for, best first.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// Format assumed when the target names none.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Whether native histograms are scraped.
    pub scrape_native_histograms: bool,
    /// Whether the classic form of a histogram is kept beside its native one.
    pub always_scrape_classic_histograms: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether the additional scrape series are written.
    pub extra_scrape_metrics: bool,
    /// File for failed scrapes, empty for none.
    pub scrape_failure_log_file: String,
    /// Path of the page.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Whether compressed pages are asked for.
    pub enable_compression: bool,
    /// Limits; 0 is no limit.
    pub limits: ScrapeLimits,
    /// Dropped targets kept for display; 0 is no limit.
    pub keep_dropped_targets: u64,
    /// Characters allowed in names.
    pub metric_name_validation_scheme: NameValidation,
    /// Escaping asked of targets.
    pub metric_name_escaping_scheme: String,
    /// How requests are made.
    pub http_client: HttpClientConfig,
    /// Where targets come from.
    pub discovery: Vec<DiscoveryConfig>,
    /// Rules for targets.
    pub relabel_configs: Vec<RelabelRule>,
    /// Rules for series.
    pub metric_relabel_configs: Vec<RelabelRule>,
}

/// Bounds of a scrape and a job; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScrapeLimits {
    /// Bytes of a page, decompressed.
    pub body_size: Size,
    /// Samples of a scrape after relabelling.
    pub samples: u64,
    /// Targets of a job after relabelling.
    pub targets: u64,
    /// Labels of a series.
    pub labels: u64,
    /// Bytes of a label name.
    pub label_name_length: u64,
    /// Bytes of a label value.
    pub label_value_length: u64,
    /// Buckets of a native histogram.
    pub native_histogram_buckets: u64,
    /// Smallest growth factor between native buckets.
    pub native_histogram_min_bucket_factor: f64,
}

#[derive(Deserialize)]
#[serde(default, rename = "config.ScrapeConfig")]
struct Written {
    job_name: String,
    honor_labels: bool,
    honor_timestamps: bool,
    track_timestamps_staleness: bool,
    params: BTreeMap<String, Vec<String>>,
    scrape_interval: Duration,
    scrape_timeout: Duration,
    scrape_protocols: Option<Vec<String>>,
    fallback_scrape_protocol: String,
    scrape_native_histograms: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    extra_scrape_metrics: Option<bool>,
    scrape_failure_log_file: String,
    metrics_path: String,
    scheme: String,
    enable_compression: bool,
    body_size_limit: Option<Size>,
    sample_limit: u64,
    target_limit: u64,
    label_limit: u64,
    label_name_length_limit: u64,
    label_value_length_limit: u64,
    native_histogram_bucket_limit: u64,
    native_histogram_min_bucket_factor: f64,
    keep_dropped_targets: u64,
    metric_name_validation_scheme: Option<String>,
    metric_name_escaping_scheme: String,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            params: BTreeMap::new(),
            scrape_interval: Duration::ZERO,
            scrape_timeout: Duration::ZERO,
            scrape_protocols: None,
            fallback_scrape_protocol: String::new(),
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            extra_scrape_metrics: None,
            scrape_failure_log_file: String::new(),
            metrics_path: "/metrics".into(),
            scheme: "http".into(),
            enable_compression: true,
            body_size_limit: None,
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: 0.0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: String::new(),
        }
    }
}

impl ScrapeConfig {
    /// Reads one job and fills in what `global` says.
    pub(super) fn read(node: &yaml::Node, global: &Global, base: &Base) -> Result<Self, yaml::Error> {
        let (discovery, rest) = node.split(|key| key == "static_configs" || key.ends_with("_sd_configs"))?;
        let (relabelling, rest) = rest.split(|key| key == "relabel_configs" || key == "metric_relabel_configs")?;
        let (http_client, rest) = http_client::split(&rest, base)?;
        // faults of discovery come before those of the job as a whole
        let discovery = DiscoveryConfig::read_all(&discovery, base)?;
        let w: Written = rest.read()?;
        let error = |message: String| Err(node.error(message));
        if w.job_name.is_empty() {
            return error("job_name is empty".into());
        }
        let job = quote(&w.job_name);
        let scrape_interval = if w.scrape_interval.is_zero() { global.scrape_interval } else { w.scrape_interval };
        let scrape_timeout = match w.scrape_timeout {
            t if !t.is_zero() => t,
            _ => global.scrape_timeout.min(scrape_interval),
        };
        if scrape_timeout > scrape_interval {
            return error(format!("scrape timeout greater than scrape interval for scrape config with job name {job}"));
        }
        let names = match &w.metric_name_validation_scheme {
            Some(text) => parse_validation(text).map_err(|m| node.error(m))?,
            None => global.metric_name_validation_scheme,
        };
        let escaping = match w.metric_name_escaping_scheme.as_str() {
            "" if !global.metric_name_escaping_scheme.is_empty() => global.metric_name_escaping_scheme.clone(),
            "" if names == NameValidation::Utf8 => "allow-utf-8".into(),
            "" => "underscores".into(),
            own => own.into(),
        };
        check_escaping(&escaping, names).map_err(|m| {
            node.error(
                format!("{m} for scrape config with job name {job}").replace("unknown global", "unknown scrape config"),
            )
        })?;
        let native = w.scrape_native_histograms.unwrap_or(global.scrape_native_histograms);
        let scrape_protocols = match &w.scrape_protocols {
            Some(list) => protocol::parse_list(list)
                .map_err(|m| node.error(format!("{m} for scrape config with job name {job}")))?,
            None if global.scrape_protocols_set => global.scrape_protocols.clone(),
            None => protocol::default_list(native),
        };
        let fallback_scrape_protocol = match w.fallback_scrape_protocol.as_str() {
            "" => None,
            name => Some(ScrapeProtocol::parse(name).map_err(|m| {
                node.error(format!("invalid fallback_scrape_protocol for scrape config with job name {job}: {m}"))
            })?),
        };
        if w.scheme != "http" && w.scheme != "https" {
            return error(format!("unknown scheme {} for scrape config with job name {job}", quote(&w.scheme)));
        }
        let or = |own: u64, global: u64| if own == 0 { global } else { own };
        let failure_log = if w.scrape_failure_log_file.is_empty() {
            &global.scrape_failure_log_file
        } else {
            &w.scrape_failure_log_file
        };
        Ok(Self {
            job_name: w.job_name,
            honor_labels: w.honor_labels,
            honor_timestamps: w.honor_timestamps,
            track_timestamps_staleness: w.track_timestamps_staleness,
            params: w.params,
            scrape_interval,
            scrape_timeout,
            scrape_protocols,
            fallback_scrape_protocol,
            scrape_native_histograms: native,
            always_scrape_classic_histograms: w
                .always_scrape_classic_histograms
                .unwrap_or(global.always_scrape_classic_histograms),
            convert_classic_histograms_to_nhcb: w
                .convert_classic_histograms_to_nhcb
                .unwrap_or(global.convert_classic_histograms_to_nhcb),
            extra_scrape_metrics: w.extra_scrape_metrics.unwrap_or(global.extra_scrape_metrics),
            scrape_failure_log_file: base.join_text(failure_log),
            metrics_path: w.metrics_path,
            scheme: w.scheme,
            enable_compression: w.enable_compression,
            limits: ScrapeLimits {
                body_size: w.body_size_limit.filter(|s| s.0 > 0).unwrap_or(global.body_size_limit),
                samples: or(w.sample_limit, global.sample_limit),
                targets: or(w.target_limit, global.target_limit),
                labels: or(w.label_limit, global.label_limit),
                label_name_length: or(w.label_name_length_limit, global.label_name_length_limit),
                label_value_length: or(w.label_value_length_limit, global.label_value_length_limit),
                native_histogram_buckets: w.native_histogram_bucket_limit,
                native_histogram_min_bucket_factor: w.native_histogram_min_bucket_factor,
            },
            keep_dropped_targets: or(w.keep_dropped_targets, global.keep_dropped_targets),
            metric_name_validation_scheme: names,
            metric_name_escaping_scheme: escaping,
            http_client,
            discovery,
            relabel_configs: relabel_rules(&relabelling, "relabel_configs", names, "target relabeling rule")?,
            metric_relabel_configs: relabel_rules(
                &relabelling,
                "metric_relabel_configs",
                names,
                "metric relabeling rule",
            )?,
        })
    }
}

impl Base {
    /// A path of the file as text, relative to the file's folder; empty stays empty.
    pub(super) fn join_text(&self, path: &str) -> String {
        if path.is_empty() { String::new() } else { self.join(path).to_string_lossy().into_owned() }
    }

    /// A path of the file, relative to the file's folder.
    pub(super) fn join(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}
