//! Writes the inputs that are made by programs into `fuzz/corpus`, beside those that people have written.

use std::fs;
use std::path::Path;

use fuzz_targets::TARGETS;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs this");
        let folder = Path::new(&here).join("../../fuzz/corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("made-{number}")), seed)?;
        }
    }
    Ok(())
}
