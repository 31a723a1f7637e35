//! Parts that are written several times are evaluated once, and nobody can tell but by the time.

use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Labels, Timestamp};
use promql::storage::{SelectRequest, Selection, Storage, StorageError};
use promql::testing::MemoryStorage;
use promql::{Engine, EngineOptions, QueryOptions};

/// Counts what is asked of it.
struct Counting(MemoryStorage, AtomicUsize);

impl Storage for Counting {
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.select(request)
    }

    fn may_have_label(&self, name: &str, mint: Timestamp, maxt: Timestamp) -> bool {
        self.0.may_have_label(name, mint, maxt)
    }
}

/// 40 series of `m` and of `n`, some without samples for a while.
fn storage() -> Counting {
    let mut storage = MemoryStorage::new();
    for n in 0..40i64 {
        for name in ["m", "n"] {
            let labels = [("__name__", name.to_owned()), ("a", (n % 4).to_string()), ("n", n.to_string())];
            let labels = Labels::from_pairs(labels);
            let live = (0..200).filter(|i| (i + n) % 50 > n % 20);
            live.for_each(|i| storage.add_float(&labels, i * 10_000, ((i * n) % 17) as f64, 0));
        }
    }
    Counting(storage, AtomicUsize::new(0))
}

/// The same query once as it is, and once with every `X` of it written differently, `M` being the metric.
fn check(query: &str, x: &str, selects: (usize, usize), max_memory: usize) {
    let storage = storage();
    let different = |at: usize| x.replace('M', &format!("m{{never!=\"{at}\"}}"));
    let (mut same, mut apart, mut count) = (String::new(), String::new(), 0);
    for part in query.split('X') {
        if count > 0 {
            same.push_str(&x.replace('M', "m"));
            apart.push_str(&different(count));
        }
        count += 1;
        same.push_str(part);
        apart.push_str(part);
    }
    let answer = |query: &str| {
        let engine = Engine::new(EngineOptions { max_memory, ..EngineOptions::default() });
        let asked = storage.1.load(Ordering::Relaxed);
        let result = engine.range(&storage, query, (600_000, 1_500_000, 30_000), &QueryOptions::default());
        let result = result.unwrap_or_else(|e| panic!("{query}: {e}"));
        let stats = &result.stats;
        let counts = (stats.total_queryable_samples, stats.samples_read, stats.peak_samples);
        let asked = storage.1.load(Ordering::Relaxed) - asked;
        (format!("{:?} {counts:?} {} {}", result.value, result.warnings.len(), result.infos.len()), asked)
    };
    let (shared, separate) = (answer(&same), answer(&apart));
    assert_eq!(shared.0, separate.0, "{same} and {apart}");
    assert_eq!((shared.1, separate.1), selects, "{same}: selections");
}

#[test]
fn values_and_counts_are_as_if_each_were_evaluated() {
    for (query, x, selects) in [
        ("X / (X + on (a, n) n)", "M", (2, 3)),
        ("X > 3 and X < 9 or X", "max_over_time(M[1m])", (1, 3)),
        ("sum(X) / count(X)", "M", (2, 2)),
        ("X / X", "sum by (a) (M)", (1, 2)),
        ("X - X offset 1m", "M", (2, 2)),
        ("topk(2, X) or X", "M * 2", (1, 2)),
        ("max_over_time((X / X)[2m:30s]) > X", "avg by (a) (M)", (2, 3)),
        ("X + X * X - X", "M @ 900", (1, 4)),
        ("absent(X) or X", "M", (2, 2)),
    ] {
        check(query, x, selects, usize::MAX);
    }
}

/// Where memory ends, slices share what is the same within each.
#[test]
fn slices_share_for_themselves() {
    let query = "X / (X + on (a, n) n)";
    let storage = storage();
    let text = query.replace('X', "m");
    let whole = Engine::default().range(&storage, &text, (600_000, 1_500_000, 1000), &QueryOptions::default()).unwrap();
    let max_memory = usize::try_from(whole.stats.peak_bytes).unwrap() * 8 / 10;
    let engine = Engine::new(EngineOptions { max_memory, ..EngineOptions::default() });
    let sliced = engine.range(&storage, &text, (600_000, 1_500_000, 1000), &QueryOptions::default()).unwrap();
    assert_eq!(format!("{:?}", sliced.value), format!("{:?}", whole.value));
}

/// An annotation names the place of its part, the last of several.
#[test]
fn annotations_are_those_of_each_place() {
    let query = "rate(m[1m]) + rate(m[1m])";
    let result = Engine::default().instant(&storage(), query, 1_000_000, &QueryOptions::default()).unwrap();
    assert_eq!(result.infos.len(), 1, "{:?}", result.infos);
    assert!(result.infos[0].contains("(1:20)"), "{:?}", result.infos);
}
