//! `topk` and `bottomk`: of the series, as they come, only what is among the best so far at some step is kept.

use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::aggregate::Grouping;
use super::aggregate_k::{Picked, whole};
use super::frame::{Cell, Frame, Row};
use super::pace::{LABELS_WORK, SORT_WORK};
use super::sort::by_value;
use crate::QueryError;
use crate::annotations::Annotations;
use crate::ast::{Aggregate, AggregateOp};
use crate::memory::{Charge, Footprint, TABLE_ENTRY};
use crate::storage::KeptLabels;

impl Evaluator<'_> {
    /// The best of each group at each step, `values` being how many.
    pub(super) fn best(&self, aggregate: &Aggregate, values: &[f64]) -> Result<Frame, QueryError> {
        let order = if aggregate.op == AggregateOp::Topk { Order::Greatest } else { Order::Least };
        let wanted: Vec<u32> = values.iter().map(|value| u32::try_from(whole(*value)).unwrap_or(u32::MAX)).collect();
        let grouping = Grouping::of(aggregate);
        let (mut notes, mut pace) = (Annotations::default(), self.query.pace());
        let mut held = self.query.memory.charge();
        let mut known = Known::default();
        let mut groups: Vec<Best> = Vec::new();
        let mut by_key: HashMap<Labels, usize> = HashMap::new();
        self.for_each_row(&aggregate.expr, KeptLabels::All, &mut |row| {
            pace.done(LABELS_WORK + 4 * row.floats.len())?;
            let key = grouping.key(&row.labels);
            let at = match by_key.get(&key) {
                Some(group) => *group,
                None => {
                    held.add(Best::bytes(wanted.len()) + key.bytes() + TABLE_ENTRY)?;
                    groups.push(Best::new(order, wanted.len()));
                    by_key.insert(key, groups.len() - 1);
                    groups.len() - 1
                }
            };
            if !row.histograms.is_empty() {
                let counts = |step: usize| wanted[step] > 0 && matches!(row.cell(step), Cell::Histogram(_));
                if (0..wanted.len()).any(counts) {
                    notes.histogram_ignored_in_aggregation(aggregate.op.as_str(), aggregate.pos);
                }
            }
            groups[at].offer(row, &wanted, &mut known, &mut held)
        })?;
        let mut picked = Picked::new(self, known.series.len());
        for step in 0..wanted.len() {
            for group in &mut groups {
                let best = group.sorted(step);
                pace.done(SORT_WORK * best.len())?;
                for (value, number) in best {
                    let Series { labels, drop_name, .. } = &known.series[*number as usize];
                    picked.row(*number as usize, (labels, *drop_name))?.set_float(step, *value);
                }
            }
        }
        self.query.merge_annotations(notes);
        Ok(picked.frame)
    }
}

/// A series that is among the best of some steps.
struct Series {
    labels: Labels,
    drop_name: bool,
    /// Of so many steps.
    uses: u32,
}

/// The series that are among the best, by number. The number of one that is not any more is given to another.
#[derive(Default)]
struct Known {
    series: Vec<Series>,
    free: Vec<u32>,
}

impl Known {
    /// The number of a series that becomes one of the best.
    fn add(&mut self, row: &Row, held: &mut Charge) -> Result<u32, QueryError> {
        held.add(row.labels.bytes())?;
        let series = Series { labels: row.labels.clone(), drop_name: row.drop_name, uses: 0 };
        if let Some(number) = self.free.pop() {
            self.series[number as usize] = series;
            return Ok(number);
        }
        held.add(size_of::<Series>() + size_of::<u32>())?;
        self.series.push(series);
        Ok(self.series.len() as u32 - 1)
    }

    /// A series has given way at one step.
    fn drop_use(&mut self, number: u32, held: &mut Charge) -> Result<(), QueryError> {
        let series = &mut self.series[number as usize];
        series.uses -= 1;
        if series.uses == 0 {
            held.set(held.bytes() - series.labels.bytes())?;
            series.labels = Labels::empty();
            self.free.push(number);
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Order {
    Greatest,
    Least,
}

impl Order {
    fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Greatest => a > b,
            Self::Least => a < b,
        }
    }

    /// Which goes first; nothing is worse than NaN.
    fn is_worse(self, a: f64, b: f64) -> bool {
        a.is_nan() || self.is_better(b, a)
    }
}

/// A value and the number of its series.
type Entry = (f64, u32);

/// The best of a group at each step, as a heap with the worst of them first. Which of equal ones stay is as in Prometheus.
struct Best {
    order: Order,
    /// There is room for so many at each step.
    room: usize,
    /// How many there are at each step.
    counts: Vec<u32>,
    /// Those of a step lie together.
    entries: Vec<Entry>,
}

impl Best {
    /// Memory of one that is empty.
    fn bytes(steps: usize) -> usize {
        size_of::<Self>() + steps * size_of::<u32>()
    }

    fn new(order: Order, steps: usize) -> Self {
        Self { order, room: 0, counts: vec![0; steps], entries: Vec::new() }
    }

    /// Takes a row's values at those steps where there are fewer than `wanted`, or a worse one that goes for it.
    fn offer(&mut self, row: &Row, wanted: &[u32], known: &mut Known, held: &mut Charge) -> Result<(), QueryError> {
        let mut number = None;
        for (step, wanted) in wanted.iter().enumerate() {
            let Cell::Float(value) = row.cell(step) else { continue };
            let count = self.counts[step];
            if count < *wanted {
                if count as usize == self.room {
                    self.make_room(*wanted as usize, held)?;
                }
            } else if count == 0 || !self.gives_way(self.entries[step * self.room].0, value) {
                continue;
            }
            let number = match number {
                Some(number) => number,
                None => *number.insert(known.add(row, held)?),
            };
            known.series[number as usize].uses += 1;
            let heap = &mut self.entries[step * self.room..][..self.room];
            if count < *wanted {
                heap[count as usize] = (value, number);
                self.counts[step] += 1;
                rise(heap, count as usize, self.order);
            } else {
                let (_, other) = std::mem::replace(&mut heap[0], (value, number));
                sink(&mut heap[..count as usize], self.order);
                known.drop_use(other, held)?;
            }
        }
        Ok(())
    }

    /// Whether the worst of a full heap goes for a value.
    #[inline]
    fn gives_way(&self, worst: f64, value: f64) -> bool {
        self.order.is_better(value, worst) || (worst.is_nan() && !value.is_nan())
    }

    /// Makes room for more at each step, `most` being as many as there will be.
    fn make_room(&mut self, most: usize, held: &mut Charge) -> Result<(), QueryError> {
        let (steps, before) = (self.counts.len(), self.room);
        let room = (before * 2).clamp(1, most.max(before + 1));
        held.add(steps * room * size_of::<Entry>())?;
        let mut entries = Vec::with_capacity(steps * room);
        for step in 0..steps {
            entries.extend_from_slice(&self.entries[step * before..(step + 1) * before]);
            entries.resize((step + 1) * room, (0.0, 0));
        }
        (self.room, self.entries) = (room, entries);
        held.set(held.bytes() - steps * before * size_of::<Entry>())
    }

    /// The best of a step, the very best first.
    fn sorted(&mut self, step: usize) -> &[Entry] {
        let best = &mut self.entries[step * self.room..][..self.counts[step] as usize];
        best.sort_by(|a, b| by_value(a.0, b.0, matches!(self.order, Order::Greatest)));
        best
    }
}

/// Moves the last entry of a heap up to its place.
fn rise(heap: &mut [Entry], mut child: usize, order: Order) {
    while child > 0 {
        let parent = (child - 1) / 2;
        if !order.is_worse(heap[child].0, heap[parent].0) {
            return;
        }
        heap.swap(child, parent);
        child = parent;
    }
}

/// Moves the first entry of a heap down to its place.
fn sink(heap: &mut [Entry], order: Order) {
    let mut parent = 0;
    loop {
        let mut worst = 2 * parent + 1;
        if worst >= heap.len() {
            return;
        }
        let right = worst + 1;
        if right < heap.len() && order.is_worse(heap[right].0, heap[worst].0) {
            worst = right;
        }
        if !order.is_worse(heap[worst].0, heap[parent].0) {
            return;
        }
        heap.swap(worst, parent);
        parent = worst;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{Account, Urgency};
    use crate::result::{MatrixSeries, SampleValue, Value};
    use crate::testing::MemoryStorage;
    use crate::{Engine, QueryOptions};

    /// 200 series of three groups, at three times; some are not a number, some not there.
    fn storage() -> MemoryStorage {
        let mut storage = MemoryStorage::new();
        for n in 0..200i64 {
            let labels = [("__name__", "m".to_owned()), ("g", (n % 3).to_string()), ("n", n.to_string())];
            let labels = Labels::from_pairs(labels);
            for time in (0..3).filter(|time| (n + time) % 7 != 0) {
                let value = if n % 11 == time { f64::NAN } else { ((n * 37 + time * 13) % 50) as f64 };
                storage.add_float(&labels, time * 1000, value, 0);
            }
        }
        storage
    }

    /// What is picked at each of several times is what is picked at that time alone.
    #[test]
    fn the_best_of_each_time_are_those_of_that_time_alone() {
        let (storage, engine) = (storage(), Engine::default());
        let options = QueryOptions { lookback: Some(1), ..QueryOptions::default() };
        for query in [
            "topk(3, m)",
            "bottomk by (g) (5, m)",
            "topk without (n) (1, m)",
            "topk(0, m)",
            "bottomk(-1, m)",
            "topk by (g) (1000, m)",
            "topk(2.9, max_over_time(m[1m]))",
            "topk(2, m + m)",
            "topk(scalar(m{n=\"39\"}), m)",
            "bottomk by (n) (2, -m)",
        ] {
            let Value::Matrix(range) = engine.range(&storage, query, (0, 2000, 1000), &options).unwrap().value else {
                panic!("{query}: a matrix")
            };
            for time in [0, 1000, 2000] {
                let Value::Vector(instant) = engine.instant(&storage, query, time, &options).unwrap().value else {
                    panic!("{query}: a vector")
                };
                let text = |labels: &Labels, value: f64| format!("{labels} {value}");
                let float = |value: &SampleValue| if let SampleValue::Float(value) = value { *value } else { 0.0 };
                let mut alone: Vec<String> = instant.iter().map(|s| text(&s.labels, float(&s.value))).collect();
                let at =
                    |series: &MatrixSeries| series.floats.iter().find(|(t, _)| *t == time).map(|(_, value)| *value);
                let mut among: Vec<String> =
                    range.iter().filter_map(|series| Some(text(&series.labels, at(series)?))).collect();
                alone.sort();
                among.sort();
                assert_eq!(alone, among, "{query} at {time}");
            }
        }
    }

    /// As many as are wanted and no others, whatever comes when: beside sorting all of them.
    #[test]
    fn a_heap_keeps_the_best() {
        let account = Account::new(usize::MAX, Arc::default(), Urgency::default());
        let row = |value: f64, n: usize| Row {
            labels: Labels::from_pairs([("n", &*n.to_string())]),
            drop_name: false,
            floats: vec![value, -value],
            histograms: Vec::new(),
        };
        for seed in 1..50u64 {
            let values: Vec<f64> = (0..seed * 3 % 40)
                .map(|n| if (n * seed) % 9 == 4 { f64::NAN } else { ((n * seed * 31) % 17) as f64 })
                .collect();
            for order in [Order::Greatest, Order::Least] {
                let (wanted, mut held) = ([(seed % 6) as u32, 3], account.charge());
                let (mut best, mut known) = (Best::new(order, 2), Known::default());
                for (n, value) in values.iter().enumerate() {
                    best.offer(&row(*value, n), &wanted, &mut known, &mut held).unwrap();
                }
                for (step, wanted) in wanted.iter().enumerate() {
                    let mut all: Vec<f64> = values.iter().map(|v| if step == 0 { *v } else { -*v }).collect();
                    all.sort_by(|a, b| by_value(*a, *b, matches!(order, Order::Greatest)));
                    all.truncate(*wanted as usize);
                    let kept = best.sorted(step).iter().map(|entry| entry.0.to_string());
                    assert!(kept.eq(all.iter().map(f64::to_string)), "{seed} {step}");
                }
                let uses: u32 = known.series.iter().map(|series| series.uses).sum();
                assert_eq!(uses, best.counts.iter().sum::<u32>());
                assert!(known.series.len() <= 9 && known.free.len() <= known.series.len(), "numbers are given again");
            }
        }
    }
}
