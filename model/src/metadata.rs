use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The type of a metric family, as scrape targets announce it and `/api/v1/metadata` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricType {
    /// A value that only grows, or starts again from zero.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Observations counted in buckets, classic or native.
    Histogram,
    /// A histogram whose buckets may go down (OpenMetrics).
    GaugeHistogram,
    /// Observations as quantiles.
    Summary,
    /// Labels that describe the target, with the value 1 (OpenMetrics).
    Info,
    /// One of several states is 1 (OpenMetrics).
    StateSet,
    /// No type was announced (`untyped` in text 0.0.4).
    #[default]
    Unknown,
}

impl MetricType {
    /// The name used in OpenMetrics and the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a target says about a metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// The family's type.
    pub metric_type: MetricType,
    /// The help text, empty if none was given.
    pub help: Arc<str>,
    /// The unit, empty if none was given.
    pub unit: Arc<str>,
}
