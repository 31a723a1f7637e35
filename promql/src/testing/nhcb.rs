//! Classic histograms as native histograms with custom buckets.

use std::collections::BTreeMap;

use model::{BUCKET_LABEL, CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Labels, METRIC_NAME, Span, Timestamp};

/// A classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Cumulative counts by upper bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// Gathers the series of classic histograms.
#[derive(Default)]
pub(super) struct NhcbConverter {
    histograms: BTreeMap<Labels, BTreeMap<Timestamp, Classic>>,
}

impl NhcbConverter {
    /// Takes a sample of any series; those that belong to no classic histogram do not matter.
    pub(super) fn add(&mut self, labels: &Labels, timestamp: Timestamp, value: f64) {
        let name = labels.metric_name();
        let part = ["_bucket", "_count", "_sum"].into_iter().find(|suffix| name.ends_with(suffix));
        let Some(part) = part else { return };
        let bound = labels.get(BUCKET_LABEL).and_then(|le| le.parse::<f64>().ok());
        if (part == "_bucket") != bound.is_some() || model::is_stale(value) {
            return;
        }
        let base = &name[..name.len() - part.len()];
        let labels = labels.to_builder().remove(BUCKET_LABEL).set(METRIC_NAME, base).build();
        let classic = self.histograms.entry(labels).or_default().entry(timestamp).or_default();
        match (part, bound) {
            ("_bucket", Some(bound)) => match classic.buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count = value,
                None => classic.buckets.push((bound, value)),
            },
            ("_count", _) => classic.count = Some(value),
            _ => classic.sum = value,
        }
    }

    /// The native histograms.
    pub(super) fn finish(self) -> Vec<(Labels, Timestamp, FloatHistogram)> {
        let mut out = Vec::new();
        for (labels, samples) in self.histograms {
            for (timestamp, classic) in samples {
                if let Some(histogram) = convert(classic) {
                    out.push((labels.clone(), timestamp, histogram));
                }
            }
        }
        out
    }
}

/// `None` if there are no buckets, or if their counts fall.
fn convert(mut classic: Classic) -> Option<FloatHistogram> {
    classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let highest = classic.buckets.last()?.1;
    let count = classic.count.unwrap_or(highest);
    let bounds: Vec<f64> = classic.buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect();
    let mut counts = Vec::with_capacity(bounds.len() + 1);
    let mut before = 0.0;
    for (_, cumulative) in classic.buckets.iter().take(bounds.len()) {
        counts.push(cumulative - before);
        before = *cumulative;
    }
    counts.push(count - before);
    if counts.iter().any(|c| *c < 0.0) {
        return None;
    }
    let mut histogram = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: classic.sum,
        positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).ok()? }],
        positive_buckets: counts,
        custom_values: Some(bounds.into()),
        ..FloatHistogram::default()
    };
    histogram.compact(0);
    Some(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cumulative_buckets_become_counts() {
        let mut converter = NhcbConverter::default();
        for (suffix, le, value) in
            [("_bucket", "1", 2.0), ("_bucket", "0.5", 1.0), ("_bucket", "+Inf", 4.0), ("_sum", "", 7.0)]
        {
            let labels = Labels::from_pairs([("__name__", format!("h{suffix}").as_str()), ("le", le)]);
            converter.add(&labels, 0, value);
        }
        let [(labels, 0, histogram)] = &converter.finish()[..] else { panic!("one histogram expected") };
        assert_eq!(labels.to_string(), r#"{__name__="h"}"#);
        assert_eq!((histogram.count, histogram.sum), (4.0, 7.0));
        assert_eq!(
            (histogram.custom_bounds(), histogram.positive_buckets.as_slice()),
            (&[0.5, 1.0][..], &[1.0, 1.0, 2.0][..])
        );
    }
}
