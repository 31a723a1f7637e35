//! The life of a process: signals, supervised tasks. Signal handlers are set by binaries' `main` only.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the signals of a process ask for.
#[derive(Debug)]
pub struct Signals {
    /// Cancelled by SIGTERM and SIGINT.
    pub shutdown: CancellationToken,
    /// A message for each SIGHUP; those that come while one waits are one.
    pub reload: mpsc::Receiver<()>,
}

/// Takes as many open files as the system grants, as Go's programs do: the limit that a process starts with is often far lower.
pub fn raise_file_limit() {
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Takes over SIGTERM, SIGINT and SIGHUP. Needs a Tokio runtime. A second SIGTERM or SIGINT ends the process at once.
pub fn signals() -> std::io::Result<Signals> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hup = signal(SignalKind::hangup())?;
    let shutdown = CancellationToken::new();
    let (asked, reload) = mpsc::channel(1);
    let token = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hup.recv() => {
                    asked.try_send(()).ok();
                    continue;
                }
            }
            if token.is_cancelled() {
                tracing::warn!("Received the signal twice, ending at once");
                std::process::exit(1);
            }
            tracing::info!("Received an OS signal, exiting gracefully...");
            token.cancel();
        }
    });
    Ok(Signals { shutdown, reload })
}

/// Tasks whose panics are contained and counted, and which end with their owner's token.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    panics: Arc<AtomicU64>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task. A panic in it is logged and counted and ends this task only.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let panics = self.panics.clone();
        self.tracker.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, "a task panicked and has ended");
            }
        });
    }

    /// Runs a task and begins it anew after a panic, waiting a second in between, until it ends or the token is cancelled.
    pub fn spawn_restarting<F, T>(&self, name: &'static str, shutdown: CancellationToken, mut task: F)
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let panics = self.panics.clone();
        self.tracker.spawn(async move {
            while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
                panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, "a task panicked and is begun anew");
                let wait = tokio::time::sleep(std::time::Duration::from_secs(1));
                if shutdown.run_until_cancelled(wait).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Tasks that have panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Waits until every task has ended. Cancel their token first.
    pub async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_contained_and_counted() {
        let tasks = Tasks::new();
        let (done, mut finished) = mpsc::channel(1);
        tasks.spawn("bad", async { panic!("on purpose") });
        tasks.spawn("good", async move { done.send(7).await.unwrap() });
        assert_eq!(finished.recv().await, Some(7));
        tasks.join().await;
        assert_eq!(tasks.panics(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_begun_anew() {
        let tasks = Tasks::new();
        let runs = Arc::new(AtomicU64::new(0));
        let count = runs.clone();
        tasks.spawn_restarting("twice", CancellationToken::new(), move || {
            let count = count.clone();
            async move { assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "on purpose") }
        });
        tasks.join().await;
        assert_eq!((runs.load(Ordering::Relaxed), tasks.panics()), (2, 1));
    }
}
