//! Benchmarks of our daemons beside the real programs, on one machine over loopback.
//!
//! One file in `benchmarks/` is one benchmark, registered by one line in [`benchmark::BENCHMARKS`]. Each starts one program at a
//! time, gives it work that depends on nothing but a seed, and reads what it took from `/proc`.

mod answers;
pub mod benchmark;
mod benchmarks;
mod datasets;
pub mod farm;
mod filled;
mod history;
mod machine;
pub mod markdown;
pub mod pages;
mod peers;
mod proc_files;
mod process;
mod queries;
pub mod recorded;
mod remote_write;
pub mod report;
mod store;
