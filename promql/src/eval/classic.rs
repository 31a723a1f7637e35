//! Vectors that hold classic histograms (series per bucket), native ones, or both.

use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::frame::{Cell, Frame};
use super::pace::LABELS_WORK;
use super::quantile::ClassicBucket;
use crate::annotations::Annotations;
use crate::memory::{Charge, Footprint, TABLE_ENTRY};
use crate::{PosRange, QueryError};

/// A classic histogram: its labels without `le`, and its buckets' rows, sorted by their bounds.
pub(super) struct Classic {
    pub(super) labels: Labels,
    pub(super) drop_name: bool,
    buckets: Vec<(f64, usize)>,
}

/// The histograms of a vector.
pub(super) struct Histograms {
    pub(super) frame: Frame,
    pub(super) classics: Vec<Classic>,
    /// For each row, the classic histogram of the same labels.
    rivals: Vec<Option<usize>>,
    /// For each row, whether it can be no bucket.
    bad_bucket: Vec<bool>,
    pos: PosRange,
    /// Counts what this takes beside the vector.
    _held: Charge,
}

impl Evaluator<'_> {
    /// Sorts the rows of a vector into histograms.
    pub(super) fn histograms(&self, frame: Frame, pos: PosRange) -> Result<Histograms, QueryError> {
        let mut pace = self.query.pace();
        let mut held = self.query.memory.charge();
        let mut classics: Vec<Classic> = Vec::new();
        let mut by_labels: HashMap<Labels, usize> = HashMap::new();
        let mut bad_bucket = vec![false; frame.rows.len()];
        for (at, row) in frame.rows.iter().enumerate() {
            pace.done(LABELS_WORK)?;
            held.add(size_of::<(f64, usize)>() + TABLE_ENTRY)?;
            if row.floats.iter().all(|v| super::is_absent(*v)) {
                continue;
            }
            let Ok(bound) = row.labels.value(model::BUCKET_LABEL).parse::<f64>() else {
                bad_bucket[at] = true;
                continue;
            };
            let labels = row.labels.filter(|name| name != model::BUCKET_LABEL);
            let found = match by_labels.get(&labels) {
                Some(found) => *found,
                None => {
                    held.add(size_of::<Classic>() + labels.bytes() + TABLE_ENTRY)?;
                    by_labels.insert(labels.clone(), classics.len());
                    classics.push(Classic { labels, drop_name: row.drop_name, buckets: Vec::new() });
                    classics.len() - 1
                }
            };
            classics[found].buckets.push((bound, at));
        }
        for classic in &mut classics {
            classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let rivals = frame.rows.iter().map(|row| by_labels.get(&row.labels).copied()).collect();
        Ok(Histograms { frame, classics, rivals, bad_bucket, pos, _held: held })
    }
}

impl Histograms {
    /// Notes at a step what is no bucket, and finds the classic histograms that a native one makes void. Both then have no
    /// result.
    pub(super) fn conflicts(&self, step: usize, notes: &mut Annotations) -> Vec<usize> {
        let mut void = Vec::new();
        for (at, row) in self.frame.rows.iter().enumerate() {
            match row.cell(step) {
                Cell::Float(_) if self.bad_bucket[at] => {
                    notes.bad_bucket_label(row.metric_name(), row.labels.value(model::BUCKET_LABEL), self.pos);
                }
                Cell::Histogram(_) => {
                    if let Some(rival) = self.rivals[at]
                        && self.has_buckets(rival, step)
                    {
                        notes.mixed_classic_native(row.metric_name(), self.pos);
                        void.push(rival);
                    }
                }
                Cell::Float(_) | Cell::Empty => {}
            }
        }
        void
    }

    fn has_buckets(&self, classic: usize, step: usize) -> bool {
        self.classics[classic].buckets.iter().any(|(_, row)| !super::is_absent(self.frame.rows[*row].floats[step]))
    }

    /// Whether the histogram of a row has a classic one beside it at a step.
    pub(super) fn is_void(&self, row: usize, void: &[usize]) -> bool {
        self.rivals[row].is_some_and(|rival| void.contains(&rival))
    }

    /// The buckets of a classic histogram at a step, sorted.
    pub(super) fn buckets(&self, classic: usize, step: usize) -> Vec<ClassicBucket> {
        self.classics[classic]
            .buckets
            .iter()
            .map(|(upper, row)| ClassicBucket { upper: *upper, count: self.frame.rows[*row].floats[step] })
            .filter(|bucket| !super::is_absent(bucket.count))
            .collect()
    }
}
