//! Limits of jobs: what each server says, stores and counts when a target is over one. Beside the real Prometheus where it is at
//! hand.

use std::collections::BTreeMap;

use harness::{Prometheus, Reply, Target, api, eventually, get, query};

const PAGE: &str = "# TYPE a gauge\na{x=\"1\"} 1\na{x=\"1\"} 2\na{x=\"2\"} 3\nlong_label_value{x=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"} 4\nlong_label_name{aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=\"1\"} 5\nmany_labels{a=\"1\",b=\"2\",c=\"3\"} 6\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\n";

/// Name and options of each job.
const JOBS: &[(&str, &str)] = &[
    ("free", ""),
    ("body", "body_size_limit: 100B"),
    ("body_fits", "body_size_limit: 100KB"),
    ("samples", "sample_limit: 3"),
    ("samples_fit", "sample_limit: 30"),
    (
        "dropped_samples",
        "sample_limit: 3, metric_relabel_configs: [{source_labels: [__name__], regex: 'many.*|long.*|h_.*', action: drop}]",
    ),
    ("labels", "label_limit: 5"),
    ("labels_fit", "label_limit: 6"),
    ("label_names", "label_name_length_limit: 50"),
    ("label_values", "label_value_length_limit: 50"),
    ("buckets", "convert_classic_histograms_to_nhcb: true, native_histogram_bucket_limit: 1"),
    ("buckets_fit", "convert_classic_histograms_to_nhcb: true, native_histogram_bucket_limit: 2"),
];

#[test]
fn what_is_over_a_limit_is_refused_in_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(Reply::Page(PAGE.into()));
    let address = target.address;
    let mut config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n- {{job_name: targets, target_limit: 1, static_configs: [{{targets: ['{address}', 'localhost:{}']}}]}}\n",
        address.port()
    );
    for (name, options) in JOBS {
        let options = if options.is_empty() { String::new() } else { format!("{options}, ") };
        config += &format!("- {{job_name: {name}, {options}static_configs: [{{targets: ['{address}']}}]}}\n");
    }
    let servers =
        Prometheus::both(folder.path(), &config, &["--enable-feature=native-histograms,extra-scrape-metrics"]);
    let seen = servers.iter().map(|server| {
        // the second scrape of every job has been stored
        eventually("two scrapes of each job", 30, || {
            let counts = query(&server.base, "count by (job) (count_over_time(up[5m]) > 2)");
            (counts.as_array()?.len() == JOBS.len() + 1).then_some(())
        });
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let targets = api(&server.base, "targets");
        for shown in targets["activeTargets"].as_array().unwrap() {
            let key = format!("target {} {}", shown["scrapePool"], shown["scrapeUrl"]);
            seen.insert(key, format!("{} {}", shown["health"], shown["lastError"]));
        }
        let about = query(
            &server.base,
            r#"{__name__=~"up|scrape_.*",__name__!="scrape_duration_seconds",__name__!="scrape_series_added"}"#,
        );
        for series in about.as_array().unwrap() {
            let metric = &series["metric"];
            seen.insert(
                format!("{} {} {}", metric["job"], metric["__name__"], metric["instance"]),
                series["value"][1].to_string(),
            );
        }
        let first = query(&server.base, "max by (job) (max_over_time(scrape_series_added[5m]))");
        for series in first.as_array().unwrap() {
            seen.insert(format!("{} series added at first", series["metric"]["job"]), series["value"][1].to_string());
        }
        let page = get(&format!("{}/metrics", server.base)).body;
        for line in [
            "interval_length_seconds{interval=\"500ms\",quantile=\"0.01\"} ",
            "interval_length_seconds_count{interval=\"500ms\"} ",
            "sync_length_seconds{scrape_job=\"free\",quantile=\"0.99\"} ",
            "sync_length_seconds_sum{scrape_job=\"free\"} ",
            "scrape_pool_sync_total{scrape_job=\"free\"} ",
            "metadata_cache_entries{scrape_job=\"free\"} 2\n",
            "metadata_cache_bytes{scrape_job=\"free\"} ",
            "scrape_pools_total 13\n",
            "scrape_pools_failed_total 0\n",
            "scrape_pool_reloads_total 0\n",
            "scrape_pool_reloads_failed_total 0\n",
        ] {
            assert!(page.contains(&format!("\nprometheus_target_{line}")), "{line}\n{page}");
        }
        for line in page.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            if name.contains("_exceeded_") && !line.starts_with('#') {
                let happened = value.parse::<f64>().is_ok_and(|count| count > 0.0);
                seen.insert(format!("metric {name}"), format!("counted: {happened}"));
            }
        }
        seen
    });
    let seen: Vec<_> = seen.collect();
    let ours = &seen[0];
    let shown =
        |pool: &str| ours.iter().find(|(key, _)| key.starts_with(&format!("target \"{pool}\""))).unwrap().1.clone();
    assert_eq!(shown("samples"), r#""down" "sample limit exceeded""#);
    assert_eq!(shown("buckets"), r#""down" "histogram bucket limit exceeded""#);
    assert_eq!(shown("samples_fit"), r#""up" """#);
    for theirs in &seen[1..] {
        let differences: Vec<String> = ours
            .keys()
            .chain(theirs.keys())
            .filter(|key| ours.get(*key) != theirs.get(*key))
            .map(|key| format!("{key}: ours {:?}, theirs {:?}", ours.get(key), theirs.get(key)))
            .collect();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}
