//! What discovery counts about itself, with upstream's names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use common::metrics::Page;
use model::{MetricType, now_millis};
use parking_lot::Mutex;

use crate::config::TargetGroup;
use crate::durations::Durations;
use crate::scrape::Counter;

/// What the targets are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consumer {
    /// They are scraped.
    Scrape,
    /// Alerts are sent to them.
    Notify,
}

impl Consumer {
    const ALL: [Self; 2] = [Self::Scrape, Self::Notify];

    fn name(self) -> &'static str {
        match self {
            Self::Scrape => "scrape",
            Self::Notify => "notify",
        }
    }
}

/// The counters of all jobs.
#[derive(Debug, Default)]
pub(crate) struct DiscoveryMetrics {
    totals: [Totals; 2],
    jobs: Mutex<BTreeMap<(Consumer, String), Weak<JobMeter>>>,
    refreshes: Mutex<BTreeMap<(&'static str, String), Weak<RefreshMeter>>>,
    pub(super) azure_failures: Counter,
    pub(super) consul_failures: Counter,
    pub(super) consul_services: Durations,
    pub(super) consul_service: Durations,
    pub(super) dns_lookups: Counter,
    pub(super) dns_failures: Counter,
    pub(super) file_errors: Counter,
    pub(super) file_scans: Durations,
    pub(super) http_failures: Counter,
    pub(super) kubernetes_events: KubernetesEvents,
    pub(super) kubernetes_failures: Counter,
    pub(super) kuma_failures: Counter,
    pub(super) kuma_fetches: Durations,
    pub(super) kuma_skipped: Counter,
    pub(super) linode_failures: Counter,
    pub(super) nomad_failures: Counter,
    pub(super) zookeeper_failures: Counter,
    pub(super) zookeeper_watchers: AtomicUsize,
}

/// Counters of all jobs of a consumer.
#[derive(Debug, Default)]
struct Totals {
    received: Counter,
    delayed: Counter,
    sent: Counter,
}

/// The counters of one job; they go with it.
#[derive(Debug)]
pub(super) struct JobMeter {
    consumer: Consumer,
    config: String,
    targets: AtomicUsize,
    last_sent: AtomicI64,
    pub(super) failed_configs: Counter,
    metrics: Weak<DiscoveryMetrics>,
}

/// The refreshes of a mechanism in one job.
#[derive(Debug, Default)]
pub(super) struct RefreshMeter {
    pub(super) failures: Counter,
    pub(super) durations: Durations,
}

impl DiscoveryMetrics {
    pub(super) fn job(self: &Arc<Self>, consumer: Consumer, config: &str) -> Arc<JobMeter> {
        let meter = Arc::new(JobMeter {
            consumer,
            config: config.to_owned(),
            targets: AtomicUsize::new(0),
            last_sent: AtomicI64::new(0),
            failed_configs: Counter::default(),
            metrics: Arc::downgrade(self),
        });
        self.jobs.lock().insert((consumer, config.to_owned()), Arc::downgrade(&meter));
        meter
    }

    pub(super) fn refreshes(&self, mechanism: &'static str, config: &str) -> Arc<RefreshMeter> {
        let mut refreshes = self.refreshes.lock();
        let known = refreshes.entry((mechanism, config.to_owned())).or_default();
        known.upgrade().unwrap_or_else(|| {
            let meter = Arc::default();
            *known = Arc::downgrade(&meter);
            meter
        })
    }

    /// Configurations of all jobs of a consumer that do not work.
    #[cfg(test)]
    pub(super) fn failed_configs(&self, consumer: Consumer) -> u64 {
        let jobs = self.jobs.lock();
        let alive = jobs.values().filter_map(Weak::upgrade).filter(|job| job.consumer == consumer);
        alive.map(|job| job.failed_configs.get()).sum()
    }

    /// Appends everything to the collector's page.
    pub(crate) fn collect(&self, page: &mut Page) {
        self.collect_jobs(page);
        self.collect_refreshes(page);
        self.collect_mechanisms(page);
    }

    fn collect_jobs(&self, page: &mut Page) {
        let mut jobs = self.jobs.lock();
        jobs.retain(|_, meter| meter.strong_count() > 0);
        let jobs: Vec<Arc<JobMeter>> = jobs.values().filter_map(Weak::upgrade).collect();
        let help = "Current number of discovered targets.";
        let family = page.family("prometheus_sd_discovered_targets", help, MetricType::Gauge);
        for job in &jobs {
            let labels = [("config", job.config.as_str()), ("name", job.consumer.name())];
            page.sample(family, &labels, job.targets.load(Ordering::Relaxed) as f64);
        }
        let help = "Timestamp of the last update sent to the SD consumers.";
        let family = page.family("prometheus_sd_last_update_timestamp_seconds", help, MetricType::Gauge);
        for job in &jobs {
            let labels = [("config", job.config.as_str()), ("name", job.consumer.name())];
            page.sample(family, &labels, job.last_sent.load(Ordering::Relaxed) as f64 / 1000.0);
        }
        let help = "Current number of service discovery configurations that failed to load.";
        let family = page.family("prometheus_sd_failed_configs", help, MetricType::Gauge);
        for consumer in Consumer::ALL {
            let failed = jobs.iter().filter(|job| job.consumer == consumer).map(|job| job.failed_configs.get());
            page.sample(family, &[("name", consumer.name())], failed.sum::<u64>() as f64);
        }
        type Pick = fn(&Totals) -> &Counter;
        let totals: [(&str, &str, Pick); 3] = [
            (
                "prometheus_sd_received_updates_total",
                "Total number of update events received from the SD providers.",
                |t| &t.received,
            ),
            (
                "prometheus_sd_updates_delayed_total",
                "Total number of update events that couldn't be sent immediately.",
                |t| &t.delayed,
            ),
            ("prometheus_sd_updates_total", "Total number of update events sent to the SD consumers.", |t| &t.sent),
        ];
        for (name, help, pick) in totals {
            let family = page.family(name, help, MetricType::Counter);
            for consumer in Consumer::ALL {
                let value = pick(&self.totals[consumer as usize]).get();
                page.sample(family, &[("name", consumer.name())], value as f64);
            }
        }
    }

    fn collect_refreshes(&self, page: &mut Page) {
        let mut refreshes = self.refreshes.lock();
        refreshes.retain(|_, meter| meter.strong_count() > 0);
        let help = "Number of refresh failures for the given SD mechanism.";
        let failures = page.family("prometheus_sd_refresh_failures_total", help, MetricType::Counter);
        let help = "The duration of a refresh in seconds for the given SD mechanism.";
        let durations = page.family("prometheus_sd_refresh_duration_seconds", help, MetricType::Summary);
        for ((mechanism, config), meter) in &*refreshes {
            let Some(meter) = meter.upgrade() else { continue };
            let labels = [("config", config.as_str()), ("mechanism", *mechanism)];
            page.sample(failures, &labels, meter.failures.get() as f64);
            page.summary(durations, &labels, meter.durations.summary(&QUANTILES));
        }
    }

    fn collect_mechanisms(&self, page: &mut Page) {
        let counters = [
            (
                "prometheus_sd_azure_failures_total",
                "Number of Azure service discovery refresh failures.",
                &self.azure_failures,
            ),
            (
                "prometheus_sd_consul_rpc_failures_total",
                "The number of Consul RPC call failures.",
                &self.consul_failures,
            ),
            ("prometheus_sd_dns_lookups_total", "The number of DNS-SD lookups.", &self.dns_lookups),
            ("prometheus_sd_dns_lookup_failures_total", "The number of DNS-SD lookup failures.", &self.dns_failures),
            ("prometheus_sd_file_read_errors_total", "The number of File-SD read errors.", &self.file_errors),
            (
                "prometheus_sd_http_failures_total",
                "Number of HTTP service discovery refresh failures.",
                &self.http_failures,
            ),
            (
                "prometheus_sd_kubernetes_failures_total",
                "The number of failed WATCH/LIST requests.",
                &self.kubernetes_failures,
            ),
            (
                "prometheus_sd_kuma_fetch_failures_total",
                "The number of Kuma MADS fetch call failures.",
                &self.kuma_failures,
            ),
            (
                "prometheus_sd_kuma_fetch_skipped_updates_total",
                "The number of Kuma MADS fetch calls that result in no updates to the targets.",
                &self.kuma_skipped,
            ),
            (
                "prometheus_sd_linode_failures_total",
                "Number of Linode service discovery refresh failures.",
                &self.linode_failures,
            ),
            (
                "prometheus_sd_nomad_failures_total",
                "Number of nomad service discovery refresh failures.",
                &self.nomad_failures,
            ),
            (
                "prometheus_treecache_zookeeper_failures_total",
                "The total number of ZooKeeper failures.",
                &self.zookeeper_failures,
            ),
        ];
        for (name, help, counter) in counters {
            page.counter(name, help, &[], counter.get() as f64);
        }
        let help = "The current number of watcher goroutines.";
        let watchers = self.zookeeper_watchers.load(Ordering::Relaxed);
        page.gauge("prometheus_treecache_watcher_goroutines", help, &[], watchers as f64);
        let help = "The duration of the File-SD scan in seconds.";
        let family = page.family("prometheus_sd_file_scan_duration_seconds", help, MetricType::Summary);
        page.summary(family, &[], self.file_scans.summary(&QUANTILES));
        let help = "The duration of a Kuma MADS fetch call.";
        let family = page.family("prometheus_sd_kuma_fetch_duration_seconds", help, MetricType::Summary);
        page.summary(family, &[], self.kuma_fetches.summary(&QUANTILES));
        let help = "The duration of a Consul RPC call in seconds.";
        let family = page.family("prometheus_sd_consul_rpc_duration_seconds", help, MetricType::Summary);
        for (call, durations) in [("service", &self.consul_service), ("services", &self.consul_services)] {
            page.summary(family, &[("call", call), ("endpoint", "catalog")], durations.summary(&QUANTILES));
        }
        let help = "The number of Kubernetes events handled.";
        let family = page.family("prometheus_sd_kubernetes_events_total", help, MetricType::Counter);
        for (role, events) in KubernetesEvents::ROLES.iter().zip(&self.kubernetes_events.0) {
            for (event, counter) in KubernetesEvents::EVENTS.iter().zip(events) {
                page.sample(family, &[("event", event), ("role", role)], counter.get() as f64);
            }
        }
    }
}

impl JobMeter {
    pub(super) fn config(&self) -> &str {
        &self.config
    }

    pub(super) fn received(&self) {
        self.total(|totals| &totals.received);
    }

    pub(super) fn delayed(&self) {
        self.total(|totals| &totals.delayed);
    }

    /// The job's consumer is told of these groups.
    pub(super) fn found(&self, groups: &[TargetGroup]) {
        self.total(|totals| &totals.sent);
        self.last_sent.store(now_millis(), Ordering::Relaxed);
        self.targets.store(groups.iter().map(|group| group.targets.len()).sum(), Ordering::Relaxed);
    }

    fn total(&self, pick: impl FnOnce(&Totals) -> &Counter) {
        if let Some(metrics) = self.metrics.upgrade() {
            pick(&metrics.totals[self.consumer as usize]).inc();
        }
    }
}

/// Quantiles of durations, as upstream gives them.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Events by role and kind.
#[derive(Debug, Default)]
pub(super) struct KubernetesEvents([[Counter; 3]; 6]);

impl KubernetesEvents {
    const ROLES: [&str; 6] = ["endpoints", "endpointslice", "ingress", "node", "pod", "service"];
    const EVENTS: [&str; 3] = ["add", "delete", "update"];

    /// Counts an event; one of a kind of object that has no role is not counted.
    pub(super) fn note(&self, role: &str, event: &str) {
        let role = Self::ROLES.iter().position(|known| *known == role);
        let event = Self::EVENTS.iter().position(|known| *known == event);
        if let (Some(role), Some(event)) = (role, event) {
            self.0[role][event].inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use common::exposition::EscapingScheme;

    use super::*;

    #[test]
    fn a_job_is_shown_while_it_lives() {
        let metrics = Arc::new(DiscoveryMetrics::default());
        let shown = || {
            let mut page = Page::new();
            metrics.collect(&mut page);
            let mut text = Vec::new();
            common::exposition::text::encode(&page.families().0, EscapingScheme::Underscores, &mut text);
            let text = String::from_utf8(text).unwrap();
            text.lines().filter(|l| l.contains("\"j\"") && !l.contains("timestamp")).collect::<Vec<_>>().join("\n")
        };
        let meter = metrics.job(Consumer::Scrape, "j");
        let refreshes = metrics.refreshes("dns", "j");
        refreshes.failures.inc();
        meter.found(&[TargetGroup { targets: vec![model::Labels::empty(); 3], ..TargetGroup::default() }]);
        let text = shown();
        assert!(text.contains("prometheus_sd_discovered_targets{config=\"j\",name=\"scrape\"} 3"), "{text}");
        assert!(text.contains("prometheus_sd_refresh_failures_total{config=\"j\",mechanism=\"dns\"} 1"), "{text}");
        drop((meter, refreshes));
        assert_eq!(shown(), "");
    }
}
