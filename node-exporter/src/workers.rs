use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Work for a thread.
type Job = Box<dyn FnOnce() + Send>;

/// Threads for calls that may never return.
///
/// One thread is kept; others are started while all are busy, up to a limit, and end when they find no work. A thread whose
/// call hangs counts as busy until the call returns, and then works on. Jobs over the limit wait their turn.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    limit: usize,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// Of a thread; what collectors put there is small, their buffers are on the heap.
const STACK_BYTES: usize = 512 * 1024;

impl Workers {
    /// No thread yet, and at most `limit` of them.
    pub(crate) fn new(name: &'static str, limit: usize) -> Self {
        let (queue, wake) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { name, limit, queue, wake }) }
    }

    /// Has a thread do this, as soon as one is free.
    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.queue.lock();
        queue.jobs.push_back(Box::new(job));
        if queue.jobs.len() <= queue.idle {
            self.shared.wake.notify_one();
        } else if queue.threads < self.shared.limit {
            let shared = self.shared.clone();
            let builder = std::thread::Builder::new().name(self.shared.name.to_owned()).stack_size(STACK_BYTES);
            match builder.spawn(move || shared.work()) {
                Ok(_) => queue.threads += 1,
                Err(error) => tracing::error!(%error, threads = queue.threads, "no thread could be started"),
            }
        }
    }

    /// Threads there are, busy or idle.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.shared.queue.lock().threads
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        queue.jobs.clear();
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                // whoever waits for the job learns of a panic by its channel
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!(thread = self.name, "a job panicked");
                }
                queue = self.queue.lock();
            } else if queue.closed || queue.idle > 0 {
                queue.threads -= 1;
                return;
            } else {
                queue.idle += 1;
                self.wake.wait(&mut queue);
                queue.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn threads_are_kept_used_again_and_limited() {
        let workers = Workers::new("test", 2);
        let (done, finished) = mpsc::channel();
        let run = |number: u32, wait: Option<mpsc::Receiver<()>>| {
            let done = done.clone();
            workers.submit(move || {
                wait.map(|w| w.recv().ok());
                done.send(number).unwrap();
            });
        };
        for number in 0..10 {
            run(number, None);
            assert_eq!(finished.recv(), Ok(number));
        }
        assert!(workers.threads() <= 2);
        let (first, blocked) = mpsc::channel();
        run(100, Some(blocked));
        run(101, None);
        assert_eq!(finished.recv(), Ok(101), "another thread goes on");
        let (second, blocked) = mpsc::channel();
        run(102, Some(blocked));
        run(103, None);
        assert_eq!(workers.threads(), 2);
        assert!(finished.try_recv().is_err(), "both threads hang");
        drop(first);
        assert_eq!((finished.recv(), finished.recv()), (Ok(100), Ok(103)), "a thread that returns works on");
        drop(second);
        assert_eq!(finished.recv(), Ok(102));
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let workers = Workers::new("test", 1);
        workers.submit(|| panic!("on purpose"));
        let (done, finished) = mpsc::channel();
        workers.submit(move || done.send(7).unwrap());
        assert_eq!(finished.recv(), Ok(7));
        assert_eq!(workers.threads(), 1);
    }
}
