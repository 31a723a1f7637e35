//! The threads that targets are scraped on.

use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A thread for each processor, up to this many: one takes some million samples a second.
const MOST: usize = 8;

/// Threads that each do all of a scrape but for large pages. Where a runtime of several threads hands a scrape from one to the other at
/// every step, waking them costs as much as reading the page.
#[derive(Debug)]
pub(super) struct Workers {
    handles: Vec<Handle>,
    /// Ends the threads. Not before their tasks have ended: whoever waits for those still has this.
    _ends: DropGuard,
}

impl Workers {
    /// Starts them. Needs a Tokio runtime: if no thread can be had, that does the work.
    pub(super) fn start() -> Self {
        let ends = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let mut handles: Vec<Handle> = (0..count).filter_map(|number| start_one(number, ends.clone())).collect();
        if handles.is_empty() {
            tracing::warn!("no thread for scraping could be started; it shares those of the server");
            handles.push(Handle::current());
        }
        Self { handles, _ends: ends.drop_guard() }
    }

    /// The one for a target.
    pub(super) fn of(&self, target: u64) -> &Handle {
        // the lower bits choose the time of the scrape
        &self.handles[(target >> 32) as usize % self.handles.len()]
    }
}

fn start_one(number: usize, ends: CancellationToken) -> Option<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(ends.cancelled_owned());
    thread::Builder::new().name(format!("scrape-{number}")).spawn(run).ok()?;
    Some(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn targets_are_spread_and_stay_on_their_thread() {
        let workers = Workers::start();
        let name = || thread::current().name().unwrap_or_default().to_owned();
        let mut names = Vec::new();
        for target in 0..64u64 {
            let of = |()| workers.of(target << 32).spawn(async move { name() });
            let (first, second) = (of(()).await.unwrap(), of(()).await.unwrap());
            assert_eq!(first, second);
            assert!(first.starts_with("scrape-"), "{first}");
            names.push(first);
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), workers.handles.len());
    }
}
