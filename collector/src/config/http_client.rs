//! The HTTP client keys that many sections take inline.

use common::http::client::HttpClientConfig;

use super::Base;

/// Takes the client's keys out of a section: (client, what is left). Paths are relative to the file's folder.
pub(super) fn split(node: &yaml::Node, base: &Base) -> Result<(HttpClientConfig, yaml::Node), yaml::Error> {
    let (own, rest) = node.split(|key| HttpClientConfig::KEYS.contains(&key))?;
    let mut client: HttpClientConfig = own.read()?;
    client.validate().map_err(|e| node.error(e.to_string()))?;
    client.resolve_paths(&base.folder);
    Ok((client, rest))
}
