//! From a page to stored samples: one commit a scrape, whole or not at all.

use std::sync::Arc;
use std::time::Instant;

use common::exposition::{
    Entry, FormatKind, HistogramEntry, NhcbConverter, ParseError, ParseOptions, RawExemplar, Sample, SeriesLabels,
    labels_of_exemplar, labels_of_typed,
};
use common::exposition::{openmetrics, protobuf, text};
use common::metrics::NativeHistogram;
use model::{HistogramError, Labels, MetricType, Timestamp};
use tsdb::{Exemplar, HistogramSample, SeriesRef};

use super::bucket_limits;
use super::fetch::{FetchError, Page};
use super::label_rules::{check_limits, check_names};
use super::metadata_labels::MetadataLabels;
use super::page_cache::{Cursor, Finder, Line, PageCache};
use super::page_changes::{Changes, NextCache};
use super::page_parser::PageParser;
use super::pool::ScrapeOptions;
use super::report::{Report, ReportSeries};
use super::scrape_row::ScrapeRow;
use super::start_times::{PageZeros, ZeroSamples};
use super::target::{LabelMerge, Target};
use crate::config::ScrapeConfig;
use crate::relabel;
use crate::storage::{Batch, NotReady, Refusals, Store};

/// Samples may be this far ahead of the clock.
const MAX_AHEAD_MILLIS: i64 = 10 * 60 * 1000;

/// Why a page that was fetched is not stored. The texts are what the targets page shows.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The page could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The page is not well-formed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// More samples than allowed.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// A native histogram has more buckets than allowed.
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// A series breaks a rule for names or labels.
    #[error("{0}")]
    Labels(String),
    /// A native histogram contradicts itself.
    #[error("{0}")]
    Histogram(#[from] HistogramError),
    /// The store did not take it.
    #[error("storage: {0}")]
    Storage(String),
    /// The store does not take anything yet.
    #[error("storage: {0}")]
    NotReady(#[from] NotReady),
}

/// What a target's scrapes leave behind for the next one.
#[derive(Debug)]
pub(super) struct Ingest {
    config: Arc<ScrapeConfig>,
    target: Arc<Target>,
    merge: LabelMerge,
    cache: PageCache,
    /// Whether the series of the cache have been marked as ended.
    ended: bool,
    reports: ReportSeries,
    options: ScrapeOptions,
    zeros: ZeroSamples,
}

/// Counts of one page.
#[derive(Debug, Default)]
struct Counts {
    /// Samples on the page.
    scraped: usize,
    /// Samples that relabelling leaves.
    kept: usize,
    /// Samples that the limit counts: repeated ones are not among them.
    stored: u64,
    /// Series that are new.
    new: usize,
}

impl Ingest {
    pub(super) fn new(config: Arc<ScrapeConfig>, target: Arc<Target>, options: ScrapeOptions) -> Self {
        let merge = LabelMerge::new(&target.labels, config.honor_labels);
        let (cache, reports) = (PageCache::default(), ReportSeries::default());
        Self { config, target, merge, cache, ended: true, reports, options, zeros: ZeroSamples::default() }
    }

    /// Stores a page, or the fact that there is none, with the series about the scrape itself.
    pub(super) fn scrape(
        &mut self,
        store: &Store,
        time: Timestamp,
        started: Instant,
        fetched: Result<Page, FetchError>,
    ) -> (Result<(), IngestError>, Refusals) {
        let body_size = fetched.as_ref().ok().map(|page| page.body.len());
        let stored = match fetched {
            Ok(page) => self.page(store, time, started, &page),
            Err(error) => Err((error.into(), Counts::default())),
        };
        match stored {
            Ok(refusals) => (Ok(()), refusals),
            Err((error, counts)) => {
                let too_large = matches!(error, IngestError::Fetch(FetchError::TooLarge));
                let report = Report {
                    up: false,
                    duration: started.elapsed(),
                    counts: (counts.scraped, counts.kept, counts.new),
                    body_size: if too_large { Some(-1.0) } else { body_size.map(|b| b as f64) },
                };
                let mut batch = match store.batch() {
                    Ok(batch) => batch,
                    Err(fault) => return (Err(fault.into()), Refusals::default()),
                };
                let mut row = ScrapeRow::default();
                self.mark_ended(&mut row);
                self.reports.add(&mut row, &mut batch, &self.merge, &self.config, &self.target, &report);
                row.store(&mut batch, time);
                match batch.commit() {
                    Ok(refusals) => (Err(error), refusals),
                    Err(fault) => (Err(IngestError::Storage(fault)), Refusals::default()),
                }
            }
        }
    }

    /// Marks all series of the target as ended at `time`: it is gone.
    pub(super) fn end(&mut self, store: &Store, time: Timestamp) -> Result<(), IngestError> {
        let mut batch = store.batch()?;
        let mut row = ScrapeRow::default();
        self.mark_ended(&mut row);
        row.end(self.reports.series());
        row.store(&mut batch, time);
        batch.commit().map(|_| ()).map_err(IngestError::Storage)
    }

    fn mark_ended(&mut self, row: &mut ScrapeRow) {
        if !std::mem::replace(&mut self.ended, true) {
            let track = self.config.track_timestamps_staleness;
            row.end(self.cache.lines().filter_map(|line| line.series(track)));
        }
    }

    fn page(
        &mut self,
        store: &Store,
        time: Timestamp,
        started: Instant,
        page: &Page,
    ) -> Result<Refusals, (IngestError, Counts)> {
        let mut batch = store.batch().map_err(|e| (e.into(), Counts::default()))?;
        let mut cache = std::mem::take(&mut self.cache);
        let options = ParseOptions {
            classic_histograms: self.config.always_scrape_classic_histograms,
            ignore_native_histograms: !self.config.scrape_native_histograms,
        };
        let mut reading = Reading {
            config: &self.config,
            target: &self.target,
            merge: &self.merge,
            time,
            batch: &mut batch,
            row: ScrapeRow::with_capacity(cache.len()),
            counts: Counts::default(),
            finder: Finder::new(&cache),
            cache: &cache,
            cursor: Cursor::new(&cache),
            changes: None,
            converter: self.config.convert_classic_histograms_to_nhcb.then(|| NhcbConverter::new(page.format)),
            is_new: false,
            metric_type: MetricType::Unknown,
            exceeded: None,
            metadata_labels: self.options.type_and_unit_labels.then(MetadataLabels::default),
            zeros: self.options.start_times.wanted().then(|| self.zeros.of_page(self.options.start_times)),
        };
        let read = match page.format {
            FormatKind::Text0_0_4 | FormatKind::Text1_0_0 => reading.run(&mut text::Parser::new(&page.body)),
            FormatKind::OpenMetrics0_0_1 | FormatKind::OpenMetrics1_0_0 if reading.zeros.is_some() => {
                reading.run(&mut openmetrics::CreatedParser::new(&page.body))
            }
            FormatKind::OpenMetrics0_0_1 | FormatKind::OpenMetrics1_0_0 => {
                reading.run(&mut openmetrics::Parser::new(&page.body))
            }
            FormatKind::Protobuf => reading.run(&mut protobuf::Parser::new(&page.body, options)),
        };
        let Reading { mut row, counts, changes, zeros, .. } = reading;
        let tried = zeros.map(PageZeros::tried);
        if let Err(error) = read {
            self.cache = cache;
            return Err((error, counts));
        }
        let changed = changes.map(|mut changes| {
            if !self.ended {
                row.end(changes.ended());
            }
            changes.finish()
        });
        self.cache = match changed {
            Some(NextCache::New(cache)) => cache,
            Some(NextCache::Changed(edits)) => {
                cache.edit(&edits);
                cache
            }
            None => cache,
        };
        let report = Report {
            up: true,
            duration: started.elapsed(),
            counts: (counts.scraped, counts.kept, counts.new),
            body_size: Some(page.body.len() as f64),
        };
        self.reports.add(&mut row, &mut batch, &self.merge, &self.config, &self.target, &report);
        row.store(&mut batch, time);
        match batch.commit() {
            Ok(refusals) => {
                self.ended = false;
                if let Some(tried) = tried {
                    self.zeros.stored(tried, self.cache.len());
                }
                if refusals.unknown_series > 0 {
                    // the store has forgotten series that were cached: the next page is resolved anew
                    self.cache = PageCache::default();
                    self.reports = ReportSeries::default();
                    self.zeros = ZeroSamples::default();
                }
                Ok(refusals)
            }
            Err(fault) => Err((IngestError::Storage(fault), counts)),
        }
    }
}

/// A page while it is read.
struct Reading<'a, 'b> {
    config: &'a ScrapeConfig,
    target: &'a Target,
    merge: &'a LabelMerge,
    time: Timestamp,
    batch: &'b mut Batch,
    row: ScrapeRow,
    counts: Counts,
    cache: &'a PageCache,
    finder: Finder<'a>,
    /// The line of the cache that is expected next.
    cursor: Cursor<'a>,
    /// How this page differs from the last one, once it does. Series of histograms that are converted are not among its lines, what
    /// they become is.
    changes: Option<Changes<'a>>,
    /// Whether the series of the line that was read last is not among those of the last page.
    is_new: bool,
    /// What the last `# TYPE` line said.
    metric_type: MetricType,
    /// Makes native histograms of classic ones, if the job is to.
    converter: Option<NhcbConverter>,
    /// The limit that the page is over: it is read to its end all the same, so that its samples are counted.
    exceeded: Option<IngestError>,
    /// Gives series the labels that their metadata tells, if they are to have them. Then the rest of a page that is not as
    /// expected is resolved anew: the type of a series that stays may be another.
    metadata_labels: Option<MetadataLabels>,
    /// What is done with the times from which samples count, if anything is.
    zeros: Option<PageZeros<'a>>,
}

impl<'a> Reading<'a, '_> {
    fn run<'p>(&mut self, parser: &mut impl PageParser<'p>) -> Result<(), IngestError> {
        loop {
            // a converter has to see every line
            if self.converter.is_none()
                && let Some((text, line)) = self.cursor.line()
                && self.stays(line)
            {
                if line.is_comment() {
                    if self.metadata_labels.is_none() && parser.skip_line(text) {
                        if let Line::Type(metric_type) = line {
                            self.metric_type = metric_type;
                        }
                        self.pass(line, line);
                        continue;
                    }
                } else if let Some(sample) = parser.sample_of(text)? {
                    let line = self.pass(line, self.kind(line, sample.timestamp));
                    self.counts.scraped += 1;
                    self.sample(line, &sample)?;
                    continue;
                }
            }
            let before = parser.rest();
            let Some(entry) = parser.next_entry()? else { break };
            let converted = self.convert(&entry)?;
            match entry {
                Entry::Sample(_) if converted => {}
                Entry::Sample(sample) => {
                    let behind = memchr::memchr(b'\n', before).map_or(&before[..0], |end| &before[end + 1..]);
                    let line = self.line_of(sample.series, sample.timestamp, behind)?;
                    self.sample(line, &sample)?;
                }
                Entry::Histogram(histogram) => self.histogram(&histogram)?,
                entry => {
                    self.metadata(&entry);
                    if let Some(labels) = &mut self.metadata_labels {
                        labels.note(&entry);
                    }
                    let line = match entry {
                        Entry::Type { metric_type, .. } => {
                            self.metric_type = metric_type;
                            Line::Type(metric_type)
                        }
                        _ => Line::Comment,
                    };
                    let text = &before[..before.len() - parser.rest().len()];
                    self.comment(text.strip_suffix(b"\n").unwrap_or(text), line);
                }
            }
        }
        if let Some(ended) = self.converter.as_mut().and_then(NhcbConverter::finish) {
            self.histogram(&ended.entry())?;
        }
        if let Some(limit) = self.exceeded.take() {
            return Err(limit);
        }
        if self.cursor.at() < self.cache.len() {
            self.differs();
        }
        Ok(())
    }

    /// Shows an entry to the converter and stores the histogram that ends before it. Whether the entry goes into a histogram
    /// and is not stored itself.
    fn convert(&mut self, entry: &Entry<'_>) -> Result<bool, IngestError> {
        let Some(converter) = &mut self.converter else { return Ok(false) };
        let progress = converter.take(entry);
        if let Some(ended) = progress.ended {
            self.histogram(&ended.entry())?;
        }
        Ok(progress.gathered && !self.config.always_scrape_classic_histograms)
    }

    /// Goes past the line of the cache that is at the cursor, which has come and leads to `line` now. What it leads to in the end: of
    /// the lines of a series the first counts.
    #[inline]
    fn pass(&mut self, known: Line, line: Line) -> Line {
        let at = self.cursor.at();
        let goes_on = line == known && self.changes.as_mut().is_none_or(|changes| changes.goes_on(at));
        let line = if goes_on { line } else { self.pass_changed(known, line) };
        self.cursor.advance();
        line
    }

    #[inline(never)]
    fn pass_changed(&mut self, known: Line, line: Line) -> Line {
        self.differs();
        match (&mut self.changes, self.cursor.line()) {
            (Some(changes), Some((text, _))) if line == known => changes.keep(self.cursor.at(), text, line),
            (Some(changes), Some((text, _))) => changes.add(text, line),
            _ => line,
        }
    }

    /// Whether a line that comes again leads to what it led to, whatever has changed before it: the first of two lines of a series
    /// may be gone, and so may the metadata that gives labels.
    #[inline]
    fn stays(&self, line: Line) -> bool {
        self.changes.is_none() || (line != Line::Repeated && self.metadata_labels.is_none())
    }

    /// Goes past the line of the cache that is expected next, if it is this one and still leads to the same.
    fn expected(&mut self, text: &[u8], timestamp: Option<Timestamp>) -> Option<Line> {
        let (known, line) = self.cursor.line()?;
        if known != text || self.kind(line, timestamp) != line || !self.stays(line) {
            return None;
        }
        Some(self.pass(line, line))
    }

    /// A line that is stored, as the presence of a timestamp has it this time.
    #[inline]
    fn kind(&self, line: Line, timestamp: Option<Timestamp>) -> Line {
        match (line, timestamp.is_some() && self.config.honor_timestamps) {
            (Line::Series(series), true) => Line::Timed(series),
            (Line::Timed(series), false) => Line::Series(series),
            (line, _) => line,
        }
    }

    /// How this page differs from the last one: what has been read before the first difference was as expected.
    fn differs(&mut self) -> &mut Changes<'a> {
        let (cache, same, track) = (self.cache, self.cursor.at(), self.config.track_timestamps_staleness);
        self.changes.get_or_insert_with(|| Changes::new(cache, same, track))
    }

    /// What a line that was not compared with the cache leads to; `behind` is what follows it on the page, where there are lines.
    fn line_of(&mut self, series: &[u8], timestamp: Option<Timestamp>, behind: &[u8]) -> Result<Line, IngestError> {
        // one that is refused for its labels has been scraped too
        self.counts.scraped += 1;
        if let Some(line) = self.expected(series, timestamp) {
            return Ok(line);
        }
        self.differs();
        let found = self.finder.find(series, behind, &mut self.cursor);
        let line = match found {
            Some(line) if self.stays(line) => self.kind(line, timestamp),
            _ => self.resolve(series, timestamp)?,
        };
        if let Some(known) = found {
            return Ok(self.pass(known, line));
        }
        // the store knows the series of a line that went far
        if let Some(series_ref) = line.series(true)
            && let Some(at) = self.differs().old_line_of(series_ref)
            && let Some(known) = self.finder.is_at(series, at, &mut self.cursor)
        {
            return Ok(self.pass(known, line));
        }
        self.is_new = true;
        Ok(self.differs().add(series, line))
    }

    fn resolve(&mut self, series: &[u8], timestamp: Option<Timestamp>) -> Result<Line, IngestError> {
        let Some(labels) = self.labels(series)? else { return Ok(Line::Dropped) };
        let series = self.batch.series(&labels).map_err(IngestError::Storage)?;
        Ok(if timestamp.is_some() && self.config.honor_timestamps { Line::Timed(series) } else { Line::Series(series) })
    }

    /// The labels a series of the page is stored under; `None` if relabelling drops it.
    fn labels(&self, series: &[u8]) -> Result<Option<Labels>, IngestError> {
        let is_plain = self.config.metric_relabel_configs.is_empty() && self.metadata_labels.is_none();
        let simple = if is_plain { self.merge.simple(series, self.metric_type) } else { None };
        let labels = match simple {
            Some(labels) => labels,
            None => match self.merged_labels(series)? {
                Some(labels) => labels,
                None => return Ok(None),
            },
        };
        if labels.is_empty() {
            return Ok(None);
        }
        check_names(&labels, self.config.metric_name_validation_scheme).map_err(IngestError::Labels)?;
        check_limits(&labels, self.config).map_err(IngestError::Labels)?;
        Ok(Some(labels))
    }

    /// The labels of the page and of the target, by all rules that there may be; `None` if relabelling drops the series.
    fn merged_labels(&self, series: &[u8]) -> Result<Option<Labels>, IngestError> {
        let page = labels_of_typed(series, self.metric_type).map_err(|e| IngestError::Labels(e.to_string()))?;
        let page = match &self.metadata_labels {
            Some(metadata) => metadata.add(&page, self.metric_type),
            None => page,
        };
        let is_blank = |name: &str| {
            // the labels that were just read without a fault
            let pairs = SeriesLabels::new(series).into_iter().flatten().flatten();
            pairs.into_iter().any(|(n, value)| n == name && value.is_empty())
        };
        let rules = &self.config.metric_relabel_configs;
        if rules.is_empty()
            && let Some(joined) = self.merge.join(&page)
        {
            return Ok(Some(joined));
        }
        let mut builder = self.merge.merge(&page, is_blank);
        let kept = relabel::apply(&mut builder, rules, self.config.metric_name_validation_scheme);
        Ok(kept.then(|| builder.build()))
    }

    #[inline]
    fn sample(&mut self, line: Line, sample: &Sample<'_>) -> Result<(), IngestError> {
        let is_new = std::mem::take(&mut self.is_new);
        let Some(series) = self.stored(line) else { return Ok(()) };
        self.counts.new += usize::from(is_new);
        if let Some(exemplar) = &sample.exemplar {
            self.exemplar(series, sample.timestamp, exemplar);
        }
        let timestamp = sample.timestamp.filter(|_| self.config.honor_timestamps);
        if sample.created.is_some() && self.since(series, timestamp, sample) {
            return Ok(());
        }
        match timestamp {
            None => self.row.push(series, sample.value),
            Some(at) if self.in_bounds(at) => self.batch.sample(series, at, sample.value),
            Some(_) => {}
        }
        Ok(())
    }

    /// Deals with the time from which a sample counts. Whether the sample has been stored with it.
    fn since(&mut self, series: SeriesRef, timestamp: Option<Timestamp>, sample: &Sample<'_>) -> bool {
        let at = timestamp.unwrap_or(self.time);
        let Some(zeros) = &mut self.zeros else { return false };
        zeros.float(self.batch, series, sample.created, at);
        let start = zeros.start(sample.created);
        if start == 0 {
            return false;
        }
        if timestamp.is_none() || self.in_bounds(at) {
            self.batch.sample_since(series, start, at, sample.value);
        }
        true
    }

    /// The series that a sample of a line is stored in, if it is: past a limit nothing is. Counts it.
    fn stored(&mut self, line: Line) -> Option<SeriesRef> {
        let series = match line {
            Line::Series(series) | Line::Timed(series) => series,
            Line::Repeated => {
                self.counts.kept += 1;
                self.batch.refusals.duplicate += 1;
                return None;
            }
            Line::Dropped | Line::Type(_) | Line::Comment => return None,
        };
        self.counts.kept += 1;
        self.counts.stored += 1;
        let limit = self.config.limits.samples;
        if limit > 0 && self.counts.stored > limit {
            self.exceeded.get_or_insert(IngestError::SampleLimit);
        }
        self.exceeded.is_none().then_some(series)
    }

    fn in_bounds(&mut self, at: Timestamp) -> bool {
        let fine = at <= self.time + MAX_AHEAD_MILLIS;
        if !fine {
            self.batch.refusals.out_of_bounds += 1;
        }
        fine
    }

    fn histogram(&mut self, entry: &HistogramEntry<'_>) -> Result<(), IngestError> {
        let line = self.line_of(entry.series, entry.timestamp, b"")?;
        let is_new = std::mem::take(&mut self.is_new);
        if line != Line::Dropped {
            match &entry.histogram {
                NativeHistogram::Integer(h) => h.validate()?,
                NativeHistogram::Float(h) => h.validate()?,
            }
        }
        let Some(series) = self.stored(line) else { return Ok(()) };
        let Some(histogram) = bucket_limits::fit(entry.histogram.clone(), &self.config.limits) else {
            self.exceeded.get_or_insert(IngestError::BucketLimit);
            return Ok(());
        };
        self.counts.new += usize::from(is_new);
        let at = entry.timestamp.filter(|_| self.config.honor_timestamps).unwrap_or(self.time);
        let start = self.zeros.as_mut().map_or(0, |zeros| {
            zeros.histogram(self.batch, series, entry.created, at, &histogram);
            zeros.start(entry.created)
        });
        if self.in_bounds(at) {
            let histogram = match histogram {
                NativeHistogram::Integer(h) => HistogramSample::Integer(Arc::new(h)),
                NativeHistogram::Float(h) => HistogramSample::Float(Arc::new(h)),
            };
            self.batch.histogram_since(series, start, at, histogram);
        }
        for exemplar in &entry.exemplars {
            self.exemplar(series, entry.timestamp, exemplar);
        }
        Ok(())
    }

    /// Keeps an exemplar, at its own time, else that of the sample, else that of the scrape.
    fn exemplar(&mut self, series: SeriesRef, sample: Option<Timestamp>, exemplar: &RawExemplar<'_>) {
        let Ok(labels) = labels_of_exemplar(exemplar.labels) else { return };
        let timestamp = exemplar.timestamp.or(sample).unwrap_or(self.time);
        self.batch.exemplar(series, Exemplar { labels, value: exemplar.value, timestamp });
    }

    fn metadata(&mut self, entry: &Entry<'_>) {
        if self.metadata_labels.is_some() {
            let known = |family: &str| self.target.metadata.get(family).unwrap_or_default();
            let stays = match entry {
                Entry::Type { family, metric_type } => known(family).metric_type == *metric_type,
                Entry::Unit { family, unit } => &*known(family).unit == *unit,
                _ => true,
            };
            if !stays {
                self.differs();
            }
        }
        match entry {
            Entry::Type { family, metric_type } => self.target.metadata.set(family, |m| m.metric_type = *metric_type),
            Entry::Help { family, help } => self.target.metadata.set(family, |m| m.help = help.as_ref().into()),
            Entry::Unit { family, unit } => self.target.metadata.set(family, |m| m.unit = (*unit).into()),
            Entry::Comment(_) | Entry::Sample(_) | Entry::Histogram(_) => {}
        }
    }

    /// Notes the line of a comment. Formats without lines have none.
    fn comment(&mut self, text: &[u8], line: Line) {
        if text.is_empty() || self.expected(text, None).is_some() {
            return;
        }
        self.differs();
        match self.finder.find(text, b"", &mut self.cursor) {
            Some(known) => self.pass(known, line),
            None => self.differs().add(text, line),
        };
    }
}

#[cfg(test)]
mod tests;
