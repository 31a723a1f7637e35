//! The engine against a plain model in memory, on a disk that can fail and lose power: random appends, late ones, two writers
//! of one series, targets that come back, deletions, cuts, merges, crashes; and directed faults of the disk.
//!
//! A failing seed is printed; `FIREWATCH_SEED=n cargo test --release -p tsdb --test simulation` runs it alone,
//! `FIREWATCH_RUNS=n` runs so many, `FIREWATCH_LONG=1` hundreds.

#[path = "../shared/copy.rs"]
mod copy;
mod disk;
mod engine;
mod faults;
mod random;
#[path = "../shared/scratch.rs"]
mod scratch;

use engine::Simulation;
use scratch::scratch;

fn run(seed: u64, steps: usize) {
    let dir = scratch();
    let mut simulation = Simulation::new(seed, dir.path());
    let alone = std::env::var_os("FIREWATCH_SEED").is_some();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for step in 0..steps {
            simulation.step();
            if step % 50 == 49 || alone {
                simulation.check(&[], i64::MIN, i64::MAX);
            }
        }
        simulation.crash();
        simulation.check(&[], i64::MIN, i64::MAX);
    }));
    if let Err(panic) = outcome {
        let from = simulation.log.len().saturating_sub(if alone { 200 } else { 30 });
        eprintln!("FIREWATCH_SEED={seed}, {:?}\nlast steps: {:#?}", simulation.options(), &simulation.log[from..]);
        std::panic::resume_unwind(panic);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn the_engine_does_what_the_model_does() {
    if let Some(seed) = number("FIREWATCH_SEED") {
        return run(seed, 600);
    }
    // in the long mode others each time
    let long = std::env::var_os("FIREWATCH_LONG").is_some();
    let first = if long { std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() * 1000 } else { 0 };
    for seed in first..first + number("FIREWATCH_RUNS").unwrap_or(if long { 400 } else { 12 }) {
        run(seed, 600);
    }
}
