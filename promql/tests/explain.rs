//! A query tells what its parts came to.

use model::Labels;
use promql::testing::MemoryStorage;
use promql::{Engine, EngineOptions, Extent, PlanNode, QueryOptions, QueryResult};

/// 100 series with a sample every 10 s for 1000 s.
fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for n in 0..100 {
        let labels =
            Labels::from_pairs([("__name__", "m".to_owned()), ("a", (n % 4).to_string()), ("n", n.to_string())]);
        (0..=100).for_each(|i| storage.add_float(&labels, i * 10_000, i as f64, 0));
    }
    storage
}

/// A line a node: what it gave, what it read, whether it was evaluated once.
fn lines(node: &PlanNode, depth: usize, out: &mut String) {
    let shown = |extent: Extent| format!("{}x{}", extent.series, extent.samples);
    let (read, once) = (
        if node.read == Extent::default() { String::new() } else { format!(" of {}", shown(node.read)) },
        match (node.once, node.shared) {
            (true, _) => " once",
            (_, true) => " shared",
            _ => "",
        },
    );
    out.push_str(&format!("{}{} = {}{read}{once}\n", "  ".repeat(depth), node.expr, shown(node.given)));
    node.operands.iter().for_each(|operand| lines(operand, depth + 1, out));
}

fn explained(query: &str, step: i64, max_memory: usize) -> QueryResult {
    let options = QueryOptions { explain: true, ..QueryOptions::default() };
    let engine = Engine::new(EngineOptions { max_memory, threads: 1, ..EngineOptions::default() });
    engine.range(&storage(), query, (500_000, 590_000, step), &options).unwrap()
}

fn check(query: &str, expected: &str) -> PlanNode {
    let plan = explained(query, 10_000, usize::MAX).plan.expect("a plan");
    let mut shown = String::new();
    lines(&plan, 0, &mut shown);
    assert_eq!(shown.trim_end(), expected.trim(), "{query}");
    plan
}

#[test]
fn every_node_tells_what_it_gave_and_read() {
    let plan = check(
        "sum by (a) (m) * 2 + on (a) max by (a) (max_over_time(m[1m] offset 1m))",
        "
sum by (a) (m) * 2 + on (a) max by (a) (max_over_time(m[1m] offset 1m)) = 4x40
  sum by (a) (m) = 4x40
    m = 100x1000 of 100x3900
  2 = 0x10
  max by (a) (max_over_time(m[1m] offset 1m)) = 4x40
    max_over_time(m[1m] offset 1m) = 100x1000 of 100x1500
",
    );
    assert!(plan.given.bytes > 4 * 10 * 8 && plan.time >= plan.operands[0].time, "{plan:?}");
    check(
        "count(m @ 500)",
        "
count(m @ 500.000) = 1x10 once
  m @ 500.000 = 100x100 of 100x100
",
    );
    check(
        "count(m > 54)",
        "
count(m > 54) = 1x5
  m > 54 = 100x500
    m = 100x1000 of 100x3900
    54 = 0x10
",
    );
    check(
        "max_over_time(sum(m)[1m:20s])",
        "
max_over_time(sum(m)[1m:20s]) = 1x10
  sum(m) = 1x7
    m = 100x700 of 100x4200
",
    );
    check(
        "sum(m) / (sum(m) + max by (a) (abs(m) and abs(m))) > sum(m)",
        "
sum(m) / (sum(m) + max by (a) (abs(m) and abs(m))) > sum(m) = 0x0
  sum(m) = 1x10
    m = 100x1000 of 100x3900
  sum(m) + max by (a) (abs(m) and abs(m)) = 0x0
    sum(m) = 1x10 shared
    max by (a) (abs(m) and abs(m)) = 4x40
      abs(m) and abs(m) = 100x1000
        abs(m) = 100x1000
          m = 100x1000 of 100x3900
        abs(m) = 100x1000 shared
  sum(m) = 1x10 shared
",
    );
    let plain = Engine::default().instant(&storage(), "m", 0, &QueryOptions::default()).unwrap();
    assert_eq!(plain.plan, None);
}

/// Figures of all slices together, but of memory, which slices take one after the other.
#[test]
fn slices_are_added_up() {
    let whole = explained("topk(3, abs(m))", 100, usize::MAX);
    let limit = usize::try_from(whole.stats.peak_bytes).unwrap() * 6 / 10;
    let sliced = explained("topk(3, abs(m))", 100, limit);
    let (whole, sliced) = (whole.plan.unwrap(), sliced.plan.unwrap());
    let (whole, sliced) = (&whole.operands[1], &sliced.operands[1]);
    assert_eq!((whole.given.series, whole.given.samples), (100, 90_100));
    assert_eq!((sliced.given.series, sliced.given.samples), (100, 90_100));
    assert!(sliced.given.bytes < whole.given.bytes, "{sliced:?}");
    assert!(sliced.operands[0].read.samples > whole.operands[0].read.samples, "{sliced:?}");
}
