//! `topk`, `bottomk`, `limitk` and `limit_ratio`: they pick some of the series of each group.

use std::collections::HashMap;

use model::Labels;
use xxhash_rust::xxh64::xxh64;

use super::Evaluator;
use super::aggregate::Grouping;
use super::frame::{Cell, Frame, Row};
use super::pace::{LABELS_WORK, SORT_WORK};
use super::sort::by_value;
use crate::QueryError;
use crate::annotations::Annotations;
use crate::ast::{Aggregate, AggregateOp};
use crate::go_text::format_general;
use crate::memory::{Footprint, TABLE_ENTRY};
use crate::storage::KeptLabels;

impl Evaluator<'_> {
    pub(super) fn aggregate_k(&self, aggregate: &Aggregate) -> Result<Frame, QueryError> {
        let mut notes = Annotations::default();
        let Some(param) = &aggregate.param else { return Err(QueryError::execution("aggregation needs a parameter")) };
        let values = self.scalar(param)?;
        if let ([k], AggregateOp::Topk | AggregateOp::Bottomk) = (&values[..], aggregate.op)
            && (i64::MIN as f64..i64::MAX as f64).contains(k)
            && *k > i64::MIN as f64
        {
            return self.best_at_once(aggregate, *k as i64);
        }
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
        // in the order in which they are picked, for instant queries
        let mut picked = self.query.frame();
        let mut place: Vec<Option<usize>> = vec![None; frame.rows.len()];
        for (step, value) in values.iter().enumerate() {
            for group in &groups {
                pace.done(SORT_WORK * group.len())?;
                for at in picker.pick(group, step, *value, &mut notes) {
                    let source = &frame.rows[at];
                    let place = match place[at] {
                        Some(place) => place,
                        None => {
                            picked.push(Row::new(source.labels.clone(), source.drop_name, self.steps.count))?;
                            *place[at].insert(picked.rows.len() - 1)
                        }
                    };
                    picked.rows[place].set(step, source.cell(step));
                }
            }
        }
        self.query.merge_annotations(notes);
        Ok(picked)
    }
}

impl Evaluator<'_> {
    /// `topk` and `bottomk` at one time: of the series, as they come, only those are kept that are among the best so far.
    fn best_at_once(&self, aggregate: &Aggregate, k: i64) -> Result<Frame, QueryError> {
        let k = usize::try_from(k).unwrap_or(0);
        let top = aggregate.op == AggregateOp::Topk;
        let grouping = Grouping::of(aggregate);
        let mut notes = Annotations::default();
        let mut held = self.query.memory.charge();
        let mut groups: Vec<WorstFirst<Row>> = Vec::new();
        let mut by_key: HashMap<Labels, usize> = HashMap::new();
        self.for_each_row(&aggregate.expr, KeptLabels::All, &mut |row| {
            let key = grouping.key(&row.labels);
            let group = match by_key.get(&key) {
                Some(group) => *group,
                None => {
                    held.add(size_of::<WorstFirst<Row>>() + key.bytes() + TABLE_ENTRY)?;
                    groups.push(WorstFirst { top, entries: Vec::new() });
                    by_key.insert(key, groups.len() - 1);
                    groups.len() - 1
                }
            };
            match row.cell(0) {
                Cell::Empty => {}
                Cell::Histogram(_) if k == 0 => {}
                Cell::Histogram(_) => notes.histogram_ignored_in_aggregation(aggregate.op.as_str(), aggregate.pos),
                Cell::Float(value) => {
                    if groups[group].entries.len() < k {
                        held.add(row.bytes())?;
                    }
                    groups[group].offer(value, k, || row.clone());
                }
            }
            Ok(())
        })?;
        let mut picked = self.query.frame();
        for mut group in groups {
            group.entries.sort_by(|a, b| by_value(a.0, b.0, top));
            group.entries.into_iter().try_for_each(|(_, row)| picked.push(row))?;
        }
        self.query.merge_annotations(notes);
        Ok(picked)
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
    fn pick(&self, group: &[usize], step: usize, param: f64, notes: &mut Annotations) -> Vec<usize> {
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
        // cut off as in a conversion to an integer
        let k = (param as i64).min(rows.len() as i64);
        let Some(k) = usize::try_from(k).ok().filter(|k| *k > 0) else { return Vec::new() };
        if self.aggregate.op == AggregateOp::Limitk {
            return group.iter().copied().filter(|at| rows[*at].has(step)).take(k).collect();
        }
        let top = self.aggregate.op == AggregateOp::Topk;
        let mut heap = WorstFirst { top, entries: Vec::new() };
        for &at in group {
            match rows[at].cell(step) {
                Cell::Empty => {}
                Cell::Histogram(_) => {
                    notes.histogram_ignored_in_aggregation(self.aggregate.op.as_str(), self.aggregate.pos);
                }
                Cell::Float(value) => heap.offer(value, k, || at),
            }
        }
        heap.entries.sort_by(|a, b| by_value(a.0, b.0, top));
        heap.entries.into_iter().map(|(_, at)| at).collect()
    }
}

/// The best entries seen, as a heap with the worst of them first. Which of equal ones stay is as in Prometheus.
struct WorstFirst<T> {
    top: bool,
    entries: Vec<(f64, T)>,
}

impl<T> WorstFirst<T> {
    fn is_worse(&self, a: f64, b: f64) -> bool {
        a.is_nan() || if self.top { a < b } else { a > b }
    }

    /// Takes an entry if there are fewer than `k`, or a worse one that goes for it.
    fn offer(&mut self, value: f64, k: usize, entry: impl FnOnce() -> T) {
        if self.entries.len() < k {
            self.entries.push((value, entry()));
            let mut child = self.entries.len() - 1;
            while child > 0 {
                let parent = (child - 1) / 2;
                if !self.is_worse(self.entries[child].0, self.entries[parent].0) {
                    break;
                }
                self.entries.swap(child, parent);
                child = parent;
            }
            return;
        }
        let Some((worst, _)) = self.entries.first() else { return };
        let better = if self.top { *worst < value } else { *worst > value };
        if better || (worst.is_nan() && !value.is_nan()) {
            self.entries[0] = (value, entry());
            self.sink();
        }
    }

    fn sink(&mut self) {
        let mut parent = 0;
        loop {
            let mut worst = 2 * parent + 1;
            if worst >= self.entries.len() {
                return;
            }
            let right = worst + 1;
            if right < self.entries.len() && self.is_worse(self.entries[right].0, self.entries[worst].0) {
                worst = right;
            }
            if !self.is_worse(self.entries[worst].0, self.entries[parent].0) {
                return;
            }
            self.entries.swap(worst, parent);
            parent = worst;
        }
    }
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

#[cfg(test)]
mod tests {
    use model::Labels;

    use crate::result::Value;
    use crate::testing::MemoryStorage;
    use crate::{Engine, QueryOptions};

    /// At one time, where series are looked at as they come, the same ones are picked as at one of several times.
    #[test]
    fn the_best_of_one_time_are_those_of_a_range() {
        let mut storage = MemoryStorage::new();
        for n in 0..200i64 {
            let labels = [("__name__", "m".to_owned()), ("g", (n % 3).to_string()), ("n", n.to_string())];
            let value = if n % 11 == 0 { f64::NAN } else { ((n * 37) % 50) as f64 };
            storage.add_float(&Labels::from_pairs(labels), 0, value, 0);
        }
        let engine = Engine::default();
        let options = QueryOptions::default();
        for query in [
            "topk(3, m)",
            "bottomk by (g) (5, m)",
            "topk without (n) (1, m)",
            "topk(0, m)",
            "bottomk(-1, m)",
            "topk by (g) (1000, m)",
            "topk(2.9, max_over_time(m[1m]))",
            "topk(2, m + m)",
        ] {
            let instant = engine.instant(&storage, query, 0, &options).unwrap();
            let range = engine.range(&storage, query, (0, 1000, 1000), &options).unwrap();
            let (Value::Vector(instant), Value::Matrix(range)) = (instant.value, range.value) else {
                panic!("{query}: a vector and a matrix")
            };
            let mut picked: Vec<String> = instant.iter().map(|sample| sample.labels.to_string()).collect();
            let mut expected: Vec<String> = range.iter().map(|series| series.labels.to_string()).collect();
            picked.sort();
            expected.sort();
            assert_eq!(picked, expected, "{query}");
        }
    }
}
