//! A job as it is in force, for people: what is written, secrets hidden, with defaults and what comes from the global section.

use super::ScrapeConfig;

/// Keys that are shown with the value in force, in this order; others as they are written.
pub(super) fn show(written: &yaml::Node, config: &ScrapeConfig) -> String {
    let at = |kind| yaml::Node { line: written.line, column: written.column, kind };
    let text = |text: &str, plain: bool| at(yaml::Kind::Scalar { text: text.to_owned(), plain });
    let protocols = config.scrape_protocols.iter().map(|protocol| text(protocol.name(), false)).collect();
    let limits = &config.limits;
    let number = |number: u64| (number > 0).then(|| number.to_string());
    let in_force = [
        ("scrape_interval", Some(config.scrape_interval.to_string())),
        ("scrape_timeout", Some(config.scrape_timeout.to_string())),
        ("scrape_native_histograms", Some(config.scrape_native_histograms.to_string())),
        ("always_scrape_classic_histograms", Some(config.always_scrape_classic_histograms.to_string())),
        ("convert_classic_histograms_to_nhcb", Some(config.convert_classic_histograms_to_nhcb.to_string())),
        ("extra_scrape_metrics", Some(config.extra_scrape_metrics.to_string())),
        ("honor_timestamps", Some(config.honor_timestamps.to_string())),
        ("track_timestamps_staleness", Some(config.track_timestamps_staleness.to_string())),
        ("metrics_path", Some(config.metrics_path.clone())),
        ("scheme", Some(config.scheme.clone())),
        ("enable_compression", Some(config.enable_compression.to_string())),
        ("body_size_limit", number(limits.body_size.0).map(|size| format!("{size}B"))),
        ("sample_limit", number(limits.samples)),
        ("target_limit", number(limits.targets)),
        ("label_limit", number(limits.labels)),
        ("label_name_length_limit", number(limits.label_name_length)),
        ("label_value_length_limit", number(limits.label_value_length)),
        ("native_histogram_bucket_limit", number(limits.native_histogram_buckets)),
        ("keep_dropped_targets", number(config.keep_dropped_targets)),
        ("metric_name_escaping_scheme", Some(config.metric_name_escaping_scheme.clone())),
    ];
    let mut entries = vec![(text("job_name", true), text(&config.job_name, false))];
    for (key, value) in &in_force {
        if let Some(value) = value {
            entries.push((text(key, true), text(value, true)));
        }
    }
    entries.push((text("scrape_protocols", true), at(yaml::Kind::Sequence(protocols))));
    if let yaml::Kind::Mapping(others) = super::hide_secrets(written, false).kind {
        let known = |key: &str| {
            ["job_name", "scrape_protocols"].contains(&key) || in_force.iter().any(|(name, _)| *name == key)
        };
        entries.extend(others.into_iter().filter(|(key, _)| !known(key.as_str().unwrap_or_default())));
    }
    at(yaml::Kind::Mapping(entries)).to_yaml()
}
