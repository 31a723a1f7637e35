//! Asking a Docker daemon, over HTTP or its Unix socket.

use std::collections::BTreeMap;

use common::http::client::HttpClientConfig;
use reqwest::{Method, Request};
use serde_json::Value;
use url::Url;

use super::super::api::{Api, parse_url, with_path, with_query};
use super::super::refresh::interval;
use crate::config::Settings;

/// The newest version of the API whose answers we know to read.
const NEWEST: (u32, u32) = (1, 51);
/// What a daemon speaks that does not say what it speaks.
const OLDEST: (u32, u32) = (1, 24);

/// A Docker daemon.
#[derive(Debug)]
pub(in crate::discovery) struct Engine {
    api: Api,
    base: Url,
    /// The version both sides speak, once the daemon has been asked.
    version: Option<(u32, u32)>,
}

impl Engine {
    pub(in crate::discovery) fn new(settings: &Settings) -> Result<Self, String> {
        let host = settings.text("host");
        let timeout = interval(settings.duration("refresh_interval"));
        let (api, base) = match host.split_once("://") {
            // the settings of the HTTP client are for HTTP, as upstream has it
            Some(("unix", path)) => {
                let client = crate::client::build_for_socket(&HttpClientConfig::default(), path.into());
                (Api::over(client.map_err(|e| e.to_string())?, timeout), parse_url("http://localhost")?)
            }
            Some(("tcp", address)) => (Api::new(settings)?, parse_url(address)?),
            Some(("http" | "https", _)) => (Api::new(settings)?, parse_url(host)?),
            _ => {
                return Err(format!(
                    "unable to use docker host {}: it has to begin with unix://, tcp://, http:// or https://",
                    model::quote(host)
                ));
            }
        };
        Ok(Self { api, base, version: None })
    }

    /// What the daemon says at a path of its API, filtered.
    pub(in crate::discovery) async fn get(&mut self, path: &str, filters: &str) -> Result<Value, String> {
        let (major, minor) = match self.version {
            Some(version) => version,
            None => self.negotiate().await?,
        };
        let url = with_path(&self.base, &format!("v{major}.{minor}/{path}"));
        let filters = Some(filters).filter(|f| !f.is_empty()).map(|filters| ("filters", filters));
        self.api.get(&with_query(&url, filters)).await
    }

    async fn negotiate(&mut self) -> Result<(u32, u32), String> {
        let request = Request::new(Method::HEAD, with_path(&self.base, "_ping"));
        let answer = self.api.send(request).await?;
        let said = answer.headers.get("api-version").and_then(|value| value.to_str().ok());
        let version = said.and_then(parse_version).unwrap_or(OLDEST).min(NEWEST);
        self.version = Some(version);
        Ok(version)
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The filters of a section as the API takes them; empty without any.
pub(in crate::discovery) fn filters(settings: &Settings) -> String {
    let mut filters: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for filter in settings.objects("filters") {
        let values = filter.texts("values").iter().map(|value| (value.as_str(), true));
        filters.entry(filter.text("name")).or_default().extend(values);
    }
    filters.retain(|_, values| !values.is_empty());
    if filters.is_empty() { String::new() } else { serde_json::to_string(&filters).unwrap_or_default() }
}
