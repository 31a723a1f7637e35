use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use common::exposition::{Entry, SeriesLabels, text};
use common::metrics::{ClassicBucket, HistogramValue, Page, Quantile, SummaryValue};
use model::{BUCKET_LABEL, METRIC_NAME, MetricType, QUANTILE_LABEL};

use super::glob::glob;
use crate::collector::{Collector, CollectorError, Registration};
use crate::options::{Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "textfile",
    default: true,
    flags: &[Flag::repeated(
        "collector.textfile.directory",
        "Directory to read text files with metrics from, supports glob matching. (repeatable)",
    )],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Textfile { patterns: settings.texts("collector.textfile.directory") }))
}

struct Textfile {
    patterns: Vec<String>,
}

type LabelPairs = Vec<(String, String)>;

/// A family of one file.
#[derive(Debug, Default)]
struct Family {
    help: Option<String>,
    metric_type: MetricType,
    typed: bool,
    floats: Vec<(LabelPairs, f64)>,
    histograms: BTreeMap<LabelPairs, HistogramValue>,
    summaries: BTreeMap<LabelPairs, SummaryValue>,
}

impl Collector for Textfile {
    /// One bad file is reported and left out, and never hides the others.
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let mut failed = false;
        let mut families: Vec<(String, Family)> = Vec::new();
        let mut files_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut help_of: BTreeMap<String, String> = BTreeMap::new();
        let mut times: BTreeMap<String, f64> = BTreeMap::new();
        for pattern in &self.patterns {
            let folders = match glob(pattern) {
                found if found.is_empty() => vec![PathBuf::from(pattern)],
                found => found,
            };
            for folder in folders {
                let Ok(files) = crate::files::names(&folder) else {
                    if !folder.as_os_str().is_empty() {
                        failed = true;
                        tracing::error!(path = %folder.display(), "failed to read textfile collector directory");
                    }
                    continue;
                };
                for path in files.iter().filter(|f| f.ends_with(".prom")).map(|f| folder.join(f)) {
                    let shown = path.display().to_string();
                    let (time, found) = match read(&path) {
                        Ok(read) => read,
                        Err(reason) => {
                            failed = true;
                            tracing::error!(file = shown, err = reason, "failed to collect textfile data");
                            continue;
                        }
                    };
                    times.insert(shown.clone(), time);
                    for (name, family) in found {
                        let help = family.help.as_ref().filter(|h| !h.is_empty());
                        match (help_of.get(&name), &family.help) {
                            (Some(known), Some(help)) if known != help => {
                                failed = true;
                                tracing::error!(
                                    metric = name,
                                    file = shown,
                                    "inconsistent metric help text, the family is left out"
                                );
                                continue;
                            }
                            _ => {}
                        }
                        if let Some(help) = help {
                            help_of.insert(name.clone(), help.clone());
                        }
                        files_of.entry(name.clone()).or_default().push(shown.clone());
                        families.push((name, family));
                    }
                }
            }
        }
        for (name, family) in families {
            let read_from =
                || format!("Metric read from {}", files_of.get(&name).map_or(String::new(), |f| f.join(", ")));
            let help = help_of.get(&name).cloned().unwrap_or_else(read_from);
            family.show(page, &name, &help);
        }
        let help = "Unixtime mtime of textfiles successfully read.";
        let mtime = page.family("node_textfile_mtime_seconds", help, MetricType::Gauge);
        for (file, time) in &times {
            page.sample(mtime, &[("file", file)], *time);
        }
        let help = "1 if there was an error opening or reading a file, 0 otherwise";
        page.gauge("node_textfile_scrape_error", help, &[], f64::from(u8::from(failed)));
        Ok(())
    }
}

/// A file's time and families, in the order they begin.
fn read(path: &Path) -> Result<(f64, Vec<(String, Family)>), String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut parser = text::Parser::new(&bytes);
    let mut families: Vec<(String, Family)> = Vec::new();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(entry) = parser.next_entry().map_err(|e| e.to_string())? {
        let mut family = |name: &str| {
            *at.entry(name.to_owned()).or_insert_with(|| {
                families.push((name.to_owned(), Family::default()));
                families.len() - 1
            })
        };
        match entry {
            Entry::Help { family: name, help } => {
                let index = family(&name);
                if families[index].1.help.replace(help.into_owned()).is_some() {
                    return Err(format!("second HELP line for metric name {name:?}"));
                }
            }
            Entry::Type { family: name, metric_type } => {
                let index = family(&name);
                let known = &mut families[index].1;
                if known.typed || !known.floats.is_empty() {
                    return Err(format!("second TYPE line for metric name {name:?}, or TYPE reported after samples"));
                }
                (known.typed, known.metric_type) = (true, metric_type);
            }
            Entry::Sample(sample) => {
                if sample.timestamp.is_some() {
                    return Err("textfile contains unsupported client-side timestamps, skipping entire file".to_owned());
                }
                let mut labels = LabelPairs::new();
                let mut name = String::new();
                for pair in SeriesLabels::new(sample.series).map_err(|e| e.to_string())? {
                    let (label, value) = pair.map_err(|e| e.to_string())?;
                    if label == METRIC_NAME {
                        name = value.into_owned();
                    } else {
                        labels.push((label.into_owned(), value.into_owned()));
                    }
                }
                labels.sort_unstable();
                // `_bucket`, `_sum` and `_count` belong to a histogram or summary that was announced
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
                    let base = name.strip_suffix(suffix)?;
                    let kind = at.get(base).map(|at| families[*at].1.metric_type)?;
                    let fits = kind == MetricType::Histogram || (kind == MetricType::Summary && *suffix != "_bucket");
                    fits.then(|| (base.to_owned(), *suffix))
                });
                let (base, suffix) = base.unwrap_or((name, ""));
                let index = *at.entry(base.clone()).or_insert_with(|| {
                    families.push((base, Family::default()));
                    families.len() - 1
                });
                families[index].1.add(suffix, labels, sample.value)?;
            }
            Entry::Unit { .. } | Entry::Comment(_) | Entry::Histogram(_) => {}
        }
    }
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).map_err(|e| e.to_string())?;
    let time = modified.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    families.retain(|(_, f)| !(f.floats.is_empty() && f.histograms.is_empty() && f.summaries.is_empty()));
    Ok((time, families))
}

impl Family {
    fn add(&mut self, suffix: &str, mut labels: LabelPairs, value: f64) -> Result<(), String> {
        let mut take = |name: &str| {
            let at = labels.iter().position(|(n, _)| n == name)?;
            common::exposition::parse_value(labels.remove(at).1.as_bytes())
        };
        match self.metric_type {
            MetricType::Histogram => {
                let bound = if suffix == "_bucket" { take(BUCKET_LABEL) } else { None };
                let histogram = self.histograms.entry(labels).or_default();
                match (suffix, bound) {
                    ("_bucket", Some(upper_bound)) => {
                        let bucket = ClassicBucket { upper_bound, cumulative_count: value as u64, exemplar: None };
                        histogram.buckets.push(bucket);
                    }
                    ("_sum", _) => histogram.sum = value,
                    ("_count", _) => histogram.count = value as u64,
                    _ => return Err("a histogram's bucket has no bound".to_owned()),
                }
            }
            MetricType::Summary => {
                let quantile = if suffix.is_empty() { take(QUANTILE_LABEL) } else { None };
                let summary = self.summaries.entry(labels).or_default();
                match (suffix, quantile) {
                    ("", Some(quantile)) => summary.quantiles.push(Quantile { quantile, value }),
                    ("_sum", _) => summary.sum = value,
                    ("_count", _) => summary.count = value as u64,
                    _ => return Err("a summary's sample has no quantile".to_owned()),
                }
            }
            _ => self.floats.push((labels, value)),
        }
        Ok(())
    }

    /// Every sample of a family gets every label of it: those it lacks are empty.
    fn show(self, page: &mut Page, name: &str, help: &str) {
        let all = self.floats.iter().map(|(l, _)| l).chain(self.histograms.keys()).chain(self.summaries.keys());
        let names: BTreeSet<String> = all.flatten().map(|(name, _)| name.clone()).collect();
        let filled = |labels: &LabelPairs| -> Vec<(String, String)> {
            let value =
                |name: &String| labels.iter().find(|(n, _)| n == name).map_or(String::new(), |(_, v)| v.clone());
            names.iter().map(|name| (name.clone(), value(name))).collect()
        };
        let id = page.family(name, help, self.metric_type);
        for (labels, value) in &self.floats {
            let labels = filled(labels);
            let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            page.sample(id, &labels, *value);
        }
        for (labels, mut value) in self.histograms {
            value.buckets.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound));
            let labels = filled(&labels);
            let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            page.histogram(id, &labels, value);
        }
        for (labels, mut value) in self.summaries {
            value.quantiles.sort_by(|a, b| a.quantile.total_cmp(&b.quantile));
            let labels = filled(&labels);
            let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            page.summary(id, &labels, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{paths, samples};

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let files: Vec<(String, &str)> = files.iter().map(|(name, text)| (format!("root/{name}"), *text)).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let (folder, _paths) = paths(&files);
        let collector = Textfile { patterns: vec![folder.path().join("root").display().to_string()] };
        let (lines, result) = samples(&collector);
        assert_eq!(result, Ok(()));
        let lines: Vec<_> = lines.iter().filter(|l| !l.starts_with("node_textfile_mtime")).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn files_are_merged_and_labels_filled_up() {
        check(
            &[
                ("a.prom", "# TYPE m counter\nm{a=\"1\"} 1\n"),
                ("b.prom", "# TYPE m counter\nm{a=\"2\"} 2\nm{b=\"3\"} 3\n"),
                ("c.txt", "ignored 1\n"),
            ],
            &["m{a=\"\",b=\"3\"} 3", "m{a=\"1\"} 1", "m{a=\"2\",b=\"\"} 2", "node_textfile_scrape_error 0"],
        );
    }

    #[test]
    fn a_bad_file_does_not_hide_the_others() {
        for bad in
            ["m 1 1234\n", "m{ 1\n", "# TYPE m counter\n# TYPE m gauge\nm 1\n", "# HELP good other\ngood{a=\"b\"} 1\n"]
        {
            check(
                &[("a.prom", "# HELP good help\ngood 1\n"), ("b.prom", bad)],
                &["good 1", "node_textfile_scrape_error 1"],
            );
        }
    }

    #[test]
    fn histograms_and_summaries_are_kept() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n# TYPE s \
                    summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n";
        check(
            &[("a.prom", text)],
            &[
                "h_bucket{le=\"1\"} 2",
                "h_bucket{le=\"+Inf\"} 3",
                "h_sum 4",
                "h_count 3",
                "node_textfile_scrape_error 0",
                "s{quantile=\"0.5\"} 1",
                "s_sum 2",
                "s_count 3",
            ],
        );
    }
}
