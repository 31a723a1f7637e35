//! The HTTP client keys that many sections take inline.

use common::http::client::HttpClientConfig;

use super::Base;

const KEYS: [&str; 13] = [
    "basic_auth",
    "authorization",
    "oauth2",
    "bearer_token",
    "bearer_token_file",
    "tls_config",
    "follow_redirects",
    "enable_http2",
    "proxy_url",
    "no_proxy",
    "proxy_from_environment",
    "proxy_connect_header",
    "http_headers",
];

/// Takes the client's keys out of a section: (client, what is left). Paths are relative to the file's folder.
pub(super) fn split(node: &yaml::Node, base: &Base) -> Result<(HttpClientConfig, yaml::Node), yaml::Error> {
    let (own, rest) = node.split(|key| KEYS.contains(&key))?;
    let mut client: HttpClientConfig = own.read()?;
    client.validate().map_err(|e| node.error(e.to_string()))?;
    client.resolve_paths(&base.folder);
    Ok((client, rest))
}
