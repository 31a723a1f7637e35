//! What every daemon shares: the metric model and the exposition formats, the HTTP server and client set-up, flags, logs,
//! self-metrics, and the start and stop of a process.
//!
//! This crate knows nothing of storage, queries or any daemon. Nothing in it is global: no registry, no default client.

pub mod exposition;
pub mod metrics;
