//! The questions that `query` asks.

use crate::datasets::{Which, Window};
use harness::encode;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A question to a store.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) name: String,
    pub(crate) set: Which,
    pub(crate) ask: Ask,
    /// Whether it is one of those that the design names goals for: asked often enough for a 99th percentile.
    pub(crate) named: bool,
    /// Relative difference of values that is none: sums over series have no defined order.
    pub(crate) tolerance: f64,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// An expression at the end of the history.
    Instant(String),
    /// An expression over the last `length` milliseconds, every `step`.
    Range { expr: String, length: i64, step: i64 },
    /// Values of a label, of series that match, in the last hour.
    LabelValues { label: &'static str, matching: &'static str },
    /// All names of labels in the last hour.
    LabelNames,
    /// Label sets of series that match in the last hour.
    Series(&'static str),
}

/// For sums and counts of series.
const AGGREGATED: f64 = 1e-12;

impl Query {
    /// The path of the API, for a history in `window`.
    pub(crate) fn path(&self, window: Window) -> String {
        let seconds = |millis: i64| format!("{}.{:03}", millis / 1000, millis % 1000);
        let last_hour = format!("start={}&end={}", seconds(window.end - HOUR), seconds(window.end));
        match &self.ask {
            Ask::Instant(expr) => {
                format!("/api/v1/query?query={}&time={}", encode(expr), seconds(window.end - MINUTE))
            }
            Ask::Range { expr, length, step } => {
                let window = window.last(*length);
                let (start, end) = (seconds(window.start), seconds(window.end));
                format!("/api/v1/query_range?query={}&start={start}&end={end}&step={}", encode(expr), seconds(*step))
            }
            Ask::LabelValues { label, matching } => {
                let matching =
                    if matching.is_empty() { String::new() } else { format!("&match[]={}", encode(matching)) };
                format!("/api/v1/label/{label}/values?{last_hour}{matching}")
            }
            Ask::LabelNames => format!("/api/v1/labels?{last_hour}"),
            Ask::Series(matching) => format!("/api/v1/series?{last_hour}&match[]={}", encode(matching)),
        }
    }

    fn on_disk_set(name: &str, expr: &str, hours: i64, step: i64) -> Self {
        let ask = Ask::Range { expr: expr.to_owned(), length: hours * HOUR, step };
        Self { name: name.to_owned(), set: Which::Disk, ask, named: false, tolerance: AGGREGATED }
    }

    fn on_wide_set(name: &str, ask: Ask) -> Self {
        Self { name: name.to_owned(), set: Which::Wide, ask, named: false, tolerance: AGGREGATED }
    }

    fn named(self) -> Self {
        Self { named: true, ..self }
    }

    fn exact(self) -> Self {
        Self { tolerance: 0.0, ..self }
    }
}

/// All but the expressions of kube-prometheus.
pub(crate) fn all() -> Vec<Query> {
    let range = |expr: &str, hours: i64, step: i64| Ask::Range { expr: expr.to_owned(), length: hours * HOUR, step };
    let rate = "sum by (instance) (rate(node_cpu_seconds_total[5m]))";
    let subquery = "max_over_time(sum(rate(node_cpu_seconds_total[5m]))[1h:1m])";
    let ratio = "node_filesystem_avail_bytes / on (instance, device, mountpoint) node_filesystem_size_bytes";
    let regex = "sum by (mode) (rate(node_cpu_seconds_total{mode=~\"user|sys.*|io.+\", instance!~\".*-1[.].*\"}[5m]))";
    let quantile = "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))";
    let join = "sum by (node) (rate(joined_cpu_seconds_total[5m]) \
                * on (namespace, pod) group_left (node) joined_pod_info)";
    let up = "up{job=\"machines\"}";
    let matching = "edge_requests_total";
    let instant = Ask::Instant("count({job=\"node\"})".to_owned());
    vec![
        Query::on_disk_set("sum of rates, 24 h", rate, 24, MINUTE).named(),
        Query::on_disk_set("count by name, 6 h", "count by (__name__) ({job=\"node\"})", 6, MINUTE).named(),
        Query::on_disk_set("subquery, 24 h", subquery, 24, 5 * MINUTE).named(),
        Query { ask: instant, ..Query::on_disk_set("count, instant", "", 0, 0) }.named(),
        Query::on_disk_set("raw at 15 s, 24 h", "node_network_receive_bytes_total", 24, 15_000).exact(),
        Query::on_disk_set("topk of rate, 24 h", "topk(5, rate(node_network_receive_bytes_total[5m]))", 24, MINUTE)
            .exact(),
        Query::on_disk_set("regex matchers, 24 h", regex, 24, MINUTE),
        Query::on_disk_set("ratio with on, 24 h", ratio, 24, 5 * MINUTE).exact(),
        Query::on_wide_set("histogram_quantile, 6 h", range(quantile, 6, MINUTE)),
        Query::on_wide_set("label values", Ask::LabelValues { label: "pod", matching: "" }),
        Query::on_wide_set("label values, matching", Ask::LabelValues { label: "pod", matching }),
        Query::on_wide_set("label names", Ask::LabelNames),
        Query::on_wide_set("series", Ask::Series("edge_requests_total{zone=\"zone-3\"}")),
        Query::on_wide_set("join with group_left, 6 h", range(join, 6, MINUTE)),
        Query::on_wide_set("up of all targets, 24 h", range(up, 24, 10 * MINUTE)).exact(),
        Query::on_wide_set(
            "gauge of all targets, 24 h",
            range("avg by (zone) (machine_temperature_celsius)", 24, 5 * MINUTE),
        ),
        Query::on_wide_set("targets down, 24 h", range("count(up == 0)", 24, 5 * MINUTE)),
        Query::on_wide_set("targets down, instant", Ask::Instant("count(up == 0)".to_owned())),
        Query::on_wide_set(
            "one series of a large page",
            range("kube_deployment_status_replicas_available{deployment=\"service-7\"}", 1, MINUTE),
        )
        .exact(),
    ]
}

/// The expressions of kube-prometheus: those of rules at one time, those of dashboards over six hours.
pub(crate) fn kube_prometheus(found: &[conformance::kube_prometheus::Found]) -> Vec<Query> {
    let mut known = std::collections::HashSet::new();
    let query = |found: &conformance::kube_prometheus::Found| {
        let dashboard = found.place.contains(".json: ");
        let expr = found.expr.clone();
        let ask = if dashboard { Ask::Range { expr, length: 6 * HOUR, step: MINUTE } } else { Ask::Instant(expr) };
        let set = Which::KubePrometheus;
        Query { name: found.place.clone(), set, ask, named: false, tolerance: AGGREGATED }
    };
    found.iter().filter(|f| known.insert(f.expr.as_str())).map(query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let window = Window { start: 1_000_000_000, end: 1_100_000_000 };
        let queries = all();
        let path = |name: &str| queries.iter().find(|q| q.name == name).expect("the query").path(window);
        assert_eq!(path("count, instant"), "/api/v1/query?query=count%28%7Bjob%3D%22node%22%7D%29&time=1099940.000");
        assert_eq!(
            path("targets down, 24 h"),
            "/api/v1/query_range?query=count%28up%20%3D%3D%200%29&start=1013600.000&end=1100000.000&step=300.000"
        );
        assert_eq!(
            path("label values, matching"),
            "/api/v1/label/pod/values?start=1096400.000&end=1100000.000&match[]=edge_requests_total"
        );
        // a history that is shorter than asked for is taken from its start
        let short = Window { start: 1_099_000_000, ..window };
        assert!(queries[0].path(short).contains("start=1099000.000"));
    }

    #[test]
    fn expressions_parse_and_names_differ() {
        let mut names = std::collections::HashSet::new();
        for query in all() {
            if let Ask::Range { expr, .. } | Ask::Instant(expr) = &query.ask {
                promql::parse(expr, &promql::Features::default()).unwrap_or_else(|e| panic!("{expr}: {e:?}"));
            }
            assert!(names.insert(query.name.clone()), "{} twice", query.name);
        }
    }
}
