//! Alerting rules: from a query's result to the states of alerts.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use model::{Labels, METRIC_NAME, Timestamp};

use super::alert_texts::{AlertTexts, Surroundings};
use super::file::{RuleKind, RuleSpec};

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

/// An alerting rule at work.
#[derive(Debug)]
pub struct AlertingRule {
    pub(super) spec: RuleSpec,
    texts: AlertTexts,
    active: HashMap<Labels, Alert>,
    /// Whether the states from before the last restart are known; until then the series about alerts are not written.
    pub(super) restored: bool,
}

impl AlertingRule {
    pub(super) fn new(spec: RuleSpec) -> Self {
        Self { texts: AlertTexts::new(&spec), spec, active: HashMap::new(), restored: false }
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
        let writer = self.texts.at(self.spec.name(), now, around);
        let mut present = HashSet::with_capacity(result.len());
        let mut found = Vec::with_capacity(result.len());
        for (labels, value) in result {
            let (labels, annotations) = writer.describe(&labels, value);
            if !present.insert(labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying alert labels".into());
            }
            found.push((labels, annotations, value));
        }
        for (labels, annotations, value) in found {
            match self.active.get_mut(&labels) {
                Some(known) if known.state != AlertState::Inactive => {
                    known.value = value;
                    known.annotations = annotations;
                }
                _ => {
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
    fn advance(&mut self, present: &HashSet<Labels>, now: Timestamp) -> usize {
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
        let mut series = Vec::with_capacity(self.active.len() * 2);
        for alert in self.active.values().filter(|a| a.state != AlertState::Inactive) {
            let since = alert.labels.with(&[(METRIC_NAME, "ALERTS_FOR_STATE")]);
            series.push((since, (alert.active_at / 1000) as f64));
            let state = [(METRIC_NAME, "ALERTS"), ("alertstate", alert.state.as_str())];
            series.push((alert.labels.with(&state), 1.0));
        }
        series
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
        rule_of(&format!("groups: [{{name: g, rules: [{text}]}}]"))
    }

    /// The first rule of a file.
    fn rule_of(text: &str) -> AlertingRule {
        let spec = read(&yaml::Node::parse(text).unwrap(), &RuleOptions::default()).unwrap()[0].rules[0].clone();
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
            r#"{alert: A, expr: up, labels: {i: "{{ $labels.instance }}"}, annotations: {none: "<{{ $labels.none }}{{ $externalLabels.none }}>", t: "{{ $value }} {{ .ExternalLabels.cluster }} {{ with query `q` }}{{ . | first | value }}{{ end }}", bad: "{{ query }}"}}"#,
        );
        evaluate(&mut rule, 0, &["a"]).unwrap();
        let alert = rule.alerts()[0].clone();
        assert_eq!((alert.labels.value("i"), alert.annotations["t"].as_str()), ("a", "0.5 c 7"));
        assert_eq!(alert.annotations["none"], "<>");
        assert!(alert.annotations["bad"].starts_with("<error expanding template:"), "{:?}", alert.annotations);
    }

    #[test]
    fn labels_of_a_group_are_templates_and_the_name_of_the_rule_counts() {
        let mut rule = rule_of(
            r#"groups: [{name: g, labels: {bad: "{{", v: "{{ $value }}"}, rules: [{alert: A, expr: up, labels: {alertname: B, instance: ""}}]}]"#,
        );
        evaluate(&mut rule, 0, &["a"]).unwrap();
        let labels = rule.alerts()[0].labels.clone();
        let names: Vec<&str> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!((names, labels.value("alertname"), labels.value("v")), (vec!["alertname", "bad", "v"], "A", "0.5"));
        assert!(labels.value("bad").starts_with("<error expanding template:"), "{labels}");
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
