use std::collections::BTreeMap;
use std::path::PathBuf;

use common::http::client::{Credentials, HttpClientConfig};
use serde::Deserialize;

use super::{Bytes, CelExpression, IpChoice, Regexp, ip_choice};
use crate::tls::TlsClient;

/// `http`.
#[derive(Debug)]
pub(crate) struct HttpOptions {
    /// Which addresses count.
    pub(crate) ip: IpChoice,
    /// Statuses that are right; none for 2xx.
    pub(crate) valid_status_codes: Vec<u16>,
    /// Protocol versions that are right (`HTTP/1.1`, `HTTP/2.0`, `HTTP/3.0`); none for all.
    pub(crate) valid_http_versions: Vec<String>,
    /// Leaves the target's name to the proxy.
    pub(crate) skip_resolve_phase_with_proxy: bool,
    /// Fails if the last answer came over TLS.
    pub(crate) fail_if_ssl: bool,
    /// Fails if it did not.
    pub(crate) fail_if_not_ssl: bool,
    /// The request's method.
    pub(crate) method: http::Method,
    /// The request's headers, `Host` among them.
    pub(crate) headers: Vec<(String, String)>,
    /// Expressions that must not be found in the body.
    pub(crate) fail_if_body_matches: Vec<Regexp>,
    /// Expressions that must be.
    pub(crate) fail_if_body_not_matches: Vec<Regexp>,
    /// An expression that must not hold of the body's JSON.
    pub(crate) fail_if_body_json_matches_cel: Option<CelExpression>,
    /// An expression that must hold.
    pub(crate) fail_if_body_json_not_matches_cel: Option<CelExpression>,
    /// Headers whose values must not match.
    pub(crate) fail_if_header_matches: Vec<HeaderMatch>,
    /// Headers of which one value must match.
    pub(crate) fail_if_header_not_matches: Vec<HeaderMatch>,
    /// The request's body.
    pub(crate) body: Vec<u8>,
    /// The file with the request's body.
    pub(crate) body_file: Option<PathBuf>,
    /// How the body must be compressed.
    pub(crate) compression: Option<Compression>,
    /// The largest body after decompression; 0 for no limit.
    pub(crate) body_size_limit: u64,
    /// Speaks HTTP/3 instead of the others.
    pub(crate) enable_http3: bool,
    /// The shared client settings.
    pub(crate) client: HttpClientConfig,
    /// TLS towards targets.
    pub(crate) tls_client: TlsClient,
    /// TLS towards a proxy, where only HTTP/1.1 is spoken.
    pub(crate) proxy_tls_client: TlsClient,
    /// What the request carries to be let in.
    pub(crate) credentials: Credentials,
}

/// A header and what its values are held against.
#[derive(Debug, Deserialize)]
#[serde(try_from = "HeaderMatchSection")]
pub(crate) struct HeaderMatch {
    /// The header.
    pub(crate) header: http::HeaderName,
    /// The expression.
    pub(crate) regexp: Regexp,
    /// Whether the header may be missing.
    pub(crate) allow_missing: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename = "config.HeaderMatch", deny_unknown_fields, default)]
struct HeaderMatchSection {
    header: String,
    regexp: Option<Regexp>,
    allow_missing: bool,
}

impl TryFrom<HeaderMatchSection> for HeaderMatch {
    type Error = String;

    fn try_from(section: HeaderMatchSection) -> Result<Self, String> {
        if section.header.is_empty() {
            return Err("header name must be set for HTTP header matchers".to_owned());
        }
        let header = http::HeaderName::from_bytes(section.header.as_bytes())
            .map_err(|_| format!("{} is not a header's name", model::quote(&section.header)))?;
        let regexp = section.regexp.ok_or("regexp must be set for HTTP header matchers")?;
        Ok(Self { header, regexp, allow_missing: section.allow_missing })
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Brotli.
    Brotli,
    /// Raw DEFLATE.
    Deflate,
    /// gzip.
    Gzip,
    /// Not at all.
    Identity,
    /// Something that is not known: probes fail, not the file.
    Unknown,
}

impl Compression {
    fn of(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "" => return None,
            "br" => Self::Brotli,
            "deflate" => Self::Deflate,
            "gzip" => Self::Gzip,
            "identity" => Self::Identity,
            _ => Self::Unknown,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename = "config.HTTPProbe", deny_unknown_fields, default)]
struct Section {
    valid_status_codes: Vec<u16>,
    valid_http_versions: Vec<String>,
    preferred_ip_protocol: String,
    ip_protocol_fallback: bool,
    skip_resolve_phase_with_proxy: bool,
    no_follow_redirects: Option<bool>,
    fail_if_ssl: bool,
    fail_if_not_ssl: bool,
    method: String,
    headers: BTreeMap<String, String>,
    fail_if_body_matches_regexp: Vec<Regexp>,
    fail_if_body_not_matches_regexp: Vec<Regexp>,
    fail_if_body_json_matches_cel: Option<CelExpression>,
    fail_if_body_json_not_matches_cel: Option<CelExpression>,
    fail_if_header_matches: Vec<HeaderMatch>,
    fail_if_header_not_matches: Vec<HeaderMatch>,
    body: String,
    body_file: PathBuf,
    compression: String,
    body_size_limit: Bytes,
    enable_http3: bool,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            valid_status_codes: Vec::new(),
            valid_http_versions: Vec::new(),
            preferred_ip_protocol: String::new(),
            ip_protocol_fallback: true,
            skip_resolve_phase_with_proxy: false,
            no_follow_redirects: None,
            fail_if_ssl: false,
            fail_if_not_ssl: false,
            method: String::new(),
            headers: BTreeMap::new(),
            fail_if_body_matches_regexp: Vec::new(),
            fail_if_body_not_matches_regexp: Vec::new(),
            fail_if_body_json_matches_cel: None,
            fail_if_body_json_not_matches_cel: None,
            fail_if_header_matches: Vec::new(),
            fail_if_header_not_matches: Vec::new(),
            body: String::new(),
            body_file: PathBuf::new(),
            compression: String::new(),
            body_size_limit: Bytes::default(),
            enable_http3: false,
        }
    }
}

impl HttpOptions {
    pub(super) fn read(node: &yaml::Node) -> Result<Self, yaml::Error> {
        let (client_node, own) = node.split(|key| HttpClientConfig::KEYS.contains(&key))?;
        let section: Section = own.read()?;
        let mut client: HttpClientConfig = client_node.read()?;
        let at = |key: &str| node.get(key).unwrap_or(node);
        client.validate().map_err(|e| node.error(e.to_string()))?;
        if let Some(no_follow) = section.no_follow_redirects {
            client.follow_redirects = !no_follow;
        }
        if !section.body.is_empty() && !section.body_file.as_os_str().is_empty() {
            return Err(at("body").error("setting body and body_file both are not allowed"));
        }
        if section.enable_http3 {
            if section.valid_http_versions.iter().any(|version| version != "HTTP/3.0") {
                return Err(at("valid_http_versions").error(
                    "HTTP/3 and HTTP/2.0/1.1 cannot be used together - only HTTP/3.0 is allowed when enable_http3 is true",
                ));
            }
            if client.enable_http2 {
                return Err(at("enable_http3").error("when enable_http3 is true, enable_http2 must be set to false"));
            }
        }
        for (name, value) in &section.headers {
            if name.eq_ignore_ascii_case("accept-encoding") && !accepts(&section.compression, value) {
                return Err(at("headers").error(format!(
                    "invalid configuration \"{name}: {value}\", \"compression: {}\"",
                    section.compression
                )));
            }
        }
        let method = if section.method.is_empty() { "GET" } else { &section.method };
        let method = http::Method::from_bytes(method.as_bytes())
            .map_err(|_| at("method").error(format!("{} is not a method", model::quote(method))))?;
        let protocols: &[&[u8]] = match (section.enable_http3, client.enable_http2) {
            (true, _) => &[b"h3"],
            (false, true) => &[b"h2", b"http/1.1"],
            (false, false) => &[b"http/1.1"],
        };
        Ok(Self {
            ip: ip_choice(&section.preferred_ip_protocol, section.ip_protocol_fallback),
            valid_status_codes: section.valid_status_codes,
            valid_http_versions: section.valid_http_versions,
            skip_resolve_phase_with_proxy: section.skip_resolve_phase_with_proxy,
            fail_if_ssl: section.fail_if_ssl,
            fail_if_not_ssl: section.fail_if_not_ssl,
            method,
            headers: section.headers.into_iter().collect(),
            fail_if_body_matches: section.fail_if_body_matches_regexp,
            fail_if_body_not_matches: section.fail_if_body_not_matches_regexp,
            fail_if_body_json_matches_cel: section.fail_if_body_json_matches_cel,
            fail_if_body_json_not_matches_cel: section.fail_if_body_json_not_matches_cel,
            fail_if_header_matches: section.fail_if_header_matches,
            fail_if_header_not_matches: section.fail_if_header_not_matches,
            body: section.body.into_bytes(),
            body_file: Some(section.body_file).filter(|path| !path.as_os_str().is_empty()),
            compression: Compression::of(&section.compression),
            body_size_limit: section.body_size_limit.0,
            enable_http3: section.enable_http3,
            tls_client: TlsClient::new(client.tls_config.clone(), protocols),
            proxy_tls_client: TlsClient::new(client.tls_config.clone(), &[b"http/1.1".as_slice()]),
            client,
            credentials: Credentials::default(),
        })
    }
}

/// Whether an `Accept-Encoding` header lets a server use a compression.
fn accepts(compression: &str, header: &str) -> bool {
    if compression.is_empty() || header.is_empty() {
        return true;
    }
    let mut offers: Vec<(&str, f64)> = Vec::new();
    for part in header.split(',') {
        let Some((name, quality)) = part.rsplit_once(';') else {
            offers.push((part.trim(), 1.0));
            continue;
        };
        let quality = quality.trim().strip_prefix("q=").and_then(|q| q.parse().ok());
        if let Some(quality) = quality {
            offers.push((name.trim(), quality));
        }
    }
    offers.sort_by(|a, b| b.1.total_cmp(&a.1));
    let offer = offers.iter().find(|(name, _)| *name == "*" || name.eq_ignore_ascii_case(compression));
    offer.is_some_and(|(_, quality)| *quality > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_must_be_accepted() {
        for (compression, header, expected) in [
            ("gzip", "", true),
            ("", "deflate", true),
            ("gzip", "gzip", true),
            ("gzip", "deflate", false),
            ("gzip", "br;q=1.0, gzip;q=0.8", true),
            ("gzip", "*;q=0.0", false),
            ("gzip", "*", true),
            ("gzip", "deflate, *;q=0.1", true),
        ] {
            assert_eq!(accepts(compression, header), expected, "{compression}: {header}");
        }
    }
}
