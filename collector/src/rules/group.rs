//! A group of rules: evaluated together, one after the other, each seeing what those before it have stored.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use model::{Labels, METRIC_NAME, STALE_NAN, Timestamp};
use parking_lot::Mutex;
use tsdb::{HistogramSample, SeriesRef};

use super::alert_texts::Surroundings;
use super::alerting::{Alert, AlertingRule};
use super::file::{GroupSpec, RuleKind, RuleSpec};
use super::{RuleContext, RuleMetrics};
use crate::query::{QuerySample, QueryValue};
use crate::query_log::Origin;
use crate::storage::Refusals;

/// A group at work.
#[derive(Debug)]
pub struct RuleGroup {
    /// The file it stands in.
    pub file: PathBuf,
    /// As written.
    pub spec: GroupSpec,
    /// Time between evaluations.
    pub interval: model::Duration,
    /// How far in the past rules are evaluated.
    pub query_offset: model::Duration,
    /// What is counted of it.
    pub metrics: RuleMetrics,
    rules: Vec<Mutex<Rule>>,
    last: Mutex<LastEvaluation>,
    /// Series of rules that are gone, to be marked as ended at the next evaluation.
    orphans: Mutex<Vec<SeriesRef>>,
}

/// How a group's last evaluation went.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastEvaluation {
    /// When it was due; 0 before the first.
    pub time: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Samples it gave.
    pub samples: usize,
}

/// A rule with its state.
#[derive(Debug)]
pub struct Rule {
    /// What it does.
    pub body: RuleBody,
    /// How its last evaluation went: `None` before the first.
    pub health: Option<Result<(), String>>,
    /// When it was last evaluated.
    pub last_time: Timestamp,
    /// How long that took.
    pub last_duration: Duration,
    /// The series it gave last.
    produced: HashMap<Labels, SeriesRef>,
}

/// What a rule does.
#[derive(Debug)]
pub enum RuleBody {
    /// Stores its result.
    Recording(RuleSpec),
    /// Raises alerts.
    Alerting(AlertingRule),
}

impl Rule {
    fn new(spec: RuleSpec) -> Self {
        let body = match spec.kind {
            RuleKind::Recording { .. } => RuleBody::Recording(spec),
            RuleKind::Alerting { .. } => RuleBody::Alerting(AlertingRule::new(spec)),
        };
        Self { body, health: None, last_time: 0, last_duration: Duration::ZERO, produced: HashMap::new() }
    }

    /// The rule as written.
    pub fn spec(&self) -> &RuleSpec {
        match &self.body {
            RuleBody::Recording(spec) => spec,
            RuleBody::Alerting(rule) => &rule.spec,
        }
    }
}

impl RuleGroup {
    pub(super) fn new(
        file: PathBuf,
        spec: GroupSpec,
        default_interval: model::Duration,
        default_offset: model::Duration,
    ) -> Self {
        Self {
            file,
            interval: spec.interval.unwrap_or(default_interval),
            query_offset: spec.query_offset.unwrap_or(default_offset),
            rules: spec.rules.iter().cloned().map(|rule| Mutex::new(Rule::new(rule))).collect(),
            metrics: RuleMetrics::default(),
            last: Mutex::default(),
            orphans: Mutex::default(),
            spec,
        }
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Mutex<Rule>] {
        &self.rules
    }

    /// How the last evaluation went.
    pub fn last(&self) -> LastEvaluation {
        *self.last.lock()
    }

    /// Whether another group would do just the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.spec == other.spec && self.interval == other.interval && self.query_offset == other.query_offset
    }

    /// What tells it from all others, in metrics too: `file;name`.
    pub fn key(&self) -> String {
        format!("{};{}", self.file.display(), self.spec.name)
    }

    /// A number that is the same for the same group in every run: what spreads evaluations over the interval.
    pub(super) fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.key().as_bytes())
    }

    /// Takes over the state of rules that also stood in the group before a reload.
    pub(super) fn take_over(&self, old: &Self) {
        *self.last.lock() = old.last();
        self.metrics.take_over(&old.metrics);
        let mut taken = vec![false; old.rules.len()];
        for rule in &self.rules {
            let mut rule = rule.lock();
            let same = old.rules.iter().enumerate().find(|(at, candidate)| {
                let candidate = candidate.lock();
                !taken[*at]
                    && candidate.spec().name() == rule.spec().name()
                    && candidate.spec().labels == rule.spec().labels
            });
            let Some((at, found)) = same else { continue };
            taken[at] = true;
            let found = found.lock();
            rule.produced.clone_from(&found.produced);
            if let (RuleBody::Alerting(new), RuleBody::Alerting(old)) = (&mut rule.body, &found.body) {
                new.take_over(old);
            }
        }
        let mut orphans = self.orphans.lock();
        orphans.extend(old.orphans.lock().iter());
        for (rule, _) in old.rules.iter().zip(&taken).filter(|(_, taken)| !**taken) {
            orphans.extend(rule.lock().produced.values());
        }
    }

    /// Evaluates all rules at `time`. Blocks.
    pub(super) fn evaluate(&self, context: &RuleContext, time: Timestamp) {
        let started = Instant::now();
        let mut samples = 0;
        for rule in &self.rules {
            let rule_started = Instant::now();
            self.metrics.evaluations.inc();
            let result = self.evaluate_rule(rule, context, time);
            if let Err(error) = &result {
                self.metrics.failures.inc();
                tracing::warn!(file = %self.file.display(), group = %self.spec.name, name = %rule.lock().spec().name(), err = %error, "Evaluating rule failed");
            }
            let mut rule = rule.lock();
            rule.last_time = time;
            rule.last_duration = rule_started.elapsed();
            context.durations.rules.observe(rule.last_duration);
            rule.health = Some(result.map(|count| samples += count));
        }
        self.end_orphans(context, time - self.query_offset.millis());
        self.metrics.iterations.inc();
        let duration = started.elapsed();
        context.durations.groups.observe(duration);
        *self.last.lock() = LastEvaluation { time, duration, samples };
    }

    fn evaluate_rule(&self, rule: &Mutex<Rule>, context: &RuleContext, time: Timestamp) -> Result<usize, String> {
        let at = time - self.query_offset.millis();
        let (expr, is_alert) = {
            let rule = rule.lock();
            (rule.spec().expr.clone(), matches!(rule.body, RuleBody::Alerting(_)))
        };
        let origin = Origin::Rule { file: self.file.display().to_string(), group: self.spec.name.clone() };
        let result = context.querier.instant(&expr, at, &origin).map_err(|e| e.to_string())?;
        let mut rule = rule.lock();
        let vector = if is_alert {
            let query = |text: &str| context.querier.template_query(text, time);
            let around = Surroundings {
                external_labels: &context.external_labels,
                external_url: &context.external_url,
                query: &query,
            };
            let floats = result.into_iter().map(|sample| (sample.labels, sample.value.as_float())).collect();
            let RuleBody::Alerting(alerting) = &mut rule.body else { return Ok(0) };
            let series = alerting.evaluate(floats, time, self.spec.limit, &around)?;
            let due = alerting.take_due(time, context.options.resend_delay.millis(), self.interval.millis());
            context.notify(&alerting.spec, due);
            series.into_iter().map(|(labels, value)| QuerySample { labels, value: QueryValue::Float(value) }).collect()
        } else {
            self.record(rule.spec(), result)?
        };
        store(&mut rule, vector, context, at)
    }

    /// The result of a recording rule under its own name and labels.
    fn record(&self, spec: &RuleSpec, result: Vec<QuerySample>) -> Result<Vec<QuerySample>, String> {
        let limit = self.spec.limit;
        let mut seen = HashSet::with_capacity(result.len());
        let mut changes: Vec<(&str, &str)> = spec.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        changes.push((METRIC_NAME, spec.name()));
        changes.sort_unstable();
        let mut out = Vec::with_capacity(result.len());
        for mut sample in result {
            sample.labels = sample.labels.with(&changes);
            if !seen.insert(sample.labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying rule labels".into());
            }
            out.push(sample);
        }
        if limit > 0 && out.len() > limit {
            return Err(format!("exceeded limit of {limit} with {} series", out.len()));
        }
        Ok(out)
    }

    fn end_orphans(&self, context: &RuleContext, time: Timestamp) {
        let orphans = std::mem::take(&mut *self.orphans.lock());
        if orphans.is_empty() {
            return;
        }
        let Ok(mut batch) = context.store.batch() else { return };
        for series in orphans {
            batch.sample(series, time, STALE_NAN);
        }
        if let Err(error) = batch.commit() {
            tracing::warn!(group = %self.spec.name, %error, "cannot mark the series of removed rules as ended");
        }
    }

    /// Marks the series of all rules as ended: the group is gone.
    pub(super) fn end(&self, context: &RuleContext, time: Timestamp) {
        let mut orphans = self.orphans.lock();
        for rule in &self.rules {
            orphans.extend(rule.lock().produced.drain().map(|(_, series)| series));
        }
        drop(orphans);
        self.end_orphans(context, time);
    }

    /// Gives alerts that were pending or firing before a restart their times back, from the stored `ALERTS_FOR_STATE`.
    pub(super) fn restore(&self, context: &RuleContext, now: Timestamp) {
        let options = &context.options;
        for rule in &self.rules {
            let (name, hold) = {
                let mut rule = rule.lock();
                let RuleBody::Alerting(alerting) = &mut rule.body else { continue };
                if alerting.restored {
                    continue;
                }
                let hold = alerting.hold_millis();
                if hold < options.for_grace_period.millis() {
                    alerting.restored = true;
                    continue;
                }
                (alerting.spec.name().to_owned(), hold)
            };
            let tolerance = options.for_outage_tolerance.millis();
            let stored = match context.querier.last_samples("ALERTS_FOR_STATE", &name, now - tolerance, now) {
                Ok(stored) => stored,
                Err(error) => {
                    tracing::error!(alert = %name, %error, "Failed to restore 'for' state");
                    continue;
                }
            };
            let mut rule = rule.lock();
            let RuleBody::Alerting(alerting) = &mut rule.body else { continue };
            for alert in alerting.alerts_mut() {
                let Some((down_at, value)) = stored.get(&alert.labels) else { continue };
                let was_active_at = (*value * 1000.0) as i64;
                alert.active_at = restored_start(was_active_at, *down_at, now, hold, options.for_grace_period.millis());
            }
            alerting.restored = true;
        }
    }
}

/// Since when an alert counts as pending after a restart (upstream's `RestoreForState`).
fn restored_start(was_active_at: i64, down_at: i64, now: i64, hold: i64, grace: i64) -> i64 {
    let remaining = hold - (down_at - was_active_at);
    if remaining <= 0 {
        was_active_at
    } else if remaining < grace {
        now + grace - hold
    } else {
        was_active_at + (now - down_at)
    }
}

/// Stores a rule's series, and ends those that it no longer gives.
fn store(rule: &mut Rule, vector: Vec<QuerySample>, context: &RuleContext, at: Timestamp) -> Result<usize, String> {
    let mut batch = context.store.batch().map_err(|e| e.to_string())?;
    let mut produced = HashMap::with_capacity(vector.len());
    let count = vector.len();
    for sample in vector {
        let series = match rule.produced.remove(&sample.labels) {
            Some(series) => series,
            None => batch.series(&sample.labels)?,
        };
        match sample.value {
            QueryValue::Float(value) => batch.sample(series, at, value),
            QueryValue::Histogram(h) => batch.histogram(series, at, HistogramSample::Float(h)),
        }
        produced.insert(sample.labels, series);
    }
    for series in rule.produced.values() {
        batch.sample(*series, at, STALE_NAN);
    }
    rule.produced = produced;
    let refusals: Refusals = batch.commit()?;
    if refusals.unknown_series > 0 {
        // the store has forgotten the references: they are resolved anew next time
        rule.produced.clear();
    }
    if refusals.out_of_order + refusals.duplicate > 0 {
        tracing::warn!(rule = %rule.spec().name(), num_dropped = refusals.total(), "Error on ingesting results from rule evaluation");
    }
    Ok(count)
}

impl RuleContext {
    fn notify(&self, spec: &RuleSpec, alerts: Vec<Alert>) {
        if alerts.is_empty() {
            return;
        }
        let generator =
            format!("{}{}", self.external_url.trim_end_matches('/'), super::template_functions::link(&spec.query, 1));
        self.notifier
            .send(alerts.into_iter().map(|alert| crate::notifier::Notification::new(alert, &generator)).collect());
    }
}

impl std::fmt::Debug for RuleContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RuleContext")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_go_on_pending_where_they_were() {
        let minute = 60_000;
        let check = |was_active, down, now, expected, what| {
            assert_eq!(
                restored_start(was_active * minute, down * minute, now * minute, 30 * minute, 10 * minute),
                expected * minute,
                "{what}"
            );
        };
        check(0, 30, 40, 0, "it was firing: it fires at once");
        check(0, 25, 40, 20, "less than the grace period was left: it gets the grace period");
        check(0, 10, 40, 30, "the time down does not count");
    }
}
