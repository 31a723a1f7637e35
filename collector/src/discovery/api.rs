//! Asking the HTTP APIs of services: bounded in time and size, statuses checked, JSON read.

use std::time::Duration;

use common::http::client::{Client, HttpClientConfig};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde_json::Value;
use url::Url;

use super::refresh::interval;
use crate::config::Settings;

/// An answer larger than this is refused.
const MAX_BODY: usize = 64 << 20;
/// So many pages of one list are read; more are a server that leads in circles.
pub(super) const MAX_PAGES: usize = if cfg!(test) { 50 } else { 10_000 };
/// So much of the body of a bad answer is shown.
const SHOWN: usize = 300;

/// A service with an HTTP API. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Api {
    client: Client,
    timeout: Duration,
    max_body: usize,
}

/// An answer of any status, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Api {
    /// A client of a mechanism's settings. A request has as much time as there is between refreshes, as upstream has it.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Self::with_client(&settings.http_client, interval(settings.duration("refresh_interval")))
    }

    /// A client with another configuration and time.
    pub(super) fn with_client(config: &HttpClientConfig, timeout: Duration) -> Result<Self, String> {
        let client = crate::client::build(config).map_err(|e| e.to_string())?;
        Ok(Self { client, timeout, max_body: MAX_BODY })
    }

    /// The same over a client made elsewhere.
    pub(super) fn over(client: Client, timeout: Duration) -> Self {
        Self { client, timeout, max_body: MAX_BODY }
    }

    /// The same with another limit of an answer's bytes.
    pub(super) fn with_max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    /// Sends a request and reads the answer, whatever its status.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, String> {
        self.send_within(self.timeout, request).await
    }

    /// The same with a time of its own.
    pub(super) async fn send_within(&self, timeout: Duration, request: Request) -> Result<Answer, String> {
        let url = shown(request.url());
        let answer = tokio::time::timeout(timeout, self.exchange(request)).await;
        answer.unwrap_or_else(|_| Err("no answer in time".to_owned())).map_err(|e| format!("{url}: {e}"))
    }

    /// Sends a request and gives the answer as soon as its head is there, for one that is read as it comes.
    pub(super) async fn open(&self, request: Request) -> Result<reqwest::Response, String> {
        let url = shown(request.url());
        let answer = tokio::time::timeout(self.timeout, self.client.execute(request)).await;
        let answer = answer.map_err(|_| format!("{url}: no answer in time"))?;
        answer.map_err(|e| format!("{url}: {e}"))
    }

    async fn exchange(&self, request: Request) -> Result<Answer, String> {
        let mut response = self.client.execute(request).await.map_err(|e| e.to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| common::http::client::error_chain(&e))? {
            if body.len() + chunk.len() > self.max_body {
                return Err(format!("the answer is larger than {} bytes", self.max_body));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: response.status(), headers: response.headers().clone(), body })
    }

    /// The JSON of a good answer (a status of 2xx), with its headers.
    pub(super) async fn json_with_headers(&self, mut request: Request) -> Result<(Value, HeaderMap), String> {
        let url = shown(request.url());
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let answer = self.send(request).await?;
        answer.good().and_then(|answer| Ok((answer.json()?, answer.headers))).map_err(|e| format!("{url}: {e}"))
    }

    /// The JSON of a good answer.
    pub(super) async fn json(&self, request: Request) -> Result<Value, String> {
        self.json_with_headers(request).await.map(|(value, _)| value)
    }

    /// The JSON that stands at a URL.
    pub(super) async fn get(&self, url: &Url) -> Result<Value, String> {
        self.json(Request::new(Method::GET, url.clone())).await
    }
}

impl Answer {
    /// This answer, or an error that shows the beginning of one that is not good.
    pub(super) fn good(self) -> Result<Self, String> {
        if self.status.is_success() { Ok(self) } else { Err(self.fault()) }
    }

    /// What is wrong with an answer that is not good.
    pub(super) fn fault(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN)]);
        format!("server returned HTTP status {}: {}", self.status, text.trim())
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|e| format!("the answer is not the JSON it should be: {e}"))
    }
}

/// Something that is asked beside others.
pub(super) type Question<'a, T> = BoxFuture<'a, Result<T, String>>;

/// The answers in the order of the questions, so many of which are asked at a time; the first fault ends it.
pub(super) async fn several<T: Send>(questions: Vec<Question<'_, T>>, at_once: usize) -> Result<Vec<T>, String> {
    stream::iter(questions).buffered(at_once.max(1)).try_collect().await
}

/// A request that posts JSON.
pub(super) fn post(url: &Url, body: &Value) -> Request {
    let mut request = Request::new(Method::POST, url.clone());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.to_string().into());
    request
}

/// Sets a header to a secret.
pub(super) fn set_secret(request: &mut Request, name: &'static str, value: &str) -> Result<(), String> {
    let mut value = HeaderValue::from_str(value).map_err(|_| format!("the value of header {name} is not allowed"))?;
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
    Ok(())
}

/// Reads a URL; `http://` stands before one that says no scheme.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&whole).map_err(|e| format!("parse {}: {e}", model::quote(text)))
}

/// A URL with further words at the end of its path.
pub(super) fn with_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), path.trim_start_matches('/')));
    url
}

/// A URL with parameters.
pub(super) fn with_query<'a>(base: &Url, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Url {
    let mut url = base.clone();
    url.query_pairs_mut().extend_pairs(pairs);
    if url.query() == Some("") {
        url.set_query(None);
    }
    url
}

/// Reads a secret that stands in the configuration, or else in a file: anew at each use.
pub(super) fn secret(settings: &Settings, name: &str, file: &str) -> Result<String, String> {
    let path = settings.text(file);
    if path.is_empty() {
        return Ok(settings.text(name).to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("unable to read {file} {path}: {e}"))?;
    Ok(text.trim().to_owned())
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}
