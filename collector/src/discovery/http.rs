//! `http_sd_configs`: target groups as JSON from a URL.

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use tokio::task::JoinSet;
use url::Url;

use super::api::Api;
use super::refresh::{self, Source};
use super::{DiscoveryMetrics, Slot};
use crate::config::{HttpDiscovery, TargetGroup, read_json_groups};
use crate::scrape::Counter;

/// An answer larger than this is refused.
const MAX_BODY: usize = 256 << 20;

/// Asks one URL.
struct Http {
    api: Api,
    url: Url,
    /// The refresh interval in seconds, which the server is told.
    interval: HeaderValue,
}

/// Starts asking.
pub(super) fn start(config: HttpDiscovery, slot: Slot, tasks: &mut JoinSet<()>) -> Result<(), String> {
    let every = refresh::interval(config.refresh_interval);
    let api = Api::with_client(&config.http_client, every)?.with_max_body(MAX_BODY);
    let interval = HeaderValue::from_str(&every.as_secs_f64().to_string()).map_err(|e| e.to_string())?;
    tasks.spawn(refresh::run("http", Http { api, url: config.url, interval }, every, slot));
    Ok(())
}

impl Source for Http {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let mut request = Request::new(Method::GET, self.url.clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        request.headers_mut().insert("x-prometheus-refresh-interval-seconds", self.interval.clone());
        let answer = self.api.send(request).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("server returned HTTP status {}", answer.status));
        }
        let content_type = answer.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !is_json(content_type) {
            return Err(format!("unsupported content type {}", model::quote(content_type)));
        }
        let text = String::from_utf8(answer.body).map_err(|_| "the answer is not UTF-8".to_owned())?;
        parse(&text, &self.url)
    }

    fn failures(metrics: &DiscoveryMetrics) -> Option<&Counter> {
        Some(&metrics.http_failures)
    }
}

fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn parse(text: &str, url: &Url) -> Result<Vec<TargetGroup>, String> {
    let mut groups = read_json_groups(text, url.as_str())?;
    for group in &mut groups {
        group.labels = group.labels.to_builder().set("__meta_url", url.as_str()).build();
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_groups() {
        let url = Url::parse("http://x/sd").unwrap();
        let groups = parse(r#"[{"targets": ["a:1"], "labels": {"zone": "b"}}, {"targets": []}]"#, &url).unwrap();
        assert_eq!(groups[0].labels.to_string(), r#"{__meta_url="http://x/sd", zone="b"}"#);
        assert_eq!((groups.len(), groups[0].source.as_str()), (2, "http://x/sd:0"));
        assert!(parse("{\"a\": 1}", &url).is_err());
        assert!(parse("nonsense", &url).is_err());
        assert!(is_json("application/json; charset=utf-8") && !is_json("text/html"));
    }
}
