//! PromQL: parser, evaluation of whole matrices over a storage, formatter, and the runner of test scripts.
//!
//! This crate knows nothing of any storage engine: data comes through [`storage::Storage`].

mod annotations;
pub mod ast;
mod engine;
mod error;
mod eval;
mod features;
mod format;
mod functions;
mod go_text;
mod json_ast;
mod lexer;
mod math;
mod memory;
mod parser;
mod plan;
mod position;
mod prettify;
pub mod result;
mod search;
pub mod storage;
pub mod testing;
mod types;

pub use engine::{CancelToken, Engine, EngineOptions, QueryOptions};
pub use error::QueryError;
pub use features::Features;
pub use functions::{Arity, FUNCTIONS, Function};
pub use memory::{ByteSize, Charge, MemoryPool, Urgency};
pub use parser::{MAX_QUERY_BYTES, ParseError, ParseProblem, parse, parse_metric_selector};
pub use plan::{Extent, PlanNode};
pub use position::PosRange;
pub use result::{QueryResult, Value};
pub use search::Search;
pub use types::ValueType;
