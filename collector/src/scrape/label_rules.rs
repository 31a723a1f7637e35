//! What the labels of a series have to be like to be stored. The texts are what the targets page shows.

use model::{Labels, METRIC_NAME, NameValidation, is_valid_label_name, quote};

use crate::config::ScrapeConfig;

/// Names of a series that the job does not allow.
pub(super) fn check_names(labels: &Labels, names: NameValidation) -> Result<(), String> {
    let metric = labels.metric_name();
    if metric.is_empty() {
        return Err("missing metric name (__name__ label)".into());
    }
    let is_valid = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| is_valid_label_name(name, names));
    let valid = model::is_valid_metric_name(metric, names)
        && labels.iter_bytes().all(|(name, _)| name == METRIC_NAME.as_bytes() || is_valid(name));
    if valid { Ok(()) } else { Err(format!("invalid metric name or label names: {labels}")) }
}

/// Labels of a series that the job's limits do not allow.
pub(super) fn check_limits(labels: &Labels, config: &ScrapeConfig) -> Result<(), String> {
    let limits = &config.limits;
    if limits.labels == 0 && limits.label_name_length == 0 && limits.label_value_length == 0 {
        return Ok(());
    }
    let short = |text: &str| text.chars().take(50).collect::<String>();
    let metric = || short(labels.metric_name());
    let count = labels.len() as u64;
    if limits.labels > 0 && count > limits.labels {
        return Err(format!(
            "label_limit exceeded (metric: {}, number of labels: {count}, limit: {})",
            metric(),
            limits.labels
        ));
    }
    for (name, value) in labels {
        if limits.label_name_length > 0 && name.len() as u64 > limits.label_name_length {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {}, label name: {}, length: {}, limit: {})",
                metric(),
                short(name),
                name.len(),
                limits.label_name_length
            ));
        }
        if limits.label_value_length > 0 && value.len() as u64 > limits.label_value_length {
            return Err(format!(
                "label_value_length_limit exceeded (metric: {}, label name: {}, value: {}, length: {}, limit: {})",
                metric(),
                short(name),
                quote(&short(value)),
                value.len(),
                limits.label_value_length
            ));
        }
    }
    Ok(())
}
