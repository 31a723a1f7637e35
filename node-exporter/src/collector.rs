use std::time::Instant;

use common::metrics::Page;

use crate::options::{Flag, Settings};

/// Gathers one group of metrics.
///
/// Runs on a thread of its own choosing and may be called from several at once. What it needs from flags it took when it was
/// built.
pub trait Collector: Send + Sync {
    /// Appends what can be read now. What was appended before an error is shown all the same.
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError>;

    /// The same, for a collector that waits for others and can say what it has before the time at which nobody listens any more.
    fn collect_until(&self, page: &mut Page, deadline: Instant) -> Result<(), CollectorError> {
        let _ = deadline;
        self.collect(page)
    }
}

/// Why a collector did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectorError {
    /// The machine has nothing of the kind: not worth a line in the log.
    #[error("collector returned no data")]
    NoData,
    /// Something that should be readable is not.
    #[error("{0}")]
    Failed(String),
}

impl CollectorError {
    /// A failure in these words.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

/// How a collector comes into being.
pub(crate) struct Registration {
    /// Its name in flags and metrics.
    pub(crate) name: &'static str,
    /// Whether it runs unless it is switched off.
    pub(crate) default: bool,
    /// Its own flags.
    pub(crate) flags: &'static [Flag],
    /// Builds it; an error ends the program with the text.
    pub(crate) build: fn(&Settings<'_>) -> Result<Box<dyn Collector>, String>,
}
