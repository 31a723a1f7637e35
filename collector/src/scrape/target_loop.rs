//! The life of one target: when it is scraped, and what is left when it goes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::http::client::Client;
use model::{Timestamp, now_millis};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::failure_log::{self, FailureLog};
use super::fetch::{self, FetchError, Page, Question};
use super::ingest::Ingest;
use super::metrics::ScrapeMetrics;
use super::pool::ScrapeOptions;
use super::target::Target;
use crate::config::ScrapeConfig;
use crate::grid::{due_after, first_due};
use crate::storage::Store;

/// How the loop of a target ends.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// The server stops: nothing more is written.
    pub(super) shutdown: CancellationToken,
    /// The target is gone, or goes on under a changed configuration: its series are marked as ended. Markers for series that
    /// have got newer samples by then are refused by the store.
    pub(super) gone: CancellationToken,
}

pub(super) struct TargetLoop {
    pub(super) target: Arc<Target>,
    pub(super) config: Arc<ScrapeConfig>,
    pub(super) client: Client,
    pub(super) failure_log: FailureLog,
    /// Why no target of the job is scraped, if none is.
    pub(super) refusal: watch::Receiver<Option<Arc<str>>>,
    pub(super) store: Store,
    pub(super) metrics: Arc<ScrapeMetrics>,
    pub(super) ends: Ends,
    pub(super) options: ScrapeOptions,
}

/// Parsing a page that is larger takes so long that other targets should not wait for it.
const LARGE_PAGE: usize = 256 << 10;

enum Wake {
    Scrape,
    Gone,
    Stop,
}

impl TargetLoop {
    /// Runs until the target is gone or the server stops. Cancelling the future between scrapes loses nothing.
    pub(super) async fn run(self) {
        let interval = self.target.interval.millis();
        let mut ingest = Ingest::new(Arc::clone(&self.config), Arc::clone(&self.target), self.options);
        let intervals = self.metrics.interval(self.target.interval);
        let question = Question::new(&self.target.url, &self.config, self.target.timeout.as_std());
        let mut last: Option<Instant> = None;
        let mut due = first_due(now_millis(), interval, self.target.hash() ^ self.options.seed);
        loop {
            match self.wait_until(due).await {
                Wake::Stop => return,
                Wake::Gone => return self.end(ingest, due).await,
                Wake::Scrape => {}
            }
            if let Some(last) = last.replace(Instant::now()) {
                intervals.observe(last.elapsed());
            }
            let now = now_millis();
            due = due_after(due, now, interval);
            // scrapes that start a little late do not say so, so that timestamps compress
            let near = |tolerance: model::Duration| (now - due).abs() <= tolerance.millis().min(interval / 100);
            let time = if self.options.timestamp_tolerance.is_some_and(near) { due } else { now };
            match self.scrape(ingest, time, &question).await {
                Some(back) => ingest = back,
                None => return,
            }
            due += interval;
        }
    }

    async fn wait_until(&self, due: Timestamp) -> Wake {
        let interval = self.target.interval.millis();
        // never longer than the interval, wherever the clock has gone
        let wait = Duration::from_millis((due - now_millis()).clamp(0, interval).unsigned_abs());
        tokio::select! {
            biased;
            () = self.ends.shutdown.cancelled() => Wake::Stop,
            () = self.ends.gone.cancelled() => Wake::Gone,
            () = tokio::time::sleep(wait) => Wake::Scrape,
        }
    }

    /// One scrape. The bookkeeping comes back unless the server stops in the middle.
    async fn scrape(
        &self,
        mut ingest: Ingest,
        time: Timestamp,
        question: &Result<Question, FetchError>,
    ) -> Option<Ingest> {
        let started = Instant::now();
        let refusal = self.refusal.borrow().clone();
        let refused = refusal.is_some();
        let fetched = match refusal {
            Some(reason) => Err(FetchError::Refused(reason)),
            None => tokio::select! {
                biased;
                () = self.ends.shutdown.cancelled() => return None,
                page = self.fetch(question) => page,
            },
        };
        if let Err(error) = &fetched
            && !refused
        {
            failure_log::note(&self.failure_log, &self.config, &self.target, error);
        }
        // while the log is being read, the page waits here, which is no part of the scrape's duration
        let waiting = Instant::now();
        tokio::select! {
            biased;
            () = self.ends.shutdown.cancelled() => return None,
            _ = self.store.ready() => {}
        }
        let started = started + waiting.elapsed();
        let store = self.store.clone();
        let large = fetched.as_ref().is_ok_and(|page| page.body.len() > LARGE_PAGE);
        let work = move || {
            let result = ingest.scrape(&store, time, started, fetched);
            (ingest, result)
        };
        let done = if large {
            tokio::task::spawn_blocking(work).await.ok()
        } else {
            catch_unwind(AssertUnwindSafe(work)).ok()
        };
        let (ingest, (result, refusals)) = match done {
            Some(done) => done,
            None => {
                tracing::error!(target = %self.target.url, "a scrape panicked; the target starts anew");
                self.metrics.panics.inc();
                (
                    Ingest::new(Arc::clone(&self.config), Arc::clone(&self.target), self.options),
                    (Ok(()), crate::storage::Refusals::default()),
                )
            }
        };
        self.metrics.note(&result, &refusals, started.elapsed());
        let mut status = self.target.status.lock();
        status.up = Some(result.is_ok());
        status.last_scrape = time;
        status.last_duration = started.elapsed();
        status.last_error = result.err().map(|e| e.to_string()).unwrap_or_default();
        if !status.last_error.is_empty() {
            tracing::debug!(scrape_pool = %self.config.job_name, target = %self.target.url, err = %status.last_error, "Scrape failed");
        }
        drop(status);
        Some(ingest)
    }

    async fn fetch(&self, question: &Result<Question, FetchError>) -> Result<Page, FetchError> {
        let timeout = self.target.timeout.as_std();
        let answered = AtomicBool::new(false);
        let request = async {
            let request = question.as_ref().map_err(FetchError::clone)?.request();
            fetch::fetch(&self.client, request, &self.config, &answered).await
        };
        tokio::time::timeout(timeout, request).await.unwrap_or_else(|_| {
            let late = "context deadline exceeded";
            Err(FetchError::Request(match answered.load(Ordering::Relaxed) {
                true => late.to_owned(),
                false => format!("Get {}: {late}", model::quote(&self.target.url)),
            }))
        })
    }

    /// The target is gone. It may come back under the same labels, so the markers wait for two intervals and a tenth; they carry
    /// the time of the first scrape that did not happen.
    async fn end(self, mut ingest: Ingest, missed: Timestamp) {
        let interval = self.target.interval.as_std();
        tokio::select! {
            () = self.ends.shutdown.cancelled() => return,
            () = tokio::time::sleep(interval * 2 + interval / 10) => {}
        }
        let store = self.store.clone();
        let ended = tokio::task::spawn_blocking(move || ingest.end(&store, missed)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(target = %self.target.url, %error, "cannot mark the series of a target as ended");
        }
    }
}
