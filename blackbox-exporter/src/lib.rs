//! Probes of services from outside, under the names of Prometheus' blackbox_exporter.
//!
//! [`Config`] is the file, [`run`] serves probes. A prober is one file under `prober/` and one arm in `probe.rs`.

mod config;
mod connect;
mod drive;
mod failure;
mod flags;
mod guard;
mod history;
mod log;
mod metrics;
mod probe;
mod prober;
mod request;
mod tls;
mod web;

pub use config::{Config, ConfigError};
pub use flags::{Options, PROGRAM, parse};
pub use guard::{Guard, Network};
pub use web::{Bound, StartError, bind};
