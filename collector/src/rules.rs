//! Recording and alerting rules.

mod alert_texts;
mod alerting;
pub mod file;
mod group;
mod manager;
pub mod template_functions;

use std::sync::Arc;

use model::{Duration, Labels};

pub use alerting::{Alert, AlertState, AlertingRule};
pub use group::{LastEvaluation, Rule, RuleBody, RuleGroup};
pub use manager::RuleManager;
pub(crate) use template_functions::NAMES as TEMPLATE_FUNCTIONS;

use crate::durations::Durations;
use crate::notifier::Notifier;
use crate::query::Querier;
use crate::scrape::Counter;
use crate::storage::Store;

/// What rules work with.
pub struct RuleContext {
    /// Where results go.
    pub store: Store,
    /// Answers expressions.
    pub querier: Querier,
    /// Where alerts go.
    pub notifier: Arc<Notifier>,
    /// Labels of the server, for templates.
    pub external_labels: Labels,
    /// The server's address for users, for links.
    pub external_url: String,
    /// Times of alerting.
    pub options: AlertOptions,
    /// How long rules take.
    pub durations: Arc<RuleDurations>,
}

/// Times of alerting (`--rules.alert.*`).
#[derive(Clone, Copy, Debug)]
pub struct AlertOptions {
    /// The longest outage after which the `for` state of alerts is restored.
    pub for_outage_tolerance: Duration,
    /// The least time between an alert and its restored `for` state.
    pub for_grace_period: Duration,
    /// Time between two messages about the same alert.
    pub resend_delay: Duration,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self {
            for_outage_tolerance: Duration::from_secs(3600),
            for_grace_period: Duration::from_secs(600),
            resend_delay: Duration::from_secs(60),
        }
    }
}

/// What is counted of a group of rules, for as long as there is a group of its name in its file.
#[derive(Debug, Default)]
pub struct RuleMetrics {
    /// `prometheus_rule_evaluations_total`.
    pub evaluations: Counter,
    /// `prometheus_rule_evaluation_failures_total`.
    pub failures: Counter,
    /// `prometheus_rule_group_iterations_total`.
    pub iterations: Counter,
    /// `prometheus_rule_group_iterations_missed_total`.
    pub missed: Counter,
}

/// How long rules take.
#[derive(Debug, Default)]
pub struct RuleDurations {
    /// `prometheus_rule_evaluation_duration_seconds`: a rule.
    pub(crate) rules: Durations,
    /// `prometheus_rule_group_duration_seconds`: all rules of a group.
    pub(crate) groups: Durations,
}

impl RuleMetrics {
    /// Goes on from what was counted before a reload.
    fn take_over(&self, old: &Self) {
        let Self { evaluations, failures, iterations, missed } = old;
        self.evaluations.add(evaluations.get());
        self.failures.add(failures.get());
        self.iterations.add(iterations.get());
        self.missed.add(missed.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_before_a_reload_counts() {
        let (old, new) = (RuleMetrics::default(), RuleMetrics::default());
        let all = |metrics: &RuleMetrics| {
            let RuleMetrics { evaluations, failures, iterations, missed } = metrics;
            [evaluations.get(), failures.get(), iterations.get(), missed.get()]
        };
        old.evaluations.add(4);
        old.failures.add(3);
        old.iterations.add(2);
        old.missed.add(1);
        new.evaluations.inc();
        new.take_over(&old);
        assert_eq!(all(&new), [5, 3, 2, 1]);
    }
}
