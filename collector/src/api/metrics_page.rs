//! The server's page about itself, with upstream's names.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use common::http::metrics_response;
use common::metrics::Page;
use common::selfmetrics;
use http::HeaderMap;
use model::MetricType;

use super::Server;
use crate::rules::RuleGroup;

/// `/metrics`
pub(super) async fn metrics(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let stats = &server.metrics.metrics_handler;
    let _in_flight = stats.begin(0);
    let page = page(&server);
    let (response, errors) = metrics_response(&page, &headers, true);
    stats.gathering_failed(errors.len());
    stats.answered(response.status());
    response
}

/// Everything the server says about itself.
pub(super) fn page(server: &Server) -> Page {
    let mut page = Page::new();
    selfmetrics::collect_build_info(&mut page, &crate::PROGRAM);
    selfmetrics::collect_process(&mut page);
    server.metrics.metrics_handler.collect(&mut page);
    collect(server, &mut page);
    page
}

/// Appends what the collector counts about itself.
fn collect(server: &Server, page: &mut Page) {
    server_state(server, page);
    scraping(server, page);
    server.discovery.collect(page);
    rules_and_alerts(server, page);
    storage(server, page);
}

fn server_state(server: &Server, page: &mut Page) {
    let reload = *server.reload_state.lock();
    let help = "Whether the last configuration reload attempt was successful.";
    page.gauge("prometheus_config_last_reload_successful", help, &[], f64::from(u8::from(reload.success)));
    let help = "Timestamp of the last successful configuration reload.";
    let name = "prometheus_config_last_reload_success_timestamp_seconds";
    page.gauge(name, help, &[], (reload.last_success / 1000) as f64);
    page.gauge(
        "prometheus_ready",
        "Whether Prometheus startup was fully completed and the server is ready for normal operation.",
        &[],
        f64::from(u8::from(server.store.db().is_ok())),
    );
    server.querier.collect(page);
    server.metrics.http.collect(page);
    let notifications = &server.notifications;
    let help = "The current number of active notification subscribers.";
    page.gauge("prometheus_api_notification_active_subscribers", help, &[], notifications.subscribers() as f64);
    let help = "Total number of notification updates sent.";
    page.counter("prometheus_api_notification_updates_sent_total", help, &[], notifications.sent.get() as f64);
    let help = "Total number of notification updates dropped.";
    page.counter("prometheus_api_notification_updates_dropped_total", help, &[], notifications.dropped.get() as f64);
    let help = "Total number of errors that occurred while sending federation responses.";
    page.counter("prometheus_web_federation_errors_total", help, &[], server.metrics.federation_errors.get() as f64);
    let help = "Total number of warnings that occurred while sending federation responses.";
    page.counter(
        "prometheus_web_federation_warnings_total",
        help,
        &[],
        server.metrics.federation_warnings.get() as f64,
    );
    let help = "Total number of samples received by remote write.";
    page.counter(
        "firewatch_remote_write_received_samples_total",
        help,
        &[],
        server.metrics.remote_write_samples.get() as f64,
    );
}

fn scraping(server: &Server, page: &mut Page) {
    let metrics = server.scrapes.metrics();
    let pools = server.scrapes.pools();
    let help = "Current number of targets in this scrape pool.";
    let family = page.family("prometheus_target_scrape_pool_targets", help, MetricType::Gauge);
    for (config, view) in &pools {
        page.sample(family, &[("scrape_job", &config.job_name)], view.active().len() as f64);
    }
    let help = "Maximum number of targets allowed in this scrape pool.";
    let family = page.family("prometheus_target_scrape_pool_target_limit", help, MetricType::Gauge);
    for (config, _) in &pools {
        page.sample(family, &[("scrape_job", &config.job_name)], config.limits.targets as f64);
    }
    const QUANTILES: [f64; 5] = [0.01, 0.05, 0.5, 0.9, 0.99];
    let help = "Total number of syncs that were executed on a scrape pool.";
    let syncs = page.family("prometheus_target_scrape_pool_sync_total", help, MetricType::Counter);
    let help = "Actual interval to sync the scrape pool.";
    let lengths = page.family("prometheus_target_sync_length_seconds", help, MetricType::Summary);
    let help = "Actual interval to sync the scrape pool, as a histogram.";
    let length_buckets = page.family("prometheus_target_sync_length_histogram_seconds", help, MetricType::Histogram);
    let help = "Total number of metric metadata entries in the cache";
    let entries = page.family("prometheus_target_metadata_cache_entries", help, MetricType::Gauge);
    let help = "The number of bytes that are currently used for storing metric metadata in the cache";
    let bytes = page.family("prometheus_target_metadata_cache_bytes", help, MetricType::Gauge);
    for (config, view) in &pools {
        let job = [("scrape_job", config.job_name.as_str())];
        page.sample(syncs, &job, view.syncs.count() as f64);
        page.summary(lengths, &job, view.syncs.summary(&QUANTILES));
        page.histogram(length_buckets, &job, view.syncs.histogram());
        let sizes = view.active().into_iter().map(|target| target.metadata.size());
        let (families, text) = sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        page.sample(entries, &job, families as f64);
        page.sample(bytes, &job, text as f64);
    }
    let help = "Actual intervals between scrapes.";
    let lengths = page.family("prometheus_target_interval_length_seconds", help, MetricType::Summary);
    let help = "Actual intervals between scrapes, as a histogram.";
    let buckets = page.family("prometheus_target_interval_length_histogram_seconds", help, MetricType::Histogram);
    metrics.for_each_interval(|interval, durations| {
        page.summary(lengths, &[("interval", interval)], durations.summary(&QUANTILES));
        page.histogram(buckets, &[("interval", interval)], durations.histogram());
    });
    let help = "Time from the beginning of a scrape until its samples are stored.";
    let family = page.family("prometheus_target_scrape_duration_seconds", help, MetricType::Histogram);
    page.histogram(family, &[], metrics.durations.histogram());
    let counters = [
        ("prometheus_target_scrape_pools_total", "Total number of scrape pool creation attempts.", &metrics.pools),
        (
            "prometheus_target_scrape_pools_failed_total",
            "Total number of scrape pool creations that failed.",
            &metrics.pools_failed,
        ),
        ("prometheus_target_scrape_pool_reloads_total", "Total number of scrape pool reloads.", &metrics.reloads),
        (
            "prometheus_target_scrape_pool_reloads_failed_total",
            "Total number of failed scrape pool reloads.",
            &metrics.reloads_failed,
        ),
        (
            "prometheus_target_scrapes_exceeded_body_size_limit_total",
            "Total number of scrapes that hit the body size limit",
            &metrics.exceeded_body_size,
        ),
        (
            "prometheus_target_scrapes_exceeded_sample_limit_total",
            "Total number of scrapes that hit the sample limit and were rejected.",
            &metrics.exceeded_samples,
        ),
        (
            "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
            "Total number of scrapes that hit the native histogram bucket limit and were rejected.",
            &metrics.exceeded_buckets,
        ),
        (
            "prometheus_target_scrape_pool_exceeded_label_limits_total",
            "Total number of times scrape pools hit the label limits, during sync or config reload.",
            &metrics.exceeded_labels,
        ),
        (
            "prometheus_target_scrape_pool_exceeded_target_limit_total",
            "Total number of times scrape pools hit the target limit, during sync or config reload.",
            &metrics.exceeded_targets,
        ),
        (
            "prometheus_target_scrapes_sample_out_of_order_total",
            "Total number of samples rejected due to not being out of the expected order.",
            &metrics.out_of_order,
        ),
        (
            "prometheus_target_scrapes_sample_duplicate_timestamp_total",
            "Total number of samples rejected due to duplicate timestamps but different values.",
            &metrics.duplicates,
        ),
        (
            "prometheus_target_scrapes_sample_out_of_bounds_total",
            "Total number of samples rejected due to timestamp falling outside of the time bounds.",
            &metrics.out_of_bounds,
        ),
        (
            "prometheus_target_scrapes_exemplar_out_of_order_total",
            "Total number of exemplar rejected due to not being out of the expected order.",
            &metrics.exemplars_out_of_order,
        ),
        ("prometheus_target_sync_failed_total", "Total number of target sync failures.", &metrics.sync_failed),
        ("firewatch_scrapes_total", "Scrapes that were stored.", &metrics.scrapes),
        ("firewatch_scrapes_failed_total", "Scrapes that failed.", &metrics.failures),
        ("firewatch_scrape_panics_total", "Scrapes that panicked.", &metrics.panics),
    ];
    for (name, help, counter) in counters {
        page.counter(name, help, &[], counter.get() as f64);
    }
}

fn rules_and_alerts(server: &Server, page: &mut Page) {
    let groups = server.rules.groups();
    let keys: Vec<String> = groups.iter().map(|g| g.key()).collect();
    let mut per_group = |kind: MetricType, name: &str, help: &str, value: &dyn Fn(&RuleGroup) -> f64| {
        let family = page.family(name, help, kind);
        for (group, key) in groups.iter().zip(&keys) {
            page.sample(family, &[("rule_group", key)], value(group));
        }
    };
    let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
    let help = "The interval of a rule group.";
    per_group(gauge, "prometheus_rule_group_interval_seconds", help, &|g| g.interval.as_secs_f64());
    per_group(gauge, "prometheus_rule_group_rules", "The number of rules.", &|g| g.rules().len() as f64);
    let help = "The timestamp of the last rule group evaluation in seconds.";
    let name = "prometheus_rule_group_last_evaluation_timestamp_seconds";
    per_group(gauge, name, help, &|g| g.last().time as f64 / 1000.0);
    let help = "The duration of the last rule group evaluation.";
    per_group(gauge, "prometheus_rule_group_last_duration_seconds", help, &|g| g.last().duration.as_secs_f64());
    let help = "The sum of the durations of the rules in the last rule group evaluation.";
    let name = "prometheus_rule_group_last_rule_duration_sum_seconds";
    per_group(gauge, name, help, &|g| g.rules().iter().map(|rule| rule.lock().last_duration.as_secs_f64()).sum());
    let help = "The number of samples returned during the last rule group evaluation.";
    per_group(gauge, "prometheus_rule_group_last_evaluation_samples", help, &|g| g.last().samples as f64);
    let help = "The total number of rule evaluations.";
    per_group(counter, "prometheus_rule_evaluations_total", help, &|g| g.metrics.evaluations.get() as f64);
    let help = "The total number of rule evaluation failures.";
    per_group(counter, "prometheus_rule_evaluation_failures_total", help, &|g| g.metrics.failures.get() as f64);
    let help = "The total number of scheduled rule group evaluations, whether executed or missed.";
    per_group(counter, "prometheus_rule_group_iterations_total", help, &|g| g.metrics.iterations.get() as f64);
    let help = "The total number of rule group evaluations missed due to slow rule group evaluation.";
    per_group(counter, "prometheus_rule_group_iterations_missed_total", help, &|g| g.metrics.missed.get() as f64);
    let durations = &server.rule_durations;
    let help = "The duration for a rule to execute.";
    let family = page.family("prometheus_rule_evaluation_duration_seconds", help, MetricType::Summary);
    page.summary(family, &[], durations.rules.summary(&[0.5, 0.9, 0.99]));
    let help = "The duration of rule group evaluations.";
    let family = page.family("prometheus_rule_group_duration_seconds", help, MetricType::Summary);
    page.summary(family, &[], durations.groups.summary(&[0.01, 0.05, 0.5, 0.9, 0.99]));
    let help = "The duration for a rule to execute, as a histogram.";
    let family = page.family("prometheus_rule_evaluation_duration_histogram_seconds", help, MetricType::Histogram);
    page.histogram(family, &[], durations.rules.histogram());
    let help = "The duration of rule group evaluations, as a histogram.";
    let family = page.family("prometheus_rule_group_duration_histogram_seconds", help, MetricType::Histogram);
    page.histogram(family, &[], durations.groups.histogram());

    let notifier = server.notifier.metrics();
    let (waiting, capacity) = server.notifier.queue();
    page.gauge(
        "prometheus_notifications_queue_length",
        "The number of alert notifications in the queue.",
        &[],
        waiting as f64,
    );
    page.gauge(
        "prometheus_notifications_queue_capacity",
        "The capacity of the alert notifications queue.",
        &[],
        capacity as f64,
    );
    let help = "Total number of alerts dropped due to errors when sending to Alertmanager.";
    page.counter("prometheus_notifications_dropped_total", help, &[], notifier.dropped.get() as f64);
    let help = "The number of alertmanagers discovered and active.";
    page.gauge(
        "prometheus_notifications_alertmanagers_discovered",
        help,
        &[],
        server.notifier.alertmanagers().0.len() as f64,
    );
    let sent = page.family("prometheus_notifications_sent_total", "Total number of alerts sent.", MetricType::Counter);
    let by_address = notifier.by_address.lock().clone();
    for (address, (count, _)) in &by_address {
        page.sample(sent, &[("alertmanager", address)], *count as f64);
    }
    let help = "Total number of sent alerts affected by errors.";
    let errors = page.family("prometheus_notifications_errors_total", help, MetricType::Counter);
    for (address, (_, count)) in &by_address {
        page.sample(errors, &[("alertmanager", address)], *count as f64);
    }
}

fn storage(server: &Server, page: &mut Page) {
    // while the log is being read there is nothing to tell
    let Ok(db) = server.store.db() else { return };
    let (m, kept) = (db.metrics(), db.options());
    let gauges = [
        (
            "prometheus_tsdb_retention_limit_seconds",
            "How long to retain samples in storage.",
            kept.retention_duration.unwrap_or(0) as f64 / 1000.0,
        ),
        (
            "prometheus_tsdb_retention_limit_bytes",
            "Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled",
            kept.retention_size.unwrap_or(0) as f64,
        ),
        (
            "prometheus_tsdb_retention_limit_percentage",
            "Max percent of total storage space to be retained in the tsdb blocks, configured 0 means disabled",
            kept.retention_percentage,
        ),
        ("prometheus_tsdb_head_series", "Total number of series in the head block.", m.head_series as f64),
        ("prometheus_tsdb_head_chunks", "Total number of chunks in the head block.", m.head_chunks as f64),
        (
            "prometheus_tsdb_head_min_time",
            "Minimum time bound of the head block. The unit is decided by the library consumer.",
            m.head_min_time as f64,
        ),
        (
            "prometheus_tsdb_head_max_time",
            "Maximum timestamp of the head block. The unit is decided by the library consumer.",
            m.head_max_time as f64,
        ),
        (
            "prometheus_tsdb_head_min_time_seconds",
            "Minimum time bound of the head block.",
            m.head_min_time as f64 / 1000.0,
        ),
        (
            "prometheus_tsdb_head_max_time_seconds",
            "Maximum timestamp of the head block.",
            m.head_max_time as f64 / 1000.0,
        ),
        (
            "prometheus_tsdb_lowest_timestamp_seconds",
            "Lowest timestamp value stored in the database.",
            m.lowest_timestamp as f64 / 1000.0,
        ),
        (
            "prometheus_tsdb_lowest_timestamp",
            "Lowest timestamp value stored in the database. The unit is decided by the library consumer.",
            m.lowest_timestamp as f64,
        ),
        ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks", m.blocks_loaded as f64),
        (
            "prometheus_tsdb_storage_blocks_bytes",
            "The number of bytes that are currently used for local storage by all blocks.",
            m.blocks_bytes as f64,
        ),
        ("prometheus_tsdb_wal_storage_size_bytes", "Size of the write log directory.", m.wal_bytes as f64),
        (
            "prometheus_tsdb_wal_segment_current",
            "Write log segment index that TSDB is currently writing to.",
            m.wal_segment_current as f64,
        ),
        (
            "prometheus_tsdb_exemplar_exemplars_in_storage",
            "Number of exemplars currently in circular storage.",
            m.exemplars_in_storage as f64,
        ),
        (
            "prometheus_tsdb_exemplar_max_exemplars",
            "Total number of exemplars the exemplar storage can store, resizeable.",
            m.exemplar_max as f64,
        ),
        ("firewatch_tsdb_head_bytes", "Memory that the head takes, by its own account.", m.head_bytes as f64),
        (
            "prometheus_tsdb_data_replay_duration_seconds",
            "Time taken to replay the data on disk.",
            m.replay_millis as f64 / 1000.0,
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, &[], value);
    }
    let help = "Total number of appended samples.";
    let family = page.family("prometheus_tsdb_head_samples_appended_total", help, MetricType::Counter);
    page.sample(family, &[("type", "float")], m.floats_appended as f64);
    page.sample(family, &[("type", "histogram")], m.histograms_appended as f64);
    let counters = [
        ("prometheus_tsdb_head_series_created_total", "Total number of series created in the head", m.series_created),
        ("prometheus_tsdb_head_series_removed_total", "Total number of series removed in the head", m.series_removed),
        ("prometheus_tsdb_head_truncations_total", "Total number of head truncations attempted.", m.head_truncations),
        (
            "prometheus_tsdb_out_of_bound_samples_total",
            "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
            m.out_of_bounds_refused,
        ),
        (
            "prometheus_tsdb_out_of_order_samples_total",
            "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
            m.out_of_order_refused,
        ),
        (
            "prometheus_tsdb_too_old_samples_total",
            "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
            m.too_old_refused,
        ),
        (
            "prometheus_tsdb_compactions_total",
            "Total number of compactions that were executed for the partition.",
            m.compactions,
        ),
        (
            "prometheus_tsdb_compactions_failed_total",
            "Total number of compactions that failed for the partition.",
            m.compactions_failed,
        ),
        (
            "prometheus_tsdb_vertical_compactions_total",
            "Total number of compactions done on overlapping blocks.",
            m.vertical_compactions,
        ),
        (
            "prometheus_tsdb_checkpoint_creations_total",
            "Total number of checkpoint creations attempted.",
            m.checkpoints,
        ),
        (
            "prometheus_tsdb_checkpoint_creations_failed_total",
            "Total number of checkpoint creations that failed.",
            m.checkpoints_failed,
        ),
        ("prometheus_tsdb_snapshot_replay_error_total", "Total number snapshot replays that failed.", m.images_refused),
        ("firewatch_tsdb_head_images_total", "Images of the head written.", m.images),
        (
            "firewatch_tsdb_head_images_failed_total",
            "Images of the head that could not be written; the log has what they would have.",
            m.images_failed,
        ),
        (
            "prometheus_tsdb_time_retentions_total",
            "The number of times that blocks were deleted because the maximum time limit was exceeded.",
            m.time_retentions,
        ),
        (
            "prometheus_tsdb_size_retentions_total",
            "The number of times that blocks were deleted because the maximum number of bytes was exceeded.",
            m.size_retentions,
        ),
        ("prometheus_tsdb_wal_corruptions_total", "Total number of WAL corruptions.", m.wal_corruptions),
        (
            "prometheus_tsdb_wal_writes_failed_total",
            "Total number of write log writes that failed.",
            m.wal_writes_failed,
        ),
        ("firewatch_tsdb_wal_written_bytes_total", "Bytes written to the log.", m.wal_bytes_written),
        ("firewatch_tsdb_damaged_blocks_total", "Blocks that could not be opened or read.", m.damaged_blocks),
        (
            "firewatch_tsdb_reads_failed_total",
            "Requests that met samples, in the head or a block, that could not be read.",
            m.reads_failed,
        ),
        (
            "firewatch_tsdb_wal_fsyncs_failed_total",
            "Fsyncs of the log that failed; what they were for is written again.",
            m.wal_fsyncs_failed,
        ),
        ("firewatch_tsdb_panics_total", "Panics in the storage's background work, which goes on.", m.panics),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, &[], value as f64);
    }
}
