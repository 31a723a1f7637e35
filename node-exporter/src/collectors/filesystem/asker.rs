//! The space of file systems, without ever waiting for a dead one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{StatFs, statfs};

use crate::workers::Workers;

/// The space of a file system, or why it is not known, in the words of `device_error`.
pub(super) type Answer = Result<StatFs, String>;

/// Time without any answer after which another thread asks the mounts that are left.
const PATIENCE: Duration = Duration::from_millis(100);
/// Threads that ask. Each mount that hangs keeps one.
const THREADS: usize = 16;

/// Asks for the space of file systems. A dead network mount blocks the thread that asks for as long as it is dead: that
/// thread waits, others ask the other mounts, and the mount is reported as hanging and not asked again until the call has
/// returned.
pub(super) struct Asker {
    timeout: Duration,
    workers: Workers,
    call: fn(&Path) -> Answer,
    hanging: Arc<Mutex<HashSet<PathBuf>>>,
}

/// Mounts that are asked together.
struct Round {
    paths: Vec<PathBuf>,
    state: Mutex<State>,
    done: Condvar,
}

struct State {
    answers: Vec<Option<Answer>>,
    /// The first path that nobody has taken yet.
    next: usize,
    asking: Vec<usize>,
    progress: Instant,
    closed: bool,
}

impl Asker {
    /// Waits for a mount as long as `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        Self::with(timeout, space)
    }

    pub(super) fn with(timeout: Duration, call: fn(&Path) -> Answer) -> Self {
        Self { timeout, workers: Workers::new("statfs", THREADS), call, hanging: Arc::default() }
    }

    /// An answer for each path. Takes no longer than the timeout and ends before the deadline.
    pub(super) fn ask(&self, paths: Vec<PathBuf>, deadline: Instant) -> Vec<Answer> {
        let begin = Instant::now();
        // the rest is for writing down what came
        let until = (begin + self.timeout).min(begin + deadline.saturating_duration_since(begin) / 5 * 4);
        let silent = || Err("mountpoint timeout".to_owned());
        let hanging = self.hanging.lock();
        let answers = paths.iter().map(|p| (!hanging.is_empty() && hanging.contains(p)).then(silent)).collect();
        drop(hanging);
        let state = State { answers, next: 0, asking: Vec::new(), progress: begin, closed: false };
        let round = Arc::new(Round { paths, state: Mutex::new(state), done: Condvar::new() });
        self.give_thread(&round);

        let mut state = round.state.lock();
        while state.next < round.paths.len() || !state.asking.is_empty() {
            let now = Instant::now();
            if now >= until {
                break;
            }
            let left = state.next < round.paths.len();
            if left && state.progress + PATIENCE <= now {
                state.progress = now;
                self.give_thread(&round);
            }
            let wake = if left { until.min(state.progress + PATIENCE) } else { until };
            round.done.wait_until(&mut state, wake);
        }
        state.closed = true;
        for at in std::mem::take(&mut state.asking) {
            let path = &round.paths[at];
            tracing::warn!(mountpoint = %path.display(), "Mount point timed out, it is being labeled as stuck and will not be monitored");
            self.hanging.lock().insert(path.clone());
            state.answers[at] = Some(silent());
        }
        let answers = std::mem::take(&mut state.answers).into_iter();
        answers.map(|answer| answer.unwrap_or_else(|| Err("no thread left to ask".to_owned()))).collect()
    }

    fn give_thread(&self, round: &Arc<Round>) {
        let (round, call, hanging) = (round.clone(), self.call, self.hanging.clone());
        self.workers.submit(move || round.work(call, &hanging));
    }
}

impl Round {
    fn work(&self, call: fn(&Path) -> Answer, hanging: &Mutex<HashSet<PathBuf>>) {
        let mut state = self.state.lock();
        while !state.closed && state.next < self.paths.len() {
            let at = state.next;
            state.next += 1;
            if state.answers[at].is_some() {
                continue;
            }
            state.asking.push(at);
            state.progress = Instant::now();
            drop(state);
            let answer = call(&self.paths[at]);
            state = self.state.lock();
            if state.closed {
                hanging.lock().remove(&self.paths[at]);
                tracing::info!(mountpoint = %self.paths[at].display(), "Mount point has answered, it is monitored again");
                return;
            }
            state.asking.retain(|asked| *asked != at);
            state.answers[at] = Some(answer);
        }
        if state.next == self.paths.len() && state.asking.is_empty() {
            self.done.notify_one();
        }
    }
}

fn space(path: &Path) -> Answer {
    statfs(path).map_err(|e| {
        // the system's words without the number that the standard library appends
        let text = std::io::Error::from(e).to_string();
        text.split(" (os error").next().unwrap_or(&text).to_lowercase()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    /// Whether mounts below `/hangs` hang.
    static DEAD: LazyLock<(Mutex<bool>, Condvar)> = LazyLock::new(|| (Mutex::new(true), Condvar::new()));

    fn hangs(path: &Path) -> Answer {
        if path.starts_with("/hangs") {
            let mut dead = DEAD.0.lock();
            while *dead {
                DEAD.1.wait(&mut dead);
            }
        }
        space(Path::new("/"))
    }

    #[test]
    fn mounts_that_hang_are_named_and_the_others_answer() {
        let asker = Asker::with(Duration::from_secs(2), hangs);
        let far = || Instant::now() + Duration::from_secs(3600);
        let ask = |asker: &Asker, paths: &[String], deadline| -> Vec<String> {
            let answers = asker.ask(paths.iter().map(PathBuf::from).collect(), deadline);
            answers.into_iter().map(|a| a.map_or_else(|text| text, |_| "ok".to_owned())).collect()
        };
        let some = ["/a", "/hangs/1", "/b", "/hangs/2", "/c"].map(str::to_owned);
        let hung = ["ok", "mountpoint timeout", "ok", "mountpoint timeout", "ok"];
        assert_eq!(ask(&asker, &some, far()), hung);
        for _ in 0..3 {
            assert_eq!(ask(&asker, &some, far()), hung, "asked again they cost no time and no thread");
        }
        // two that hang, one that asks, and one that may be on its way out
        assert!(asker.workers.threads() <= 4);

        let many: Vec<String> = (0..40).map(|n| format!("/hangs/{n}")).chain(["/d".to_owned()]).collect();
        let answers = ask(&asker, &many, far());
        assert!(asker.workers.threads() <= THREADS);
        assert_eq!(answers[40], "no thread left to ask", "{answers:?}");
        assert_eq!(answers.iter().filter(|a| *a == "mountpoint timeout").count(), THREADS);

        *DEAD.0.lock() = false;
        DEAD.1.notify_all();
        while !asker.hanging.lock().is_empty() {
            std::thread::yield_now();
        }
        assert!(ask(&asker, &some, far()).iter().all(|a| a == "ok"));
        assert!(ask(&asker, &many, far()).iter().all(|a| a == "ok"));
    }
}
