//! Runs each target on its corpus and then, for a bounded number of changed inputs, at random. A failing input is written to
//! `target/fuzz`; `FIREWATCH_FUZZ_INPUT=FILE` with the test's name runs it alone. `FIREWATCH_SEED` repeats the changes,
//! `FIREWATCH_LONG=1` makes some minutes of it.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz_targets::{Mutator, TARGETS, Target};

/// No input is longer; nothing here is interesting only when it is long.
const INPUT_BYTES: usize = 4096;
/// Inputs that are kept to be changed further.
const POOL: usize = 2000;

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs this")).join("../..")
}

/// Runs one input; a panic is told with the place of the input.
fn run_one(target: &Target, input: &[u8]) -> u64 {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|_| {
        let folder = root().join("target/fuzz");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}-{}", target.name, input.len()));
        fs::write(&path, input).unwrap();
        panic!("{} fails on the input in {}:\n{}", target.name, path.display(), input.escape_ascii());
    })
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    if let Some(path) = std::env::var_os("FIREWATCH_FUZZ_INPUT") {
        run_one(target, &fs::read(path).unwrap());
        return;
    }
    let corpus = root().join("fuzz/corpus").join(name);
    let mut pool: Vec<Vec<u8>> = (target.seeds)();
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    pool.extend(files.iter().map(|path| fs::read(path).unwrap()));
    assert!(!pool.is_empty(), "{name} has no corpus");
    let mut seen: HashSet<u64> = pool.iter().map(|input| run_one(target, input)).collect();

    let long = std::env::var_os("FIREWATCH_LONG").is_some();
    let seed = std::env::var("FIREWATCH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| if long { std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 } else { 1 });
    println!("FIREWATCH_SEED={seed}");
    let mut mutator = Mutator::new(seed, target.words);
    let (inputs, time) = if long { (u64::MAX, Duration::from_secs(60)) } else { (20_000, Duration::from_millis(1500)) };
    let end = Instant::now() + time;
    let mut done = 0;
    while done < inputs && Instant::now() < end {
        let mut input = pool[mutator.below(pool.len())].clone();
        let other = pool[mutator.below(pool.len())].clone();
        mutator.change(&mut input, &other, INPUT_BYTES);
        if seen.insert(run_one(target, &input)) && pool.len() < POOL {
            pool.push(input);
        }
        done += 1;
    }
    println!("{name}: {done} inputs, {} outcomes", seen.len());
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*

        #[test]
        fn every_target_has_its_test_and_its_program() {
            let tests = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), tests);
            for name in tests {
                let program = fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("fuzz_targets::run(\"{name}\"")), "{name}");
            }
        }
    };
}

targets! {
    text openmetrics protobuf remote_write promql config rules web_config log_record log_segment head_image columns block block_meta
    tombstones kernel_files
}
