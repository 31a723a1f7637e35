//! Reading the configuration anew when its files have changed (`--config.auto-reload`).

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::config;

/// Looks at the files of a configuration at an interval.
pub(crate) struct FileWatch {
    path: PathBuf,
    ticks: Option<Interval>,
    /// The checksum of what is in force.
    in_force: Option<u128>,
}

impl FileWatch {
    /// Watches a configuration that has been put in force just now; without an interval nothing is ever seen to change.
    pub(crate) fn new(path: PathBuf, interval: Option<Duration>) -> Self {
        let ticks = interval.map(|period| {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let mut watch = Self { path, ticks, in_force: None };
        watch.in_force = watch.now();
        watch
    }

    /// The checksum of the files now, `None` if they cannot be read or nobody asks.
    pub(crate) fn now(&self) -> Option<u128> {
        self.ticks.as_ref()?;
        config::checksum(&self.path).ok()
    }

    /// Takes note that what had this checksum is in force.
    pub(crate) fn accept(&mut self, checksum: Option<u128>) {
        self.in_force = checksum;
    }

    /// Waits until the files differ from what is in force, or cannot be read: a configuration that cannot be put in force is tried
    /// again at each interval, as upstream has it. Cancelling loses nothing.
    pub(crate) async fn changed(&mut self) {
        let Some(ticks) = &mut self.ticks else { return std::future::pending().await };
        loop {
            ticks.tick().await;
            match config::checksum(&self.path) {
                Ok(now) if Some(now) == self.in_force => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(err = %error, "Failed to generate checksum during configuration reload");
                    return;
                }
            }
        }
    }
}
