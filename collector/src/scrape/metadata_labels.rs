//! The labels `__type__` and `__unit__`, which the feature `type-and-unit-labels` gives scraped series.

use common::exposition::Entry;
use model::{Labels, MetricType};

const TYPE: &str = "__type__";
const UNIT: &str = "__unit__";

/// What the metadata in front of a series says, as far as it becomes labels.
#[derive(Debug, Default)]
pub(super) struct MetadataLabels {
    /// The family of the last metadata.
    family: String,
    unit: String,
}

impl MetadataLabels {
    /// Takes note of metadata. A unit holds for its own family only.
    pub(super) fn note(&mut self, entry: &Entry<'_>) {
        let (Entry::Type { family, .. } | Entry::Help { family, .. } | Entry::Unit { family, .. }) = entry else {
            return;
        };
        if *family != self.family {
            self.family.clear();
            self.family.push_str(family);
            self.unit.clear();
        }
        if let Entry::Unit { unit, .. } = entry {
            self.unit.clear();
            self.unit.push_str(unit);
        }
    }

    /// The labels of a series with those of its metadata, which win over labels of the page. What is not known gives none.
    pub(super) fn add(&self, labels: &Labels, metric_type: MetricType) -> Labels {
        let mut builder = labels.to_builder();
        if metric_type != MetricType::Unknown {
            builder.set(TYPE, metric_type.as_str());
        }
        if !self.unit.is_empty() {
            builder.set(UNIT, &self.unit);
        }
        builder.build()
    }
}
