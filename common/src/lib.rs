//! What every daemon shares: the metric model and the exposition formats, the HTTP server and client set-up, flags, logs,
//! self-metrics, and the start and stop of a process.
//!
//! This crate knows nothing of storage, queries or any daemon. Nothing in it is global: no registry, no default client.

pub mod daemon;
pub mod exposition;
pub mod flags;
pub mod http;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod secret;
pub mod selfmetrics;
pub mod yaml;
