//! The benchmarks, one file each.

pub(crate) mod blackbox;
pub(crate) mod disk;
pub(crate) mod ingest;
pub(crate) mod node;
pub(crate) mod query;
pub(crate) mod restart;
pub(crate) mod rules;
pub(crate) mod series;
pub(crate) mod startup;
