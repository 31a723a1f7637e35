//! `limitk` and `limit_ratio`: they pick some of the series of each group. `topk` and `bottomk` are in [`super::best`].

use std::collections::HashMap;

use model::Labels;
use xxhash_rust::xxh64::xxh64;

use super::Evaluator;
use super::aggregate::Grouping;
use super::frame::{Frame, Row};
use super::pace::{LABELS_WORK, SORT_WORK};
use crate::QueryError;
use crate::annotations::Annotations;
use crate::ast::{Aggregate, AggregateOp};
use crate::go_text::format_general;
use crate::memory::{Footprint, TABLE_ENTRY};

impl Evaluator<'_> {
    pub(super) fn aggregate_k(&self, aggregate: &Aggregate) -> Result<Frame, QueryError> {
        let Some(param) = &aggregate.param else { return Err(QueryError::execution("aggregation needs a parameter")) };
        let values = self.scalar(param)?;
        let is_whole = |value: &f64| *value > i64::MIN as f64 && *value < i64::MAX as f64;
        if matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk) && values.iter().all(is_whole) {
            return self.best(aggregate, &values);
        }
        let mut notes = Annotations::default();
        let frame = self.vector(&aggregate.expr)?;
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let has_nan = values.iter().any(|v| v.is_nan());
        if aggregate.op == AggregateOp::LimitRatio {
            if has_nan {
                return Err(QueryError::execution("Ratio value is NaN"));
            }
            if max > 1.0 {
                notes.invalid_ratio(max, 1.0, param.unparen().pos());
            }
            if min < -1.0 {
                notes.invalid_ratio(min, -1.0, param.unparen().pos());
            }
        } else {
            if has_nan {
                return Err(QueryError::execution("Parameter value is NaN"));
            }
            if min <= i64::MIN as f64 {
                return Err(QueryError::execution(format!("Scalar value {} underflows int64", format_general(min))));
            }
            if max >= i64::MAX as f64 {
                return Err(QueryError::execution(format!("Scalar value {} overflows int64", format_general(max))));
            }
        }
        let grouping = Grouping::of(aggregate);
        let mut pace = self.query.pace();
        let mut held = self.query.memory.charge();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut by_key: HashMap<Labels, usize> = HashMap::new();
        for (at, row) in frame.rows.iter().enumerate() {
            pace.done(LABELS_WORK)?;
            let key = grouping.key(&row.labels);
            let group = match by_key.get(&key) {
                Some(group) => *group,
                None => {
                    held.add(size_of::<Vec<usize>>() + key.bytes() + TABLE_ENTRY)?;
                    groups.push(Vec::new());
                    by_key.insert(key, groups.len() - 1);
                    groups.len() - 1
                }
            };
            groups[group].push(at);
        }
        let picker = Picker { aggregate, frame: &frame, hashes: hashes(aggregate.op, &frame) };
        let mut picked = Picked::new(self, frame.rows.len());
        for (step, value) in values.iter().enumerate() {
            for group in &groups {
                pace.done(SORT_WORK * group.len())?;
                for at in picker.pick(group, step, *value) {
                    let source = &frame.rows[at];
                    picked.row(at, (&source.labels, source.drop_name))?.set(step, source.cell(step));
                }
            }
        }
        self.query.merge_annotations(notes);
        Ok(picked.frame)
    }
}

/// Rows of the series that are picked at some step, in the order in which they are, for instant queries.
pub(super) struct Picked {
    pub(super) frame: Frame,
    steps: usize,
    /// The row of each series, by its number.
    places: Vec<Option<usize>>,
}

impl Picked {
    /// Of none yet of so many series.
    pub(super) fn new(evaluator: &Evaluator<'_>, series: usize) -> Self {
        Self { frame: evaluator.query.frame(), steps: evaluator.steps.count, places: vec![None; series] }
    }

    /// The row of the series with this number, labels, and sign whether its name is to be removed at the end.
    pub(super) fn row(&mut self, number: usize, (labels, drop_name): (&Labels, bool)) -> Result<&mut Row, QueryError> {
        let place = match self.places[number] {
            Some(place) => place,
            None => {
                self.frame.push(Row::new(labels.clone(), drop_name, self.steps))?;
                *self.places[number].insert(self.frame.rows.len() - 1)
            }
        };
        Ok(&mut self.frame.rows[place])
    }
}

struct Picker<'a> {
    aggregate: &'a Aggregate,
    frame: &'a Frame,
    /// Where series lie between 0 and 1, for `limit_ratio`.
    hashes: Vec<f64>,
}

impl Picker<'_> {
    /// The rows of a group that are picked at a step, in order.
    fn pick(&self, group: &[usize], step: usize, param: f64) -> Vec<usize> {
        let rows = &self.frame.rows;
        if self.aggregate.op == AggregateOp::LimitRatio {
            let ratio = param.clamp(-1.0, 1.0);
            let wanted = |offset: f64| {
                if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
            };
            return group
                .iter()
                .copied()
                .filter(|at| ratio != 0.0 && rows[*at].has(step) && wanted(self.hashes[*at]))
                .collect();
        }
        group.iter().copied().filter(|at| rows[*at].has(step)).take(whole(param)).collect()
    }
}

/// How many a number says: cut off as in a conversion to an integer, none if it is negative.
pub(super) fn whole(value: f64) -> usize {
    usize::try_from(value as i64).unwrap_or(0)
}

/// Where each series lies between 0 and 1, by the hash Prometheus has for its labels.
fn hashes(op: AggregateOp, frame: &Frame) -> Vec<f64> {
    if op != AggregateOp::LimitRatio {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    frame
        .rows
        .iter()
        .map(|row| {
            bytes.clear();
            for text in row.labels.iter().flat_map(|(name, value)| [name, value]) {
                match u8::try_from(text.len()) {
                    Ok(len) if len < 255 => bytes.push(len),
                    _ => {
                        bytes.push(255);
                        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
                    }
                }
                bytes.extend_from_slice(text.as_bytes());
            }
            xxh64(&bytes, 0) as f64 / u64::MAX as f64
        })
        .collect()
}
