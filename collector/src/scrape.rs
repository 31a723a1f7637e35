//! Scraping: discovered targets become loops, loops become samples.

mod bucket_limits;
mod failure_log;
mod fetch;
mod ingest;
mod metrics;
mod page_cache;
mod pool;
mod report;
mod target;
mod target_loop;
mod target_metadata;

pub use fetch::{FetchError, HARD_BODY_LIMIT};
pub use ingest::IngestError;
pub use metrics::{Counter, ScrapeMetrics};
pub(crate) use pool::ScrapeOptions;
pub use pool::{PoolView, ScrapeManager};
pub use target::{ADDRESS, Settled, Target, TargetStatus, settle};
pub use target_metadata::TargetMetadata;
