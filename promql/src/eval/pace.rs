//! When long work looks whether anybody still waits for it.

use super::Query;
use crate::QueryError;

/// So much work is done between two looks: about a millisecond of it.
pub(super) const WORK: usize = 1 << 18;

/// What it counts for to look a label set up or to make one.
pub(crate) const LABELS_WORK: usize = 64;

/// What it counts for to sort a number among others.
pub(super) const SORT_WORK: usize = 16;

/// What it counts for to add a histogram to another.
pub(super) const HISTOGRAM_WORK: usize = 128;

/// Counts work (a number looked at, about), and ends it when the query is canceled or out of time.
pub(crate) struct Pace<'q> {
    query: &'q Query<'q>,
    left: usize,
}

impl<'q> Pace<'q> {
    pub(super) fn new(query: &'q Query<'q>) -> Self {
        Self { query, left: WORK }
    }

    /// So much work is done.
    #[inline]
    pub(crate) fn done(&mut self, work: usize) -> Result<(), QueryError> {
        if work < self.left {
            self.left -= work;
            return Ok(());
        }
        self.left = WORK;
        self.query.check()
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;
    use crate::eval::{Evaluator, Steps};
    use crate::search::Patience;
    use crate::testing::MemoryStorage;
    use crate::{Engine, EngineOptions, Features, QueryOptions};

    /// 300 series with a sample every second for 1000 s.
    fn storage() -> MemoryStorage {
        let mut storage = MemoryStorage::new();
        for n in 0..300i64 {
            let labels = [("__name__", "m".to_owned()), ("le", (n % 30).to_string()), ("n", n.to_string())];
            let labels = Labels::from_pairs(labels);
            (0..1000).for_each(|i| storage.add_float(&labels, i * 1000, ((i * n) % 97) as f64, 0));
        }
        storage
    }

    /// However a query spends its time, it looks every million numbers or so whether to go on.
    #[test]
    fn long_work_looks_whether_to_go_on() {
        let storage = storage();
        let options = EngineOptions { features: Features::all(), ..EngineOptions::default() };
        let engine = Engine::new(options.clone());
        let steps = Steps { start: 0, interval: 1000, count: 1000 };
        let series = 300;
        for (text, numbers) in [
            // one series with long windows
            ("quantile_over_time(0.5, m{n=\"7\"}[1000s])", 500_000),
            ("stddev_over_time(m{n=\"7\"}[1000s])", 500_000),
            ("rate(m{n=\"7\"}[1000s])", 500_000),
            // one series with many steps
            ("sum_over_time(vector(1)[20m:1ms])", 1_000_000 * 600),
            // many series and steps
            ("m", series * 1000),
            ("-m", series * 2000),
            ("abs(m)", series * 2000),
            ("m + 1", series * 2000),
            ("m + on (n) m", series * 3000),
            ("m + on () group_left () sum(m)", series * 3000),
            ("m and on (n) m", series * 4000),
            ("m or on (n) m", series * 4000),
            ("quantile(0.5, m)", series * 5000),
            ("topk(10, m)", series * 5000),
            ("count_values(\"v\", m)", series * 20_000),
            ("histogram_quantile(0.9, m)", series * 5000),
            ("label_replace(m, \"x\", \"$1\", \"n\", \"(.*)\")", series * 1000),
            ("absent(m)", series * 2000),
            ("timestamp(-m)", series * 3000),
            ("scalar(m)", series * 2000),
        ] {
            let expr = engine.parse(text).unwrap();
            let range = (steps.start, steps.last(), steps.interval);
            let patience = Patience::default();
            let query = Query::new(&storage, &expr, &options, &QueryOptions::default(), &patience, range, steps);
            Evaluator { query: &query, steps }.answer(&expr, text, false).unwrap_or_else(|e| panic!("{text}: {e}"));
            let checks = query.checks.load(std::sync::atomic::Ordering::Relaxed);
            assert!(checks * (1 << 20) > numbers, "{text}: {checks} looks for {numbers} numbers");
            // at most a few times a series
            assert!(checks < 10 * series + numbers / 1000, "{text}: {checks} looks for {numbers} numbers");
        }
    }
}
