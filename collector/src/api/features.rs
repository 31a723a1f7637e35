//! What this server can do, under the names of Prometheus' registry of features.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use promql::FUNCTIONS;

use super::Server;
use super::response::success;
use crate::config::discovery_mechanisms;
use crate::rules::TEMPLATE_FUNCTIONS;

/// Features of one part of the server, and whether they are on.
type Part = BTreeMap<&'static str, bool>;

/// Operators and aggregations that need no feature.
const OPERATORS: [&str; 30] = [
    "!=",
    "!~",
    "%",
    "*",
    "+",
    "-",
    "/",
    "<",
    "<=",
    "==",
    "=~",
    ">",
    ">=",
    "@",
    "^",
    "and",
    "atan2",
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "max",
    "min",
    "or",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
];

/// `/api/v1/features`
pub(super) async fn features(State(server): State<Arc<Server>>) -> Response {
    success(all(&server))
}

fn all(server: &Server) -> BTreeMap<&'static str, Part> {
    let (options, scrapes) = (&server.options, server.scrapes.options());
    let language = server.querier.engine().options().features;
    let experimental = language.experimental_functions;
    let auto_reload = |(name, value): &(String, String)| match name.as_str() {
        "config.auto-reload" => value == "true",
        "enable-feature" => value.split(',').any(|feature| feature.trim() == "auto-reload-config"),
        _ => false,
    };
    let extended = language.extended_range_selectors;
    let fill = language.binop_fill_modifiers;
    let mut operators = OPERATORS.map(|operator| (operator, true)).to_vec();
    operators.extend([("unless", true), ("limitk", experimental), ("limit_ratio", experimental)]);
    // of Go's own, which upstream does not count
    let templates = TEMPLATE_FUNCTIONS.iter().filter(|name| **name != "tmpl");
    let exemplars = server.config.read().storage.max_exemplars != Some(0);
    let parts: [(&str, Vec<(&str, bool)>); 12] = [
        (
            "api",
            vec![
                ("admin", options.enable_admin_api),
                ("exclude_alerts", true),
                ("label_values_match", true),
                ("lifecycle", options.enable_lifecycle),
                ("openapi_3.1", false),
                ("openapi_3.2", false),
                ("otlp_write_receiver", false),
                ("query_stats", true),
                ("query_warnings", true),
                ("remote_write_receiver", options.enable_remote_write_receiver),
                ("time_range_labels", true),
                ("time_range_series", true),
            ],
        ),
        ("otlp_receiver", vec![("delta_conversion", false), ("native_delta_ingestion", false)]),
        (
            "prometheus",
            vec![
                ("agent_mode", false),
                ("auto_reload_config", options.flags.iter().any(auto_reload)),
                ("server_mode", true),
                // a way to build it in Go
                ("stringlabels", false),
            ],
        ),
        (
            "promql",
            vec![
                ("anchored", extended),
                ("at_modifier", true),
                ("bool", true),
                ("by", true),
                ("delayed_name_removal", language.delayed_name_removal),
                ("duration_expr", true),
                ("fill", fill),
                ("fill_left", fill),
                ("fill_right", fill),
                ("group_left", true),
                ("group_right", true),
                ("ignoring", true),
                ("negative_offset", true),
                ("offset", true),
                ("on", true),
                ("per_query_lookback_delta", true),
                ("per_step_stats", language.per_step_stats),
                ("smoothed", extended),
                ("subqueries", true),
                ("type_and_unit_labels", language.type_and_unit_labels),
                ("use_start_timestamps", language.use_start_timestamps),
                ("without", true),
            ],
        ),
        ("promql_functions", FUNCTIONS.iter().map(|f| (f.name, experimental || !f.experimental)).collect()),
        ("promql_operators", operators),
        ("rules", vec![("concurrent_rule_eval", false), ("keep_firing_for", true), ("query_offset", true)]),
        (
            "scrape",
            vec![
                ("extra_scrape_metrics", true),
                ("start_timestamp_zero_ingestion", scrapes.start_times.zero_samples),
                ("type_and_unit_labels", scrapes.type_and_unit_labels),
            ],
        ),
        ("service_discovery_providers", discovery_mechanisms().map(|name| (name, true)).collect()),
        ("templating_functions", templates.map(|name| (*name, true)).collect()),
        (
            "tsdb",
            vec![
                ("delayed_compaction", false),
                ("exemplar_storage", exemplars),
                ("isolation", true),
                ("native_histograms", true),
                ("st_storage", scrapes.start_times.stored),
                ("use_uncached_io", false),
            ],
        ),
        ("ui", vec![("ui_v2", false), ("ui_v3", false)]),
    ];
    parts.into_iter().map(|(name, features)| (name, features.into_iter().collect())).collect()
}
