//! What an alerting rule says of its alerts: labels and annotations, which may be templates and are parsed once.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use model::{Labels, Timestamp};
use template::{Limits, Template, Value};

use super::file::{RuleKind, RuleSpec, parse_template};
use super::template_functions::{QueryFunction, TemplateFunctions};

/// The label that has the rule's name.
const ALERT_NAME: &str = "alertname";

/// What templates know beside the alert itself.
pub(super) struct Surroundings<'a> {
    pub(super) external_labels: &'a Labels,
    pub(super) external_url: &'a str,
    pub(super) query: &'a QueryFunction<'a>,
}

/// The texts of a rule, by name; the rule's own name is among the labels.
#[derive(Debug)]
pub(super) struct AlertTexts {
    labels: BTreeMap<String, Text>,
    annotations: BTreeMap<String, Text>,
}

#[derive(Debug)]
enum Text {
    Plain(String),
    /// A template, or why it is none: labels of a group are not looked at before.
    Template(Result<Template, template::Error>),
}

impl Text {
    fn new(alert: &str, text: &str) -> Self {
        if text.contains("{{") { Self::Template(parse_template(alert, text)) } else { Self::Plain(text.to_owned()) }
    }
}

impl AlertTexts {
    pub(super) fn new(spec: &RuleSpec) -> Self {
        let texts = |all: &BTreeMap<String, String>| -> BTreeMap<String, Text> {
            all.iter().map(|(name, text)| (name.clone(), Text::new(spec.name(), text))).collect()
        };
        let annotations = match &spec.kind {
            RuleKind::Alerting { annotations, .. } => texts(annotations),
            RuleKind::Recording { .. } => BTreeMap::new(),
        };
        let mut labels = texts(&spec.labels);
        labels.insert(ALERT_NAME.to_owned(), Text::Plain(spec.name().to_owned()));
        Self { labels, annotations }
    }

    /// What writes the texts of the alerts of one evaluation, of the rule `alert`.
    pub(super) fn at<'a>(&'a self, alert: &'a str, now: Timestamp, around: &'a Surroundings<'a>) -> Writer<'a> {
        let functions = TemplateFunctions { query: around.query, external_url: around.external_url, now };
        Writer { texts: self, alert, around, functions }
    }
}

/// Writes the texts of the alerts of one evaluation.
pub(super) struct Writer<'a> {
    texts: &'a AlertTexts,
    alert: &'a str,
    around: &'a Surroundings<'a>,
    functions: TemplateFunctions<'a>,
}

impl Writer<'_> {
    /// Labels and annotations of the alert that a series with a value gives.
    pub(super) fn describe(&self, series: &Labels, value: f64) -> (Labels, BTreeMap<String, String>) {
        let series = series.without_name();
        let data = OnceCell::new();
        let data = || {
            data.get_or_init(|| {
                Value::map([
                    ("Labels", Value::Labels(series.clone())),
                    ("ExternalLabels", Value::Labels(self.around.external_labels.clone())),
                    ("ExternalURL", Value::from(self.around.external_url)),
                    ("Value", Value::Float(value)),
                ])
            })
        };
        let expand = |text: &Text| match text {
            Text::Plain(text) => text.clone(),
            Text::Template(template) => template
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|template| {
                    template.execute(data(), &self.functions, Limits::default()).map_err(|error| error.to_string())
                })
                .unwrap_or_else(|error| {
                    tracing::warn!(alert = %self.alert, %error, "Expanding alert template failed");
                    format!("<error expanding template: {error}>")
                }),
        };
        let texts: Vec<(&str, String)> = self.texts.labels.iter().map(|(name, text)| (&**name, expand(text))).collect();
        let changes: Vec<(&str, &str)> = texts.iter().map(|(name, value)| (*name, &**value)).collect();
        let annotations = self.texts.annotations.iter().map(|(name, text)| (name.clone(), expand(text))).collect();
        (series.with(&changes), annotations)
    }
}
