//! A storage in memory and the runner of PromQL test scripts.
//!
//! A script is read line by line, blanks at both ends removed; a line that starts with `#` counts as empty, and an empty line
//! ends the block it stands in. `load DUR` (or `load_with_nhcb DUR`) is followed by series in the notation of rule unit tests,
//! `clear` throws all data away, and `eval instant at T QUERY` and `eval range from T to T step DUR QUERY` are followed by the
//! expected result. Each `eval` is one case. An instant query is checked again with its times fixed by `@`, evaluated at
//! other times, and as the middle step of a range query.

mod compare;
mod fix_times;
mod hints;
mod memory;
mod nhcb;
mod notation;
mod runner;
mod script;

pub use memory::MemoryStorage;
pub use notation::{NotationError, SequenceValue, parse_series};
pub use runner::{Summary, run_script, run_scripts};
