//! Comparison of PromQL with the real Prometheus: random expressions over random data, and the expressions of
//! kube-prometheus.

pub mod compare;
pub mod coverage;
pub mod data;
pub mod fuzz;
pub mod generate;
pub mod known;
pub mod kube_prometheus;
mod native;
mod operators;
pub mod pair;
mod random;
mod shrink;

pub use random::Random;
pub use shrink::shrink;
