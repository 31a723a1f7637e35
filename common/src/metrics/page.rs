use model::{MetricType, Timestamp, is_legacy_label_name};

use super::families::{Families, GatherError};
use super::value::{Exemplar, HistogramValue, SummaryValue};

/// A family of one [`Page`], to append samples to. Valid for the page that gave it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyId(u32);

/// Metrics as they are gathered.
///
/// Names, help texts and labels go straight into one text buffer, labels already in their written form, so that a sample
/// costs one copy and no allocation. The same family may be begun several times, by several writers: [`Page::families`]
/// sorts and merges.
///
/// A family's name is the one its samples have in the text format: with `_total` for counters, with `_info` for infos.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub(super) text: String,
    pub(super) families: Vec<FamilyRecord>,
    pub(super) samples: Vec<SampleRecord>,
    pub(super) histograms: Vec<HistogramValue>,
    pub(super) summaries: Vec<SummaryValue>,
    pub(super) extras: Vec<Extra>,
}

/// A range of the page's text. A page is far below 4 GiB: appending beyond that panics on the index and is contained.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TextRange {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FamilyRecord {
    pub(super) name: TextRange,
    pub(super) help: TextRange,
    pub(super) unit: TextRange,
    pub(super) metric_type: MetricType,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SampleRecord {
    pub(super) family: u32,
    /// `a="x",b="y"`, values escaped, names quoted if they must be.
    pub(super) labels: TextRange,
    pub(super) value: RecordValue,
    /// Index in `extras`, or `NO_EXTRA`.
    pub(super) extra: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum RecordValue {
    Float(f64),
    Histogram(u32),
    Summary(u32),
}

pub(super) const NO_EXTRA: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    pub(super) timestamp: Option<Timestamp>,
    pub(super) created: Option<Timestamp>,
    pub(super) exemplar: Option<Exemplar>,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and keeps the buffers.
    pub fn clear(&mut self) {
        self.text.clear();
        self.families.clear();
        self.samples.clear();
        self.histograms.clear();
        self.summaries.clear();
        self.extras.clear();
    }

    /// Number of samples; a histogram or summary is one.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Begins a family. One without samples is not shown.
    pub fn family(&mut self, name: &str, help: &str, metric_type: MetricType) -> FamilyId {
        self.family_with_unit(name, help, "", metric_type)
    }

    /// Begins a family that names its unit, which OpenMetrics shows.
    pub fn family_with_unit(&mut self, name: &str, help: &str, unit: &str, metric_type: MetricType) -> FamilyId {
        let record = FamilyRecord { name: self.push(name), help: self.push(help), unit: self.push(unit), metric_type };
        self.families.push(record);
        FamilyId(index(self.families.len() - 1))
    }

    /// Appends a number. Labels are cheapest in order of their names.
    pub fn sample(&mut self, family: FamilyId, labels: &[(&str, &str)], value: f64) {
        let labels = self.push_labels(labels);
        self.push_sample(family, labels, RecordValue::Float(value), NO_EXTRA);
    }

    /// Appends a number with the time it belongs to.
    pub fn sample_at(&mut self, family: FamilyId, labels: &[(&str, &str)], value: f64, timestamp: Timestamp) {
        let labels = self.push_labels(labels);
        let extra = self.push_extra(Extra { timestamp: Some(timestamp), ..Extra::default() });
        self.push_sample(family, labels, RecordValue::Float(value), extra);
    }

    /// Appends a counter's value with an exemplar and the time counting began.
    pub fn counter_sample(
        &mut self,
        family: FamilyId,
        labels: &[(&str, &str)],
        value: f64,
        exemplar: Option<Exemplar>,
        created: Option<Timestamp>,
    ) {
        let labels = self.push_labels(labels);
        let extra = self.push_extra(Extra { timestamp: None, created, exemplar });
        self.push_sample(family, labels, RecordValue::Float(value), extra);
    }

    /// Appends a histogram.
    pub fn histogram(&mut self, family: FamilyId, labels: &[(&str, &str)], value: HistogramValue) {
        self.histogram_at(family, labels, value, None);
    }

    /// Appends a histogram with the time it belongs to.
    pub fn histogram_at(
        &mut self,
        family: FamilyId,
        labels: &[(&str, &str)],
        value: HistogramValue,
        timestamp: Option<Timestamp>,
    ) {
        let labels = self.push_labels(labels);
        self.histograms.push(value);
        let extra = timestamp.map_or(NO_EXTRA, |t| self.push_extra(Extra { timestamp: Some(t), ..Extra::default() }));
        self.push_sample(family, labels, RecordValue::Histogram(index(self.histograms.len() - 1)), extra);
    }

    /// Appends a summary.
    pub fn summary(&mut self, family: FamilyId, labels: &[(&str, &str)], value: SummaryValue) {
        self.summary_at(family, labels, value, None);
    }

    /// Appends a summary with the time it belongs to.
    pub fn summary_at(
        &mut self,
        family: FamilyId,
        labels: &[(&str, &str)],
        value: SummaryValue,
        timestamp: Option<Timestamp>,
    ) {
        let labels = self.push_labels(labels);
        self.summaries.push(value);
        let extra = timestamp.map_or(NO_EXTRA, |t| self.push_extra(Extra { timestamp: Some(t), ..Extra::default() }));
        self.push_sample(family, labels, RecordValue::Summary(index(self.summaries.len() - 1)), extra);
    }

    /// A family with one gauge.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let family = self.family(name, help, MetricType::Gauge);
        self.sample(family, labels, value);
    }

    /// A family with one counter.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let family = self.family(name, help, MetricType::Counter);
        self.sample(family, labels, value);
    }

    /// A family with one sample of no type.
    pub fn untyped(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let family = self.family(name, help, MetricType::Unknown);
        self.sample(family, labels, value);
    }

    /// Appends all of another page.
    pub fn append(&mut self, other: &Self) {
        let (text, families) = (index(self.text.len()), index(self.families.len()));
        let (histograms, summaries) = (index(self.histograms.len()), index(self.summaries.len()));
        let extras = index(self.extras.len());
        self.text.push_str(&other.text);
        self.families.extend(other.families.iter().map(|f| FamilyRecord {
            name: f.name.moved(text),
            help: f.help.moved(text),
            unit: f.unit.moved(text),
            metric_type: f.metric_type,
        }));
        self.samples.extend(other.samples.iter().map(|s| SampleRecord {
            family: s.family + families,
            labels: s.labels.moved(text),
            value: match s.value {
                RecordValue::Float(v) => RecordValue::Float(v),
                RecordValue::Histogram(at) => RecordValue::Histogram(at + histograms),
                RecordValue::Summary(at) => RecordValue::Summary(at + summaries),
            },
            extra: if s.extra == NO_EXTRA { NO_EXTRA } else { s.extra + extras },
        }));
        self.histograms.extend_from_slice(&other.histograms);
        self.summaries.extend_from_slice(&other.summaries);
        self.extras.extend_from_slice(&other.extras);
    }

    /// The families sorted by name, merged, their samples sorted by labels, and what did not fit together: families
    /// announced with two types or two help texts, and samples that came twice. The first one counts, as in the Prometheus
    /// client libraries' registries.
    pub fn families(&self) -> (Families<'_>, Vec<GatherError>) {
        Families::of(self)
    }

    pub(super) fn str(&self, range: TextRange) -> &str {
        &self.text[range.start as usize..range.end as usize]
    }

    fn push(&mut self, text: &str) -> TextRange {
        let start = index(self.text.len());
        self.text.push_str(text);
        TextRange { start, end: index(self.text.len()) }
    }

    fn push_extra(&mut self, extra: Extra) -> u32 {
        self.extras.push(extra);
        index(self.extras.len() - 1)
    }

    fn push_sample(&mut self, family: FamilyId, labels: TextRange, value: RecordValue, extra: u32) {
        assert!((family.0 as usize) < self.families.len(), "a family of another page");
        self.samples.push(SampleRecord { family: family.0, labels, value, extra });
    }

    fn push_labels(&mut self, labels: &[(&str, &str)]) -> TextRange {
        let start = index(self.text.len());
        if labels.is_sorted_by_key(|(name, _)| *name) {
            push_labels(labels.iter().copied(), &mut self.text);
        } else {
            let mut sorted = labels.to_vec();
            sorted.sort_by_key(|(name, _)| *name);
            push_labels(sorted.into_iter(), &mut self.text);
        }
        TextRange { start, end: index(self.text.len()) }
    }
}

impl TextRange {
    fn moved(self, by: u32) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }
}

fn index(len: usize) -> u32 {
    u32::try_from(len).expect("a page of less than 4 GiB")
}

/// Appends `a="x",b="y"`.
fn push_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, out: &mut String) {
    for (at, (name, value)) in labels.enumerate() {
        if at > 0 {
            out.push(',');
        }
        if is_legacy_label_name(name) {
            out.push_str(name);
        } else {
            out.push('"');
            model::escape_label_value(name, out);
            out.push('"');
        }
        out.push_str("=\"");
        push_escaped(value, out);
        out.push('"');
    }
}

/// Most values hold nothing to escape.
fn push_escaped(value: &str, out: &mut String) {
    if value.bytes().any(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        model::escape_label_value(value, out);
    } else {
        out.push_str(value);
    }
}
