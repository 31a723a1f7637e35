//! PromQL: parser, evaluation of whole matrices over a storage, formatter, and the runner of test scripts.
//!
//! This crate knows nothing of any storage engine: data comes through [`storage::Storage`].

pub mod ast;
mod features;
mod format;
mod functions;
mod go_text;
mod json_ast;
mod lexer;
mod parser;
mod position;
mod prettify;
pub mod storage;
mod types;

pub use features::Features;
pub use functions::{Arity, FUNCTIONS, Function};
pub use parser::{MAX_QUERY_BYTES, ParseError, ParseProblem, parse, parse_metric_selector};
pub use position::PosRange;
pub use types::ValueType;
