//! Rule files: reading and checking.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use model::{Duration, NameValidation, is_valid_label_name, is_valid_metric_name};
use promql::Features;
use promql::ast::Expr;
use serde::Deserialize;
use template::Template;

use super::template_functions::has_function;

/// The variables that alert templates start with.
const TEMPLATE_HEAD: &str =
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// A text of an alerting rule as the template it is.
pub(super) fn parse_template(alert: &str, text: &str) -> Result<Template, template::Error> {
    Template::parse(&format!("__alert_{alert}"), &format!("{TEMPLATE_HEAD}{text}"), &has_function)
}

/// A group of a rule file.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    /// Name, unique in its file.
    pub name: String,
    /// Time between evaluations; `None` is the global one.
    pub interval: Option<Duration>,
    /// How far in the past the rules are evaluated; `None` is the global offset.
    pub query_offset: Option<Duration>,
    /// Most series or alerts of a rule; 0 is no limit.
    pub limit: usize,
    /// The rules in order.
    pub rules: Vec<RuleSpec>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// Records or alerts.
    pub kind: RuleKind,
    /// The expression.
    pub expr: Expr,
    /// The expression as the API shows it.
    pub query: String,
    /// Labels added, those of the group included. In alerts they are templates.
    pub labels: BTreeMap<String, String>,
}

/// What a rule does with its result.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleKind {
    /// Stores it under this name.
    Recording {
        /// Metric name.
        name: String,
    },
    /// Raises alerts.
    Alerting {
        /// Name of the alert.
        name: String,
        /// How long the condition must hold.
        hold: Duration,
        /// How long alerts go on firing after it has ended.
        keep_firing: Duration,
        /// Texts for people, templates.
        annotations: BTreeMap<String, String>,
    },
}

impl RuleSpec {
    /// The recorded metric's or the alert's name.
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Recording { name } | RuleKind::Alerting { name, .. } => name,
        }
    }
}

/// How strictly a file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleOptions {
    /// Parts of PromQL that are on.
    pub features: Features,
    /// Characters allowed in names.
    pub names: NameValidation,
    /// Unknown fields are passed over.
    pub ignore_unknown_fields: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename = "rulefmt.RuleGroup")]
struct WrittenGroup {
    name: String,
    interval: Duration,
    query_offset: Option<Duration>,
    limit: i64,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename = "rulefmt.Rule")]
struct WrittenRule {
    record: String,
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    hold: Duration,
    keep_firing_for: Duration,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

const GROUP_FIELDS: [&str; 6] = ["name", "interval", "query_offset", "limit", "labels", "rules"];
const RULE_FIELDS: [&str; 7] = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];

/// Reads a rule file.
///
/// # Errors
/// All that is wrong with it, each fault with file, line and column where it has one.
pub fn load(path: &Path, options: &RuleOptions) -> Result<Vec<GroupSpec>, Vec<String>> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| vec![format!("open {name}: {e}")])?;
    let node = yaml::Node::parse(&text).map_err(|e| vec![format!("{name}: yaml: {e}")])?;
    read(&node, options).map_err(|faults| faults.into_iter().map(|f| format!("{name}: {f}")).collect())
}

/// Reads the groups of a parsed rule file or of the `spec` of a PrometheusRule.
///
/// # Errors
/// All that is wrong with it, each fault with line and column where it has one.
pub fn read(node: &yaml::Node, options: &RuleOptions) -> Result<Vec<GroupSpec>, Vec<String>> {
    let (known, unknown) = node.split(|key| key == "groups").map_err(|e| vec![format!("yaml: {e}")])?;
    if !options.ignore_unknown_fields
        && let yaml::Kind::Mapping(entries) = &unknown.kind
        && let Some((key, _)) = entries.first()
    {
        let field = key.as_str().unwrap_or_default();
        return Err(vec![format!(
            "yaml: unmarshal errors: line {}: field {field} not found in type rulefmt.RuleGroups",
            key.line
        )]);
    }
    let reader = Reader { options };
    let mut faults = Vec::new();
    let mut groups = Vec::new();
    let mut names = HashSet::new();
    let items = match known.get("groups").map(|n| &n.kind) {
        Some(yaml::Kind::Sequence(items)) => items.as_slice(),
        Some(yaml::Kind::Mapping(_)) => return Err(vec!["yaml: groups must be a list".into()]),
        _ => &[],
    };
    for item in items {
        match reader.group(item, &mut faults) {
            Ok(group) => {
                let place = item.get("name").unwrap_or(item);
                if group.name.is_empty() {
                    faults.push(format!("{}:{}: Groupname must not be empty", place.line, place.column));
                } else if !names.insert(group.name.clone()) {
                    faults.push(format!(
                        "{}:{}: groupname: {} is repeated in the same file",
                        place.line,
                        place.column,
                        model::quote(&group.name)
                    ));
                }
                groups.push(group);
            }
            Err(fault) => return Err(vec![format!("yaml: unmarshal errors: {fault}")]),
        }
    }
    if faults.is_empty() { Ok(groups) } else { Err(faults) }
}

struct Reader<'a> {
    options: &'a RuleOptions,
}

impl Reader<'_> {
    fn group(&self, node: &yaml::Node, faults: &mut Vec<String>) -> Result<GroupSpec, yaml::Error> {
        let node = self.known(node, &GROUP_FIELDS)?;
        let (rules, rest) = node.split(|key| key == "rules")?;
        let written: WrittenGroup = rest.read()?;
        let mut group = GroupSpec {
            name: written.name,
            interval: Some(written.interval).filter(|i| !i.is_zero()),
            query_offset: written.query_offset,
            limit: usize::try_from(written.limit).unwrap_or(0),
            rules: Vec::new(),
        };
        if let Err(fault) = self.labels(&written.labels) {
            faults.push(format!("{}:{}: group {}: {fault}", node.line, node.column, model::quote(&group.name)));
        }
        let items = match rules.get("rules").map(|n| &n.kind) {
            Some(yaml::Kind::Sequence(items)) => items.as_slice(),
            Some(yaml::Kind::Mapping(_)) => return Err(rules.error("rules must be a list")),
            _ => &[],
        };
        for (at, item) in items.iter().enumerate() {
            let item = self.known(item, &RULE_FIELDS)?;
            let written_rule: WrittenRule = item.read()?;
            let name = if written_rule.record.is_empty() { &written_rule.alert } else { &written_rule.record };
            let head = format!("group {}, rule {}, {}", model::quote(&group.name), at + 1, model::quote(name));
            match self.rule(written_rule, &written.labels) {
                Ok(rule) => group.rules.push(rule),
                Err(found) => {
                    for (field, fault) in found {
                        let place = item.get(field).unwrap_or(&item);
                        faults.push(format!("{}:{}: {head}: {fault}", place.line, place.column));
                    }
                }
            }
        }
        Ok(group)
    }

    /// The node without unknown fields, if those are to be passed over; otherwise they are errors when it is read.
    fn known(&self, node: &yaml::Node, fields: &[&str]) -> Result<yaml::Node, yaml::Error> {
        if self.options.ignore_unknown_fields {
            Ok(node.split(|key| fields.contains(&key))?.0)
        } else {
            Ok(node.clone())
        }
    }

    /// Checks a rule. Faults are given with the field they are in.
    fn rule(
        &self,
        w: WrittenRule,
        group_labels: &BTreeMap<String, String>,
    ) -> Result<RuleSpec, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let mut fault = |field, text: String| faults.push((field, text));
        match (w.record.is_empty(), w.alert.is_empty()) {
            (false, false) => fault("record", "only one of 'record' and 'alert' must be set".into()),
            (true, true) => fault("alert", "one of 'record' or 'alert' must be set".into()),
            _ => {}
        }
        let expr = if w.expr.is_empty() {
            fault("expr", "field 'expr' must be set in rule".into());
            None
        } else {
            match promql::parse(&w.expr, &self.options.features) {
                Ok(expr) => Some(expr),
                Err(error) => {
                    fault("expr", format!("could not parse expression: {error}"));
                    None
                }
            }
        };
        if !w.record.is_empty() {
            if !w.annotations.is_empty() {
                fault("record", "invalid field 'annotations' in recording rule".into());
            }
            if !w.hold.is_zero() {
                fault("record", "invalid field 'for' in recording rule".into());
            }
            if !w.keep_firing_for.is_zero() {
                fault("record", "invalid field 'keep_firing_for' in recording rule".into());
            }
            if w.record.contains(['{', '}']) {
                fault(
                    "record",
                    format!("braces present in the recording rule name; should it be in expr?: {}", w.record),
                );
            } else if !is_valid_metric_name(&w.record, self.options.names) {
                fault("record", format!("invalid recording rule name: {}", w.record));
            }
        }
        if let Err(text) = self.labels(&w.labels) {
            fault("labels", text);
        }
        for name in w.annotations.keys() {
            if !is_valid_label_name(name, NameValidation::Utf8) {
                fault("annotations", format!("invalid annotation name: {name}"));
            }
        }
        if !w.alert.is_empty() {
            for (what, field, texts) in [("label", "labels", &w.labels), ("annotation", "annotations", &w.annotations)]
            {
                for (name, text) in texts {
                    if let Err(error) = parse_template(&w.alert, text) {
                        fault(field, format!("{what} {}: {error}", model::quote(name)));
                    }
                }
            }
        }
        let Some(expr) = expr.filter(|_| faults.is_empty()) else { return Err(faults) };
        let kind = if w.alert.is_empty() {
            RuleKind::Recording { name: w.record }
        } else {
            RuleKind::Alerting {
                name: w.alert,
                hold: w.hold,
                keep_firing: w.keep_firing_for,
                annotations: w.annotations,
            }
        };
        let mut labels = group_labels.clone();
        labels.extend(w.labels);
        Ok(RuleSpec { kind, query: expr.to_string(), expr, labels })
    }

    fn labels(&self, labels: &BTreeMap<String, String>) -> Result<(), String> {
        match labels.keys().find(|name| *name == "__name__" || !is_valid_label_name(name, self.options.names)) {
            Some(name) => Err(format!("invalid label name: {name}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Vec<GroupSpec>, Vec<String>> {
        read(&yaml::Node::parse(text).unwrap(), &RuleOptions::default())
    }

    fn check_fault(rule: &str, expected: &str) {
        let text = format!("groups:\n- name: g\n  rules:\n  - {}\n", rule.replace('\n', "\n    "));
        let faults = load_text(&text).unwrap_err();
        assert!(faults[0].contains(expected), "{rule}: {faults:?}");
    }

    #[test]
    fn groups_and_rules_are_read() {
        let groups = load_text(
            "groups:\n- name: g\n  interval: 30s\n  limit: 5\n  labels: {team: a, x: y}\n  rules:\n  - record: job:up:sum\n    expr: sum by (job) (up)\n    labels: {x: z}\n  - alert: Down\n    expr: up == 0\n    for: 5m\n    annotations: {summary: '{{ $labels.job }} is down'}\n",
        )
        .unwrap();
        let group = &groups[0];
        assert_eq!((group.interval.unwrap().millis(), group.limit, group.rules.len()), (30_000, 5, 2));
        assert_eq!((group.rules[0].labels["x"].as_str(), group.rules[0].labels["team"].as_str()), ("z", "a"));
        assert!(matches!(&group.rules[1].kind, RuleKind::Alerting { hold, .. } if hold.millis() == 300_000));
        assert!(load_text("").unwrap().is_empty());
    }

    #[test]
    fn faults_name_group_rule_and_place() {
        let faults = load_text("groups:\n- name: yolo\n  rules:\n  - record: yolo\n    expr: rate(hi)\n").unwrap_err();
        assert_eq!(
            faults,
            [
                "5:11: group \"yolo\", rule 1, \"yolo\": could not parse expression: 1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"
            ]
        );
        check_fault("record: a\nalert: b\nexpr: x", "only one of 'record' and 'alert' must be set");
        check_fault("expr: x", "one of 'record' or 'alert' must be set");
        check_fault("record: a", "field 'expr' must be set in rule");
        check_fault("record: a\nexpr: x\nfor: 5m", "invalid field 'for' in recording rule");
        check_fault("record: a\nexpr: x\nkeep_firing_for: 5m", "invalid field 'keep_firing_for' in recording rule");
        check_fault("record: a\nexpr: x\nannotations: {a: b}", "invalid field 'annotations' in recording rule");
        check_fault("record: 'a{b=\"c\"}'\nexpr: x", "braces present in the recording rule name");
        check_fault("alert: a\nexpr: x\nlabels: {__name__: b}", "invalid label name: __name__");
        check_fault(
            "alert: A\nexpr: x\nannotations: {s: '{{ $label }}'}",
            "annotation \"s\": template: __alert_A:1: undefined variable \"$label\"",
        );
        check_fault("alert: A\nexpr: x\nannotation: {}", "field annotation not found in type rulefmt.Rule");
        let repeated = load_text("groups: [{name: a}, {name: a}]").unwrap_err();
        assert!(repeated[0].contains("groupname: \"a\" is repeated in the same file"));
    }
}
