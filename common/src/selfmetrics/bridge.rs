use std::collections::BTreeMap;
use std::fmt;

use model::{BUCKET_LABEL, MetricType};
use prometheus_client::registry::Registry;

use crate::exposition::{Entry, LabelError, ParseError, SeriesLabels, openmetrics, parse_value};
use crate::metrics::{ClassicBucket, HistogramValue, Page};

/// Why a registry cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A metric failed to encode.
    #[error("encoding a registry: {0}")]
    Encode(#[from] fmt::Error),
    /// What was encoded is no OpenMetrics.
    #[error("reading a registry's page: {0}")]
    Parse(#[from] ParseError),
    /// What was encoded has no proper labels.
    #[error("reading a registry's page: {0}")]
    Labels(#[from] LabelError),
}

/// Appends the metrics of a `prometheus-client` registry.
pub fn collect_registry(registry: &Registry, page: &mut Page) -> Result<(), BridgeError> {
    let mut text = String::with_capacity(4096);
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    let mut parser = openmetrics::Parser::new(text.as_bytes());
    let mut family = Family::default();
    while let Some(entry) = parser.next_entry()? {
        let next = match &entry {
            Entry::Help { family, .. } | Entry::Type { family, .. } | Entry::Unit { family, .. } => family.as_ref(),
            _ => family.name.as_str(),
        };
        if next != family.name {
            let next = next.to_owned();
            std::mem::take(&mut family).flush(page);
            family.name = next;
        }
        match entry {
            // the registry puts a full stop after every help text
            Entry::Help { help, .. } => family.help = help.strip_suffix('.').unwrap_or(&help).to_owned(),
            Entry::Type { metric_type, .. } => family.metric_type = metric_type,
            Entry::Unit { unit, .. } => family.unit = unit.to_owned(),
            Entry::Sample(sample) => family.add(sample.series, sample.value)?,
            Entry::Comment(_) | Entry::Histogram(_) => {}
        }
    }
    family.flush(page);
    Ok(())
}

type LabelPairs = Vec<(String, String)>;

/// A family while its samples come.
#[derive(Default)]
struct Family {
    name: String,
    help: String,
    unit: String,
    metric_type: MetricType,
    floats: Vec<(LabelPairs, f64)>,
    histograms: BTreeMap<LabelPairs, HistogramValue>,
}

impl Family {
    fn add(&mut self, series: &[u8], value: f64) -> Result<(), BridgeError> {
        let mut labels = LabelPairs::new();
        let mut name = String::new();
        let mut bound = None;
        for pair in SeriesLabels::new(series)? {
            let (label, value) = pair?;
            match label.as_ref() {
                model::METRIC_NAME => name = value.into_owned(),
                BUCKET_LABEL if self.metric_type == MetricType::Histogram => bound = parse_value(value.as_bytes()),
                _ => labels.push((label.into_owned(), value.into_owned())),
            }
        }
        if self.metric_type != MetricType::Histogram {
            self.floats.push((labels, value));
            return Ok(());
        }
        let histogram = self.histograms.entry(labels).or_default();
        match (name.strip_prefix(self.name.as_str()), bound) {
            (Some("_bucket"), Some(upper_bound)) => {
                let bucket = ClassicBucket { upper_bound, cumulative_count: value as u64, exemplar: None };
                histogram.buckets.push(bucket);
            }
            (Some("_sum"), _) => histogram.sum = value,
            (Some("_count"), _) => histogram.count = value as u64,
            _ => {}
        }
        Ok(())
    }

    fn flush(self, page: &mut Page) {
        let suffix = match self.metric_type {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        let name = format!("{}{suffix}", self.name);
        let id = page.family_with_unit(&name, &self.help, &self.unit, self.metric_type);
        for (labels, value) in &self.floats {
            let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            page.sample(id, &labels, *value);
        }
        for (labels, value) in self.histograms {
            let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            page.histogram(id, &labels, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{EscapingScheme, text};
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family as ClientFamily;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;

    #[test]
    fn a_registry_becomes_a_page() {
        let mut registry = Registry::default();
        let requests = ClientFamily::<Vec<(String, String)>, Counter>::default();
        registry.register("requests", "Requests.", requests.clone());
        requests.get_or_create(&vec![("code".to_owned(), "a\"b".to_owned())]).inc_by(3);
        let depth: Gauge = Gauge::default();
        registry.register("depth", "Depth.", depth.clone());
        depth.set(-2);
        let latency = Histogram::new([0.5, 1.0]);
        registry.register("latency", "Latency.", latency.clone());
        latency.observe(0.7);
        let mut page = Page::new();
        collect_registry(&registry, &mut page).unwrap();
        let mut out = Vec::new();
        text::encode(&page.families().0, EscapingScheme::Underscores, &mut out);
        expect_test::expect![[r#"
            # HELP depth Depth.
            # TYPE depth gauge
            depth -2
            # HELP latency Latency.
            # TYPE latency histogram
            latency_bucket{le="0.5"} 0
            latency_bucket{le="1"} 1
            latency_bucket{le="+Inf"} 1
            latency_sum 0.7
            latency_count 1
            # HELP requests_total Requests.
            # TYPE requests_total counter
            requests_total{code="a\"b"} 3
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
