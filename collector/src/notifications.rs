//! What the server tells people who look at it: that it starts, that a reload failed, that it is stopping.

use std::sync::Arc;

use model::now_millis;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::json_log::with_millis;
use crate::scrape::Counter;

/// The log of the store is being read.
pub(crate) const STARTING_UP: &str = "Prometheus is starting and replaying the write-ahead log (WAL).";
/// The configuration could not be put in force; the one before is.
pub(crate) const RELOAD_FAILED: &str = "Configuration reload has failed.";
/// The server ends.
pub(crate) const SHUTTING_DOWN: &str = "Prometheus is shutting down and gracefully stopping all operations.";

/// Notifications that may wait for a subscriber; those that do not fit are dropped, as upstream has it.
const WAITING: usize = 10;

/// A notification as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ServerNotification {
    pub(crate) text: &'static str,
    /// When it was last given.
    date: String,
    /// Whether it still holds.
    active: bool,
}

/// What is to be told now, and who listens.
#[derive(Debug)]
pub(crate) struct Notifications {
    state: Mutex<State>,
    max_subscribers: usize,
    /// `prometheus_api_notification_updates_sent_total`.
    pub(crate) sent: Counter,
    /// `prometheus_api_notification_updates_dropped_total`.
    pub(crate) dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    current: Vec<ServerNotification>,
    subscribers: Vec<(u64, mpsc::Sender<ServerNotification>)>,
    next: u64,
}

/// Gives what holds when it begins, then every change. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    changes: mpsc::Receiver<ServerNotification>,
    notifications: Arc<Notifications>,
}

impl Notifications {
    /// No notifications; at most so many subscribers.
    pub(crate) fn new(max_subscribers: usize) -> Self {
        Self { state: Mutex::default(), max_subscribers, sent: Counter::default(), dropped: Counter::default() }
    }

    /// Tells this from now on, or once more.
    pub(crate) fn add(&self, text: &'static str) {
        let notification = ServerNotification { text, date: with_millis(now_millis()), active: true };
        let mut state = self.state.lock();
        match state.current.iter_mut().find(|known| known.text == text) {
            Some(known) => known.clone_from(&notification),
            None => state.current.push(notification.clone()),
        }
        self.tell(&state, &notification);
    }

    /// Tells this no longer.
    pub(crate) fn remove(&self, text: &'static str) {
        let mut state = self.state.lock();
        let Some(at) = state.current.iter().position(|known| known.text == text) else { return };
        let notification = ServerNotification { active: false, ..state.current.remove(at) };
        self.tell(&state, &notification);
    }

    fn tell(&self, state: &State, notification: &ServerNotification) {
        for (_, subscriber) in &state.subscribers {
            self.sent.inc();
            if subscriber.try_send(notification.clone()).is_err() {
                self.dropped.inc();
            }
        }
    }

    /// What holds now.
    pub(crate) fn current(&self) -> Vec<ServerNotification> {
        self.state.lock().current.clone()
    }

    /// Those who listen now.
    pub(crate) fn subscribers(&self) -> usize {
        self.state.lock().subscribers.len()
    }

    /// Listens from now on; `None` if too many do.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Option<Subscription> {
        let mut state = self.state.lock();
        if state.subscribers.len() >= self.max_subscribers {
            return None;
        }
        let (sender, changes) = mpsc::channel(WAITING);
        for notification in &state.current {
            // there are fewer texts than may wait
            let _ = sender.try_send(notification.clone());
        }
        let id = state.next;
        state.next += 1;
        state.subscribers.push((id, sender));
        Some(Subscription { id, changes, notifications: Arc::clone(self) })
    }
}

impl Subscription {
    /// The next notification. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Option<ServerNotification> {
        self.changes.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.notifications.state.lock().subscribers.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(subscription: &mut Subscription) -> (&'static str, bool) {
        let notification = subscription.next().await.unwrap();
        (notification.text, notification.active)
    }

    #[tokio::test]
    async fn subscribers_hear_what_holds_and_what_changes() {
        let notifications = Arc::new(Notifications::new(2));
        notifications.add(RELOAD_FAILED);
        let mut first = notifications.subscribe().unwrap();
        assert_eq!(told(&mut first).await, (RELOAD_FAILED, true));
        notifications.add(RELOAD_FAILED);
        notifications.remove(RELOAD_FAILED);
        notifications.remove(RELOAD_FAILED);
        notifications.add(SHUTTING_DOWN);
        assert_eq!(told(&mut first).await, (RELOAD_FAILED, true));
        assert_eq!(told(&mut first).await, (RELOAD_FAILED, false));
        assert_eq!(told(&mut first).await, (SHUTTING_DOWN, true));
        assert_eq!(notifications.current().len(), 1);
        assert_eq!((notifications.sent.get(), notifications.dropped.get()), (3, 0));
    }

    #[tokio::test]
    async fn listeners_are_bounded_and_slow_ones_miss_something() {
        let notifications = Arc::new(Notifications::new(1));
        let mut slow = notifications.subscribe().unwrap();
        assert!(notifications.subscribe().is_none());
        for _ in 0..WAITING + 2 {
            notifications.add(RELOAD_FAILED);
        }
        assert_eq!((notifications.sent.get(), notifications.dropped.get()), (WAITING as u64 + 2, 2));
        assert!(slow.next().await.is_some());
        drop(slow);
        assert_eq!(notifications.subscribers(), 0);
        assert!(notifications.subscribe().is_some());
    }
}
