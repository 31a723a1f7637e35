//! Rules, alerts and where alerts go.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::{Labels, Matcher, format_rfc3339_millis};
use serde::Serialize;

use super::Server;
use super::params::Params;
use super::response::{ApiError, ApiResult, go_number, success};
use super::targets::shown_time;
use crate::rules::{Alert, AlertState, Rule, RuleBody, file::RuleKind};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownAlert {
    labels: Labels,
    annotations: BTreeMap<String, String>,
    state: &'static str,
    active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<String>,
    value: String,
}

impl From<&Alert> for ShownAlert {
    fn from(alert: &Alert) -> Self {
        Self {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            state: alert.state.as_str(),
            active_at: format_rfc3339_millis(alert.active_at),
            keep_firing_since: alert.keep_firing_since.map(format_rfc3339_millis),
            value: scientific(alert.value),
        }
    }
}

/// A float as Go's `%e` with as many digits as it needs.
fn scientific(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownGroup {
    name: String,
    file: String,
    rules: Vec<ShownRule>,
    #[serde(serialize_with = "go_number")]
    interval: f64,
    limit: usize,
    #[serde(serialize_with = "go_number")]
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    name: String,
    query: String,
    #[serde(flatten)]
    alerting: Option<AlertingFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<Vec<ShownAlert>>,
    health: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_error: String,
    #[serde(serialize_with = "go_number")]
    evaluation_time: f64,
    last_evaluation: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertingFields {
    #[serde(serialize_with = "go_number")]
    duration: f64,
    #[serde(serialize_with = "go_number")]
    keep_firing_for: f64,
}

fn show(rule: &Rule, exclude_alerts: bool) -> ShownRule {
    let spec = rule.spec();
    let (health, last_error) = match &rule.health {
        None => ("unknown", String::new()),
        Some(Ok(_)) => ("ok", String::new()),
        Some(Err(error)) => ("err", error.clone()),
    };
    let mut shown = ShownRule {
        state: None,
        name: spec.name().to_owned(),
        query: spec.query.clone(),
        alerting: None,
        labels: Some(spec.labels.clone()).filter(|l| !l.is_empty()),
        annotations: None,
        alerts: None,
        health,
        last_error,
        evaluation_time: rule.last_duration.as_secs_f64(),
        last_evaluation: shown_time(rule.last_time),
        kind: "recording",
    };
    if let (RuleBody::Alerting(alerting), RuleKind::Alerting { hold, keep_firing, annotations, .. }) =
        (&rule.body, &spec.kind)
    {
        shown.kind = "alerting";
        shown.state = Some(alerting.state().as_str());
        shown.alerting =
            Some(AlertingFields { duration: hold.as_secs_f64(), keep_firing_for: keep_firing.as_secs_f64() });
        shown.labels = Some(spec.labels.clone());
        shown.annotations = Some(annotations.clone());
        let active = |a: &&Alert| a.state != AlertState::Inactive;
        shown.alerts =
            (!exclude_alerts).then(|| alerting.alerts().into_iter().filter(active).map(Into::into).collect());
    }
    shown
}

/// Which rules are asked for.
struct Filter {
    kind: Option<&'static str>,
    names: HashSet<String>,
    groups: HashSet<String>,
    files: HashSet<String>,
    selectors: Vec<Vec<Matcher>>,
    exclude_alerts: bool,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let set = |name: &str| params.all(name).map(str::to_owned).collect();
        let kind = match params.get("type").map(str::to_lowercase).as_deref() {
            None => None,
            Some("alert") => Some("alerting"),
            Some("record") => Some("recording"),
            Some(other) => {
                return Err(ApiError::parameter("type", format!("not supported value {}", model::quote(other))));
            }
        };
        let exclude_alerts = match params.get("exclude_alerts") {
            None | Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
            Some(_) => return Err(ApiError::bad("error converting exclude_alerts: invalid syntax")),
        };
        Ok(Self {
            kind,
            names: set("rule_name[]"),
            groups: set("rule_group[]"),
            files: set("file[]"),
            selectors: params.selectors()?,
            exclude_alerts,
        })
    }

    fn wants(&self, rule: &ShownRule) -> bool {
        let labels = rule.labels.clone().unwrap_or_default();
        let selected = |matchers: &Vec<Matcher>| {
            matchers.iter().all(|m| m.matches(labels.get(&*m.name).map_or("", String::as_str)))
        };
        self.kind.is_none_or(|k| k == rule.kind)
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.selectors.is_empty() || self.selectors.iter().any(selected))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    groups: Vec<ShownGroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

/// `/api/v1/rules`
pub(super) async fn rules(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let filter = Filter::read(&params)?;
    let page = match params.get("group_limit") {
        None if params.get("group_next_token").is_some() => {
            return Err(ApiError::bad("group_limit needs to be present in order to paginate over the groups"));
        }
        None => None,
        Some(text) => match text.parse::<usize>() {
            Ok(limit) if limit > 0 => Some(limit),
            _ => return Err(ApiError::parameter("group_limit", "group_limit needs to be a valid number")),
        },
    };
    let after = params.get("group_next_token");
    let mut answer = Rules { groups: Vec::new(), group_next_token: None };
    let mut skipping = after.is_some();
    for group in server.rules.groups() {
        let file = group.file.display().to_string();
        let token = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(format!("{file};{}", group.spec.name).as_bytes()));
        if skipping {
            skipping = after != Some(token.as_str());
            if skipping {
                continue;
            }
        }
        let wanted = (filter.groups.is_empty() || filter.groups.contains(&group.spec.name))
            && (filter.files.is_empty() || filter.files.contains(&file));
        if !wanted {
            continue;
        }
        if page.is_some_and(|limit| answer.groups.len() >= limit) {
            answer.group_next_token = Some(token);
            break;
        }
        let rules: Vec<ShownRule> = group
            .rules()
            .iter()
            .map(|rule| show(&rule.lock(), filter.exclude_alerts))
            .filter(|r| filter.wants(r))
            .collect();
        // upstream shows no group that has nothing to show
        if rules.is_empty() {
            continue;
        }
        let last = group.last();
        answer.groups.push(ShownGroup {
            name: group.spec.name.clone(),
            file,
            rules,
            interval: group.interval.as_secs_f64(),
            limit: group.spec.limit,
            evaluation_time: last.duration.as_secs_f64(),
            last_evaluation: shown_time(last.time),
        });
    }
    if skipping {
        return Err(ApiError::bad("invalid group_next_token"));
    }
    Ok(success(answer))
}

#[derive(Serialize)]
struct Alerts {
    alerts: Vec<ShownAlert>,
}

/// `/api/v1/alerts`
pub(super) async fn alerts(State(server): State<Arc<Server>>) -> Response {
    let mut alerts = Vec::new();
    for group in server.rules.groups() {
        for rule in group.rules() {
            if let RuleBody::Alerting(alerting) = &rule.lock().body {
                let active = alerting.alerts().into_iter().filter(|a| a.state != AlertState::Inactive);
                alerts.extend(active.map(ShownAlert::from));
            }
        }
    }
    success(Alerts { alerts })
}

#[derive(Serialize)]
struct Address {
    url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alertmanagers {
    active_alertmanagers: Vec<Address>,
    dropped_alertmanagers: Vec<Address>,
}

/// `/api/v1/alertmanagers`
pub(super) async fn alertmanagers(State(server): State<Arc<Server>>) -> Response {
    let (active, dropped) = server.notifier.alertmanagers();
    let shown = |urls: Vec<String>| urls.into_iter().map(|url| Address { url }).collect();
    success(Alertmanagers { active_alertmanagers: shown(active), dropped_alertmanagers: shown(dropped) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_scientific() {
        for (value, expected) in [(1.0, "1e+00"), (0.0, "0e+00"), (-0.00125, "-1.25e-03"), (1e100, "1e+100")] {
            assert_eq!(scientific(value), expected);
        }
    }
}
