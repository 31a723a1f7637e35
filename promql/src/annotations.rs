//! What a query tells the user beside its result, in Prometheus' words.

use crate::PosRange;
use crate::go_text::format_general;

/// The kinds of annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Warning,
    Info,
}

#[derive(Clone, Debug, PartialEq)]
struct Annotation {
    level: Level,
    text: String,
    pos: PosRange,
    /// Of histograms that had to be made monotonic: what was found over all steps.
    monotonicity: Option<Monotonicity>,
}

/// How far the buckets of classic histograms were from rising.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Monotonicity {
    pub(crate) min_bucket: f64,
    pub(crate) max_bucket: f64,
    pub(crate) max_diff: f64,
    pub(crate) samples: u64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
}

/// Warnings and infos gathered during an evaluation. Of equal texts only the last counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations {
    all: Vec<Annotation>,
}

/// What a histogram operation was done for, as annotations name it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HistogramOp {
    Add,
    Sub,
    Aggregate,
}

impl HistogramOp {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "addition",
            Self::Sub => "subtraction",
            Self::Aggregate => "aggregation",
        }
    }
}

fn for_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {}", model::quote(metric)) }
}

impl Annotations {
    fn push(&mut self, annotation: Annotation) {
        if let Some(known) = self.all.iter_mut().find(|a| a.level == annotation.level && a.text == annotation.text) {
            known.pos = annotation.pos;
            if let (Some(known), Some(new)) = (&mut known.monotonicity, annotation.monotonicity) {
                known.min_bucket = known.min_bucket.min(new.min_bucket);
                known.max_bucket = known.max_bucket.max(new.max_bucket);
                known.max_diff = known.max_diff.max(new.max_diff);
                known.samples += new.samples;
                known.min_time = known.min_time.min(new.min_time);
                known.max_time = known.max_time.max(new.max_time);
            }
            return;
        }
        self.all.push(annotation);
    }

    fn warn(&mut self, text: String, pos: PosRange) {
        self.push(Annotation { level: Level::Warning, text, pos, monotonicity: None });
    }

    fn info(&mut self, text: String, pos: PosRange) {
        self.push(Annotation { level: Level::Info, text, pos, monotonicity: None });
    }

    /// Takes in the annotations of a part of the evaluation.
    pub(crate) fn merge(&mut self, other: Self) {
        for annotation in other.all {
            self.push(annotation);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The final texts: warnings and infos.
    pub(crate) fn into_texts(self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for annotation in self.all {
            let (prefix, list) = match annotation.level {
                Level::Warning => ("PromQL warning", &mut warnings),
                Level::Info => ("PromQL info", &mut infos),
            };
            let mut text = format!("{prefix}: {}", annotation.text);
            if let Some(m) = annotation.monotonicity {
                text += &format!(
                    ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                    format_general(m.min_bucket),
                    format_general(m.max_bucket),
                    two_digits(m.max_diff),
                    m.samples,
                    model::format_rfc3339_millis(m.min_time.div_euclid(1000) * 1000),
                    model::format_rfc3339_millis(m.max_time.div_euclid(1000) * 1000),
                );
            }
            list.push(format!("{text} ({})", annotation.pos.start_in(query)));
        }
        (warnings, infos)
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64, pos: PosRange) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", format_general(q)), pos);
    }

    pub(crate) fn invalid_ratio(&mut self, ratio: f64, capped: f64, pos: PosRange) {
        let (ratio, capped) = (format_general(ratio), format_general(capped));
        self.warn(format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), pos);
    }

    pub(crate) fn bad_bucket_label(&mut self, metric: &str, label: &str, pos: PosRange) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", model::quote(label));
        self.warn(for_metric(&text, metric), pos);
    }

    pub(crate) fn mixed_floats_histograms(&mut self, metric: &str, pos: PosRange) {
        let metric = model::quote(metric);
        self.warn(format!("encountered a mix of histograms and floats for metric name {metric}"), pos);
    }

    pub(crate) fn mixed_floats_histograms_in_aggregation(&mut self, pos: PosRange) {
        self.warn("encountered a mix of histograms and floats for aggregation".to_owned(), pos);
    }

    pub(crate) fn mixed_classic_native(&mut self, metric: &str, pos: PosRange) {
        self.warn(for_metric("vector contains a mix of classic and native histograms", metric), pos);
    }

    pub(crate) fn not_counter(&mut self, metric: &str, pos: PosRange) {
        self.warn(format!("this native histogram metric is not a counter: {}", model::quote(metric)), pos);
    }

    pub(crate) fn not_gauge(&mut self, metric: &str, pos: PosRange) {
        self.warn(format!("this native histogram metric is not a gauge: {}", model::quote(metric)), pos);
    }

    pub(crate) fn mixed_exponential_custom(&mut self, metric: &str, pos: PosRange) {
        let metric = model::quote(metric);
        self.warn(
            format!("vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric}"),
            pos,
        );
    }

    pub(crate) fn incompatible_buckets_in_binary(&mut self, op: &str, pos: PosRange) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {op}"), pos);
    }

    pub(crate) fn counter_reset_collision(&mut self, op: HistogramOp, pos: PosRange) {
        self.warn(format!("conflicting counter resets during histogram {}", op.as_str()), pos);
    }

    pub(crate) fn sort_in_range_query(&mut self, pos: PosRange) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels".to_owned(), pos);
    }

    pub(crate) fn overlapping_start_time(&mut self, metric: &str, pos: PosRange) {
        let metric = model::quote(metric);
        self.warn(
            format!("sample has start time that overlaps with previous sample timestamp for metric {metric}"),
            pos,
        );
    }

    pub(crate) fn possible_non_counter(&mut self, metric: &str, pos: PosRange) {
        let metric = model::quote(metric);
        self.info(
            format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric}"),
            pos,
        );
    }

    pub(crate) fn possible_non_counter_type(&mut self, metric: &str, label: &str, pos: PosRange) {
        let (metric, label) = (model::quote(metric), model::quote(label));
        self.info(
            format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {label}: {metric}"
            ),
            pos,
        );
    }

    pub(crate) fn forced_monotonicity(&mut self, metric: &str, found: Monotonicity, pos: PosRange) {
        let text = for_metric(
            "input to histogram_quantile needed to be fixed for monotonicity \
             (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
            metric,
        );
        self.push(Annotation { level: Level::Info, text, pos, monotonicity: Some(found) });
    }

    pub(crate) fn incompatible_types_in_binary(&mut self, left: &str, op: &str, right: &str, pos: PosRange) {
        self.info(
            format!("incompatible sample types encountered for binary operator \"{op}\": {left} {op} {right}"),
            pos,
        );
    }

    pub(crate) fn histogram_ignored_in_aggregation(&mut self, op: &str, pos: PosRange) {
        self.info(format!("ignored histogram in {op} aggregation"), pos);
    }

    pub(crate) fn histogram_ignored_in_mixed_range(&mut self, metric: &str, pos: PosRange) {
        let metric = model::quote(metric);
        self.info(
            format!("ignored histograms in a range containing both floats and histograms for metric name {metric}"),
            pos,
        );
    }

    pub(crate) fn quantile_of_nans(&mut self, metric: &str, pos: PosRange) {
        self.info(for_metric("input to histogram_quantile has NaN observations, result is NaN", metric), pos);
    }

    pub(crate) fn quantile_skewed_by_nans(&mut self, metric: &str, pos: PosRange) {
        self.info(for_metric("input to histogram_quantile has NaN observations, result is skewed higher", metric), pos);
    }

    pub(crate) fn fraction_of_nans(&mut self, metric: &str, pos: PosRange) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(for_metric(text, metric), pos);
    }

    pub(crate) fn custom_buckets_reconciled(&mut self, op: HistogramOp, pos: PosRange) {
        self.info(format!("mismatched custom buckets were reconciled during {}", op.as_str()), pos);
    }
}

/// Go's `%.2g`.
fn two_digits(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_general(value);
    }
    let text = format!("{value:.1e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..2).contains(&exponent) {
        let decimals = usize::try_from(1 - exponent).unwrap_or(0);
        let plain = format!("{value:.decimals$}");
        if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.').to_owned() } else { plain }
    } else {
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_count_once_and_monotonicity_is_gathered() {
        let mut annotations = Annotations::default();
        let pos = PosRange::new(3, 4);
        annotations.not_gauge("m", pos);
        annotations.not_gauge("m", PosRange::new(7, 8));
        for (bucket, time) in [(2.5, 1_703_462_400_000), (10.0, 1_735_084_800_000)] {
            let found = Monotonicity {
                min_bucket: bucket,
                max_bucket: bucket * 10.0,
                max_diff: bucket,
                samples: 1,
                min_time: time,
                max_time: time,
            };
            annotations.forced_monotonicity("series_1", found, pos);
        }
        let (warnings, infos) = annotations.into_texts("lorem ipsum");
        assert_eq!(warnings, ["PromQL warning: this native histogram metric is not a gauge: \"m\" (1:8)"]);
        assert!(infos[0].ends_with(
            "for metric name \"series_1\", from buckets 2.5 to 100, with a max diff of 10, over 2 samples \
             from 2023-12-25T00:00:00Z to 2024-12-25T00:00:00Z (1:4)"
        ));
    }

    #[test]
    fn two_digits_are_gos() {
        for (value, text) in [(10.0, "10"), (7.5, "7.5"), (0.123, "0.12"), (123.0, "1.2e+02"), (0.00001, "1e-05")] {
            assert_eq!(two_digits(value), text);
        }
    }
}
