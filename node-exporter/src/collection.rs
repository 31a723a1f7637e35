use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::metrics::{FamilyId, Page};
use model::MetricType;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::collector::{Collector, CollectorError};
use crate::exporter::Selection;

/// A collector of the exporter.
pub(crate) struct Member {
    /// Its name in flags and metrics.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) collector: Arc<dyn Collector>,
    /// Its calls that did not end before their collection did, and have not ended since. It is not asked again until then.
    stuck: AtomicU32,
}

impl Member {
    pub(crate) fn new(name: &'static str, collector: Arc<dyn Collector>) -> Self {
        Self { name, collector, stuck: AtomicU32::new(0) }
    }

    /// Threads that wait for it beyond the end of their collection.
    pub(crate) fn stuck(&self) -> u32 {
        self.stuck.load(Ordering::Relaxed)
    }
}

/// Uses a page that is complete.
pub(crate) type Waiter = Box<dyn FnOnce(&Page) + Send>;

/// Time without any progress after which another thread takes over what is left, at most and at least.
const PATIENCE: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(10)];
/// The share of the whole time that this is: when as many hang as there may be threads, time is left for the others.
const SHARE: u32 = 20;

/// One pass through the chosen collectors, for all requests that ask for the same while it runs.
///
/// A thread takes one collector after the other. When one of them takes long, another thread is given the rest. At the
/// deadline the collection is closed with what there is; threads that come back later find it closed, and what they bring is
/// thrown away. So every collector fills a page of its thread, which is appended when it returns.
pub(crate) struct Collection {
    pub(crate) selection: Selection,
    members: Arc<[Member]>,
    state: Mutex<State>,
    /// Told when the collection is closed.
    pub(crate) closed: Notify,
}

struct State {
    page: Page,
    durations: FamilyId,
    successes: FamilyId,
    reasons: FamilyId,
    /// Indexes of members.
    chosen: Vec<usize>,
    /// The first of `chosen` that nobody has taken yet.
    next: usize,
    /// What is being asked, and since when.
    running: Vec<(usize, Instant)>,
    progress: Instant,
    begin: Instant,
    deadline: Instant,
    /// `None` once the collection is closed.
    waiters: Option<Vec<Waiter>>,
}

/// What a collection gave, and who waits for it.
pub(crate) struct Closed {
    pub(crate) page: Page,
    pub(crate) waiters: Vec<Waiter>,
}

/// What is to be done for a collection now.
pub(crate) enum Need {
    /// To wait until then.
    Patience(Instant),
    /// To give it another thread.
    Thread,
    /// To close it.
    End,
    /// It is closed.
    Nothing,
}

impl Collection {
    /// A collection that no thread works on yet. `page` is empty.
    pub(crate) fn new(
        selection: Selection,
        members: Arc<[Member]>,
        chosen: Vec<usize>,
        mut page: Page,
        deadline: Instant,
        waiter: Waiter,
    ) -> Self {
        let help = "node_exporter: Duration of a collector scrape.";
        let durations = page.family("node_scrape_collector_duration_seconds", help, MetricType::Gauge);
        let help = "node_exporter: Whether a collector succeeded.";
        let successes = page.family("node_scrape_collector_success", help, MetricType::Gauge);
        let help = "Why a collector gave nothing, where node_exporter would have waited or ended: timeout, stuck since an earlier scrape, not_asked as nothing was left to ask it with, panic.";
        let reasons = page.family("node_scrape_collector_failure_info", help, MetricType::Gauge);
        let begin = Instant::now();
        let state = State {
            page,
            durations,
            successes,
            reasons,
            chosen,
            next: 0,
            running: Vec::new(),
            progress: begin,
            begin,
            deadline,
            waiters: Some(vec![waiter]),
        };
        Self { selection, members, state: Mutex::new(state), closed: Notify::new() }
    }

    /// Lets another request wait for the same page, which is due at the earlier one of both deadlines. Gives the waiter back if
    /// the collection is closed.
    pub(crate) fn join(&self, deadline: Instant, waiter: Waiter) -> Result<(), Waiter> {
        let mut state = self.state.lock();
        match &mut state.waiters {
            None => return Err(waiter),
            Some(waiters) => waiters.push(waiter),
        }
        state.deadline = state.deadline.min(deadline);
        Ok(())
    }

    /// Asks collectors until none is left, and closes the collection if this thread brings the last answer. `scratch` is any
    /// page; `panicked` is called for each collector that does.
    pub(crate) fn work(&self, scratch: &mut Page, panicked: impl Fn()) -> Option<Closed> {
        let mut state = self.state.lock();
        loop {
            let Some((member, begin)) = state.take(&self.members) else {
                return if state.running.is_empty() { self.end(&mut state) } else { None };
            };
            let deadline = state.deadline;
            drop(state);

            let Member { name, collector, stuck } = &self.members[member];
            scratch.clear();
            let result = catch_unwind(AssertUnwindSafe(|| collector.collect_until(scratch, deadline)));
            let elapsed = begin.elapsed().as_secs_f64();
            match &result {
                Ok(Ok(())) => tracing::debug!(name, duration_seconds = elapsed, "collector succeeded"),
                Ok(Err(error @ CollectorError::NoData)) => {
                    tracing::debug!(name, duration_seconds = elapsed, err = %error, "collector returned no data");
                }
                Ok(Err(error)) => tracing::error!(name, duration_seconds = elapsed, err = %error, "collector failed"),
                Err(_) => {
                    tracing::error!(name, duration_seconds = elapsed, err = "it panicked", "collector failed");
                    panicked();
                }
            }

            state = self.state.lock();
            if state.waiters.is_none() {
                stuck.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(name, duration_seconds = elapsed, "collector returned after its deadline");
                return None;
            }
            state.progress = Instant::now();
            state.running.retain(|(running, _)| *running != member);
            state.page.append(scratch);
            let reason = if result.is_err() { "panic" } else { "" };
            state.record(name, elapsed, matches!(result, Ok(Ok(()))), reason);
        }
    }

    /// Looks whether it goes on as it should.
    pub(crate) fn need(&self) -> Need {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.waiters.is_none() {
            Need::Nothing
        } else if state.deadline <= now {
            Need::End
        } else if state.next < state.chosen.len() && state.progress + state.patience() <= now {
            state.progress = now;
            Need::Thread
        } else {
            // not much longer in any case: another request may bring a nearer deadline
            let since = if state.next < state.chosen.len() { state.progress } else { now };
            Need::Patience(state.deadline.min(since + state.patience()))
        }
    }

    /// Closes the collection with what there is; `None` if it is closed already.
    pub(crate) fn close(&self) -> Option<Closed> {
        let mut state = self.state.lock();
        state.waiters.as_ref()?;
        for (member, since) in std::mem::take(&mut state.running) {
            let Member { name, stuck, .. } = &self.members[member];
            stuck.fetch_add(1, Ordering::Relaxed);
            let elapsed = since.elapsed().as_secs_f64();
            tracing::error!(name, duration_seconds = elapsed, "collector did not return before its deadline");
            state.record(name, elapsed, false, "timeout");
        }
        while let Some((member, _)) = state.take(&self.members) {
            state.record(self.members[member].name, 0.0, false, "not_asked");
        }
        self.end(&mut state)
    }

    fn end(&self, state: &mut State) -> Option<Closed> {
        let waiters = state.waiters.take()?;
        self.closed.notify_one();
        Some(Closed { page: std::mem::take(&mut state.page), waiters })
    }
}

impl State {
    fn patience(&self) -> Duration {
        let [most, least] = PATIENCE;
        (self.deadline.saturating_duration_since(self.begin) / SHARE).clamp(least, most)
    }

    /// The next collector to ask. Those that hang are passed over.
    fn take(&mut self, members: &[Member]) -> Option<(usize, Instant)> {
        while let Some(&member) = self.chosen.get(self.next) {
            self.next += 1;
            if members[member].stuck() == 0 {
                let begin = Instant::now();
                self.progress = begin;
                self.running.push((member, begin));
                return Some((member, begin));
            }
            self.record(members[member].name, 0.0, false, "stuck");
        }
        None
    }

    fn record(&mut self, name: &str, seconds: f64, success: bool, reason: &str) {
        let labels = [("collector", name), ("reason", reason)];
        self.page.sample(self.durations, &labels[..1], seconds);
        self.page.sample(self.successes, &labels[..1], f64::from(u8::from(success)));
        if !reason.is_empty() {
            self.page.sample(self.reasons, &labels, 1.0);
        }
    }
}
