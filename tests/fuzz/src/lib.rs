//! What is fuzzed: a function for each parser and file format, which takes arbitrary bytes and panics when something is wrong
//! with how they are read. `fuzz/` runs them with libFuzzer, the tests here on stable Rust for a bounded number of inputs.

mod exposition;
mod kernel_files;
mod mutate;
mod query;
mod remote_write;
mod settings;
mod storage;

pub use mutate::Mutator;

/// A function to be fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Reads an input. Gives a number for what became of it: inputs with a new one are worth changing further.
    pub run: fn(&[u8]) -> u64,
    /// Words that inputs are made of.
    pub words: &'static [&'static str],
    /// Inputs to begin with where they are not text that a person can write; `examples/corpus.rs` puts them into files.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    exposition::TEXT,
    exposition::OPENMETRICS,
    exposition::PROTOBUF,
    remote_write::TARGET,
    query::TARGET,
    settings::CONFIG,
    settings::RULES,
    settings::WEB_CONFIG,
    storage::LOG_RECORD,
    storage::LOG_SEGMENT,
    storage::HEAD_IMAGE,
    storage::COLUMNS,
    storage::BLOCK,
    storage::BLOCK_META,
    storage::TOMBSTONES,
    kernel_files::TARGET,
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or the input shows a fault.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(input);
}

/// A number for a text, the same for texts that differ in numbers and quoted parts only: error messages.
pub(crate) fn kind_of(message: &str) -> u64 {
    let mut quoted = false;
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in message.bytes().take(200) {
        quoted ^= byte == b'"';
        if !quoted && byte.is_ascii_alphabetic() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

pub(crate) fn no_seeds() -> Vec<Vec<u8>> {
    Vec::new()
}
