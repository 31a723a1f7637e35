//! Delimited `io.prometheus.client.MetricFamily` messages, written and read by hand: the schema is small and frozen.

mod encode;
mod family;
mod parse;
pub mod wire;

pub use encode::encode;
pub use parse::Parser;
