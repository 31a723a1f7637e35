//! Scraping: discovered targets become loops, loops become samples.

mod bucket_limits;
mod failure_log;
mod fetch;
mod ingest;
mod label_rules;
mod metadata_labels;
mod metrics;
mod page_buffer;
mod page_cache;
mod page_changes;
mod page_parser;
mod pool;
mod report;
mod scrape_row;
mod start_times;
mod target;
mod target_loop;
mod target_metadata;
mod workers;

pub use fetch::{FetchError, HARD_BODY_LIMIT};
pub use ingest::IngestError;
pub use metrics::{Counter, ScrapeMetrics};
pub(crate) use pool::ScrapeOptions;
pub use pool::{PoolView, ScrapeManager};
pub use start_times::StartTimes;
pub use target::{ADDRESS, Settled, Target, TargetStatus, settle};
pub use target_metadata::TargetMetadata;
