//! Prometheus text 0.0.4 and 1.0.0.

mod encode;
mod parse;

pub(super) use encode::LabelWriter;
pub use encode::encode;
pub use parse::Parser;
pub(super) use parse::family_name;
