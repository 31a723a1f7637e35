//! Metrics of a Linux machine under the names of Prometheus' node_exporter.
//!
//! [`Exporter`] gathers pages, [`run`] serves them. A collector is one file under `collectors/` and one line in its list.

mod collector;
mod collectors;
mod exporter;
mod files;
mod flags;
mod options;
mod web;

pub use collector::{Collector, CollectorError};
pub use exporter::{Exporter, Selection, SelectionError};
pub use files::Paths;
pub use flags::{Config, PROGRAM, parse};
pub use web::{Bound, StartError, bind, run};
