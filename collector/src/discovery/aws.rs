//! Amazon's services: what their mechanisms share, and `aws_sd_configs`, which is all of them by role.

use common::http::client::{AwsSigner, HttpClientConfig, aws_domain};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use serde_json::Value;
use tokio::task::JoinSet;
use url::Url;

use super::api::{Api, MAX_PAGES, parse_url, with_path, with_query};
use super::json;
use super::refresh;
use super::xml;
use super::{Slot, ec2, ecs, elasticache, lightsail, msk, rds};
use crate::config::Settings;

/// One service in one region.
#[derive(Debug)]
pub(super) struct Service {
    api: Api,
    signer: AwsSigner,
    endpoint: Option<Url>,
    /// The word that requests are signed for, which is that of its host too.
    name: &'static str,
    pub(super) port: i64,
}

/// Starts the mechanism of a role.
pub(super) fn start(settings: &Settings, slot: Slot, tasks: &mut JoinSet<()>) -> Result<(), String> {
    match settings.text("role") {
        "ec2" => refresh::start("ec2", ec2::Ec2::new(settings)?, settings, slot, tasks),
        "ecs" => refresh::start("ecs", ecs::Ecs::new(settings)?, settings, slot, tasks),
        "elasticache" => refresh::start("elasticache", elasticache::ElastiCache::new(settings)?, settings, slot, tasks),
        "lightsail" => refresh::start("lightsail", lightsail::Lightsail::new(settings)?, settings, slot, tasks),
        "msk" => refresh::start("msk", msk::Msk::new(settings)?, settings, slot, tasks),
        "rds" => refresh::start("rds", rds::Rds::new(settings)?, settings, slot, tasks),
        other => return Err(format!("unknown AWS SD role {}", model::quote(other))),
    }
    Ok(())
}

impl Service {
    pub(super) fn new(settings: &Settings, name: &'static str) -> Result<Self, String> {
        // keys are asked for without what the service itself may want
        let config =
            HttpClientConfig { tls_config: settings.http_client.tls_config.clone(), ..HttpClientConfig::default() };
        let client = crate::client::build(&config).map_err(|e| e.to_string())?;
        let endpoint = Some(settings.text("endpoint")).filter(|url| !url.is_empty()).map(parse_url).transpose()?;
        let port = match settings.int("port") {
            // `aws_sd_configs` leaves it to the role
            0 => 80,
            port => port,
        };
        Ok(Self { api: Api::new(settings)?, signer: AwsSigner::new(settings.aws(), client), endpoint, name, port })
    }

    pub(super) async fn region(&self) -> Result<String, String> {
        self.signer.region().await.map_err(|e| e.to_string())
    }

    async fn url(&self) -> Result<Url, String> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        let region = self.region().await?;
        parse_url(&format!("https://{}.{region}.{}/", self.name, aws_domain(&region)))
    }

    async fn signed(&self, mut request: Request) -> Result<Request, String> {
        self.signer.sign(&mut request, self.name).await.map_err(|e| e.to_string())?;
        Ok(request)
    }

    /// The answer to an action with parameters, which comes as XML.
    pub(super) async fn query(
        &self,
        version: &str,
        action: &str,
        parameters: &[(String, String)],
    ) -> Result<Value, String> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(parameters)
            .finish();
        let mut request = Request::new(Method::POST, self.url().await?);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        *request.body_mut() = Some(form.into());
        let answer = self.api.send(self.signed(request).await?).await.and_then(super::api::Answer::good);
        answer.and_then(|answer| xml::parse(&answer.body)).map_err(|e| format!("{action}: {e}"))
    }

    /// All pages of it: `token` is the parameter and `next` the element that lead from one to the next, below `result`.
    pub(super) async fn query_pages(
        &self,
        version: &str,
        action: &str,
        parameters: &[(String, String)],
        result: &str,
        token: &str,
        next: &str,
    ) -> Result<Vec<Value>, String> {
        let mut pages = Vec::new();
        let mut parameters = parameters.to_vec();
        let given = parameters.len();
        while pages.len() < MAX_PAGES {
            let mut answer = self.query(version, action, &parameters).await?;
            let page = if result.is_empty() { answer } else { json::take(&mut answer, result) };
            let more = page[next].as_str().unwrap_or_default().to_owned();
            pages.push(page);
            if more.is_empty() {
                return Ok(pages);
            }
            parameters.truncate(given);
            parameters.push((token.to_owned(), more));
        }
        Err(format!("{action}: the list has no end"))
    }

    /// The answer to an operation that takes and gives JSON.
    pub(super) async fn json(&self, target: &'static str, body: &Value) -> Result<Value, String> {
        const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
        let mut request = Request::new(Method::POST, self.url().await?);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        request.headers_mut().insert(TARGET, HeaderValue::from_static(target));
        *request.body_mut() = Some(body.to_string().into());
        self.api.json(self.signed(request).await?).await.map_err(|e| format!("{target}: {e}"))
    }

    /// The answer at a path.
    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = with_query(&with_path(&self.url().await?, path), query.iter().copied());
        self.api.json(self.signed(Request::new(Method::GET, url)).await?).await
    }
}

/// Filters of the configuration as parameters.
pub(super) fn filters(settings: &Settings, list: &str, values: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (at, filter) in settings.objects("filters").iter().enumerate() {
        let start = format!("{list}.{}", at + 1);
        parameters.push((format!("{start}.Name"), filter.text("name").to_owned()));
        for (at, value) in filter.texts("values").iter().enumerate() {
            parameters.push((format!("{start}.{values}.{}", at + 1), value.clone()));
        }
    }
    parameters
}

/// Parameters from borrowed text.
pub(super) fn parameters<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
