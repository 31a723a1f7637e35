//! OpenMetrics text 0.0.1 and 1.0.0.

mod created;
mod encode;
mod parse;

pub use created::CreatedParser;
pub(super) use encode::push_float;
pub use encode::{Created, encode};
pub use parse::Parser;
