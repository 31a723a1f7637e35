use std::collections::VecDeque;

use hashbrown::HashMap;
use model::{Labels, Matcher, Timestamp};

use crate::error::AppendError;
use crate::sample::Exemplar;

/// Characters an exemplar's labels may have together (OpenMetrics).
const MAX_LABEL_CHARS: usize = 128;

/// The latest exemplars of all series, a bounded number of them.
pub(crate) struct ExemplarStore {
    max: usize,
    /// Series in the order their exemplars came.
    order: VecDeque<Labels>,
    series: HashMap<Labels, VecDeque<Exemplar>>,
}

impl ExemplarStore {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, order: VecDeque::new(), series: HashMap::new() }
    }

    /// Whether an exemplar would be taken: `Ok(false)` if it is there already.
    pub(crate) fn check(&self, series: &Labels, exemplar: &Exemplar) -> Result<bool, AppendError> {
        let chars: usize = exemplar.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        if chars > MAX_LABEL_CHARS {
            return Err(AppendError::ExemplarTooLong);
        }
        match self.series.get(series).and_then(VecDeque::back) {
            Some(last) if last == exemplar => Ok(false),
            Some(last) if exemplar.timestamp <= last.timestamp => Err(AppendError::ExemplarOutOfOrder),
            _ => Ok(self.max > 0),
        }
    }

    /// Takes an exemplar that [`ExemplarStore::check`] accepts.
    pub(crate) fn push(&mut self, series: &Labels, exemplar: Exemplar) -> bool {
        if self.check(series, &exemplar) != Ok(true) {
            return false;
        }
        if self.order.len() >= self.max
            && let Some(oldest) = self.order.pop_front()
            && let Some(list) = self.series.get_mut(&oldest)
        {
            list.pop_front();
            if list.is_empty() {
                self.series.remove(&oldest);
            }
        }
        // the key's text is shared with the order
        let key = self.series.get_key_value(series).map_or_else(|| series.clone(), |(k, _)| k.clone());
        self.order.push_back(key.clone());
        self.series.entry(key).or_default().push_back(exemplar);
        true
    }

    /// All exemplars with their series, in the order they came.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (&Labels, &Exemplar)> {
        let mut taken: HashMap<&Labels, usize> = HashMap::new();
        self.order.iter().filter_map(move |labels| {
            let at = taken.entry(labels).or_default();
            *at += 1;
            Some((labels, self.series.get(labels)?.get(*at - 1)?))
        })
    }

    pub(crate) fn select(
        &self,
        matchers: &[Vec<Matcher>],
        min: Timestamp,
        max: Timestamp,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        let wanted = |labels: &Labels| matchers.iter().any(|set| set.iter().all(|m| m.matches(labels.value(&m.name))));
        let mut found: Vec<(Labels, Vec<Exemplar>)> = Vec::new();
        for (labels, list) in self.series.iter().filter(|(labels, _)| wanted(labels)) {
            let inside = list.iter().filter(|e| (min..=max).contains(&e.timestamp)).cloned();
            let inside: Vec<Exemplar> = inside.collect();
            if !inside.is_empty() {
                found.push((labels.clone(), inside));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Numbers of exemplars and of series that have some.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.order.len(), self.series.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(timestamp: Timestamp, value: f64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), value, timestamp }
    }

    #[test]
    fn the_oldest_are_forgotten_and_order_is_kept() {
        let mut store = ExemplarStore::new(3);
        let series = |name: &str| Labels::from_pairs([("__name__", name)]);
        assert!(store.push(&series("a"), exemplar(1, 1.0)));
        assert!(!store.push(&series("a"), exemplar(1, 1.0)), "the same again");
        assert_eq!(store.check(&series("a"), &exemplar(1, 2.0)), Err(AppendError::ExemplarOutOfOrder));
        for t in 2..5 {
            assert!(store.push(&series("b"), exemplar(t, 0.0)));
        }
        assert_eq!(store.counts(), (3, 1));
        let all = [vec![Matcher::equal("__name__", "b")]];
        let times: Vec<i64> = store.select(&all, 3, 9)[0].1.iter().map(|e| e.timestamp).collect();
        assert_eq!(times, [3, 4]);
        let long = Exemplar { labels: Labels::from_pairs([("l", "x".repeat(128))]), value: 0.0, timestamp: 9 };
        assert_eq!(store.check(&series("b"), &long), Err(AppendError::ExemplarTooLong));
    }
}
