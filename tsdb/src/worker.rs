use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::Engine;
use crate::image::{self, When};
use crate::maintain;

/// The threads a database owns.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Vec<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(engine: &Arc<Engine>) -> Self {
        let mut worker = Self { stop: Vec::new(), threads: Vec::new() };
        let sync = engine.options.wal_fsync_interval;
        if !sync.is_zero() {
            worker.spawn("tsdb-fsync", sync, engine, |engine| {
                if let Err(error) = engine.sync_wal() {
                    tracing::error!(%error, "the log could not be made durable");
                }
                // oftener than blocks are looked after: what the log grows by until the next one is what a start reads
                if let Some(_maintenance) = engine.maintenance.try_lock()
                    && let Err(error) = image::write_if_due(engine, When::Grown)
                {
                    tracing::error!(%error, "no image of the head could be written");
                }
            });
        }
        worker.spawn("tsdb-maintain", engine.options.maintenance_interval, engine, |engine| {
            if let Err(error) = maintain::maintain(engine) {
                tracing::error!(%error, "storage maintenance failed and will be tried again");
            }
        });
        worker
    }

    fn spawn(&mut self, name: &str, interval: Duration, engine: &Arc<Engine>, work: fn(&Engine)) {
        let (stop, stopped) = mpsc::channel::<()>();
        let engine = Arc::clone(engine);
        let run = move || {
            while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                // what goes wrong now may go well the next time
                if catch_unwind(AssertUnwindSafe(|| work(&engine))).is_err() {
                    engine.counters.panics.add(1);
                    tracing::error!("a thread of the storage panicked and goes on");
                }
            }
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(thread) => {
                self.stop.push(stop);
                self.threads.push(thread);
            }
            Err(error) => tracing::error!(%error, name, "cannot start a thread of the storage"),
        }
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop(self) {
        drop(self.stop);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the storage panicked");
            }
        }
    }
}
