//! `remote_write` and `remote_read`: other stores that samples go to and come from.

use std::collections::HashSet;

use model::{NameValidation, quote};

use super::keys::{Key, Kind, Section, Values, duration, flag, int, text};
use super::{Base, list, relabel_rules, remote_credentials, sigv4};

const QUEUE: Section = Section::new(
    "config.QueueConfig",
    &[
        int("capacity", "10000"),
        int("max_shards", "50"),
        int("min_shards", "1"),
        int("max_samples_per_send", "2000"),
        duration("batch_send_deadline", "5s"),
        duration("min_backoff", "30ms"),
        duration("max_backoff", "5s"),
        flag("retry_on_http_429"),
        duration("sample_age_limit", "0s"),
    ],
);

const METADATA: Section = Section::new(
    "config.MetadataConfig",
    &[Key::new("send", Kind::Bool).or("true"), duration("send_interval", "1m"), int("max_samples_per_send", "2000")],
);

const WRITE: Section = Section::new(
    "config.plain",
    &[
        Key::new("url", Kind::Url),
        duration("remote_timeout", "30s"),
        Key::new("headers", Kind::TextMap),
        text("name"),
        flag("send_exemplars"),
        flag("send_native_histograms"),
        flag("round_robin_dns"),
        text("protobuf_message").or("prometheus.WriteRequest"),
        flag("failed_request_logging"),
        Key::new("queue_config", Kind::Object(&QUEUE)),
        Key::new("metadata_config", Kind::Object(&METADATA)),
        Key::new("sigv4", Kind::Object(&sigv4::SECTION)),
        Key::new("azuread", Kind::Object(&remote_credentials::AZURE_AD)),
        Key::new("google_iam", Kind::Object(&remote_credentials::GOOGLE_IAM)),
    ],
)
.with_http_client();

const READ: Section = Section::new(
    "config.plain",
    &[
        Key::new("url", Kind::Url),
        duration("remote_timeout", "1m"),
        int("chunked_read_limit", "50000000"),
        Key::new("headers", Kind::TextMap),
        flag("read_recent"),
        text("name"),
        Key::new("required_matchers", Kind::TextMap),
        Key::new("filter_external_labels", Kind::Bool).or("true"),
    ],
)
.with_http_client();

/// Headers that the protocols themselves set.
const RESERVED_HEADERS: [&str; 16] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

pub(super) fn reserved_header(name: &str) -> bool {
    RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str())
}

/// Checks every item of `remote_write`.
pub(super) fn check_writes(node: &yaml::Node, base: &Base) -> Result<(), yaml::Error> {
    each(node, "remote_write", "remote write", |item| {
        let (relabelling, rest) = item.split(|key| key == "write_relabel_configs")?;
        let write = WRITE.read(&rest, base)?;
        check_url_and_headers(&write, "remote_write")?;
        let what = "relabeling rule in remote write config";
        relabel_rules(&relabelling, "write_relabel_configs", NameValidation::Utf8, what)?;
        let message = write.text("protobuf_message");
        let known = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];
        if !known.contains(&message) {
            return write.fault(
                "protobuf_message",
                format!(
                    "invalid protobuf_message value: unknown type for remote write protobuf message {message}, supported: {}",
                    known.join(", ")
                ),
            );
        }
        if let Some(queue) = write.node("queue_config") {
            check_queue(&QUEUE.read(queue, base)?)?;
        }
        remote_credentials::check(&write, base)?;
        Ok(write.text("name").to_owned())
    })
}

/// Checks every item of `remote_read`.
pub(super) fn check_reads(node: &yaml::Node, base: &Base) -> Result<(), yaml::Error> {
    each(node, "remote_read", "remote read", |item| {
        let read = READ.read(item, base)?;
        check_url_and_headers(&read, "remote_read")?;
        Ok(read.text("name").to_owned())
    })
}

/// Checks the items of a list; `check` gives their names, which must differ where they are not empty.
fn each(
    node: &yaml::Node,
    key: &str,
    shown: &str,
    check: impl Fn(&yaml::Node) -> Result<String, yaml::Error>,
) -> Result<(), yaml::Error> {
    let mut names = HashSet::new();
    for item in list(node, key)? {
        if item.is_null() {
            return Err(item.error(format!("empty or null {shown} config section")));
        }
        let name = check(item)?;
        if !name.is_empty() && !names.insert(name.clone()) {
            return Err(item.error(format!("found multiple {shown} configs with job name {}", quote(&name))));
        }
    }
    Ok(())
}

fn check_url_and_headers(values: &Values<'_>, section: &str) -> Result<(), yaml::Error> {
    values.require("url", &format!("url for {section} is empty"))?;
    for header in values.names("headers") {
        let name = header.as_str().unwrap_or_default();
        if name.eq_ignore_ascii_case("authorization") {
            return Err(header.error(
                "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter",
            ));
        }
        if reserved_header(name) {
            return Err(header.error(format!("{name} is a reserved header. It must not be changed")));
        }
    }
    Ok(())
}

fn check_queue(queue: &Values<'_>) -> Result<(), yaml::Error> {
    for key in ["capacity", "max_shards", "min_shards", "max_samples_per_send"] {
        if queue.int(key) <= 0 {
            return queue.fault(key, format!("remote write queue {key} must be positive"));
        }
    }
    if queue.int("min_shards") > queue.int("max_shards") {
        return queue.fault("min_shards", "remote write queue min_shards must not be greater than max_shards");
    }
    if queue.duration("max_backoff") < queue.duration("min_backoff") {
        return queue.fault("max_backoff", "remote write queue max_backoff must not be less than min_backoff");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&yaml::Node, &Base) -> Result<(), yaml::Error>;

    #[test]
    fn faults_are_named() {
        let (write, read): (Check, Check) = (check_writes, check_reads);
        for (check, text, expected) in [
            (write, "[{url: 'localhost:9201'}, {url: 'http://x', name: a}]", ""),
            (write, "[{url: x, queue_config: {retry_on_http_429: true}, metadata_config: {send: false}}]", ""),
            (write, "[{url: x, protobuf_message: io.prometheus.write.v2.Request, headers: {a: b}}]", ""),
            (write, "[{url: }]", "line 1: url for remote_write is empty"),
            (write, "-", "line 1: empty or null remote write config section"),
            (write, "[{url: x, nope: 1}]", "line 1: field nope not found in type config.plain"),
            (write, "[{url: x, queue_config: {nope: 1}}]", "line 1: field nope not found in type config.QueueConfig"),
            (
                write,
                "- {url: x, name: a}\n- {url: y, name: a}",
                "line 2: found multiple remote write configs with job name \"a\"",
            ),
            (write, "[{url: x, headers: {Authorization: a}}]", "line 1: authorization header must be changed via"),
            (write, "[{url: x, headers: {Content-Type: a}}]", "line 1: Content-Type is a reserved header."),
            (write, "[{url: x, protobuf_message: y}]", "line 1: invalid protobuf_message value: unknown type for"),
            (write, "[{url: x, queue_config: {capacity: 0}}]", "line 1: remote write queue capacity must be positive"),
            (
                write,
                "[{url: x, queue_config: {max_shards: 0}}]",
                "line 1: remote write queue max_shards must be positive",
            ),
            (write, "[{url: x, queue_config: {min_shards: 51}}]", "line 1: remote write queue min_shards must not be"),
            (write, "[{url: x, queue_config: {min_backoff: 6s}}]", "line 1: remote write queue max_backoff must not"),
            (write, "[{url: x, write_relabel_configs: [~]}]", "line 1: empty or null relabeling rule in remote write"),
            (read, "[{url: 'http://x', required_matchers: {a: b}, read_recent: true}]", ""),
            (read, "[{name: a}]", "line 1: url for remote_read is empty"),
            (read, "[~]", "line 1: empty or null remote read config section"),
            (read, "[{url: x, sigv4: {}}]", "line 1: field sigv4 not found in type config.plain"),
            (
                read,
                "- {url: x, name: a}\n- {url: y, name: a}",
                "line 2: found multiple remote read configs with job name \"a\"",
            ),
        ] {
            let node = yaml::Node::parse(text).unwrap();
            let message = check(&node, &Base::default()).map_or_else(|e| e.to_string(), |()| String::new());
            assert!(message.starts_with(expected) && message.is_empty() == expected.is_empty(), "{text}\n{message}");
        }
    }
}
