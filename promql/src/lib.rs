//! PromQL: parser, evaluation of whole matrices over a storage, formatter, and the runner of test scripts.
//!
//! This crate knows nothing of any storage engine: data comes through [`storage::Storage`].

pub mod storage;
