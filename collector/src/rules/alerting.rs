//! Alerting rules: from a query's result to the states of alerts.

use std::collections::{BTreeMap, HashMap};

use model::{Labels, METRIC_NAME, Timestamp};
use template::{Limits, Template, Value};

use super::file::{RuleKind, RuleSpec, TEMPLATE_HEAD};
use super::template_functions::{QueryFunction, TemplateFunctions, has_function};

/// Resolved alerts are kept and re-sent this long, so that a lost message is made up for.
const RESOLVED_RETENTION_MILLIS: i64 = 15 * 60 * 1000;

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// The condition has ended.
    Inactive,
    /// The condition holds, not yet for long enough.
    Pending,
    /// The condition holds.
    Firing,
}

impl AlertState {
    /// The name in the API and in the label `alertstate`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its state.
    pub state: AlertState,
    /// Labels, `alertname` included.
    pub labels: Labels,
    /// Texts for people.
    pub annotations: BTreeMap<String, String>,
    /// The value of the expression at the last evaluation that gave one.
    pub value: f64,
    /// Since when the condition holds.
    pub active_at: Timestamp,
    /// Since when it fires.
    pub fired_at: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// When it was last handed to the notifier.
    pub last_sent_at: Option<Timestamp>,
    /// Until when Alertmanagers may believe it without news.
    pub valid_until: Timestamp,
    /// Since when it fires although the condition has ended.
    pub keep_firing_since: Option<Timestamp>,
}

/// What templates know beside the alert itself.
pub(super) struct Surroundings<'a> {
    pub(super) external_labels: &'a Labels,
    pub(super) external_url: &'a str,
    pub(super) query: &'a QueryFunction<'a>,
}

/// An alerting rule at work.
#[derive(Debug)]
pub struct AlertingRule {
    pub(super) spec: RuleSpec,
    active: HashMap<Labels, Alert>,
    /// Whether the states from before the last restart are known; until then the series about alerts are not written.
    pub(super) restored: bool,
}

impl AlertingRule {
    pub(super) fn new(spec: RuleSpec) -> Self {
        Self { spec, active: HashMap::new(), restored: false }
    }

    /// The alerts, in the order of their labels.
    pub fn alerts(&self) -> Vec<&Alert> {
        let mut alerts: Vec<&Alert> = self.active.values().collect();
        alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
        alerts
    }

    /// The worst state of any alert.
    pub fn state(&self) -> AlertState {
        self.active.values().map(|a| a.state).max().unwrap_or(AlertState::Inactive)
    }

    pub(super) fn alerts_mut(&mut self) -> impl Iterator<Item = &mut Alert> {
        self.active.values_mut()
    }

    /// How long the condition must hold, in milliseconds.
    pub(super) fn hold_millis(&self) -> i64 {
        match &self.spec.kind {
            RuleKind::Alerting { hold, .. } => hold.millis(),
            RuleKind::Recording { .. } => 0,
        }
    }

    /// Takes over the alerts of the same rule from before a reload.
    pub(super) fn take_over(&mut self, old: &Self) {
        self.active.clone_from(&old.active);
        self.restored = old.restored;
    }

    /// Brings the alerts up to date with a query's result at `now`, and gives the series to be stored.
    pub(super) fn evaluate(
        &mut self,
        result: Vec<(Labels, f64)>,
        now: Timestamp,
        limit: usize,
        around: &Surroundings<'_>,
    ) -> Result<Vec<(Labels, f64)>, String> {
        let mut found = HashMap::new();
        for (labels, value) in result {
            let (labels, annotations) = self.describe(&labels, value, now, around);
            let alert = Alert {
                state: AlertState::Pending,
                labels: labels.clone(),
                annotations,
                value,
                active_at: now,
                fired_at: None,
                resolved_at: None,
                last_sent_at: None,
                valid_until: 0,
                keep_firing_since: None,
            };
            if found.insert(labels, alert).is_some() {
                return Err("vector contains metrics with the same labelset after applying alert labels".into());
            }
        }
        let present: std::collections::HashSet<Labels> = found.keys().cloned().collect();
        for (labels, alert) in found {
            match self.active.get_mut(&labels) {
                Some(known) if known.state != AlertState::Inactive => {
                    known.value = alert.value;
                    known.annotations = alert.annotations;
                }
                _ => {
                    self.active.insert(labels, alert);
                }
            }
        }
        let active = self.advance(&present, now);
        if limit > 0 && active > limit {
            self.active.clear();
            return Err(format!("exceeded limit of {limit} with {active} alerts"));
        }
        Ok(if self.restored { self.series() } else { Vec::new() })
    }

    /// Moves each alert through its states. Gives the number of alerts that are pending or firing.
    fn advance(&mut self, present: &std::collections::HashSet<Labels>, now: Timestamp) -> usize {
        let (hold, keep_firing) = match &self.spec.kind {
            RuleKind::Alerting { hold, keep_firing, .. } => (hold.millis(), keep_firing.millis()),
            RuleKind::Recording { .. } => (0, 0),
        };
        let mut active = 0;
        self.active.retain(|labels, alert| {
            if present.contains(labels) {
                alert.keep_firing_since = None;
            } else {
                let mut keeps = false;
                if alert.state == AlertState::Firing && keep_firing > 0 {
                    let since = *alert.keep_firing_since.get_or_insert(now);
                    keeps = now - since < keep_firing;
                }
                let old = alert.resolved_at.is_some_and(|at| now - at > RESOLVED_RETENTION_MILLIS);
                if alert.state == AlertState::Pending || old {
                    return false;
                }
                if alert.state != AlertState::Inactive && !keeps {
                    alert.state = AlertState::Inactive;
                    alert.resolved_at = Some(now);
                }
                if !keeps {
                    return true;
                }
            }
            active += 1;
            if alert.state == AlertState::Pending && now - alert.active_at >= hold {
                alert.state = AlertState::Firing;
                alert.fired_at = Some(now);
            }
            true
        });
        active
    }

    /// `ALERTS` and `ALERTS_FOR_STATE`.
    fn series(&self) -> Vec<(Labels, f64)> {
        let mut series = Vec::new();
        for alert in self.active.values().filter(|a| a.state != AlertState::Inactive) {
            let mut labels = alert.labels.to_builder();
            labels.set(METRIC_NAME, "ALERTS_FOR_STATE");
            series.push((labels.build(), (alert.active_at / 1000) as f64));
            labels.set(METRIC_NAME, "ALERTS").set("alertstate", alert.state.as_str());
            series.push((labels.build(), 1.0));
        }
        series
    }

    /// Labels and annotations of the alert that a series gives.
    fn describe(
        &self,
        series: &Labels,
        value: f64,
        now: Timestamp,
        around: &Surroundings<'_>,
    ) -> (Labels, BTreeMap<String, String>) {
        let map = |labels: &Labels| Value::map(labels.iter().map(|(n, v)| (n, Value::from(v))));
        let data = Value::map([
            ("Labels", map(&series.without_name())),
            ("ExternalLabels", map(around.external_labels)),
            ("ExternalURL", Value::from(around.external_url)),
            ("Value", Value::Float(value)),
        ]);
        let functions = TemplateFunctions { query: around.query, external_url: around.external_url, now };
        let expand = |text: &str| {
            if !text.contains("{{") {
                return text.to_owned();
            }
            Template::parse(&format!("__alert_{}", self.spec.name()), &format!("{TEMPLATE_HEAD}{text}"), &has_function)
                .and_then(|template| template.execute(&data, &functions, Limits::default()))
                .unwrap_or_else(|error| {
                    tracing::warn!(alert = %self.spec.name(), %error, "Expanding alert template failed");
                    format!("<error expanding template: {error}>")
                })
        };
        let mut labels = series.to_builder();
        labels.remove(METRIC_NAME);
        for (name, text) in &self.spec.labels {
            labels.set(name, &expand(text));
        }
        labels.set("alertname", self.spec.name());
        let annotations = match &self.spec.kind {
            RuleKind::Alerting { annotations, .. } => annotations.iter().map(|(n, t)| (n.clone(), expand(t))).collect(),
            RuleKind::Recording { .. } => BTreeMap::new(),
        };
        (labels.build(), annotations)
    }

    /// Alerts that Alertmanagers should hear of at `now`, marked as sent.
    pub(super) fn take_due(&mut self, now: Timestamp, resend_millis: i64, interval_millis: i64) -> Vec<Alert> {
        let mut due: Vec<Alert> = Vec::new();
        for alert in self.active.values_mut() {
            let resolved_since = alert.resolved_at.is_some_and(|at| alert.last_sent_at.is_none_or(|sent| at > sent));
            let old_news = alert.last_sent_at.is_none_or(|sent| sent + resend_millis < now);
            if alert.state == AlertState::Pending || !(resolved_since || old_news) {
                continue;
            }
            alert.last_sent_at = Some(now);
            // four times, so that a few lost messages do not resolve it
            alert.valid_until = now + 4 * resend_millis.max(interval_millis);
            due.push(alert.clone());
        }
        due.sort_by(|a, b| a.labels.cmp(&b.labels));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{RuleOptions, read};
    use super::*;

    fn rule(text: &str) -> AlertingRule {
        let text = format!("groups: [{{name: g, rules: [{text}]}}]");
        let spec = read(&yaml::Node::parse(&text).unwrap(), &RuleOptions::default()).unwrap()[0].rules[0].clone();
        let mut rule = AlertingRule::new(spec);
        rule.restored = true;
        rule
    }

    fn evaluate(rule: &mut AlertingRule, minute: i64, instances: &[&str]) -> Result<Vec<String>, String> {
        let external = Labels::from_pairs([("cluster", "c")]);
        let query = |_: &str| Ok(vec![(Labels::empty(), 7.0)]);
        let around = Surroundings { external_labels: &external, external_url: "http://x", query: &query };
        let result =
            instances.iter().map(|i| (Labels::from_pairs([("__name__", "up"), ("instance", i)]), 0.5)).collect();
        let series = rule.evaluate(result, minute * 60_000, 0, &around)?;
        let mut shown: Vec<String> = series.iter().map(|(l, v)| format!("{l} {v}")).collect();
        shown.sort();
        Ok(shown)
    }

    fn states(rule: &AlertingRule) -> Vec<(&str, &'static str)> {
        rule.alerts().iter().map(|a| (a.labels.value("instance"), a.state.as_str())).collect()
    }

    #[test]
    fn alerts_pend_fire_and_resolve() {
        let mut rule = rule("{alert: A, expr: up, for: 5m, labels: {severity: page}}");
        let series = evaluate(&mut rule, 0, &["a"]).unwrap();
        assert_eq!(
            series,
            [
                r#"{__name__="ALERTS", alertname="A", alertstate="pending", instance="a", severity="page"} 1"#,
                r#"{__name__="ALERTS_FOR_STATE", alertname="A", instance="a", severity="page"} 0"#
            ]
        );
        evaluate(&mut rule, 4, &["a", "b"]).unwrap();
        assert_eq!(states(&rule), [("a", "pending"), ("b", "pending")]);
        evaluate(&mut rule, 5, &["a"]).unwrap();
        assert_eq!(states(&rule), [("a", "firing")], "a pending alert is forgotten at once");
        assert!(evaluate(&mut rule, 6, &[]).unwrap().is_empty());
        assert_eq!(states(&rule), [("a", "inactive")]);
        evaluate(&mut rule, 22, &[]).unwrap();
        assert_eq!(states(&rule), []);
    }

    #[test]
    fn keep_firing_for_bridges_gaps() {
        let mut rule = rule("{alert: A, expr: up, keep_firing_for: 5m}");
        evaluate(&mut rule, 0, &["a"]).unwrap();
        evaluate(&mut rule, 1, &[]).unwrap();
        assert_eq!(states(&rule), [("a", "firing")]);
        evaluate(&mut rule, 3, &["a"]).unwrap();
        evaluate(&mut rule, 7, &[]).unwrap();
        assert_eq!(states(&rule), [("a", "firing")]);
        evaluate(&mut rule, 12, &[]).unwrap();
        assert_eq!(states(&rule), [("a", "inactive")]);
    }

    #[test]
    fn templates_see_labels_value_and_queries() {
        let mut rule = rule(
            r#"{alert: A, expr: up, labels: {i: "{{ $labels.instance }}"}, annotations: {t: "{{ $value }} {{ .ExternalLabels.cluster }} {{ with query `q` }}{{ . | first | value }}{{ end }}", bad: "{{ query }}"}}"#,
        );
        evaluate(&mut rule, 0, &["a"]).unwrap();
        let alert = rule.alerts()[0].clone();
        assert_eq!((alert.labels.value("i"), alert.annotations["t"].as_str()), ("a", "0.5 c 7"));
        assert!(alert.annotations["bad"].starts_with("<error expanding template:"), "{:?}", alert.annotations);
    }

    #[test]
    fn equal_label_sets_are_an_error() {
        let mut rule = rule("{alert: A, expr: up, labels: {instance: same}}");
        assert!(evaluate(&mut rule, 0, &["a", "b"]).unwrap_err().contains("same labelset"));
    }

    #[test]
    fn alerts_are_sent_again_only_when_due() {
        let mut rule = rule("{alert: A, expr: up}");
        evaluate(&mut rule, 0, &["a"]).unwrap();
        let minute = 60_000;
        assert_eq!(rule.take_due(0, minute, minute).len(), 1);
        assert_eq!(rule.take_due(minute, minute, minute).len(), 0);
        assert_eq!(rule.take_due(minute + 1, minute, minute)[0].valid_until, minute + 1 + 4 * minute);
        evaluate(&mut rule, 2, &[]).unwrap();
        let resolved = rule.take_due(2 * minute, minute, minute);
        assert_eq!((resolved.len(), resolved[0].resolved_at), (1, Some(2 * minute)));
    }
}
