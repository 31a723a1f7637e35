//! What is scraped, and what targets say about their metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::{Labels, Matcher, Metadata, format_rfc3339_millis};
use serde::Serialize;

use super::Server;
use super::params::Params;
use super::response::{ApiError, ApiResult, go_number, success};
use crate::scrape::{PoolView, Target};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget {
    discovered_labels: Labels,
    labels: Labels,
    scrape_pool: String,
    scrape_url: String,
    global_url: String,
    last_error: String,
    last_scrape: String,
    #[serde(serialize_with = "go_number")]
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedTarget {
    discovered_labels: Labels,
    scrape_pool: String,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<ActiveTarget>,
    dropped_targets: Vec<DroppedTarget>,
    dropped_target_counts: BTreeMap<String, usize>,
}

/// A time that may not have come yet, as Go prints it.
pub(super) fn shown_time(millis: i64) -> String {
    if millis == 0 { "0001-01-01T00:00:00Z".to_owned() } else { format_rfc3339_millis(millis) }
}

/// `/api/v1/targets`
pub(super) async fn targets(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let state = params.get("state").unwrap_or("any").to_lowercase();
    let (active, dropped) = (state == "any" || state == "active", state == "any" || state == "dropped");
    let mut answer = Targets::default();
    for (name, view) in pools(&server, &params) {
        if active {
            let shown = view.active().into_iter().map(|target| show(&server, &name, &target));
            answer.active_targets.extend(shown);
        }
        let (labels, count) = view.dropped();
        answer.dropped_target_counts.insert(name.clone(), count);
        if dropped {
            let shown = labels.into_iter().map(|l| DroppedTarget { discovered_labels: l, scrape_pool: name.clone() });
            answer.dropped_targets.extend(shown);
        }
    }
    Ok(success(answer))
}

fn pools(server: &Server, params: &Params) -> Vec<(String, Arc<PoolView>)> {
    let wanted = params.get("scrapePool");
    let pools = server.scrapes.pools().into_iter().map(|(config, view)| (config.job_name.clone(), view));
    pools.filter(|(name, _)| wanted.is_none_or(|w| w == name)).collect()
}

fn show(server: &Server, pool: &str, target: &Target) -> ActiveTarget {
    let status = target.status.lock().clone();
    ActiveTarget {
        discovered_labels: target.discovered.clone(),
        labels: target.labels.clone(),
        scrape_pool: pool.to_owned(),
        scrape_url: target.url.clone(),
        global_url: global_url(&target.url, &server.options.external_url),
        health: status.health(),
        last_error: status.last_error,
        last_scrape: shown_time(status.last_scrape),
        last_scrape_duration: status.last_duration.as_secs_f64(),
        scrape_interval: target.times[0].to_string(),
        scrape_timeout: target.times[1].to_string(),
    }
}

/// The address with the server's own name in place of a loopback one, so that it works from elsewhere.
fn global_url(url: &str, external: &str) -> String {
    let (Ok(mut parsed), Ok(external)) = (url::Url::parse(url), url::Url::parse(external)) else {
        return url.to_owned();
    };
    let loopback = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if !loopback || parsed.set_host(external.host_str()).is_err() {
        return url.to_owned();
    }
    parsed.to_string()
}

#[derive(Serialize)]
struct ShownPool {
    yaml: String,
}

/// `/api/v1/scrape_pools/config`
pub(super) async fn scrape_pool_config(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let pool = params.get("scrapePool").ok_or_else(|| ApiError::bad("no scrapePool parameter provided"))?;
    let yaml = server.config.read().shown_jobs.get(pool).cloned();
    Ok(success(ShownPool { yaml: yaml.ok_or_else(|| ApiError::no_pool(pool))? }))
}

#[derive(Serialize)]
struct ScrapePools {
    #[serde(rename = "scrapePools")]
    scrape_pools: Vec<String>,
}

/// `/api/v1/scrape_pools`
pub(super) async fn scrape_pools(State(server): State<Arc<Server>>) -> Response {
    let pools = server.scrapes.pools();
    success(ScrapePools { scrape_pools: pools.iter().map(|(config, _)| config.job_name.clone()).collect() })
}

#[derive(Serialize)]
struct TargetMetadata {
    target: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    #[serde(rename = "type")]
    metric_type: &'static str,
    help: String,
    unit: String,
}

/// `/api/v1/targets/metadata`
pub(super) async fn target_metadata(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let limit = params.limit()?;
    let matchers: Vec<Matcher> = match params.get("match_target") {
        None => Vec::new(),
        Some(text) => promql::parse_metric_selector(text).map_err(|e| ApiError::parameter("match_target", e))?,
    };
    let wanted = params.get("metric");
    let mut found = Vec::new();
    for target in server.scrapes.pools().iter().flat_map(|(_, view)| view.active()) {
        if !matchers.iter().all(|m| m.matches(target.labels.value(&m.name))) {
            continue;
        }
        let mut add = |metric: Option<&str>, metadata: &Metadata| {
            if limit == 0 || found.len() < limit {
                found.push(TargetMetadata {
                    target: target.labels.clone(),
                    metric: metric.map(str::to_owned),
                    metric_type: metadata.metric_type.as_str(),
                    help: metadata.help.to_string(),
                    unit: metadata.unit.to_string(),
                });
            }
        };
        match wanted {
            Some(metric) => {
                if let Some(metadata) = target.metadata.get(metric) {
                    add(None, &metadata);
                }
            }
            None => target.metadata.for_each(|family, metadata| add(Some(family), metadata)),
        }
    }
    Ok(success(found))
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct FamilyMetadata {
    #[serde(rename = "type")]
    metric_type: &'static str,
    help: String,
    unit: String,
}

/// `/api/v1/metadata`
pub(super) async fn metadata(State(server): State<Arc<Server>>, params: Params) -> ApiResult {
    let limit = match params.get("limit").map(str::parse::<i64>) {
        None => -1,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return Err(ApiError::bad("limit must be a number")),
    };
    let per_metric = match params.get("limit_per_metric").map(str::parse::<i64>) {
        None => -1,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return Err(ApiError::bad("limit_per_metric must be a number")),
    };
    let wanted = params.get("metric");
    let mut families: BTreeMap<String, Vec<FamilyMetadata>> = BTreeMap::new();
    for target in server.scrapes.pools().iter().flat_map(|(_, view)| view.active()) {
        target.metadata.for_each(|family, metadata| {
            if wanted.is_some_and(|w| w != family) {
                return;
            }
            if limit == 0 || (limit > 0 && families.len() as i64 >= limit && !families.contains_key(family)) {
                return;
            }
            let known = families.entry(family.to_owned()).or_default();
            let shown = FamilyMetadata {
                metric_type: metadata.metric_type.as_str(),
                help: metadata.help.to_string(),
                unit: metadata.unit.to_string(),
            };
            if !known.contains(&shown) && (per_metric <= 0 || (known.len() as i64) < per_metric) {
                known.push(shown);
            }
        });
    }
    Ok(success(families))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_get_the_servers_name() {
        for (url, expected) in [
            ("http://localhost:9100/metrics", "http://host:9100/metrics"),
            ("http://127.0.0.1:9100/metrics?a=b", "http://host:9100/metrics?a=b"),
            ("http://other:9100/metrics", "http://other:9100/metrics"),
        ] {
            assert_eq!(global_url(url, "http://host:9090/"), expected);
        }
    }
}
