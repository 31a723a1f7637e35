//! The benchmarks, one file each.

pub(crate) mod blackbox;
pub(crate) mod ingest;
pub(crate) mod node;
pub(crate) mod startup;
