use std::borrow::Cow;
use std::time::Duration;

use common::exposition::SeriesLabels;
use model::{BUCKET_LABEL, INSTANCE, JOB, Labels, MetricType, QUANTILE_LABEL, Timestamp, quote};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

use super::target_metadata::TargetMetadata;
use crate::config::{ScrapeConfig, TargetGroup};
use crate::relabel;

/// The label of a target's address.
pub const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";

/// What Go escapes in the path of a URL; a question mark there begins no parameters.
const OUTSIDE_PATHS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// Something that is scraped: labels, address and times, settled by relabelling.
#[derive(Debug)]
pub struct Target {
    /// Labels as discovered, before relabelling.
    pub discovered: Labels,
    /// Labels that every series of the target gets.
    pub labels: Labels,
    /// The page's address.
    pub url: String,
    /// Time between scrapes.
    pub interval: model::Duration,
    /// Time a scrape may take.
    pub timeout: model::Duration,
    /// Interval and timeout as they were written.
    pub times: [Box<str>; 2],
    /// What its page says about metric families.
    pub metadata: TargetMetadata,
    /// How the last scrape went.
    pub status: Mutex<TargetStatus>,
}

/// How the last scrape of a target went.
#[derive(Clone, Debug, Default)]
pub struct TargetStatus {
    /// Whether it can be scraped; `None` before the first scrape.
    pub up: Option<bool>,
    /// Why the last scrape failed, empty if it did not.
    pub last_error: String,
    /// When the last scrape started; 0 before the first.
    pub last_scrape: Timestamp,
    /// How long the last scrape took.
    pub last_duration: Duration,
}

impl TargetStatus {
    /// `up`, `down` or `unknown`, as the API has it.
    pub fn health(&self) -> &'static str {
        match self.up {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        }
    }
}

/// What relabelling made of a discovered target.
#[derive(Debug)]
pub enum Settled {
    /// It is scraped.
    Kept(Box<Target>),
    /// A rule dropped it: its labels as discovered.
    Dropped(Labels),
}

impl Target {
    /// A number that is the same for the same target in every run: what spreads scrapes over the interval.
    pub fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(self.url.as_bytes(), self.labels.hash64())
    }
}

/// Settles the targets of a group.
///
/// Targets that make no sense after relabelling are given as errors with the index of the target.
pub fn settle(group: &TargetGroup, config: &ScrapeConfig) -> Vec<Result<Settled, String>> {
    group
        .targets
        .iter()
        .enumerate()
        .map(|(at, target)| {
            settle_one(target, &group.labels, config)
                .map_err(|e| format!("instance {at} in group {}: {e}", group.source))
        })
        .collect()
}

fn settle_one(target: &Labels, group: &Labels, config: &ScrapeConfig) -> Result<Settled, String> {
    let mut labels = target.to_builder();
    for (name, value) in group {
        labels.set_missing(name, value);
    }
    let defaults = [
        (JOB, config.job_name.clone()),
        (SCRAPE_INTERVAL, config.scrape_interval.to_string()),
        (SCRAPE_TIMEOUT, config.scrape_timeout.to_string()),
        (METRICS_PATH, config.metrics_path.clone()),
        (SCHEME, config.scheme.clone()),
    ];
    for (name, value) in &defaults {
        labels.set_missing(name, value);
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            labels.set_missing(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    let discovered = labels.build();
    if !relabel::apply(&mut labels, &config.relabel_configs, config.metric_name_validation_scheme) {
        return Ok(Settled::Dropped(discovered));
    }
    let address = labels.get(ADDRESS).to_owned();
    if address.is_empty() {
        return Err("no address".into());
    }
    if address.contains('/') {
        return Err(format!("{} is not a valid hostname", quote(&address)));
    }
    let time = |name: &str, what: &str| -> Result<model::Duration, String> {
        let time: model::Duration =
            labels.get(name).parse().map_err(|e| format!("error parsing scrape {what}: {e}"))?;
        if time.is_zero() { Err(format!("scrape {what} cannot be 0")) } else { Ok(time) }
    };
    let (interval, timeout) = (time(SCRAPE_INTERVAL, "interval")?, time(SCRAPE_TIMEOUT, "timeout")?);
    if timeout > interval {
        return Err(format!("scrape timeout cannot be greater than scrape interval (\"{timeout}\" > \"{interval}\")"));
    }
    let times = [SCRAPE_INTERVAL, SCRAPE_TIMEOUT].map(|name| labels.get(name).into());
    let url = url_of(&labels.build(), config);
    labels.retain(|name, _| !name.starts_with(META_PREFIX));
    labels.set_missing(INSTANCE, &address);
    let labels = labels.build().filter(|name| !name.starts_with("__"));
    Ok(Settled::Kept(Box::new(Target {
        discovered,
        labels,
        url,
        interval,
        timeout,
        times,
        metadata: TargetMetadata::default(),
        status: Mutex::default(),
    })))
}

fn url_of(labels: &Labels, config: &ScrapeConfig) -> String {
    let mut params = config.params.clone();
    for (name, value) in labels {
        if let Some(param) = name.strip_prefix(PARAM_PREFIX) {
            let values = params.entry(param.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    let path = labels.value(METRICS_PATH);
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let path = utf8_percent_encode(path, OUTSIDE_PATHS);
    let mut url = format!("{}://{}{slash}{path}", labels.value(SCHEME), labels.value(ADDRESS));
    if !params.is_empty() {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, values) in &params {
            for value in values {
                query.append_pair(name, value);
            }
        }
        url.push('?');
        url.push_str(&query.finish());
    }
    url
}

/// How page labels and target labels become series labels.
#[derive(Clone, Debug)]
pub(super) struct LabelMerge {
    target: Labels,
    honor: bool,
}

impl LabelMerge {
    pub(super) fn new(target: &Labels, honor: bool) -> Self {
        Self { target: target.clone(), honor }
    }

    /// What a page's series below a `# TYPE` line is stored under, in one go. `None` if there is anything to it: a fault, a label twice, on
    /// both sides or empty, a number that is to be written anew.
    pub(super) fn simple(&self, series: &[u8], metric_type: MetricType) -> Option<Labels> {
        let number = match metric_type {
            MetricType::Histogram => BUCKET_LABEL,
            MetricType::Summary => QUANTILE_LABEL,
            _ => "",
        };
        let mut labels = Vec::with_capacity(16);
        for label in SeriesLabels::new(series).ok()? {
            let (name, value) = label.ok()?;
            if value.is_empty() || name == number {
                return None;
            }
            labels.push((name, value));
        }
        labels.extend(self.target.iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))));
        labels.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let twice = labels.windows(2).any(|two| two[0].0 == two[1].0);
        (!self.honor && !twice).then(|| Labels::from_sorted(labels.iter().map(|(name, value)| (&**name, &**value))))
    }

    /// What [`LabelMerge::merge`] makes, if no label is on both sides and none can be.
    pub(super) fn join(&self, page: &Labels) -> Option<Labels> {
        if self.honor { None } else { self.target.join(page) }
    }

    /// Labels of a page's series with those of the target: where both have one, the target's wins and the page's gets the
    /// prefix `exported_`, or with `honor_labels` the page's wins. A label that the page gives an empty value is one of the page
    /// for `honor_labels` (the series has none then, as the pushgateway wants it); `is_blank` knows these.
    pub(super) fn merge(&self, page: &Labels, is_blank: impl Fn(&str) -> bool) -> model::LabelsBuilder {
        let mut labels = page.to_builder();
        for (name, value) in &self.target {
            let own = labels.get(name).to_owned();
            if self.honor {
                if own.is_empty() && !is_blank(name) {
                    labels.set(name, value);
                }
                continue;
            }
            if !own.is_empty() {
                let mut renamed = format!("exported_{name}");
                while !labels.get(&renamed).is_empty() || self.target.get(&renamed).is_some() {
                    renamed.insert_str(0, "exported_");
                }
                labels.set(&renamed, &own);
            }
            labels.set(name, value);
        }
        labels
    }

    /// Labels of a series about the scrape itself.
    pub(super) fn report(&self, metric: &str) -> Labels {
        self.target.to_builder().set(model::METRIC_NAME, metric).build()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::{Config, DiscoveryConfig, LoadOptions};

    fn settle_text(job: &str) -> Vec<Result<Settled, String>> {
        let text = format!("scrape_configs:\n- {}", job.replace('\n', "\n  "));
        let config = Config::parse(&text, Path::new("p"), PathBuf::new(), LoadOptions::default()).unwrap();
        let job = &config.scrape_configs[0];
        let DiscoveryConfig::Static(groups) = &job.discovery[0] else { panic!("static targets") };
        groups.iter().flat_map(|g| settle(g, job)).collect()
    }

    fn kept(job: &str) -> Target {
        match settle_text(job).remove(0) {
            Ok(Settled::Kept(target)) => *target,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn targets_get_job_instance_and_url() {
        let target = kept(
            "job_name: j\nmetrics_path: /m\nparams: {a: [x y, z]}\nstatic_configs: [{targets: ['h:1'], labels: {zone: a}}]",
        );
        assert_eq!(target.labels.to_string(), r#"{instance="h:1", job="j", zone="a"}"#);
        assert_eq!(target.url, "http://h:1/m?a=x+y&a=z");
        assert_eq!(target.interval.to_string(), "1m");
        let target = kept(
            "job_name: j\nmetrics_path: 'm?a=b c'\nparams: {p: [x, y]}\nstatic_configs: [{targets: ['h:1'], labels: {__param_p: z, __scrape_interval__: 90m}}]",
        );
        assert_eq!((target.url.as_str(), &*target.times[0]), ("http://h:1/m%3Fa=b%20c?p=z&p=y", "90m"));
        assert_eq!(target.discovered.value("__scrape_timeout__"), "10s");
    }

    #[test]
    fn labels_in_one_go_are_those_of_the_longer_way() {
        use MetricType::{Counter, Histogram, Summary};
        let target = Labels::from_pairs([("instance", "h:1"), ("job", "j"), ("zone", "a")]);
        let check = |series: &str, metric_type, honor, is_simple: bool| {
            let merge = LabelMerge::new(&target, honor);
            let simple = merge.simple(series.as_bytes(), metric_type);
            assert_eq!(simple.is_some(), is_simple, "{series}");
            if let Some(labels) = simple {
                let page = common::exposition::labels_of_typed(series.as_bytes(), metric_type).unwrap();
                assert_eq!(labels, merge.merge(&page, |_| false).build(), "{series}");
                assert_eq!(Some(labels), merge.join(&page));
            }
        };
        for simple in ["up", "up{}", r#"m{z="1",a="2",le="1"}"#, r#"{"a.b",y="x\\\"\n",k="é"}"#, r#"{a="1"}"#, ""] {
            check(simple, Counter, false, !simple.is_empty());
            check(simple, Counter, true, false);
        }
        check(r#"m{le="1"}"#, Histogram, false, false);
        check(r#"m{quantile="1"}"#, Histogram, false, true);
        check(r#"m{quantile="1"}"#, Summary, false, false);
        for odd in [r#"m{a=""}"#, r#"m{a="1",a="1"}"#, r#"m{job="x"}"#, r#"m{a="1"#, r#"m{__name__="x"}"#] {
            check(odd, Counter, false, false);
        }
    }

    #[test]
    fn relabelling_moves_and_drops_targets() {
        let target = kept(
            "job_name: j\nstatic_configs: [{targets: ['h:1']}]\nrelabel_configs:\n- {source_labels: [__address__], target_label: __param_target}\n- {source_labels: [__param_target], target_label: instance}\n- {target_label: __address__, replacement: 'b:9115'}\n- {target_label: __scrape_interval__, replacement: 20s}",
        );
        assert_eq!(target.url, "http://b:9115/metrics?target=h%3A1");
        assert_eq!((target.labels.value("instance"), target.interval.millis()), ("h:1", 20_000));
        let dropped = settle_text(
            "job_name: j\nstatic_configs: [{targets: ['h:1']}]\nrelabel_configs: [{source_labels: [job], regex: j, action: drop}]",
        )
        .remove(0);
        assert!(matches!(dropped, Ok(Settled::Dropped(_))));
    }

    #[test]
    fn senseless_targets_are_errors() {
        for (rule, expected) in [
            ("{target_label: __address__, replacement: ''}", "no address"),
            ("{target_label: __scrape_interval__, replacement: x}", "error parsing scrape interval"),
            (
                "{target_label: __scrape_timeout__, replacement: 2m}",
                "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")",
            ),
            ("{target_label: __scrape_timeout__, replacement: 0s}", "scrape timeout cannot be 0"),
        ] {
            let job = format!("job_name: j\nstatic_configs: [{{targets: ['h:1']}}]\nrelabel_configs: [{rule}]");
            let result = settle_text(&job).remove(0);
            assert!(result.as_ref().is_err_and(|e| e.contains(expected)), "{rule}: {result:?}");
        }
    }

    #[test]
    fn conflicting_labels_are_renamed_or_honoured() {
        let target = Labels::from_pairs([("job", "t"), ("instance", "i")]);
        let page = Labels::from_pairs([("__name__", "m"), ("job", "p"), ("exported_job", "q")]);
        let merged = LabelMerge::new(&target, false).merge(&page, |_| true).build();
        assert_eq!(
            merged.to_string(),
            r#"{__name__="m", exported_exported_job="p", exported_job="q", instance="i", job="t"}"#
        );
        let honoured = LabelMerge::new(&target, true).merge(&page, |_| false).build();
        assert_eq!(honoured.to_string(), r#"{__name__="m", exported_job="q", instance="i", job="p"}"#);
        let blank = LabelMerge::new(&target, true).merge(&page, |name| name == "instance").build();
        assert_eq!(blank.to_string(), r#"{__name__="m", exported_job="q", job="p"}"#);
        // what is not on both sides is joined at once
        for honor in [false, true] {
            assert_eq!(LabelMerge::new(&target, honor).join(&page), None);
        }
        for pairs in [&[][..], &[("__name__", "m")], &[("__name__", "m"), ("a", "1"), ("iz", "2"), ("z", "3")]] {
            let (page, merge) = (Labels::from_pairs(pairs.iter().copied()), LabelMerge::new(&target, false));
            assert_eq!(merge.join(&page), Some(merge.merge(&page, |_| false).build()));
            assert_eq!(LabelMerge::new(&target, true).join(&page), None, "the page may say that a label is blank");
        }
    }
}
