//! What each rule of a job makes of a target.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use model::Labels;
use serde::Serialize;

use super::Server;
use super::params::Params;
use super::response::{ApiError, ApiResult, success};
use crate::relabel::{self, RelabelRule};

#[derive(Serialize)]
struct Steps {
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    rule: Rule,
    /// The labels after the rule; none if it, or one before it, dropped the target.
    output: Labels,
    keep: bool,
}

/// A rule as upstream shows it: what is empty is left out.
#[derive(Serialize)]
struct Rule {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_labels: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    separator: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    regex: String,
    #[serde(skip_serializing_if = "is_zero")]
    modulus: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    target_label: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    replacement: String,
    action: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Rule {
    fn of(rule: &RelabelRule) -> Self {
        Self {
            source_labels: rule.source_labels.clone(),
            separator: rule.separator.clone(),
            regex: rule.regex.as_str().to_owned(),
            modulus: rule.modulus,
            target_label: rule.target_label.clone(),
            replacement: rule.replacement.clone(),
            action: rule.action.as_str(),
        }
    }
}

/// `/api/v1/targets/relabel_steps`
pub(super) async fn relabel_steps(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let missing = |name: &str| ApiError::bad(format!("no {name} parameter provided"));
    let pool = params.get("scrapePool").ok_or_else(|| missing("scrapePool"))?;
    let labels = params.get("labels").ok_or_else(|| missing("labels"))?;
    let labels: BTreeMap<String, String> =
        serde_json::from_str(labels).map_err(|e| ApiError::bad(format!("error parsing labels: {e}")))?;
    let pools = server.scrapes.pools();
    let found = pools.iter().find(|(config, _)| config.job_name == pool);
    let (config, _) = found.ok_or_else(|| ApiError::no_pool(pool))?;
    let mut builder = Labels::from_pairs(labels).to_builder();
    let mut keep = true;
    let mut step = |rule: &RelabelRule| {
        keep = keep && relabel::apply(&mut builder, std::slice::from_ref(rule), config.metric_name_validation_scheme);
        Step { rule: Rule::of(rule), output: if keep { builder.build() } else { Labels::default() }, keep }
    };
    let steps = config.relabel_configs.iter().map(&mut step).collect();
    Ok(success(Steps { steps }))
}
