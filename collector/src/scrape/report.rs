//! The series about the scrape itself: `up` and its kin.

use std::time::Duration;

use tsdb::SeriesRef;

use super::scrape_row::ScrapeRow;
use super::target::{LabelMerge, Target};
use crate::config::ScrapeConfig;
use crate::storage::Batch;

const SERIES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
const EXTRA: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

/// How a scrape went.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) up: bool,
    pub(super) duration: Duration,
    /// Samples on the page, samples after relabelling, series that are new.
    pub(super) counts: (usize, usize, usize),
    /// Bytes of the page; -1 when it was too large, `None` when there was none.
    pub(super) body_size: Option<f64>,
}

/// References of a target's report series.
#[derive(Debug, Default)]
pub(super) struct ReportSeries {
    refs: Vec<SeriesRef>,
}

impl ReportSeries {
    /// Adds what there is to say about a scrape to its row.
    pub(super) fn add(
        &mut self,
        row: &mut ScrapeRow,
        batch: &mut Batch,
        merge: &LabelMerge,
        config: &ScrapeConfig,
        target: &Target,
        report: &Report,
    ) {
        let extra: &[&str] = if config.extra_scrape_metrics { &EXTRA } else { &[] };
        if self.refs.is_empty() {
            let series: Result<Vec<_>, _> =
                SERIES.iter().chain(extra).map(|name| batch.series(&merge.report(name))).collect();
            match series {
                Ok(refs) => self.refs = refs,
                Err(error) => {
                    tracing::error!(%error, "cannot create the series about a scrape");
                    return;
                }
            }
        }
        let (scraped, kept, new) = report.counts;
        let values = [
            f64::from(u8::from(report.up)),
            report.duration.as_secs_f64(),
            scraped as f64,
            kept as f64,
            new as f64,
            target.timeout.as_secs_f64(),
            config.limits.samples as f64,
            report.body_size.unwrap_or(0.0),
        ];
        self.refs.iter().zip(values).for_each(|(series, value)| row.push(*series, value));
    }

    /// The series.
    pub(super) fn series(&self) -> impl Iterator<Item = SeriesRef> {
        self.refs.iter().copied()
    }
}
