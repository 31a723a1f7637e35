//! Mechanisms that are asked again and again.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{DiscoveryMetrics, Slot};
use crate::config::{Settings, TargetGroup};
use crate::scrape::Counter;

/// Something that knows its targets when it is asked.
pub(super) trait Source: Send + 'static {
    /// All target groups there are now. Each request within it has to end by itself.
    fn refresh(&mut self) -> impl Future<Output = Result<Vec<TargetGroup>, String>> + Send;

    /// The mechanism's own counter of failures beside the one that all have, if there is one.
    fn failures(_: &DiscoveryMetrics) -> Option<&Counter> {
        None
    }
}

/// What an interval of nothing means: `aws_sd_configs` leaves it to the role, and nobody wants to ask without a pause.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

/// The time between refreshes.
pub(super) fn interval(configured: model::Duration) -> Duration {
    if configured.is_zero() { DEFAULT_INTERVAL } else { configured.as_std() }
}

/// Asks at once, and then at the settings' interval.
pub(super) fn start(name: &'static str, source: impl Source, settings: &Settings, slot: Slot, tasks: &mut JoinSet<()>) {
    tasks.spawn(run(name, source, interval(settings.duration("refresh_interval")), slot));
}

/// Runs for ever; cancelling loses nothing. What was found before stays in force while a refresh fails.
pub(super) async fn run<S: Source>(name: &'static str, mut source: S, interval: Duration, slot: Slot) {
    let meter = slot.metrics.refreshes(name, slot.meter.config());
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let begin = Instant::now();
        let outcome = source.refresh().await;
        meter.durations.observe(begin.elapsed());
        match outcome {
            Ok(groups) => slot.set(groups),
            Err(error) => {
                meter.failures.inc();
                if let Some(counter) = S::failures(&slot.metrics) {
                    counter.inc();
                }
                let config = slot.meter.config();
                tracing::error!(discovery = name, config, err = %error, "Unable to refresh target groups");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interval_is_a_minute() {
        assert_eq!(interval(model::Duration::ZERO), Duration::from_secs(60));
        assert_eq!(interval(model::Duration::from_millis(5)), Duration::from_millis(5));
    }
}
