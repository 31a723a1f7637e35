//! What a probe measures: every metric's name and help stand here, and nowhere else.

use std::borrow::Cow;

use common::metrics::Page;
use model::MetricType;

/// A metric of probes; all are gauges.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $name:literal $help:literal)*) => {
        $(pub(crate) static $constant: Metric = Metric { name: $name, help: $help };)*
    };
}

metrics! {
    SUCCESS "probe_success" "Displays whether or not the probe was a success"
    DURATION "probe_duration_seconds" "Returns how long the probe took to complete in seconds"
    TIMEOUT "probe_timeout_seconds" "Returns the timeout of the probe in seconds"
    LOOKUP_TIME "probe_dns_lookup_time_seconds" "Returns the time taken for probe dns lookup in seconds"
    IP_PROTOCOL "probe_ip_protocol" "Specifies whether probe ip protocol is IP4 or IP6"
    IP_ADDR_HASH "probe_ip_addr_hash" "Specifies the hash of IP address. It's useful to detect if the IP address changes."
    HTTP_DURATION "probe_http_duration_seconds" "Duration of http request by phase, summed over all redirects"
    HTTP_CONTENT_LENGTH "probe_http_content_length" "Length of http content response"
    HTTP_UNCOMPRESSED_LENGTH "probe_http_uncompressed_body_length" "Length of uncompressed response body"
    HTTP_REDIRECTS "probe_http_redirects" "The number of redirects"
    HTTP_SSL "probe_http_ssl" "Indicates if SSL was used for the final redirect"
    HTTP_STATUS_CODE "probe_http_status_code" "Response HTTP status code"
    HTTP_VERSION "probe_http_version" "Returns the version of HTTP of the probe response"
    HTTP_LAST_MODIFIED "probe_http_last_modified_timestamp_seconds" "Returns the Last-Modified HTTP response header in unixtime"
    FAILED_DUE_TO_REGEX "probe_failed_due_to_regex" "Indicates if probe failed due to regex"
    FAILED_DUE_TO_CEL "probe_failed_due_to_cel" "Indicates if probe failed due to CEL expression not matching"
    FAILED_DUE_TO_BYTES "probe_failed_due_to_bytes" "Indicates if probe failed due to bytes"
    SSL_EARLIEST_EXPIRY "probe_ssl_earliest_cert_expiry" "Returns last SSL chain expiry in unixtime"
    SSL_CHAIN_EXPIRY "probe_ssl_last_chain_expiry_timestamp_seconds" "Returns last SSL chain expiry in timestamp"
    SSL_CHAIN_INFO "probe_ssl_last_chain_info" "Contains SSL leaf certificate information"
    SSL_CHAIN_PROBLEM "probe_ssl_chain_problem_info" "Names what is wrong with the certificate chain"
    TLS_VERSION "probe_tls_version_info" "Returns the TLS version used or NaN when unknown"
    TLS_CIPHER "probe_tls_cipher_info" "Returns the TLS cipher negotiated during handshake"
    EXPECT_INFO "probe_expect_info" "Explicit content matched"
    ICMP_DURATION "probe_icmp_duration_seconds" "Duration of icmp request by phase"
    ICMP_HOP_LIMIT "probe_icmp_reply_hop_limit" "Replied packet hop limit (TTL for ipv4)"
    ICMP_PATH_MTU "probe_icmp_path_mtu_bytes" "The path MTU to the target as the kernel knows it"
    DNS_DURATION "probe_dns_duration_seconds" "Duration of DNS request by phase"
    DNS_ANSWERS "probe_dns_answer_rrs" "Returns number of entries in the answer resource record list"
    DNS_AUTHORITIES "probe_dns_authority_rrs" "Returns number of entries in the authority resource record list"
    DNS_ADDITIONALS "probe_dns_additional_rrs" "Returns number of entries in the additional resource record list"
    DNS_SUCCEEDED "probe_dns_query_succeeded" "Displays whether or not the query was executed successfully"
    DNS_SERIAL "probe_dns_serial" "Returns the serial number of the zone"
    GRPC_DURATION "probe_grpc_duration_seconds" "Duration of gRPC request by phase"
    GRPC_SSL "probe_grpc_ssl" "Indicates if SSL was used for the connection"
    GRPC_STATUS "probe_grpc_status_code" "Response gRPC status code"
    GRPC_HEALTH "probe_grpc_healthcheck_response" "Response HealthCheck response"
    WEBSOCKET_STATUS "probe_websocket_status_code" "Response HTTP status code"
    WEBSOCKET_UPGRADED "probe_websocket_connection_upgraded" "Indicates if the websocket connection was successfully upgraded"
    WEBSOCKET_REGEX "probe_websocket_failed_due_to_regex" "Indicates if probe failed due to regex"
    WEBSOCKET_DURATION "probe_websocket_duration_seconds" "Duration of websocket request by phase"
    FAILURE_INFO "probe_failure_info" "Names why the probe failed"
    CONNECT_ATTEMPTS "probe_connect_attempt_duration_seconds" "Time until a connection to an address stood, for every address that was tried"
}

type LabelPair = (Cow<'static, str>, Cow<'static, str>);

#[derive(Debug)]
struct Gauge {
    metric: &'static Metric,
    labels: Vec<LabelPair>,
    value: f64,
}

/// The metrics of one probe, in the order in which they were first set.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    gauges: Vec<Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self { gauges: Vec::with_capacity(24) }
    }

    /// Sets a gauge without labels.
    pub(crate) fn set(&mut self, metric: &'static Metric, value: f64) {
        *self.gauge(metric, &[]) = value;
    }

    /// Sets a gauge with a label whose values are known.
    pub(crate) fn set_label(&mut self, metric: &'static Metric, label: &'static str, value: &'static str, to: f64) {
        *self.gauge(metric, &[(label, value)]) = to;
    }

    /// Adds to a gauge with a label whose values are known.
    pub(crate) fn add(&mut self, metric: &'static Metric, label: &'static str, value: &'static str, by: f64) {
        *self.gauge(metric, &[(label, value)]) += by;
    }

    /// Sets a gauge that carries text in its labels to 1.
    pub(crate) fn set_info(&mut self, metric: &'static Metric, labels: Vec<LabelPair>) {
        self.set_labels(metric, labels, 1.0);
    }

    /// Sets a gauge with any labels.
    pub(crate) fn set_labels(&mut self, metric: &'static Metric, labels: Vec<LabelPair>, value: f64) {
        match self.gauges.iter_mut().find(|g| std::ptr::eq(g.metric, metric) && g.labels == labels) {
            Some(gauge) => gauge.value = value,
            None => self.gauges.push(Gauge { metric, labels, value }),
        }
    }

    fn gauge(&mut self, metric: &'static Metric, labels: &[(&'static str, &'static str)]) -> &mut f64 {
        let same = |g: &Gauge| {
            std::ptr::eq(g.metric, metric)
                && g.labels.len() == labels.len()
                && g.labels.iter().zip(labels).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
        };
        let at = self.gauges.iter().position(same).unwrap_or_else(|| {
            let labels = labels.iter().map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v))).collect();
            self.gauges.push(Gauge { metric, labels, value: 0.0 });
            self.gauges.len() - 1
        });
        &mut self.gauges[at].value
    }

    /// Writes everything to a page, with further labels on each.
    pub(crate) fn write(&self, page: &mut Page, further: &[(&str, &str)]) {
        let mut labels: Vec<(&str, &str)> = Vec::with_capacity(8);
        let mut last: Option<(&'static Metric, common::metrics::FamilyId)> = None;
        for gauge in &self.gauges {
            let family = match last {
                Some((metric, family)) if std::ptr::eq(metric, gauge.metric) => family,
                _ => page.family(gauge.metric.name, gauge.metric.help, MetricType::Gauge),
            };
            last = Some((gauge.metric, family));
            labels.clear();
            labels.extend(gauge.labels.iter().map(|(n, v)| (n.as_ref(), v.as_ref())));
            // a label of the probe's own wins
            labels.extend(further.iter().filter(|(n, _)| !gauge.labels.iter().any(|(own, _)| own == n)));
            page.sample(family, &labels, gauge.value);
        }
    }
}
