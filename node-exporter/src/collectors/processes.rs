use std::collections::BTreeMap;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, attribute, failure, malformed, names, names_or_none, number};

of_paths!(Processes, "processes", false);

impl Collector for Processes {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = &self.0.procfs;
        let (mut pids, mut threads) = (0u64, 0u64);
        let (mut states, mut thread_states) = (BTreeMap::new(), BTreeMap::new());
        for name in names(folder).map_err(|e| failure(folder, &e))? {
            if !name.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            // a process may end while it is read
            let Some((state, count)) =
                attribute(&folder.join(&name).join("stat")).ok().and_then(|s| state_and_threads(&s))
            else {
                continue;
            };
            pids += 1;
            threads += count;
            *states.entry(state).or_insert(0u64) += 1;
            for thread in names_or_none(&folder.join(&name).join("task")) {
                if thread == name {
                    continue;
                }
                let stat = attribute(&folder.join(&name).join("task").join(&thread).join("stat"));
                if let Some((state, _)) = stat.ok().and_then(|s| state_and_threads(&s)) {
                    *thread_states.entry(state).or_insert(0u64) += 1;
                }
            }
        }
        let limit = |file: &str| {
            let path = self.0.proc(file);
            number::<f64>(&path).ok_or_else(|| malformed(&path, "no number"))
        };
        page.gauge("node_processes_threads", "Allocated threads in system", &[], threads as f64);
        page.gauge(
            "node_processes_max_threads",
            "Limit of threads in the system",
            &[],
            limit("sys/kernel/threads-max")?,
        );
        let by_state = page.family("node_processes_state", "Number of processes in each state.", MetricType::Gauge);
        for (state, count) in &states {
            page.sample(by_state, &[("state", state)], *count as f64);
        }
        let by_state =
            page.family("node_processes_threads_state", "Number of threads in each state.", MetricType::Gauge);
        for (state, count) in &thread_states {
            page.sample(by_state, &[("thread_state", state)], *count as f64);
        }
        page.gauge("node_processes_pids", "Number of PIDs", &[], pids as f64);
        page.gauge("node_processes_max_processes", "Number of max PIDs limit", &[], limit("sys/kernel/pid_max")?);
        Ok(())
    }
}

/// The state and number of threads of a `stat` file. The command stands in parentheses and may hold any character.
fn state_and_threads(stat: &str) -> Option<(String, u64)> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.to_owned();
    Some((state, fields.nth(16)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_may_hold_anything() {
        let stat = "7 (a) S (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 42 0 99";
        assert_eq!(state_and_threads(stat), Some(("R".to_owned(), 42)));
        assert_eq!(state_and_threads("7 (a) S"), None);
    }
}
