//! Metrics of a Linux machine under the names of Prometheus' node_exporter.
//!
//! [`Exporter`] gathers pages, [`run`] serves them. A collector is one file under `collectors/` and one line in its list.

mod collection;
mod collector;
mod collectors;
mod exporter;
mod files;
mod flags;
mod ioctl;
mod kept;
mod options;
mod web;
mod workers;

pub use collector::{Collector, CollectorError};
pub use exporter::{Exporter, GatherError, Selection, SelectionError};
pub use files::Paths;
pub use flags::{Config, PROGRAM, parse};
pub use web::{Bound, StartError, bind};

/// The names of all collectors there are, in their order.
pub fn collector_names() -> impl Iterator<Item = &'static str> {
    collectors::ALL.iter().map(|collector| collector.name)
}
