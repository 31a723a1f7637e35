//! Recording and alerting rules.

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
    /// What rules count about themselves.
    pub metrics: Arc<RuleMetrics>,
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

/// What rules count about themselves.
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
